"""The machine check: it measures, it is right, and it notices when a device is wrong."""

import json
import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from threading import Thread

import check_env
import pytest
import torch

from shared import device as device_module
from shared.device import (
    DtypeReport,
    available_devices,
    fastest_right_dtype,
    matmul_error,
    measure_dtypes,
    peak_memory,
    pick_device,
    relative_error,
    steady_threads,
    total_memory,
)
from shared.errors import UserError, one_line_errors

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]


def report(dtype: torch.dtype, gflops: float, error: float = 0.0) -> DtypeReport:
    return DtypeReport(dtype, gflops, error)


def test_the_order_of_devices_is_cuda_mps_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available_devices() == ["cuda", "mps", "cpu"]
    assert pick_device().type == pick_device("auto").type == "cpu"  # the tests' own, from conftest
    monkeypatch.delenv("TINY_LLM_DEVICE")
    assert pick_device().type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device().type == "mps"
    assert pick_device("cpu").type == "cpu"


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:7", "mps", ""])
def test_a_device_that_is_not_here_is_refused_by_name(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"no device '{name}' here: pick one of cpu"):
        pick_device(name)


def test_relative_error_by_hand():
    expected = torch.tensor([3.0, 4.0])  # length 5
    assert relative_error(torch.tensor([3.0, 4.5]), expected) == pytest.approx(0.1)


def test_products_on_this_machine_are_within_their_dtypes_rounding():
    reports = measure_dtypes(CPU)
    assert torch.float32 in {r.dtype for r in reports}
    for r in reports:
        assert r.right and r.gflops > 0, r
    # bfloat16 keeps 8 bits: were it computed in float32 the error would be far smaller
    assert matmul_error(CPU, torch.bfloat16) > 100 * matmul_error(CPU, torch.float32)


def test_the_fastest_right_dtype_wins_and_a_wrong_one_never_does():
    fp32, bf16, fp16 = torch.float32, torch.bfloat16, torch.float16
    assert fastest_right_dtype([report(fp32, 100), report(bf16, 400)]) == bf16
    assert fastest_right_dtype([report(fp32, 100), report(bf16, 400, error=0.5)]) == fp32
    assert fastest_right_dtype([report(fp32, 100), report(fp16, 400, error=math.nan)]) == fp32
    assert fastest_right_dtype([report(fp32, 100), report(bf16, 105)]) == fp32
    assert fastest_right_dtype([report(bf16, 400), report(fp16, 500)]) == bf16
    assert fastest_right_dtype([report(bf16, 400), report(fp16, 600)]) == fp16
    assert fastest_right_dtype([report(bf16, 400, error=9), report(fp16, 1, error=9)]) == fp32


def test_memory_is_counted_in_bytes():
    assert 2**28 < total_memory(CPU) < 2**50
    assert 2**20 < peak_memory(CPU) < total_memory(CPU)


def test_the_cpu_passes_its_own_check_and_json_says_so(capsys):
    assert check_env.main(["--device", "cpu", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["healthy"] is True
    assert {d["dtype"] for d in answer["dtypes"]} >= {"float32"}
    assert answer["default_dtype"] in {d["dtype"] for d in answer["dtypes"]}


@pytest.mark.parametrize("wrong", ["doubled", "nan"])
def test_a_silently_wrong_device_is_called_wrong(wrong, monkeypatch, capsys):
    truth = check_env.training_step
    calls = []

    def faulty(device):
        loss, gradients = truth(CPU)
        calls.append(device)
        if len(calls) == 2:  # the second call is the device's
            bad = math.nan if wrong == "nan" else 2.0
            gradients["up"] = gradients["up"] * bad
        return loss, gradients

    monkeypatch.setattr(check_env, "training_step", faulty)
    monkeypatch.setattr(check_env, "measure_dtypes", lambda device: [report(torch.float32, 1)])
    assert check_env.main(["--device", "cpu"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG" in shown and "--device cpu" in shown


def test_a_wrong_product_is_called_wrong(monkeypatch):
    monkeypatch.setattr(check_env, "measure_dtypes", lambda device: [report(torch.float32, 1)])
    monkeypatch.setattr(check_env, "matmul_error", lambda device, dtype: 0.3)
    assert check_env.main(["--device", "cpu", "--json"]) == 1


def test_the_gradient_check_covers_every_weight():
    loss, gradients = check_env.training_step(CPU)
    assert set(gradients) == {"embedding", "up", "down", "gain"}
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values())
    assert loss.isfinite()


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as left, one_line_errors():
        raise UserError("got this,\n  expected that")
    assert left.value.code == 2
    assert capsys.readouterr().err == "error: got this, expected that\n"


def test_any_other_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors():
        _ = 1 / 0


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_waiting_asks_the_devices_own_library_and_on_the_cpu_nobody(kind, monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append(device.type))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: asked.append("mps"))
    device_module.synchronize(torch.device(kind))
    assert asked == ([] if kind == "cpu" else [kind])


FAULTS = """
import torch, resource  # which Windows lacks
from shared.device import keep_freed_memory
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def fresh_pages(rounds):
    fresh = []
    for _ in range(rounds):
        before = faults()
        torch.ones(16 << 20)  # 64 MiB, and gone
        fresh.append(faults() - before)
    return sorted(fresh[-5:])[2]  # the first rounds may have to make room
given_back = fresh_pages(5)
keep_freed_memory()
print(given_back, fresh_pages(20))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked")
def test_memory_that_is_kept_needs_no_fresh_pages():
    command = [sys.executable, "-c", FAULTS]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    given_back, kept = map(int, told.split())
    assert kept < 100 < given_back


@pytest.mark.parametrize(
    ("seconds_on_one", "worth", "chosen"),
    [(1.9, 2.0, 1), (2.1, 2.0, 3), (0.9, 1.0, 1), (1.1, 1.0, 3)],
)
def test_all_threads_run_only_what_is_worth_it(seconds_on_one, worth, chosen, monkeypatch):
    """On a clock of its own the work takes one second on three threads."""
    now, threads = [0.0], [3]
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads.__setitem__(0, count))

    def work() -> None:
        now[0] += seconds_on_one if threads[0] == 1 else 1.0

    with steady_threads(work, worth, clock=lambda: now[0]) as count:
        assert count == threads[0] == chosen
    assert threads == [3]


def test_threads_of_a_server_that_begin_later_do_as_was_chosen():
    before, found, a = torch.get_num_threads(), [], torch.ones(8, 8)
    torch.set_num_threads(2)  # also where there is one core
    try:
        with steady_threads(lambda: None, worth=1e9):
            worker = Thread(target=lambda: found.append((a @ a, torch.get_num_threads())))
            worker.start()
            worker.join()
        assert found[0][1] == 1 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


WAITS = """
import importlib, os, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise InterruptedError(os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, NoTorch())
known = set(sys.modules)
for script in sys.argv[1:]:
    for given in (None, "7"):
        os.environ.pop("GOMP_SPINCOUNT", None)
        if given:
            os.environ["GOMP_SPINCOUNT"] = given
        for name in set(sys.modules) - known:
            del sys.modules[name]
        try:
            importlib.import_module(script)
        except InterruptedError as found:
            print(script, given, found)
"""


def test_what_trains_or_talks_bounds_the_wait_of_threads_before_torch_is_loaded():
    """Later it would be too late. What somebody has set already stays."""
    scripts = ("full_run", "serve", "chat", "generate", "finetune")
    folders = [str(ROOT / name) for name in ("05_full_run", "06_chat", "07_web")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *folders])}
    command = [sys.executable, "-c", WAITS, *scripts]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    expected = [line for s in scripts for line in (f"{s} None 2000", f"{s} 7 7")]
    assert done.stdout.splitlines() == expected, done.stderr

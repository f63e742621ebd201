"""Does this machine work for training, how fast is it, and in which dtype?

    python 01_env/check_env.py
    python 01_env/check_env.py --device cpu --json

It trusts nothing: the device must give the CPU's answers, for a matrix product
and for one whole training step, before it is called healthy.
"""

import argparse
import json
import platform
import sys
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from shared.device import (
    TOLERANCE,
    DtypeReport,
    available_devices,
    device_label,
    dtype_name,
    fastest_right_dtype,
    matmul_error,
    measure_dtypes,
    pick_device,
    relative_error,
    total_memory,
)
from shared.errors import one_line_errors

LOSS_TOLERANCE = 1e-4  # relative, float32 against float32
GRADIENT_TOLERANCE = 1e-3  # relative, per tensor: sums run in another order there


@dataclass(frozen=True)
class Check:
    """One comparison of the device with the CPU."""

    name: str
    error: float
    """relative"""
    tolerance: float

    @property
    def passed(self) -> bool:
        """True if the error is a number and within the tolerance."""
        return self.error <= self.tolerance


def main(arguments: list[str]) -> int:
    """Runs all checks, prints the tables or JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="cuda, mps or cpu; by default the first that is here")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    checks = [check_product(device), *check_training_step(device)]
    reports = measure_dtypes(device)
    best = fastest_right_dtype(reports)
    if options.json:
        print(json.dumps(as_json(device, checks, reports, best), indent=2))
    else:
        print_tables(device, checks, reports, best)
    return 0 if all(check.passed for check in checks) else 1


def check_product(device: torch.device) -> Check:
    """One float32 matrix product on the device against float64 on the CPU."""
    tolerance = TOLERANCE[torch.float32]
    return Check("matrix product 256 x 256", matmul_error(device, torch.float32), tolerance)


def check_training_step(device: torch.device) -> list[Check]:
    """Loss and gradients of one tiny network's training step, device against CPU."""
    loss, gradients = training_step(torch.device("cpu"))
    its_loss, its_gradients = training_step(device)
    worst = (
        max(relative_error(its_gradients[name], gradients[name]) for name in gradients)
        if all(torch.isfinite(g).all() for g in its_gradients.values())
        else float("nan")
    )
    return [
        Check("loss of a training step", relative_error(its_loss, loss), LOSS_TOLERANCE),
        Check("its gradients, the worst tensor", worst, GRADIENT_TOLERANCE),
    ]


def training_step(device: torch.device, seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    """Forward and backward of a network with the operations a transformer uses.

    The shape of every tensor stands beside it: 4 sequences of 16 ids, 32 channels.
    """
    generator = torch.Generator().manual_seed(seed)
    shapes = {"embedding": (64, 32), "up": (32, 96), "down": (96, 32), "gain": (32,)}
    weights = {
        name: (torch.randn(shape, generator=generator) / 4).to(device).requires_grad_()
        for name, shape in shapes.items()
    }
    ids = torch.randint(64, (4, 17), generator=generator).to(device)
    inputs, targets = ids[:, :-1], ids[:, 1:]  # (4, 16) each
    x = F.embedding(inputs, weights["embedding"])  # (4, 16, 32)
    x = x + F.scaled_dot_product_attention(x, x, x, is_causal=True)
    x = x + F.silu(F.rms_norm(x, (32,), weights["gain"]) @ weights["up"]) @ weights["down"]
    logits = x @ weights["embedding"].T  # (4, 16, 64)
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    return loss, {name: weight.grad for name, weight in weights.items()}


def machine_facts(device: torch.device) -> dict[str, str]:
    """What this machine is, for people."""
    return {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": f"{torch.get_num_threads()} used by torch",
        "memory": f"{total_memory(torch.device('cpu')) / 2**30:.1f} GiB",
        "devices here": ", ".join(available_devices()),
        "device": device_label(device),
        "device memory": f"{total_memory(device) / 2**30:.1f} GiB",
    }


def as_json(
    device: torch.device, checks: list[Check], reports: list[DtypeReport], best: torch.dtype
) -> dict[str, Any]:
    """Everything that was measured, as plain values; an error that is no number is null."""

    def number(value: float) -> float | None:
        return value if value == value and abs(value) != float("inf") else None

    return {
        "healthy": all(check.passed for check in checks),
        "machine": machine_facts(device),
        "checks": [
            {"name": c.name, "error": number(c.error), "tolerance": c.tolerance, "passed": c.passed}
            for c in checks
        ],
        "dtypes": [
            {
                "dtype": dtype_name(r.dtype),
                "gflops": round(r.gflops, 1),
                "error": number(r.error),
                "right": r.right,
            }
            for r in reports
        ],
        "default_dtype": dtype_name(best),
    }


def print_tables(
    device: torch.device, checks: list[Check], reports: list[DtypeReport], best: torch.dtype
) -> None:
    """The same for a person's eyes: one table, and in red what is wrong."""
    console = Console(highlight=False)
    table = Table(title="this machine", show_header=False)
    for name, value in machine_facts(device).items():
        table.add_row(name, value)
    table.add_section()
    for check in checks:
        verdict = "[green]right[/]" if check.passed else "[bold red]WRONG[/]"
        table.add_row(check.name, f"{verdict}, error {check.error:.1e} of {check.tolerance:.0e}")
    table.add_section()
    for report in reports:
        verdict = "[green]right[/]" if report.right else "[bold red]WRONG[/]"
        chosen = "  <- the default" if report.dtype == best else ""
        text = f"{report.gflops:,.0f} GFLOP/s, {verdict} (error {report.error:.1e}){chosen}"
        table.add_row(dtype_name(report.dtype), text)
    console.print(table)
    if not all(check.passed for check in checks):
        console.print(
            f"[bold red]{device.type} does not give the CPU's answers. Do not train on it: "
            "set TINY_LLM_DEVICE=cpu, or add --device cpu to every command.[/]"
        )
    else:
        console.print(f"{device.type} is healthy; training will use {dtype_name(best)}.")


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main(sys.argv[1:]))

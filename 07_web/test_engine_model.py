"""The model in the browser against PyTorch: every dense variant, with SIMD and without."""

import pytest
import torch
from assemble import BYTES, assembled
from engine_page import PAGE, engine_page, run
from test_packing import with_a_nan

from conftest import EXPERTS, VARIANTS
from shared.chat.kv_cache import KVCache
from shared.model.packing import pack_weights, read_packed, unpack_model

pytest_plugins = ("web_fixtures",)

TOKENIZER = {"kind": "bytes", "end_of_text": 30}
DENSE = {name: fields for name, fields in VARIANTS.items() if "moe" not in fields} | {
    "widths that fill no block": {"d_model": 20, "n_heads": 2, "n_kv_heads": 1, "d_ff": 9},
    "heads of two": {"d_model": 8, "rope": VARIANTS["ntk"]["rope"]},
    "learned, tied, biases": {"positions": "learned", "tied_head": True, "bias": True},
}
IDS = [30, *b"user: he\xc3\xa9?\nassistant: ok"]
LOAD = """
const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
const wasm = await bytes("/engine/matvec.wasm");
const build = async (name, kernels, caches = 1) =>
  buildModel(await bytes(name), (room) => createArithmetic(room, kernels), caches);
"""
MODULES = {"matvec": "createArithmetic", "model": "buildModel, newCache, read, BLOCK"}


def logits_of(model, ids=IDS):
    with torch.inference_mode():
        return model(torch.tensor([ids]), KVCache(model.config))[0]


@pytest.fixture(scope="module")
def models(random_model, tmp_path_factory):
    """A folder with each variant, packed, and what PyTorch says to `IDS`."""
    folder = tmp_path_factory.mktemp("models")
    for number, fields in enumerate(DENSE.values()):
        model = random_model(**fields)
        pack_weights(folder / f"{number}.tllm", model, TOKENIZER)
        (folder / f"{number}.logits").write_bytes(logits_of(model).numpy().tobytes())
    pack_weights(folder / "experts.tllm", random_model(moe=EXPERTS), TOKENIZER)
    wide = random_model(d_model=64, d_ff=96)
    for dtype in ("float32", "float16", "int8"):
        pack_weights(folder / f"{dtype}.tllm", wide, TOKENIZER, dtype)
        exact = logits_of(unpack_model(read_packed(folder / f"{dtype}.tllm")))
        (folder / f"{dtype}.logits").write_bytes(exact.numpy().tobytes())
    return folder


@pytest.fixture(scope="module")
def page(browser, models):
    with engine_page(browser, models) as page:
        yield page


# How far the logits are from PyTorch's at most: read one by one, and in blocks.
COMPARE = """
const compared = async (name, kernels) => {
  const model = await build(`${name}.tllm`, kernels, 2);
  const expected = new Float32Array((await bytes(`${name}.logits`)).buffer);
  const worst = [0, 0];
  for (const [way, step] of [1, BLOCK].entries()) {
    const cache = newCache(model);
    for (let at = 0; at < given.ids.length; at += step) {
      const logits = read(model, given.ids.slice(at, at + step), cache);
      const exact = expected.subarray((cache.length - 1) * model.V, cache.length * model.V);
      logits.forEach((each, n) => {
        const off = Math.abs(each - exact[n]);
        if (!(off <= worst[way])) worst[way] = off; // also where one is not a number
      });
    }
  }
  return [model.simd, ...worst];
};
"""


@pytest.mark.parametrize("kernels", ["wasm", "null"], ids=["SIMD", "plain JavaScript"])
def test_logits_are_pytorchs_one_by_one_and_in_blocks(page, kernels):
    body = f"""{LOAD}{COMPARE}
    const results = [];
    for (const name of given.names) results.push(await compared(name, {kernels}));
    return results;"""
    given = {"names": list(range(len(DENSE))), "ids": IDS}
    for name, (simd, one, block) in zip(DENSE, run(page, MODULES, body, given), strict=True):
        assert simd == (kernels == "wasm")
        assert one <= 1e-4 and block <= 1e-4, name


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-4), ("float16", 1e-4), ("int8", 1e-3)])
def test_logits_are_those_of_the_numbers_in_the_file(page, dtype, bound):
    body = f"{LOAD}{COMPARE} return compared(given.name, wasm);"
    _, one, block = run(page, MODULES, body, {"name": dtype, "ids": IDS})
    assert one <= bound and block <= bound


def test_two_conversations_do_not_mix(page):
    body = f"""{LOAD}
    const model = await build("/0.tllm", wasm, 3);
    const [alone, ...both] = [newCache(model), newCache(model), newCache(model)];
    const expected = [1, 2, 3].map((id) => read(model, [id], alone)).at(-1);
    let last;
    for (const id of [1, 2, 3]) {{
      last = read(model, [id], both[0]);
      read(model, [200 + id], both[1]);
    }}
    return last.every((score, n) => score === expected[n]);"""
    assert run(page, MODULES, body)


def test_more_than_the_context_is_refused(page):
    body = f"""{LOAD}
    const model = await build("/0.tllm", wasm);
    const cache = newCache(model);
    for (let n = 0; n < 32; n++) read(model, [n], cache);
    try {{ read(model, [1], cache); }} catch (error) {{ return error.message; }}"""
    assert run(page, MODULES, body) == "33 positions; the model has 32"


KERNELS = """
const results = [];
for (const kernels of [wasm, null]) {
  let state = 1;
  const random = () => ((state = (state * 48271) % 2147483647) / 2147483647) * 2 - 1;
  const { arena, multiply, times } = await createArithmetic(4_000_000, kernels);
  for (const [rows, columns, count] of [[4, 2048, 1], [12, 48, 3], [132, 2048, 2], [200, 64, 8]]) {
    const whole = arena.take(rows * columns, Int8Array).map(() => Math.round(127 * random()));
    const [data, scales] = [arena.take(whole.length, Int8Array), arena.take(rows)];
    data.set(rows === 4 ? whole.fill(127) : whole); // the largest sum there can be
    scales.forEach((_, n) => (scales[n] = random()));
    const wide = { data: arena.take(rows * columns), scales: null, rows, columns };
    wide.data.forEach((_, n) => (wide.data[n] = random()));
    const lists = (size, Kind) => Array.from({ length: count }, () => arena.take(size, Kind));
    const [inputs, outputs] = [lists(columns), lists(rows)];
    for (const input of inputs) input.forEach((_, n) => (input[n] = rows === 4 ? 1 : random()));
    const narrow = { vectors: lists(columns, Int16Array), scales: new Float32Array(count) };
    for (const matrix of [{ data, scales, rows, columns }, wide]) {
      multiply(matrix, inputs, outputs, count, narrow);
      results.push(outputs.map((each) => Array.from(each)));
    }
    times(outputs[0], wide, inputs[0], rows - 4 || 4, columns - 16 || 16);
    results.push(Array.from(outputs[0]));
  }
}
return results;
"""


def test_simd_and_plain_javascript_multiply_alike(page):
    results = run(page, MODULES, LOAD + KERNELS)
    half = len(results) // 2
    for number, (simd, plain) in enumerate(zip(results[:half], results[half:], strict=True)):
        whole_numbers = number % 3 == 0
        bound = {"atol": 0, "rtol": 0} if whole_numbers else {"atol": 3e-5, "rtol": 1e-5}
        torch.testing.assert_close(torch.tensor(simd), torch.tensor(plain), **bound)


def test_the_committed_bytes_are_what_the_text_says():
    assert BYTES.read_bytes() == assembled()
    assert len(BYTES.read_bytes()) < 4096


def test_every_script_of_the_page_stays_short():
    for file in PAGE.rglob("*.[jw]*"):
        most = {".js": 250, ".wat": 150}.get(file.suffix)
        assert most is None or len(file.read_text().splitlines()) <= most, file


@pytest.mark.parametrize("kernels", ["wasm", "null"], ids=["SIMD", "plain JavaScript"])
def test_a_model_larger_than_the_device_is_refused_in_one_sentence(page, kernels):
    body = f"{LOAD} return createArithmetic(2 ** 45, {kernels}).catch(({{ message }}) => message);"
    assert run(page, MODULES, body).startswith("The model needs 35184373 MB of memory, more than")


def changed(data: bytes, kind: str) -> bytes:
    if kind == "cut":
        return data[:-1000]
    if kind == "version":
        return data[:4] + b"\2" + data[5:]
    return b"PK" + data[2:] if kind == "other" else data[:-70] + b"\1\2" + data[-68:]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("cut", "The model's file is damaged or was cut short: load it anew."),
        ("damaged", "The model's file is damaged or was cut short: load it anew."),
        ("version", "The model's file has format 2 and this page reads format 1: pack it anew."),
        ("other", "This file holds no packed model."),
        ("experts", "This model is a mixture of experts, which the page cannot run: chat with"),
        ("nan", "The model is broken: head.weight holds numbers that are not finite."),
    ],
)
def test_a_file_that_cannot_be_run_is_refused_in_one_sentence(page, models, kind, words):
    whole = (models / "0.tllm").read_bytes()
    if kind != "experts":
        broken = with_a_nan(whole) if kind == "nan" else changed(whole, kind)
        (models / f"{kind}.tllm").write_bytes(broken)
    body = f"""{LOAD}
    const told = ({{ constructor, message }}) => [constructor.name, message];
    return build(given, wasm).catch(told);"""
    name, message = run(page, MODULES, body, f"/{kind}.tllm")
    assert name == "Trouble" and message.startswith(words)

"""Packed weights: one file, read back as it was; what is not whole is refused in one line."""

import json
import struct
import zlib

import pytest
import torch

from shared.errors import UserError
from shared.model.config import ModelConfig, MoEConfig
from shared.model.packing import (
    FIRST,
    MAGIC,
    pack_weights,
    quantize_rows,
    read_packed,
    unpack_model,
)
from shared.model.transformer import Transformer

BYTES = {"kind": "bytes", "end_of_text": 30}


@pytest.fixture
def packed_file(tmp_path, tiny_model):
    path = tmp_path / "model.tllm"
    pack_weights(path, tiny_model, BYTES)
    return path


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"tied_head": True, "positions": "learned", "bias": True},
        {"d_model": 20, "n_heads": 2, "n_kv_heads": 1, "d_ff": 9, "vocab_size": 257},
        {"moe": MoEConfig(n_experts=3, top_k=2)},
    ],
    ids=["plain", "tied, learned, biases", "widths that fill no block", "experts"],
)
def test_a_packed_model_is_read_back_bit_for_bit(tmp_path, random_model, fields):
    model = random_model(**fields)
    pack_weights(tmp_path / "m.tllm", model, BYTES)
    packed = read_packed(tmp_path / "m.tllm")
    assert packed.config == model.config and packed.tokenizer == BYTES
    again = unpack_model(packed).state_dict()
    assert set(again) == set(model.state_dict())
    assert all(torch.equal(again[name], each) for name, each in model.state_dict().items())
    ids = torch.arange(8).unsqueeze(0)
    assert torch.equal(unpack_model(packed)(ids), model(ids))


def test_a_short_row_is_quantized_as_by_hand():
    rows = torch.tensor([[1.27, -0.64, 0.004, 0.006], [0.0, 0.0, 0.0, 0.0]])
    whole, scales = quantize_rows(rows)
    assert whole.tolist() == [[127, -64, 0, 1], [0, 0, 0, 0]]
    assert scales.tolist() == pytest.approx([0.01, 0.0])


@pytest.mark.parametrize(("dtype", "share"), [("int8", 0.501 / 127), ("float16", 2**-11)])
def test_no_number_is_further_off_than_its_rows_largest_allows(tmp_path, tiny_model, dtype, share):
    pack_weights(tmp_path / "m.tllm", tiny_model, BYTES, dtype)
    tensors = read_packed(tmp_path / "m.tllm").tensors
    for name, exact in tiny_model.state_dict().items():
        bound = exact.abs().amax(dim=-1, keepdim=True) * share if exact.dim() > 1 else 0.0
        assert ((tensors[name] - exact).abs() <= bound).all(), name


def test_every_tensor_begins_where_a_browser_can_view_it(tmp_path, random_model):
    path = tmp_path / "m.tllm"
    pack_weights(path, random_model(d_model=20, n_heads=2, n_kv_heads=1, d_ff=9), BYTES, "int8")
    data = path.read_bytes()
    _, _, size, _ = FIRST.unpack_from(data)
    header = json.loads(data[FIRST.size : FIRST.size + size])
    offsets = [entry["offset"] for entry in header["tensors"]]
    assert (FIRST.size + size) % 64 == 0 and not any(each % 64 for each in offsets)


def test_int8_takes_a_quarter_of_the_room(tmp_path):
    model = Transformer(ModelConfig(n_layers=2, d_model=128, n_heads=4))
    for dtype in ("float32", "float16", "int8"):
        pack_weights(tmp_path / dtype, model, BYTES, dtype)
    sizes = {dtype: (tmp_path / dtype).stat().st_size for dtype in ("float32", "float16", "int8")}
    assert sizes["float16"] < 0.52 * sizes["float32"] and sizes["int8"] < 0.29 * sizes["float32"]


def other_version(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", 2) + data[8:]


def with_a_nan(data: bytes) -> bytes:
    """A sound checksum, and a number that is none: another program's file."""
    changed = data[:-64] + struct.pack("<f", float("nan")) + data[-60:]
    return changed[:12] + struct.pack("<I", zlib.crc32(changed[16:])) + changed[16:]


def without_config(data: bytes) -> bytes:
    changed = data.replace(b'"config"', b'"konfig"')
    return changed[:12] + struct.pack("<I", zlib.crc32(changed[16:])) + changed[16:]


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda data: data[:-1], "damaged or was cut short"),
        (lambda data: data[:14], "no packed model"),
        (lambda data: b"", "no packed model"),
        (lambda data: data[:-9] + b"\1" + data[-8:], "damaged"),
        (lambda data: b"PK\3\4" + data[4:], "does not begin with TLLM"),
        (other_version, "has format 2; this version reads 1"),
        (with_a_nan, "not finite"),
        (without_config, "no packed model of ours: KeyError('config')"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_in_one_line(packed_file, harm, words):
    packed_file.write_bytes(harm(packed_file.read_bytes()))
    with pytest.raises(UserError) as refused:
        read_packed(packed_file)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*No such file"):
        read_packed(tmp_path / "none.tllm")


@pytest.mark.parametrize(
    ("number", "dtype", "words"),
    [(float("nan"), "int8", "not finite"), (1e5, "float16", "too large for float16")],
)
def test_weights_that_cannot_be_packed_leave_no_file(tmp_path, tiny_model, number, dtype, words):
    with torch.no_grad():
        tiny_model.head.weight[0, 0] = number
    with pytest.raises(UserError, match=f"head.weight holds numbers .*{words.split()[-1]}"):
        pack_weights(tmp_path / "m.tllm", tiny_model, BYTES, dtype)
    assert not list(tmp_path.iterdir())


def test_the_file_begins_as_its_description_says(packed_file):
    data = packed_file.read_bytes()
    magic, version, _, checksum = FIRST.unpack_from(data)
    assert (magic, version, checksum) == (MAGIC, 1, zlib.crc32(data[16:]))

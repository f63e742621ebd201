"""Packed weights: a whole model in one file that a browser reads in place.

    bytes 0-3    "TLLM"
    bytes 4-15   three whole numbers of 4 bytes, the low byte first: the format's version,
                 the size of the header, the CRC-32 of all that follows these 16 bytes
    the header   JSON: the model's config, its tokenizer, the tensors (name, shape, dtype,
                 offset from the header's end); spaces fill it up to a multiple of 64 bytes
    the tensors  row after row, numbers with the low byte first, each tensor from a multiple
                 of 64 bytes on

A matrix is float32, float16 or int8; an int8 row is its whole numbers times one float32, the row's
scale, and the scales stand at an offset of their own. What has one axis (gains, biases) is
float32 always. Rows end on 16 numbers and matrices on 4 rows, filled up with zeros: a loop that
takes 4 rows and 16 numbers at a time meets no rest. Sizes in use are multiples of both.
Promoted by 03_attention.
"""

import json
import math
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from shared.errors import UserError
from shared.files import atomic_file
from shared.model.config import ModelConfig
from shared.model.transformer import Transformer
from shared.model.weights import EMBEDDING, HEAD

MAGIC, VERSION = b"TLLM", 1
FIRST = struct.Struct("<4sIII")  # magic, version, size of the header, checksum
ALIGNMENT, COLUMNS, ROWS = 64, 16, 4
LARGEST = 127  # of an int8; -128 stays unused, so that a row and its negative are alike

Dtype = Literal["float32", "float16", "int8"]
STORED = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "int8": np.dtype("i1")}


class Packed(NamedTuple):
    """What a packed file holds."""

    config: ModelConfig
    tokenizer: dict[str, Any]
    """what the tokenizer's `save` wrote"""
    tensors: dict[str, Tensor]
    """named as in `Transformer.state_dict()`, in float32; a tied head is not among them"""


def pack_weights(
    path: str | Path, model: Transformer, tokenizer: dict[str, Any], dtype: Dtype = "float32"
) -> None:
    """Writes a model into one file, which appears whole or not at all.

    Args:
        tokenizer: what the tokenizer's `save` wrote.

    Raises:
        UserError: a weight is no finite number, or too large for float16; the disk refuses.
    """
    weights = {name: tensor.float().cpu() for name, tensor in model.state_dict().items()}
    if model.config.tied_head:
        del weights[HEAD]
    described, parts, end = [], [], 0
    for name, tensor in weights.items():
        entry = {"name": name, "shape": list(tensor.shape)}
        entry["dtype"] = dtype if tensor.dim() > 1 else "float32"
        for key, values in _stored(name, tensor, entry["dtype"]).items():
            entry[key] = end
            parts.append(_filled(values.tobytes(), b"\0"))
            end += len(parts[-1])
        described.append(entry)
    header = {"config": asdict(model.config), "tokenizer": tokenizer, "tensors": described}
    body = _filled(json.dumps(header).encode(), b" ", already=FIRST.size)
    first = FIRST.pack(MAGIC, VERSION, len(body), zlib.crc32(b"".join(parts), zlib.crc32(body)))
    with atomic_file(path) as partial:
        partial.write_bytes(b"".join([first, body, *parts]))


def why_no_browser_reads(experts: int, tokenizer: str) -> str | None:
    """Why the page's own engine cannot run a model, a sentence without its end; None: it can.

    Args:
        tokenizer: its kind.
    """
    if experts > 1:
        return "a mixture of experts does not run in a browser"
    if tokenizer not in ("bytes", "bpe"):
        return f"a browser's page knows bytes and BPE, not a {tokenizer} tokenizer"
    return None


def _stored(name: str, tensor: Tensor, dtype: Dtype) -> dict[str, np.ndarray]:
    """The arrays of one tensor: its numbers, at "offset", and for int8 its rows' "scales"."""
    rows = _padded(tensor)  # (rows, columns), both filled up
    if not rows.isfinite().all():
        raise UserError(f"{name} holds numbers that are not finite: this model diverged")
    if dtype == "int8":
        whole, scales = quantize_rows(rows)
        return {"offset": whole.numpy(), "scales": scales.numpy().astype("<f4")}
    if dtype == "float16" and rows.abs().max() > torch.finfo(torch.float16).max:
        raise UserError(f"{name} holds numbers too large for float16: take float32 or int8")
    return {"offset": rows.numpy().astype(STORED[dtype])}


def quantize_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """(R, C) -> whole numbers (R, C), int8, and scales (R,): a row is nearly their product.

    The largest number of a row becomes 127, so no number is off by more than half a scale.
    """
    scales = rows.abs().amax(dim=1) / LARGEST  # (R,)
    whole = rows / torch.where(scales > 0, scales, 1).unsqueeze(1)
    return whole.round().clamp(-LARGEST, LARGEST).to(torch.int8), scales


def read_packed(path: str | Path) -> Packed:
    """Reads what `pack_weights` wrote.

    Raises:
        UserError: the file cannot be read, is no such file or of another version, was cut
            short or changed, or holds a number that is not finite.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    start = _checked(data, path)
    try:
        header = json.loads(data[FIRST.size : start])
        config = ModelConfig.from_dict(header["config"])
        tensors = {e["name"]: _restored(e, data[start:]) for e in header["tensors"]}
        packed = Packed(config, header["tokenizer"], tensors)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no packed model of ours: {error!r}") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise UserError(f"{path}: {name} holds numbers that are not finite")
    return packed


def unpack_model(packed: Packed) -> Transformer:
    """The model of a packed file, in evaluation mode."""
    tensors = dict(packed.tensors)
    if packed.config.tied_head:
        tensors[HEAD] = tensors[EMBEDDING]
    model = Transformer(packed.config)
    model.load_state_dict(tensors)
    return model.eval()


def _checked(data: bytes, path: str | Path) -> int:
    """Where the tensors begin, once the whole file is known to be as it was written."""
    if len(data) < FIRST.size or not data.startswith(MAGIC):
        raise UserError(f"{path} is no packed model: it does not begin with {MAGIC.decode()}")
    _, version, size, checksum = FIRST.unpack_from(data)
    if version != VERSION:
        raise UserError(f"{path} has format {version}; this version reads {VERSION}: pack it anew")
    if zlib.crc32(data[FIRST.size :]) != checksum:
        raise UserError(f"{path} is damaged or was cut short: copy it anew")
    return FIRST.size + size


def _restored(entry: dict[str, Any], data: bytes) -> Tensor:
    """One tensor in its own shape, in float32."""
    shape = entry["shape"]
    count, width = math.prod(shape[:-1]), shape[-1]
    size = _up(count, ROWS if len(shape) > 1 else 1), _up(width, COLUMNS)
    stored = np.frombuffer(data, STORED[entry["dtype"]], math.prod(size), entry["offset"])
    rows = torch.from_numpy(stored.reshape(size).astype(np.float32))
    if entry["dtype"] == "int8":
        scales = np.frombuffer(data, "<f4", size[0], entry["scales"])
        rows = rows * torch.from_numpy(scales.copy()).unsqueeze(1)
    return rows[:count, :width].reshape(shape).contiguous()


def _padded(tensor: Tensor) -> Tensor:
    """(..., C) -> (rows, columns): one row after another, zeros up to whole fours and sixteens."""
    rows = tensor.reshape(-1, tensor.shape[-1])
    missing = -len(rows) % ROWS if tensor.dim() > 1 else 0
    return torch.nn.functional.pad(rows, (0, -rows.shape[1] % COLUMNS, 0, missing))


def _up(number: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-number // step) * step


def _filled(data: bytes, filling: bytes, already: int = 0) -> bytes:
    """`data` with filling behind it, so that what follows begins at a multiple of 64 bytes."""
    return data + filling * (-(len(data) + already) % ALIGNMENT)

"""The model's weights for a browser that wants to answer by itself: packed once, given to all.

GET /weights.tllm  the file of shared/model/packing.py, in int8, with an ETag: a browser asks
                   whether what it kept is still the newest, and is told so in a few bytes
"""

import tempfile
import zlib
from pathlib import Path
from typing import Any

from chat_request import BadRequest
from flask import Flask, Response, request

from shared.errors import UserError
from shared.model.packing import pack_weights, why_no_browser_reads
from shared.model.transformer import Transformer
from shared.text.drills import SHOW_WORKING

FILE, KERNELS = "weights.tllm", "page/engine/matvec.wasm"
LARGEST = 100_000_000  # weights, of a byte each: more is no visitor's download


def refuse_what_no_browser_runs(experts: int, tokenizer: dict[str, Any]) -> None:
    """The page would say so too, but to the visitors.

    Raises:
        UserError: a mixture of experts, or a tokenizer other than bytes and our BPE.
    """
    if reason := why_no_browser_reads(experts, tokenizer.get("kind")):
        raise UserError(f"{reason}: serve it, 07_web/serve.py")


def packed_for_browsers(model: Transformer, tokenizer: dict[str, Any]) -> bytes | None:
    """The file that `/weights.tllm` gives; None where no visitor's browser could run it.

    Args:
        tokenizer: what the tokenizer's `save` wrote.
    """
    try:
        refuse_what_no_browser_runs(model.config.moe.n_experts, tokenizer)
    except UserError:
        return None
    if model.count_parameters() > LARGEST:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        pack_weights(path, model, tokenizer, "int8")
        return path.read_bytes()


def give_weights(app: Flask, weights: bytes | None) -> dict[str, Any]:
    """Adds the address to the application; returns what `/healthz` tells of it, if anything."""
    name = f"{zlib.crc32(weights or b''):08x}"

    @app.get(f"/{FILE}")
    def given() -> Response:
        if weights is None:
            raise BadRequest(404, "weights", "this server gives none: its model answers here alone")
        response = Response(weights, mimetype="application/octet-stream")
        response.set_etag(name)
        response.cache_control.no_cache = True  # keep it, but ask before each use
        return response.make_conditional(request)

    if weights is None:
        return {}
    # What was trained on has another address: a page's own store asks nobody.
    offer = {"weights": f"{FILE}?{name}", "bytes": len(weights), "wasm": KERNELS}
    return {"in_browser": offer | {"show_working": SHOW_WORKING}}

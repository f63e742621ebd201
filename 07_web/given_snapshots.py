"""A run's snapshots for the page's time machine: what is told of them, and the files.

GET /snapshots.json                {"snapshots": [{"step", "bytes", "bits_per_byte", "size",
                                   "weights"}, ...], "curve": [[step, bits a byte], ...]}
GET /snapshots/step-0000123.tllm   one of them, at the address that "weights" tells; see
                                   shared/model/packing.py
"""

import base64
import zlib
from functools import cache
from pathlib import Path
from typing import Any

from chat_request import BadRequest
from flask import Flask, Response, jsonify, send_file

from shared.training.loss_history import LossHistory, told_snapshots
from shared.training.snapshots import FOLDER, list_snapshots

TOLD = f"{FOLDER}.json"


def run_with_snapshots(checkpoint: Path) -> Path | None:
    """The folder that has a checkpoint's snapshots: its run's, or its own once it is published."""
    folders = (checkpoint, checkpoint.parent.parent)
    return next((folder for folder in folders if list_snapshots(folder)), None)


def told_to_the_page(run: Path, inside: bool = False) -> dict[str, Any]:
    """What the page is told of a run's snapshots, and of the curve they lie on.

    Args:
        inside: their addresses hold the files themselves.
    """
    told = []
    for one in told_snapshots(run):
        file = one.pop("file")
        data = file.read_bytes()
        # Trained anew, a step has another address: a browser may keep what it has seen.
        address = f"{FOLDER}/{file.name}?{zlib.crc32(data):08x}"
        weights = f"data:;base64,{base64.b64encode(data).decode()}" if inside else address
        told.append({**one, "size": len(data), "weights": weights})
    return {FOLDER: told, "curve": LossHistory(run).curve()}


def give_snapshots(app: Flask, run: Path | None, offer: dict[str, Any]) -> dict[str, Any]:
    """Adds the addresses to the application; returns the offer of weights with them in it.

    Args:
        run: the folder that has them; None: there are none.
        offer: what `/healthz` tells of the weights; where it is empty, none are given either.
    """
    given = run if offer else None
    files = {file.name: file for file in list_snapshots(given)} if given else {}
    told = cache(told_to_the_page)  # when first asked: a night's log takes seconds to read

    @app.get(f"/{TOLD}")
    def snapshots() -> Response:
        if given is None:
            raise BadRequest(404, FOLDER, "this server gives none")
        return jsonify(told(given))

    @app.get(f"/{FOLDER}/<name>")
    def snapshot(name: str) -> Response:
        if name not in files:
            raise BadRequest(404, FOLDER, "there is none of this name")
        return send_file(files[name], mimetype="application/octet-stream")

    return {"in_browser": offer["in_browser"] | {FOLDER: TOLD}} if given else offer

"""Serves the chat page for a trained model with waitress, a production server.

python 07_web/serve.py
python 07_web/serve.py --checkpoint RUN --port 9000 --host 0.0.0.0
"""

import errno
import logging
import sys
from pathlib import Path
from typing import Any

from chat_request import Limits
from jsonargparse import ArgumentParser, set_parsing_settings
from waitress.server import create_server
from web_app import create_app

from shared.chat.sampling import SamplingSettings
from shared.device import device_label, pick_device
from shared.errors import UserError, one_line_errors
from shared.model.transformer import Transformer
from shared.training.checkpoint import DEFAULT_RUN, find_checkpoint, load_model
from shared.training.run_log import read_metrics

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def main(arguments: list[str]) -> None:
    """Parses the command line, loads the model, serves until Ctrl-C."""
    parser = ArgumentParser(
        description="Serves the chat page for a trained model.", allow_abbrev=False
    )
    parser.add_argument("--checkpoint", default=str(DEFAULT_RUN), help="a run or checkpoint folder")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 opens it to the network")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--threads", type=int, default=8, help="connections served at once")
    parser.add_argument("--concurrent", type=int, default=2, help="replies written at once")
    parser.add_class_arguments(SamplingSettings, "defaults")
    parser.add_class_arguments(Limits, "limits")
    options = parser.parse_args(arguments)
    built = parser.instantiate(options)
    device = pick_device(options.device)
    checkpoint = find_checkpoint(options.checkpoint)
    model, tokenizer = load_model(checkpoint, device)
    app = create_app(
        model,
        tokenizer,
        limits=built.limits,
        defaults=built.defaults,
        facts=facts_of(model, checkpoint) | {"device": device_label(device)},
        concurrent=options.concurrent,
    )
    run_server(app, options.host, options.port, options.threads)


def facts_of(model: Transformer, checkpoint: Path) -> dict[str, Any]:
    """What the page tells about the model."""
    validated = [
        e["validation"] for e in read_metrics(checkpoint.parent.parent) if "validation" in e
    ]
    return {
        "parameters": model.count_parameters(),
        "context_bytes": model.config.context_length,
        "step": int(checkpoint.name[5:]) if checkpoint.name[5:].isdigit() else None,
        "bits_per_byte": validated[-1] if validated else {},
    }


def run_server(app: Any, host: str, port: int, threads: int) -> None:
    """Serves `app` until Ctrl-C.

    Raises:
        UserError: the port is taken or not allowed.
    """
    logging.getLogger("waitress").setLevel(logging.ERROR)
    try:
        server = create_server(app, host=host, port=port, threads=threads)
    except (OSError, ValueError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is taken: pick another, such as PORT=8001 or --port 8001" if taken else error
        raise UserError(f"port {port} on {host} {reason}") from error
    shown = "127.0.0.1" if host in ("0.0.0.0", "") else host
    print(f"chat with your model at http://{shown}:{port}  (Ctrl-C ends it)", flush=True)
    try:
        server.run()
    finally:
        server.close()


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

"""Serves the chat page for a trained model with waitress, a production server.

python 07_web/serve.py
python 07_web/serve.py --mine                               # on your own functions
python 07_web/serve.py --checkpoint RUN --port 9000 --host 0.0.0.0
python 07_web/serve.py --beside 05_full_run/published       # two models, the page has links
python 07_web/serve.py --limits.concurrent 4 --limits.queue_length 32
python 07_web/serve.py --limits.max_candidates 16 --pick likelihood
python 07_web/serve.py --allow-origin https://example.org   # pages of that site may chat too
python 07_web/serve.py --behind-proxy                       # behind nginx, Caddy and the like
python 07_web/serve.py --host 0.0.0.0 --allowed-host box.lan    # http://box.lan:8000 in a network

A browser may come under the names localhost, 127.0.0.1 and [::1]; with --host 0.0.0.0 under any
plain IP address too; with --behind-proxy under any name that the proxy passes on. Every other
name needs an --allowed-host, and once one is given, names behind a proxy do too.

Behind a proxy under a path, such as https://example.org/llm/, let the proxy take the path off
and send X-Forwarded-Prefix, -Proto, -Host and -For; the address must end with a slash, since
the page asks for everything relative to it.

On SIGTERM no new chat is taken, replies in flight are finished, and the exit code is 0.
Ctrl-C ends replies where they are.
"""

import gc

gc.disable()  # looking for garbage in what torch brings is a tenth of the start

import errno
import logging
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from chat_request import Limits
from completion_answers import name_of_run
from flask import Flask
from given_snapshots import run_with_snapshots
from given_weights import packed_for_browsers
from http_errors import answer_in_json
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from model_facts import facts_of, tokenizer_of
from neighbours import places_of, together, told_to_the_page
from until_told import serve_until_told
from waitress.server import create_server
from web_app import create_app

from shared.chat.adapter_file import with_adapter
from shared.chat.candidates import pick_named
from shared.chat.generation import steady_generation
from shared.chat.sampling import SamplingSettings
from shared.device import device_label, pick_device
from shared.errors import UserError, one_line_errors
from shared.model.interop_folder import is_their_folder
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

gc.enable()

ROOT = Path(__file__).resolve().parents[1]
QUICK_RUN = ROOT / "05_full_run" / "runs" / "quick"
COURSE = ROOT / "01_env" / "course"
SPARE_THREADS = 4  # for the page, /healthz and refusals while every row and place is taken

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def main(arguments: list[str]) -> None:
    """Parses the command line, loads the models, serves until told to stop."""
    parser = command_line()
    options = parser.parse_args(arguments)
    built = parser.instantiate(options)
    built.answered_by = runpy.run_path(str(COURSE))["swap_in"]() if options.mine else []
    if built.answered_by:  # a learner's own decoder reads one text at a time
        built.limits = replace(built.limits, max_candidates=1)
    built.pick, built.device = pick_named(options.pick), pick_device(options.device)
    checkpoints = [find_checkpoint(each) for each in (options.checkpoint, *options.beside)]
    places = places_of(checkpoints)
    apps = {}
    for checkpoint, (name, place) in zip(checkpoints, places.items(), strict=True):
        told = {"models": told_to_the_page(places, name)} if options.beside else {}
        adapter = None if place else options.adapter  # of the first alone
        apps[place] = build_app(checkpoint, adapter, built, told)
    talkers = [each.extensions["talkers"] for each in apps.values()]
    where = options.host, options.port, options.behind_proxy, len(apps)
    server, channels = build_server(together(apps), built.limits, *where)
    with steady_generation(apps[""].extensions["model"]):
        serve_until_told(server, channels, talkers, options.grace_seconds, options.open)


def build_app(
    checkpoint: Path, adapter: str | None, built: Namespace, told: dict[str, Any]
) -> Flask:
    """The application of one model, as the command line wants it; `told` is more for its page."""
    model, tokenizer = load_model(checkpoint, built.device)
    model = with_adapter(model, adapter)
    own = built.no_weights or built.answered_by  # a browser would not run the learner's functions
    own = own or is_their_folder(checkpoint)  # whose tokenizer no browser's page reads
    weights = None if own else packed_for_browsers(model, tokenizer_of(checkpoint))
    facts = {"device": device_label(built.device), "answered_by": built.answered_by}
    app = create_app(
        model,
        tokenizer,
        limits=built.limits,
        defaults=built.defaults,
        pick=built.pick,
        name=name_of_run(checkpoint),
        side_by_side=not built.answered_by,
        facts=facts_of(model, checkpoint) | facts | told,
        weights=weights,
        # With an adapter they would be another model's past.
        snapshots=None if adapter else run_with_snapshots(checkpoint),
        allow_origin=built.allow_origin,
        bound_to=built.host,
        allowed_host=built.allowed_host,
        behind_proxy=built.behind_proxy,
    )
    app.extensions["model"] = model
    return app


def command_line() -> ArgumentParser:
    """The options of this script."""
    about = "Serves the chat page for a trained model."
    parser = ArgumentParser(description=about, allow_abbrev=False)
    parser.add_argument("--checkpoint", default=str(QUICK_RUN), help="a run or checkpoint folder")
    parser.add_argument("--adapter", metavar="FILE", help="what LoRA has learned beside it")
    parser.add_argument(
        "--beside",
        action="append",
        default=[],
        metavar="RUN",
        help="one more model; the page leads from one to the other; may be repeated",
    )
    parser.add_argument("--pick", default="vote", help="vote, likelihood or MODULE:FUNCTION")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 opens it to the network")
    parser.add_argument("--port", type=int, default=8000, help="0 takes any free one")
    add_who_may_come(parser)
    parser.add_argument(
        "--grace-seconds",
        type=float,
        default=30.0,
        help="longest time that SIGTERM leaves to replies in flight",
    )
    parser.add_argument("--no-weights", action="store_true", help="no browser gets the model")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.add_argument("--mine", action="store_true", help="run on your own finished functions")
    parser.add_class_arguments(SamplingSettings, "defaults")
    parser.add_class_arguments(Limits, "limits")
    return parser


def add_who_may_come(parser: ArgumentParser) -> None:
    """The options about other sites, names and proxies."""
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        help="another site whose pages may chat, such as https://example.org; may be repeated",
    )
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        help="a name under which browsers may come, such as example.org; may be repeated",
    )
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="believe X-Forwarded-For, -Proto, -Host and -Prefix; only where a proxy sets them",
    )


def build_server(
    app: Flask, limits: Limits, host: str, port: int, behind_proxy: bool = False, models: int = 1
) -> tuple[Any, dict[int, Any]]:
    """A waitress server that listens already, and the table of its connections.

    Raises:
        UserError: the port is taken, not allowed or no port.
    """
    if not 0 <= port <= 65535:  # the system would quietly take the number's last 16 bits
        raise UserError(f"port is {port}; expected 0 to 65535")
    logging.getLogger("waitress").setLevel(logging.ERROR)
    channels: dict[int, Any] = {}
    try:
        server = create_server(
            app,
            map=channels,
            host=host,
            port=port,
            # Who waits in line holds a thread, so there is one for each, and some to spare.
            threads=models * (limits.concurrent + limits.queue_length) + SPARE_THREADS,
            # Who opens connections and says nothing must not keep others out for long.
            connection_limit=limits.connections,
            channel_timeout=limits.idle_seconds,
            cleanup_interval=1,
            asyncore_use_poll=True,  # select() ends at file number 1023
            # The application refuses what is too large in words; far larger bodies, which it
            # would have to receive whole first, are refused here by their announced length.
            max_request_body_size=max(4 * limits.max_body_bytes, 1_000_000),
            # Listening to a connection while its request is served shows that the client left.
            channel_request_lookahead=1,
            clear_untrusted_proxy_headers=not behind_proxy,
        )
    except (OSError, ValueError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is taken: pick another, such as PORT=8001 or --port 8001" if taken else error
        raise UserError(f"port {port} on {host} {reason}") from error
    answer_in_json(channels)
    return server, channels


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

"""Serving until told to stop: SIGTERM lets replies in flight end, Ctrl-C ends them at once."""

import os
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Sequence
from typing import Any

from talkers import Talkers

TURN_SECONDS = 0.0005  # Python's own 5 ms, for each of a request's turns, are a long wait together
# Where browsers have windows; elsewhere one would take the terminal.
WITH_WINDOWS, WINDOWS = ("darwin", "win32"), {"DISPLAY", "WAYLAND_DISPLAY"}


def serve_until_told(
    server: Any,
    channels: dict[int, Any],
    talkers: Sequence[Talkers],
    grace_seconds: float,
    in_browser: bool = False,
) -> None:
    """Serves until SIGTERM or Ctrl-C, then lets replies in flight end.

    waitress knows no such end of its own: it is served from a thread, so that this one
    can wait for signals and keep it running until the last byte has left.
    """
    told: list[int] = []  # no Event: its lock could be held here when the signal comes
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    serving = threading.Thread(target=server.run, daemon=True)
    try:
        sys.setswitchinterval(TURN_SECONDS)
        serving.start()
        print(f"chat with your model at {address_of(server)}  (Ctrl-C ends it)", flush=True)
        if in_browser and (sys.platform in WITH_WINDOWS or WINDOWS & os.environ.keys()):
            webbrowser.open(address_of(server))
        while serving.is_alive() and not told:
            time.sleep(0.2)
    except KeyboardInterrupt:
        grace_seconds = 0
    for each in talkers:
        each.close()
    end = time.monotonic() + grace_seconds
    for each in talkers:
        if not each.wait_until_unused(max(0.0, end - time.monotonic())):
            each.hurry = True
            each.wait_until_unused(2)
    wait_until_sent(channels, 2)  # the sockets close with the process


def wait_until_sent(channels: dict[int, Any], seconds: float) -> None:
    """Waits up to that long until no connection has a request or bytes left to send."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(
            getattr(channel, "requests", None) or getattr(channel, "total_outbufs_len", 0)
            for channel in list(channels.values())
        ):
            return
        time.sleep(0.02)


def address_of(server: Any) -> str:
    """Where a browser on this machine finds the server."""
    listening = getattr(server, "effective_listen", None)  # a name may stand for two addresses
    host, port = listening[0] if listening else (server.effective_host, server.effective_port)
    return f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"

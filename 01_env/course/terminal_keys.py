"""Single keys from a terminal, without waiting for Enter."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ReadKey = Callable[[float], str]


@contextmanager
def single_keys() -> Iterator[ReadKey]:
    """Yields a function that waits up to some seconds for a key: "" if none was pressed."""
    if sys.platform == "win32":
        yield windows_key
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield posix_key
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def posix_key(seconds: float) -> str:
    """A key, or the end of the input as "q"."""
    import os
    import select

    if not select.select([sys.stdin], [], [], seconds)[0]:
        return ""
    return os.read(sys.stdin.fileno(), 1).decode("latin-1") or "q"


def windows_key(seconds: float) -> str:
    """Windows has no `select` for consoles: asked every few milliseconds."""
    import msvcrt

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if msvcrt.kbhit():
            return msvcrt.getwch()
        time.sleep(0.02)
    return ""

"""Ctrl-C without loss: the step in hand is finished first, then the caller may save.

Promoted by 05_full_run.
"""

import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What a person or a parent sends to end a run; Windows can send its children only the last.
NAMES = ("SIGINT", "SIGTERM", "SIGBREAK")


@contextmanager
def stop_signal(tell: Callable[[str], object]) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C (or SIGTERM) into a flag; a second one stops at once.

    Args:
        tell: given one line for the person when the first signal comes.

    Yields:
        A function that returns True once a signal has come.
    """
    received = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        tell("finishing this step, then saving ... (again to stop at once)")

    known = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.signal(number, note) for number in known}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def start_apart(command: list[str], **options: object) -> subprocess.Popen:
    """Starts a process that the terminal's Ctrl-C does not reach beside ours."""
    group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows'
    return subprocess.Popen(command, start_new_session=True, creationflags=group, **options)


def send_stop(process: subprocess.Popen) -> None:
    """What Ctrl-C would be to a process that was started apart."""
    process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGINT))

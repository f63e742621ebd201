"""Ctrl-C without loss: the step in hand is finished first, then the caller may save.

Promoted by 05_full_run.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Slots: how many replies are written at the same time; who comes later waits."""

from collections.abc import Iterator
from threading import BoundedSemaphore, Lock
from typing import TypeVar

Item = TypeVar("Item")


class Slot:
    """The right to write one reply; freeing it twice is freeing it once."""

    def __init__(self, semaphore: BoundedSemaphore) -> None:
        self._semaphore, self._lock, self._held = semaphore, Lock(), True

    def free(self) -> None:
        """Lets the next one in."""
        with self._lock:
            held, self._held = self._held, False
        if held:
            self._semaphore.release()

    def guard(self, items: Iterator[Item]) -> Iterator[Item]:
        """Passes the items on and frees the slot when they end, fail or are abandoned."""
        try:
            yield from items
        finally:
            self.free()


class Slots:
    """A fixed number of slots."""

    def __init__(self, count: int) -> None:
        self._semaphore = BoundedSemaphore(count)

    def take(self, seconds: float) -> Slot | None:
        """Waits up to that long for a free slot; None if there was none."""
        return Slot(self._semaphore) if self._semaphore.acquire(timeout=seconds) else None

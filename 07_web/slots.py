"""Slots: how many replies are written at the same time; who comes later waits in line."""

from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition
from time import monotonic
from typing import TypeVar

Item = TypeVar("Item")
POLL_SECONDS = 0.1  # how soon a place in the line is given up when its client has left


class Slots:
    """A fixed number of slots and a line of bounded length before them, first come first served."""

    def __init__(self, count: int, queue_length: int) -> None:
        self.count, self.queue_length = count, queue_length
        self.hurry = False  # set when replies must end at once, because the server does
        self._free = count
        self._open = True
        self._waiting: deque[object] = deque()
        self._changed = Condition()

    def take(self, seconds: float, gone: Callable[[], bool] = lambda: False) -> "Slot | None":
        """Waits up to that long for a slot.

        Returns None without waiting if the line is full or the server is closing, and
        after a while if `gone()` says that nobody wants the slot any more.
        """
        start = monotonic()
        me = object()
        with self._changed:
            if self._free == 0 and len(self._waiting) >= self.queue_length:
                return None
            self._waiting.append(me)
            while not (mine := self._is_turn_of(me)) and self._open:
                if gone() or monotonic() - start > seconds:
                    break
                self._changed.wait(POLL_SECONDS)
            self._waiting.remove(me)
            self._changed.notify_all()  # another one may stand first now
            if not mine:
                return None
            self._free -= 1
            return Slot(self, waited=monotonic() - start)

    def close(self) -> None:
        """Lets nobody in from now on and sends away those who wait; replies go on."""
        with self._changed:
            self._open = False
            self._changed.notify_all()

    def wait_until_unused(self, seconds: float) -> bool:
        """Waits up to that long until no reply is being written; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self._free == self.count, seconds)

    def give_back(self) -> None:
        """One slot is free again; only `Slot.free` calls this."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()

    def _is_turn_of(self, me: object) -> bool:
        return self._open and self._free > 0 and self._waiting[0] is me


class Slot:
    """The right to write one reply; freeing it twice is freeing it once."""

    def __init__(self, slots: Slots, waited: float) -> None:
        self.waited = waited
        self._held = [slots]

    def free(self) -> None:
        """Lets the next one in."""
        try:
            slots = self._held.pop()  # one atomic step: two threads cannot both get it
        except IndexError:
            return
        slots.give_back()

    def guard(self, items: Iterator[Item]) -> Iterator[Item]:
        """Passes the items on and frees the slot when they end, fail or are abandoned."""
        try:
            yield from items
        finally:
            self.free()

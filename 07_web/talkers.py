"""Talkers: one thread writes all replies, a byte of each at a time; who finds no row free waits.

A request's own thread asks for its replies and from then on only reads what comes of them.
Promises: no more rows and no longer a line than the limits say; a row whose reader has left is
free before the next byte.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any, NamedTuple

from chat_request import ChatRequest, Limits

from shared.chat.batch_generation import Reply
from shared.chat.continuous_batch import ContinuousBatch, InTurn, Text
from shared.chat.session import GrowingReply, Piece, fit_turns
from shared.text.tokenizer_file import Tokenizer

GATHERED_SECONDS = 0.02  # text of so long goes out together: an event costs more than a byte
STALL_SECONDS = 0.05  # about as long may a piece of a prompt keep the others waiting


class Part(NamedTuple):
    """Text of one of the replies: the next that is to be shown."""

    number: int
    text: str


class Talk:
    """A request and its replies in the making: one, or several candidates.

    Its inbox gets the seconds that it stood in the line, or None if it is refused; each `Part`;
    at the end a list of `Reply`. An error may come in place of each.
    """

    def __init__(
        self, asked: ChatRequest, tokenizer: Tokenizer, context: int, gone: Callable[[], bool]
    ) -> None:
        self.gone, self.left = gone, False
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.came = 0.0
        self.end = math.inf
        streams = asked.stream and (asked.candidates == 1 or asked.pick is None)
        prompt = fit_turns(asked.messages, [], tokenizer, context)
        self.prompt_ids, self.prompt_bytes = len(prompt), len(tokenizer.decode_bytes(prompt))
        self.max_ids = asked.max_ids or asked.settings.max_new_bytes
        self.replies: dict[Text, GrowingReply] = {}
        for number in range(asked.candidates):
            reply = GrowingReply(tokenizer, asked.settings.max_new_bytes, asked.stops)

            def drop_turns(_: list[int], reply: GrowingReply = reply) -> list[int]:
                return fit_turns(asked.messages, reply.ids, tokenizer, context)

            text = Text(list(prompt), asked.settings, drop_turns, number, asked.likeliest)
            self.replies[text] = reply
        self.said = dict.fromkeys(self.replies, "")
        self.next_event = dict.fromkeys(self.replies, -math.inf if streams else math.inf)
        self.without_row = list(self.replies)
        self.unfinished = len(self.replies)

    @property
    def begun(self) -> bool:
        """Whether a row was given to it."""
        return len(self.without_row) < len(self.replies)

    def leave(self) -> None:
        """Nobody reads it any more."""
        self.left = True

    def take_in(self, text: Text, now: float) -> bool:
        """The writing thread's: passes on the newest id of a text; whether that was its last."""
        reply = self.replies[text]
        self.said[text] += reply.add(text.new[-1])
        if reply.over or len(text.new) == self.max_ids:
            return True
        if self.said[text] and now >= self.next_event[text]:
            self.inbox.put(Part(text.number, self.said[text]))
            self.said[text], self.next_event[text] = "", now + GATHERED_SECONDS
        return False

    def finish(self, count: int = 1) -> None:
        """The writing thread's: that many texts more are done; after the last one all are sent."""
        self.unfinished -= count
        if not self.unfinished:
            self.inbox.put(
                [
                    Reply(self.said[text] + reply.rest(), reply.finish_reason, reply.size)
                    for text, reply in self.replies.items()
                    if text not in self.without_row
                ]
            )

    def read(self) -> Any:
        """The request's own: what its inbox gets next."""
        item = self.inbox.get()
        if isinstance(item, Exception):
            raise item
        return item

    def pieces(self) -> Iterator[Piece]:
        """The request's own: its only reply, as it is written."""
        while isinstance(item := self.read(), Part):
            yield Piece(item.text)
        text, reason, size = item[0]
        yield Piece(text, reason, self.prompt_bytes, size)


class Talkers:
    """Who talks and who stands in the line, first come first served.

    The thread lives while somebody is there.
    """

    def __init__(self, batch: ContinuousBatch | InTurn, limits: Limits) -> None:
        self.batch, self.limits = batch, limits
        self.hurry = False  # set when replies must end at once, because the server does
        self._rows: dict[Text, Talk] = {}
        self._line: deque[Talk] = deque()
        self._changed = Condition()
        self._open, self._writing = True, False

    @property
    def free(self) -> int:
        """Rows that nobody has."""
        return self.limits.concurrent - len(self._rows)

    def ask(self, talk: Talk) -> float | None:
        """Waits for a row; returns the seconds in the line, or None where it is to come back.

        That is at once if the line is full or the server closing, else when it has waited for too
        long or has left.
        """
        talk.came = time.monotonic()
        with self._changed:
            ahead = sum(len(each.without_row) for each in self._line)
            if not self._open or ahead >= self.free + self.limits.queue_length:
                return None
            if ahead < self.free:
                talk.came = math.inf  # it waits for a step, not in the line
            self._line.append(talk)
            if not self._writing:
                self._writing = True
                Thread(target=self._write, daemon=True).start()
        return talk.read()

    def close(self) -> None:
        """Lets nobody in from now on and sends away those who wait; replies go on."""
        with self._changed:
            self._open = False

    def wait_until_unused(self, seconds: float) -> bool:
        """Waits up to that long until no reply is being written; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._writing, seconds)

    def _write(self) -> None:
        try:
            while self._let_in():
                time.sleep(0)  # where there is one core, requests' threads have their turn here
                drawn = self.batch.step()
                now = time.monotonic()
                for text in drawn:
                    if self._rows[text].take_in(text, now):
                        self._end(text)
                self._end_what_is_over(now)
        except Exception as error:  # such as weights that are broken: nobody may wait for ever
            self._fail(error)

    def _let_in(self) -> bool:
        """Gives free rows to those who wait longest; whether anybody has one."""
        now = time.monotonic()
        with self._changed:
            for talk in list(self._line):
                self._send_away(talk, talk.left or talk.gone())
            while self._line and self.free:
                self._give_row(self._line[0], now)
            for talk in list(self._line):
                late = now - talk.came > self.limits.queue_seconds or not self._open
                self._send_away(talk, late)
            self._writing = bool(self._rows)
            self._changed.notify_all()
            return self._writing

    def _send_away(self, talk: Talk, true: bool) -> None:
        if true and not talk.begun:
            self._line.remove(talk)
            talk.inbox.put(None)

    def _give_row(self, talk: Talk, now: float) -> None:
        if not talk.begun:
            talk.inbox.put(max(0.0, now - talk.came))
            talk.end = now + self.limits.reply_seconds
        text = talk.without_row.pop(0)
        self._rows[text] = talk
        self.batch.join(text)
        if not talk.without_row:
            self._line.popleft()

    def _end(self, text: Text) -> None:
        self.batch.leave(text)
        self._rows.pop(text).finish()

    def _end_what_is_over(self, now: float) -> None:
        for text, talk in list(self._rows.items()):
            if talk.left or self.hurry or now > talk.end or talk.gone():
                with self._changed:
                    if talk in self._line:  # candidates that never began
                        self._line.remove(talk)
                        talk.finish(len(talk.without_row))
                self._end(text)

    def _fail(self, error: Exception) -> None:
        with self._changed:
            for talk in {*self._rows.values(), *self._line}:
                talk.inbox.put(error)
            for text in list(self._rows):
                self.batch.leave(text)
            self._rows.clear()
            self._line.clear()
            self._writing = False
            self._changed.notify_all()

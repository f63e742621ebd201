"""The thread that writes all replies: who gets a row, who waits, who is told to come back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
from chat_request import ChatRequest, Limits
from served_models import Reciter, wait_until
from talkers import Talk, Talkers

from shared.chat.continuous_batch import ContinuousBatch, InTurn
from shared.chat.sampling import SamplingSettings
from shared.chat.session import stream_reply
from shared.text.transcript import Message

HELLO = [Message("user", "hi")]
BOLD = SamplingSettings(temperature=1.5, top_p=1.0, max_new_bytes=30, seed=3)
ASKED = ChatRequest(HELLO, BOLD, stream=True, candidates=1, pick="vote")


class StepByStep(ContinuousBatch):
    """One that takes a step only when it is told to."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)
        self.told = threading.Semaphore(0)

    def step(self):
        self.told.acquire()
        return super().step()


class Stage:
    """Talkers, and requests that ask from threads of their own."""

    def __init__(self, model, tokenizer, **limits) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.batch = StepByStep(model, limits.get("concurrent", 32))
        self.talkers = Talkers(self.batch, Limits(**limits))

    def talk(self, asked: ChatRequest = ASKED) -> Talk:
        """A request that has not asked yet."""
        return Talk(asked, self.tokenizer, self.model.config.context_length, lambda: False)

    def ask(self, asked: ChatRequest = ASKED) -> tuple[Talk, list]:
        """A talk, and a list that gets what `ask` returns, once it does."""
        talk, answer = self.talk(asked), []
        before = self.present

        def asking() -> None:
            try:
                answer.append(self.talkers.ask(talk))
            except TypeError as error:
                answer.append(error)

        threading.Thread(target=asking, daemon=True).start()
        wait_until(lambda: answer or self.present > before)
        return talk, answer

    @property
    def present(self) -> int:
        """Replies in a row or in the line."""
        return len(self.batch.texts) + sum(len(t.without_row) for t in list(self.talkers._line))

    def pieces(self, talk: Talk, answer: list) -> list[str]:
        """What comes of a talk that has asked."""
        wait_until(lambda: answer)
        return [piece.text for piece in talk.pieces()]

    def step(self, count: int = 1) -> None:
        """So many steps."""
        self.batch.told.release(count)

    def end(self) -> None:
        """Lets the thread run to its end."""
        self.talkers.hurry = True
        self.step(10_000)
        assert self.talkers.wait_until_unused(20)


@pytest.fixture
def stage(random_model, tokenizer):
    @contextmanager
    def build(**limits) -> Iterator[Stage]:
        stage = Stage(random_model(context_length=128), tokenizer, **limits)
        try:
            yield stage
        finally:
            stage.end()

    return build


def reply_alone(stage: Stage, asked: ChatRequest = ASKED) -> str:
    pieces = stream_reply(stage.model, stage.tokenizer, asked.messages, asked.settings)
    return "".join(piece.text for piece in pieces)


def test_who_comes_later_gets_the_reply_it_would_get_alone(stage):
    with stage() as here:
        later = replace(ASKED, settings=replace(BOLD, seed=9))
        first, at_once = here.ask()
        here.step(7)
        wait_until(lambda: here.batch.texts and len(here.batch.texts[0].new) == 7)
        second, waited = here.ask(later)
        here.step(60)
        said = ["".join(here.pieces(*asked)) for asked in ((first, at_once), (second, waited))]
        assert said == [reply_alone(here), reply_alone(here, later)]
        assert waited == [0.0]  # it waited for a step, but not in the line


def test_rows_and_the_line_are_bounded_and_the_first_to_come_is_the_first_to_go_in(stage):
    with stage(concurrent=2, queue_length=1) as here:
        talks = [here.ask() for _ in range(3)]
        here.step()  # it may have begun with the first alone
        wait_until(lambda: len(here.batch.texts) == 2)
        _, refused = here.ask()
        wait_until(lambda: refused == [None])
        wait_until(lambda: [answer for _, answer in talks] == [[0.0], [0.0], []])
        talks[0][0].leave()
        here.step()
        wait_until(lambda: talks[2][1])
        assert talks[2][1][0] > 0
        assert len(here.batch.texts) == 2


def test_a_row_whose_reader_has_left_is_free_before_the_next_byte(stage):
    with stage(concurrent=1) as here:
        talk, _ = here.ask()
        here.step(5)
        wait_until(lambda: here.batch.texts and len(here.batch.texts[0].new) == 5)
        talk.leave()
        here.step()
        wait_until(lambda: here.talkers.free == 1)
        assert here.batch.texts == [] and here.batch.cache.lengths == []


def test_who_leaves_the_line_is_not_written_for(stage):
    with stage(concurrent=1) as here:
        here.ask()
        talk, answer = here.ask()
        talk.leave()
        here.step()
        wait_until(lambda: answer == [None])


def test_who_has_waited_too_long_is_told_to_come_back(stage):
    with stage(concurrent=1, queue_seconds=0) as here:
        here.ask()
        _, answer = here.ask()
        here.step()
        wait_until(lambda: answer == [None])


def test_more_candidates_than_rows_are_written_one_after_another(stage):
    asked = replace(ASKED, candidates=3)
    with stage(concurrent=2) as here:
        talk, answer = here.ask(asked)
        wait_until(lambda: answer)
        here.step(200)
        seeds = [replace(BOLD, seed=BOLD.seed + n) for n in range(3)]
        expected = [reply_alone(here, replace(ASKED, settings=each)) for each in seeds]
        assert [reply.text for reply in talk.read()] == expected


def test_a_server_that_ends_lets_replies_end_and_sends_the_line_away(stage):
    with stage(concurrent=1) as here:
        first = here.ask()
        _, answer = here.ask()
        here.talkers.close()
        assert here.talkers.ask(here.talk()) is None
        assert not here.talkers.wait_until_unused(0)
        here.step(200)
        assert "".join(here.pieces(*first)) == reply_alone(here)
        wait_until(lambda: answer == [None])
        assert here.talkers.wait_until_unused(20)


def test_an_error_while_writing_reaches_everybody_and_the_next_one_is_written_for(stage):
    with stage(concurrent=1) as here:
        here.batch.cache.step, keep = None, here.batch.cache.step
        first = here.ask()
        _, answer = here.ask()
        here.step()
        with pytest.raises(TypeError):
            here.pieces(*first)
        wait_until(lambda: answer)
        assert isinstance(answer[0], TypeError)
        assert here.talkers.wait_until_unused(20) and here.talkers.free == 1
        here.batch.cache.step = keep
        first = here.ask()
        here.step(200)
        assert "".join(here.pieces(*first)) == reply_alone(here)


def test_text_is_gathered_and_the_first_of_it_comes_at_once(stage, monkeypatch):
    looks = count()  # two in a step: 14 ms
    monkeypatch.setattr(
        "talkers.time", SimpleNamespace(monotonic=lambda: next(looks) * 0.007, sleep=abs)
    )
    with stage() as here:
        here.model = here.batch.cache.model = Reciter("0123456789")
        here.batch = StepByStep(here.model, 1)
        here.talkers.batch = here.batch
        first = here.ask(replace(ASKED, settings=replace(BOLD, temperature=0)))
        here.step(30)
        assert here.pieces(*first) == ["0", "12", "34", "56", "78", "9"]
        whole = replace(ASKED, settings=replace(BOLD, temperature=0), stream=False)
        first = here.ask(whole)
        here.step(60)
        assert here.pieces(*first) == ["0123456789"]


def test_a_learners_functions_write_one_text_after_another(random_model, tokenizer):
    model = random_model(context_length=128)
    seen = []
    model.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    talkers = Talkers(InTurn(model), Limits())
    talks = [
        Talk(replace(ASKED, settings=replace(BOLD, seed=n)), tokenizer, 128, lambda: False)
        for n in range(3)
    ]
    assert [talkers.ask(talk) for talk in talks] == [0.0] * 3
    for number, talk in enumerate(talks):
        alone = stream_reply(model, tokenizer, HELLO, replace(BOLD, seed=number))
        text = "".join(piece.text for piece in alone)
        assert "".join(piece.text for piece in talk.pieces()) == text
    assert set(seen) == {1}
    assert talkers.wait_until_unused(20)

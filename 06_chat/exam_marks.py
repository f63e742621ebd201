"""Marks: which replies are right, what the table counts, and how sure each figure is."""

from collections.abc import Callable, Iterable
from functools import cache
from math import sqrt
from typing import NamedTuple

from exam_questions import ANSWER, CLOSED, IN_A_ROW, PHRASINGS, PRIMER, RANDOM, WORKING, Question

from shared.chat.batch_generation import Reply
from shared.text.drills import SKILLS
from shared.text.exercise import check, says_unknown
from shared.text.primer import primer_conversations

Z = 1.96  # standard errors to either side that hold 95 % of a normal distribution
LONGEST_PIECE, TIMES = 20, 3  # bytes that a loop says again and again, and how often in all
REMEMBERING = ("recalling", "who has what")
BEGINNING = 16  # characters that tell a line of the primer from all others


class Mark(NamedTuple):
    """A question, what the model replied, and whether that is right."""

    question: Question
    reply: Reply
    right: bool


class Share(NamedTuple):
    """So many of so many."""

    hits: int
    asked: int

    @property
    def percent(self) -> float:
        """0 to 100; 0 of none."""
        return 100 * self.hits / max(1, self.asked)

    @property
    def interval(self) -> tuple[float, float]:
        """Two percentages: of a hundred intervals made so, 95 hold the true share.

        Source: Wilson 1927, "Probable Inference, the Law of Succession, and Statistical
        Inference". Unlike share ± 2 standard errors it is not empty at 0 and at 100 %.
        """
        if not self.asked:
            return 0.0, 100.0
        share, n = self.hits / self.asked, self.asked
        middle = share + Z * Z / (2 * n)
        reach = Z * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
        scale = 100 / (1 + Z * Z / n)
        return max(0.0, scale * (middle - reach)), min(100.0, scale * (middle + reach))


def mark(question: Question, reply: Reply) -> Mark:
    """Marks one reply: an empty one is wrong, and so is one that did not end by itself."""
    text = reply.text.strip()
    right = text in question.accepted if question.accepted else check(question.exercise, text)
    return Mark(question, reply, bool(text) and ended(reply) and right)


def ended(reply: Reply) -> bool:
    """Whether the model closed its turn, rather than write until it was stopped."""
    return reply.finish_reason == "stop"


class Line(NamedTuple):
    """A line of the table: which questions it is about, and what it counts among them."""

    name: str
    about: Callable[[Question], bool]
    counts: Callable[[Mark], bool] = lambda mark: mark.right

    def share(self, marks: Iterable[Mark]) -> Share:
        """What it says of one model."""
        found = [self.counts(mark) for mark in marks if self.about(mark.question)]
        return Share(sum(found), len(found))


def skill_lines(part: str = WORKING) -> list[Line]:
    """A line a skill: its questions in one part of the exam."""
    return [
        Line(skill, lambda asked, skill=skill: (asked.part, asked.exercise.skill) == (part, skill))
        for skill in SKILLS
    ]


def other_lines() -> list[Line]:
    """The parts of the exam, all their skills together; then what goes across the parts."""
    return [
        part_line("mean of these skills", WORKING),
        *map(part_line, (ANSWER, PHRASINGS, RANDOM, IN_A_ROW, CLOSED, PRIMER)),
        Line("recall over three turns", recalls_over_three_turns),
        Line("system message obeyed", lambda asked: asked.exercise.skill == "obeying"),
        Line("does not know, and says so", is_unknowable, pleads_ignorance),
        Line("does not know, recites the primer", is_unknowable, misfires),
        Line("knows, but says it does not", is_knowable, pleads_ignorance),
        Line("ended by itself", is_any, lambda mark: ended(mark.reply)),
        Line("ran in a loop", is_any, lambda mark: loops(mark.reply)),
    ]


def part_line(name: str, part: str | None = None) -> Line:
    """A line about one part of the exam, which may be its name."""
    return Line(name, lambda asked: asked.part == (part or name))


def recalls_over_three_turns(asked: Question) -> bool:
    """Whether the user asks in the third turn for what was told in the first or second."""
    users = sum(message.role == "user" for message in asked.exercise.messages)
    return asked.exercise.skill in REMEMBERING and users == 3


def is_unknowable(asked: Question) -> bool:
    """Whether it is right to say "I do not know"."""
    return says_unknown(asked.exercise.reply)


def is_knowable(asked: Question) -> bool:
    """Whether it is wrong to say so."""
    return not is_unknowable(asked)


def is_any(asked: Question) -> bool:
    """Every question."""
    return True


def pleads_ignorance(mark: Mark) -> bool:
    """Whether the model says that it does not know."""
    return says_unknown(mark.reply.text)


def misfires(mark: Mark) -> bool:
    """Whether a reply is, or begins as, what the primer says to some other question.

    A question of which nothing can be known has an honest reply, and no other line of the
    primer is one.
    """
    said = mark.reply.text.strip()
    return not says_unknown(said) and said[:BEGINNING] in primer_beginnings()


@cache
def primer_beginnings() -> set[str]:
    """How the primer's replies begin."""
    turns = [turn for messages in primer_conversations() for turn in messages]
    return {turn.content[:BEGINNING] for turn in turns if turn.role == "assistant"}


def loops(reply: Reply) -> bool:
    """Whether a reply never ended, and the last it says are 1 to 20 bytes three times in a row."""
    said = reply.text.encode()
    ends = [said[-size:] * TIMES for size in range(1, LONGEST_PIECE + 1)] if said else []
    return not ended(reply) and any(said.endswith(end) for end in ends)

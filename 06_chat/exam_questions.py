"""The exam's questions: the same for every model, whoever asks them and whenever.

They are drawn from seeds that never change, and only from what the drills hold out, so no
model was trained on any of them. Closed tables (seven days) cannot be held out, and the
primer is asked as it was learned: these two stand apart. Two tables may be compared if the
digests of their questions are equal.
"""

import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

from shared.text.drills import SKILLS, make_exercise, sizes
from shared.text.exercise import EQUALS, Exercise
from shared.text.primer import primer_conversations
from shared.text.transcript import Message

FORMAT = 1  # raise it to have other questions drawn
EACH = 300  # questions of a skill with its working, and as many without
FEWER = 100  # of a skill where one thing more is new, or nothing can be
DRAWS = 10_000  # for a question that was not asked yet; then there are too few of its size

WORKING, ANSWER, PHRASINGS = "with working", "answer alone", "held-out phrasings"
RANDOM, IN_A_ROW = "random letters", "letters in a row"
CLOSED, PRIMER = "closed tables", "primer, as written"

OF_ONE_WORD = ("spelling", "counting letters", "backwards", "n-th letter", "length")
WRITES_IT_ONCE = ("spelling", "counting letters", "length")  # the working is the word's letters


class Question(NamedTuple):
    """One question, and what is right there."""

    part: str
    """the part of the exam that asks it"""
    exercise: Exercise
    accepted: tuple[str, ...] = ()
    """whole replies that are right; none: the exercise's own check decides"""


def frozen_questions() -> list[Question]:
    """Every question of the exam, part by part."""
    can_hold_out = {skill: sizes_of(skill, closed=False) for skill in SKILLS}
    tables = {skill: sizes_of(skill, closed=True) for skill in SKILLS}
    one_word = {skill: sizes(skill) for skill in OF_ONE_WORD}
    written = {skill: [None] for skill in WRITES_IT_ONCE}
    in_a_row = {"part": IN_A_ROW, "count": FEWER // 2, "fits": has_letters_in_a_row}
    return [
        *asked(can_hold_out, WORKING, EACH),
        *asked(can_hold_out, ANSWER, EACH, working=False),
        *asked(can_hold_out, PHRASINGS, FEWER, phrasing="held-out"),
        *asked(one_word, RANDOM, FEWER, random_letters=True),
        *asked(written, **in_a_row),
        *asked(written, **in_a_row, random_letters=True),
        *asked(tables, CLOSED, FEWER),
        *primer_questions(),
    ]


def sizes_of(skill: str, closed: bool) -> list[int]:
    """Those sizes of a skill that are a closed table, or those of which much is held out."""
    rng = random.Random(0)
    return [size for size in sizes(skill) if draw(skill, rng, size).closed is closed]


def asked(
    sizes_by_skill: dict[str, Sequence[int | None]],
    part: str,
    count: int,
    fits: Callable[[Exercise], bool] = lambda exercise: True,
    **wishes: Any,
) -> Iterator[Question]:
    """So many questions of each skill, its sizes taking turns, no question twice."""
    for skill, its_sizes in sizes_by_skill.items():
        rng, seen = random.Random(f"{FORMAT}, {part}, {skill}, {wishes}"), set()
        for size in islice(cycle(its_sizes), count):
            draws = (draw(skill, rng, size, **wishes) for _ in range(DRAWS))
            exercise = next(each for each in draws if fits(each) and str(each.messages) not in seen)
            seen.add(str(exercise.messages))
            yield Question(part, exercise)


def draw(skill: str, rng: random.Random, size: int | None, **wishes: Any) -> Exercise:
    """One exercise about held-out operands; with its working, unless that is not wished for."""
    return make_exercise(skill, rng, size=size, **({"held_out": True, "working": True} | wishes))


def has_letters_in_a_row(exercise: Exercise) -> bool:
    """Whether one or two letters of the word stand twice in a row: balloon, banana."""
    word = re.sub("[^a-z]", "", exercise.reply.partition(EQUALS)[0])
    return re.search(r"(..?)\1", word) is not None


def primer_questions() -> list[Question]:
    """Each user's turn of the primer after what was said before it.

    Some stand there twice and get different replies: each of these is right.
    """
    turns, replies = [], defaultdict(list)
    for messages in primer_conversations():
        system = "".join(message.content for message in messages if message.role == "system")
        for place, (role, reply) in enumerate(messages):
            if role == "assistant":
                turns.append((messages[:place], reply, system))
                replies[system, messages[place - 1].content].append(reply)
    return [
        Question(PRIMER, recited(before, reply), tuple(replies[system, before[-1].content]))
        for before, reply, system in turns
    ]


def recited(before: list[Message], reply: str) -> Exercise:
    """A turn of the primer as an exercise; its size is the number of messages."""
    return Exercise(PRIMER, before, reply, reply, False, len(before), closed=True)


def digest(questions: Sequence[Question]) -> str:
    """Twelve hexadecimal digits, others for other questions or other right replies."""
    return hashlib.sha256(json.dumps(questions).encode()).hexdigest()[:12]

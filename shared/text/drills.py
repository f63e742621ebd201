"""Drills: exercises that a program makes, each with question, working and answer.

A model that recites them has learned nothing: what counts are the operands that it never
met (`shared/text/operands.py`). One function a skill; here they get their words.
Promoted by 02_tokenizer.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

from shared.errors import UserError
from shared.text.drills_letters import LENGTHS, backwards, counting, length, nth_letter, spelling
from shared.text.drills_manners import not_knowing, obeying
from shared.text.drills_memory import recalling, repeating, who_has_what
from shared.text.drills_numbers import DIGITS, adding, larger, subtracting
from shared.text.drills_order import ITEMS, sorting_numbers, sorting_words, what_comes_next
from shared.text.exercise import EQUALS, Exercise, Question, check, says_unknown
from shared.text.operands import Operands, is_held_out
from shared.text.primer import SPELLINGS
from shared.text.transcript import Message

__all__ = [
    "SHOW_WORKING",
    "SIZES",
    "SKILLS",
    "Exercise",
    "check",
    "is_held_out",
    "make_exercise",
    "says_unknown",
    "sizes",
    "with_working",
]

NOTED = Message("assistant", "OK.")
SHOW_WORKING = "Show your working."
HELD_OUT_PHRASING = 5  # every fifth
OPENINGS = ("please tell me: ", "ok, ", "hey, ", "now: ", "and ", "so ")
OPENED_SHARE = 0.15
COMMON, COMMON_SHARE = 2, 0.5  # the first so many phrasings take half of all questions

SKILLS: dict[str, Callable[[Operands, int | None], Question]] = {
    "spelling": spelling,
    "counting letters": counting,
    "backwards": backwards,
    "n-th letter": nth_letter,
    "length": length,
    "sorting words": sorting_words,
    "sorting numbers": sorting_numbers,
    "adding": adding,
    "subtracting": subtracting,
    "larger": larger,
    "what comes next": what_comes_next,
    "repeating": repeating,
    "recalling": recalling,
    "who has what": who_has_what,
    "obeying": obeying,
    "not knowing": not_knowing,
}
SIZES: dict[str, Sequence[int]] = {
    **dict.fromkeys(
        ("spelling", "counting letters", "backwards", "n-th letter", "length"), LENGTHS
    ),
    **dict.fromkeys(("sorting words", "sorting numbers"), ITEMS),
    **dict.fromkeys(("adding", "subtracting", "larger"), DIGITS),
    "what comes next": (1, 2, 3),
    "repeating": (1, 2, 3, 4),
    "recalling": (1, 2, 3),
    "who has what": (2, 3, 4),
    "obeying": (1, 2, 3),
    "not knowing": (1, 2),
}


def sizes(skill: str) -> Sequence[int]:
    """The sizes that a skill has: letters, digits, items, turns, or which of its kinds."""
    return SIZES[skill]


def make_exercise(
    skill: str,
    rng: random.Random,
    *,
    held_out: bool,
    working: bool,
    phrasing: Literal["known", "held-out"] = "known",
    random_letters: bool = False,
    size: int | None = None,
) -> Exercise:
    """One exercise of a skill.

    Args:
        held_out: about operands that training never has, or about others.
        working: the system message asks for the working. Without it the reply is the answer.
        phrasing: one that training has, or not.
        random_letters: words and names are strings of random letters.
        size: one of `sizes(skill)`; none: any, as in training.

    Raises:
        UserError: no such skill.
    """
    if skill not in SKILLS:
        raise UserError(f"no skill {skill!r}; the skills are: {', '.join(SKILLS)}")
    operands = Operands(rng, held_out, random_letters)
    question = SKILLS[skill](operands, size)
    system = f"{question.system} {SHOW_WORKING}" if working else question.system
    messages = [Message("system", system.strip())] if system else []
    text = _asked(operands, question, phrasing)
    if question.turns:
        for told in question.told:
            messages += [Message("user", _spelt(operands, told)), NOTED]
    elif question.told:
        text = ". ".join((*question.told, text))
    messages.append(Message("user", _spelt(operands, text)))
    shown = working and question.working
    reply = f"{question.working}{EQUALS}{question.answer}" if shown else question.answer
    return Exercise(
        skill, messages, reply, question.answer, working, question.size, question.closed
    )


def with_working(messages: Sequence[Message]) -> list[Message]:
    """The conversation with a system message that asks for the working, as the drills word it."""
    leads = bool(messages) and messages[0].role == "system"
    system = messages[0].content if leads else ""
    if SHOW_WORKING not in system:
        system = f"{system} {SHOW_WORKING}".strip()
    return [Message("system", system), *messages[leads:]]


@cache
def phrasings_of(phrasings: tuple[str, ...], side: str) -> tuple[str, ...]:
    """The held-out ones, every fifth, or those that are "known"."""
    every = enumerate(phrasings, 1)
    return tuple(t for n, t in every if (n % HELD_OUT_PHRASING == 0) == (side == "held-out"))


def _asked(operands: Operands, question: Question, phrasing: str) -> str:
    phrasings = phrasings_of(question.phrasings, phrasing)
    if phrasing == "known" and operands.chance(COMMON_SHARE):
        phrasings = phrasings[:COMMON]
    text = operands.pick(phrasings).format(**question.blanks)
    opened = phrasing == "known" and operands.chance(OPENED_SHARE)
    return operands.pick(OPENINGS) + text if opened else text


def _spelt(operands: Operands, text: str) -> str:
    """As people write: sometimes with a capital, sometimes without a question mark."""
    return operands.pick(SPELLINGS)(text)

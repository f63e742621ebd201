"""Drills: exercises that a program makes, each with question, working and answer.

A model that recites them has learned nothing: what counts are the operands that it never
met (`shared/text/operands.py`). One function a skill; here they get their words.
Promoted by 02_tokenizer.
"""

import random
from collections.abc import Callable, Sequence
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
]

SHOW_WORKING = "Show your working."
HELD_OUT_PHRASING = 5  # every fifth
OPENINGS = ("please tell me: ", "ok, ", "hey, ", "now: ", "and ", "so ")
OPENED_SHARE = 0.15

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
    system = " ".join(filter(None, (question.system, SHOW_WORKING if working else "")))
    messages = [Message("system", system)] if system else []
    for role, content in question.earlier:
        messages.append(Message(role, _spelt(operands, content) if role == "user" else content))
    messages.append(Message("user", _spelt(operands, _asked(operands, question, phrasing))))
    shown = working and question.working
    reply = f"{question.working}{EQUALS}{question.answer}" if shown else question.answer
    return Exercise(
        skill, messages, reply, question.answer, working, question.size, question.closed
    )


def known_phrasings(phrasings: Sequence[str]) -> list[str]:
    """All but every fifth."""
    return [text for place, text in enumerate(phrasings, 1) if place % HELD_OUT_PHRASING]


def _asked(operands: Operands, question: Question, phrasing: str) -> str:
    if phrasing == "held-out":
        ways = question.phrasings[HELD_OUT_PHRASING - 1 :: HELD_OUT_PHRASING]
        return operands.pick(ways).format(**question.blanks)
    text = operands.pick(known_phrasings(question.phrasings)).format(**question.blanks)
    return operands.pick(OPENINGS) + text if operands.chance(OPENED_SHARE) else text


def _spelt(operands: Operands, text: str) -> str:
    """As people write: sometimes with a capital, sometimes without a question mark."""
    return operands.pick(SPELLINGS)(text)

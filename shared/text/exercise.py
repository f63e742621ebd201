"""Exercise: one question that a program made, the reply that is wanted, and the check.

Promoted by 02_tokenizer.
"""

from collections.abc import Mapping
from typing import NamedTuple

from shared.text.transcript import Message

UNKNOWN = "I do not know."
EQUALS = " = "  # stands between the working and the answer, and nowhere else


class Question(NamedTuple):
    """What a skill's function makes: operands, working and answer, not yet put in words."""

    phrasings: tuple[str, ...]
    """ways to ask; every fifth is held out"""
    blanks: Mapping[str, object]
    """what fills the {gaps} of a phrasing"""
    answer: str
    size: int
    working: str = ""
    """the steps that lead to the answer; "" where there are none"""
    told: tuple[str, ...] = ()
    """what the user tells before the question"""
    turns: bool = False
    """each thing told is a turn of its own, with a short reply; otherwise all is one message"""
    system: str = ""
    """what the system message must say"""
    closed: bool = False
    """from a table too small to hold anything out"""


class Exercise(NamedTuple):
    """One question in words, and the reply that is wanted."""

    skill: str
    messages: list[Message]
    """the whole question: optional system message, earlier turns; the last is the user's"""
    reply: str
    """working and answer, or the answer alone"""
    answer: str
    """the answer alone, such as 3"""
    working: bool
    """the system message asks to show the working"""
    size: int
    """digits, letters, items or turns: what makes it hard"""
    closed: bool
    """from a closed table, such as the days: cannot be held out"""


def check(exercise: Exercise, reply: str) -> bool:
    """Whether a reply is right: its answer must be the exercise's, to the letter.

    Where working is asked for, what stands after the last " = " is the answer: a right
    answer after a slip in the working is still right. Otherwise the whole reply is the
    answer, and any word more is wrong. An exercise whose reply is in capitals wants all of
    it so. "I do not know" counts with words around it: the primer says it in several ways.
    """
    said = reply.strip()
    if exercise.answer == UNKNOWN:
        return says_unknown(said)
    if exercise.reply.isupper() and not said.isupper():
        return False
    return exercise.answer == (said.rpartition(EQUALS)[2] if exercise.working else said)


def says_unknown(reply: str) -> bool:
    """Whether a reply says that it does not know."""
    return UNKNOWN.lower().rstrip(".") in reply.lower()

"""Drills about what was said: repeating it, and recalling it later in the conversation.

The working says again what was told, so that the answer stands close by.
Promoted by 02_tokenizer.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from shared.text.exercise import Question
from shared.text.operands import Operands

REPEATING = (
    "say {text}",
    "repeat {text}",
    "repeat after me: {text}",
    "say this: {text}",
    "repeat this: {text}",
    "please say {text}",
    "repeat: {text}",
    "write {text}",
    "say the following: {text}",
    "please repeat: {text}",
)
WHO_HAS = (
    "who has the {thing}?",
    "who is it that has the {thing}?",
    "the {thing}: who has it?",
    "tell me who has the {thing}",
    "do you know who has the {thing}?",
)
WHAT_HAS = (
    "what does {name} have?",
    "what is it that {name} has?",
    "which thing does {name} have?",
    "tell me what {name} has",
    "do you know what {name} has?",
)


class Fact(NamedTuple):
    """Something that people tell of themselves, and how they ask for it later."""

    told: str
    drawn: Callable[[Operands], str]
    subject: str
    restated: str
    asked: tuple[str, ...]


FACTS = (
    Fact(
        "my name is {x}",
        Operands.name,
        "your name",
        "your name is {x}",
        (
            "what is my name?",
            "who am i?",
            "do you know my name?",
            "what am i called?",
            "what was my name?",
        ),
    ),
    Fact(
        "i live in {x}",
        Operands.place,
        "where you live",
        "you live in {x}",
        (
            "where do i live?",
            "do you know where i live?",
            "in which place do i live?",
            "where did i say i live?",
            "tell me where i live",
        ),
    ),
    Fact(
        "my dog is called {x}",
        Operands.name,
        "your dog",
        "your dog is called {x}",
        (
            "what is my dog called?",
            "what is the name of my dog?",
            "do you know what my dog is called?",
            "what is my dog's name?",
            "tell me the name of my dog",
        ),
    ),
    Fact(
        "the secret word is {x}",
        Operands.word,
        "the secret word",
        "the secret word is {x}",
        (
            "what is the secret word?",
            "do you know the secret word?",
            "which word is the secret one?",
            "what was the secret word?",
            "tell me the secret word",
        ),
    ),
    Fact(
        "my favourite word is {x}",
        Operands.word,
        "your favourite word",
        "your favourite word is {x}",
        (
            "what is my favourite word?",
            "which word do i like best?",
            "do you know my favourite word?",
            "what was my favourite word?",
            "tell me my favourite word",
        ),
    ),
)


def repeating(operands: Operands, size: int | None) -> Question:
    """`say tree house` → `tree house`."""
    size = size or operands.between(1, 4)
    letters = None if size == 1 else operands.between(3, 6)
    text = " ".join([operands.word(letters) for _ in range(size)])
    return Question(REPEATING, {"text": text}, text, size)


def recalling(operands: Operands, size: int | None) -> Question:
    """`my name is Anna. what is my name?` → `your name? your name is Anna = Anna`, in `size` turns.

    Of three turns two tell something, and the third asks for one of them.
    """
    size = size or operands.pick((1, 2, 3, 3))
    fact = operands.pick(FACTS)
    x = fact.drawn(operands)
    told = [fact.told.format(x=x)]
    if size == 3:
        other = operands.pick([each for each in FACTS if each is not fact])
        told.insert(operands.between(0, 1), other.told.format(x=other.drawn(operands)))
    working = sought_among(fact.subject, [fact.restated.format(x=x)])
    return Question(fact.asked, {}, x, size, working, tuple(told), size > 1)


def who_has_what(operands: Operands, size: int | None) -> Question:
    """`Ann has the pen. Ben has the cup. who has the cup?` → the same up to the cup, `= Ben`.

    The working says what is sought, then says again what was told and ends where it meets it.
    To begin with Ben it would have to look back from the cup: copies run forwards.
    """
    size = size or operands.between(2, 4)
    names = different(operands.name, size)
    things = different(operands.thing, size)
    told = [f"{name} has the {thing}" for name, thing in zip(names, things, strict=True)]
    which = operands.between(0, size - 1)
    name, thing = names[which], things[which]
    who = operands.chance(0.6)
    phrasings, sought, answer = (WHO_HAS, thing, name) if who else (WHAT_HAS, name, thing)
    blanks = {"name": name, "thing": thing}
    working = sought_among(sought, told[: which + 1])
    return Question(phrasings, blanks, answer, size, working, tuple(told))


def sought_among(sought: str, told: Sequence[str], found: bool = True) -> str:
    """`cup? Ann has the pen. Ben has the cup`, or at last `. no` where nothing of it was told."""
    return f"{sought}? {'. '.join(told)}{'' if found else '. no'}"


def different(draw: Callable[[], str], count: int) -> list[str]:
    """So many draws, none twice."""
    found: list[str] = []
    while len(found) < count:
        item = draw()
        if item not in found:
            found.append(item)
    return found

"""The source `drills`: conversations of one to five exercises, with the primer in between.

Promoted by 02_tokenizer.
"""

import hashlib
import random
from collections.abc import Iterator
from functools import cache
from itertools import islice

from shared.errors import UserError
from shared.text.corpora import Document
from shared.text.drills import SKILLS, Exercise, make_exercise
from shared.text.operands import WORDS_PATH, Operands
from shared.text.primer import PRIMER_PATH, primer_conversations
from shared.text.splits import TRAIN, VALIDATION
from shared.text.transcript import Message, render

COUNT = 40_000  # conversations: 6.9 MB
SEED = 0
VALIDATION_SHARE = 0.005  # enough to measure; more would take time from a short run
WORKING_SHARE = 0.9
RANDOM_LETTERS_SHARE = 0.5
PRIMER_SHARE = 0.15  # of the turns after the first
BETWEEN_SHARE = 0.4  # of what is recalled later has another exercise in between
LONGEST = 250  # bytes that no further exercise may pass: nearly all fit a context of 256
HOW_MANY = (1, 1, 1, 2, 3, 4, 5, 5, 5, 5)
ASIDE = ("You are a tiny language model.", "Be kind.", "Answer in one line.")
ASIDE_SHARE = 0.1  # of the system messages say something that changes no answer
# Of these one a conversation: what is told in one would answer the question of another.
ONCE = {"recalling", "who has what", "not knowing"}
# Short ones and hard ones come more often: an addition has half the bytes of a list to sort.
SHARES = {
    "adding": 4,
    "subtracting": 3,
    "counting letters": 3,
    "spelling": 2,
    "backwards": 2,
    "n-th letter": 2,
    "sorting words": 2,
    "sorting numbers": 2,
    "larger": 2,
    "repeating": 2,
    "recalling": 2,
    "who has what": 3,
    "obeying": 2,
    "not knowing": 3,
}
DRAWN = tuple(skill for skill in SKILLS for _ in range(SHARES.get(skill, 1)))
SHIPPED_WORDS_SHA256 = "f48b89f6e9c2f5396b6719b2f547da97622030b1f7241c1d9a321a78813eaf8b"


def read_drills(count: int = COUNT, seed: int = SEED) -> Iterator[Document]:
    """So many conversations, one a document; the same seed gives the same ones first.

    One in two hundred is about held-out operands and validates. The others train.
    """
    rng = random.Random(seed)
    for number in range(count):
        held_out = rng.random() < VALIDATION_SHARE
        text = render(drill_conversation(rng, held_out))
        yield Document(f"drills/{number:06d}", text.encode(), VALIDATION if held_out else TRAIN)


def drill_count(argument: str) -> int:
    """How many conversations `drills:COUNT` asks for; `drills` alone: 40,000.

    Raises:
        UserError: no whole number above 0.
    """
    if not argument:
        return COUNT
    if not argument.isdecimal() or not int(argument):
        raise UserError(
            f"drills:{argument}: expected a number of conversations, as in drills:40000"
        )
    return int(argument)


def are_shipped_words() -> bool:
    """True if `words.txt` is the one that is public with the code, and not edited since."""
    return hashlib.sha256(_words_text()).hexdigest() == SHIPPED_WORDS_SHA256


def drills_stamp() -> str:
    """Changes with the words, the primer, and what the program makes first."""
    first = b"".join(document.data for document in islice(read_drills(), 500))
    return hashlib.sha256(_words_text() + PRIMER_PATH.read_bytes() + first).hexdigest()


def _words_text() -> bytes:
    return WORDS_PATH.read_text(encoding="utf-8").encode()  # whatever line ends a checkout gave it


def drill_conversation(rng: random.Random, held_out: bool) -> list[Message]:
    """One to five exercises in a row, under one system message."""
    draw = Operands(rng, held_out)
    working = draw.chance(WORKING_SHARE)
    first = _exercise(draw, draw.pick(DRAWN), working)
    system, turns = _parted(first)
    if draw.chance(ASIDE_SHARE):
        aside = draw.pick(ASIDE)
        system = draw.pick((f"{aside} {system}", f"{system} {aside}")).strip()
    lead = [Message("system", system)] if system else []
    used = {"obeying", *(ONCE if first.skill in ONCE else ())}
    for _ in range(draw.pick(HOW_MANY) - 1):
        if first.skill == "obeying" and first.size > 1:  # each reply has to obey
            longer = turns + _parted(_exercise(draw, "obeying", working, first.size))[1]
        elif first.skill != "obeying" and not held_out and draw.chance(PRIMER_SHARE):
            longer = turns + draw.pick(_primer_turns())
        else:
            longer = _with_another(draw, turns, used, working)
        if len(render(lead + longer)) > LONGEST:
            break
        turns = longer
    return lead + turns


def _with_another(
    draw: Operands, turns: list[Message], used: set[str], working: bool
) -> list[Message]:
    """One exercise more. What it wants remembered may have been told before all the others."""
    skill = draw.pick(DRAWN)
    while skill in used:
        skill = draw.pick(DRAWN)
    used.update(ONCE if skill in ONCE else ())
    more = _parted(_exercise(draw, skill, working))[1]
    told, asked = more[:-2], more[-2:]
    return told + turns + asked if draw.chance(BETWEEN_SHARE) else turns + told + asked


def _exercise(draw: Operands, skill: str, working: bool, size: int | None = None) -> Exercise:
    random_letters = draw.chance(RANDOM_LETTERS_SHARE)
    return make_exercise(
        skill,
        draw.rng,
        held_out=draw.held_out,
        working=working,
        random_letters=random_letters,
        size=size,
    )


def _parted(exercise: Exercise) -> tuple[str, list[Message]]:
    """The system message's text, and the turns with the reply."""
    turns = [*exercise.messages, Message("assistant", exercise.reply)]
    return (turns[0].content, turns[1:]) if turns[0].role == "system" else ("", turns)


@cache
def _primer_turns() -> list[list[Message]]:
    return [turns for turns in primer_conversations() if turns[0].role != "system"]

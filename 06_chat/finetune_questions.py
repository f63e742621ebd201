"""Questions that a finetuning stage asks its model, and the pairs that come of the answers."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

from shared.chat.attempts import sample_groups
from shared.chat.pairs import Pair, own_pairs, read_pairs
from shared.chat.sampling import SamplingSettings
from shared.errors import UserError
from shared.files import atomic_file
from shared.text.drills import SKILLS, make_exercise
from shared.text.exercise import Exercise
from shared.text.transcript import Message, render_prompt
from shared.training.run import Run

HAND_PAIRS = Path(__file__).with_name("preferences.txt")
PAIRS_FILE = "pairs.json"
TRIES = 8  # replies to each question when the model makes pairs of its own
AT_ONCE = 16  # questions
DRAWS = 1000  # for a question that fits the context
WORKING_SHARE = 0.9


def asked(skills: Sequence[str], others: float, longest: int, rng: random.Random) -> Exercise:
    """An exercise of one of the skills, about operands that training may have.

    Args:
        others: the share of exercises that are of any other skill, if there is one.
        longest: bytes that question and right reply may have together.

    Raises:
        UserError: so short a one was not among a thousand.
    """
    for _ in range(DRAWS):
        exercise = drawn(skills, others, rng)
        if len(f"{render_prompt(exercise.messages)}{exercise.reply}".encode()) <= longest:
            return exercise
    raise UserError(
        f"none of {DRAWS:,} questions has room in {longest} bytes: take another --skill, or a "
        "model with a longer context"
    )


def drawn(skills: Sequence[str], others: float, rng: random.Random) -> Exercise:
    """An exercise of any length."""
    rest = [skill for skill in SKILLS if skill not in skills]
    among = rest if rest and rng.random() < others else skills
    skill = among[int(rng.random() * len(among))]
    working, random_letters = rng.random() < WORKING_SHARE, rng.random() < 0.3
    wishes = {"held_out": False, "working": working, "random_letters": random_letters}
    return make_exercise(skill, rng, **wishes)


def pairs_of(
    run: Run,
    skills: Sequence[str],
    questions: int,
    by_hand: str | None,
    tell: Callable[[str], object],
) -> list[Pair]:
    """Pairs by hand, and the model's own: made once, then read from the run's folder.

    Args:
        questions: how many the model is asked for pairs of its own.
        by_hand: file of the others; none: `preferences.txt`.

    Raises:
        UserError: that file is broken or missing.
    """
    written = read_pairs(by_hand or HAND_PAIRS)
    file = run.folder / PAIRS_FILE
    if not file.is_file():
        own = sampled_pairs(run, skills, questions)
        with atomic_file(file) as place:
            place.write_text(json.dumps(own), encoding="utf-8")
    own = [
        Pair([Message(*message) for message in messages], *rest)
        for messages, *rest in json.loads(file.read_text(encoding="utf-8"))
    ]
    tell(f"{len(written)} pairs by hand, {len(own)} of its own from {questions} questions")
    return written + own


def sampled_pairs(run: Run, skills: Sequence[str], questions: int) -> list[Pair]:
    """Of a question's replies one that the verifier takes, and one that it does not."""
    rng = random.Random(run.config.seed)
    longest = run.model.config.context_length - 1  # the end of the reply takes a place
    exercises = [asked(skills, 0.0, longest, rng) for _ in range(questions)]
    settings = SamplingSettings(1.0, 0, 1.0, 1.0, 120, run.config.seed)
    groups = []
    for first in range(0, questions, AT_ONCE):
        some = exercises[first : first + AT_ONCE]
        groups += sample_groups(run.model.eval(), run.tokenizer, some, TRIES, settings)
    return own_pairs(exercises, groups)

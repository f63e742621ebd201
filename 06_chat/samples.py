"""What a model says, good and bad: always the same questions, no reply picked by hand.

python 06_chat/samples.py 05_full_run/published
python 06_chat/samples.py RUN --seed 1 --out FOLDER
"""

import shlex
import sys
from argparse import ArgumentParser

from exam import ask_model, examine
from exam_marks import Mark
from exam_questions import WORKING, Question, asked, sizes_of

from shared.chat.batch_generation import reply_batch
from shared.chat.sampling import SamplingSettings
from shared.errors import one_line_errors
from shared.files import atomic_file, make_folder, user_path
from shared.model.transformer import Transformer
from shared.privacy import without_folders
from shared.text.drills import SKILLS
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.sampler import continue_text

PAGE_FILE = "samples.md"
DRILLS = 20
LONGEST = 200  # bytes of a reply, and of what follows a beginning
# The last five are outside of what primer and drills tell: nothing true can be said there.
CHATS = (
    ("hello",),
    ("what are you?",),
    ("how does attention work?",),
    ("tell me a story",),
    ("do you like music?",),
    ("my boat is called Otter", "what is my boat called?"),
    ("what is 385+279?",),
    ("who wrote Hamlet?",),
    ("which planet is the largest?",),
    ("how many bones has a horse?",),
    ("in which year was Madrid founded?",),
    ("why is the sea salty?",),
)
BEGINNINGS = ("Once upon a time there was a", "The king looked at", "The Moon is", "A violin")


def main(arguments: list[str]) -> None:
    """Parses the command line, asks everything, prints the page, and writes it if told where."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("model", help="a run, a checkpoint or a published folder")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument("--temperature", type=float, default=0.7, help="of what is drawn")
    parser.add_argument("--out", metavar="FOLDER", help=f"write {PAGE_FILE} there, too")
    options = parser.parse_args(arguments)
    model, tokenizer = load_model(find_checkpoint(options.model))
    settings = SamplingSettings(options.temperature, max_new_bytes=LONGEST, seed=options.seed)
    command = shlex.join(["python", "06_chat/samples.py", *without_folders(arguments)])
    told = page(model, tokenizer, settings, command)
    print(told)
    if options.out:
        make_folder(user_path(options.out))
        with atomic_file(user_path(options.out) / PAGE_FILE) as partial:
            partial.write_text(told, encoding="utf-8")


def page(model: Transformer, tokenizer: Tokenizer, settings: SamplingSettings, command: str) -> str:
    """Conversations, continued beginnings and marked drills, in Markdown."""
    about = f"`{command}`: drawn at temperature {settings.temperature:g}, seed {settings.seed}."
    marks = examine(twenty_drills(), lambda *part: ask_model(model, tokenizer, *part), tell=int)
    right = sum(mark.right for mark in marks)
    drills = f"Twenty held-out drills, greedy: {right} right."
    parts = ["# Samples", about, *map(fenced, conversations(model, tokenizer, settings))]
    parts += map(fenced, continued(model, tokenizer, settings))
    parts += [drills, *map(fenced, map(told_mark, marks))]
    return "\n\n".join(parts) + "\n"


def conversations(
    model: Transformer, tokenizer: Tokenizer, settings: SamplingSettings
) -> list[str]:
    """Each of `CHATS` with the model's replies, a line a turn."""
    talks: list[list[Message]] = [[] for _ in CHATS]
    for turn in range(max(map(len, CHATS))):
        going = [n for n, chat in enumerate(CHATS) if turn < len(chat)]
        for n in going:
            talks[n].append(Message("user", CHATS[n][turn]))
        replies = reply_batch(model, tokenizer, [talks[n] for n in going], settings)
        for n, reply in zip(going, replies, strict=True):
            talks[n].append(Message("assistant", reply.text))
    return ["\n".join(f"{role}: {content}" for role, content in talk) for talk in talks]


def continued(model: Transformer, tokenizer: Tokenizer, settings: SamplingSettings) -> list[str]:
    """Each of `BEGINNINGS` with what the model writes after it."""
    told = []
    for beginning in BEGINNINGS:
        ids = [tokenizer.end_of_text, *tokenizer.encode(beginning).tolist()]
        ids = continue_text(model, ids, LONGEST, settings.temperature, seed=settings.seed)
        told.append(tokenizer.decode(ids[1:]))
    return told


def twenty_drills() -> list[Question]:
    """Held-out questions with working: one of each skill that can hold out, then of the first."""
    can_hold_out = {skill: sizes for skill in SKILLS if (sizes := sizes_of(skill, closed=False))}
    two_each = list(asked(can_hold_out, WORKING, 2))
    return [*two_each[::2], *two_each[1::2]][:DRILLS]


def told_mark(mark: Mark) -> str:
    """The question's turns, the reply, and whether it is right."""
    turns = [f"{role}: {content}" for role, content in mark.question.exercise.messages]
    wanted = "right" if mark.right else f"wrong, wanted: {mark.question.exercise.reply}"
    return "\n".join([*turns, f"assistant: {mark.reply.text}", f"({wanted})"])


def fenced(text: str) -> str:
    """As a block that shows each character as it is, and that no reply can leave."""
    return f"```text\n{text.replace('```', chr(39) * 3)}\n```"


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

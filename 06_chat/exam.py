"""Examines trained models: what can they do? Every model gets the same questions.

python 06_chat/exam.py
python 06_chat/exam.py RUN ANOTHER_RUN --out FOLDER
python 06_chat/exam.py RUN --show 5
"""

import shlex
import sys
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path

from exam_facts import facts_of, run_folder
from exam_ledger import FIGURE_FILE, Entry, rich_table, write_ledger
from exam_marks import LONGEST_PIECE, TIMES, Mark, mark
from exam_questions import Question, frozen_questions
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.chat.batch_generation import Reply, reply_batch
from shared.chat.sampling import SamplingSettings
from shared.device import pick_device
from shared.errors import UserError, one_line_errors
from shared.files import make_folder, user_path
from shared.model.transformer import Transformer
from shared.privacy import without_folders
from shared.text.token_file import data_folder
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message, render
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint

FULL_RUN = Path(__file__).resolve().parents[1] / "05_full_run"
QUICK_RUN, DATA = FULL_RUN / "runs" / "quick", data_folder(FULL_RUN / "data")
TO_END = 16  # bytes beyond the longest right reply of a part: enough to end it
LEAST = LONGEST_PIECE * TIMES  # bytes that a loop needs to be seen as one

Ask = Callable[[Sequence[list[Message]], int, Callable[[int], object]], list[Reply]]
"""conversations, the most bytes of a reply, whom to tell when one is done -> replies"""

console = Console(highlight=False, markup=False, emoji=False)


def main(arguments: list[str]) -> None:
    """Parses the command line, examines every model, prints and writes the ledger."""
    parser = ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    runs_help = "runs, checkpoints or published models; none: the quick run"
    parser.add_argument("runs", nargs="*", default=[str(QUICK_RUN)], metavar="RUN", help=runs_help)
    parser.add_argument("--out", help="folder of ledger.md and its figure; none: the first run's")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print N failures a skill")
    parser.add_argument("--device", default="auto", help="cuda, mps or cpu")
    options = parser.parse_args(arguments)
    if options.show < 0:
        raise UserError(f"--show is {options.show}; expected 0 or more failures a skill")
    names = names_of(options.runs)
    checkpoints = [find_checkpoint(run) for run in options.runs]
    out = user_path(options.out) if options.out else run_folder(checkpoints[0])
    make_folder(out)
    command = shlex.join(["python", "06_chat/exam.py", *without_folders(arguments)])
    begun, questions, entries = time.monotonic(), frozen_questions(), []
    with progress_bar(len(questions) * len(names)) as show:
        for name, checkpoint in zip(names, checkpoints, strict=True):
            model, tokenizer = load_model(checkpoint, pick_device(options.device))
            ask = partial(ask_model, model, tokenizer)
            marks = examine(questions, ask, partial(show, name))
            facts = facts_of(checkpoint, model, tokenizer, DATA)
            entries.append(Entry(name, marks, facts))
            page = write_ledger(entries, out, command)  # the next model may be broken
    console.print(rich_table(entries))
    for entry in entries:
        print_failures(entry, options.show)
    seconds = time.monotonic() - begun
    console.print(f"{seconds:.0f} s; see {page} and {FIGURE_FILE} beside it", soft_wrap=True)


def names_of(runs: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart: `quick`, or `a/quick`, `b/quick`.

    Raises:
        UserError: one is named twice.
    """
    places = [user_path(run).resolve().parts for run in runs]
    for length in range(1, max(map(len, places)) + 1):
        names = ["/".join(parts[-length:]) for parts in places]
        if len(set(names)) == len(names):
            return names
    raise UserError(f"a run is named twice: {', '.join(runs)}. Name each one once")


def examine(questions: Sequence[Question], ask: Ask, tell: Callable[[int], object]) -> list[Mark]:
    """Puts every question to one model, part by part, and marks its replies."""
    marks = []
    for _, part in groupby(questions, key=lambda question: question.part):
        group = list(part)
        conversations = [question.exercise.messages for question in group]
        longest = max(len(question.exercise.reply.encode()) for question in group)
        replies = ask(conversations, max(LEAST, longest + TO_END), tell)
        marks += [mark(question, reply) for question, reply in zip(group, replies, strict=True)]
    return marks


def ask_model(
    model: Transformer,
    tokenizer: Tokenizer,
    conversations: Sequence[list[Message]],
    most_bytes: int,
    tell: Callable[[int], object],
) -> list[Reply]:
    """The model's greedy replies."""
    settings = SamplingSettings(temperature=0, max_new_bytes=most_bytes)
    return reply_batch(model, tokenizer, conversations, settings, on_done=tell)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str, int], None]]:
    """A bar over all questions of all models; yields what moves it on by one, with a name."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total)

        def show(name: str, question: int) -> None:
            progress.update(task, advance=1, description=name)

        yield show


def print_failures(entry: Entry, most: int) -> None:
    """The first wrong replies of each skill: what was asked, wanted, and got."""
    wrong: dict[str, list[Mark]] = defaultdict(list)
    for each in entry.marks:
        if not each.right:
            wrong[each.question.exercise.skill].append(each)
    for skill, marks in wrong.items() if most else ():
        console.print(f"\n{entry.name} · {skill} · {len(marks)} wrong replies")
        for each in marks[:most]:
            exercise = each.question.exercise
            console.print(f"  {render(exercise.messages)!r}", soft_wrap=True)
            console.print(f"    wanted {exercise.reply!r}", soft_wrap=True)
            console.print(f"    got    {each.reply.text!r}", soft_wrap=True)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

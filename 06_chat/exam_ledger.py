"""The ledger: what each model can do, as one table, a page, and a figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from exam_marks import Line, Mark, Share, other_lines, skill_lines
from exam_questions import ANSWER, CLOSED, FORMAT, IN_A_ROW, PHRASINGS, RANDOM, WORKING, digest
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from shared.files import atomic_file

PAGE_FILE, FIGURE_FILE = "ledger.md", "ledger.png"
COLUMNS = (WORKING, ANSWER, PHRASINGS, RANDOM, IN_A_ROW, CLOSED)
HOW_TO_READ = """\
Percentages; in brackets 95 % intervals (Wilson): how far off chance may be with so many
questions. Replies are greedy. No drill in training is about the words, names and pairs of
numbers asked about here; only closed tables and the primer are asked as they were learned. An
empty reply is wrong, and so is one with a word too many, or without an end. A loop is a reply
without an end whose last 1 to 20 bytes stand there three times in a row. "Recites the primer":
asked what nobody told it, it begins as the primer does where it answers something else. That,
"knows, but says it does not", loops and bits a byte should be low, all else high.
"""


@dataclass(frozen=True)
class Entry:
    """One model: its name, its marks, and facts that no question tells."""

    name: str
    marks: list[Mark]
    facts: dict[str, str]


def table_rows(entries: Sequence[Entry]) -> list[list[str]]:
    """The cells of the table, the names first; a column a model."""
    rows = [["", *(entry.name for entry in entries)]]
    for line in [*skill_lines(), *other_lines()]:
        shares = [line.share(entry.marks) for entry in entries]
        if shares[0].asked:
            rows.append([line.name, *map(cell, shares)])
    for fact in entries[0].facts:
        rows.append([fact, *(entry.facts[fact] for entry in entries)])
    return rows


def cell(share: Share) -> str:
    """`97.7 (95.3–98.9)`."""
    low, high = share.interval
    return f"{share.percent:.1f} ({low:.1f}–{high:.1f})"


def rich_table(entries: Sequence[Entry]) -> Table:
    """The table for a terminal."""
    head, *rows = table_rows(entries)
    table = Table(head[0], *head[1:], box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    return table


def skill_rows(entry: Entry) -> list[list[str]]:
    """The cells of one model's own table: a line a skill, a column a part, then size by size."""
    rows = [["", *COLUMNS, f"{WORKING}, by size"]]
    columns = [skill_lines(part) for part in COLUMNS]
    for lines in zip(*columns, strict=True):
        shares = [line.share(entry.marks) for line in lines]
        parts = [f"{share.percent:.0f}" if share.asked else "" for share in shares]
        rows.append([lines[0].name, *parts, " · ".join(by_size(lines[0], entry.marks))])
    return rows


def by_size(line: Line, marks: Sequence[Mark]) -> Iterator[str]:
    """`3: 100`, for each size that a line has questions of."""
    about = [mark for mark in marks if line.about(mark.question)]
    for size in sorted({mark.question.exercise.size for mark in about}):
        share = line.share(mark for mark in about if mark.question.exercise.size == size)
        yield f"{size}: {share.percent:.0f}"


def page(entries: Sequence[Entry], command: str) -> str:
    """The ledger in Markdown."""
    questions = [mark.question for mark in entries[0].marks]
    asked = f"{len(questions):,} questions, format {FORMAT}, digest `{digest(questions)}`"
    parts = ["# Ledger", f"{asked}. Tables with another digest cannot be compared.", f"`{command}`"]
    parts += [markdown(table_rows(entries)), HOW_TO_READ.strip()]
    for entry in entries:
        parts += [f"## {entry.name}, skill by skill", markdown(skill_rows(entry))]
    return "\n\n".join(parts) + "\n"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table whose first row is its head."""
    head, *rest = rows
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rest]
    cells = [[text.replace("|", "/") for text in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def draw(entries: Sequence[Entry], path: Path) -> Path:
    """Each skill's share and interval, a colour a model, the first skill on top."""
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    axes = figure.subplots()
    lines = [line for line in skill_lines() if line.share(entries[0].marks).asked]
    for number, entry in enumerate(entries, start=1):
        shares = [line.share(entry.marks) for line in lines]
        percents = np.array([share.percent for share in shares])
        ends = np.array([share.interval for share in shares])  # (skills, 2)
        heights = np.arange(len(lines)) + 0.6 * number / (len(entries) + 1) - 0.3
        reach = np.abs(ends.T - percents)
        axes.errorbar(percents, heights, xerr=reach, fmt="o", capsize=3, label=entry.name)
    axes.set_yticks(range(len(lines)), [line.name for line in lines])
    axes.invert_yaxis()
    axes.set(xlim=(-2, 102), xlabel="% right on held-out operands, with working; 95 % intervals")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=4)
    with atomic_file(path) as partial:
        figure.savefig(partial, dpi=110)
    return path


def write_ledger(entries: Sequence[Entry], folder: Path, command: str) -> Path:
    """Writes page and figure into a folder; returns the page's path."""
    with atomic_file(folder / PAGE_FILE) as partial:
        partial.write_text(page(entries, command), encoding="utf-8")
    draw(entries, folder / FIGURE_FILE)
    return folder / PAGE_FILE

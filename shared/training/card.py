"""Model card: what a trained model is, what it learned from, how well, and what it says.

Promoted by 05_full_run.
"""

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from shared.device import device_label, dtype_name
from shared.files import atomic_file
from shared.text.text_spans import SPAN
from shared.training.loss_history import told_snapshots
from shared.training.run import Run
from shared.training.validation import Scores, shown

CARD_FILE = "card.md"


@dataclass(frozen=True)
class Outcome:
    """What came out of a run."""

    command: str
    """the command line that trained it"""
    scores: list[Scores]
    """of each corpus that has validation text"""
    tokens: int
    """training targets seen"""
    seconds: float
    """what it all took, without measuring the yardsticks"""
    samples: list[tuple[str, str]]
    """prompts and what the model wrote after them"""


def write_card(run: Run, outcome: Outcome) -> Path:
    """Writes `card.md` into the run's folder; returns its path.

    It names corpora and their hashes, and never a word of their text or a folder
    of its owner's.
    """
    sections = ["# Model card", _facts(run, outcome), "## Data", _data(run), "## Validation"]
    sections += [_validation(outcome), "## Samples", _samples(outcome)]
    if snapshots := told_snapshots(run.folder):
        sections += ["## Snapshots", _snapshots(snapshots)]
    sections += ["## Limits", LIMITS]
    with atomic_file(run.folder / CARD_FILE) as partial:
        partial.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
    return run.folder / CARD_FILE


def trained_steps(folder: Path) -> int | None:
    """The steps that the card in a run's folder tells of; None if there is no card."""
    if not (folder / CARD_FILE).is_file():
        return None
    told = re.search(
        r"\| trained \| ([\d,]+) steps", (folder / CARD_FILE).read_text(encoding="utf-8")
    )
    return int(told[1].replace(",", "")) if told else None


LIMITS = (
    "This is a tiny model. It has learned how its text looks far better than what is true. "
    "It invents facts, it cannot look anything up, and nobody has tuned it to be safe. "
    "Use it to learn how language models work."
)

LEARNED = {1.0: "all", 0.0: "replies alone"}

CUT = (
    " This corpus is large: only the first figure is of all its validation text, the others are "
    "of its first MB, with the first 4 MB of training text for those that learn from it."
)


def _facts(run: Run, outcome: Outcome) -> str:
    model = run.model.config
    device = device_label(run.device)
    rows = [
        ("parameters", f"{run.model.count_parameters():,}"),
        ("layers, width, heads", f"{model.n_layers}, {model.d_model}, {model.n_heads}"),
        ("context", f"{model.context_length} tokens ({run.tokenizer.kind})"),
        *([("began with", Path(run.config.init).name)] if run.config.init else []),
        ("trained", f"{run.budget.step:,} steps, {outcome.tokens:,} tokens"),
        ("time", f"{outcome.seconds:,.0f} s on {device} in {dtype_name(run.precision.dtype)}"),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("versions", f"Python {platform.python_version()}, torch {torch.__version__}"),
        ("seed", str(run.config.seed)),
        ("command", f"`{outcome.command}`"),
    ]
    return _table(("", ""), rows)


def _data(run: Run) -> str:
    rows = []
    for corpus in run.corpora:
        manifest = corpus.manifest
        sizes = [f"{manifest['bytes'][split]:,}" for split in ("train", "validation")]
        digest = manifest["sha256"]["train"][:16]
        learned = LEARNED.get(corpus.source.questions, "replies, some questions")
        rows.append((corpus.name, f"{corpus.source.weight:g}", learned, *sizes, f"`{digest}`"))
    head = ("corpus", "weight", "learned", "training bytes", "validation bytes", "sha256")
    return _table(head, rows)


def _validation(outcome: Outcome) -> str:
    if not outcome.scores:
        return "No validation text."
    return "\n\n".join(_scored(scores) for scores in outcome.scores)


def _scored(scores: Scores) -> str:
    rows = [(who, shown(bits)) for who, bits in scores.figures.items()]
    table = _table((scores.corpus, "bits per byte"), rows)
    if scores.repeated is None:
        return table
    said = (
        f"{scores.repeated:.1%} of the validation bytes stand in training text too, in spans of "
        f'{SPAN} bytes or more; "without repeats" leaves them out. The yardsticks below the model '
        "read the training text of this corpus first."
    )
    return table + "\n\n" + said + CUT * scores.cut


def _samples(outcome: Outcome) -> str:
    return "\n\n".join(f"```text\n{prompt}{text}\n```" for prompt, text in outcome.samples)


def _snapshots(snapshots: list[dict[str, Any]]) -> str:
    rows = [
        (f"{one['step']:,}", f"{one['bytes']:,}", f"{one['bits_per_byte']:.2f}")
        for one in snapshots
        if None not in one.values()
    ]
    return _table(("step", "bytes read", "training, bits a byte"), rows)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)

"""Facts that no question tells: a model's size, its training, and its bits a byte on text."""

import json
import math
import re
from pathlib import Path

from shared.model.transformer import Transformer
from shared.text.batches import evaluation_batches
from shared.text.sources import Source
from shared.text.token_file import load_corpus
from shared.text.tokenizer_file import Tokenizer
from shared.training.card import CARD_FILE
from shared.training.checkpoint import RUN_FILE
from shared.training.checkpoint_folder import step_of
from shared.training.loss import bits_per_byte, evaluate
from shared.training.run_config import DataConfig
from shared.training.run_log import read_metrics
from shared.training.validation import shown

PYTHON_DOCS = "python-docs"
WINDOWS = 16  # that go through the model together
UNTOLD = "–"


def facts_of(
    checkpoint: Path, model: Transformer, tokenizer: Tokenizer, data_folder: Path
) -> dict[str, str]:
    """What to tell of a model beside its marks, by name; a dash where its folder does not say.

    Python's docs are measured here. Bits a byte on text of its own are those that its log
    holds: such text may be private, huge, or on another machine.
    """
    return {
        "parameters": f"{model.count_parameters():,}",
        **(training_in_log(checkpoint) or training_in_card(checkpoint, tokenizer)),
        "bits a byte, python-docs": python_docs_bits(checkpoint, model, tokenizer, data_folder),
        "bits a byte, own text": own_bits(checkpoint),
    }


def run_folder(checkpoint: Path) -> Path:
    """Where the log and the card of a checkpoint are; a published model has its card beside it."""
    return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint


def log_of(checkpoint: Path) -> list[dict]:
    """What the run had logged when it saved this checkpoint."""
    folder = run_folder(checkpoint)
    if folder == checkpoint:
        return []
    return [entry for entry in read_metrics(folder) if entry["step"] <= step_of(checkpoint)]


def training_in_log(checkpoint: Path) -> dict[str, str]:
    """Seconds and bytes of training up to this checkpoint; nothing if there is no log."""
    steps = [entry for entry in log_of(checkpoint) if "loss" in entry]
    if not steps:
        return {}
    # The log has each step's loss both in nats a token and in bits a byte.
    read = sum(
        entry["tokens"] * entry["loss"] / math.log(2) / entry["bits_per_byte"] for entry in steps
    )
    return training(f"{steps[-1]['seconds']:,.0f}", f"{read:,.0f}")


def training_in_card(checkpoint: Path, tokenizer: Tokenizer) -> dict[str, str]:
    """The same from a card, which knows bytes only where each is a token."""
    card = run_folder(checkpoint) / CARD_FILE
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    seconds = re.search(r"\| time \| ([\d,]+) s ", text)
    tokens = re.search(r"\| trained \| .* ([\d,]+) tokens \|", text)
    known = tokens and tokenizer.kind == "bytes"
    return training(seconds[1] if seconds else UNTOLD, tokens[1] if known else UNTOLD)


def training(seconds: str, read: str) -> dict[str, str]:
    """Both under the names they have in the table."""
    return {"seconds of training": seconds, "bytes of training": read}


def python_docs_bits(
    checkpoint: Path, model: Transformer, tokenizer: Tokenizer, data_folder: Path
) -> str:
    """Bits a byte on the part of Python's docs that the run has held back, or would have."""
    fraction = DataConfig().valid_fraction
    if (checkpoint / RUN_FILE).is_file():
        saved = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8")).get("data", {})
        fraction = saved.get("valid_fraction", fraction)
    corpus = load_corpus(Source(PYTHON_DOCS), data_folder, tokenizer, fraction)
    if not len(corpus.validation):
        return UNTOLD
    windows = evaluation_batches(corpus.validation, WINDOWS, model.config.context_length)
    device = next(model.parameters()).device
    nats = evaluate(model, windows, device).double().mean().item()
    return shown(bits_per_byte(nats, corpus.bytes_per_token))


def own_bits(checkpoint: Path) -> str:
    """Bits a byte on the run's other validation text, as its log has them at this checkpoint."""
    scores = [entry["validation"] for entry in log_of(checkpoint) if entry.get("validation")]
    own = {name: bits for name, bits in scores[-1].items() if name != PYTHON_DOCS} if scores else {}
    return ", ".join(f"{name} {shown(bits)}" for name, bits in own.items()) or UNTOLD

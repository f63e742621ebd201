"""A run as `full_run.py` leaves it, with a secret in its text and on its card."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from shared.model.transformer import Transformer
from shared.text.sources import Source
from shared.text.token_file import load_corpus
from shared.training.checkpoint import save_checkpoint
from shared.training.run_config import DataConfig
from shared.training.run_log import append_metrics
from shared.training.snapshots import Snapshots

SECRET = "The treasure lies under the third oak behind the old mill, forty paces to the north. "


def finished_run(folder: Path, model: Transformer, tokenizer, notes: bytes = b"") -> Path:
    """A run on the primer, and on notes if there are any, as `full_run.py` leaves it."""
    data = DataConfig([Source("primer")])
    if notes:
        (folder / "notes").mkdir(parents=True)
        (folder / "notes" / "secret.md").write_bytes(notes)
        data = DataConfig([Source("primer")], path=str(folder / "notes"))
    hashes = {}
    for source in data.all_sources():
        corpus = load_corpus(source, folder / "data", tokenizer, data.valid_fraction)
        hashes[corpus.name] = corpus.manifest["sha256"]["train"]
    config = {"data": asdict(data), "corpora": hashes}
    save_checkpoint(folder / "run" / "checkpoints", 1, model, tokenizer, config, {})
    (folder / "run" / "card.md").write_text(
        f"# A model\n\n```text\n{SECRET}\n```\n", encoding="utf-8"
    )
    return folder / "run"


def keep_snapshots(run: Path, models: Sequence[Transformer], tokenizer) -> None:
    """The models as snapshots of the steps 1, 10, 100, ..., and a log with a loss that falls."""
    snapshots = Snapshots(run, len(models))
    for n, model in enumerate(models):
        snapshots.keep(10**n, model, tokenizer, print)
    for step in range(1, 10 ** (len(models) - 1) + 1):
        bits = 8 - math.log10(step)
        entry = {"step": step, "loss": bits * math.log(2), "bits_per_byte": bits, "tokens": 64}
        append_metrics(run, entry)

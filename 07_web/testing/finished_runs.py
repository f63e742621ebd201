"""A run as `full_run.py` leaves it, with a secret in its text and on its card."""

from dataclasses import asdict
from pathlib import Path

from shared.model.transformer import Transformer
from shared.text.sources import Source
from shared.text.token_file import load_corpus
from shared.training.checkpoint import save_checkpoint
from shared.training.run_config import DataConfig

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
    (folder / "run" / "card.md").write_text(f"# A model\n\n```text\n{SECRET}\n```\n")
    return folder / "run"

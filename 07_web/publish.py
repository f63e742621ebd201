"""Gathers what may be published of a run: weights, sizes, tokenizer, curves, card. Never text.

    python 07_web/publish.py 05_full_run/runs/quick --out ~/my-model
    python 07_web/publish.py RUN --snapshots --out ~/my-model
    python 07_web/publish.py RUN --adapter RUN-sft/adapter.safetensors --out ~/my-character

Every file is compared with the text the model was trained on. A sample in the card
that repeats 64 bytes of it is left out; any other file that does is refused. Snapshots are
weights too, of earlier steps: they go along where they are asked for.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

from rich.console import Console
from safetensors import SafetensorError
from training_text import decoder, refuse_training_text, repeated, training_corpora

from shared.chat.adapter_file import read_adapter, with_adapter
from shared.errors import UserError, one_line_errors
from shared.files import atomic_folder, user_path
from shared.model.transformer import Transformer
from shared.model.weights import CONFIG_FILE, WEIGHTS_FILE, load_weights, save_weights
from shared.text.bpe import BPETokenizer
from shared.text.token_file import Corpus, data_folder
from shared.text.tokenizer_file import Tokenizer, load_tokenizer
from shared.training.card import CARD_FILE
from shared.training.checkpoint import TOKENIZER_FILE
from shared.training.checkpoint_folder import SUMS_FILE, find_checkpoint, sha256
from shared.training.loss_history import short_log
from shared.training.run_log import CURVES_FILE, append_metrics
from shared.training.snapshots import FOLDER, list_snapshots

FULL_RUN = Path(__file__).resolve().parents[1] / "05_full_run"
QUICK_RUN, DATA = FULL_RUN / "runs" / "quick", data_folder(FULL_RUN / "data")
# Line ends differ between systems, and U+FFFD stands for bytes that are no UTF-8.
CHANGED_BY_SHOWING = re.compile("\r|\ufffd".encode())
LEFT_OUT = "(A sample stood here that repeated training text word for word. It was left out.)"
MERGED = (
    "An adapter is merged into these weights: `{name}`, rank {rank}, sha256 `{digest}`. "
    "All figures, curves and samples on this card are those of the run without it."
)

console = Console(highlight=False, markup=False, emoji=False)


def main(arguments: list[str]) -> None:
    """Parses the command line and publishes into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default=str(QUICK_RUN), help="a finished run's folder")
    parser.add_argument("--adapter", metavar="FILE", help="what LoRA has learned; it is merged in")
    parser.add_argument("--snapshots", action="store_true", help="with those of earlier steps")
    parser.add_argument("--out", required=True, help="the folder to make; it must not exist yet")
    options = parser.parse_args(arguments)
    run, out = user_path(options.run), user_path(options.out)
    if out.exists():
        raise UserError(f"{out} exists already: name a folder that does not")
    adapter = None if options.adapter is None else user_path(options.adapter)
    for name in publish(run, out, DATA, adapter, options.snapshots):
        console.print(f"{name:28} {(out / name).stat().st_size:12,} bytes")
    closing = f"{out} holds all that may be published; look at {CARD_FILE} before you do."
    if learned := learned_tokens(load_tokenizer(out / TOKENIZER_FILE)):
        closing += (
            f" {TOKENIZER_FILE} holds {learned:,} tokens learned from text: "
            "words and pieces of words that stand at least twice in it."
        )
    console.print(closing)


def publish(
    run: Path,
    out: Path,
    data_folder: Path,
    adapter: Path | None = None,
    with_snapshots: bool = False,
) -> list[str]:
    """Makes `out` from a run, with an adapter or without; returns the names of its files.

    Raises:
        UserError: the run is not finished, its text cannot be compared, or a file holds
            some of it; or the adapter is missing or another model's. Then nothing is made.
    """
    if adapter and with_snapshots:
        raise UserError("snapshots are of the run without an adapter: publish one or the other")
    checkpoint = find_checkpoint(run)
    if not (run / CARD_FILE).is_file():
        raise UserError(f"{run} has no {CARD_FILE}: let the run finish first (--resume)")
    tokenizer = load_tokenizer(checkpoint / TOKENIZER_FILE)
    merged = with_adapter(load_weights(checkpoint), adapter) if adapter else None
    corpora = training_corpora(checkpoint, data_folder, tokenizer)
    with atomic_folder(out) as place:
        for file in (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE):
            shutil.copyfile(checkpoint / file, place / file)
        if merged:
            write_model(merged, place)
        if with_snapshots:
            copy_snapshots(run, place)
        if (run / CURVES_FILE).is_file():
            shutil.copyfile(run / CURVES_FILE, place / CURVES_FILE)
        card = (run / CARD_FILE).read_bytes()
        if adapter:
            card = told_merged(card, adapter)
        (place / CARD_FILE).write_bytes(clean_card(card, corpora, tokenizer))
        files = sorted(path for path in place.rglob("*") if path.is_file())
        for file in files:
            refuse_training_text(file, corpora, tokenizer)
        seal(place, [file for file in files if file.name not in (CARD_FILE, CURVES_FILE)])
        return [file.relative_to(place).as_posix() for file in sorted([*files, place / SUMS_FILE])]


def seal(place: Path, files: list[Path]) -> None:
    """Writes the files' checksums: while they hold, the folder is the one that was compared."""
    sums = {file.relative_to(place).as_posix(): sha256(file) for file in files}
    (place / SUMS_FILE).write_text(json.dumps(sums, indent=2), encoding="utf-8")


def copy_snapshots(run: Path, place: Path) -> None:
    """Copies a run's snapshots, as far as it has some, and so much of its log as tells of them."""
    (place / FOLDER).mkdir()
    for file in list_snapshots(run):
        shutil.copyfile(file, place / FOLDER / file.name)
    for entry in short_log(run):
        append_metrics(place, entry)


def write_model(model: Transformer, folder: Path) -> None:
    """Puts the model in the place of the one in the folder.

    Raises:
        UserError: the disk refuses.
    """
    try:
        save_weights(model, folder)
    except SafetensorError as error:  # how that library says "disk full"
        raise UserError(f"cannot write {folder}: {error}") from error


def told_merged(card: bytes, adapter: Path) -> bytes:
    """The card with a line below its title that names the adapter."""
    digest = sha256(adapter)[:16]
    told = MERGED.format(name=adapter.name, rank=read_adapter(adapter).rank, digest=digest)
    title, newline, rest = card.partition(b"\n")
    return title + b"\n\n" + told.encode(errors="replace") + newline + rest


def learned_tokens(tokenizer: Tokenizer) -> int:
    """How many tokens of our own BPE were learned; 0 for the bytes and for others' tokenizers."""
    if tokenizer.kind != BPETokenizer.kind or tokenizer.byte_ids != list(range(256)):
        return 0  # only our own training numbers the bytes 0 to 255
    return len(tokenizer.merges)


def clean_card(card: bytes, corpora: list[Corpus], tokenizer: Tokenizer) -> bytes:
    """The card without the samples that repeat training text, or what is left of it when shown."""

    def as_shown(ids: list[int]) -> bytes:
        return tokenizer.decode(ids).replace("\r", "").encode()

    def checked(block: re.Match[bytes]) -> bytes:
        found = repeated(block[0], corpora, decoder(tokenizer))
        if not found and CHANGED_BY_SHOWING.search(block[0]):
            found = repeated(block[0].replace(b"\r", b""), corpora, as_shown)
        return LEFT_OUT.encode() if found else block[0]

    return re.sub(rb"^```text\r?\n.*?\n```\r?$", checked, card, flags=re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

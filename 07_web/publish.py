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
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from safetensors import SafetensorError

from shared.chat.adapter_file import read_adapter, with_adapter
from shared.errors import UserError, one_line_errors
from shared.files import atomic_folder, user_path
from shared.model.transformer import Transformer
from shared.model.weights import CONFIG_FILE, WEIGHTS_FILE, load_weights, save_weights
from shared.text.bpe import BPETokenizer
from shared.text.drill_conversations import are_shipped_words
from shared.text.primer import is_shipped_primer
from shared.text.sources import Source
from shared.text.text_spans import SPAN, first_shared_span
from shared.text.token_file import Corpus, data_folder, load_corpus
from shared.text.tokenizer import ByteTokenizer
from shared.text.tokenizer_file import Tokenizer, load_tokenizer
from shared.training.card import CARD_FILE
from shared.training.checkpoint import RUN_FILE, TOKENIZER_FILE
from shared.training.checkpoint_folder import find_checkpoint, sha256
from shared.training.run_config import DataConfig
from shared.training.run_log import CURVES_FILE
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
        return [file.relative_to(place).as_posix() for file in files]


def copy_snapshots(run: Path, place: Path) -> None:
    """Copies a run's snapshots, as far as it has some."""
    (place / FOLDER).mkdir()
    for file in list_snapshots(run):
        shutil.copyfile(file, place / FOLDER / file.name)


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


def training_corpora(checkpoint: Path, data_folder: Path, tokenizer: Tokenizer) -> list[Corpus]:
    """The corpora a checkpoint was trained on, but for what is public with the code.

    Raises:
        UserError: they are gone or have changed, so nothing could be compared.
    """
    try:
        saved = json.loads((checkpoint / RUN_FILE).read_text(encoding="utf-8"))
        hashes = saved["corpora"]
        data = dict(saved["data"])
        data["sources"] = [Source(**source) for source in data["sources"]]
        config = DataConfig(**data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{checkpoint} does not tell what it was trained on: {error}") from error
    sources = config.all_sources()
    corpora = [load_corpus(s, data_folder, tokenizer, config.valid_fraction) for s in sources]
    for corpus in corpora:
        if hashes.get(corpus.name) != corpus.manifest["sha256"]["train"]:
            raise UserError(
                f"the text of {corpus.name} has changed since the run: nothing can be compared. "
                "Put it back, or train again"
            )
    return [corpus for corpus in corpora if not is_public(corpus.source.kind)]


def is_public(kind: str) -> bool:
    """Whether all the text of such a source stands in, or is made by, the public code."""
    if kind == "drills":
        return are_shipped_words() and is_shipped_primer()
    return kind == "primer" and is_shipped_primer()


def repeated(
    data: bytes, corpora: list[Corpus], decode: Callable[[list[int]], bytes] | None
) -> str | None:
    """The name of a corpus that `data` repeats a span of, if any."""
    for corpus in corpora:
        for ids in (corpus.train, corpus.validation):
            if first_shared_span(data, np.asarray(ids), decode) is not None:
                return corpus.name
    return None


def decoder(tokenizer: Tokenizer) -> Callable[[list[int]], bytes] | None:
    """What makes bytes of ids; None where ids are bytes."""
    return None if tokenizer.kind == ByteTokenizer.kind else tokenizer.decode_bytes


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


def refuse_training_text(file: Path, corpora: list[Corpus], tokenizer: Tokenizer) -> None:
    """Compares one file, and of a tokenizer the tokens themselves, which its file encodes.

    Raises:
        UserError: it holds a span of training text.
    """
    data = file.read_bytes()
    if file.name == TOKENIZER_FILE:
        data += all_tokens(tokenizer)
    if (name := repeated(data, corpora, decoder(tokenizer))) is not None:
        raise UserError(f"{file.name} holds {SPAN} bytes of {name}, word for word: not published")


def all_tokens(tokenizer: Tokenizer) -> bytes:
    """Every token's bytes and the special tokens' names, one after another."""
    if tokenizer.kind == ByteTokenizer.kind:
        return b""
    return b"\0".join([*tokenizer.vocabulary, *map(str.encode, tokenizer.special)])


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

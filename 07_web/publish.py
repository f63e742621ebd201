"""Gathers what may be published of a run: weights, sizes, tokenizer, curves, card. Never text.

    python 07_web/publish.py 05_full_run/runs/quick --out ~/my-model

Every file is compared with the text the model was trained on. A sample in the card
that repeats 64 bytes of it is left out; any other file that does is refused.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

from shared.errors import UserError, one_line_errors
from shared.files import atomic_folder
from shared.model.weights import CONFIG_FILE, WEIGHTS_FILE
from shared.text.bpe import BPETokenizer
from shared.text.sources import Source
from shared.text.text_spans import SPAN, first_shared_span
from shared.text.token_file import Corpus, data_folder, load_corpus
from shared.text.tokenizer import ByteTokenizer
from shared.text.tokenizer_file import Tokenizer, load_tokenizer
from shared.training.card import CARD_FILE
from shared.training.checkpoint import DEFAULT_RUN, RUN_FILE, TOKENIZER_FILE, find_checkpoint
from shared.training.run_config import DataConfig
from shared.training.run_log import CURVES_FILE

DATA = data_folder()
PUBLIC_SOURCES = ("primer",)  # its text is published already, with the code
LEFT_OUT = "(A sample stood here that repeated training text word for word. It was left out.)"

console = Console(highlight=False, markup=False, emoji=False)


def main(arguments: list[str]) -> None:
    """Parses the command line and publishes into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", default=str(DEFAULT_RUN), help="a finished run's folder")
    parser.add_argument("--out", required=True, help="the folder to make; it must not exist yet")
    options = parser.parse_args(arguments)
    run, out = Path(options.run).expanduser(), Path(options.out).expanduser()
    if out.exists():
        raise UserError(f"{out} exists already: name a folder that does not")
    for name in publish(run, out, DATA):
        console.print(f"{name:20} {(out / name).stat().st_size:12,} bytes")
    closing = f"{out} holds all that may be published; look at {CARD_FILE} before you do."
    if learned := learned_tokens(load_tokenizer(out / TOKENIZER_FILE)):
        closing += (
            f" {TOKENIZER_FILE} holds {learned:,} tokens learned from text: "
            "words and pieces of words that stand often in it."
        )
    console.print(closing)


def publish(run: Path, out: Path, data_folder: Path) -> list[str]:
    """Makes `out` from a run; returns the names of its files.

    Raises:
        UserError: the run is not finished, its text cannot be compared, or a file holds
            some of it. Then nothing is made.
    """
    checkpoint = find_checkpoint(run)
    if not (run / CARD_FILE).is_file():
        raise UserError(f"{run} has no {CARD_FILE}: let the run finish first (--resume)")
    tokenizer = load_tokenizer(checkpoint / TOKENIZER_FILE)
    corpora = training_corpora(checkpoint, data_folder, tokenizer)
    with atomic_folder(out) as place:
        for file in (WEIGHTS_FILE, CONFIG_FILE, TOKENIZER_FILE):
            shutil.copyfile(checkpoint / file, place / file)
        if (run / CURVES_FILE).is_file():
            shutil.copyfile(run / CURVES_FILE, place / CURVES_FILE)
        card = (run / CARD_FILE).read_text(encoding="utf-8")
        (place / CARD_FILE).write_text(clean_card(card, corpora, tokenizer), encoding="utf-8")
        for file in sorted(place.iterdir()):
            refuse_training_text(file, corpora, tokenizer)
        return [file.name for file in sorted(place.iterdir())]


def learned_tokens(tokenizer: Tokenizer) -> int:
    """How many tokens of our own BPE were learned; 0 for the bytes and for others' tokenizers."""
    if tokenizer.kind != BPETokenizer.kind or tokenizer.byte_ids != list(range(256)):
        return 0  # only our own training numbers the bytes 0 to 255
    return len(tokenizer.merges)


def training_corpora(checkpoint: Path, data_folder: Path, tokenizer: Tokenizer) -> list[Corpus]:
    """The corpora a checkpoint was trained on, those aside whose text is public with the code.

    Raises:
        UserError: they are gone or have changed, so nothing could be compared.
    """
    try:
        saved = json.loads((checkpoint / RUN_FILE).read_text())
        hashes, data = saved["corpora"], dict(saved["data"])
        data["sources"] = [Source(**source) for source in data["sources"]]
        config = DataConfig(**data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{checkpoint} does not tell what it was trained on: {error}") from error
    private = [s for s in config.all_sources() if s.spec not in PUBLIC_SOURCES]
    corpora = [load_corpus(s, data_folder, tokenizer, config.valid_fraction) for s in private]
    for corpus in corpora:
        if hashes.get(corpus.name) != corpus.manifest["sha256"]["train"]:
            raise UserError(
                f"the text of {corpus.name} has changed since the run: nothing can be compared. "
                "Put it back, or train again"
            )
    return corpora


def repeated(data: bytes, corpora: list[Corpus], tokenizer: Tokenizer) -> str | None:
    """The name of a corpus that `data` repeats a span of, if any."""
    decode = None if tokenizer.kind == ByteTokenizer.kind else tokenizer.decode_bytes
    for corpus in corpora:
        for ids in (corpus.train, corpus.validation):
            if first_shared_span(data, np.asarray(ids), decode) is not None:
                return corpus.name
    return None


def clean_card(card: str, corpora: list[Corpus], tokenizer: Tokenizer) -> str:
    """The card without the samples that repeat training text."""

    def checked(block: re.Match) -> str:
        return LEFT_OUT if repeated(block[0].encode(), corpora, tokenizer) else block[0]

    return re.sub(r"^```text\n.*?\n```$", checked, card, flags=re.MULTILINE | re.DOTALL)


def refuse_training_text(file: Path, corpora: list[Corpus], tokenizer: Tokenizer) -> None:
    """Compares one file.

    Raises:
        UserError: it holds a span of training text.
    """
    if (name := repeated(file.read_bytes(), corpora, tokenizer)) is not None:
        raise UserError(f"{file.name} holds {SPAN} bytes of {name}, word for word: not published")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

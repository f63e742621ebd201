"""What breaks on the way from text to batches: two changes, each with its measured effect.

    python 02_tokenizer/what_breaks_in_text.py

A minute on one core. Splits python-docs by document and at random windows, and kills processes
that are writing a token file.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from shared.files import atomic_folder
from shared.text.repeats import repeated_bytes
from shared.text.sources import Source, read_source
from shared.text.tokenizer import END_OF_TEXT

FOLDS = 8
WINDOW = 256  # ids
ORDER, STRENGTH = 5, 4  # bytes of context; how much the shorter contexts weigh
BYTE = np.uint64(8)  # bits


def main(arguments: list[str]) -> None:
    """Measures; a second process is this script, told where to write and how."""
    if len(arguments) == 2:
        write_and_be_killed(Path(arguments[0]), in_place=arguments[1] == "in place")
    documents = read_ids()
    tell_splits(documents)
    tell_kills(documents)


def read_ids() -> list[np.ndarray]:
    """Each document of python-docs as uint8 ids, (n,), closed by the end-of-text id."""
    end = bytes([END_OF_TEXT])
    texts = (each.data for each in read_source(Source("python-docs")))
    return [np.frombuffer(text + end, np.uint8) for text in texts]


def cut_into_windows(documents: list[np.ndarray]) -> list[np.ndarray]:
    """All ids in a row, cut at every `WINDOW` of them, wherever that is."""
    row = np.concatenate(documents)
    return np.split(row, range(WINDOW, len(row), WINDOW))


def folds(pieces: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ids to train on and ids held back, `FOLDS` times; each piece is held back once."""
    numbers = np.random.default_rng(0).permutation(len(pieces)) % FOLDS
    for fold in range(FOLDS):
        chosen = [piece for piece, number in zip(pieces, numbers, strict=True) if number == fold]
        others = [piece for piece, number in zip(pieces, numbers, strict=True) if number != fold]
        yield np.concatenate(others), np.concatenate(chosen)


def tell_splits(documents: list[np.ndarray]) -> None:
    """How often is a held-back byte known, and how well does a table of counts guess it?"""
    print(f"{FOLDS} parts held back in turn; bits a byte by counts of what follows {ORDER} bytes")
    for name, pieces in (
        ("by document", documents),
        (f"windows of {WINDOW}", cut_into_windows(documents)),
    ):
        known, bits, each = 0, 0.0, []
        for training, held_back in folds(pieces):
            known += repeated_bytes(held_back, [training]).sum()
            bits += (surprise := bits_after(training, held_back))
            each.append(surprise / len(held_back))
        size = sum(map(len, pieces))
        ends = f"{bits / size:.2f} bits, the parts {min(each):.2f} to {max(each):.2f}"
        print(f"  {name:16}{known / size:6.1%} known word for word, {ends}")


def bits_after(training: np.ndarray, held_back: np.ndarray) -> float:
    """Bits of `held_back` (m,) by counts of `training` (n,): contexts of 0 to `ORDER` bytes mixed.

    A longer context's count of the byte is joined to what the shorter one says, as if that had
    been counted `STRENGTH` times more.
    """
    chances = np.full(len(held_back), 1 / 256)
    for length in range(ORDER + 1):
        seen, asked = (runs(ids, length + 1) for ids in (training, held_back))
        followed = how_often(seen, asked)
        met = how_often(seen >> BYTE, asked >> BYTE)
        guess = (followed + STRENGTH * chances[length:]) / (met + STRENGTH)
        chances[length:] = guess
    return -np.log2(chances).sum()


def runs(ids: np.ndarray, width: int) -> np.ndarray:
    """Every run of `width` ids as one number: (n,) uint8 -> (n - width + 1,) uint64."""
    packed = np.zeros(len(ids) - width + 1, np.uint64)
    for shift in range(width):
        packed = packed << BYTE | ids[shift : shift + len(packed)]
    return packed


def how_often(seen: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """How often each of `asked` (m,) stands in `seen` (n,): (m,)."""
    kinds, counts = np.unique(seen, return_counts=True)
    places = np.searchsorted(kinds, asked).clip(max=len(kinds) - 1)
    return np.where(kinds[places] == asked, counts[places], 0)


def write_and_be_killed(place: Path, in_place: bool) -> None:
    """Writes documents to `place / "train.bin"`, and dies half-way as if the power had gone."""
    documents = read_ids()
    if in_place:
        place.mkdir()
        write_half(place, documents)
    with atomic_folder(place) as partial:
        write_half(partial, documents)


def write_half(folder: Path, documents: list[np.ndarray]) -> None:
    """Half of the documents, then the end of this process."""
    with open(folder / "train.bin", "wb", buffering=0) as file:
        for each in documents[: len(documents) // 2]:
            file.write(each.tobytes())
        psutil.Process().kill()


def tell_kills(documents: list[np.ndarray]) -> None:
    """What a reader finds after the kill."""
    whole = sum(map(len, documents))
    for way in ("in place", "under another name"):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "corpus"
            ended = subprocess.run([sys.executable, __file__, str(place), way], check=False)
            print(f"written {way}, killed ({ended.returncode}): {what_is_found(place, whole)}")


def what_is_found(place: Path, whole: int) -> str:
    """What opening the token file in `place` gives, and how much of it there should be."""
    try:
        ids = np.memmap(place / "train.bin", dtype=np.uint8, mode="r")
    except FileNotFoundError:
        return "no such file, so it is written anew"
    return f"opens without an error, {len(ids):,} of {whole:,} ids ({len(ids) / whole:.0%})"


if __name__ == "__main__":
    main(sys.argv[1:])

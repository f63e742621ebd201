"""A run's own tokenizer: `bpe:8192` learns 8,192 ids from the run's own training text.

It is learned once and kept beside the token files; other text or other rules give another.
Promoted by 02_tokenizer.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.text.bpe_training import LONGEST_TOKEN, SEEN_ENOUGH, train_bpe
from shared.text.sources import Source, fingerprint, read_source
from shared.text.splits import TRAIN, split_documents
from shared.text.tokenizer_file import Tokenizer, load_tokenizer, pick_tokenizer

SAMPLE_BYTES = 10_000_000  # a few seconds of learning; ten times the text hardly moves the merges


def tokenizer_for(
    name: str,
    sources: Sequence[Source],
    folder: str | Path,
    valid_fraction: float,
    learned: Path | None = None,
) -> Tokenizer:
    """The tokenizer called `name`; for `bpe:N` the one in `folder`, learned first if need be.

    Every source gives the same share of the sample, so that a small one's words count.

    Args:
        learned: the file of a `bpe:N` that a run has learned already, and goes on with.

    Raises:
        UserError: see `pick_tokenizer` and `train_bpe`; a source cannot be read.
    """
    if (size := learned_size(name)) is None:
        return pick_tokenizer(name)
    if learned:
        return load_tokenizer(learned)
    rules = size, SEEN_ENOUGH, LONGEST_TOKEN, valid_fraction
    state = json.dumps([*rules, [fingerprint(source) for source in sources]])
    path = Path(folder) / f"bpe-{size}-{hashlib.sha256(state.encode()).hexdigest()[:8]}.json"
    if not path.is_file():
        share = SAMPLE_BYTES // len(sources)
        texts = (t for s in sources for t in training_texts(s, share, valid_fraction))
        learned = train_bpe(texts, size)
        path.parent.mkdir(parents=True, exist_ok=True)
        learned.save(path)
    return load_tokenizer(path)


def learned_size(name: str) -> int | None:
    """8192 for "bpe:8192"; None for a tokenizer that is there already."""
    match = re.fullmatch(r"bpe:(\d+)", name)
    return int(match[1]) if match else None


def training_texts(source: Source, most: int, valid_fraction: float) -> Iterator[bytes]:
    """The training documents of a source until they make `most` bytes, the last one cut."""
    left = most
    for document in split_documents(read_source(source), valid_fraction):
        if left <= 0:
            return
        if document.split == TRAIN:
            yield document.data[:left]
            left -= len(document.data)

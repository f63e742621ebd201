"""Trains a byte-level BPE tokenizer on a corpus and saves it.

python 02_tokenizer/train_bpe.py
python 02_tokenizer/train_bpe.py --corpus markdown:~/notes --vocab-size 8192 --out bpe.json
"""

import argparse
import sys
import time

from rich.progress import track

from shared.errors import UserError, one_line_errors
from shared.files import user_path
from shared.text.bpe import BPETokenizer
from shared.text.bpe_training import train_bpe
from shared.text.own_tokenizer import training_texts
from shared.text.sources import Source


def main(arguments: list[str]) -> None:
    """Parses the command line, trains, shows what was learned, saves if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default="python-docs", help="a source, such as markdown:FOLDER")
    parser.add_argument("--vocab-size", type=int, default=1024, help="ids in all; at least 257")
    parser.add_argument("--max-megabytes", type=float, default=50, help="read no more than this")
    parser.add_argument("--out", help="the .json file to write")
    options = parser.parse_args(arguments)
    out = user_path(options.out) if options.out else None
    most = int(options.max_megabytes * 1e6)
    texts = list(training_texts(Source(options.corpus), most, valid_fraction=0.05))
    if not texts:
        raise UserError(f"source {options.corpus!r} holds no text to train on")
    start = time.perf_counter()
    total = sum(map(len, texts))
    tokenizer = train_bpe(track(texts, "counting words", transient=True), options.vocab_size)
    seconds = time.perf_counter() - start
    print(f"{total:,} bytes, {tokenizer.vocab_size:,} ids, {seconds:.1f} s")
    describe(tokenizer, texts)
    if out:
        tokenizer.save(out)
        print(f"saved {out}")


def describe(tokenizer: BPETokenizer, texts: list[bytes]) -> None:
    """Prints the first and the longest tokens, and how much shorter text becomes."""
    learned = [tokenizer.decode([token]) for token in range(256, len(tokenizer.vocabulary))]
    print(f"first merges    {learned[:12]}")
    print(f"longest tokens  {sorted(set(learned), key=len)[-6:]}")
    sample = b"".join(texts)[:200_000]
    ids = tokenizer.encode(sample)
    print(f"bytes a token   {len(sample) / len(ids):.2f}, ids in {ids.dtype}")


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

"""Byte-pair encoding on a whiteboard: merge what stands together most often, again and again.

    python 02_tokenizer/byte_pair_encoding.py

Nothing is imported from the package. It counts every pair again after each merge,
which is slow and easy to follow. `shared/text/bpe_training.py` learns the same merges
without counting twice; a test proves it. Left out here: words are not cut apart first,
so merges may cross spaces; and a token may grow to any length.
"""

from collections import Counter
from itertools import pairwise

TEXT = "low lower lowest, new newer newest, wide wider widest"


def train(ids: list[int], merges_wanted: int) -> list[tuple[int, int]]:
    """Learns merges on ids: each time the most frequent pair, of equals the one of larger bytes."""
    merges, vocabulary = [], [bytes([byte]) for byte in range(256)]
    while len(merges) < merges_wanted:
        counts = Counter(pairwise(ids))
        if max(counts.values(), default=0) < 2:  # what stands only once is no pattern
            break
        left, right = max(counts, key=lambda p: (counts[p], vocabulary[p[0]], vocabulary[p[1]]))
        ids = merge(ids, (left, right), 256 + len(merges))
        merges.append((left, right))
        vocabulary.append(vocabulary[left] + vocabulary[right])
    return merges


def merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replaces each `pair` by `new`, from left to right."""
    merged, at = [], 0
    while at < len(ids):
        here = tuple(ids[at : at + 2])
        merged.append(new if here == pair else ids[at])
        at += 2 if here == pair else 1
    return merged


def encode(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """Bytes, then every merge in the order it was learned."""
    ids = list(text.encode())
    for number, pair in enumerate(merges):
        ids = merge(ids, pair, 256 + number)
    return ids


def decode(ids: list[int], merges: list[tuple[int, int]]) -> str:
    """Undoes the merges, the last one first."""
    vocabulary = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        vocabulary.append(vocabulary[left] + vocabulary[right])
    return b"".join(vocabulary[token] for token in ids).decode("utf-8", "replace")


def main() -> None:
    """Learns twelve merges and shows what each one does to the text's length."""
    ids = list(TEXT.encode())
    merges = train(ids, 12)
    print(f"{TEXT!r}\n{len(ids)} bytes\n")
    for number, (left, right) in enumerate(merges):
        ids = merge(ids, (left, right), 256 + number)
        parts = [decode([part], merges) for part in (left, right)]
        name = decode([256 + number], merges)
        print(f"id {256 + number} = {parts[0]!r:7} + {parts[1]!r:7} = {name!r:9} {len(ids)} tokens")
    print(f"\nas tokens: {[decode([token], merges) for token in encode(TEXT, merges)]}")
    unseen = "the lowest renewed"
    tokens = encode(unseen, merges)
    print(f"{unseen!r}, never seen: {[decode([token], merges) for token in tokens]}")
    print(f"and back, lossless: {decode(tokens, merges) == unseen}")


if __name__ == "__main__":
    main()

"""Grades `write_tokenizer.py`: each exercise by hand or against Python, and the mistakes it knows.

Under pytest the function under test is the shipped one; `make learn` and `make check` call the
same tests with the learner's. Whoever is still writing: what stands here tells much.
"""

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace

import torch
from byte_pair_encoding import encode, merge
from judging import Answer, Draw, grades
from torch import Tensor

from shared.text.batches import evaluation_batches
from shared.text.drills_letters import backwards, numbered
from shared.text.exercise import EQUALS
from shared.text.tokenizer import ByteTokenizer

BYTES = ByteTokenizer()


@grades("to_ids")
def test_ids_are_the_bytes_of_utf_8(answer: Answer, draw: Draw):
    text = "é" + draw.text()
    answer.gives(list(bytearray(text, "utf-8")), text)
    answer.gives([], "")


@grades("to_text")
def test_bytes_become_text_again_and_broken_ones_are_shown(answer: Answer, draw: Draw):
    text = "é→" + draw.text()
    ids = list(text.encode())
    answer.gives(text, ids)
    answer.gives(f"{text}\ufffd", [*ids, draw.whole(0xF0, 0xF4)])
    answer.gives("\ufffda", [draw.whole(0x80, 0xBF), ord("a")])


@grades("shown")
def test_a_character_is_shown_when_it_is_whole(answer: Answer, draw: Draw):
    text = "é👋→" + draw.text()
    expected = [piece for letter in text for piece in [""] * (len(letter.encode()) - 1) + [letter]]
    answer.gives(expected, list(text.encode()))


@grades("shifted")
def test_a_target_is_the_id_after_its_input(answer: Answer, draw: Draw):
    windows = draw.ids(draw.whole(2, 3), draw.whole(4, 6))
    after = [[follows for _, follows in pairwise(row)] for row in windows.tolist()]
    before = [[first for first, _ in pairwise(row)] for row in windows.tolist()]
    answer.gives((torch.tensor(before), torch.tensor(after)), windows)


@grades("windows")
def test_every_id_but_the_first_is_a_target_once(answer: Answer, draw: Draw):
    length, number = draw.whole(3, 5), draw.whole(3, 5)
    for rest in (0, draw.whole(1, length - 1)):
        ids = draw.ids(length * number + 1 + rest)
        expected = [ids[length * n : length * (n + 1) + 1].tolist() for n in range(number)]
        answer.gives(torch.tensor(expected), ids, length)


@grades("backwards_drill")
def test_the_working_goes_there_and_back(answer: Answer, draw: Draw):
    word = "".join(draw.random.sample("abcdefghij", k=draw.whole(4, 7)))
    there = [str(place + 1) + word[place] for place in range(len(word))]
    answer.gives(f"{' '.join([*there, *reversed(there)])} = {word[::-1]}", word)


@grades("merge")
def test_a_pair_is_replaced_from_left_to_right(answer: Answer, draw: Draw):
    one, other = draw.random.sample(range(97, 123), k=2)
    pattern = "".join(draw.random.choices("ab", k=12)) + "baaab"
    for pair in ("ab", "aa"):
        wanted = pattern.replace(pair, "N")
        ids, expected = ([dict(a=one, b=other, N=300)[c] for c in t] for t in (pattern, wanted))
        answer.gives(expected, ids, tuple(dict(a=one, b=other)[c] for c in pair), 300)


@grades("encode")
def test_merges_are_applied_in_the_order_of_learning(answer: Answer, draw: Draw):
    a, b, c = (chr(place) for place in draw.random.sample(range(97, 123), k=3))
    text = a + b + c + "é" + a + b + a + b + c
    for first, second in ((a + b, b + c), (b + c, a + b)):
        replaced = text.replace(first, "Ā").replace(second, "ā").replace("ĀĀ", "Ă")
        expected = [i for s in replaced for i in ([ord(s)] if ord(s) > 255 else s.encode())]
        merges = [tuple(first.encode()), tuple(second.encode()), (256, 256)]
        answer.gives(expected, text, merges)


def shown_by(decoder: Callable) -> Callable:
    """Feeds ids one at a time."""
    return lambda ids: [decoder(token) for token in ids]


def shipped_windows(ids: Tensor, context_length: int) -> Tensor:
    """The shipped inputs, and the last target of each window."""
    ((inputs, targets),) = evaluation_batches(ids.numpy(), 10**6, context_length)
    return torch.cat((inputs, targets[:, -1:]), dim=1)


def shipped_drill(word: str) -> str:
    """The shipped drill on this word."""
    question = backwards(SimpleNamespace(word=lambda size: word, held_out=True), None)
    return question.working + EQUALS + question.answer


ADAPTERS = {
    "backwards_drill": shipped_drill,
    "to_ids": lambda text: BYTES.encode(text).tolist(),
    "to_text": lambda ids: BYTES.decode(ids),
    "shown": lambda ids: shown_by(BYTES.decoder().feed)(ids),
    "windows": shipped_windows,
}


def merge_overlapping(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Looks at every place, also those inside a pair that was just replaced."""
    return [new if two == pair else two[0] for two in pairwise([*ids, -1])]


def merge_first(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Stops after one."""
    at = next((n for n, two in enumerate(pairwise(ids)) if two == pair), len(ids))
    return [*ids[:at], *merge(ids[at : at + 2], pair, new), *ids[at + 2 :]]


def by_place(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """At each round the pair that stands first in the text."""
    ids, known = list(text.encode()), {pair: 256 + n for n, pair in enumerate(merges)}
    while found := [two for two in pairwise(ids) if two in known]:
        place = list(pairwise(ids)).index(found[0])
        ids[place : place + 2] = [known[found[0]]]
    return ids


def in_turn(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """The last merge first."""
    ids = list(text.encode())
    for number, pair in reversed(list(enumerate(merges))):
        ids = merge(ids, pair, 256 + number)
    return ids


MISTAKES = {
    "backwards_drill": {
        "the answer is the word as it was": lambda word: (
            shipped_drill(word).split(EQUALS)[0] + EQUALS + word
        ),
        "the way back is missing: the answer is copied from it": lambda word: (
            " ".join(numbered(word)) + EQUALS + word[::-1]
        ),
        "counted anew on the way back: a letter keeps its number": lambda word: (
            " ".join(numbered(word) + numbered(word[::-1])) + EQUALS + word[::-1]
        ),
        "numbers begin at 1": lambda word: "".join(
            str(int(c) - 1) if c.isdigit() else c for c in shipped_drill(word)
        ),
    },
    "to_ids": {
        "these are characters' numbers, not bytes: é is two bytes in UTF-8": lambda text: (
            [ord(letter) for letter in text]
        ),
        "characters outside ASCII are lost: UTF-8 has all of them": lambda text: list(
            text.encode("ascii", "ignore")
        ),
    },
    "to_text": {
        "each byte alone is no character: é takes two of them together": lambda ids: "".join(
            bytes([token]).decode("utf-8", "replace") for token in ids
        ),
        "ids are bytes of UTF-8, not numbers of characters": lambda ids: "".join(map(chr, ids)),
        "broken bytes are left out: they show as U+FFFD": lambda ids: bytes(ids).decode(
            "utf-8", "ignore"
        ),
    },
    "shown": {
        "each byte is decoded alone: half a character must wait": shown_by(
            lambda token: bytes([token]).decode("utf-8", "replace")
        ),
        "half a character is dropped, not kept until the rest comes": shown_by(
            lambda token: bytes([token]).decode("utf-8", "ignore")
        ),
        "each id adds the whole text again: only what is new is shown": lambda ids: [
            bytes(ids[: n + 1]).decode("utf-8", "ignore") for n in range(len(ids))
        ],
    },
    "shifted": {
        "not shifted: the targets are the inputs, which can be copied": lambda w: (
            w[:, :-1],
            w[:, :-1],
        ),
        "shifted the wrong way: a target is the id after its input": lambda w: (
            w[:, 1:],
            w[:, :-1],
        ),
        "windows are shifted, not positions: the second axis is that of positions": lambda w: (
            w[:-1],
            w[1:],
        ),
        "all T + 1 ids are inputs: the last one has no target": lambda w: (w, w[:, 1:]),
    },
    "windows": {
        "a window begins T + 1 after the one before: one id in each is never a target": (
            lambda ids, length: ids.unfold(0, length + 1, length + 1)
        ),
        "the last window is missing: it may end with the last id": lambda ids, length: ids[
            :-1
        ].unfold(0, length + 1, length),
        "T ids in a window: it takes one more for the last target": lambda ids, length: ids.unfold(
            0, length, length
        ),
        "a window at every id: each target comes T times": lambda ids, length: ids.unfold(
            0, length + 1, 1
        ),
    },
    "merge": {
        "the pair's second id stays: go on behind the pair": merge_overlapping,
        "only the first pair is replaced": merge_first,
        "from right to left: of three alike the first two make the pair": lambda ids, pair, new: (
            merge(ids[::-1], pair[::-1], new)[::-1]
        ),
    },
    "encode": {
        "what stands first in the text is merged first: the order is that of learning": by_place,
        "the last merge comes first: the first one learned does": in_turn,
        "the first merge makes id 256: 0 to 255 are bytes": lambda text, merges: (
            [token + (token > 255) for token in encode(text, merges)]
        ),
        "the bytes are not merged at all": lambda text, merges: list(text.encode()),
    },
}

"""Drills about order: sorting words and numbers, and what comes before and after.

Promoted by 02_tokenizer.
"""

from collections.abc import Mapping

from shared.text.exercise import Question
from shared.text.operands import ALPHABET, Item, Operands

ITEMS = (2, 3, 4)
SORTING_WORDS = (
    "sort these words: {items}",
    "sort the words {items}",
    "put these words in order: {items}",
    "sort by the alphabet: {items}",
    "put in alphabetical order: {items}",
    "sort: {items}",
    "in alphabetical order: {items}",
    "sort from a to z: {items}",
    "which order do these words have: {items}",
    "put these words in alphabetical order: {items}",
)
SORTING_NUMBERS = (
    "sort these numbers: {items}",
    "sort the numbers {items}",
    "put these numbers in order: {items}",
    "from small to large: {items}",
    "put the numbers in order: {items}",
    "sort: {items}",
    "smallest first: {items}",
    "sort from small to large: {items}",
    "which order do these numbers have: {items}",
    "sort these from small to large: {items}",
)
DAYS = "monday tuesday wednesday thursday friday saturday sunday".split()
MONTHS = (
    "january february march april may june july august september october november december".split()
)
TABLES = (("day", DAYS), ("month", MONTHS), ("letter", ALPHABET))
AFTER = (
    "what comes after {item}?",
    "which {kind} comes after {item}?",
    "what is the {kind} after {item}?",
    "what {kind} follows {item}?",
    "which {kind} is after {item}?",
    "what comes next after {item}?",
    "what follows {item}?",
    "after {item} comes which {kind}?",
    "which {kind} follows {item}?",
    "what {kind} comes after {item}?",
)
BEFORE = (
    "what comes before {item}?",
    "which {kind} comes before {item}?",
    "what is the {kind} before {item}?",
    "before {item} comes which {kind}?",
    "which {kind} is before {item}?",
)


def sorting_words(operands: Operands, size: int | None) -> Question:
    """`sort: pear fig` → `pe fi, fi pe = fig pear`: their beginnings, in order, the words."""
    count = size or operands.pick(ITEMS)
    items: list[str] = []
    while len(items) < count:
        word = operands.word(operands.between(3, 6))
        if word not in items:
            items.append(word)
    ordered = sorted(items)
    begun = {item: item[:2] for item in items}
    working = _then_in_order(items, ordered, begun)
    blanks = {"items": _listed(operands, items)}
    return Question(SORTING_WORDS, blanks, " ".join(ordered), count, working)


def sorting_numbers(operands: Operands, size: int | None) -> Question:
    """`sort: 58 7 12` → `2d58 1d7 2d12, 1d7 2d12 2d58 = 7 12 58`: with how many digits each has."""
    count = size or operands.pick(ITEMS)
    items = operands.numbers(count)
    ordered = sorted(items)
    long = {item: f"{len(str(item))}d{item}" for item in items}
    working = _then_in_order(items, ordered, long)
    blanks = {"items": _listed(operands, [str(item) for item in items])}
    answer = " ".join([str(item) for item in ordered])
    return Question(SORTING_NUMBERS, blanks, answer, count, working)


def what_comes_next(operands: Operands, size: int | None) -> Question:
    """`what comes after tuesday?` → `wednesday`: sizes 1, 2 and 3 are days, months, letters."""
    size = size or operands.between(1, len(TABLES))
    kind, table = TABLES[size - 1]
    place = operands.between(0, len(table) - (2 if table == ALPHABET else 1))
    item, following = table[place], table[(place + 1) % len(table)]
    if operands.chance(0.3):
        blanks = {"kind": kind, "item": following}
        return Question(BEFORE, blanks, item, size, closed=True)
    blanks = {"kind": kind, "item": item}
    return Question(AFTER, blanks, following, size, closed=True)


def _then_in_order(items: list[Item], ordered: list[Item], marked: Mapping[Item, str]) -> str:
    """What marks each item, as they came and then in order: `pe fi, fi pe`."""
    return ", ".join([" ".join([marked[item] for item in each]) for each in (items, ordered)])


def _listed(operands: Operands, items: list[str]) -> str:
    return operands.pick((" ", " ", ", ")).join(items)

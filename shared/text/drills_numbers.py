"""Drills about two numbers: adding, subtracting, and which is larger.

Each working goes digit by digit, the way that children learn it. One-digit numbers are
counted as a closed table: the steps of longer sums show all of it.
Promoted by 02_tokenizer.
"""

from shared.text.exercise import Question
from shared.text.operands import Operands

DIGITS = (1, 2, 3)
DRAWN = (1, 2, 2, 3, 3, 3)  # there are far more long sums to learn from
ADDING = (
    "what is {a}+{b}?",
    "{a} + {b}",
    "what is {a} plus {b}?",
    "add {a} and {b}",
    "how much is {a} and {b}?",
    "{a}+{b}=",
    "how much is {a}+{b}?",
    "what is {a} + {b}?",
    "add {b} to {a}",
    "how much is {a} plus {b}?",
    "what is the sum of {a} and {b}?",
    "{a} plus {b}",
    "can you add {a} and {b}?",
    "give me {a} plus {b}",
    "what do you get if you add {a} and {b}?",
)
SUBTRACTING = (
    "what is {a}-{b}?",
    "{a} - {b}",
    "what is {a} minus {b}?",
    "subtract {b} from {a}",
    "how much is {a} take away {b}?",
    "{a}-{b}=",
    "how much is {a}-{b}?",
    "what is {a} - {b}?",
    "take {b} away from {a}",
    "how much is {a} minus {b}?",
)
LARGER = (
    "which is larger, {a} or {b}?",
    "which is bigger, {a} or {b}?",
    "what is larger, {a} or {b}?",
    "which number is larger: {a} or {b}?",
    "which one is bigger: {a} or {b}?",
    "what is more, {a} or {b}?",
    "the larger of {a} and {b}?",
    "is {a} or {b} larger?",
    "which of {a} and {b} is bigger?",
    "which of {a} and {b} is larger?",
)
SMALLER = (
    "which is smaller, {a} or {b}?",
    "what is smaller, {a} or {b}?",
    "which number is smaller: {a} or {b}?",
    "what is less, {a} or {b}?",
    "which one is smaller: {a} or {b}?",
)


def adding(operands: Operands, size: int | None) -> Question:
    """`what is 58+67?` → `8+7=15 5+6+1=12 = 125`: the last step, then the ends of those before."""
    size = size or operands.pick(DRAWN)
    a, b = operands.pair(size)
    steps, carry = [], False
    for x, y in columns(a, b, size):
        total = x + y + carry
        steps.append(f"{x}+{y}+1={total}" if carry else f"{x}+{y}={total}")
        carry = total > 9
    return Question(ADDING, {"a": a, "b": b}, str(a + b), size, " ".join(steps), closed=size == 1)


def subtracting(operands: Operands, size: int | None) -> Question:
    """`what is 62-58?` → `2-8+10=4 6-5-1=0 = 4`: ten are borrowed, and one taken from the next."""
    size = size or operands.pick(DRAWN)
    b, a = sorted(operands.pair(size))
    steps, borrowed = [], False
    for x, y in columns(a, b, size):
        left = x - y - borrowed
        step = f"{x}-{y}-1" if borrowed else f"{x}-{y}"
        borrowed = left < 0
        steps.append(f"{step}+10={left + 10}" if borrowed else f"{step}={left}")
    return Question(
        SUBTRACTING, {"a": a, "b": b}, str(a - b), size, " ".join(steps), closed=size == 1
    )


def larger(operands: Operands, size: int | None) -> Question:
    """`which is larger, 58 or 62?` → `larger? 2d2d= 56< 58<62 = 62`.

    First how many digits each has, then digit by digit; at last the smaller number, then the other.
    A sign stands behind what it compares: before it, one of the two would not be read yet.
    """
    size = size or operands.pick(DRAWN)
    a, b = operands.pair(size)
    while a == b:
        a, b = operands.pair(size)
    steps = []
    for x, y, unit in ((len(str(a)), len(str(b)), "d"), *_digits(a, b)):
        sign = "<" if x < y else ">" if x > y else "="
        steps.append(f"{x}{unit}{y}{unit}{sign}")
        if x != y:
            break
    less, more = sorted((a, b))
    steps.append(f"{less}<{more}")
    is_more = operands.chance(0.7)
    phrasings, sought, answer = (LARGER, "larger", more) if is_more else (SMALLER, "smaller", less)
    working = f"{sought}? {' '.join(steps)}"
    blanks = {"a": a, "b": b}
    return Question(phrasings, blanks, str(answer), size, working, closed=size == 1)


def _digits(a: int, b: int) -> list[tuple[int, int, str]]:
    """The first digits of both, the second ones, and so on; without a unit."""
    return [(int(x), int(y), "") for x, y in zip(str(a), str(b), strict=False)]


def columns(a: int, b: int, width: int) -> list[tuple[int, int]]:
    """The digits of two numbers, written one above the other, from the last to the first."""
    upper, lower = f"{a:0{width}}", f"{b:0{width}}"
    return [(int(x), int(y)) for x, y in zip(upper[::-1], lower[::-1], strict=True)]

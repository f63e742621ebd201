"""Autograd from scratch: numbers that remember what they were made of, for the way back.

python 04_training/autograd.py
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Share = Callable[[float], float]  # the gradient of a result -> the share of one that made it


@dataclass(eq=False)
class Value:
    """A number, what it was made of, and after `backward` its gradient.

    Each operation notes, beside every number that went in, how a change of the result
    is passed on to it: the chain rule, one link at a time.
    Source: Rumelhart et al. 1986, "Learning representations by back-propagating errors".
    """

    data: float
    made_of: Sequence[tuple["Value", Share]] = ()
    operation: str = ""
    gradient: float = field(default=0.0, init=False)

    def __add__(self, other: "Value | float") -> "Value":
        other = value_of(other)
        parts = (self, lambda gradient: gradient), (other, lambda gradient: gradient)
        return Value(self.data + other.data, parts, "+")

    def __mul__(self, other: "Value | float") -> "Value":
        other = value_of(other)
        left, right = self.data, other.data
        parts = (self, lambda gradient: gradient * right), (other, lambda gradient: gradient * left)
        return Value(left * right, parts, "×")

    def __pow__(self, power: float) -> "Value":
        slope = power * self.data ** (power - 1)
        return Value(self.data**power, [(self, lambda gradient: gradient * slope)], f"^{power:g}")

    def exp(self) -> "Value":
        """e to this power: its own slope."""
        result = math.exp(self.data)
        return Value(result, [(self, lambda gradient: gradient * result)], "exp")

    def log(self) -> "Value":
        """The natural logarithm of a number above 0."""
        return Value(math.log(self.data), [(self, lambda gradient: gradient / self.data)], "log")

    def tanh(self) -> "Value":
        """Squeezes any number to between -1 and 1."""
        result = math.tanh(self.data)
        return Value(result, [(self, lambda gradient: gradient * (1 - result**2))], "tanh")

    def relu(self) -> "Value":
        """The number, or 0 if it is below."""
        on = float(self.data > 0)
        return Value(self.data * on, [(self, lambda gradient: gradient * on)], "relu")

    def __neg__(self) -> "Value":
        return self * -1

    def __sub__(self, other: "Value | float") -> "Value":
        return self + -value_of(other)

    def __rsub__(self, other: float) -> "Value":
        return other + -self

    def __truediv__(self, other: "Value | float") -> "Value":
        return self * value_of(other) ** -1

    def __rtruediv__(self, other: float) -> "Value":
        return other * self**-1

    __radd__, __rmul__ = __add__, __mul__

    def backward(self) -> None:
        """Adds to every number below its gradient: how fast this value rises with it."""
        order = in_order(self)
        self.gradient = 1.0
        for value in reversed(order):
            for part, share in value.made_of:
                part.gradient += share(value.gradient)  # added: a number may be used twice


def value_of(number: Value | float) -> Value:
    """A plain number becomes a value that nothing made."""
    return number if isinstance(number, Value) else Value(number)


def in_order(result: Value) -> list[Value]:
    """All that went into the result, parts before what they make (a topological order).

    Without recursion: a long sum is deeper than Python's stack.
    """
    order, seen, waiting = [], set(), [(result, False)]
    while waiting:
        value, parts_done = waiting.pop()
        if parts_done:
            order.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            waiting.append((value, True))
            waiting.extend((part, False) for part, _ in value.made_of)
    return order


def main() -> None:
    """A residual branch of one number, and each number's gradient."""
    x, w = Value(2.0), Value(3.0)
    loss = (x + w * x + -10) ** 2 * 0.5
    loss.backward()
    print("loss = (x + w · x - 10)² · 0.5, from the loss down to what went in:")
    for value in reversed(in_order(loss)):
        print(f"{value.operation or 'given':>6} {value.data:8.2f}   gradient {value.gradient:8.2f}")


if __name__ == "__main__":
    main()

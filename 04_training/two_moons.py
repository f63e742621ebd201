"""A network of single numbers learns to tell two moons apart, on our own autograd.

python 04_training/two_moons.py
"""

import math
import random
from collections.abc import Sequence
from itertools import pairwise

from autograd import Value

SIZES, POINTS, NOISE = (2, 16, 1), 100, 0.1
STEPS, BATCH, RATE = 400, 10, 1.0
Point = tuple[float, float]


class Neuron:
    """Weighs its inputs, adds a bias, and squeezes the sum: n numbers -> one."""

    def __init__(self, inputs: int, rng: random.Random) -> None:
        self.weights = [Value(rng.gauss(0, inputs**-0.5)) for _ in range(inputs)]
        self.bias = Value(0.0)

    def __call__(self, inputs: Sequence[Value | float]) -> Value:
        products = (weight * x for weight, x in zip(self.weights, inputs, strict=True))
        return sum(products, self.bias).tanh()

    def parameters(self) -> list[Value]:
        """What training may change."""
        return [*self.weights, self.bias]


class Layer:
    """Neurons side by side, each of which sees all inputs: n numbers -> m."""

    def __init__(self, inputs: int, outputs: int, rng: random.Random) -> None:
        self.neurons = [Neuron(inputs, rng) for _ in range(outputs)]

    def __call__(self, inputs: Sequence[Value | float]) -> list[Value]:
        return [neuron(inputs) for neuron in self.neurons]

    def parameters(self) -> list[Value]:
        """What training may change."""
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]


class MLP:
    """Layers one after another (a multilayer perceptron); `sizes` from input to output."""

    def __init__(self, sizes: Sequence[int], rng: random.Random) -> None:
        pairs = pairwise(sizes)
        self.layers = [Layer(inputs, outputs, rng) for inputs, outputs in pairs]

    def __call__(self, inputs: Sequence[Value | float]) -> list[Value]:
        for layer in self.layers:
            inputs = layer(inputs)
        return list(inputs)

    def parameters(self) -> list[Value]:
        """What training may change."""
        return [parameter for layer in self.layers for parameter in layer.parameters()]


def two_moons(points: int, noise: float, rng: random.Random) -> tuple[list[Point], list[int]]:
    """Points of two half circles that reach into each other, and which of them (-1, 1)."""
    places, labels = [], []
    for number in range(points):
        angle, label = math.pi * rng.random(), 1 if number % 2 else -1
        x, y = math.cos(angle), math.sin(angle)
        if label == 1:
            x, y = 1 - x, 0.5 - y
        places.append((x + rng.gauss(0, noise), y + rng.gauss(0, noise)))
        labels.append(label)
    return places, labels


def mean_squared_error(model: MLP, places: Sequence[Point], labels: Sequence[int]) -> Value:
    """How far the outputs are from the labels."""
    errors = [(model(place)[0] - label) ** 2 for place, label in zip(places, labels, strict=True)]
    return sum(errors, Value(0.0)) * (1 / len(errors))


def descend(model: MLP, loss: Value, rate: float) -> None:
    """One step of plain gradient descent: every parameter against its gradient."""
    for parameter in model.parameters():
        parameter.gradient = 0.0
    loss.backward()
    for parameter in model.parameters():
        parameter.data -= rate * parameter.gradient


def accuracy(model: MLP, places: Sequence[Point], labels: Sequence[int]) -> float:
    """The share of points on the right side."""
    pairs = zip(places, labels, strict=True)
    return sum(model(place)[0].data * label > 0 for place, label in pairs) / len(places)


def train(model: MLP, places: Sequence[Point], labels: Sequence[int], rng: random.Random) -> None:
    """Plain gradient descent on a few points at a time; the rate falls to zero."""
    for step in range(STEPS):
        chosen = [rng.randrange(len(places)) for _ in range(BATCH)]
        loss = mean_squared_error(model, [places[i] for i in chosen], [labels[i] for i in chosen])
        if step % 50 == 0:
            right = accuracy(model, places, labels)
            print(f"step {step:3}   loss {loss.data:.3f}   right: {right:.0%}")
        descend(model, loss, RATE * (1 - step / STEPS))


def main() -> None:
    """Trains, and counts how many points that it has not seen fall on the right side."""
    rng = random.Random(0)
    model = MLP(SIZES, rng)
    seen, unseen = two_moons(POINTS, NOISE, rng), two_moons(POINTS, NOISE, rng)
    print(f"{len(model.parameters())} parameters, {POINTS} points, {BATCH} of them a step")
    train(model, *seen, rng)
    print(f"at the end: {accuracy(model, *seen):.0%}, of new points {accuracy(model, *unseen):.0%}")


if __name__ == "__main__":
    main()

"""The counting model: worked by hand, a distribution everywhere, and a writer by seed."""

import numpy as np
import pytest

from shared.training.counting_model import CountingModel


def as_array(text: bytes) -> np.ndarray:
    return np.frombuffer(text, np.uint8)


NOISE = np.random.default_rng(0).integers(97, 101, 300, dtype=np.uint8)


def test_counts_of_single_bytes_by_hand():
    """Of aab: a twice, b once, and 0.75 of each goes to all 256 bytes alike."""
    chances = CountingModel(as_array(b"aab"), order=0).next_byte(b"")
    shared = 2 * 0.75 / 3 / 256
    assert chances[ord("a")] == pytest.approx((2 - 0.75) / 3 + shared)
    assert chances[ord("b")] == pytest.approx((1 - 0.75) / 3 + shared)
    assert chances[ord("c")] == pytest.approx(shared)


def test_a_longer_context_takes_what_it_has_not_seen_from_a_shorter_one_by_hand():
    """abac: after a came b and c, once each; a, b and c stand after 1, 1 and 1 other bytes."""
    model = CountingModel(as_array(b"abac"), order=1)
    short = (1 - 0.75) / 3 + 3 * 0.75 / 3 / 256
    assert model.next_byte(b"")[ord("b")] == pytest.approx(short)
    assert model.next_byte(b"a")[ord("b")] == pytest.approx((1 - 0.75 + 0.75 * 2 * short) / 2)
    assert model.next_byte(b"a")[ord("a")] == pytest.approx(0.75 * 2 * short / 2)
    assert model.next_byte(b"z") == pytest.approx(model.next_byte(b""))  # z was never seen


def test_a_byte_with_many_neighbours_is_expected_anywhere():
    """b stands four times, always after a; c twice, after two others: c is likelier after z."""
    chances = CountingModel(as_array(b"abababab-c+c"), order=1).next_byte(b"z")
    assert chances[ord("c")] > chances[ord("b")]


@pytest.mark.parametrize("text", [b"", b"a", b"abcab", NOISE.tobytes()])
@pytest.mark.parametrize("order", [0, 5, 7])
def test_every_distribution_is_positive_and_sums_to_one(text, order):
    model = CountingModel(as_array(text), order)
    for context in (b"", b"a", b"zz", b"abca", text[:12]):
        chances = model.next_byte(context)
        assert chances.min() > 0 and chances.sum() == pytest.approx(1, abs=1e-12)


def test_a_text_is_given_the_probabilities_of_its_bytes_one_after_another():
    model = CountingModel(NOISE, order=3)
    text = b"abcdabcxyzabcd"
    one_by_one = [model.next_byte(text[:at])[byte] for at, byte in enumerate(text)]
    assert model.probabilities(as_array(text)) == pytest.approx(one_by_one)
    assert model.bits(as_array(text)) == pytest.approx(-np.log2(one_by_one).sum())


def test_more_context_predicts_a_pattern_better_until_nothing_is_left_to_learn():
    pattern = as_array(b"abcabd" * 100)
    bits = [CountingModel(pattern, order).bits(pattern) / len(pattern) for order in range(6)]
    assert bits == sorted(bits, reverse=True) and bits[0] > 1.9 and bits[5] < 0.1


def test_it_writes_by_seed_what_it_has_read():
    model = CountingModel(as_array(b"the cat sat on the mat. " * 50))
    first, again, other = (
        model.continue_text(b"the ", 60, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert first == again != other and len(first) == 64
    assert sum(word in b"the cat sat on the mat.".split() for word in first.split()) > 10


@pytest.mark.parametrize("order", [-1, 8])
def test_an_order_that_does_not_fit_is_refused(order):
    with pytest.raises(ValueError, match="expected 0 to 7"):
        CountingModel(NOISE, order)

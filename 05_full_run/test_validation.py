"""Validation: the model's figures by hand, and honest yardsticks beside them."""

import lzma
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from shared.text.bpe_training import train_bpe
from shared.text.byte_table import ByteTable
from shared.text.sources import Source
from shared.text.token_file import Corpus, load_corpus
from shared.text.tokenizer import ByteTokenizer
from shared.training import validation
from shared.training.counting_model import CountingModel
from shared.training.validation import head, mean_bits, score_corpora, shown
from shared.training.yardsticks import yardsticks

GENERATOR = np.random.default_rng(0)
WORDS = [bytes(GENERATOR.integers(97, 123, 6, dtype=np.uint8)) for _ in range(50)]


def prose(words: int) -> bytes:
    return b" ".join(WORDS[number] for number in GENERATOR.integers(50, size=words))


BYTES = ByteTokenizer()
OLD, NEW = prose(400), prose(100)
REPEATED = OLD[500:700]


@pytest.fixture
def corpus_of(tmp_path):
    """Makes a corpus of one file that ends with `held_back`."""

    def make(name: str, train: bytes, held_back: bytes, tokenizer=BYTES) -> Corpus:
        text = train + held_back
        (tmp_path / name).write_bytes(text)
        source = Source(f"text:{tmp_path / name}")
        return load_corpus(source, tmp_path / "data", tokenizer, len(held_back) / len(text))

    return make


def test_repeats_are_counted_and_left_out_of_the_second_figure(corpus_of):
    """2 bits for each byte that training text holds too, 6 for each new one, 4 for the end."""
    corpus = corpus_of("a.txt", OLD, REPEATED + NEW)
    bits = torch.tensor([2.0] * len(REPEATED) + [6.0] * len(NEW) + [4.0])[1:]
    (scores,) = score_corpora(BYTES, [corpus], {corpus.name: bits * math.log(2)})
    assert scores.repeated == pytest.approx(len(REPEATED) / len(corpus.validation))
    assert 2 < scores.figures["this model"] < 6
    alone = (6 * len(NEW) + 4) / len(NEW)  # the end has bits and no byte
    assert scores.figures["this model, without repeats"] == pytest.approx(alone)
    assert not scores.cut


def test_what_another_corpus_of_the_run_holds_is_repeated_too(corpus_of):
    one, other = corpus_of("a.txt", OLD, NEW), corpus_of("b.txt", NEW, b"")
    losses = {one.name: torch.ones(len(NEW))}
    (alone,) = score_corpora(BYTES, [one], losses)
    (beside,) = score_corpora(BYTES, [one, other], losses)
    assert alone.repeated == 0 and beside.repeated > 0.99
    nat = pytest.approx(1 / math.log(2), rel=0.01)
    assert alone.figures["this model, without repeats"] == nat
    assert shown(beside.figures["this model, without repeats"]) == "–"


def test_yardsticks_and_repeats_are_the_same_after_every_tokenizer(corpus_of):
    found = []
    for tokenizer in (BYTES, train_bpe([OLD.decode()], 300)):
        corpus = corpus_of("a.txt", OLD, REPEATED + NEW, tokenizer)
        losses = {corpus.name: torch.ones(len(corpus.validation) - 1)}
        (scores,) = score_corpora(tokenizer, [corpus], losses)
        mine = ("this model", "this model, without repeats")
        found.append({who: bits for who, bits in scores.figures.items() if who not in mine})
        found[-1]["repeated"] = scores.repeated
    assert found[0] == found[1]


def test_a_large_corpus_stands_by_its_beginning_and_says_so(corpus_of, monkeypatch):
    corpus = corpus_of("a.txt", OLD, NEW)
    losses = torch.tensor([1.0] * 99 + [3.0] * (len(corpus.validation) - 100))
    monkeypatch.setattr(validation, "MOST_VALIDATION", 100)
    monkeypatch.setattr(validation, "MOST_TRAINING", 1000)
    (scores,) = score_corpora(BYTES, [corpus], {corpus.name: losses * math.log(2)})
    assert scores.cut and scores.figures["this model, first MB"] == pytest.approx(1)
    assert scores.figures["this model"] > 2
    beginnings = (np.frombuffer(text, np.uint8) for text in (OLD[:1000], NEW[:100]))
    assert scores.figures.items() >= yardsticks(*beginnings).items()


def test_a_beginning_is_counted_in_bytes_of_text():
    bpe = train_bpe([OLD.decode()], 300)
    table, ids = ByteTable(bpe), bpe.encode(OLD)
    assert 90 < table.lengths[head(ids, table, 100)].sum() <= 100 < len(ids)


def test_no_validation_text_no_scores(corpus_of):
    assert score_corpora(BYTES, [corpus_of("a.txt", OLD, b"")], {}) == []


def test_the_mean_counts_every_token_alike(corpus_of):
    corpus = corpus_of("a.txt", OLD, NEW)
    losses = torch.rand(len(NEW), dtype=torch.float64)
    expected = losses.mean() / math.log(2) * (len(NEW) + 1) / len(NEW)  # the end has no byte
    assert mean_bits([corpus], {corpus.name: losses})[corpus.name] == pytest.approx(expected)


def test_bits_of_replies_are_a_byte_of_replies_whatever_the_tokenizer(tmp_path):
    """What is asked has long tokens, what is replied has short ones, or the other way about."""
    bpe = train_bpe(["user: hahahaha hahahaha hahahaha"], 300)
    (tmp_path / "a.txt").write_text("user: hahahaha hahahaha\nassistant: xyzq!\n\n" * 2)
    source = Source(f"transcripts:{tmp_path / 'a.txt'}", questions=0)
    corpus = load_corpus(source, tmp_path / "data", bpe, 0.5)
    said = b" xyzq!\n"
    losses = torch.ones(int(corpus.validation_replies.sum()))
    bits = mean_bits([corpus], {corpus.name: losses})[corpus.name]
    assert bits == pytest.approx(len(losses) / len(said) / math.log(2))


def test_where_nothing_was_measured_there_is_no_figure(corpus_of):
    corpus = corpus_of("a.txt", OLD, NEW)
    replying = replace(corpus, validation_replies=np.zeros(len(corpus.validation), bool))
    losses = {corpus.name: torch.empty(0)}
    assert mean_bits([replying], losses) == {} and score_corpora(BYTES, [replying], losses) == []


def test_yardsticks_are_ordered_by_what_they_know_and_xz_is_what_it_grows_by():
    training, held_back = (np.frombuffer(text, np.uint8) for text in (OLD, NEW))
    found = yardsticks(training, held_back)
    counting, xz, counted, nothing = found.values()
    assert counting < counted < nothing == 8 and xz < counted
    assert xz == (len(lzma.compress(OLD + NEW)) - len(lzma.compress(OLD))) * 8 / len(NEW)
    end = -np.log2(CountingModel(training, 0).next_byte(b"")[0x1E])  # bits, and no byte
    closed = yardsticks(training, np.append(held_back, np.uint8(0x1E)))
    assert closed["counting bytes"] == pytest.approx(counted + end / len(NEW))

"""`bpe:N`: learned once from a run's own training text."""

import pytest

from shared.errors import UserError
from shared.text import own_tokenizer
from shared.text.bpe import BPETokenizer
from shared.text.own_tokenizer import learned_size, tokenizer_for, training_texts
from shared.text.sources import Source


@pytest.fixture
def source(tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    for number in range(40):
        (notes / f"{number}.md").write_text(f"the tokenizer of note {number} and the others\n" * 5)
    return Source(f"markdown:{notes}")


def test_it_is_learned_once_and_then_read(source, tmp_path, monkeypatch):
    first = tokenizer_for("bpe:300", [source], tmp_path / "data", 0.1)
    assert isinstance(first, BPETokenizer) and 257 < first.vocab_size <= 300
    assert len(first.encode("the tokenizer")) < len("the tokenizer") / 2

    def no_second_time(*_):
        raise AssertionError("learned again")

    monkeypatch.setattr(own_tokenizer, "train_bpe", no_second_time)
    again = tokenizer_for("bpe:300", [source], tmp_path / "data", 0.1)
    assert again.identity == first.identity


def test_other_text_or_another_rule_gives_another_tokenizer(source, tmp_path, monkeypatch):
    tokenizer_for("bpe:300", [source], tmp_path / "data", 0.1)
    (tmp_path / "notes" / "new.md").write_text("quite other words here " * 50)
    tokenizer_for("bpe:300", [source], tmp_path / "data", 0.1)
    monkeypatch.setattr(own_tokenizer, "LONGEST_TOKEN", 8)
    tokenizer_for("bpe:300", [source], tmp_path / "data", 0.1)
    assert len(list((tmp_path / "data").glob("bpe-300-*.json"))) == 3


def test_validation_text_teaches_nothing_and_the_sample_ends_where_asked(source):
    everything = b"".join(training_texts(source, 10**9, 0.0))
    training = b"".join(training_texts(source, 10**9, 0.5))
    assert 0.2 < len(training) / len(everything) < 0.8
    assert sum(map(len, training_texts(source, 1000, 0.0))) == 1000


def test_names_of_other_tokenizers_are_passed_on(source, tmp_path):
    assert learned_size("bpe:8192") == 8192 and learned_size("bytes") is None
    assert tokenizer_for("bytes", [source], tmp_path, 0.1).kind == "bytes"
    with pytest.raises(UserError, match="vocab_size is 100"):
        tokenizer_for("bpe:100", [source], tmp_path, 0.1)
    assert not list(tmp_path.glob("bpe-*"))

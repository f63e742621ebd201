"""Publishing: exactly what may go out, and not one span of training text."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import publish
import pytest
import torch
import training_text
from finished_runs import SECRET, finished_run
from hypothesis import given, settings
from hypothesis import strategies as st
from served_models import adapter_beside

from shared.chat.adapter_file import load_adapter
from shared.errors import UserError
from shared.model.transformer import Transformer
from shared.text.bpe import BPETokenizer
from shared.text.bpe_training import train_bpe
from shared.text.primer import is_shipped_primer
from shared.text.text_spans import SPAN, first_shared_span, window_hashes
from shared.text.tokenizer_file import Tokenizer
from shared.training.checkpoint import load_model


def as_ids(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def test_every_window_has_its_own_hash_and_equal_windows_the_same():
    data = as_ids(bytes(range(256)) + bytes(range(256)))
    hashes = window_hashes(data)
    assert len(hashes) == 512 - SPAN + 1
    assert (hashes[:100] == hashes[256:356]).all()
    assert len(set(hashes[:256].tolist())) == 256
    assert len(window_hashes(data[: SPAN - 1])) == 0


@settings(max_examples=200)
@given(
    st.binary(min_size=0, max_size=300),
    st.binary(min_size=0, max_size=300),
    st.binary(min_size=SPAN - 8, max_size=SPAN + 8),
)
def test_it_agrees_with_a_plain_search(before, after, span):
    training, published = as_ids(before + span + after), after + span + before
    windows = (bytes(training[i : i + SPAN]) for i in range(len(training) - SPAN + 1))
    expected = any(window in published for window in windows if window != 16 * window[:4])
    assert (first_shared_span(published, training) is not None) == expected


def test_a_line_of_dashes_is_no_text():
    """GPT-2's vocabulary has a token of 64 of them."""
    for rule in (b"-", b"=-", b"<-->"):
        assert first_shared_span(100 * rule, as_ids(100 * rule)) is None
    assert first_shared_span(100 * b"<--->", as_ids(100 * b"<--->")) is not None


def test_a_span_across_two_pieces_is_found(monkeypatch):
    monkeypatch.setattr("shared.text.text_spans.CHUNK", 100)
    training = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)
    for start in (0, 60, 99, 100, 137, 936):
        span = training[start : start + SPAN].tobytes()
        assert first_shared_span(b"x" + span + b"y", training) == span
        assert first_shared_span(b"x" + span[1:] + b"y", training) is None


@pytest.mark.parametrize("chunk", [8, 100, 1 << 22])
def test_a_span_is_found_however_the_text_was_cut_into_tokens(chunk, monkeypatch):
    monkeypatch.setattr("shared.text.text_spans.CHUNK", chunk)
    tokenizer = train_bpe([SECRET * 3], 330)
    text = b"".join(b"%d, " % (n * n) for n in range(200))
    end = [tokenizer.end_of_text]
    ids = np.concatenate([tokenizer.encode(text[:400]), end, tokenizer.encode(text[400:]), end])
    for start in (0, 1, 77, 380, 400, len(text) - SPAN):  # 380: an end-of-text id inside
        span = text[start : start + SPAN]
        assert first_shared_span(b"x" + span + b"y", ids, tokenizer.decode_bytes) == span
        assert first_shared_span(b"x" + span[1:] + b"y", ids, tokenizer.decode_bytes) is None


@pytest.fixture
def bpe() -> BPETokenizer:
    """A tokenizer learned from the secret text."""
    return train_bpe([SECRET * 20], 300)


@pytest.fixture
def make_run(tmp_path, tiny_config, monkeypatch) -> Callable[[Tokenizer], Path]:
    """Makes a finished run on a secret text, as `full_run.py` leaves it."""

    def make(tokenizer: Tokenizer, notes: bytes = SECRET.encode() * 20, sample: str = "") -> Path:
        monkeypatch.setattr(publish, "DATA", tmp_path / "data")
        model = Transformer(replace(tiny_config, vocab_size=tokenizer.vocab_size))
        folder = finished_run(tmp_path, model, tokenizer, notes)
        hello = "user: hello\nassistant: Hello! I am a tiny language model. What shall we talk "
        samples = hello + "about?", sample or "I dreamt: " + SECRET
        blocks = "\n\n".join(f"```text\n{text}\n```" for text in samples)
        card = f"# Model card\n\n## Samples\n\n{blocks}\n\n## Limits\n\nTiny.\n"
        (folder / "card.md").write_bytes(card.encode())
        (folder / "curves.png").write_bytes(b"\x89PNG")
        return folder

    return make


@pytest.fixture
def run(make_run, tokenizer) -> Path:
    """A finished run with the byte tokenizer."""
    return make_run(tokenizer)


def test_exactly_what_may_be_published_is_gathered(run, tmp_path, capsys):
    publish.main([str(run), "--out", str(tmp_path / "public")])
    assert {path.name for path in (tmp_path / "public").iterdir()} == {
        "model.safetensors",
        "model.json",
        "tokenizer.json",
        "card.md",
        "curves.png",
        "checksums.json",
    }
    everything = b"".join(path.read_bytes() for path in (tmp_path / "public").iterdir())
    assert str(tmp_path).encode() not in everything
    assert "card.md" in capsys.readouterr().out


def test_a_sample_that_repeats_training_text_is_left_out_of_the_card(run, tmp_path):
    publish.main([str(run), "--out", str(tmp_path / "public")])
    card = (tmp_path / "public" / "card.md").read_text()
    assert "treasure" not in card and publish.LEFT_OUT in card
    assert "Hello! I am a tiny language model." in card  # the primer is public with the code


def test_what_is_published_can_be_published_again_without_its_text_while_it_is_whole(run, tmp_path):
    first, again = tmp_path / "public", tmp_path / "again"
    publish.main([str(run), "--out", str(first)])
    shutil.rmtree(tmp_path / "notes")
    (first / "card.md").write_text("# A card with a word more")
    publish.main([str(first), "--out", str(again)])
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in first.iterdir()
    }
    (first / "tokenizer.json").write_bytes((first / "tokenizer.json").read_bytes() + b" ")
    with pytest.raises(UserError, match="does not tell what it was trained on"):
        publish.publish(first, tmp_path / "no", tmp_path / "data")


def test_a_checkpoint_that_only_lost_its_config_is_not_taken_as_published(run, tmp_path):
    bare = shutil.copytree(run / "checkpoints" / "step-0000001", tmp_path / "bare")
    (bare / "config.json").unlink()
    (bare / "card.md").write_text("# A card")
    with pytest.raises(UserError, match="does not tell what it was trained on"):
        publish.publish(bare, tmp_path / "public", tmp_path / "data")


LINES = b"".join(b"%d steps, then %d \xfcber das Feld\n" % (n, n * n) for n in range(20))


@pytest.mark.parametrize("training_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("card_end", ["\n", "\r\n"])
def test_a_repeated_sample_is_found_whatever_showing_did_to_it(
    training_end, card_end, make_run, tokenizer, tmp_path
):
    """Short lines that are no UTF-8: no 64 bytes of them stand in the card as they were."""
    sample = LINES.decode("utf-8", "replace").replace("\n", card_end)
    run = make_run(tokenizer, LINES.replace(b"\n", training_end), sample)
    publish.main([str(run), "--out", str(tmp_path / "public")])
    assert "steps, then" not in (tmp_path / "public" / "card.md").read_text()


@pytest.mark.parametrize("file", ["curves.png", "model.json", "model.safetensors", "card.md"])
def test_training_text_anywhere_else_is_refused_and_nothing_is_made(file, run, tmp_path):
    checkpoint = run / "checkpoints" / "step-0000001"
    path = run / file if (run / file).exists() else checkpoint / file
    path.write_bytes(path.read_bytes() + SECRET[5 : 5 + SPAN].encode())
    (checkpoint / "checksums.json").unlink()
    with pytest.raises(UserError, match=rf"{file} holds 64 bytes of markdown:notes"):
        publish.main([str(run), "--out", str(tmp_path / "public")])
    assert not (tmp_path / "public").exists()


def test_a_published_model_with_an_adapter_says_what_both_say_together(run, tmp_path):
    checkpoint, public = run / "checkpoints" / "step-0000001", tmp_path / "public"
    path = adapter_beside(load_model(checkpoint)[0], tmp_path / "keeper.safetensors")
    publish.main([str(run), "--adapter", str(path), "--out", str(public)])
    base, both, published = (load_model(at)[0] for at in (checkpoint, checkpoint, public))
    load_adapter(both, path)
    ids = torch.arange(3 * 20).view(3, 20) * 7 % 256  # (B, T)
    with torch.no_grad():
        expected = both(ids)
        assert torch.allclose(published(ids), expected, atol=1e-5)
        assert not torch.allclose(base(ids), expected, atol=0.1)
    assert published.state_dict().keys() == base.state_dict().keys()
    assert {file.name for file in public.iterdir()} >= {"model.safetensors", "card.md"}
    assert not list(public.glob("*keeper*"))


def test_the_card_says_that_an_adapter_was_merged_and_what_was_measured_without(run, tmp_path):
    model = load_model(run / "checkpoints" / "step-0000001")[0]
    path = adapter_beside(model, tmp_path / "keeper.safetensors")
    cards = []
    for number, more in enumerate(([], ["--adapter", str(path)])):
        publish.main([str(run), *more, "--out", str(tmp_path / f"public{number}")])
        cards.append((tmp_path / f"public{number}" / "card.md").read_text())
    title, told, *rest = cards[1].split("\n\n")
    assert "\n\n".join([title, *rest]) == cards[0]
    assert "`keeper.safetensors`, rank 3," in told and "without it" in told
    assert str(tmp_path) not in told


def test_an_adapter_that_is_missing_or_another_models_is_refused_and_nothing_is_made(
    run, tmp_path, random_model
):
    others = adapter_beside(random_model(), tmp_path / "others.safetensors")
    (tmp_path / "text.safetensors").write_text("no adapter")
    for path, words in (
        (tmp_path / "nowhere.safetensors", "no adapter at"),
        ("", "no adapter at"),
        (tmp_path / "text.safetensors", "is no adapter, or broken"),
        (others, "was trained beside another model"),
    ):
        with pytest.raises(UserError, match=words) as refused:
            publish.main([str(run), "--adapter", str(path), "--out", str(tmp_path / "public")])
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "public").exists()


def test_with_learned_tokens_training_text_is_found_as_well(make_run, bpe, tmp_path):
    run = make_run(bpe)
    publish.main([str(run), "--out", str(tmp_path / "public")])
    card = (tmp_path / "public" / "card.md").read_text()
    assert "treasure" not in card and publish.LEFT_OUT in card
    assert "Hello! I am a tiny language model." in card
    (run / "curves.png").write_bytes(b"\x89PNG" + SECRET[5 : 5 + SPAN].encode())
    with pytest.raises(UserError, match=r"curves.png holds 64 bytes of markdown:notes"):
        publish.main([str(run), "--out", str(tmp_path / "other")])
    assert not (tmp_path / "other").exists()


def test_a_token_that_is_training_text_is_refused(make_run, tmp_path, monkeypatch):
    """The file shows tokens in hex, where no comparison of bytes finds them."""
    monkeypatch.setattr("shared.text.bpe_training.LONGEST_TOKEN", 200)
    link = SECRET.replace(" ", "").replace(",", "").rstrip(".").encode()
    text = b"".join(b"%d %s. " % (n, link) for n in range(50))
    run = make_run(train_bpe([text], 400), text)
    with pytest.raises(UserError, match=r"tokenizer.json holds 64 bytes of markdown:notes"):
        publish.main([str(run), "--out", str(tmp_path / "public")])


def test_an_edited_primer_is_private(run, tmp_path, monkeypatch):
    """The run's primer is the committed one: this fails until its hash stands in `primer.py`."""
    assert is_shipped_primer()
    monkeypatch.setattr("shared.text.primer.SHIPPED_SHA256", "of another")
    publish.main([str(run), "--out", str(tmp_path / "public")])
    card = (tmp_path / "public" / "card.md").read_text()
    assert "I am a tiny language model" not in card and card.count(publish.LEFT_OUT) == 2


@pytest.mark.parametrize("edited", ["primer.SHIPPED", "drill_conversations.SHIPPED_WORDS"])
def test_drills_are_public_while_words_and_primer_are_the_shipped_ones(edited, monkeypatch):
    assert training_text.is_public("drills") and training_text.is_public("primer")
    assert not training_text.is_public("markdown") and not training_text.is_public("python-docs")
    monkeypatch.setattr(f"shared.text.{edited}_SHA256", "of another")
    assert not training_text.is_public("drills")


def test_it_says_how_many_published_tokens_were_learned_from_the_text(
    make_run, bpe, tmp_path, capsys
):
    publish.main([str(make_run(bpe)), "--out", str(tmp_path / "public")])
    told = " ".join(capsys.readouterr().out.split())
    assert f"tokenizer.json holds {len(bpe.merges)} tokens learned from text" in told


def test_tokens_that_were_not_learned_here_are_not_counted(tokenizer, bpe):
    # Numbered by somebody else, as GPT-2's are.
    theirs = BPETokenizer([bytes([byte]) for byte in reversed(range(256))], [])
    assert publish.learned_tokens(bpe) == len(bpe.merges) == 300 - 256 - 1
    assert publish.learned_tokens(tokenizer) == publish.learned_tokens(theirs) == 0


def test_text_that_has_changed_cannot_be_compared(run, tmp_path):
    (tmp_path / "notes" / "secret.md").write_text("something else entirely. " * 50)
    with pytest.raises(UserError, match="the text of markdown:notes has changed"):
        publish.main([str(run), "--out", str(tmp_path / "public")])
    shutil.rmtree(tmp_path / "notes")
    with pytest.raises(UserError, match="no such file or folder"):
        publish.main([str(run), "--out", str(tmp_path / "public")])


def test_an_unfinished_run_or_a_taken_folder_is_refused(run, tmp_path):
    (tmp_path / "public").mkdir()
    with pytest.raises(UserError, match="exists already"):
        publish.main([str(run), "--out", str(tmp_path / "public")])
    for path in ("~nosuch/x", "x" * 5000):
        with pytest.raises(UserError, match="cannot be a path here"):
            publish.main([str(run), "--out", path])
        with pytest.raises(UserError, match="cannot be a path here"):
            publish.main([path, "--out", str(tmp_path / "other")])
    (run / "card.md").unlink()
    with pytest.raises(UserError, match="let the run finish first"):
        publish.main([str(run), "--out", str(tmp_path / "other")])


def test_a_checkpoint_that_hides_its_text_is_refused(run, tmp_path):
    checkpoint = run / "checkpoints" / "step-0000001"
    (checkpoint / "config.json").write_text(json.dumps({"data": {}}))
    (checkpoint / "checksums.json").unlink()
    with pytest.raises(UserError, match="does not tell what it was trained on"):
        publish.main([str(run), "--out", str(tmp_path / "public")])

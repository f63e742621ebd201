"""Pretrained tokenizers: the library's ids, lossless, and errors that say what to do.

No network: small tokenizers of both families are trained here, and the hub is played.
"""

import json
import sys
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import tokenizers
from huggingface_hub import constants
from huggingface_hub import errors as hub_errors
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers

from shared.errors import UserError
from shared.text import pretrained
from shared.text.bpe_files import write_tokenizers_json
from shared.text.bpe_training import train_bpe
from shared.text.pretrained import PretrainedTokenizer
from shared.text.python_docs import read_python_docs
from shared.text.tokenizer_file import load_tokenizer, pick_tokenizer

ODD = [
    "",
    " ",
    "  two  spaces ",
    "\n\n \t x",
    "Übergröße, Straße",
    "👋🏽 emoji 👩‍👩‍👧",
    "日本語のテキスト",
    "it's we'll I'M",
    "1234 5,678.90",
    "a\u00a0b\u3000c",
    "\x00\x1e",
    "x" * 200,
    "<|endoftext|>",
    "a </s><s> b",
    "<|end_of_text|><|begin_of_text|>",
    "<0x0A>",
]
TEXTS = st.one_of(st.text(), st.sampled_from(ODD), st.text(alphabet=" \n<|>/sendoftx_ab'é👋"))
LLAMA_2, LLAMA_3 = "Llama 2", "Llama 3"


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    """A little English and code."""
    return [d.data.decode() for d in islice(read_python_docs(), 15)]


def llama_3(corpus: list[str]) -> tokenizers.Tokenizer:
    """A regex, then bytes; words that are tokens need no merges; special tokens come last."""
    made = tokenizers.Tokenizer(models.BPE(ignore_merges=True))
    cut = pre_tokenizers.Split(tokenizers.Regex(r"\s?\p{L}+|\p{N}{1,3}|\s+|."), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.pre_tokenizer = pre_tokenizers.Sequence([cut, as_bytes])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens(["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"])
    return made


def llama_2(corpus: list[str]) -> tokenizers.Tokenizer:
    """Characters with ▁ for a space, bytes for what is no token, ▁ in front of every text."""
    made = tokenizers.Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    special = ["<unk>", "<s>", "</s>"]
    byte_names = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special + byte_names, show_progress=False
    )
    lines = [line for text in corpus for line in text.split("\n")]
    made.train_from_iterator(lines, trainer)
    state = json.loads(made.to_str())
    # As in Llama 2's file: bytes are tokens of the model, and not found in a text by name.
    state["added_tokens"] = state["added_tokens"][: len(special)]
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    made = tokenizers.Tokenizer.from_str(json.dumps(state))
    made.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    return made


@pytest.fixture(scope="module", params=[LLAMA_3, LLAMA_2])
def family(request, corpus) -> tuple[str, tokenizers.Tokenizer, PretrainedTokenizer]:
    """One of the two families: its name, the library's tokenizer, and ours around it."""
    made = {LLAMA_3: llama_3, LLAMA_2: llama_2}[request.param](corpus)
    return request.param, made, PretrainedTokenizer(json.loads(made.to_str()))


@pytest.fixture
def saved(family, tmp_path) -> Path:
    """The library's own file."""
    path = tmp_path / "tokenizer.json"
    family[1].save(str(path))
    return path


@given(TEXTS)
def test_ids_are_the_librarys(family, text):
    """Llama 2's puts a space in front of every text, which ours leaves to the caller."""
    name, library, ours = family
    library.encode_special_tokens = True
    expected = library.encode(text, add_special_tokens=False).ids
    given_text = " " + text if name == LLAMA_2 and text else text
    assert ours.encode(given_text).tolist() == expected


@given(TEXTS)
def test_any_text_comes_back(family, text):
    name, _, ours = family
    expected = text.replace("▁", " ") if name == LLAMA_2 else text
    assert ours.decode(ours.encode(text)) == expected
    assert ours.decode_bytes(ours.encode(text)) == expected.encode()


@given(TEXTS, TEXTS)
def test_two_texts_encoded_apart_stand_side_by_side(family, one, two):
    """As a prompt and its reply do: nothing is put between them."""
    ours = family[2]
    both = [*ours.encode(one), *ours.encode(two)]
    assert ours.decode(both) == ours.decode(ours.encode(one + two))


@given(TEXTS)
def test_decoding_token_by_token_gives_the_same_text(family, text):
    ours = family[2]
    decoder, ids = ours.decoder(), ours.encode(text)
    assert "".join([decoder.feed(t) for t in ids] + [decoder.flush()]) == ours.decode(ids)


@given(st.one_of(st.binary(), st.just("\ud800 lone"), st.just("byte \udcff")))
def test_what_is_no_utf8_becomes_the_replacement_character(family, data):
    ours = family[2]
    if isinstance(data, bytes):
        expected = data.decode("utf-8", "replace").replace("▁", " ")
        assert ours.decode(ours.encode(data)).replace("▁", " ") == expected
    else:
        assert "\ufffd" in ours.decode(ours.encode(data))


@given(st.lists(st.integers(0, 400)))
def test_any_ids_decode(family, ids):
    assert isinstance(family[2].decode(ids), str)


@given(TEXTS)
def test_no_text_is_ever_a_special_token(family, text):
    ours = family[2]
    assert not set(ours.special.values()) & set(ours.encode(text).tolist())
    for name, number in ours.special.items():
        assert number not in ours.encode(f"{text}{name}{text}")


def test_numbers_and_names_of_the_two_families(family):
    name, library, ours = family
    assert ours.kind == "pretrained"
    assert ours.vocab_size == library.get_vocab_size(with_added_tokens=True)
    assert ours.end_of_text == library.token_to_id("<|end_of_text|>" if name == LLAMA_3 else "</s>")
    assert ours.token_bytes(ours.end_of_text) == b""
    assert ours.encode("abc").dtype == "uint16"


def test_a_byte_that_is_no_character_is_one_id(family):
    _, library, ours = family
    assert {ours.token_bytes(i) for i in range(ours.vocab_size)} >= {
        bytes([b]) for b in range(1, 256)
    }
    assert [ours.token_bytes(i) for i in ours.encode("ツ")] == [b"\xe3", b"\x83", b"\x84"]
    assert library.decode(ours.encode("ツ").tolist()) == "ツ"


def test_a_special_name_that_merges_lead_to_is_spelled_out():
    """`<s` and `>` merge to `<s>`: without care four typed signs would be a special id."""
    words = [*"</s> ▁", "</", "</s", "</s>"]
    merges = [("<", "/"), ("</", "s"), ("</s", ">")]
    made = tokenizers.Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, merges))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.add_special_tokens(["</s>"])
    made.encode_special_tokens = True
    assert made.encode("</s>").ids == [8]  # the library alone is led astray
    ours = PretrainedTokenizer(json.loads(made.to_str()))
    assert ours.end_of_text == 8
    assert ours.encode("s</s>s").tolist() == [2, 0, 1, 2, 3, 2]


def test_an_end_of_text_that_is_not_marked_special_is_unreachable_too(corpus):
    made = llama_3(corpus)
    made.add_tokens([AddedToken("<|endoftext|>", normalized=False), "<tool>", "né"])
    ours = PretrainedTokenizer(json.loads(made.to_str()))
    assert ours.end_of_text == made.token_to_id("<|endoftext|>") not in ours.encode("<|endoftext|>")
    assert ours.decode(ours.encode("a né<|endoftext|><tool>")) == "a né<|endoftext|><tool>"
    assert made.token_to_id("<tool>") in ours.encode("<tool>")  # a plain token, not a special one


def test_a_file_that_cuts_and_pads_does_neither_here(corpus):
    made = llama_3(corpus)
    made.enable_truncation(3)
    made.enable_padding(length=50)
    ours = PretrainedTokenizer(json.loads(made.to_str()))
    assert ours.decode(ours.encode("one two three four")) == "one two three four"


def test_gaps_in_the_ids_count_as_rows():
    made = tokenizers.Tokenizer(models.BPE({"a": 0, "▁": 1, "b": 9, "</s>": 5}, []))
    made.normalizer = normalizers.Replace(" ", "▁")
    ours = PretrainedTokenizer(json.loads(made.to_str()))
    assert (ours.vocab_size, ours.token_bytes(7), ours.end_of_text) == (10, b"", 5)


def test_a_name_outside_the_byte_alphabet_is_taken_as_text():
    made = tokenizers.Tokenizer(models.BPE({"Ġ": 0, "two words": 1, "</s>": 2}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel()
    ours = PretrainedTokenizer(json.loads(made.to_str()))
    assert [ours.token_bytes(i) for i in range(3)] == [b" ", b"two words", b""]


def test_our_bpe_and_the_wrapper_around_its_export_agree(corpus, tmp_path):
    bpe = train_bpe(corpus, 600)
    write_tokenizers_json(bpe, tmp_path / "tokenizer.json")
    wrapped = pick_tokenizer(str(tmp_path))
    assert wrapped.kind == "pretrained"
    assert (wrapped.vocab_size, wrapped.end_of_text) == (bpe.vocab_size, bpe.end_of_text)
    assert [wrapped.token_bytes(i) for i in range(600)] == [bpe.token_bytes(i) for i in range(600)]
    for text in [*ODD, *corpus[:3]]:
        assert wrapped.encode(text).tolist() == bpe.encode(text).tolist()


# --- saving and picking


def test_saving_restores_everything_without_a_network(family, saved, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "download_tokenizer", lambda name: pytest.fail("asked the hub"))
    first = pick_tokenizer(str(saved))
    first.save(tmp_path / "own.json")
    saved.unlink()
    again = load_tokenizer(tmp_path / "own.json")
    again.save(tmp_path / "own again.json")
    assert (tmp_path / "own again.json").read_text() == (tmp_path / "own.json").read_text()
    assert again.identity == first.identity == family[2].identity
    assert (again.vocab_size, again.end_of_text) == (first.vocab_size, first.end_of_text)
    for text in ODD:
        assert again.encode(text).tolist() == first.encode(text).tolist()


def test_identity_differs_between_tokenizers(corpus):
    states = [json.loads(make(corpus).to_str()) for make in (llama_3, llama_2)]
    assert len({PretrainedTokenizer(state).identity for state in states}) == 2


def test_a_folder_with_gpt2_files_is_read_by_our_own_class(corpus, tmp_path):
    made = tokenizers.ByteLevelBPETokenizer()
    made.train_from_iterator(corpus, vocab_size=400, show_progress=False)
    made.save_model(str(tmp_path))
    ours = pick_tokenizer(str(tmp_path))
    assert ours.kind == "bpe"
    assert ours.encode(corpus[0]).tolist() == made.encode(corpus[0]).ids


def test_an_empty_folder_and_a_missing_file_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "download_tokenizer", lambda name: pytest.fail("asked the hub"))
    for name, message in [
        (str(tmp_path), "holds no tokenizer.json"),
        (str(tmp_path / "none.json"), "cannot read the tokenizer"),
        ("none.json", "cannot read the tokenizer"),
        ("~/no/such/file", "cannot read the tokenizer"),
        ("~nosuch/file.json", "cannot be a path here"),
    ]:
        assert_one_line(message, pick_tokenizer, name)
    assert_one_line("cannot be a path here", load_tokenizer, "~nosuch/file.json")


# --- what can go wrong


def assert_one_line(message: str, call, *arguments) -> None:
    with pytest.raises(UserError, match=message) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)


def test_a_missing_package_says_how_to_install_it(family, saved, tmp_path, monkeypatch):
    family[2].save(tmp_path / "own.json")
    monkeypatch.setitem(sys.modules, "tokenizers", None)  # as if it were not installed
    for path in (saved, tmp_path / "own.json"):
        assert_one_line(r'pip install -e "\.\[pretrained\]"', load_tokenizer, path)


def test_tokenizers_that_would_lose_text_or_never_end_are_refused(corpus, tmp_path):
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, unk_token="a"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    endless = tokenizers.Tokenizer(models.BPE({"a": 0, "▁": 1}, []))
    endless.normalizer = normalizers.Replace(" ", "▁")
    for made, message in [(words, "drops spaces"), (endless, "no end-of-text token")]:
        made.save(str(tmp_path / "tokenizer.json"))
        assert_one_line(message, pick_tokenizer, str(tmp_path))


@pytest.mark.parametrize("model", [{}, {"type": "BPE"}, [], {"type": "?", "vocab": {}}])
@pytest.mark.parametrize("before", [None, {"type": "ByteLevel"}, {"type": "No"}, [1]])
def test_a_broken_file_is_one_line(model, before, tmp_path):
    state = {"model": model, "pre_tokenizer": before}
    (tmp_path / "tokenizer.json").write_text(json.dumps(state))
    assert_one_line("read|spaces", pick_tokenizer, str(tmp_path))
    (tmp_path / "own.json").write_text(json.dumps({"kind": "pretrained", "tokenizer": state}))
    assert_one_line("read|spaces", load_tokenizer, tmp_path / "own.json")


def refusal(kind: type, status: int) -> Exception:
    """An error as the hub's client raises it, without an answer that came over a network."""
    error = kind.__new__(kind)
    Exception.__init__(error, f"{status} Client Error.\n\nSee https://huggingface.co/docs")
    error.response = SimpleNamespace(status_code=status, headers={})
    return error


@pytest.mark.parametrize(
    "error, message",
    [
        (refusal(hub_errors.GatedRepoError, 401), "gated: accept its licence on .*`hf auth login`"),
        (refusal(hub_errors.GatedRepoError, 403), "huggingface.co/org/model, .* HF_TOKEN"),
        (refusal(hub_errors.HfHubHTTPError, 403), r"refused by the hub \(HTTP 403\): .*auth login"),
        (refusal(hub_errors.RepositoryNotFoundError, 401), "no model on the hub: check"),
        (hub_errors.HFValidationError("bad\nname"), "no model on the hub: check"),
        (refusal(hub_errors.EntryNotFoundError, 404), "has no tokenizer.json on the hub"),
        (hub_errors.LocalEntryNotFoundError("lost\nit"), "cannot be reached .*go online once"),
        (refusal(hub_errors.HfHubHTTPError, 503), "cannot be reached .503 Client Error"),
        (ConnectionError(), r"cannot be reached \(ConnectionError\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_failure_of_the_hub_says_what_to_do(error, message, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", refuse)
    assert_one_line(message, pick_tokenizer, "org/model")


def test_the_hubs_own_offline_error_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = "'gpt2' is no file here, and the hub cannot be reached .*offline mode"
    assert_one_line(message, pick_tokenizer, "gpt2")


def test_a_name_is_downloaded_once_and_then_read_from_the_cache(family, saved, monkeypatch):
    asked = []

    def download(name: str, file: str, local_files_only: bool = False) -> str:
        if local_files_only and not asked:
            raise hub_errors.LocalEntryNotFoundError("not here")
        asked.append((name, file, local_files_only))
        return str(saved)

    monkeypatch.chdir(saved.parent)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: None)
    for _ in range(2):
        assert pick_tokenizer("org/model").identity == family[2].identity
    name = ("org/model", "tokenizer.json")
    assert asked == [(*name, False), (*name, True)]

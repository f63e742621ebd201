"""The byte tokenizer: nothing is lost, nothing raises, no character is cut."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from shared.text.tokenizer import ByteTokenizer
from shared.text.tokenizer_file import load_tokenizer

TOKENIZER = ByteTokenizer()


def test_hello_by_hand():
    ids = TOKENIZER.encode("hé")
    assert ids.tolist() == [104, 195, 169]
    assert ids.dtype == np.uint8 and ids.shape == (3,)


@given(st.text())
def test_any_text_comes_back(text: str):
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.binary())
def test_any_bytes_come_back_and_decoding_never_raises(data: bytes):
    ids = TOKENIZER.encode(data)
    assert TOKENIZER.decode_bytes(ids) == data
    assert TOKENIZER.decode(ids) == data.decode("utf-8", "replace")


@given(st.text(alphabet=st.characters(categories=["Cs", "Lu"])))
def test_lone_surrogates_never_raise_and_harm_nothing_beside_them(text: str):
    decoded = TOKENIZER.decode(TOKENIZER.encode(f"Aé {text} éZ"))
    assert decoded.startswith("Aé ") and decoded.endswith(" éZ")


def test_a_byte_that_python_carried_as_a_surrogate_becomes_that_byte_again():
    assert TOKENIZER.encode(b"caf\xe9".decode("utf-8", "surrogateescape")).tolist()[-1] == 0xE9


@given(st.binary())
def test_decoding_byte_by_byte_gives_the_same_text(data: bytes):
    decoder = TOKENIZER.decoder()
    pieces = [decoder.feed(byte) for byte in data] + [decoder.flush()]
    assert "".join(pieces) == data.decode("utf-8", "replace")


@given(st.text())
def test_a_character_is_emitted_when_it_is_whole_and_not_before(text: str):
    decoder = TOKENIZER.decoder()
    for character in text:
        *early, last = character.encode()
        assert [decoder.feed(byte) for byte in early] == [""] * len(early)
        assert decoder.feed(last) == character
    assert decoder.flush() == ""


def test_two_decoders_do_not_share_their_state():
    one, two = TOKENIZER.decoder(), TOKENIZER.decoder()
    one.feed(0xC3)
    assert two.feed(ord("a")) == "a"
    assert one.feed(0xA9) == "é"


def test_saving_and_loading(tmp_path):
    TOKENIZER.save(tmp_path / "tokenizer.json")
    assert load_tokenizer(tmp_path / "tokenizer.json").vocab_size == 256


@pytest.mark.parametrize("content", ['{"kind": "words"}', "{", "[]", '"x"', ""])
def test_a_foreign_or_broken_tokenizer_file_is_refused(content, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        load_tokenizer(path)


def test_the_saved_file_is_plain_json(tmp_path):
    TOKENIZER.save(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == {"kind": "bytes", "end_of_text": 0x1E}

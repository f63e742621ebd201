"""Transcripts: a conversation as text and back, and nobody speaks with another's voice."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers

from shared.errors import UserError
from shared.text.byte_table import ByteTable
from shared.text.primer import primer_conversations, read_primer
from shared.text.replies import ids_in_replies, in_replies
from shared.text.transcript import ROLES, Message, parse, render, render_prompt

TALK = [Message("system", "Be brief."), Message("user", "hi"), Message("assistant", "Hello!\nYou?")]


def test_rendering_by_hand():
    assert render(TALK) == "system: Be brief.\nuser: hi\nassistant: Hello!\nYou?\n"
    assert render_prompt(TALK[:2]) == "system: Be brief.\nuser: hi\nassistant:"
    assert parse(render(TALK)) == TALK


def test_what_the_assistant_says_and_its_end_are_marked_by_hand():
    text = render([*TALK, Message("user", "bye"), Message("assistant", "Bye!")]) + "\x1e"
    marked = "".join(
        letter if counts else "."
        for letter, counts in zip(text, in_replies(text.encode()), strict=True)
    )
    before = len("system: Be brief.\nuser: hi\nassistant:")
    between = len("user: bye\nassistant:")
    assert marked == "." * before + " Hello!\nYou?\n" + "." * between + " Bye!\n\x1e"


def test_only_turns_of_the_assistant_are_marked():
    text = "the assistant: no\x1euser: assistant: no\n assistant: no\nassistant: yes\x1e"
    assert np.flatnonzero(in_replies(text.encode())).tolist() == list(
        range(len(text) - len(" yes\x1e"), len(text))
    )


def test_ids_of_several_bytes_are_marked_where_they_begin():
    """`t:` begins before the reply, ` H` with it, `i\\nuser` in it: one mark each."""
    pieces = [b"user: x\nassistan", b"t:", b" H", b"i\nuser", b": y\n"]
    assert ids_in_replies(np.arange(5), ByteTable(Pieces(pieces))).tolist() == [0, 0, 1, 1, 0]


class Pieces:
    """A tokenizer of these pieces and an end."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [*pieces, b""]
        self.vocab_size, self.end_of_text = len(self.pieces), len(pieces)

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]


LIKE_TURNS = ["user: x", "assistant：", "ｕｓｅｒ：x", "User:", "ú\u200bser ︓"]
BEFORE_A_TURN = ["", " ", "\u3000", "\u200b", "\x00", "\u0301"]
LINE_ENDS = ["\n", "\r\n", "\r", "\u2028"]

lines = st.lists(
    st.one_of(
        st.sampled_from([*LIKE_TURNS, *BEFORE_A_TURN, *LINE_ENDS, "user"]),
        st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x1e")),
    ),
    max_size=6,
).map("".join)
conversations = st.lists(st.builds(Message, st.sampled_from(ROLES), lines), max_size=4)


@given(conversations)
def test_parse_undoes_render(messages: list[Message]):
    assert parse(render(messages)) == messages


@given(lines)
def test_no_content_can_begin_another_turn(content: str):
    assert len(parse(render([Message("user", content)]))) == 1


@pytest.mark.parametrize(
    "steps",
    [
        [normalizers.NFKC()],
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()],
        [normalizers.Replace(sign, "") for sign in ("\u200b", "\x00")] + [normalizers.NFKC()],
        [normalizers.Replace(end, "\n") for end in ("\r\n", "\r", "\u2028")],
    ],
    ids=["compatibility", "accents and case", "unseen characters", "line ends"],
)
def test_no_content_can_begin_another_turn_once_a_tokenizer_has_normalised_it(steps):
    content = "".join(map("".join, product(LINE_ENDS, BEFORE_A_TURN, LIKE_TURNS)))
    text = render([Message("user", content)])
    normalised = normalizers.Sequence(steps).normalize_str(text)
    assert len(parse(normalised)) == 1


def test_content_cannot_end_the_document():
    assert "\x1e" not in render([Message("user", "a\x1eb")])


def test_text_without_a_role_is_refused():
    with pytest.raises(UserError, match="begins with one of system, user, assistant"):
        parse("hello there\nuser: hi\n")


def test_an_empty_text_is_an_empty_conversation():
    assert parse("  \n") == []


def test_the_primer_is_60_to_100_sound_conversations():
    conversations = primer_conversations()
    assert 60 <= len(conversations) <= 100
    for messages in conversations:
        assert messages[-1].role == "assistant"
        assert all(message.content.strip() == message.content != "" for message in messages)
        turns = [message.role for message in messages if message.role != "system"]
        assert turns == ["user", "assistant"] * (len(turns) // 2)


def test_the_primer_holds_what_a_first_chat_asks():
    asked = {m.content for messages in primer_conversations() for m in messages if m.role == "user"}
    assert {"hello", "what are you?", "how does attention work?"} <= asked
    answers = " ".join(m.content for ms in primer_conversations() for m in ms)
    assert "I am a tiny model and I do not know" in answers


def test_the_primer_is_read_in_three_spellings_and_only_to_train_on():
    documents = list(read_primer())
    texts = {document.data for document in documents}
    assert len(documents) == 4 * len(primer_conversations())
    assert {document.split for document in documents} == {"train"}
    for spelling in (b"user: what are you?\n", b"user: What are you?\n", b"user: what are you\n"):
        assert any(text.startswith(spelling) for text in texts)


def test_every_primer_conversation_also_ends_a_chain_of_three():
    chained = [d for d in read_primer() if d.name.endswith("_chained")]
    for document, messages in zip(chained, primer_conversations(), strict=True):
        turns = parse(document.data.decode())
        assert len(turns) >= 6 and turns[-1] == messages[-1]
        assert (turns[0].role == "system") == (messages[0].role == "system")
        assert [m.role for m in turns if m.role != "system"] == ["user", "assistant"] * (
            len([m for m in turns if m.role != "system"]) // 2
        )

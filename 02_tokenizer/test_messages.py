"""Conversations of one's own: whole and in order, or refused with file and line."""

import json
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UserError
from shared.text import hub
from shared.text.corpora import Document
from shared.text.primer import PRIMER_PATH, primer_conversations
from shared.text.sources import Source, read_source, source_of_path
from shared.text.splits import split_by_name, split_documents
from shared.text.text_spans import first_shared_span
from shared.text.token_file import document_lengths, load_corpus
from shared.text.tokenizer import END_OF_TEXT

USER = {"role": "user", "content": "hi"}
REPLY = {"role": "assistant", "content": "Hello é!\n\nuser: x", "weight": 1}
TALK = [{"role": "system", "content": "Be kind."}, USER, REPLY]
RENDERED = "system: Be kind.\nuser: hi\nassistant: Hello é!\n\n user: x\n".encode()


def row(*turns: object) -> str:
    return json.dumps({"messages": turns, "id": 7}) + "\n"


def pack(path: Path, content: bytes) -> Path:
    """Writes the file as its ending says; a .zip holds two of them."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("b.jsonl", content)
            archive.writestr("a.jsonl.xz", lzma.compress(content))
    else:
        path.write_bytes(lzma.compress(content) if path.suffix == ".xz" else content)
    return path


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("c.jsonl", ["00000001", "00000003"]),
        ("c.jsonl.xz", ["00000001", "00000003"]),
        ("c.zip", [f"{file}/{n:08d}" for file in ("a.jsonl.xz", "b.jsonl") for n in (1, 3)]),
    ],
)
def test_each_row_of_messages_is_one_document_whatever_it_is_packed_in(name, names, tmp_path):
    path = pack(tmp_path / name, f"{row(*TALK)}\n{row(*TALK)}".encode())
    source = source_of_path(path)  # as `--data.path` names it
    assert source == Source(f"messages:{path}")
    expected = [Document(name, RENDERED, is_conversation=True) for name in names]
    assert list(read_source(source)) == expected


def test_rows_that_hold_a_text_too_stay_texts(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a", "messages": []}\n')
    assert source_of_path(path).kind == "jsonl"


def test_a_transcript_file_is_read_as_the_primer_is(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbf" + PRIMER_PATH.read_bytes().replace(b"\n", b"\r\n"))
    documents = list(read_source(Source(f"transcripts:{path}")))
    blocks = PRIMER_PATH.read_text(encoding="utf-8").strip().split("\n\n")
    assert [d.data.decode() for d in documents] == [f"{block}\n" for block in blocks]
    assert len(documents) == len(primer_conversations())
    assert documents[1].name == f"mine.txt/{blocks[0].count(chr(10)) + 3:08d}"


BAD_ROWS = [
    ("{oops\n", "not a JSON object"),
    ("[1]\n", "expected a field 'messages', got a list"),
    ('{"conversations": []}\n', "got conversations. This is ShareGPT's form: rename"),
    ('{"messages": "hi"}\n', "expected a list of messages, got a text"),
    (row(), "expected a turn of the assistant, got no message at all"),
    (row(USER), "expected a turn of the assistant, got user"),
    (row(USER, "hi"), ", message 2: expected role and content, got a text"),
    (row({"from": "human", "value": "x"}), "message 1: .*got from, value. This is ShareGPT's form"),
    (row({**USER, "role": "gpt"}), "message 1: role 'gpt'; expected one of system, user, a"),
    (row({**USER, "content": None}), "message 1: expected text as content, got null"),
    (row({**USER, "content": [{"type": "text"}]}), "1: expected text as content, got a list"),
]
BAD_TRANSCRIPTS = [
    ("human: hi\nassistant: x\n", "begins with one of system, user, assistant: got 'human: hi'"),
    ("and a second paragraph\n", "got 'and a second.* messages:FILE"),
    ("user: hi\n", "expected a turn of the assistant, got user"),
    ("User: hi\nassistant: x\n", "'User' is no role; expected 'user'"),
]


@pytest.mark.parametrize(
    ("kind", "good", "bad", "message"),
    [("messages:c.jsonl", row(*TALK) + "\n", *case) for case in BAD_ROWS]
    + [("transcripts:c.txt", "user: a\nassistant: b\n\n", *case) for case in BAD_TRANSCRIPTS],
)
def test_what_is_no_conversation_is_told_with_its_place_and_nothing_is_written(
    kind, good, bad, message, tmp_path, tokenizer
):
    kind, _, name = kind.partition(":")
    path = tmp_path / name
    path.write_text(good + bad)
    place = f"{name}:{good.count(chr(10)) + 1}.*"
    with pytest.raises(UserError, match=place + message):
        load_corpus(Source(f"{kind}:{path}"), tmp_path / "data", tokenizer, 0.2)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_role_in_other_letters_within_a_conversation_is_told_with_its_own_line(tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("\nuser: a\nassistant: b\nUSER : c\nassistant: d\n")
    with pytest.raises(UserError, match=r"c\.txt:4: 'USER ' is no role; expected 'user'"):
        list(read_source(Source(f"transcripts:{path}")))


def test_a_broken_archive_is_one_line(tmp_path):
    path = pack(tmp_path / "c.jsonl.xz", row(*TALK).encode() * 99)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"cannot read .*c\.jsonl\.xz"):
        list(read_source(Source(f"messages:{path}")))


def test_a_data_set_of_the_hub_may_hold_messages(monkeypatch):
    rows = [{"prompt": "hi", "messages": TALK}] * 3
    monkeypatch.setattr(hub, "_load", lambda *a: {"train": rows})
    document = Document("train/000000000", RENDERED, is_conversation=True)
    room = 2 * len(RENDERED) + 5  # the third one does not fit: it is left out, not cut
    documents = list(read_source(Source("hub:x", text_field="messages", max_bytes=room)))
    assert documents == [document, document._replace(name="train/000000001")]
    with pytest.raises(UserError, match="leave document_start out"):
        list(hub.read_hub("x", text_field="messages", document_start="x"))
    rows[1:] = [{"messages": [USER]}]
    with pytest.raises(UserError, match="x:default, row 2: expected a turn of the assistant"):
        list(hub.read_hub("x", text_field="messages"))


@pytest.mark.parametrize("side", ["train", "validation"])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_however_the_names_fall_no_conversation_is_cut_between_the_splits(side, count):
    fallen = [name for name in map(str, range(200)) if split_by_name(name, 0.3) == side]
    documents = [Document(name, RENDERED, is_conversation=True) for name in fallen[:count]]
    parts = list(split_documents(documents, 0.3))
    assert [part._replace(split=None) for part in parts] == documents
    moved = [part.name for part in parts if part.split != side]
    assert len(moved) == (count > 1 or side == "validation")  # a single one trains
    backwards = split_documents(documents[::-1], 0.3)
    assert moved == [part.name for part in backwards if part.split != side]  # by name alone


@pytest.fixture
def own(tmp_path) -> Source:
    path = tmp_path / "private" / "me.jsonl"
    path.parent.mkdir()
    secret = {"role": "assistant", "content": "The treasure lies under the third oak. " * 3}
    path.write_text(row(*TALK) * 5 + row(USER, secret))
    return Source(f"messages:{path}")


def test_own_conversations_are_kept_private_as_any_file_is(own, tmp_path, tokenizer):
    corpus = load_corpus(own, tmp_path / "data", tokenizer, 0.2)
    assert corpus.name == corpus.manifest["source"] == "messages:me.jsonl"
    assert "private" not in json.dumps(corpus.manifest)
    published = b"A card. " + b"The treasure lies under the third oak. " * 2
    found = [first_shared_span(published, ids) for ids in (corpus.train, corpus.validation)]
    assert any(found)


def test_a_changed_file_of_conversations_is_read_anew(own, tmp_path, tokenizer):
    before = load_corpus(own, tmp_path / "data", tokenizer, 0.0).manifest
    assert before["conversations"] == {"train": 6, "validation": 0}
    path = Path(own.argument)
    path.write_text(path.read_text() + row(*TALK))
    after = load_corpus(own, tmp_path / "data", tokenizer, 0.0).manifest
    assert after["conversations"]["train"] == 7


def test_the_lengths_of_documents_leave_their_ends_out(own, tmp_path, tokenizer):
    assert document_lengths(np.array([5, 6, 9, 9, 7, 9]), end_of_text=9).tolist() == [2, 0, 1]
    corpus = load_corpus(own, tmp_path / "data", tokenizer, 0.0)
    lengths = document_lengths(corpus.train, END_OF_TEXT)
    assert lengths.tolist() == [len(document.data) for document in read_source(own)]


def test_what_another_source_would_read_is_told_for_conversations_too(tmp_path, tokenizer):
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("a.md", "b.jsonl"):
        (folder / name).write_text("x")
    (folder / "c.txt").write_text("user: a\nassistant: b\n")
    told: list[tuple[str, str]] = []
    source = Source(f"transcripts:{folder}")
    load_corpus(source, tmp_path / "data", tokenizer, 0.2, on_skip=lambda *s: told.append(s))
    kinds = {"a.md": "markdown", "b.jsonl": "jsonl"}
    expected = {(n, f"not transcripts (a source {k}:PATH would read it)") for n, k in kinds.items()}
    assert set(told) == expected and len(told) == 2

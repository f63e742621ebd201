"""Readers, splits, token files: the right documents, in a stable order, once on disk."""

import ast
import itertools
import json
import lzma
import os
import random
import subprocess
import sys

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from shared.errors import UserError
from shared.files import MARK
from shared.text import hub, python_docs, token_file
from shared.text.bpe_training import train_bpe
from shared.text.corpora import Document, read_jsonl, read_markdown, read_text
from shared.text.python_docs import docstrings, read_python_docs
from shared.text.sources import Source, fingerprint, read_source, source_of_path
from shared.text.splits import split_by_name, split_documents
from shared.text.token_file import load_corpus
from shared.text.tokenizer import END_OF_TEXT


def test_markdown_is_read_in_byte_order_whatever_order_it_was_written_in(tmp_path):
    names = ["b.md", "B.md", "a/z.md", "a.md", "é 👋.md", "a/b/c.MD", "[x] %20.md"]
    random.Random(0).shuffle(names)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "picture.png").write_bytes(b"no text")
    documents = list(read_markdown(tmp_path))
    assert [d.name for d in documents] == sorted(names, key=str.encode)
    assert all(d.data == d.name.encode() and d.split is None for d in documents)


def test_nothing_is_cleaned(tmp_path):
    odd = b"\xef\xbb\xbf- task\r\n\xff\xfe [[link]]\t\n\n\n"
    (tmp_path / "odd.md").write_bytes(odd)
    assert next(read_markdown(tmp_path)).data == odd


@pytest.mark.parametrize("read", [read_markdown, read_text, read_jsonl])
def test_a_missing_path_is_one_clear_line(read, tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        list(read(tmp_path / "nowhere"))


def test_a_folder_without_notes_says_so(tmp_path):
    with pytest.raises(UserError, match=r"no \.md or \.markdown file below"):
        list(read_markdown(tmp_path))


def test_text_reads_one_file_or_a_folder(tmp_path):
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    assert [d.data for d in read_text(tmp_path)] == [b"one", b"two"]
    assert [d.data for d in read_text(tmp_path / "b.txt")] == [b"two"]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.xz"])
def test_jsonl_plain_and_compressed(suffix, tmp_path):
    path = tmp_path / f"corpus{suffix}"
    with (lzma.open if suffix.endswith("xz") else open)(path, "wb") as file:
        file.write('{"body": "é"}\n\n{"body": "two"}\n'.encode())
    documents = list(read_jsonl(path, text_field="body"))
    assert [d.data for d in documents] == ["é".encode(), b"two"]
    assert [d.name for d in documents] == ["00000001", "00000003"]  # line numbers


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{oops", r":1: not a JSON object"),
        ('{"title": "x"}', r"no text field 'text'; it has: title"),
        ('{"text": 5}', r"no text field 'text'; it has: text"),
        ("[1]", r"no text field 'text'; it has: list"),
    ],
)
def test_a_bad_jsonl_line_is_named_by_its_number(line, message, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(UserError, match=message):
        list(read_jsonl(path))


def test_python_docs_are_two_megabytes_of_prose_in_a_stable_order(monkeypatch):
    documents = list(read_python_docs())
    names = [d.name for d in documents]
    assert len(set(names)) == len(names)
    assert 1_500_000 < sum(len(d.data) for d in documents) < 4_000_000
    text = {d.name: d.data.decode() for d in documents}
    assert "Return an iterator" in text["os"] or "environ" in text["os"]
    assert "topics/lambda" in text
    assert not any("site-packages" in name or name.startswith("test.") for name in names)

    def walk_backwards(top, walk=os.walk):
        for folder, folders, files in walk(top):
            folders.reverse()
            yield folder, folders, files[::-1]

    monkeypatch.setattr(os, "walk", walk_backwards)
    monkeypatch.setattr(python_docs, "docstrings", lambda path: "unread")  # parsing takes seconds
    assert names == [d.name for d in read_python_docs() if d.name in text]


def test_docstrings_are_found_in_every_kind_of_block_in_the_order_of_ast_walk():
    blocks = ("if a:", "else:", "for a in b:", "else:", "while a:", "else:", "with a:", "try:")
    blocks += ("except A:", "else:", "finally:", "async def f():", "class C:")
    source = "".join(f"{block}\n  def d{at}(): 'The {at}.'\n" for at, block in enumerate(blocks))
    source += "match a:\n case 1:\n  def d98(): 'The 98.'\n case 2:\n  def d99(): 'The 99.'\n"
    source += "try:\n pass\nexcept* A:\n  def d100(): 'The 100.'\n"
    tree = ast.parse(source)
    found = [node for node in python_docs._statements(tree) if isinstance(node, ast.stmt)]
    assert found == [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    assert sum(isinstance(node, ast.FunctionDef) for node in found) == len(blocks) + 3


def test_docstrings_come_with_the_name_of_what_they_describe(tmp_path):
    path = tmp_path / "m.py"
    path.write_text('"""Module."""\ndef f(a, b=1):\n    """Adds."""\nclass C:\n    """Holds."""\n')
    assert docstrings(path) == "Module.\n\nf(a, b=1)\nAdds.\n\nC\nHolds."
    path.write_text("def broken(:")
    assert docstrings(path) == ""


def test_the_hub_reader_keeps_official_splits_and_joins_lines_to_articles(monkeypatch):
    rows = [" = A = \n", "one\n", " = = Part = = \n", "two\n", " = B = \n", "three\n"]
    data = {"train": rows, "validation": [" = C = \n", "four\n"], "test": [" = D = \n", "five\n"]}
    loaded = {name: [{"text": text} for text in texts] for name, texts in data.items()}
    monkeypatch.setattr(hub, "_load", lambda *arguments: loaded)
    documents = list(hub.read_hub("x", document_start=r"^ = [^=](.*[^=])? = \n$"))
    assert [(d.split, d.data) for d in documents] == [
        ("train", b" = A = \none\n = = Part = = \ntwo\n"),
        ("train", b" = B = \nthree\n"),
        ("validation", b" = C = \nfour\n"),
    ]


def test_the_hub_reader_reads_a_real_data_set_from_disk(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "validation"):
        (folder / f"{split}.jsonl").write_text(f'{{"story": "{split} é"}}\n' * 3)
    documents = list(hub.read_hub(str(folder), text_field="story"))
    assert [d.split for d in documents] == ["train"] * 3 + ["validation"] * 3
    assert documents[0] == Document("train/000000000", "train é".encode(), "train")


def test_the_byte_cap_ends_each_split_on_a_whole_character(monkeypatch):
    monkeypatch.setattr(hub, "_load", lambda *a: {"train": [{"text": "éé"}, {"text": "more"}]})
    assert [d.data for d in hub.read_hub("x", max_bytes=3)] == ["é".encode()]
    assert [d.data for d in hub.read_hub("x", max_bytes=6)] == ["éé".encode(), b"mo"]


def test_an_unreachable_data_set_names_what_works_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="These need none: python-docs, primer"):
        list(hub.read_hub(str(tmp_path / "nothing-here")))


SCHEMAS = {
    # data set: (columns of one row, options of its ready config, splits it has)
    "wikitext": (
        {"text": " = Title = \n"},
        {"document_start": r"^ = [^=](.*[^=])? = \n$"},
        ("train", "validation", "test"),
    ),
    "pg19": (
        {"short_book_title": "Emma", "publication_date": 1815, "url": "u", "text": "Emma é"},
        {"streaming": True, "max_bytes": 100},
        ("train", "validation", "test"),
    ),
    "TinyStories": ({"text": "Once."}, {"streaming": True}, ("train", "validation")),
    "openwebtext": ({"text": "A page."}, {"streaming": True}, ("train",)),
    "bookcorpusopen": ({"title": "T", "text": "A book."}, {"streaming": True}, ("train",)),
    "wikipedia": (
        {"id": "1", "url": "u", "title": "T", "text": "An article."},
        {"streaming": True},
        ("train",),
    ),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_known_data_set_is_read_from_parquet_in_its_own_schema(name, tmp_path):
    row, options, splits = SCHEMAS[name]
    (tmp_path / "data").mkdir()
    for split in splits:
        table = pyarrow.Table.from_pylist([row, row])
        parquet.write_table(table, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    documents = list(hub.read_hub(str(tmp_path), **options))
    official = ["train", "validation"] if "validation" in splits else [None]  # none: by hash
    assert [d.split for d in documents] == [split for split in official for _ in range(2)]
    assert all(d.data == row["text"].encode() for d in documents)


def test_the_parts_of_a_data_set_can_be_read_as_the_one_text_they_were(tmp_path):
    """As tiny Shakespeare: a row in each of three parts, whose last tenth is to validate."""
    for part, text in (("train", "To be, or "), ("validation", "not "), ("test", "to be")):
        table = pyarrow.Table.from_pylist([{"text": text}])
        parquet.write_table(table, tmp_path / f"{part}-00000-of-00001.parquet")
    source = Source(f"hub:{tmp_path}::train+validation+test", document_start="(?!)")
    name = "train+validation+test/000000000"
    assert list(read_source(source)) == [Document(name, b"To be, or not to be")]


def test_a_download_that_breaks_off_says_to_run_again(monkeypatch):
    def rows():
        yield {"text": "one"}
        raise ConnectionError("the wifi went away")

    monkeypatch.setattr(hub, "_load", lambda *a: {"train": rows()})
    with pytest.raises(UserError, match=r"wifi went away\. Run the same command again"):
        list(hub.read_hub("x"))


def test_a_wrong_text_field_lists_the_right_ones(monkeypatch):
    monkeypatch.setattr(hub, "_load", lambda *a: {"train": [{"title": "t", "body": "b"}]})
    with pytest.raises(UserError, match="no text field 'text'; it has: title, body"):
        list(hub.read_hub("x"))


@pytest.mark.parametrize("spec", ["wikipedia", "markdown", "hub", "text:", ""])
def test_an_unknown_or_incomplete_source_lists_the_kinds(spec):
    with pytest.raises(UserError, match="the kinds are: python-docs, primer"):
        list(read_source(Source(spec)))


def test_ones_own_path_is_recognised_by_what_is_there(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("a")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a")
    (tmp_path / "c.jsonl.xz").write_bytes(b"")
    assert source_of_path(tmp_path / "notes").kind == "markdown"
    assert source_of_path(tmp_path / "notes" / "a.md").kind == "markdown"
    assert source_of_path(tmp_path / "texts").kind == "text"
    assert source_of_path(tmp_path / "c.jsonl.xz").kind == "jsonl"
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"expected a folder or \.zip with"):
        source_of_path(tmp_path / "empty")


def test_hashing_names_holds_back_about_the_share_asked_for():
    names = [f"note {number}" for number in range(2000)]
    held_back = [name for name in names if split_by_name(name, 0.2) == "validation"]
    assert 340 <= len(held_back) <= 460
    more = {name for name in names if split_by_name(name, 0.4) == "validation"}
    assert set(held_back) <= more  # a larger share only adds


def test_where_both_sides_have_a_document_no_other_document_moves_one():
    documents = [Document(f"note {n}", b"text") for n in range(100)]
    alone = {d.name: d.split for d in split_documents(documents, 0.3)}
    assert list(alone) == [d.name for d in documents]  # nothing is cut, and the order stays
    fewer = {d.name: d.split for d in split_documents(documents[::-1][:60], 0.3)}
    assert {alone[name] for name in alone} == {"train", "validation"}
    assert all(alone[name] == split for name, split in fewer.items())


def test_a_single_document_is_cut_at_its_tail():
    parts = list(split_documents([Document("book", b"0123456789")], 0.2))
    assert [(p.split, p.data) for p in parts] == [("train", b"01234567"), ("validation", b"89")]


@pytest.mark.parametrize("side", ["train", "validation"])
@given(st.lists(st.integers(0, 300), min_size=1, max_size=60), st.sampled_from([0.05, 0.2, 0.5]))
def test_however_the_names_fall_some_text_trains_and_some_validates(side, sizes, share):
    names = (f"note {n}" for n in itertools.count())
    chosen = (name for name in names if split_by_name(name, share) == side)
    documents = [Document(next(chosen), (b"abc" * 100)[:size]) for size in sizes]
    parts = list(split_documents(documents, share))
    assert all(part.data for part in parts)
    for document in documents:  # each byte once, and in its place
        assert b"".join(p.data for p in parts if p.name == document.name) == document.data
    if sum(sizes) > 1:
        assert {part.split for part in parts} == {"train", "validation"}


def test_with_no_share_asked_for_nothing_validates_and_nothing_waits():
    endless = (Document(f"note {n}", b"text") for n in itertools.count())
    parts = itertools.islice(split_documents(endless, 0.0), 100)
    assert {part.split for part in parts} == {"train"}


def test_official_splits_win():
    documents = [Document("a", b"1", "validation"), Document("b", b"2", "train")]
    assert [d.split for d in split_documents(documents, 0.0)] == ["validation", "train"]
    assert [d.split for d in split_documents(documents[1:], 0.5)] == ["train"]  # the primer's way


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "my notes"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number}.md").write_text(f"note {number}")
    return Source(f"markdown:{folder}")


def test_a_corpus_on_disk_is_its_documents_each_closed_by_end_of_text(notes, tmp_path, tokenizer):
    corpus = load_corpus(notes, tmp_path / "data", tokenizer, 0.2)
    written = bytes(corpus.train).split(bytes([END_OF_TEXT]))
    expected = [d.data for d in split_documents(read_source(notes), 0.2) if d.split == "train"]
    assert written == [*expected, b""]
    assert isinstance(corpus.train, np.memmap) and corpus.train.dtype == np.uint8
    manifest = corpus.manifest
    assert manifest["documents"]["train"] == len(expected)
    assert manifest["bytes"]["train"] == sum(map(len, expected))
    assert manifest["ids"]["train"] == len(corpus.train)
    assert len(manifest["sha256"]["train"]) == 64


def test_a_manifest_names_no_folder_of_its_owner(notes, tmp_path, tokenizer):
    corpus = load_corpus(notes, tmp_path / "data", tokenizer, 0.2)
    assert corpus.name == "markdown:my notes"
    assert str(tmp_path) not in json.dumps(corpus.manifest)


def test_an_unchanged_corpus_is_not_written_again_and_a_changed_one_is(notes, tmp_path, tokenizer):
    written = []

    def load():
        return load_corpus(notes, tmp_path / "data", tokenizer, 0.2, written.append)

    first = load()
    assert sum(written) > 0
    written.clear()
    assert load().manifest == first.manifest and not written
    (tmp_path / "my notes" / "new.md").write_text("one more")
    changed = load()
    assert written and changed.manifest["sha256"] != first.manifest["sha256"]


@pytest.mark.parametrize("damage", ["truncated", "no manifest", "torn", "older"])
def test_a_corpus_half_written_or_of_an_older_format_is_rebuilt(damage, notes, tmp_path, tokenizer):
    whole = load_corpus(notes, tmp_path / "data", tokenizer, 0.2)
    expected, place = bytes(whole.train), next((tmp_path / "data").iterdir())
    if damage == "truncated":
        (place / "train.bin").write_bytes(expected[:-3])
    elif damage == "no manifest":
        (place / "manifest.json").unlink()
    elif damage == "torn":
        (place / "manifest.json").write_text('{"format": 2, "ids"')
    else:
        older = json.dumps(whole.manifest | {"format": whole.manifest["format"] - 1})
        (place / "manifest.json").write_text(older)
    again = load_corpus(notes, tmp_path / "data", tokenizer, 0.2)
    assert bytes(again.train) == expected and again.manifest == whole.manifest


def test_a_reader_that_fails_leaves_nothing_behind(notes, tmp_path, tokenizer, monkeypatch):
    def failing(source, on_skip):
        yield Document("a", b"text")
        raise UserError("the disk went away")

    monkeypatch.setattr(token_file, "read_source", failing)
    with pytest.raises(UserError, match="the disk went away"):
        load_corpus(notes, tmp_path / "data", tokenizer, 0.2)
    assert list((tmp_path / "data").iterdir()) == []


def test_a_corpus_cut_off_midway_is_rebuilt_and_its_remains_are_swept(notes, tmp_path, tokenizer):
    """The process ends at its 30th document with no chance to clean up, as when it is killed."""
    code = (
        "import os, sys\n"
        "from shared.text.sources import Source\n"
        "from shared.text.token_file import load_corpus\n"
        "from shared.text.tokenizer import ByteTokenizer\n"
        "seen = []\n"
        "def die(count):\n"
        "    seen.append(count)\n"
        "    if len(seen) == 30: os._exit(9)\n"
        "load_corpus(Source(sys.argv[1]), sys.argv[2], ByteTokenizer(), 0.2, die)\n"
    )
    data = tmp_path / "data"
    done = subprocess.run([sys.executable, "-c", code, notes.spec, str(data)], check=False)
    assert done.returncode == 9
    assert [MARK in path.name for path in data.iterdir()] == [True]
    corpus = load_corpus(notes, data, tokenizer, 0.2)
    expected = [d.data for d in split_documents(read_source(notes), 0.2) if d.split == "train"]
    assert bytes(corpus.train).split(bytes([END_OF_TEXT]))[:-1] == expected
    assert [MARK in path.name for path in data.iterdir()] == [False]


def test_an_empty_corpus_is_refused(tmp_path, tokenizer):
    (tmp_path / "a.md").write_text("")
    with pytest.raises(UserError, match="holds no text"):
        load_corpus(Source(f"markdown:{tmp_path}"), tmp_path / "data", tokenizer, 0.2)


def test_another_tokenizer_writes_another_corpus_in_the_smallest_type(notes, tmp_path, tokenizer):
    as_bytes = load_corpus(notes, tmp_path / "data", tokenizer, 0.2)
    bpe = train_bpe(["note note 1 2 3"], 300)
    as_tokens = load_corpus(notes, tmp_path / "data", bpe, 0.2)
    assert as_tokens.train.dtype == np.uint16 and len(as_tokens.train) < len(as_bytes.train)
    assert as_tokens.manifest["bytes"] == as_bytes.manifest["bytes"]
    assert bpe.decode_bytes(as_tokens.train) == bytes(as_bytes.train).replace(b"\x1e", b"")
    assert load_corpus(notes, tmp_path / "data", tokenizer, 0.2).manifest == as_bytes.manifest
    other = train_bpe(["other merges"], 300)
    assert load_corpus(notes, tmp_path / "data", other, 0.2).train.shape != as_tokens.train.shape


def test_the_fingerprint_follows_the_files_and_the_options(notes, tmp_path):
    before = fingerprint(notes)
    assert fingerprint(Source(notes.spec, weight=7)) == before  # a weight changes no text
    (tmp_path / "my notes" / "0.md").write_text("changed")
    assert fingerprint(notes) != before
    assert fingerprint(Source("hub:a")) != fingerprint(Source("hub:a", max_bytes=9))

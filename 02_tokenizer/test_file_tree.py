"""Notes as they really are: odd names, loops, pipes, broken files. Same order, nothing fatal."""

import io
import os
import random
import sys
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path

import pytest

from shared.errors import UserError
from shared.text import corpora
from shared.text.corpora import read_markdown, read_text
from shared.text.file_tree import TreeFile, list_tree
from shared.text.sources import Source, source_of_path
from shared.text.token_file import load_corpus
from shared.text.tokenizer import ByteTokenizer

ODD_NAMES = [
    "[[Roam]] page.md",
    "100%25 sure.md",
    "emoji 👋🏽.md",
    "Ünïcödé.md",
    "日本語.md",
    "a.md",
    "A.md",
    "space  two.md",
    "-dash.md",
    "dots...md",
    "quote'\".md",
    "new\nline.md",
    "x" * 252 + ".md",
    "deep/er/and/deeper/note.md",
    "UPPER.MD",
    "café.md",
    unicodedata.normalize("NFD", "thé.md"),
]
IGNORES_CASE = Path(__file__).with_name(Path(__file__).name.upper()).exists()  # Macs, Windows
if IGNORES_CASE:
    ODD_NAMES.remove("A.md")
if os.name == "nt":
    ODD_NAMES = [name for name in ODD_NAMES if not set(name) & set('\n"') and len(name) < 99]
ODD_BYTES = b"\xef\xbb\xbfBOM, CRLF\r\n\xff\xfe not UTF-8 \x00\x1e\n"


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A folder of odd names, written in a random order; each file holds its own name."""
    folder = tmp_path / "vault"
    names = list(ODD_NAMES)
    random.Random(1).shuffle(names)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(name) + ODD_BYTES)
    return folder


def names_and_bytes(path: Path) -> list[tuple[str, bytes]]:
    return [(document.name, document.data) for document in read_markdown(path)]


def zip_of(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            if file.is_file():
                archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def test_every_odd_name_is_read_and_its_bytes_are_kept(vault):
    read = dict(names_and_bytes(vault))
    assert set(read) == {unicodedata.normalize("NFC", name) for name in ODD_NAMES}
    for name in ODD_NAMES:
        expected = os.fsencode(name) + ODD_BYTES
        assert read[unicodedata.normalize("NFC", name)] == expected


def test_the_order_is_that_of_the_composed_names(tmp_path):
    """A Mac may store é as e and an accent: the order must not follow that."""
    for folder, form in (("one", "NFC"), ("two", "NFD")):
        (tmp_path / folder).mkdir()
        for name in ("thé.md", "thf.md", "thz.md", "the.md"):
            (tmp_path / folder / unicodedata.normalize(form, name)).write_text(name)
    one, two = (names_and_bytes(tmp_path / folder) for folder in ("one", "two"))
    assert one == two


def test_a_zip_gives_the_same_documents_as_its_folder(vault, tmp_path):
    expected = names_and_bytes(vault)
    assert names_and_bytes(zip_of(vault, tmp_path / "flat.zip")) == expected
    assert names_and_bytes(zip_of(vault, tmp_path / "My Vault.zip", "My Vault/")) == expected
    assert source_of_path(tmp_path / "flat.zip").kind == "markdown"


def test_a_broken_or_encrypted_zip_is_told(tmp_path, vault):
    path = zip_of(vault, tmp_path / "notes.zip")
    data = bytearray(path.read_bytes())
    at = data.find(ODD_BYTES)
    data[at] ^= 1  # one file's content no longer fits its checksum
    path.write_bytes(bytes(data))
    skipped: list[tuple[str, str]] = []
    read = list(read_markdown(path, lambda *told: skipped.append(told)))
    assert len(read) == len(ODD_NAMES) - 1 and "unreadable" in skipped[0][1]
    for broken in (data[: len(data) // 2], b"PK\x03\x04 not a zip", b""):
        path.write_bytes(bytes(broken))
        with pytest.raises(UserError, match=r"cannot read the \.zip"):
            list(read_markdown(path))


def test_a_flipped_byte_anywhere_in_a_compressed_zip_is_never_fatal(tmp_path):
    path = tmp_path / "notes.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.md", "some text that repeats, some text that repeats " * 50)
        archive.writestr("b.md", "whole")
    whole = path.read_bytes()
    for at in range(34, 90):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        assert len(list(read_markdown(path))) >= 1


def test_a_zip_of_one_subfolder_keeps_its_name(tmp_path):
    """Names decide the split: `daily/0.md` in the folder is `daily/0.md` in its .zip."""
    (tmp_path / "vault" / "daily").mkdir(parents=True)
    (tmp_path / "vault" / "daily" / "0.md").write_text("x")
    path = zip_of(tmp_path / "vault", tmp_path / "notes.zip")
    assert names_and_bytes(path) == names_and_bytes(tmp_path / "vault")


@pytest.mark.parametrize("path", ["x" * 5000, "~nobody-of-that-name/notes", "nul\0", ""])
def test_what_can_be_no_path_is_one_line(path):
    """The empty one comes from a shell variable that is not set: it is not the current folder."""
    with pytest.raises(UserError, match=r"cannot be a path here|no such file|path is empty"):
        list_tree(path, (".md",))


@pytest.mark.posix
def test_links_pipes_hidden_folders_and_empty_files_are_passed_over_and_told(tmp_path):
    folder = tmp_path / "vault"
    (folder / "sub").mkdir(parents=True)
    (folder / ".trash").mkdir()
    (folder / "good.md").write_text("good")
    (folder / "sub" / "empty.md").write_text("")
    (folder / ".trash" / "deleted.md").write_text("deleted")
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "dangling.md").symlink_to(folder / "nowhere.md")
    (folder / "itself.md").symlink_to(folder / "itself.md")
    (folder / "linked.md").symlink_to(folder / "good.md")
    os.mkfifo(folder / "pipe.md")
    (folder / "folder.md").mkdir()
    skipped: list[tuple[str, str]] = []
    documents = list(read_markdown(folder, lambda *told: skipped.append(told)))
    assert [d.name for d in documents] == ["good.md", "linked.md"]
    assert sorted(skipped) == [
        (".trash", "hidden folder"),
        ("dangling.md", "dangling link"),
        ("itself.md", "dangling link"),
        ("pipe.md", "not a regular file"),
        ("sub/empty.md", "empty"),
        ("sub/loop", "link to a folder"),
    ]


def skips_of(spec: str, data: Path) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    load_corpus(Source(spec), data, ByteTokenizer(), 0.1, on_skip=lambda *skip: told.append(skip))
    return told


@pytest.mark.posix
def test_what_is_passed_over_is_told_each_time_a_corpus_is_opened(vault, tmp_path):
    (vault / "empty.md").write_text("")
    odd = os.fsdecode(b"caf\xe9.md") if sys.platform == "linux" else "no UTF-8.md"
    (vault / odd).symlink_to(vault / "nowhere.md")
    for _ in range(2):
        told = skips_of(f"markdown:{vault}", tmp_path / "data")
        assert sorted(told) == [(odd, "dangling link"), ("empty.md", "empty")]


def test_text_that_only_another_source_would_read_is_told(vault, tmp_path):
    before = skips_of(f"markdown:{vault}", tmp_path / "data")
    for name in ("a.txt", "deep/b.TEXT", "c.jsonl", "picture.png"):
        (vault / name).write_text("{}")
    reason = "not markdown (a source {}:PATH would read it)"
    expected = [("a.txt", "text"), ("c.jsonl", "jsonl"), ("deep/b.TEXT", "text")]
    for path in (vault, zip_of(vault, tmp_path / "vault.zip")):
        told = skips_of(f"markdown:{path}", tmp_path / "data")
        assert sorted(told) == [(name, reason.format(kind)) for name, kind in expected]
    assert skips_of(f"text:{vault / 'a.md'}", tmp_path / "data") == before == []


def test_an_unreadable_file_is_passed_over_and_the_rest_is_read(tmp_path, monkeypatch):
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / name).write_text(name)
    original = Path.open

    def refuse(self, *mode):
        if self.name == "b.md":
            raise PermissionError(13, "Permission denied")
        return original(self, *mode)

    monkeypatch.setattr(Path, "open", refuse)
    skipped: list[tuple[str, str]] = []
    read = [d.name for d in read_markdown(tmp_path, lambda *told: skipped.append(told))]
    assert read == ["a.md", "c.md"]
    assert skipped == [("b.md", "unreadable (Permission denied)")]


def test_names_that_are_not_even_utf8_are_read(tmp_path):
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.md"), "wb") as file:
        file.write(b"text")
    (document,) = read_markdown(tmp_path)
    assert document.data == b"text"
    load_corpus_of(tmp_path, tmp_path / "data")


def load_corpus_of(folder: Path, data: Path):
    return load_corpus(Source(f"markdown:{folder}"), data, ByteTokenizer(), 0.1)


def test_two_machines_write_the_same_corpus(vault, tmp_path):
    """A folder and its .zip, written in other orders: the same ids and the same split."""
    one = load_corpus_of(vault, tmp_path / "data")
    two = load_corpus_of(zip_of(vault, tmp_path / "vault.zip"), tmp_path / "data")
    assert one.manifest["sha256"] == two.manifest["sha256"]


def test_memory_stays_flat_however_many_files_there_are(tmp_path, monkeypatch):
    """A folder of 200 MB: the files are never in memory together."""
    megabyte = 1 << 20
    stamp, opened = (megabyte, 0), lambda: io.BytesIO(b"x" * megabyte)
    files = [TreeFile(f"{n:05d}.md", stamp, opened) for n in range(200)]
    monkeypatch.setattr(corpora, "list_tree", lambda *arguments: files)
    (tmp_path / "stand-in.md").write_text("x")
    tracemalloc.start()
    corpus = load_corpus_of(tmp_path, tmp_path / "data")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(corpus.train) + len(corpus.validation) == 200 * (megabyte + 1)
    assert peak < 40 * megabyte  # the few that decide the split, and one more


def test_a_changed_note_changes_its_stamp_and_no_other(tmp_path):
    for number in range(1000):
        (tmp_path / f"{number}.md").write_text("x")
    listed = list_tree(tmp_path, (".md",))
    assert len(listed) == 1000
    assert [f.name for f in listed] == sorted(f.name for f in listed)
    (tmp_path / "5.md").write_text("longer")
    again = list_tree(tmp_path, (".md",))
    changed = [a.name for a, b in zip(listed, again, strict=True) if a.stamp != b.stamp]
    assert changed == ["5.md"]


@pytest.mark.posix
def test_text_folders_know_the_same_tricks(tmp_path):
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").symlink_to(tmp_path / "none")
    assert [d.data for d in read_text(tmp_path)] == [b"one"]

"""Sources: which corpus to read, named in one line of a config.

Promoted by 02_tokenizer.
"""

import hashlib
import json
import math
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.errors import UserError
from shared.text.corpora import (
    JSONL_SUFFIXES,
    MARKDOWN_SUFFIXES,
    TEXT_SUFFIXES,
    Document,
    holds_messages,
    read_conversations,
    read_jsonl,
    read_markdown,
    read_text,
    read_transcripts,
)
from shared.text.drill_conversations import drill_count, drills_stamp, read_drills
from shared.text.file_tree import OnSkip, existing, ignore_skips, is_tree, list_tree
from shared.text.hub import read_hub
from shared.text.primer import PRIMER_PATH, read_primer
from shared.text.python_docs import read_python_docs

KINDS = (
    "python-docs, primer, drills[:COUNT], markdown:FOLDER, text:PATH, jsonl:FILE, "
    "messages:FILE.jsonl, transcripts:FILE.txt, hub:DATASET[:CONFIG[:SPLITS]]"
)
FILE_KINDS = {"markdown": MARKDOWN_SUFFIXES, "text": TEXT_SUFFIXES, "jsonl": JSONL_SUFFIXES}
CONVERSATION_KINDS = {"messages": JSONL_SUFFIXES, "transcripts": TEXT_SUFFIXES}
SUFFIXES = FILE_KINDS | CONVERSATION_KINDS


@dataclass(frozen=True)
class Source:
    """One corpus and how much of each batch it fills."""

    spec: str
    """python-docs, primer, drills[:COUNT], markdown:FOLDER, text:PATH, jsonl:FILE,
    messages:FILE.jsonl, transcripts:FILE.txt, hub:DATASET[:CONFIG[:SPLITS]]"""
    weight: float = 1.0
    """share of the training windows, relative to the other sources"""
    questions: float = 1.0
    """conversations: share of the windows in which what system and user say is learned too;
    0: the assistant's replies alone"""
    text_field: str = "text"
    """jsonl, hub: the field that holds the text; hub: or a list of messages"""
    streaming: bool = False
    """hub: read over the network as needed rather than download everything first"""
    max_bytes: int | None = None
    """hub: stop each split after this many bytes"""
    document_start: str | None = None
    """hub: regular expression of a row that starts a new document; none: each row is one"""

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise UserError(f"source {self.spec!r}: weight is {self.weight}; it must be above 0")
        if not 0 <= self.questions <= 1:
            raise UserError(
                f"source {self.spec!r}: questions is {self.questions}; expected a share, 0 to 1"
            )

    @property
    def reading(self) -> dict[str, object]:
        """What decides which text is read: all but how much it counts."""
        return {k: v for k, v in asdict(self).items() if k not in ("weight", "questions")}

    @property
    def kind(self) -> str:
        """The part of `spec` before the first colon."""
        return self.spec.partition(":")[0]

    @property
    def argument(self) -> str:
        """The part of `spec` after the first colon, or ""."""
        return self.spec.partition(":")[2]


def source_of_path(path: str | Path, weight: float = 1.0) -> Source:
    """The source for a person's own text: a folder of notes, or a single file.

    Raises:
        UserError: nothing there, or nothing of a kind we read.
    """
    path = existing(path)
    for kind, suffixes in FILE_KINDS.items():
        named_so = path.name.lower().endswith(suffixes)
        if list_tree(path, suffixes) if is_tree(path) else named_so:
            with_messages = kind == "jsonl" and holds_messages(path)
            return Source(f"{'messages' if with_messages else kind}:{path}", weight)
    raise UserError(
        f"{path}: expected a folder or .zip with .md, .txt or .jsonl files, or one such file"
    )


def read_source(source: Source, on_skip: OnSkip = ignore_skips) -> Iterator[Document]:
    """The documents of a source; files passed over are told to `on_skip`.

    Raises:
        UserError: the kind is unknown, or what it names cannot be read.
    """
    kind, argument = source.kind, source.argument
    if (kind in SUFFIXES or kind == "hub") and not argument:
        raise UserError(f"source {source.spec!r} lacks its argument; the kinds are: {KINDS}")
    match kind:
        case "python-docs":
            return read_python_docs()
        case "primer":
            return read_primer()
        case "drills":
            return read_drills(drill_count(argument))
        case "markdown":
            return read_markdown(argument, on_skip)
        case "text":
            return read_text(argument, on_skip)
        case "jsonl":
            return read_jsonl(argument, source.text_field, on_skip)
        case "messages":
            return read_conversations(argument, on_skip)
        case "transcripts":
            return read_transcripts(argument, on_skip)
        case "hub":
            dataset, config, splits = [*argument.split(":", 2), "", ""][:3]
            return read_hub(
                dataset,
                config or None,
                splits or None,
                text_field=source.text_field,
                streaming=source.streaming,
                max_bytes=source.max_bytes,
                document_start=source.document_start,
            )
    raise UserError(f"unknown source {source.spec!r}; the kinds are: {KINDS}")


def tell_other_kinds(source: Source, on_skip: OnSkip) -> None:
    """Tells of the files in a source's folder or .zip that only another source would read."""
    if source.kind not in SUFFIXES or not is_tree(existing(source.argument)):
        return
    for kind, suffixes in FILE_KINDS.items():
        if suffixes != SUFFIXES[source.kind]:
            for file in list_tree(source.argument, suffixes):
                on_skip(file.name, f"not {source.kind} (a source {kind}:PATH would read it)")


def fingerprint(source: Source) -> str:
    """A digest that changes when the source's text may have changed, without reading it all.

    Files: names, sizes and modification times (in a .zip: checksums). Python's docs:
    the Python version. Drills: what the program makes. A hub data set: its name and options.
    """
    state: object = None
    if source.kind in SUFFIXES:
        files = list_tree(source.argument, SUFFIXES[source.kind])
        state = [(file.name, file.stamp) for file in files]
    elif source.kind == "python-docs":
        state = platform.python_version()
    elif source.kind == "primer":
        state = PRIMER_PATH.read_text(encoding="utf-8")
    elif source.kind == "drills":
        state = drills_stamp()
    return hashlib.sha256(json.dumps([source.reading, state]).encode()).hexdigest()

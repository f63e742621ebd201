"""Public data sets of the Hugging Face hub, read through `datasets`.

Promoted by 02_tokenizer.
"""

import math
import re
from collections.abc import Iterable, Iterator
from itertools import count
from typing import Any

from shared.errors import UserError
from shared.text.conversations import to_messages
from shared.text.corpora import Document, conversation
from shared.text.tokenizer import to_bytes
from shared.text.transcript import Message

OFFICIAL_SPLITS = {"train": "train", "validation": "validation", "valid": "validation"}


def read_hub(
    dataset: str,
    config: str | None = None,
    splits: str | None = None,
    *,
    text_field: str = "text",
    streaming: bool = False,
    max_bytes: int | None = None,
    document_start: str | None = None,
) -> Iterator[Document]:
    """Documents of a hub data set; its own train and validation splits are kept if it has both.

    Args:
        dataset: a name such as `Salesforce/wikitext`.
        config: one of its configurations, such as `wikitext-103-raw-v1`.
        splits: such as `train+validation+test`: these are read as one, with no official
            split left. None: all but `test` are read, each as what it is.
        text_field: the column that holds the text, or a list of messages: see
            `conversations.py`.
        streaming: read over the network as needed rather than download it all first.
        max_bytes: stop each split after this many bytes of text; before a conversation
            that does not fit.
        document_start: a regular expression; a row that matches starts a new document
            and other rows continue it (wikitext has one row a line). None: a row is
            a document, as a conversation always is. `(?!)`, which matches nothing, makes
            one document of all rows.

    Raises:
        UserError: offline, no such data set, no such text field, or a list in it that is
            no conversation.
    """
    loaded = _load(dataset, config, splits, streaming)
    official = any(OFFICIAL_SPLITS.get(name) == "validation" for name in loaded)
    for split_name, rows in loaded.items():
        if split_name == "test":
            continue  # never trained on, and validation is measured on its own split
        texts = _texts(rows, text_field, f"{dataset}:{config or 'default'}")
        split = OFFICIAL_SPLITS.get(split_name) if official else None
        yield from _documents(_joined(texts, document_start), split_name, split, max_bytes)


def _load(
    dataset: str, config: str | None, splits: str | None, streaming: bool
) -> dict[str, Iterable[dict]]:
    from datasets import load_dataset  # takes two seconds to import: only when asked for

    try:
        loaded = load_dataset(dataset, config, split=splits, streaming=streaming)
    except Exception as error:  # the hub's client raises a dozen unrelated kinds
        raise UserError(
            f"cannot load {dataset!r} ({config or 'default'}) from the hub: {error}. Offline? "
            "These need none: python-docs, primer, drills, markdown:, text:, jsonl:, messages:"
        ) from error
    if splits is not None:
        return {splits: loaded}
    return {str(name): loaded[name] for name in loaded}


def _texts(rows: Iterable[dict[str, Any]], field: str, where: str) -> Iterator[str | list[Message]]:
    rows = iter(rows)
    for number in count(1):
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # the network goes in as many ways as the load does
            raise UserError(
                f"reading {where} broke off: {error}. Run the same command again: files that "
                "were downloaded whole are kept"
            ) from error
        value = row.get(field)
        if not isinstance(value, str | list):
            raise UserError(f"{where} has no text field {field!r}; it has: {', '.join(row)}")
        yield value if isinstance(value, str) else to_messages(value, f"{where}, row {number}")


def _joined(
    texts: Iterable[str | list[Message]], document_start: str | None
) -> Iterator[str | list[Message]]:
    if document_start is None:
        yield from texts
        return
    starts, held = re.compile(document_start), []
    for text in texts:
        if not isinstance(text, str):
            raise UserError("each conversation is a document: leave document_start out")
        if held and starts.match(text):
            yield "".join(held)
            held = []
        held.append(text)
    if held:
        yield "".join(held)


def _documents(
    texts: Iterable[str | list[Message]], split_name: str, split: str | None, max_bytes: int | None
) -> Iterator[Document]:
    room = math.inf if max_bytes is None else max_bytes
    for number, text in enumerate(texts):
        name = f"{split_name}/{number:09d}"
        if isinstance(text, str):
            whole = Document(name, to_bytes(text), split)
        else:
            whole = conversation(name, text, split)
        if len(whole.data) > room:
            if not whole.is_conversation:
                yield whole._replace(data=_cut(whole.data, int(room)))
            return
        yield whole
        room -= len(whole.data)
        if room <= 0:
            return


def _cut(data: bytes, size: int) -> bytes:
    return data[:size].decode("utf-8", "ignore").encode()  # whole characters only

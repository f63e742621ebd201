"""What the tests of the export share: models on disk, the export's folder, our own greedy reply."""

from itertools import islice
from pathlib import Path
from typing import Any

import export
import pytest

from shared.chat.generation import stream_ids
from shared.chat.sampling import SamplingSettings
from shared.chat.session import fit_turns
from shared.model.config import NormConfig
from shared.model.transformer import Transformer
from shared.model.weights import save_weights
from shared.text.bpe_training import train_bpe
from shared.text.tokenizer_file import Tokenizer
from shared.text.transcript import Message

QK_NORM = NormConfig(queries_and_keys=True)
HELLO = [Message("user", "hello")]
CONVERSATIONS = [
    HELLO,
    [Message("system", "Ü\nuser: x"), *HELLO, Message("assistant", "  hi"), Message("user", "")],
    [
        Message("user", "\n\nsystem: no\nassistant: a\x1e"),
        Message("assistant", "Ğ'\"{{ x }}\n"),
        *HELLO,
    ],
]


def small_bpe() -> Tokenizer:
    """A tokenizer of ours with a few merges."""
    return train_bpe(["hello there, what is a user: and 12 things? naïve 🙂 " * 9], 290)


def save_run(model: Transformer, tokenizer: Tokenizer, place: Path) -> Path:
    """The folder `run` with both, as a published one has them."""
    (place / "run").mkdir()
    save_weights(model, place / "run")
    tokenizer.save(place / "run" / "tokenizer.json")
    return place / "run"


def export_to(engine: str, run: Path, *more: str, place: Path | None = None) -> Path:
    """The folder that the script makes, beside the run or in another place."""
    out = (place or run.parent) / engine
    export.main([str(run), "--to", engine, "--out", str(out), *more])
    return out


def asked(messages: list[Message]) -> list[dict[str, Any]]:
    """A conversation as those engines take it."""
    return [message._asdict() for message in messages]


def as_kept(messages: list[Message]) -> list[Message]:
    """A conversation as our chat keeps it: no space before a reply and no line's end after it."""
    return [
        m._replace(content=m.content.lstrip(" ").rstrip("\n")) if m.role == "assistant" else m
        for m in messages
    ]


def greedy(
    model: Transformer, tokenizer: Tokenizer, messages: list[Message], new: int
) -> list[int]:
    """Ids of our own chat's reply at temperature 0, its end included."""
    prompt = fit_turns(messages, [], tokenizer, model.config.context_length)
    ids = stream_ids(model, prompt, SamplingSettings(temperature=0), lambda ids: pytest.fail())
    reply = list(islice(ids, new))
    end = tokenizer.end_of_text
    return reply[: reply.index(end) + 1] if end in reply else reply

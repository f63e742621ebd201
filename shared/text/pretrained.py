"""Pretrained tokenizers: GPT-2's, Llama's and others', with the verbs of our own.

They are read from a `tokenizer.json` and encoded by the `tokenizers` library, which is
an extra. What is not exact, because the file asks for it: text that it normalises (Qwen:
NFC) comes back normalised; with Llama-2-style files a `▁` comes back as a space; a
character that is no token and has no bytes either is lost.
Promoted by 02_tokenizer.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from shared.errors import UserError
from shared.files import atomic_file
from shared.text.bpe_files import unshow
from shared.text.tokenizer import Decodes, to_bytes

# What closes a text. GPT-2 and Qwen, Llama 3, Llama 2 and Mistral, Gemma; then closers of a turn.
END_NAMES = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eot_id|>", "<|im_end|>")
SPACE_MARK = "▁"  # SentencePiece's sign for a space, U+2581
BYTE_NAME = re.compile(r"<0x([0-9A-F]{2})>")
INSTALL = 'the package "tokenizers" is missing: pip install -e ".[pretrained]" in this repository'


class PretrainedTokenizer(Decodes):
    """The tokenizer of a `tokenizer.json`, used for plain text only.

    Its special tokens are never found in text, and it puts nothing in front of a
    text: `decode(encode(a)) == a`. (Llama 2's puts a space there. Where you want the
    very ids that it gives, encode `" " + text`.)

    Args:
        state: the content of a `tokenizer.json`.

    Raises:
        UserError: the package is missing, the library cannot read `state`, the tokenizer
            drops spaces, or it has no end-of-text token.
    """

    kind = "pretrained"

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = _plain_text_only(state)
        self._library = _build(self.state)
        names = self._library.get_vocab(with_added_tokens=True)
        self.vocab_size = max(names.values()) + 1  # rows; ids may have gaps
        self.end_of_text = _end_of_text(names)
        added = self._library.get_added_tokens_decoder()
        special = {number for number, token in added.items() if token.special}
        self.special = {n: i for n, i in names.items() if i in special | {self.end_of_text}}
        self.vocabulary = [b""] * self.vocab_size
        for name, number in names.items():
            if name not in self.special:
                raw = number in added  # found in the text as it stands
                self.vocabulary[number] = name.encode() if raw else self._bytes_of(name)
        self._spelled = self._spell_special(names)

    def _bytes_of(self, name: str) -> bytes:
        if _is_byte_level(self.state):
            try:
                return unshow(name)
            except KeyError:  # not written in the byte alphabet
                return name.encode()
        if byte := BYTE_NAME.fullmatch(name):
            return bytes([int(byte[1], 16)])
        return name.replace(SPACE_MARK, " ").encode()

    def _spell_special(self, names: dict[str, int]) -> dict[int, list[int]]:
        """Special id -> ids of its name's single bytes, should a merge ever lead to it."""
        byte_ids = {v[0]: i for i, v in enumerate(self.vocabulary) if len(v) == 1}
        unknown = self.state["model"].get("unk_token")  # may stand for text: stays as it is
        return {
            number: [byte_ids[b] for b in name.encode() if b in byte_ids]
            for name, number in self.special.items()
            if name != unknown
        }

    def encode(self, text: str | bytes) -> np.ndarray:
        """Ids of `text`, shape (number of tokens,), in the smallest unsigned type. Never raises.

        The library takes text, not bytes: a byte run that is not UTF-8 becomes U+FFFD.
        """
        valid = to_bytes(text).decode("utf-8", "replace")
        ids = self._library.encode(valid, add_special_tokens=False).ids
        if not self._spelled.keys().isdisjoint(ids):
            ids = [part for number in ids for part in self._spelled.get(number, (number,))]
        return np.array(ids, dtype=np.min_scalar_type(self.vocab_size - 1))

    @property
    def identity(self) -> str:
        """A name that differs between tokenizers that give other ids."""
        state = json.dumps(self.state, sort_keys=True).encode()
        return f"pretrained-{hashlib.sha256(state).hexdigest()[:16]}"

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one id; a special token has none, nor has an id that names no token."""
        return self.vocabulary[token]

    def save(self, path: str | Path) -> None:
        """Writes the whole tokenizer as JSON: to load it takes no network."""
        with atomic_file(path) as partial:
            partial.write_text(
                json.dumps({"kind": self.kind, "tokenizer": self.state}), encoding="utf-8"
            )


def _parts(part: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A normalizer, pre-tokenizer or decoder, and those inside it if it is a sequence."""
    if part:
        yield part
        for inside in ("normalizers", "pretokenizers", "decoders"):
            for inner in part.get(inside) or ():
                yield from _parts(inner)


def _plain_text_only(state: dict[str, Any]) -> dict[str, Any]:
    """The state with no cutting, padding or chance, and nothing put in front of a text."""
    state = state | {"truncation": None, "padding": None}
    if state["model"].get("dropout"):
        state["model"] = state["model"] | {"dropout": None}
    for room in ("normalizer", "pre_tokenizer"):
        state[room] = deepcopy(state.get(room))
        for part in _parts(state[room]):
            if part["type"] == "Prepend":
                part["prepend"] = ""
            elif part["type"] == "Metaspace":
                part["prepend_scheme"] = "never"
                part.pop("add_prefix_space", None)  # the older name of the same
            elif "add_prefix_space" in part:
                part["add_prefix_space"] = False
    return state


def _is_byte_level(state: dict[str, Any]) -> bool:
    rooms = (state.get("normalizer"), state.get("pre_tokenizer"))
    return any(part["type"] == "ByteLevel" for room in rooms for part in _parts(room))


def _build(state: dict[str, Any]) -> Any:
    try:
        from tokenizers import Tokenizer as Library
    except ImportError as error:
        raise UserError(INSTALL) from error
    if not _is_byte_level(state):
        rooms = json.dumps([state["normalizer"], state["pre_tokenizer"]], ensure_ascii=False)
        if SPACE_MARK not in rooms:
            raise UserError(
                f"this {state['model'].get('type')} tokenizer drops spaces, and no text would come "
                "back; take one on bytes (as GPT-2's, Llama 3's) or with ▁ (Llama 2's)"
            )
    try:
        library = Library.from_str(json.dumps(state))
    except Exception as error:  # the library raises no kinds of its own
        raise UserError(f"the tokenizers library cannot read this tokenizer: {error}") from error
    library.encode_special_tokens = True  # their names in a text are text
    return library


def _end_of_text(names: dict[str, int]) -> int:
    for name in END_NAMES:
        if name in names:
            return names[name]
    raise UserError(f"the tokenizer has no end-of-text token; known names: {', '.join(END_NAMES)}")


def download_tokenizer(name: str) -> Path:
    """The `tokenizer.json` of a model on the Hugging Face hub; asks the network only once.

    Args:
        name: such as `gpt2` or `meta-llama/Llama-3.2-1B`.

    Raises:
        UserError: gated, unknown, offline; each says what to do.
    """
    import huggingface_hub as hub  # slow to import: only when asked for

    file = "tokenizer.json"
    try:
        return Path(hub.hf_hub_download(name, file, local_files_only=True))
    except (OSError, ValueError):
        pass  # not here yet, or no name at all: then the next line says so
    try:
        # Fails at once and says why; the download tries for half a minute and then does not.
        hub.get_hf_file_metadata(hub.hf_hub_url(name, file))
        return Path(hub.hf_hub_download(name, file))
    except Exception as error:  # the hub's client raises a dozen unrelated kinds
        raise UserError(_what_to_do(name, error)) from error


def _what_to_do(name: str, error: Exception) -> str:
    from huggingface_hub import errors

    page = f"https://huggingface.co/{name}"
    status = getattr(getattr(error, "response", None), "status_code", None)
    is_unknown = isinstance(error, errors.RepositoryNotFoundError)
    is_gated = isinstance(error, errors.GatedRepoError)
    if is_gated or (status in (401, 403) and not is_unknown):
        refused = "is gated" if is_gated else f"was refused by the hub (HTTP {status})"
        return (
            f"{name} {refused}: accept its licence on {page}, then log in with `hf auth login` "
            "or set HF_TOKEN (the token must be allowed to read gated repositories)"
        )
    if is_unknown or isinstance(error, errors.HFValidationError):
        return (
            f"{name!r} is no file here and no model on the hub: check the spelling (as in gpt2 or "
            "meta-llama/Llama-3.2-1B); if it is private, log in with `hf auth login`"
        )
    is_local = isinstance(error, errors.LocalEntryNotFoundError)  # a kind of the next one
    if isinstance(error, errors.EntryNotFoundError) and not is_local:
        return f"{name} has no tokenizer.json on the hub; take another model of its family ({page})"
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return (
        f"{name!r} is no file here, and the hub cannot be reached ({reason}): go online once, or "
        "give the path of a tokenizer.json, or take bytes"
    )

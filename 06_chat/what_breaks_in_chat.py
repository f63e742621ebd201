"""What breaks in a chat: one line of the cache or of sampling is changed, and the effect measured.

    python 06_chat/what_breaks_in_chat.py
    python 06_chat/what_breaks_in_chat.py RUN

Half a minute. The run is the quick one unless another is named. Texts that its training held back
are read one byte at a time, as a reply is written: how well is each next byte guessed? Then the
model writes, always the likeliest byte: how many come out otherwise than with nothing changed?
"""

import sys
from copy import deepcopy
from functools import partial
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from shared.chat.kv_cache import KVCache, WindowKV
from shared.chat.sampling import SamplingSettings
from shared.errors import one_line_errors
from shared.model.positions import rope_angles
from shared.model.transformer import Transformer
from shared.text.sources import Source, read_source
from shared.text.splits import VALIDATION, split_documents
from shared.text.tokenizer import ByteTokenizer
from shared.training.checkpoint import load_model
from shared.training.checkpoint_folder import find_checkpoint
from shared.training.loss import cross_entropy

QUICK_RUN = Path(__file__).resolve().parents[1] / "05_full_run" / "runs" / "quick"
TEXTS, READ_ANEW = 16, 4  # rows; the second, where each byte costs a pass over a whole context
HELD_BACK = 0.05  # of python-docs, as every config has it


class FromZero(KVCache):
    """Turns each new key and query as if it stood at the very beginning."""

    starts = 0


class Moving(KVCache):
    """Drops its oldest key and value when it is full, and never reads again."""

    def __init__(self, model: Transformer, rows: int, angles_go_on: bool) -> None:
        config = model.config
        self.most = config.context_length - 1  # the new key takes the last place
        shape = (rows, config.kv_heads, self.most, config.head_width)
        kinds = torch.device("cpu"), torch.float32
        self.layers = [WindowKV(shape, *kinds) for _ in range(config.n_layers)]
        self.angles_go_on = angles_go_on

    @property
    def length(self) -> int:
        """Positions held."""
        return min(self.layers[-1].length, self.most)

    @property
    def starts(self) -> int:
        """Where the next byte is said to stand."""
        return self.layers[-1].length if self.angles_go_on else self.length


def sees_the_first_key(model: Transformer) -> Transformer:
    """A copy in which one query meets a long cache with `is_causal=True`."""
    broken = deepcopy(model)
    for block in broken.blocks:
        block.attention.attend = lambda queries, keys, values, documents: (
            F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        )
    return broken


def held_back_texts(rows: int, length: int) -> Tensor:
    """Windows (rows, length) of python-docs' validation text, spread evenly."""
    documents = split_documents(read_source(Source("python-docs")), HELD_BACK)
    data = b"\x1e".join(each.data for each in documents if each.split == VALIDATION)
    ids = torch.from_numpy(ByteTokenizer().encode(data).astype(np.int64))
    starts = torch.linspace(0, len(ids) - length, rows).long()
    return ids.unfold(0, length, 1)[starts]


def read_byte_by_byte(model: Transformer, texts: Tensor, cache: KVCache) -> Tensor:
    """Logits (B, T, V) of texts (B, T) that go through the cache one byte at a time."""
    return torch.cat([model(column, cache) for column in texts.split(1, dim=1)], dim=1)


def nats(logits: Tensor, texts: Tensor) -> float:
    """The mean loss of logits (B, T, V): at each position but the last, the byte after it."""
    return cross_entropy(logits[:, :-1], texts[:, 1:]).item()


def nats_in_one_cache(model: Transformer, texts: Tensor) -> float:
    """The same of texts (B, T/2) whose bytes take turns in a cache with another text's bytes."""
    others = texts.roll(1, dims=0)
    both = rearrange([texts, others], "two batch positions -> batch (positions two)")
    logits = read_byte_by_byte(model, both, KVCache(model.config, batch_size=len(both)))
    return nats(logits[:, ::2], texts)


def write(model: Transformer, prompts: Tensor, new: int, cache: KVCache) -> Tensor:
    """The likeliest bytes after prompts (B, T), each read before the next: (B, new)."""
    ids = model(prompts, cache)[:, -1:].argmax(dim=-1)  # (B, 1)
    written = [ids]
    while len(written) < new:
        written.append(model(written[-1], cache).argmax(dim=-1))
    return torch.cat(written, dim=1)


def nats_when_full(model: Transformer, texts: Tensor) -> dict[str, float]:
    """Losses of the last T/2 of texts (B, 3/2 T): the context T is full. One for each way out."""
    full = model.config.context_length
    half, rows = full // 2, len(texts)

    def after(logits: Tensor) -> float:
        return nats(logits[:, -half:], texts[:, -half:])

    windows = rearrange(texts.unfold(1, full, 1)[:, 1:], "batch each full -> (batch each) full")
    anew = torch.cat([model(part)[:, -1] for part in windows.split(64)])
    longer = deepcopy(model)
    longer.cos, longer.sin = rope_angles(2 * full, model.config.head_width, model.config.rope)
    old, going_on = (Moving(model, rows, angles_go_on=flag) for flag in (False, True))
    forgotten = model(texts[:, -full:])
    return {
        "the last T bytes read anew for each byte": after(
            rearrange(anew, "(batch each) logits -> batch each logits", batch=rows)
        ),
        "half forgotten, the rest read again": after(forgotten),
        "cache moved along": after(read_byte_by_byte(model, texts, old)),
        "moved along, angles going on": after(read_byte_by_byte(longer, texts, going_on)),
    }


def share_left_empty(logits: Tensor, settings: SamplingSettings) -> float:
    """How often the likeliest byte alone crosses top_p, so that a rule without it keeps none."""
    shares = (logits / settings.temperature).softmax(dim=-1)
    return (shares.amax(dim=-1) >= settings.top_p).float().mean().item()


@torch.inference_mode()
def main(arguments: list[str]) -> None:
    """Measures one change after the other."""
    torch.set_num_threads(1)
    model, _ = load_model(find_checkpoint(arguments[0] if arguments else QUICK_RUN))
    full = model.config.context_length
    long = held_back_texts(TEXTS, full + full // 2)
    texts, prompts = long[:, :full], long[:, : full // 2]
    whole = model(texts)
    tell("nothing, and no cache", nats(whole, texts))
    cache = partial(KVCache, model.config, batch_size=TEXTS)
    right = write(model, prompts, full // 2, cache())
    for name, broken, make_cache in (
        ("nothing", model, cache),
        ("is_causal=True", sees_the_first_key(model), cache),
        ("RoPE from 0", model, partial(FromZero, model.config, batch_size=TEXTS)),
    ):
        read = nats(read_byte_by_byte(broken, texts, make_cache()), texts)
        written = write(broken, prompts, full // 2, make_cache())
        tell(name, read, f"{(written != right).float().mean():.0%} of its bytes differ")
    tell("nothing, half a context", nats(whole[:, : full // 2], prompts))
    tell("two texts in one cache", nats_in_one_cache(model, prompts))
    for name, loss in nats_when_full(model, long[:: TEXTS // READ_ANEW]).items():
        tell(name, loss)
    empty = share_left_empty(whole, SamplingSettings())
    print(f"top_p without the byte that crosses: nothing left at {empty:.1%} of the bytes")


def tell(name: str, loss: float, more: str = "") -> None:
    """One row."""
    print(f"{name:44}{loss:.2f} nats a byte  {more}", flush=True)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])

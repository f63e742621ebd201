"""Yours to write: from logits to a reply.

    make learn                 # shows the task at hand, and grades each time you save
    make check STEP=06         # grades all of this step

Write what is missing below each docstring, in place of `raise NotImplementedError`. You
may use what you have written above, and add functions of your own. Sizes: B batch, T positions,
K key/value heads, D channels a head, V vocabulary.
"""

import math

import torch
from torch import Tensor

from shared.chat.kv_cache import KVCache, LayerKV
from shared.model.transformer import Transformer
from shared.text.transcript import STOPS, Message


def next_token(logits: Tensor, temperature: float, generator: torch.Generator) -> int:
    """Draws one id: shares are the softmax of the logits divided by the temperature.

    logits (V,). A temperature of 0 means the likeliest id, and draws nothing. Draw with
    `torch.multinomial(shares, 1, generator=generator)`, and nothing else, so that one seed
    means one text.

    >>> next_token(torch.tensor([1.0, 3.0, 2.0]), 0.0, torch.Generator())
    1
    >>> next_token(torch.tensor([-math.inf, -math.inf, 0.0]), 1.0, torch.Generator())
    2
    """
    raise NotImplementedError


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The logits, all but the k largest at minus infinity; k = 0 keeps all.

    (V,) -> (V,).

    >>> keep_top_k(torch.tensor([1.0, 4.0, 3.0]), k=2)
    tensor([-inf, 4., 3.])
    """
    raise NotImplementedError


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The logits, all at minus infinity but the fewest likeliest ids whose shares reach p.

    (V,) -> (V,). The id that crosses p is kept; p = 1 keeps all.

    >>> keep_top_p(torch.tensor([0.1, 0.6, 0.3]).log(), p=0.7)            # 0.6 is not enough
    tensor([   -inf, -0.5108, -1.2040])
    """
    raise NotImplementedError


def extend(cache: LayerKV, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """One layer's cache takes in new keys and values; returns all that it holds now.

    keys and values (B, K, T new, D) -> two of (B, K, T so far, D). `cache.keys` and
    `cache.values` are buffers (B, K, context, D) of which the first `cache.length` places
    are filled. `cache.extend` is refused.

    >>> cache = LayerKV((1, 1, 3, 1), torch.device("cpu"), torch.float32)
    >>> _ = extend(cache, torch.tensor([[[[5.0]]]]), torch.tensor([[[[6.0]]]]))
    >>> keys, values = extend(cache, torch.tensor([[[[7.0]]]]), torch.tensor([[[[8.0]]]]))
    >>> keys.flatten().tolist(), values.flatten().tolist(), cache.length
    ([5.0, 7.0], [6.0, 8.0], 2)
    """
    raise NotImplementedError


def generate(model: Transformer, prompt: list[int], count: int) -> list[int]:
    """The `count` likeliest ids after a prompt, one after another, with a KV cache.

    `cache = KVCache(model.config)` is a fresh one; `model(ids, cache)` takes ids (1, T new),
    remembers their keys and values in it, and gives logits (1, T new, V). The prompt goes
    through the model once, and after it each new id once, all but the last. Prompt and new
    ids fit into the context.

    >>> from shared.model.config import ModelConfig
    >>> model = Transformer(ModelConfig(n_layers=1, d_model=8, n_heads=1)).eval()
    >>> len(generate(model, [72, 105], count=3))
    3
    """
    raise NotImplementedError


def visible(text: str) -> tuple[str, bool]:
    """What of a reply so far may be shown, and whether the reply has ended.

    It ends where the first of the marks in `STOPS` begins: "\\n" and a role and ":". If there is
    none, the longest end of the text that could become one is held back. Spaces at
    the very beginning are not part of the reply.

    >>> visible(" Hello\\nuser: and")
    ('Hello', True)
    >>> visible(" Hello\\nuse"), visible(" Hello\\nuseful")
    (('Hello', False), ('Hello\\nuseful', False))
    """
    raise NotImplementedError


def reply_mask(messages: list[Message]) -> list[bool]:
    """Which bytes of a conversation the assistant has to learn.

    The bytes are those of "role: content\\n" for each message, and one byte more that ends the
    conversation. The assistant's words count, with the space before them and the newline behind;
    the last byte counts if the assistant spoke last. Role and colon never do.

    >>> mask = reply_mask([Message("user", "hi"), Message("assistant", "Yo")])
    >>> len(mask), sum(mask), mask.index(True)                # " Yo", newline, end
    (24, 5, 19)
    """
    raise NotImplementedError


def lora(x: Tensor, weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """A linear layer with a small change beside it: x W' + (x A') B' alpha / r.

    x (B, T, in), weight (out, in), A (r, in), B (out, r) -> (B, T, out).

    >>> weight, A, B = torch.tensor([[1.0, 1], [4, 3]]), torch.tensor([[1, 2.5]]), torch.ones(2, 1)
    >>> lora(torch.tensor([[[1.0, 0.0]]]), weight, A, B, alpha=3.0)
    tensor([[[4., 7.]]])
    """
    raise NotImplementedError


def dpo_loss(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """Mean over pairs of -log sigmoid(beta · margin).

    Both (2, pairs): log-probabilities of whole replies, the chosen ones, then the rejected ones;
    by the model, and by what it was at first. The margin is how much more the chosen reply has
    gained than the rejected one.

    >>> dpo_loss(torch.tensor([[-10.0], [-12.0]]), torch.tensor([[-11.0], [-11.0]]), beta=0.1)
    tensor(0.5981)
    """
    raise NotImplementedError


def advantages(rewards: Tensor) -> Tensor:
    """What each reply is pushed by: its reward, less what is usual in its group.

    (G, k) -> (G, k): G questions, k replies to each.

    >>> advantages(torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]]))
    tensor([[ 0.7500, -0.2500, -0.2500, -0.2500],
            [ 0.0000,  0.0000,  0.0000,  0.0000]])
    """
    raise NotImplementedError


def vote(answers: list[str], log_probabilities: list[float]) -> int:
    """The place of the reply to give: the likeliest of those with the commonest answer.

    If two answers are equally common, the likelier reply decides.

    >>> vote(["4", "5", "4"], [-0.9, -0.1, -0.5])
    2
    """
    raise NotImplementedError

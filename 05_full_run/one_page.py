"""The whole thing on one page: text in, a small language model out, and a chat with it.

    python 05_full_run/one_page.py

Words after a minute, but no sense yet. With seed 0, on one of two cores of an AMD EPYC that
was also busy with other work, it printed this among other lines ("what are you?" was asked):

    step   700   loss 1.37
    user: what is a "sync or" and "__item__()" method is an the class integers also
    assistant: I am a tiny make model. I have no not know. I am a tiny and model?

Read it from the top; each of the seven steps then opens one part. The comments at the
ends of lines are shapes: B windows in a batch, T bytes in a window, C channels, H heads
of D = C / H channels, F channels inside the feed-forward, V = 256 different bytes.
"""

import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

import torch
from einops import rearrange
from torch import Tensor, nn

BATCH, CONTEXT = 8, 128  # B and T
RATE = 0.004  # how far one step moves a weight, at most
PRIMER = Path(__file__).parents[1] / "shared" / "text" / "primer.txt"

# ---- Text: a byte is a number from 0 to 255, and that is all the model ever sees ----


def read_text() -> Tensor:
    """The help topics that every Python carries, and handwritten conversations, as bytes."""
    conversations = "\n\n" + PRIMER.read_text(encoding="utf-8")
    # They are short. Standing there twenty times, they are a third of the text.
    text = "\n\n".join(topics.values()) + 20 * conversations
    return torch.tensor(list(text.encode()))


def draw_batch(text: Tensor, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """Windows from anywhere in the text: inputs, and as target for each byte the next one."""
    starts = torch.randint(len(text) - CONTEXT, (BATCH,), generator=dice)
    windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts])  # (B, T + 1)
    return windows[:, :-1], windows[:, 1:]  # (B, T) each


# ---- Model: from bytes to a score for every byte that may come next ----


def rotate(x: Tensor) -> Tensor:
    """RoPE: turned by their positions, query and key match by their distance; x is (B, H, T, D)."""
    positions, channels = x.shape[-2:]
    speeds = 10_000.0 ** -(torch.arange(0, channels, 2) / channels)  # (D/2,)
    angles = torch.outer(torch.arange(positions), speeds)  # (T, D/2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)  # (B, H, T, D/2) each
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class CausalAttention(nn.Module):
    """Each position asks a question of all positions up to its own, and mixes their answers."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.output = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        split = "batch positions (heads channels) -> batch heads positions channels"
        queries = rotate(rearrange(self.query(x), split, heads=self.heads))  # (B, H, T, D)
        keys = rotate(rearrange(self.key(x), split, heads=self.heads))  # (B, H, T, D)
        values = rearrange(self.value(x), split, heads=self.heads)  # (B, H, T, D)
        scores = queries @ keys.mT / math.sqrt(queries.shape[-1])  # (B, H, T, T)
        # Who saw the byte that is to be guessed would learn to copy it, and nothing else.
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)  # (T, T)
        weights = scores.masked_fill(future, -math.inf).softmax(dim=-1)  # each row sums to 1
        mixed = weights @ values  # (B, H, T, D)
        merge = "batch heads positions channels -> batch positions (heads channels)"
        return self.output(rearrange(mixed, merge))  # (B, T, C)


class SwiGLU(nn.Module):
    """Each position thinks for itself: a gate decides what of a wider vector comes through."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 8 * channels // 3  # F
        self.gate = nn.Linear(channels, inner, bias=False)
        self.up = nn.Linear(channels, inner, bias=False)
        self.down = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))  # inside (B, T, F)


class Block(nn.Module):
    """Look back, then think. Both add to x and neither overwrites it."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(channels, eps=1e-5)
        self.attention = CausalAttention(channels, heads)
        self.feedforward_norm = nn.RMSNorm(channels, eps=1e-5)
        self.feedforward = SwiGLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x))
        return x + self.feedforward(self.feedforward_norm(x))


class Transformer(nn.Module):
    """Embedding, blocks, head: the scores at a position (logits) are for the byte after it."""

    def __init__(self, layers: int = 3, channels: int = 96, heads: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, channels)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(layers))
        self.final_norm = nn.RMSNorm(channels, eps=1e-5)
        self.head = nn.Linear(channels, 256, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:  # small, so that at first all bytes are about as likely
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)  # (B, T, C)
        for block in self.blocks:
            x = block(x)
        return self.head(self.final_norm(x))  # (B, T, V)


# ---- Training: guess, measure the surprise, move every weight a little ----


def clock(seconds: float) -> Iterator[float]:
    """How much of the time is spent, from 0 to 1, each time it is asked."""
    start = time.monotonic()
    while (progress := (time.monotonic() - start) / seconds) < 1:
        yield progress


def train(model: nn.Module, text: Tensor, moments: Iterable[float]) -> list[float]:
    """One step at each moment of progress; returns the loss of each, in nats a byte."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95))
    dice, losses = torch.Generator().manual_seed(0), []
    for progress in moments:
        inputs, targets = draw_batch(text, dice)
        logits = model(inputs)  # (B, T, V)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # an odd batch must not throw it far
        # Slowly at first, while AdamW knows little of the gradients; to 0 at the end, to settle.
        optimizer.param_groups[0]["lr"] = RATE * min(1, 20 * progress, 2 - 2 * progress)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            print(f"step {len(losses):5,}   loss {sum(losses[-100:]) / 100:.2f}", flush=True)
    return losses


# ---- Chat: what it is asked it continues, byte by byte ----


@torch.no_grad()
def continue_text(model: nn.Module, text: bytes, longest: int, end: bytes = b"") -> bytes:
    """Up to `longest` bytes that may follow the text, or fewer if `end` comes."""
    written = b""
    while len(written) < longest:
        window = torch.tensor([list(text + written)[-CONTEXT:]])  # (1, T)
        # Doubled, so that likely bytes become likelier still, and slips rarer.
        chances = (2 * model(window)[0, -1]).softmax(dim=-1)  # (V,)
        drawn = bytes([torch.multinomial(chances, 1).item()])
        if drawn == end:
            break
        written += drawn
    return written


def main(model: nn.Module, moments: Iterable[float], lines: Iterable[bytes]) -> None:
    train(model, read_text(), moments)
    begun = b"If the "
    print((begun + continue_text(model, begun, 150)).decode(errors="replace"))
    print("\nAsk something, such as: what are you? (Ctrl-D ends)")
    for line in lines:
        # The form of the conversations it has read. Whatever comes next is the reply.
        prompt = b"\n\nuser: " + line.strip() + b"\nassistant:"
        print("assistant:" + continue_text(model, prompt, 200, b"\n").decode(errors="replace"))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a model so small waits for a second thread longer than it computes
    main(Transformer(), clock(seconds=60), sys.stdin.buffer)

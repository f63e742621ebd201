"""Row cache: the KV caches of many conversations side by side, each as long as its own text.

A key's column is its position, in every row. So what stands to the right of a row's newest
key, a neighbour's surplus, is that row's future: the causal mask hides it already.
Promoted by 06_chat.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from shared.model.transformer import Transformer

READ_AT_ONCE = 2048  # positions; more are no faster, and each has V logits to keep


class RowKV:
    """One layer's keys and values, in two buffers of (rows, K, context, D)."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty_like(self.keys)
        self.places = torch.zeros(0, dtype=torch.long)
        self.mask = torch.zeros(0, 1, 1, 0)

    def stand(self, places: Tensor, mask: Tensor) -> None:
        """Says where each row's next key belongs, and what it sees.

        Args:
            places: (B K,), numbers of lines of D in the buffer.
            mask: (B, 1, 1, T held), added to scores.
        """
        self.places, self.mask = places, mask

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Takes in (B, K, 1, D) twice; returns the columns in use, (B, K, T held, D), and mask."""
        rows, width, held = len(keys), keys.shape[-1], self.mask.shape[-1]
        for whole, new in ((self.keys, keys), (self.values, values)):
            whole.view(-1, width).index_copy_(0, self.places, new.reshape(-1, width))
        return self.keys[:rows, :, :held], self.values[:rows, :, :held], self.mask


class _Reading(NamedTuple):
    """Some rows of a layer that read on from the same position, as `LayerKV` does."""

    layer: RowKV
    rows: list[int]
    start: int

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, None]:
        """Takes in (R, K, T new, D) twice; returns all so far, (R, K, T so far, D)."""
        end = self.start + keys.shape[2]
        self.layer.keys[self.rows, :, self.start : end] = keys
        self.layer.values[self.rows, :, self.start : end] = values
        return self.layer.keys[self.rows, :, :end], self.layer.values[self.rows, :, :end], None


class _ReadingCache(NamedTuple):
    """The same for all layers: what the model is given while it reads."""

    layers: list[_Reading]
    length: int
    starts: int


class RowCache:
    """The caches of up to `rows` conversations; memory is 2 L rows K T D numbers, window or not.

    `lengths` says how many positions each row holds. Rows in use are the first ones.
    """

    def __init__(self, model: Transformer, rows: int) -> None:
        config, parameter = model.config, next(model.parameters())
        self.model, self.device, self.dtype = model, parameter.device, parameter.dtype
        shape = (rows, config.kv_heads, config.context_length, config.head_width)
        self.layers = [RowKV(shape, self.device, self.dtype) for _ in range(config.n_layers)]
        self.lengths: list[int] = []
        self._filled = 0  # rows that hold numbers: memory that was never used may hold NaN
        lines = torch.arange(rows * config.kv_heads, device=self.device) * config.context_length
        self._first_lines = lines.view(rows, config.kv_heads)

    @property
    def length(self) -> int:
        """Positions of the longest row."""
        return max(self.lengths, default=0)

    @property
    def starts(self) -> Tensor:
        """The next position of each row, (B, 1)."""
        return torch.tensor(self.lengths, device=self.device).unsqueeze(1)

    def join(self) -> None:
        """Takes the next free row into use; it holds nothing yet."""
        row = len(self.lengths)
        if row == self._filled:
            for layer in self.layers:
                layer.keys[row], layer.values[row] = 0, 0
            self._filled += 1
        self.lengths.append(0)

    def read(self, texts: dict[int, Sequence[int]]) -> None:
        """Rows that are equally long read on, all in one pass.

        Args:
            texts: new ids by row, (T new,) each; short ones are filled up to the longest.
        """
        rows, width = list(texts), max(map(len, texts.values()))
        start = self.lengths[rows[0]]
        filled_up = [[*text, *[0] * (width - len(text))] for text in texts.values()]
        layers = [_Reading(layer, rows, start) for layer in self.layers]
        ids = torch.tensor(filled_up, device=self.device)
        self.model(ids, _ReadingCache(layers, start, start))  # (R, T new)
        for row, text in texts.items():
            self.lengths[row] += len(text)

    def step(self, ids: Sequence[int | None]) -> Tensor:
        """Each row reads one id more; returns its next logits, (B, V).

        Args:
            ids: one a row; None for a row that stays as it is, and whose logits mean nothing.
        """
        places = self.starts  # (B, 1)
        columns = torch.arange(self.length + 1, device=self.device)  # (T held,)
        seen = (columns <= places) & (columns > places - self.model.config.reach)  # (B, T held)
        mask = torch.zeros(seen.shape, dtype=self.dtype, device=self.device)
        mask = mask.masked_fill_(~seen, -math.inf)[:, None, None]  # (B, 1, 1, T held)
        lines = (self._first_lines[: len(ids)] + places).view(-1)  # (B K,)
        for layer in self.layers:
            layer.stand(lines, mask)
        new = torch.tensor([[each or 0] for each in ids], device=self.device)  # (B, 1)
        logits = self.model(new, self)  # (B, 1, V)
        self.lengths = [n + (each is not None) for n, each in zip(self.lengths, ids, strict=True)]
        return logits.squeeze(1)

    def drop(self, row: int) -> None:
        """Forgets a row; the last row moves into its place."""
        held = self.lengths.pop()
        last = len(self.lengths)
        if row == last:
            return
        for layer in self.layers:
            for part in (layer.keys, layer.values):
                part[row, :, :held] = part[last, :, :held]
        self.lengths[row] = held

"""Row cache: the KV caches of many conversations side by side, each as long as its own text.

A key's column is its position, in every row. So what stands to the right of a row's newest
key, a neighbour's surplus, is that row's future: the causal mask hides it already.
Promoted by 06_chat.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from shared.chat.kv_cache import KVCache
from shared.model.transformer import Transformer

READ_AT_ONCE = 2048  # positions; more are no faster, and each has V logits to keep


class RowKV:
    """One layer's keys and values, in two buffers of (rows, K, context, D)."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.places = torch.zeros(0, dtype=torch.long)
        self.mask = torch.zeros(0, 1, 1, 0, dtype=torch.bool)

    def stand(self, places: Tensor, mask: Tensor) -> None:
        """Says where each row's next key belongs, (B,), and what it sees, (B, 1, 1, T held)."""
        self.places, self.mask = places, mask

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Takes in (B, K, 1, D) twice; returns the columns in use, (B, K, T held, D), and mask."""
        rows, held = len(self.places), self.mask.shape[-1]
        every = torch.arange(rows, device=keys.device)
        self.keys[every, :, self.places] = keys[:, :, 0]
        self.values[every, :, self.places] = values[:, :, 0]
        return self.keys[:rows, :, :held], self.values[:rows, :, :held], self.mask


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

    @property
    def length(self) -> int:
        """Positions of the longest row."""
        return max(self.lengths, default=0)

    @property
    def starts(self) -> Tensor:
        """The next position of each row, (B, 1)."""
        return torch.tensor(self.lengths, device=self.device).unsqueeze(1)

    def read(self, texts: dict[int, Sequence[int]]) -> None:
        """Reads texts into rows from the first position on; the next free row may be among them.

        Several go through the model at once, short ones filled up to the longest on the right.

        Args:
            texts: ids by row, (T,) each and at most the context; none at all is allowed.
        """
        for row in sorted(texts):
            self.lengths[row : row + 1] = [len(texts[row])]
        filled = sorted((row for row in texts if texts[row]), key=self.lengths.__getitem__)
        while filled:
            at_once = max(1, READ_AT_ONCE // self.lengths[filled[-1]])
            filled, group = filled[:-at_once], filled[-at_once:]
            self._read_group(group, [texts[row] for row in group])

    def _read_group(self, rows: list[int], texts: list[Sequence[int]]) -> None:
        width = max(map(len, texts))
        filled_up = [[*text, *[0] * (width - len(text))] for text in texts]
        config = self.model.config
        fresh = KVCache(config, self.device, self.dtype, len(rows), kept=width)
        self.model(torch.tensor(filled_up, device=self.device), fresh)  # (rows, T)
        for layer, read in zip(self.layers, fresh.layers, strict=True):
            layer.keys[rows, :, :width] = read.keys
            layer.values[rows, :, :width] = read.values

    def step(self, ids: Sequence[int]) -> Tensor:
        """Each row reads one id more; returns its next logits, (B, V)."""
        places = self.starts  # (B, 1)
        columns = torch.arange(self.length + 1, device=self.device)  # (T held,)
        seen = (columns <= places) & (columns > places - self.model.config.reach)  # (B, T held)
        for layer in self.layers:
            layer.stand(places.squeeze(1), seen[:, None, None])
        logits = self.model(torch.tensor(ids, device=self.device).unsqueeze(1), self)  # (B, 1, V)
        self.lengths = [length + 1 for length in self.lengths]
        return logits.squeeze(1)

    def drop(self, row: int) -> None:
        """Forgets a row; the last row moves into its place."""
        last = len(self.lengths) - 1
        for layer in self.layers:
            for part in (layer.keys, layer.values):
                part[row, :, : self.lengths[last]] = part[last, :, : self.lengths[last]]
        self.lengths[row] = self.lengths[last]
        self.lengths.pop()

"""KV cache: the keys and values of earlier positions, kept instead of computed again.

Without it every new byte costs a pass over the whole text; with it, over one byte.
It belongs to one conversation and is passed to the model as an argument.
Promoted by 06_chat.
"""

import torch
from torch import Tensor

from shared.model.config import ModelConfig

MOST_GUESSES = 16  # positions that may be taken back at once; see speculation.py


class LayerKV:
    """One layer's keys and values, in two buffers of (B, K, context, D)."""

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, None]:
        """Takes in (B, K, T new, D) twice; returns views of all so far, (B, K, T so far, D)."""
        start, self.length = self.length, self.length + keys.shape[2]
        self.keys[:, :, start : self.length] = keys
        self.values[:, :, start : self.length] = values
        return self.keys[:, :, : self.length], self.values[:, :, : self.length], None

    def forget(self, count: int) -> None:
        """Takes the last positions back: the next ones are written over them."""
        self.length -= count


class WindowKV:
    """One layer's last W - 1 keys and values: a window's next query sees no others.

    It holds a few more of them, which a query sees again once positions are taken back.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> None:
        batch, heads, self.kept, width = shape
        self.keys = torch.zeros(batch, heads, 0, width, device=device, dtype=dtype)
        self.values = self.keys
        self.length = 0

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, None]:
        """Takes in (B, K, T new, D) twice; returns those kept and the new ones behind them."""
        new = keys.shape[2]
        keys = torch.cat((self.keys, keys), dim=2)  # (B, K, T held + T new, D)
        values = torch.cat((self.values, values), dim=2)
        self.length += new
        held = max(0, keys.shape[2] - self.kept - MOST_GUESSES)
        self.keys, self.values = keys[:, :, held:].clone(), values[:, :, held:].clone()
        seen = max(0, keys.shape[2] - self.kept - new)
        return keys[:, :, seen:], values[:, :, seen:], None

    def forget(self, count: int) -> None:
        """Takes the last positions back, at most MOST_GUESSES of them."""
        self.length -= count
        left = self.keys.shape[2] - count
        self.keys, self.values = self.keys[:, :, :left], self.values[:, :, :left]


class KVCache:
    """The caches of all layers; memory is 2 L B K T D numbers, with a window 2 L B K (W - 1) D.

    Args:
        kept: positions to keep, all from the first on; none: what a next query could see.
    """

    def __init__(
        self,
        config: ModelConfig,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        batch_size: int = 1,
        kept: int | None = None,
    ) -> None:
        windowed = kept is None and config.reach < config.context_length
        if kept is None:
            kept = config.reach - 1 if windowed else config.context_length
        shape = (batch_size, config.kv_heads, kept, config.head_width)
        build = WindowKV if windowed else LayerKV
        self.device = torch.device(device)
        self.layers = [build(shape, self.device, dtype) for _ in range(config.n_layers)]

    @property
    def length(self) -> int:
        """Positions read so far."""
        return self.layers[-1].length

    def forget(self, count: int) -> None:
        """Takes back the last positions, at most MOST_GUESSES, as if they had not been read."""
        for layer in self.layers:
            layer.forget(count)

    @property
    def starts(self) -> int:
        """The next position, the same in every row."""
        return self.length

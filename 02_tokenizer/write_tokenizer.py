"""Yours to write: from text to ids to batches, and back; then longer tokens.

    make learn                 # shows the task at hand, and grades each time you save
    make check STEP=02         # grades all of this step

Write what is missing below each docstring, in place of `raise NotImplementedError`. You
may use what you have written above, and add functions of your own. Sizes: B batch (windows),
T positions.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def to_ids(text: str) -> list[int]:
    """The bytes of a text in UTF-8, each as a number.

    >>> to_ids("né")
    [110, 195, 169]
    """
    raise NotImplementedError


def to_text(ids: Iterable[int]) -> str:
    """The way back. Bytes that are no UTF-8 show as U+FFFD; it never fails.

    >>> to_text([110, 195, 169]), to_text([110, 195])
    ('né', 'n�')
    """
    raise NotImplementedError


def shown(ids: list[int]) -> list[str]:
    """What each id adds to the screen when ids come one at a time: whole characters only.

    An id that does not finish a character adds "". All ids together are valid UTF-8. Python's
    `codecs.getincrementaldecoder` can do it, and so can you without it.

    >>> shown([110, 195, 169, 33])
    ['n', '', 'é', '!']
    """
    raise NotImplementedError


def shifted(windows: Tensor) -> tuple[Tensor, Tensor]:
    """Inputs, and for each of them the id that follows.

    Windows (B, T + 1) -> inputs (B, T) and targets (B, T).

    >>> inputs, targets = shifted(torch.tensor([[7, 8, 9]]))
    >>> inputs.tolist(), targets.tolist()
    ([[7, 8]], [[8, 9]])
    """
    raise NotImplementedError


def windows(ids: Tensor, context_length: int) -> Tensor:
    """Cuts a text into windows side by side, so that every id but the first is a target once.

    (ids,) -> (number of windows, T + 1), T = context_length. The last id of a window is the
    first of the next. What is left at the end and fills no window is left out.

    >>> windows(torch.tensor([0, 1, 2, 3, 4, 5]), context_length=2).tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    raise NotImplementedError


def backwards_drill(word: str) -> str:
    """The reply of a drill that asks for a word backwards: its working, " = ", and the answer.

    The working is every letter with its number, there and back again.

    >>> backwards_drill("cat")
    '1c 2a 3t 3t 2a 1c = tac'
    """
    raise NotImplementedError


def merge(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Replaces the pair by the id `new` wherever it stands, from left to right.

    >>> merge([5, 6, 5, 6, 6], (5, 6), 300)
    [300, 300, 6]
    """
    raise NotImplementedError


def encode(text: str, merges: list[tuple[int, int]]) -> list[int]:
    """The ids of a text with longer tokens: its bytes, then every merge in the order of learning.

    The first merge makes id 256, the second 257, and so on.

    >>> encode("abcab", [(98, 99), (97, 98)])             # b and c first, so a stays alone at first
    [97, 256, 257]
    """
    raise NotImplementedError

"""Clipping: what is done about gradients that are far too long.

Promoted by 04_training.
"""

from collections import deque
from statistics import median
from typing import Any

RECENT, ENOUGH = 64, 16  # norms that are remembered; norms that make a median worth something
IN_A_ROW = 8  # spikes that are no spikes any more, but what gradients have become


class Clipping:
    """Every gradient is shortened to `max_norm`; one that stands out can be skipped besides.

    A spike, from an odd batch say, points somewhere else: shortened it still moves
    the weights there, and the optimizer's moments remember it. Skipping throws the
    batch away. Source: Pascanu et al. 2012, "On the difficulty of training recurrent
    neural networks", section 3.2 (clipping).

    Args:
        skip_above: skip a step whose norm is this many times the median of the last
            64; None: never.
    """

    def __init__(self, max_norm: float = 1.0, skip_above: float | None = None) -> None:
        self.max_norm, self.skip_above = max_norm, skip_above
        self.norms: deque[float] = deque(maxlen=RECENT)
        self.in_a_row = 0

    def skips(self, norm: float) -> bool:
        """Whether a gradient of this length is a spike; remembers its length if not.

        After eight in a row it forgets what was usual: learning must not stop for good.
        """
        known = self.skip_above is not None and len(self.norms) >= ENOUGH
        if known and norm > self.skip_above * median(self.norms):
            self.in_a_row += 1
            if self.in_a_row < IN_A_ROW:
                return True
            self.norms.clear()
        self.in_a_row = 0
        self.norms.append(norm)
        return False

    def state_dict(self) -> dict[str, Any]:
        """The norms it goes by."""
        return {"norms": list(self.norms), "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from saved norms."""
        self.norms = deque(state["norms"], maxlen=RECENT)
        self.in_a_row = state["in_a_row"]

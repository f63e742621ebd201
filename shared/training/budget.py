"""Budgets: when a run ends, counted in steps or in seconds.

Promoted by 04_training.
"""

import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from shared.errors import UserError

RECENT = 5  # steps that tell the pace: few, since a hot machine slows down
MOST_RESERVED = 0.2  # of the budget; a longer last evaluation overdraws it
UNITS = {"s": 1, "m": 60, "h": 3600}


class Budget:
    """Counts steps and seconds, and says how much of the run is over.

    Args:
        steps: end after this many steps, or
        seconds: end before this many seconds, those of earlier sittings included.
        clock: returns seconds; a test passes its own.

    Set `reserve` to the seconds that the last evaluation and saving will take, and
    the steps of a budget in seconds end that much earlier.
    """

    def __init__(
        self,
        steps: int | None = None,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if (steps is None) == (seconds is None):
            raise ValueError("a budget is given in steps or in seconds, one of the two")
        self.total_steps = steps
        self.total_seconds = seconds
        self.clock = clock
        self.step = 0
        self._earlier = 0.0
        self._started = None
        self.reserve = 0.0
        self._durations = deque(maxlen=RECENT)

    @property
    def elapsed_here(self) -> float:
        """Seconds of this sitting."""
        return 0.0 if self._started is None else self.clock() - self._started

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, over all sittings."""
        return self._earlier + self.elapsed_here

    @property
    def progress(self) -> float:
        """Share of the run that is over, 0 to 1."""
        return self._progress_at(self.elapsed)

    def _progress_at(self, elapsed: float) -> float:
        if self.total_steps is not None:
            return min(1.0, self.step / self.total_steps)
        return min(1.0, elapsed / self._seconds_for_steps)

    @property
    def progress_before_step(self) -> float:
        """Share that was over when the step in hand began: what the learning rate follows.

        To be asked at the beginning of a step. The last of N steps stands at (N - 1) / N,
        so that it still moves the weights.
        """
        if self.total_steps is not None:
            return min(1.0, (self.step - 1) / self.total_steps)
        return self.progress

    @property
    def _seconds_for_steps(self) -> float:
        return self.total_seconds - min(self.reserve, MOST_RESERVED * self.total_seconds)

    @property
    def seconds_left(self) -> float:
        """Estimate from the pace so far; infinite before the first step."""
        elapsed = self.elapsed
        progress = self._progress_at(elapsed)
        return max(0.0, elapsed / progress - elapsed) if progress else float("inf")

    def remaining_steps(self) -> Iterator[int]:
        """Yields step numbers, from 1 or from where a resumed run stands, to the end.

        In seconds, a step that would end too late by the pace of the last few steps
        is not begun.
        """
        self._earlier = self.elapsed
        self._started = self.clock()
        self._durations.clear()
        while self.progress < 1 and not self._next_is_too_late():
            self.step += 1
            begun = self.clock()
            yield self.step
            self._durations.append(self.clock() - begun)

    @property
    def pace(self) -> float:
        """Seconds a step, the median of the last few: an evaluation between two does not count."""
        return median(self._durations) if self._durations else 0.0

    def _next_is_too_late(self) -> bool:
        if self.total_seconds is None:
            return False
        return self.elapsed + self.pace > self._seconds_for_steps

    @property
    def expected_steps(self) -> float:
        """Steps of the whole run, in seconds by the pace so far; infinite before there is one."""
        if self.total_steps is not None:
            return self.total_steps
        left = max(0.0, self._seconds_for_steps - self.elapsed)
        return self.step + left / self.pace if self.pace else float("inf")

    def spend(self, seconds: float) -> None:
        """Counts seconds that passed before the first step, as compiling does."""
        self._earlier += seconds

    def state_dict(self) -> dict[str, Any]:
        """Steps and seconds so far, and the seconds kept for the end."""
        return {"step": self.step, "elapsed": self.elapsed, "reserve": self.reserve}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from saved steps and seconds."""
        self.step = state["step"]
        self._earlier = state["elapsed"]
        self._started = None
        self.reserve = state.get("reserve", 0.0)


def parse_budget(text: str) -> Budget:
    """`"2000 steps"`, `"90s"`, `"15m"` or `"6h"` -> a budget.

    Raises:
        UserError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(steps?|s|m|h)\s*", text)
    if match is None or float(match[1]) <= 0:
        raise UserError(f"budget {text!r}: expected such as '2000 steps', '90s', '15m' or '6h'")
    if match[2].startswith("step"):
        return Budget(steps=max(1, int(float(match[1]))))
    return Budget(seconds=float(match[1]) * UNITS[match[2]])

"""Yours to write: how much a run sees, and what fits.

    make learn                 # shows the task at hand, and grades each time you save
    make check STEP=05         # grades all of this step

Write what is missing below each docstring, in place of `raise NotImplementedError`.
"""


def tokens_per_parameter(tokens_per_second: float, parameters: int, hours: float = 6.0) -> float:
    """How many tokens a run of that many hours trains on, for each parameter of its model.

    >>> tokens_per_parameter(tokens_per_second=1000, parameters=720_000, hours=2)
    10.0
    """
    raise NotImplementedError


def largest_batch(fixed: int, per_window: int, available: int, together: int) -> int:
    """The largest micro-batch, in windows, that fits into memory and divides `together`.

    Training takes `fixed` bytes whatever the batch, and `per_window` for each window. Of the
    `available` bytes a fifth stays free, for the system. The `together` windows of a step are
    taken in equal pieces. At least one window fits.

    >>> largest_batch(fixed=200, per_window=100, available=1000, together=12)     # 6 fit, and
    6
    >>> largest_batch(fixed=200, per_window=100, available=1000, together=16)     # do not divide 16
    4
    """
    raise NotImplementedError

"""Refused calls: where a function of PyTorch is the whole answer, it ends the grading."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.overrides import TorchFunctionMode


class Refused(Exception):
    """A function was called that would be the whole answer."""


class _Refusing(TorchFunctionMode):
    """Sees every call into PyTorch, whatever name it was imported under."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        self.names = names

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Lets all others through."""
        name = getattr(function, "__name__", "")
        if name in self.names:
            raise Refused(f"PyTorch's {name} is refused here: it is the answer itself")
        return function(*args, **(kwargs or {}))


@contextmanager
def refusing(names: tuple[str, ...]) -> Iterator[None]:
    """A block in which calling one of these functions raises `Refused`."""
    if not names:
        yield
        return
    with _Refusing(names):
        yield

"""How work is handed to whoever is to do it, in this process or in others; who that is, is decided elsewhere."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

P = TypeVar("P")
R = TypeVar("R")


class Spread(Protocol):
    """`work` of each part, in order, like `map`; a few parts may be under way ahead of the one that is asked for.

    Work, parts and results travel by pickle, unless it is done in this process. Work must be a pure function: a part
    may be done more than once.

    Raises:
        BtsError: if there are no workers to do it.
        Exception: whatever work fails with.
    """

    def __call__(self, work: Callable[[P], R], parts: Iterable[P], /) -> Iterator[R]: ...

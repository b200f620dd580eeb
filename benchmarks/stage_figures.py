"""What a way of a stage came to: the amount of work and the seconds that it took."""

import time
from collections.abc import Callable

Figures = dict[str, float]


def timed(work: int, run: Callable[[], object]) -> Figures:
    start = time.perf_counter()
    run()
    return {"work": work, "seconds": time.perf_counter() - start}


def speed(figures: Figures) -> float:
    """Work a second."""
    return figures["work"] / figures["seconds"]

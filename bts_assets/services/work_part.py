"""A part of work, wherever it is done: how it is attempted, in which order it comes back, what is said where it fails.

Nothing heavy is imported here: a worker sets itself to one thread before it loads what its first part needs.
"""

import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeVar

from bts_assets.contracts.errors import BtsError

P = TypeVar("P")
R = TypeVar("R")
T = TypeVar("T")

#: Times that a part is begun, if its workers die.
TRIES: Final = 3
#: Parts that are under way at once in one process: more would wait for the interpreter's lock, and take memory.
AT_ONCE: Final = 2
#: A worker is one of several on its machine, and leaves the other cores to the others.
ONE_THREAD: Final = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

#: A training's sums, unlike a forecast's, depend on how many threads do them: each has as many as it would have here.
AS_HERE: Final[dict[str, str]] = {}

#: What a worker is given to end by itself, seconds.
_TO_END: Final = 5

#: What work came to: whether it was done, and its result or what it failed with.
Outcome = tuple[bool, Any]


class EngineError(BtsError):
    """Work could not be done where BTS_ENGINE and BTS_WORKERS say; nothing of it counts."""


def heed_the_asker() -> None:
    """To be called first in a worker: Ctrl-C is for whoever asks, and a worker ends when it is told to.

    Dagster lets SIGTERM do what SIGINT does, which a background command of a script ignores; so would its workers.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def ended(process: BaseProcess) -> int | None:
    """End a worker, by force if it does not hear, as one that is still starting; its exit code."""
    process.terminate()
    process.join(_TO_END)
    process.kill()  # of one that is gone already it changes nothing
    process.join()
    return process.exitcode


def in_order(
    start: Callable[[P], T], finish: Callable[[T], R], drop: Callable[[T], object], parts: Iterable[P], at_once: int
) -> Generator[R]:
    """Starts parts, `at_once` ahead, and finishes them in their order; drops the others once nobody asks any more."""
    under_way: deque[T] = deque()
    try:
        for part in parts:
            under_way.append(start(part))
            if len(under_way) == at_once:
                yield finish(under_way.popleft())
        while under_way:
            yield finish(under_way.popleft())
    finally:
        for one in under_way:
            drop(one)


@contextmanager
def in_threads(work: Callable[[P], R], parts: Iterable[P]) -> Iterator[Iterator[R]]:
    """`work` of each part, in order, `AT_ONCE` under way; parts are taken by whoever asks for results. Leaving the
    context waits for those under way.

    Arithmetic of arrays lets go of the interpreter's lock. Matrix products take one thread each meanwhile, or two of
    them would wait for each other's.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"), ThreadPoolExecutor(AT_ONCE) as threads:
        results = in_order(lambda part: threads.submit(work, part), Future.result, Future.cancel, parts, AT_ONCE)
        try:
            yield results
        finally:
            results.close()


def attempt(work: Callable[[P], R], part: P) -> Outcome:
    """What a worker does and sends back; an error as it is, where it can travel, else in a line."""
    try:
        return True, work(part)
    except Exception as error:
        error.add_note(f"in a worker:\n{traceback.format_exc()}")
        with suppress(Exception):
            pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
            return False, error
        return False, EngineError(f"a worker failed: {type(error).__name__}: {error}".splitlines()[0])


def result_of(outcome: Outcome) -> Any:
    done, result = outcome
    if not done:
        raise result
    return result


def died(why: str) -> EngineError:
    """What is said of a part whose workers died, each time that it was begun."""
    return EngineError(
        f"{TRIES} workers died of the same part ({why}), so nothing was made; -9 is often a lack of memory: set a"
        " smaller BTS_MEMORY or fewer BTS_WORKERS"
    )

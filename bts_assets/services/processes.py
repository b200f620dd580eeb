"""Processes beside this one that do parts of work; the part of one that dies is made again."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TypeVar

from bts_assets.contracts.work_sharing import Spread
from bts_assets.services.work_part import (
    ONE_THREAD,
    TRIES,
    Outcome,
    attempt,
    died,
    ended,
    heed_the_asker,
    in_order,
    result_of,
)

P = TypeVar("P")
R = TypeVar("R")


@contextmanager
def in_processes(count: int, environment: Mapping[str, str] = ONE_THREAD) -> Iterator[Spread]:
    """Processes are started when work comes, `count` at most, and end with the context; environment: of each."""
    # The processes end first: whichever thread still waits for one is told so.
    with ThreadPoolExecutor(count) as threads, _Processes(count, environment) as processes:
        yield partial(_spread, threads, processes)


def _spread(
    threads: ThreadPoolExecutor, processes: "_Processes", work: Callable[[P], R], parts: Iterable[P]
) -> Iterator[R]:
    def start(part: P) -> Future[Outcome]:
        return threads.submit(processes.do, work, part)

    def finish(future: Future[Outcome]) -> R:
        result: R = result_of(future.result())
        return result

    return in_order(start, finish, Future.cancel, parts, 2 * processes.count)


class _Processes:
    """Processes that are started when they are needed, and replaced when they die; a context manager."""

    def __init__(self, count: int, environment: Mapping[str, str]) -> None:
        self.count, self._environment = count, environment
        self._over = False
        self._started: list[_Process] = []
        self._idle: SimpleQueue[_Process | None] = SimpleQueue()  # None: one that was not started yet
        for _ in range(count):
            self._idle.put(None)

    def __enter__(self) -> "_Processes":
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for process in self._started:
            process.end()

    def do(self, work: Callable[[P], R], part: P) -> Outcome:
        code: int | None = None
        for _ in range(TRIES):
            process = self._idle.get()
            try:
                process = process or self._start()
                return process.do(work, part)
            except (EOFError, OSError):
                code = process.end() if process else None
                process = None
            finally:
                self._idle.put(process)
        raise died(f"exit code {code}")

    def _start(self) -> "_Process":
        if self._over:
            raise EOFError
        process = _Process(self._environment)
        self._started.append(process)
        return process


class _Process:
    def __init__(self, environment: Mapping[str, str]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, environment), daemon=True)
        self._process.start()
        theirs.close()  # so that its end is seen here

    def do(self, work: Callable[[P], R], part: P) -> Outcome:
        self._connection.send((work, part))
        outcome: Outcome = self._connection.recv()
        return outcome

    def end(self) -> int | None:
        """Its exit code."""
        return ended(self._process)


def _serve(connection: Connection, environment: Mapping[str, str]) -> None:
    """Do whatever is asked for until nobody asks any more: then the process that asked is gone, or done."""
    heed_the_asker()
    os.environ.update(environment)
    with suppress(EOFError, OSError):
        while True:
            connection.send(attempt(*connection.recv()))

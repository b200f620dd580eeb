"""A session of pytest that runs its tests once, to see which statements each passes, and then those again that pass a
mutant's statement: in a fork that has everything imported, and with the one Postgres that the session started.
"""

import gc
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa
from _pytest.runner import runtestprotocol

from benchmarks.mutants.changed import put_in, watched
from benchmarks.mutants.operators import Mutant, mutated

#: Of the time that a mutant's tests took before, with some more for a busy machine.
_PATIENCE: Final = 8
_AT_LEAST: Final = 60
_MEMORY: Final = 8 << 30


@dataclass(frozen=True)
class Outcome:
    """`killed` by a test, `hangs` (killed too), `survives`, `unreached`: no test passes it; or `unfit` to be put in."""

    what: str
    by: str = ""


class _Nothing:
    """What stands for the test after the last: it keeps what belongs to the session."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session

    def listchain(self) -> list[Any]:
        return [self._session]


class Trials:
    """The plugin. `asked`: for each module its mutants; what becomes of each is told to `take`."""

    def __init__(self, asked: dict[str, Sequence[Mutant]], take: Any, until: float) -> None:
        self._asked, self._take, self._until = asked, take, until
        self._modules = {name: importlib.import_module(name) for name in asked}
        self._sources = {name: Path(m.__file__ or "").read_text(encoding="utf-8") for name, m in self._modules.items()}
        self._took: dict[pytest.Item, float] = {}
        self._kills: dict[pytest.Item, int] = {}
        self._passing: dict[tuple[str, int], list[pytest.Item]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        self._run_whole(session)
        temporary = session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        administrator = _fixture(session, "administrator")
        here, kept = {*temporary.iterdir()}, _databases(administrator)
        engines = [held for held in gc.get_objects() if isinstance(held, sa.Engine)]
        gc.freeze()
        told = _forked(lambda: self._fails(None, session, session.items, engines), self._patience(session.items))
        if told.what != "survives":
            raise session.Failed(f"in a fork without any change: {told.what} {told.by}")
        for name, mutant in _in_turn(self._asked):
            if time.monotonic() > self._until:
                break
            self._take(name, mutant, self._try(name, mutant, session, engines))
            for left in {*temporary.iterdir()} - here:
                shutil.rmtree(left, ignore_errors=True)
            _drop(administrator, _databases(administrator) - kept)
        return True

    def _run_whole(self, session: pytest.Session) -> None:
        """Every test once; a test that fails without any change can show nothing."""
        passed: set[tuple[str, int]] = set()
        undo = [watched(module, self._sources[name], passed) for name, module in self._modules.items()]
        for item, following in zip(session.items, [*session.items[1:], _Nothing(session)], strict=True):
            passed.clear()
            begun = time.monotonic()
            reports = runtestprotocol(item, log=False, nextitem=following)  # type: ignore[arg-type]
            self._took[item] = time.monotonic() - begun
            if failed := [report for report in reports if report.failed]:
                raise session.Failed(f"{item.nodeid} fails as it is: {failed[0].longreprtext[-2000:]}")
            if not any(report.skipped for report in reports):
                for place in passed:
                    self._passing.setdefault(place, []).append(item)
        for one in undo:
            one()

    def _try(self, name: str, mutant: Mutant, session: pytest.Session, engines: list[sa.Engine]) -> Outcome:
        everything = list({item: None for (of, _), items in self._passing.items() if of == name for item in items})
        items = everything if mutant.on_import else self._passing.get((name, mutant.line), [])
        if not items:
            return Outcome("unreached")
        items = sorted(items, key=lambda item: self._took[item] / (1 + self._kills.get(item, 0)))
        told = _forked(lambda: self._fails((name, mutant), session, items, engines), self._patience(items))
        if told.what == "killed":
            for killer in items:
                self._kills[killer] = self._kills.get(killer, 0) + (killer.nodeid == told.by)
        return told

    def _patience(self, items: list[pytest.Item]) -> float:
        return _PATIENCE * sum(self._took[item] for item in items) + _AT_LEAST

    def _fails(
        self,
        changed: tuple[str, Mutant] | None,
        session: pytest.Session,
        items: list[pytest.Item],
        engines: list[sa.Engine],
    ) -> Outcome:
        """In a fork: whether one of these tests fails with a mutant put in, or with none."""
        for engine in engines:
            engine.dispose(close=False)
        try:
            if changed is not None:
                self._put_in(*changed)
        except Exception:
            # A constant that cannot be computed fails every import.
            importable = changed is not None and changed[1].owner
            return Outcome("unfit", traceback.format_exc(limit=-1)) if importable else Outcome("killed", "any import")
        for item, following in zip(items, [*items[1:], _Nothing(session)], strict=True):
            reports = runtestprotocol(item, log=False, nextitem=following)  # type: ignore[arg-type]
            if any(report.failed for report in reports):
                return Outcome("killed", item.nodeid)
        return Outcome("survives")

    def _put_in(self, name: str, mutant: Mutant) -> None:
        put_in(self._modules[name], mutated(self._sources[name], mutant.number), mutant.owner, mutant.line)


def _in_turn(asked: dict[str, Sequence[Mutant]]) -> Iterator[tuple[str, Mutant]]:
    """One mutant of each module after the other, so that an early end leaves none out."""
    for k in range(max(map(len, asked.values()), default=0)):
        for name, mutants in asked.items():
            if k < len(mutants):
                yield name, mutants[k]


def _forked(work: Any, limit: float) -> Outcome:
    """What a fork comes to. It is ended after `limit` seconds, with all that it started."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if not child:
        os.setsid()
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_AS, (_in_use() + _MEMORY, resource.RLIM_INFINITY))
        try:
            told = work()
        except BaseException:
            told = Outcome("unfit", traceback.format_exc()[-300:])
        os.write(writing, json.dumps([told.what, told.by]).encode())
        os._exit(0)
    os.close(writing)
    until = time.monotonic() + limit
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.01)
    with os.fdopen(reading, "rb") as pipe:
        # What a fork's own children hold open is not waited for.
        os.set_blocking(reading, False)
        told = pipe.read() or b""
    _end_group(child)
    return Outcome(*json.loads(told)) if told else Outcome("hangs")


def _end_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return


def _in_use() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()


def _fixture(session: pytest.Session, name: str) -> Any:
    """What a fixture of the session gave; None: no test asked for it."""
    for item in session.items:
        for defined in item._fixtureinfo.name2fixturedefs.get(name, ()):  # type: ignore[attr-defined]
            if defined.cached_result:
                return defined.cached_result[0]
    return None


def _databases(administrator: sa.Engine | None) -> set[str]:
    if administrator is None:
        return set()
    with administrator.connect() as connection:
        return {*connection.exec_driver_sql("SELECT datname FROM pg_database").scalars()}


def _drop(administrator: sa.Engine | None, databases: set[str]) -> None:
    """What forks made on the shared server: each numbers its databases from where the session was."""
    if administrator is not None:
        with administrator.connect() as connection:
            for name in databases:
                connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")

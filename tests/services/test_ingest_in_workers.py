"""Large landing files taken up by several workers: the same ledger and the same readings, whoever dies."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from nights import HomeMaker
from small_nights import NOW, SMALL, hourly, ledger, rows_of, take_in, write

from bts_assets.landing.inbox import LandingFile, look
from bts_assets.services import ingest, landing_work, shared_snapshot
from bts_assets.services.home import Home
from bts_assets.services.ingest import IngestReport
from bts_assets.services.reading_journal import ReadingJournal
from bts_assets.storage.crash_points import VARIABLE

pytestmark = pytest.mark.slow

#: Files that are worth a worker here.
LARGE = {"b.csv", "c.csv", "d.csv", "e.csv", "f.csv"}


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """Large files between small ones: one corrects another one's ids, one names a station, one has no reading."""
    folder = tmp_path / "landing"
    write(folder, "a.csv", *hourly([1]))
    write(
        folder,
        "b.csv",
        *[row for station in range(1, 20) for row in hourly(range(24), station, first_id=station * 100)],
    )
    write(
        folder,
        "c.csv",
        *[row for station in range(1, 20) for row in hourly(range(24), station, value=9, first_id=station * 100)],
    )
    write(folder, "d.csv", *(row.replace(",1,122,", ",Nord,122,") for _ in range(18) for row in hourly(range(24))))
    write(folder, "e.csv", *["1,n/a,1,122,2026-03-09 00:00:00"] * 500)
    write(folder, "f.csv", *[row for station in range(20, 40) for row in hourly(range(24), station)], "1,2,3")
    write(folder, "g.csv", *hourly([2], station=3))
    return folder


@pytest.fixture(autouse=True)
def worth_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing_work, "_LARGE", 10_000)
    monkeypatch.setattr(landing_work, "_WORTH_WORKERS", 10_000)
    monkeypatch.setattr("bts_assets.services.landing_reads._GROUP_BYTES", 10_000)


@dataclass(frozen=True)
class Taken:
    """What was reported and stored; and which files this process itself read."""

    report: IngestReport
    entries: list[dict[str, Any]]
    parquet: dict[str, bytes]
    here: set[str]


def taken(
    home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch, workers: int, disturb: Callable[[], object] = int
) -> Taken:
    """disturb: called when the first large file was entered."""
    here: set[str] = set()
    prepare, enter = landing_work.prepared, ingest.enter_files

    def seen(home: Home, landing: Path, now: datetime, scratch: Any, files: list[LandingFile]) -> Any:
        here.update(file.path for file in files)
        return prepare(home, landing, now, scratch, files)

    def entered(engine: Any, reads: Any, *others: Any) -> Any:
        if [read.path for read in reads] == ["b.csv"]:
            disturb()
        return enter(engine, reads, *others)

    with monkeypatch.context() as patch:
        patch.setattr(landing_work, "prepared", seen)
        patch.setattr(ingest, "enter_files", entered)
        report = take_in(replace(home, settings=home.settings.model_copy(update={"workers": workers})), landing)
    entries = [{k: v for k, v in row.items() if k != "taken_at"} for row in ledger(home)]
    entries += rows_of(home, "SELECT ledger_seq, line, raw, reason FROM bts.landing_rejection ORDER BY 1, 2")
    entries += rows_of(home, "SELECT station_id, name FROM bts.station ORDER BY 1")
    parquet = {file.name: file.read_bytes() for file in home.readings.root.rglob("*.parquet")}
    assert multiprocessing.active_children() == []
    return Taken(report, entries, parquet, here)


def kill() -> None:
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


@pytest.mark.parametrize("disturb", [int, kill])
def test_nothing_depends_on_who_reads_nor_on_one_that_is_killed(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch, disturb: Callable[[], object]
) -> None:
    alone = taken(make_home(**SMALL), landing, monkeypatch, 1)
    beside = taken(make_home(**SMALL), landing, monkeypatch, 2, disturb)
    assert (beside.report, beside.entries, beside.parquet) == (alone.report, alone.entries, alone.parquet)
    assert len(alone.parquet) == 3
    assert alone.report.left == {}
    # A name that is new has to be written, which a worker may not.
    assert (alone.here, beside.here) == ({"a.csv", "g.csv", *LARGE}, {"a.csv", "d.csv", "g.csv"})


def test_workers_that_have_another_home_leave_the_files_to_this_process(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone, home = taken(make_home(**SMALL), landing, monkeypatch, 1), make_home(**SMALL)
    elsewhere = home.settings.model_copy(update={"home": tmp_path / "elsewhere"})
    told = shared_snapshot._Shared.of(replace(home, settings=elsewhere))
    monkeypatch.setattr(shared_snapshot._Shared, "of", lambda _: told)
    left = taken(home, landing, monkeypatch, 2)
    assert (left.report, left.entries, left.parquet) == (alone.report, alone.entries, alone.parquet)
    assert left.here == alone.here - {"e.csv"}  # of which nothing was to be kept


def test_workers_that_do_not_find_the_landing_folder_leave_the_files_to_this_process(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing_work, "partial", lambda work, *given: _lost(work, *given))
    left = taken(make_home(**SMALL), landing, monkeypatch, 2)
    assert (left.report.left, left.here) == ({}, {"a.csv", "g.csv", *LARGE})


def test_a_folder_that_is_another_device_on_the_machine_of_a_worker_is_read(
    make_home: HomeMaker, landing: Path
) -> None:
    home, files = make_home(**SMALL), [file for file in look(landing).files if file.path == "b.csv"]
    elsewhere = [replace(file, device=file.device + 1) for file in files]
    for seen in (files, elsewhere):
        (read,) = landing_work._by_worker(landing, NOW, home, seen) or [None]
        assert read is not None
        assert read.parsed is not None
        assert read.parsed.accepted == 19 * 24
    gone = [replace(file, name=b"gone.csv") for file in files]
    assert landing_work._by_worker(landing, NOW, home, gone) is None


def test_workers_that_are_ended_with_a_run_that_fails_put_no_file_under_suspicion(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, spared, spare = make_home(**SMALL), [], ReadingJournal.spare
    monkeypatch.setattr(ReadingJournal, "spare", lambda self, files: spared.append((self, files)))

    def fail() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        taken(home, landing, monkeypatch, 2, fail)
    ((journal, files),) = spared
    assert {file.path for file in files} == LARGE - {"b.csv"}
    spare(journal, files)  # a worker that was ended in the middle of a file left its mark
    with journal.reading(files[0]):
        spare(journal, files)
        mark = journal._path(files[0]).read_bytes()
    journal._path(files[0]).write_bytes(mark)  # as if its reader had been killed
    assert journal.deaths(files) == {files[0].path: 1}
    spare(journal, files)
    assert journal.deaths(files) == {}


def _lost(work: Callable[..., Any], *given: Any) -> Any:
    """As `partial`, and a worker is told of a folder that is not there."""
    from functools import partial

    return partial(work, Path("/nowhere"), *given[1:]) if work is landing_work._by_worker else partial(work, *given)


def test_a_file_that_kills_two_workers_is_set_aside_and_the_run_goes_on(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(**SMALL)
    monkeypatch.setenv(VARIABLE, "landing.after_read")  # which workers heed: whatever they read kills them
    told = taken(home, landing, monkeypatch, 2)
    assert {path for path, why in told.report.refusals.items() if "died twice" in why} == LARGE
    assert {row["path"] for row in ledger(home) if row["status"] == "accepted"} == {"a.csv", "g.csv"}
    monkeypatch.delenv(VARIABLE)
    again = taken(home, landing, monkeypatch, 2)
    assert (again.report.taken, set(again.report.left)) == (0, LARGE)
    ingest.retry_failed(home)
    assert taken(home, landing, monkeypatch, 2).report.taken == 4

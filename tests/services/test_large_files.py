"""Landing files that are not held in memory as a whole are taken in like any other, and whole or not at all."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from nights import HomeMaker
from small_nights import HEADER, SMALL, hourly, ledger, observations_digest, observe_due, rows_of, take_in, write

from bts_assets.landing import scratch
from bts_assets.services import memory
from bts_assets.services.home import Home
from bts_assets.services.memory import landing_scratch
from bts_assets.storage import reading_file

LARGE: Final = Path(__file__).parents[1] / "helpers" / "large_ingest.py"
MEBIBYTE: Final = 1 << 20


@contextmanager
def little_memory() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_LANDING_TEXT", 500)
        patch.setattr(memory, "_ROWS_SORTED", 50)
        yield


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """Six stations, each of another minute, so that runs overlap; some rows are no readings, or are there twice."""
    folder = tmp_path / "landing"
    rows = [row for hour in range(24) for station in range(1, 7) for row in hourly([hour], station, value=station / 7)]
    dirt = ["1,n/a,1,122,2026-03-09", "1,2,3", *rows[10:40], *rows[100:120]]
    write(folder, "plain.csv", *rows, *dirt)
    whole = "\n".join([HEADER, *hourly(range(24), 8), *dirt, *hourly(range(24), 9)])
    (folder / "packed.csv.gz").write_bytes(gzip.compress(whole.encode("utf-16")))
    write(folder, "named.csv", *(row.replace(",1,122,", ",Nord,122,") for row in hourly(range(23), 1)), *rows[:30])
    write(folder, "unusable.csv", *["1,n/a,1,122,2026-03-09 00:00:00"] * 200)
    (folder / "refused.csv").write_text("id,value\n" + "1,2\n" * 200)
    write(folder, "small.csv", *hourly([3], 10))
    return folder


def what_is_there(home: Home, landing: Path) -> tuple[Any, ...]:
    report = take_in(home, landing)
    observe_due(home)
    entries = [{k: v for k, v in row.items() if k != "taken_at"} for row in ledger(home)]
    rejected = rows_of(home, "SELECT ledger_seq, line, raw, reason FROM bts.landing_rejection ORDER BY 1, 2")
    listed = rows_of(home, "SELECT station_id, name FROM bts.station ORDER BY 1")
    parquet = {file.name: file.read_bytes() for file in home.readings.root.rglob("*.parquet")}
    return report, entries, rejected, listed, parquet, observations_digest(home)


def test_a_home_is_the_same_however_little_is_held_of_a_file(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_file, "GROUP_ROWS", 32)
    made: list[object] = []
    file_of = scratch.Scratch.file
    monkeypatch.setattr(scratch.Scratch, "file", lambda self: made.append(self) or file_of(self))
    expected = what_is_there(make_home(**SMALL), landing)
    assert made == []
    home = make_home(**SMALL)
    with little_memory():
        assert what_is_there(home, landing) == expected
    assert len(made) > 6
    assert list(landing_scratch(home.settings).folder.iterdir()) == []
    report, entries, rejected, _, parquet, _ = expected
    assert (report.taken, report.unusable, report.refused) == (4, 1, 1)
    assert {row["status"] for row in entries} == {"accepted", "unusable", "refused"}
    assert len(rejected) > 200
    assert len(parquet) == 1


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk_leaves_the_file_for_later_in_one_line(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """When its text is copied, its runs are written, or they are merged."""
    home = make_home(**SMALL)
    for file in landing.iterdir():
        if file.name not in ("plain.csv", "small.csv"):
            file.unlink()
    opened: list[str] = []
    temporary = scratch.TemporaryFile

    def full(**given: Any) -> Any:
        opened.append(given["prefix"])
        return Path("/dev/full").open("r+b") if len(opened) == at else temporary(**given)

    with little_memory():
        monkeypatch.setattr(scratch, "TemporaryFile", full)
        report = take_in(home, landing)
        assert report.left == {"plain.csv": "could not be read or kept: No space left on device"}
        assert [row["path"] for row in ledger(home)] == ["small.csv"]
        assert list(home.readings.root.rglob("*.parquet")) == []
        monkeypatch.setattr(scratch, "TemporaryFile", temporary)
        assert take_in(home, landing).taken == 1


def test_what_a_killed_process_left_in_the_scratch_folder_is_deleted_by_the_next(
    make_home: HomeMaker, landing: Path
) -> None:
    home = make_home(**SMALL)
    folder = landing_scratch(home.settings).folder
    folder.mkdir(parents=True)
    (folder / f"{scratch.PREFIX}abc").write_bytes(b"x")  # of a file system that knows no files without a name
    take_in(home, landing)
    assert list(folder.iterdir()) == []


#: It was 277 MiB (of a file of 1 GiB up to 337), of which 100 are the program. A file that is held as a whole takes
#: over four times its size.
MOST: Final = 450 * MEBIBYTE


@pytest.mark.slow
def test_private_memory_does_not_grow_with_the_size_of_a_file(make_home: HomeMaker, tmp_path: Path) -> None:
    """Every reading of four times as large a file is another one: nothing but their number is different."""
    peaks = []
    for days in (2, 8):
        landing, home = tmp_path / f"landing{days}", make_home(**SMALL)
        landing.mkdir()
        write_large(landing / "large.csv", days)
        command = [sys.executable, str(LARGE), str(home.settings.home), home.url, str(landing), str(1400 * MEBIBYTE)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["accepted"] == days * ROWS
        peaks.append(told["peak"])
        (landing / "large.csv").unlink()
    assert max(peaks) < MOST
    assert peaks[1] - peaks[0] < 100 * MEBIBYTE


ROWS: Final = 400_000


def write_large(path: Path, days: int) -> None:
    """A file of `ROWS` readings a day, 20 MiB; each day's are in order of time, of 100 stations."""
    day = "".join(
        f"{number},{number % 977 / 8},{1_161_114_000 + number % 100},122,2026-01-DD {stamp}\n"
        for number in range(ROWS)
        for stamp in [str(timedelta(seconds=number * 86_400 // ROWS)).rjust(8, "0")]
    ).encode()
    with path.open("wb") as file:
        file.write(HEADER.encode() + b"\n")
        for number in range(1, days + 1):
            file.write(day.replace(b"DD", b"%02d" % number))

"""A file that kills the run that reads it: known by the next one, tried alone and last, then set aside."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from small_nights import NOW, SMALL, hourly, ledger, take_in, write

from bts_assets.services.home import Home
from bts_assets.services.ingest import ingest, look_for_fresh_files, retry_failed
from bts_assets.services.reading_journal import ReadingJournal

DEADLY: Final = Path(__file__).parents[1] / "helpers" / "deadly_ingest.py"


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    for hour in range(6):
        write(tmp_path / "landing", f"{hour}.csv", *hourly([hour]), *(["deadly,,,,"] if hour == 0 else []))
    return tmp_path / "landing"


def run(home: Home, landing: Path, when: str = "alone") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEADLY), str(home.settings.home), home.url, str(landing), when]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def taken(home: Home) -> set[str]:
    return {row["path"] for row in ledger(home) if row["status"] == "accepted"}


def test_a_file_that_kills_two_runs_is_set_aside_and_costs_no_other(home: Home, landing: Path) -> None:
    first = run(home, landing)
    assert first.returncode == -signal.SIGKILL, first.stderr
    assert "0.csv" not in taken(home)
    second = run(home, landing)
    assert second.returncode == -signal.SIGKILL, second.stderr
    others = {f"{hour}.csv" for hour in range(1, 6)}
    assert others - taken(home) <= {"1.csv", "2.csv"}, "only what was beside it the first time may still wait"
    third = run(home, landing)
    assert third.returncode == 0, third.stderr
    assert "the run died twice while reading it" in third.stdout
    assert taken(home) == others
    (aside,) = [row for row in ledger(home) if row["status"] == "refused"]
    assert (aside["path"], "died twice" in aside["reason"]) == ("0.csv", True)

    # It stays told of, is not fresh, and is not read, until it is asked for or changes.
    again = take_in(home, landing)
    assert (again.taken, again.unchanged, set(again.left)) == (0, 5, {"0.csv"})
    assert look_for_fresh_files(home, landing)[1] == []
    assert len(ledger(home)) == 6
    retry_failed(home)
    assert run(home, landing).returncode == -signal.SIGKILL
    assert run(home, landing).returncode == -signal.SIGKILL
    write(landing, "0.csv", *hourly([0]), "harmless,,,,,")
    last = take_in(home, landing)
    assert (last.taken, last.left) == (1, {})
    assert taken(home) == {"0.csv", *others}


def test_of_files_that_were_parsed_together_the_one_that_kills_is_found(home: Home, landing: Path) -> None:
    assert run(home, landing, "together").returncode == -signal.SIGKILL
    assert taken(home) == set()
    second = run(home, landing, "together")  # each alone: it kills again, before or after the others had their turn
    assert second.returncode == -signal.SIGKILL, second.stderr
    third = run(home, landing, "together")
    assert third.returncode == 0, third.stderr
    assert taken(home) == {f"{hour}.csv" for hour in range(1, 6)}
    (aside,) = [row for row in ledger(home) if row["status"] == "refused"]
    assert (aside["path"], "died twice" in aside["reason"]) == ("0.csv", True)
    assert [path.name for path in (home.settings.home / "reading").iterdir() if path.suffix != ".json"] == []


def test_a_mark_that_a_living_process_holds_says_nothing(home: Home, landing: Path) -> None:
    journal = ReadingJournal(home.settings.home / "reading")
    file = look_for_fresh_files(home, landing)[1][0]
    with journal.reading(file):
        assert journal.deaths([file]) == {}
        with journal.reading(file):  # another reader of the same file
            assert journal.deaths([file]) == {}
    with journal.reading_together([file]):
        journal.divide()
        assert journal.deaths([file]) == {}
    assert list((home.settings.home / "reading").iterdir()) == []


def test_an_exception_or_an_interrupt_is_no_death(home: Home, landing: Path) -> None:
    journal = ReadingJournal(home.settings.home / "reading")
    file = look_for_fresh_files(home, landing)[1][0]
    with pytest.raises(KeyboardInterrupt), journal.reading(file):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), journal.reading_together([file]):
        raise KeyboardInterrupt
    journal.divide()
    assert journal.deaths([file]) == {}
    assert ingest(home, landing, now=NOW).taken == 6
    os.utime(landing / "1.csv", ns=(1, 1))
    assert ingest(home, landing, now=NOW).unchanged == 6

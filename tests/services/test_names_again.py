"""Landing files that come under the name of an earlier one: corrections, and exports written over the last one."""

from pathlib import Path
from typing import Any

import pytest
from small_nights import (
    HEADER,
    SMALL,
    hourly,
    in_force,
    ledger,
    observations_digest,
    observe_due,
    take_in,
    values,
    write,
)

from bts_assets.services.home import Home


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


def test_a_correction_supersedes_and_its_old_observations_go(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0, 1, 25]))
    take_in(home, landing)
    observe_due(home)
    write(landing, "a.csv", *hourly([0], value=500))
    report = take_in(home, landing)
    assert (report.corrected, report.continued) == (1, 0)
    assert report.narrowed == {
        "a.csv": "1 row until 2026-03-09 00:00:00 UTC replaced 3 until 2026-03-10 01:00:00, which count only as far as"
        " other files have them"
    }
    assert observe_due(home).days == 2, "also the day that only the old content reached"
    assert values(home) == [500.0]
    old, new = ledger(home)
    assert old["superseded_by"] == new["ledger_seq"]
    assert (old["accepted"], old["status"], new["accepted"], new["superseded_by"]) == (3, "accepted", 1, None)
    assert home.readings.sizes([old["digest"]]), "what a past batch was made from stays"


def test_a_name_that_is_used_again_loses_no_reading(home: Home, landing: Path) -> None:
    """The newest values, and then those of a window that moves on, written over what came before."""
    reset_clock = "99,1,1,122,2000-01-01 00:00:03"
    for hours in ([0], [1], [2, 3, 4], [3, 4, 5], [4, 5], [30, 31]):
        write(landing, "newest.csv", *hourly(hours), *([reset_clock] if hours == [30, 31] else []))
        report = take_in(home, landing)
        observe_due(home)
        assert (report.corrected, report.continued, report.narrowed) == (0, hours != [0], {})
    assert values(home) == [1.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 40.0, 41.0]
    before = observations_digest(home)
    write(landing, "newest.csv", *hourly([2, 3, 4]))  # as it was
    report = take_in(home, landing)
    observe_due(home)
    assert (report.corrected, report.continued) == (1, 0)
    assert observations_digest(home) == before, "what comes again is not there twice"


@pytest.mark.parametrize("first", ["the archive is corrected", "the other goes on", "together"])
def test_what_is_corrected_under_one_name_does_not_go_on_under_another_that_moved_on(
    home: Home, landing: Path, first: str
) -> None:
    """The newest values, and an archive of them: only the archive can still be corrected."""
    for name in ("latest.csv", "9 March.csv"):
        write(landing, name, *hourly([0, 1, 2]))
    take_in(home, landing)
    steps = [("9 March.csv", hourly([0, 1, 2], value=50)), ("latest.csv", hourly([5]))]
    for name, rows in steps[:: -1 if first == "the other goes on" else 1]:
        write(landing, name, *rows)
        if first != "together":
            take_in(home, landing)
    take_in(home, landing)
    observe_due(home)
    assert values(home) == [15.0, 50.0, 51.0, 52.0]


def test_a_corrected_copy_leaves_what_the_other_name_holds(home: Home, landing: Path) -> None:
    for name in ("a.csv", "b.csv"):
        write(landing, name, *hourly([0]))
    take_in(home, landing)
    write(landing, "a.csv", *hourly([5]))
    take_in(home, landing)
    observe_due(home)
    assert values(home) == [10.0, 15.0]


def test_a_refused_correction_corrects_nothing(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0]))
    take_in(home, landing)
    observe_due(home)
    before = observations_digest(home)
    write(landing, "a.csv", "nothing", header="nothing")
    assert take_in(home, landing).refused == 1
    assert observe_due(home).days == 0
    assert observations_digest(home) == before
    assert in_force(home) == [("a.csv", "accepted", 1), ("a.csv", "refused", 0)]
    assert take_in(home, landing).unchanged == 1


@pytest.mark.parametrize("between", ["other readings", "refused"])
def test_a_correction_taken_back_is_the_original_again(home: Home, landing: Path, between: str) -> None:
    original = write(landing, "a.csv", *hourly([0, 1]), "x,1,1,1,1").read_bytes()
    take_in(home, landing)
    observe_due(home)
    before = observations_digest(home)
    write(landing, "a.csv", *hourly([0, 1], value=7), header=HEADER if between == "other readings" else "nothing")
    take_in(home, landing)
    observe_due(home)
    (landing / "a.csv").write_bytes(original)
    take_in(home, landing)
    observe_due(home)
    assert observations_digest(home) == before
    assert in_force(home) == [("a.csv", "accepted", 2)]
    assert len(ledger(home)) == 3

"""What the ledger says of dialects and of files that gave no reading, and that settings bring such files back."""

import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_nights import SMALL, hourly, ledger, observe_due, rows_of, take_in, values, write

from bts_assets.landing.names import number_proposed
from bts_assets.services.home import Home
from bts_assets.services.ingest import look_for_fresh_files, retry_failed
from bts_assets.storage.landing_names import numbers_of_names

DAYS = ["1,5,1,122,09/03/2026 00:00", "2,6,1,122,09/03/2026 01:00"]


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


def with_settings(home: Home, **settings: Any) -> Home:
    return replace(home, settings=home.settings.model_copy(update=settings))


def test_a_file_that_gave_no_reading_is_not_taken_and_says_why(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0]))
    write(landing, "days.csv", *DAYS)
    write(landing, "header.csv")
    report = take_in(home, landing)
    assert (report.found, report.taken, report.unusable, report.refused) == (3, 1, 2, 0)
    assert "BTS_LANDING_DAYFIRST" in report.unusables["days.csv"]
    assert report.unusables["header.csv"] == "it has a header and no rows"
    entry = ledger(home)[1]
    assert (entry["status"], entry["rows"], entry["rejected"]) == ("unusable", 2, 2)
    assert entry["reason"] == report.unusables["days.csv"]
    assert len(rows_of(home, "SELECT FROM bts.rejected_reading")) == 2
    assert take_in(home, landing).unchanged == 3
    assert observe_due(home).days == 1
    # Like a refused one, such a correction corrects nothing.
    write(landing, "a.csv", "x,,,,")
    assert take_in(home, landing).unusable == 1
    assert observe_due(home).days == 0
    assert values(home) == [10.0]


def test_a_setting_that_may_help_has_failed_files_read_again(home: Home, landing: Path) -> None:
    write(landing, "days.csv", *DAYS)
    write(landing, "names.csv", "5,1,122,2026-03-09 02:00", header="val,site,parameter_id,reading_time")
    write(landing, "good.csv", *hourly([5]))
    first = take_in(home, landing)
    assert (first.taken, first.unusable, first.refused) == (1, 1, 1)
    dayfirst = with_settings(home, landing_dayfirst=True)
    second = take_in(dayfirst, landing)
    assert (second.taken, second.corrected, second.unchanged) == (1, 0, 2)
    both = with_settings(dayfirst, landing_columns="value=val,station_id=site")
    assert take_in(both, landing).taken == 1
    observe_due(home)
    assert values(home) == [5.0, 5.0, 6.0, 15.0]
    assert take_in(both, landing).unchanged == 3
    # What was accepted once stays so, whatever is set now.
    assert take_in(home, landing).unchanged == 3
    in_force = rows_of(home, "SELECT path, status FROM bts.ingest_ledger WHERE superseded_by IS NULL ORDER BY path")
    assert {row["status"] for row in in_force} == {"accepted"}


def test_retry_reads_failed_files_again(home: Home, landing: Path) -> None:
    write(landing, "days.csv", *DAYS)
    take_in(home, landing)
    assert look_for_fresh_files(home, landing)[1] == []
    assert retry_failed(home) == 1
    assert [f.path for f in look_for_fresh_files(home, landing)[1]] == ["days.csv"]
    assert take_in(home, landing).unchanged == 1
    assert look_for_fresh_files(home, landing)[1] == []


def test_dialect_stands_in_the_ledger(home: Home, landing: Path) -> None:
    write(landing, "a.csv", "1;5,5;1;122;2026-03-09 00:00Z", header="id;value;station_id;parameter_id;reading_time")
    take_in(home, landing)
    dialect = ledger(home)[0]["dialect"]
    told = {"encoding": "utf-8", "compression": "none", "delimiter": ";", "decimal": "comma", "stations": "ids"}
    assert dialect.items() >= told.items()
    assert dialect["times"] == ["iso with offset", "without seconds"]
    assert dialect["rules"]["dayfirst"] is None


def test_names_are_numbered_for_ever_and_shown(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *(f'{h},{h},"Tower, north",fuel,2026-03-09 0{h}:00' for h in range(3)))
    write(landing, "b.csv", "1,7,Tower,LOAD OF POWER GRID,2026-03-09 00:00")
    assert take_in(home, landing).accepted == 4
    tower = number_proposed("station", "Tower, north")
    stations = rows_of(home, "SELECT station_id, name FROM bts.station ORDER BY name")
    assert stations == [
        {"station_id": number_proposed("station", "Tower"), "name": "Tower"},
        {"station_id": tower, "name": "Tower, north"},
    ]
    assert rows_of(home, "SELECT name FROM bts.parameter WHERE parameter_id < 0") == [{"name": "fuel"}]
    observe_due(home)
    parameters = rows_of(home, "SELECT DISTINCT parameter_id FROM bts.observation WHERE station_id <> :t", t=tower)
    assert parameters == [{"parameter_id": 122}], "a name of the catalogue is its parameter"
    write(landing, "c.csv", '4,9,"Tower, north",fuel,2026-03-09 05:00')
    take_in(home, landing)
    observe_due(home)
    assert rows_of(home, "SELECT count(*) AS n FROM bts.observation WHERE station_id = :t", t=tower) == [{"n": 4}]


def test_names_asked_for_at_once_have_one_number_each_and_a_taken_number_is_passed_over(home: Home) -> None:
    names = [f"name {i}" for i in range(200)]
    with home.engine.begin() as connection:
        taken = number_proposed("parameter", "name 7")
        connection.exec_driver_sql(
            f"INSERT INTO bts.landing_name (kind, name, number) VALUES ('parameter', 'other', {taken})"
        )
    barrier, found = threading.Barrier(4), []

    def ask(seed: int) -> None:
        barrier.wait(10)
        found.append(numbers_of_names(home.engine, "parameter", sorted(names, key=lambda n: hash((seed, n)))))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(numbers == found[0] for numbers in found)
    assert len(set(found[0].values())) == 200
    assert found[0]["name 7"] == number_proposed("parameter", "name 7", 1)


def test_files_that_are_not_looked_at_are_told_of_and_outside_links_left(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0]))
    write(landing, "in.CSV.GZ", "x")
    write(landing, "notes.txt", "x")
    outside = write(landing.parent, "outside.csv", *hourly([9]))
    os.link(outside, landing / "hard.csv")
    os.link(landing / "a.csv", landing / "b.csv")
    report = take_in(home, landing)
    assert report.others == {"notes.txt": "its name ends in neither .csv nor .csv.gz"}
    assert (report.taken, report.copies) == (1, 1), "two names within the folder are a file and its copy"
    assert report.left == {"hard.csv": "a hard link to a file outside (1 more names); copy it here instead"}

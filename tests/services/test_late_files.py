"""Days of which only some stations are computed anew: bit for bit what computing them whole gives, and nothing more."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nights import HomeMaker
from small_nights import (
    HEADER,
    LOAD,
    ORIGIN,
    SMALL,
    as_parquet,
    hourly,
    observe_due,
    rows_of,
    small_up_to,
    take_in,
    write,
)

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import DAY
from bts_assets.landing.duplicates import MERGED
from bts_assets.landing.series import digest_observations
from bts_assets.services import memory, observe
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import retry_failed
from bts_assets.storage import crash_points
from bts_assets.storage.observations import files_of, midnight_of, newest_ledger_seq, read_observations

YESTERDAY = (ORIGIN - DAY).date()
DAYS = [YESTERDAY - timedelta(days=n) for n in (2, 1, 0)]
STATIONS = range(1, 9)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    return tmp_path / "landing"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[date], Any]]:
    """The days and stations that observations were computed of, one after the other."""
    noted: list[tuple[list[date], Any]] = []
    compute = observe.observe_files

    def note(home: Home, catalogue: Any, grid: Any, days: list[date], files: Any, ids: Any, stations: Any) -> Any:
        noted.append((days, stations))
        return compute(home, catalogue, grid, days, files, ids, stations)

    monkeypatch.setattr(observe, "observe_files", note)
    return noted


def stored(home: Home) -> dict[str, list[dict[str, Any]]]:
    """All that observing stores; when it was computed aside."""
    last = "SELECT DISTINCT ON (day) * FROM bts.observed_day ORDER BY day, ledger_seq DESC"
    order = "starts_at, station_id, parameter_id"
    blocks = "station_id, parameter_id, starts_at, float8send(v) AS bits, readings"
    return {
        "days": [{k: v for k, v in row.items() if k != "computed_at"} for row in rows_of(home, last)],
        "stations": rows_of(home, "SELECT * FROM bts.observed_station ORDER BY day, station_id"),
        "blocks": rows_of(
            home,
            f"SELECT {blocks}, n FROM bts.observation_block, unnest(values) WITH ORDINALITY AS v (v, n)"
            f" ORDER BY {order}, n",
        ),
        "series": rows_of(home, "SELECT station_id, parameter_id FROM bts.series ORDER BY 1, 2"),
    }


def check_whole(home: Home, days: Sequence[date] = DAYS) -> None:
    """Compare what is stored of each day with what all of its stations are by all of its files."""
    for day in days:
        start = midnight_of(day)
        with home.engine.connect() as connection:
            files = files_of(connection, [day], newest_ledger_seq(connection))
            kept = read_observations(connection, start, start + DAY)
        whole = observe.observe_files(
            home, home.catalogue, home.settings.grid, [day], files, home.settings.reading_ids, observe.ALL_STATIONS
        )
        key = ["station_id", "parameter_id", "observed_at"]
        expected = whole.observations.reset_index(drop=True)
        pd.testing.assert_frame_equal(kept.sort_values(key, ignore_index=True), expected, check_exact=True)
        (log,) = rows_of(
            home, "SELECT * FROM bts.observed_day WHERE day = :day ORDER BY ledger_seq DESC LIMIT 1", day=day
        )
        times = expected["observed_at"]
        assert log["digest"] == digest_observations(expected)
        assert (log["observations"], log["readings"]) == (len(expected), whole.readings)
        assert (log["first_observed_at"], log["last_observed_at"]) == (
            (times.min(), times.max()) if len(times) else (None, None)
        )
        assert {name: log[name] for name in MERGED} == whole.merged.sum().to_dict()


# What may come, in whatever order


@dataclass(frozen=True)
class Event:
    """A file that is written, or taken again; observing: whether days are computed after it."""

    name: str
    content: str
    observing: bool


def some_rows(random: np.random.Generator, stations: Sequence[int], hours: int) -> str:
    """Readings of stations in random hours of the three days, their ids of one kind."""
    kind = random.choice(["none", "unique", "number", "zero", "few"])
    rows = []
    for station in stations:
        for hour in random.choice(3 * 24, hours, replace=False).tolist():
            number = len(rows)
            of_kind = {"none": "", "unique": station * 1000 + hour, "number": number, "zero": 0, "few": hour % 5}
            at = midnight_of(DAYS[0]) + timedelta(hours=hour, minutes=int(random.integers(2)))
            parameter = LOAD if random.random() < 0.7 else 111
            rows.append(f"{of_kind[kind]},{random.integers(5)},{station},{parameter},{at:%Y-%m-%d %H:%M:%S}")
    return "\n".join([HEADER, *rows]) + "\n"


def some_events(seed: int, count: int = 12) -> Iterator[Event]:
    """Late, corrected, copied, taken back, unusable and refused files, after one of all stations."""
    random = np.random.default_rng(seed)
    written: dict[str, list[str]] = {}
    for number in range(count):
        name = f"{random.integers(6)}.csv"
        past = [content for contents in written.values() for content in contents]
        what = random.random()
        if number == 0:
            name, content = "all.csv", some_rows(random, STATIONS, 40)
        elif what < 0.15:
            content = str(random.choice(past))  # a copy, or what it was before
        elif what < 0.2:
            content = f"{HEADER}\n1,nothing,1,{LOAD},2026-03-09 00:00:00\n"
        elif what < 0.25:
            content = "value\n1\n"
        elif what < 0.35:
            name, content = "all.csv", some_rows(random, STATIONS, 40)
        else:
            stations = random.choice(STATIONS, random.integers(1, 4), replace=False).tolist()
            content = some_rows(random, stations, int(random.integers(1, 20)))
        written.setdefault(name, []).append(content)
        yield Event(name, content, bool(random.random() < 0.6))


def land(home: Home, landing: Path, event: Event) -> None:
    landing.mkdir(exist_ok=True)
    (landing / event.name).write_text(event.content, encoding="utf-8")
    with small_up_to(60):
        take_in(home, landing)


@pytest.mark.parametrize("seed", range(5))
def test_files_one_by_one_come_to_what_all_at_once_come_to(
    make_home: HomeMaker, tmp_path: Path, asked: list[tuple[list[date], Any]], seed: int
) -> None:
    ids = ("auto", "key", "ignore")[seed % 3]
    often, seldom = (make_home(**SMALL, reading_ids=ids) for _ in range(2))
    partly = 0
    for number, event in enumerate(some_events(seed)):
        land(often, tmp_path / "often", event)
        land(seldom, tmp_path / "seldom", event)
        if event.observing:
            asked.clear()
            assert not observe_due(often).failed
            partly += sum(isinstance(stations, list) for _, stations in asked)
            check_whole(often)
        if number == 7:
            assert retry_failed(often) == retry_failed(seldom)
    for home in (often, seldom):
        observe_due(home)
        check_whole(home)
    assert partly
    assert stored(often) == stored(seldom)


def comparable(home: Home) -> dict[str, list[dict[str, Any]]]:
    """What does not tell how many files came before a day was computed."""
    found = stored(home)
    return found | {"days": [{k: v for k, v in day.items() if k != "ledger_seq"} for day in found["days"]]}


def test_files_without_corrections_come_to_the_same_in_every_order(make_home: HomeMaker, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    files = [
        Event(f"{n}.csv", some_rows(random, [n % 8 + 1, n % 5 + 1] if n else STATIONS, 25), True) for n in range(7)
    ]
    at_once, *others = (make_home(**SMALL, reading_ids="ignore") for _ in range(3))
    for event in files:
        land(at_once, tmp_path / "at once", event)
    observe_due(at_once)
    for number, home in enumerate(others):
        for event in (files[0], *random.permutation(np.array(files[1:], dtype=object))):
            land(home, tmp_path / str(number), event)
            observe_due(home)
        assert comparable(home) == comparable(at_once)


# What is computed, and what is left alone


def write_all(landing: Path) -> None:
    """A file of each station of two neighbouring days."""
    for station in range(1, 41):
        write(landing, f"{station}.csv", *hourly(range(-24, 24), station, value=50 + station, first_id=station * 1000))


def late(landing: Path, *stations: int, hours: Sequence[int] = (5,), value: float = 500) -> Path:
    """Readings between those that there are."""
    rows = [
        row.replace(":00:00", ":30:00") for n in stations for row in hourly(hours, n, value=value, first_id=n * 1000)
    ]
    return write(landing, f"late {stations}.csv", *rows)


@pytest.fixture
def home(make_home: HomeMaker, landing: Path) -> Home:
    """Forty stations on two days, taken in and observed."""
    made = make_home(**SMALL, reading_ids="ignore")
    write_all(landing)
    take_in(made, landing)
    assert observe_due(made).days == 2
    return made


def rests_of(home: Home, table: str, *but: int) -> list[dict[str, Any]]:
    """Where the rows of stations lie, and what wrote them; of all stations but some."""
    query = f"SELECT station_id, xmin::text, ctid::text FROM bts.{table} WHERE station_id <> ALL(:but) ORDER BY 1, 2, 3"
    return rows_of(home, query, but=list(but))


@pytest.mark.parametrize("parquet", [False, True], ids=["row", "Parquet"])
def test_a_late_file_of_one_station_costs_that_station(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]], parquet: bool
) -> None:
    tables = ("observation_block", "observed_station")
    before = {table: (rests_of(home, table, 7), rests_of(home, table)) for table in tables}
    observed = rows_of(home, "SELECT observations, readings FROM bts.observed_day WHERE day = :day", day=YESTERDAY)
    asked.clear()
    late(landing, 7)
    with as_parquet() if parquet else small_up_to(128):
        take_in(home, landing)
    report = observe_due(home)
    assert asked == [([YESTERDAY], [7])]
    for table in tables:
        assert (rests_of(home, table, 7), rests_of(home, table) == before[table][1]) == (before[table][0], False)
    assert (report.days, report.observations) == (1, observed[0]["observations"])
    assert report.readings == observed[0]["readings"] + 1
    check_whole(home, DAYS[1:])
    assert observe_due(home).days == 0


def test_a_station_is_computed_on_the_days_that_its_file_has_readings_of(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]]
) -> None:
    asked.clear()
    write(landing, "late.csv", *hourly([-30], 5, value=90), *hourly([-3], 4, value=90), *hourly([3], 6, value=90))
    take_in(home, landing)
    observe_due(home)
    assert asked == [([DAYS[0]], observe.ALL_STATIONS), ([DAYS[1]], [4]), ([YESTERDAY], [6])]
    check_whole(home)
    asked.clear()
    write(landing, "later.csv", *hourly([-4, 4], 7, value=90))
    take_in(home, landing)
    observe_due(home)
    assert asked == [(DAYS[1:], [7])]


def test_a_copy_and_a_file_of_the_same_again_compute_nothing(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]]
) -> None:
    before, _ = stored(home), asked.clear()
    (landing / "copy of 3.csv").write_bytes((landing / "3.csv").read_bytes())
    take_in(home, landing)
    assert observe_due(home).days == 2
    assert asked == []
    after = stored(home)
    assert [day.pop("ledger_seq") for day in after["days"]] == [41, 41]
    assert [day.pop("ledger_seq") for day in before["days"]] == [40, 40]
    assert after == before


def test_a_copy_that_counts_in_place_of_what_it_copies_is_newer_than_what_came_between(
    make_home: HomeMaker, landing: Path, asked: list[tuple[list[date], Any]]
) -> None:
    home = make_home(**SMALL, reading_ids="key")
    write_all(landing)
    for name, value in (("a.csv", 11), ("b.csv", 22)):
        write(landing, name, *hourly([5], 3, value=value, first_id=9000))
        take_in(home, landing)
    (landing / "copy of a.csv").write_bytes((landing / "a.csv").read_bytes())
    take_in(home, landing)
    observe_due(home)
    asked.clear()
    write(landing, "a.csv", *hourly([5], 4, value=33, first_id=9000))
    take_in(home, landing)
    observe_due(home)
    assert asked == [([YESTERDAY], [3, 4])]
    check_whole(home, DAYS[1:])


@pytest.mark.parametrize(("count", "whole"), [(20, False), (21, True)])
def test_a_day_is_computed_whole_where_more_than_half_of_its_readings_may_have_changed(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]], count: int, whole: bool
) -> None:
    asked.clear()
    for station in range(1, count + 1):
        write(landing, f"{station}.csv", *hourly(range(-24, 24), station, value=100, first_id=station * 1000))
    take_in(home, landing)
    observe_due(home)
    stations: Any = observe.ALL_STATIONS if whole else list(range(1, count + 1))
    assert asked == [([DAYS[1], YESTERDAY], stations)]


def test_few_stations_are_computed_in_parts_too(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked.clear()
    late(landing, 3, 9, 8, 30)
    take_in(home, landing)
    monkeypatch.setattr(memory, "_READINGS", (60, 60))
    observe_due(home)
    assert asked == [([YESTERDAY], [3, 8]), ([YESTERDAY], [9, 30])]


@pytest.mark.slow
def test_few_stations_are_computed_by_workers(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    late(landing, 3, 9, 8, 30)
    take_in(home, landing)
    monkeypatch.setattr(memory, "_LEAST_READINGS", 20)
    workers: list[int] = []
    monkeypatch.setattr(observe, "crash_point", lambda _: workers.append(len(multiprocessing.active_children())))
    asked.clear()
    assert observe_due(replace(home, settings=home.settings.model_copy(update={"workers": 2}))).days == 1
    assert workers[:4] == [2, 2, 2, 2]
    assert asked == []
    check_whole(home, DAYS[1:])


def test_days_that_older_code_computed_are_computed_whole_once(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]]
) -> None:
    with home.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bts.observed_station")
    for station, stations in ((7, observe.ALL_STATIONS), (8, [8])):
        asked.clear()
        # As many readings as before: none more, of which the station would have more than half.
        write(landing, f"{station}.csv", *hourly(range(-24, 24), station, value=99, first_id=station * 1000))
        take_in(home, landing)
        observe_due(home)
        assert asked == [([DAYS[1], YESTERDAY], stations)]
        check_whole(home, DAYS[1:])


def test_a_corrected_file_whose_former_readings_are_gone_fails_no_day(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]]
) -> None:
    for value in (1, 2):
        asked.clear()
        late(landing, 7, value=value)
        with as_parquet():
            take_in(home, landing)
        for path in home.readings.root.rglob("*.parquet"):
            if value == 2 and not rows_of(
                home, "SELECT FROM bts.landing_file WHERE digest = :d AND superseded_by IS NULL", d=path.stem
            ):
                path.unlink()
        assert observe_due(home).failed == {}
    assert asked == [([YESTERDAY], observe.ALL_STATIONS)]


@pytest.mark.parametrize("parquet", [False, True], ids=["row", "Parquet"])
def test_days_of_readings_that_came_back_are_computed_whole_for_they_may_be_others(
    make_home: HomeMaker, landing: Path, asked: list[tuple[list[date], Any]], parquet: bool
) -> None:
    home = make_home(**SMALL, reading_ids="ignore")
    write_all(landing)
    with as_parquet() if parquet else small_up_to(128):
        take_in(home, landing)
        observe_due(home)
        (digest,) = rows_of(home, "SELECT digest::text FROM bts.landing_file WHERE path = '9.csv'")
        asked.clear()
        late(landing, 8)
        (landing / "7.csv").touch()  # it is looked at again, and its readings are there
        take_in(home, landing)
        observe_due(home)
        home.readings.set_aside(digest["digest"])
        stricter = [replace(p, valid_max=60.0) if p.parameter_id == LOAD else p for p in home.catalogue]
        moved_on = replace(home, catalogue=Catalogue(tuple(stricter)))
        os.utime(landing / "9.csv", (1, 1))
        take_in(moved_on, landing)
        assert observe_due(moved_on).days == 0
        late(landing, 7, value=40)
        take_in(moved_on, landing)
    observe_due(moved_on)
    assert asked == [([YESTERDAY], [8]), ([YESTERDAY], observe.ALL_STATIONS)]
    check_whole(moved_on, [YESTERDAY])


# Kills


def die_observing(home: Home, point: str) -> None:
    with_own_sessions = open_home(home.settings)
    crash_points.arm(point)
    observe_due(with_own_sessions)


@pytest.mark.parametrize("point", [point for point in crash_points.POINTS if point.startswith("observe.")])
def test_killed_at_any_point_the_next_run_computes_the_station(
    home: Home, landing: Path, asked: list[tuple[list[date], Any]], point: str
) -> None:
    late(landing, 7)
    take_in(home, landing)
    home.engine.dispose()
    child = multiprocessing.get_context("fork").Process(target=die_observing, args=(home, point))
    child.start()
    child.join(60)
    assert child.exitcode == -9
    asked.clear()
    assert observe_due(home).days == (point != "observe.after_commit")
    assert asked == ([([YESTERDAY], [7])] if point != "observe.after_commit" else [])
    check_whole(home, DAYS[1:])

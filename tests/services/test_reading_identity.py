"""Ids, corrections, clocks and catalogues from landing files to observations and batches, in a home's own database."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_nights import LOAD, NOW, ORIGIN, SMALL, hourly, observe_due, rows_of, take_in, write
from walked_nights import enter, land, mixed_bundle, origin_of, readings, write_day

from bts_assets.contracts.catalogue import Catalogue, load_catalogue
from bts_assets.contracts.origin import Origin, choose_origin
from bts_assets.services.data_warnings import ahead_warning, lost_warning
from bts_assets.services.home import Home, open_home
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.replay import replay
from bts_assets.storage.observations import ObservedSpan, observed_span

HOUR = timedelta(hours=1)


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


def rows(start: datetime, hours: Iterable[int], station: int, first_id: int = 1) -> list[str]:
    return [
        f"{station * 1000 + first_id + h},{10 + h},{station},{LOAD},{start + h * HOUR:%Y-%m-%d %H:%M:%S}" for h in hours
    ]


def span_of(home: Home, landing: Path) -> ObservedSpan:
    take_in(home, landing)
    observe_due(home)
    with home.engine.connect() as connection:
        span = observed_span(connection, home.settings.grid)
    assert span is not None
    return span


def value_at(home: Home, hour: int, station: int = 1) -> float | None:
    query = "SELECT value FROM bts.observation WHERE station_id = :station AND observed_at = :at"
    found = rows_of(home, query, station=station, at=ORIGIN - timedelta(days=1) + hour * HOUR)
    return found[0]["value"] if found else None


# Corrections


def test_newest_file_that_counts_wins_and_copies_and_superseded_ones_do_not(home: Home, tmp_path: Path) -> None:
    write(tmp_path, "a.csv", *hourly(range(24)))
    take_in(home, tmp_path)
    write(tmp_path, "b.csv", *hourly([5], value=-3))
    take_in(home, tmp_path)
    assert (observe_due(home).merged["corrected"], value_at(home, 5)) == (1, 2)
    (tmp_path / "copy-of-a.csv").write_bytes((tmp_path / "a.csv").read_bytes())
    take_in(home, tmp_path)
    observe_due(home)
    assert value_at(home, 5) == 2
    write(tmp_path, "b.csv", *hourly([5]), *hourly([6], value=100))
    take_in(home, tmp_path)
    observe_due(home)
    assert (value_at(home, 5), value_at(home, 6)) == (15, 106)
    counted = rows_of(home, "SELECT corrected FROM bts.observed_day ORDER BY ledger_seq")
    assert [row["corrected"] for row in counted] == [1, 1, 1]


def test_days_given_up_to_others_of_their_id_are_said_aloud(make_home: Any, tmp_path: Path) -> None:
    home = make_home(**SMALL, reading_ids="key")
    for hour in range(24):
        write(tmp_path, f"{hour:02}.csv", *hourly([hour], first_id=1 - hour))
    take_in(home, tmp_path)
    assert observe_due(home).merged["corrected"] == 23
    told = lost_warning(home, NOW)
    assert told is not None
    assert told.startswith("23 of 24 readings of 2026-03-09 gave way to others of the same id, 23 to a newer file's")
    assert "BTS_READING_IDS=ignore" in told


def test_another_use_of_ids_or_another_aggregation_makes_the_days_due_again(make_home: Any, tmp_path: Path) -> None:
    home = make_home(**SMALL, reading_ids="key")
    write(tmp_path, "a.csv", *hourly(range(24)), *hourly([5], value=20))
    take_in(home, tmp_path)
    assert (observe_due(home).days, value_at(home, 5)) == (1, 25)
    assert observe_due(home).days == 0
    ignoring = open_home(home.settings.model_copy(update={"reading_ids": "ignore"}))
    assert (observe_due(ignoring).days, value_at(home, 5)) == (1, 20)
    listed = tuple(replace(p, aggregation="max") if p.parameter_id == LOAD else p for p in home.catalogue)
    assert observe_due(replace(ignoring, catalogue=Catalogue(listed))).days == 1
    assert value_at(home, 5) == 25
    ignoring.engine.dispose()


def least_forecast(home: Home, batch_id: int) -> float:
    (row,) = rows_of(home, "SELECT min(q05) AS least FROM bts.forecast WHERE batch_id = :b", b=batch_id)
    return float(row["least"])


def test_batches_before_and_after_a_correction_can_both_be_made_again(home: Home, tmp_path: Path) -> None:
    for night in (0, 1):
        write_day(tmp_path, night)
    land(home, tmp_path, origin_of(1))
    version = enter(home, mixed_bundle(), origin_of(0))
    origin = Origin(origin_of(1), "live", "the test")
    first = forecast_and_publish(home, origin, version, None)
    write(tmp_path, "corrections.csv", *readings(origin_of(0), 2, range(3, 6), shift=-30.0))
    land(home, tmp_path, origin_of(1))
    second = forecast_and_publish(home, origin, version, None)
    assert second.batch_id != first.batch_id
    assert least_forecast(home, second.batch_id) < least_forecast(home, first.batch_id) - 15
    for batch_id in (second.batch_id, first.batch_id):
        assert replay(home, batch_id).differs is None


# Origins


def test_one_row_a_year_ahead_does_not_move_the_end_of_a_recording(home: Home, tmp_path: Path) -> None:
    start = ORIGIN - timedelta(days=367)
    for station in range(1, 5):
        write(tmp_path, f"{station}.csv", *rows(start, range(40), station))
    alone = span_of(home, tmp_path)
    write(tmp_path, "stray.csv", *rows(start + timedelta(days=365), [3], 2, 500), *rows(start, [-9000], 3, 9900))
    assert span_of(home, tmp_path) == alone == ObservedSpan(start, start + 40 * HOUR, start + 40 * HOUR)


@pytest.mark.parametrize("hour", [1, 12, 23])
def test_one_fast_clock_moves_no_end(home: Home, tmp_path: Path, hour: int) -> None:
    start, last = ORIGIN - timedelta(days=2), 24 + hour
    for station in (1, 2):
        write(tmp_path, f"{station}.csv", *rows(start, range(last), station))
    write(tmp_path, "fast.csv", *rows(start, range(last - 13 + 24), 3))
    span = span_of(home, tmp_path)
    assert (span.start, span.end) == (start, start + last * HOUR)


def test_sensors_that_report_seldom_do_not_hold_the_end_back(home: Home, tmp_path: Path) -> None:
    start = ORIGIN - timedelta(days=2)
    for station in (1, 2, 3):
        write(tmp_path, f"{station}.csv", *rows(start, range(0, 47, 8), station))
    write(tmp_path, "dense.csv", *rows(start, range(47), 4))
    assert span_of(home, tmp_path).end == start + 47 * HOUR


def test_a_large_outage_makes_no_recording_of_what_is_still_heard(home: Home, tmp_path: Path) -> None:
    start = ORIGIN - timedelta(days=2)
    for station in (1, 2, 3):
        write(tmp_path, f"{station}.csv", *rows(start, range(30 if station < 3 else 48), station))
    span = span_of(home, tmp_path)
    assert (span.end, span.heard_until) == (start + 30 * HOUR, ORIGIN)
    chosen = choose_origin(home.settings.grid, ORIGIN, None, span.end, span.heard_until)
    assert (chosen.issued_at, chosen.kind) == (ORIGIN, "live")


def test_local_times_taken_as_utc_are_warned_of_with_the_setting_and_the_zone(home: Home, tmp_path: Path) -> None:
    local = ORIGIN + 7 * HOUR
    for station in (1, 2):
        write(tmp_path, f"{station}.csv", *rows(local - timedelta(days=1), range(24), station))
    span_of(home, tmp_path)
    told = ahead_warning(home, ORIGIN)
    assert told is not None
    assert told.startswith("12 observations of 2 series lie ahead of now, by up to 7 h 0 min, of most series")
    assert "BTS_LANDING_TIMEZONE=UTC" in told
    assert "about 6 h further east" in told or "about 7 h further east" in told
    assert ahead_warning(home, local) is None


def test_one_fast_clock_is_warned_of_by_its_station(home: Home, tmp_path: Path) -> None:
    for station in (1, 2, 3):
        write(tmp_path, f"{station}.csv", *rows(ORIGIN - timedelta(days=1), range(24 + 5 * (station == 3)), station))
    span_of(home, tmp_path)
    told = ahead_warning(home, ORIGIN)
    assert told is not None
    assert "4 observations of 1 series lie ahead of now, by up to 5 h 0 min (stations 3): clocks there are fast" in told


# Catalogues


def test_catalogue_that_served_is_stored_with_its_content(make_home: Any, tmp_path: Path) -> None:
    own = tmp_path / "mine.csv"
    header = "parameter_id,name,unit,kind,aggregation,valid_min,valid_max,sentinels,low_limit,high_limit,forecast"
    own.write_text(f"{header}\n122,Load,kA,gauge,mean,0,2,,,1.5,true\n901,Meter,kWh,counter,last,0,,,,,true\n")
    home = make_home(**SMALL, catalogue=own)
    assert (home.catalogue.of(122).unit, home.catalogue.of(901).kind, home.catalogue.of(111).unit) == (
        "kA",
        "counter",
        "°C",
    )
    stored = rows_of(home, "SELECT digest::text, parameters FROM bts.catalogue")
    content = {row["digest"]: row["parameters"] for row in stored}
    assert content.keys() <= {home.catalogue.digest, load_catalogue().digest}
    assert len(content[home.catalogue.digest]) == len(tuple(load_catalogue())) + 1
    listed = rows_of(home, "SELECT unit, kind, known FROM bts.parameter WHERE parameter_id IN (122, 901) ORDER BY 1")
    assert [tuple(row.values()) for row in listed] == [("kA", "gauge", True), ("kWh", "counter", True)]

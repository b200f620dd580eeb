"""Drift of nights in a home: against the training of the version that served, kept once, replaced whole."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from small_nights import LOAD, ORIGIN, SMALL, fitted, rows_of, simple_bundle, write

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.origin import Origin
from bts_assets.services import champions, drift
from bts_assets.services import training as versions
from bts_assets.services.drift import DriftReport, watch_drift
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import ingest
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.observe import compute_due_days, read_settled_panel
from bts_assets.services.scoring import score_matured
from bts_assets.settings import load_settings
from bts_assets.storage import drift as storage

TRAINED, NIGHTS, CHANGED = 30, 6, 2
TEMPERATURE, RUN_TIME = 111, 162
STATIONS = range(1, 7)
VOLTAGE, FREQUENCY = 121, 123
SHIFTED, STUCK, SILENT, WITHOUT_GRID = (1, LOAD), (2, TEMPERATURE), 3, 5
OUTAGE = range(8, 15)


@dataclass(frozen=True)
class Nights:
    """Nights after a training; from the night `CHANGED` on a sensor is shifted, one stuck and a station silent.

    The grid was away from another during that night's `OUTAGE`.
    """

    home: Home
    reports: list[DriftReport]


def origin_of(night: int) -> datetime:
    """The origin of a night after the training, which ends with night 0."""
    return ORIGIN + night * DAY + timedelta(hours=2)


def landing_rows(night: int, rng: np.random.Generator) -> list[str]:
    """Hourly readings of the day before a night."""
    since, rows = origin_of(night) - DAY, []
    for station in STATIONS:
        for parameter in (LOAD, TEMPERATURE, RUN_TIME):
            if station == SILENT and night >= CHANGED:
                continue
            for hour in range(24):
                at = since + timedelta(hours=hour, minutes=20)
                value = 30 + 4 * np.sin(2 * np.pi * at.hour / 24) + station + 0.5 * rng.standard_normal()
                if (station, parameter) == SHIFTED and night >= CHANGED:
                    value += 4
                if (station, parameter) == STUCK and night >= CHANGED:
                    value = 31.5
                if parameter == RUN_TIME:
                    value = ((at - ORIGIN).total_seconds() + 90 * 86400) / 7200
                rows.append(f"0,{value:.3f},{station},{parameter},{at:%Y-%m-%d %H:%M:%S}")
    return rows + grid_rows(night, rng)


def grid_rows(night: int, rng: np.random.Generator) -> list[str]:
    rows = []
    for station in {*STATIONS} - {SILENT}:
        for hour in range(24):
            at = origin_of(night) - DAY + timedelta(hours=hour, minutes=20)
            gone = station == WITHOUT_GRID and night == CHANGED and hour in OUTAGE
            for parameter, usual, wide in ((VOLTAGE, 228, 1.5), (FREQUENCY, 50, 0.02)):
                value = 0.0 if gone else usual + wide * rng.standard_normal()
                rows.append(f"0,{value:.3f},{station},{parameter},{at:%Y-%m-%d %H:%M:%S}")
    return rows


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Nights]:
    folder = tmp_path_factory.mktemp("drift")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home, rng = open_home(settings), np.random.default_rng(0)
    write(folder / "landing", "past.csv", *(r for n in range(1 - TRAINED, 1) for r in landing_rows(n, rng)))
    land(home, folder / "landing", 0)
    panel, seq = read_settled_panel(home, origin_of(0), lambda _: origin_of(-TRAINED))
    bundle = simple_bundle()
    home.models.keep(bundle)
    version = versions.enter(home, fitted(bundle), panel, None, seq, None)
    champions.decide(home, version, champions.Decision("promoted", "hand", "the test says so"))
    reports = []
    for night in range(NIGHTS):
        if night:
            write(folder / "landing", f"{night}.csv", *landing_rows(night, rng))
            land(home, folder / "landing", night)
        forecast_and_publish(home, Origin(origin_of(night), "live", "the test"), version, None)
        score_matured(home)
        reports.append(watch_drift(home, origin_of(night), origin_of(night)))
    yield Nights(home, reports)
    home.engine.dispose()


def land(home: Home, landing: Path, night: int) -> None:
    ingest(home, landing, now=origin_of(night))
    compute_due_days(home)


def test_the_night_of_the_training_has_nothing_to_compare_and_later_ones_count(walked: Nights) -> None:
    assert [r.nights for r in walked.reports] == list(range(NIGHTS))
    assert {r.reference_nights for r in walked.reports} == {TRAINED}
    assert all(r.alarms.empty for r in walked.reports[:CHANGED])
    assert walked.reports[-1].reference_scored_nights == NIGHTS - 1  # the first nights of a version are its reference


def test_a_shifted_sensor_drifts_within_three_nights_and_nothing_else_does(walked: Nights) -> None:
    report = walked.reports[CHANGED + 2]
    moved = report.alarms[report.alarms["figure"] == "level"]
    assert list(zip(moved["station_id"], moved["parameter_id"], strict=True)) == [SHIFTED]
    assert moved["kind"].tolist() == ["covariate"]
    assert moved["change"].item() == pytest.approx(4 / 3, abs=0.4)
    # The one that is stuck is so in spread as well.
    others = set(zip(report.alarms["station_id"], report.alarms["parameter_id"], strict=True)) - {SHIFTED, STUCK}
    assert others == set()


def test_an_outage_is_no_change_of_the_grid(walked: Nights) -> None:
    for report in walked.reports:
        assert WITHOUT_GRID not in set(report.alarms["station_id"])
    level = rows_of(
        walked.home,
        "SELECT level FROM bts.drift_figure WHERE station_id = 5 AND parameter_id IN (121, 123) ORDER BY issued_at",
    )
    assert all(abs(row["level"]) < 1 for row in level)


def test_faults_are_named_from_the_night_on_that_sees_them(walked: Nights) -> None:
    assert all(report.faults.empty for report in walked.reports[:CHANGED])
    for report in walked.reports[CHANGED:]:
        named = set(
            zip(report.faults["fault"], report.faults["station_id"], report.faults["parameter_id"], strict=True)
        )
        assert named == {("stuck", *STUCK), ("silent_station", SILENT, -1)}


def test_views_say_where_and_since_when(walked: Nights) -> None:
    (row,) = rows_of(walked.home, "SELECT * FROM bts.drift WHERE alarm AND figure = 'level'")
    assert (row["station_id"], row["parameter_id"], row["scope"], row["kind"]) == (*SHIFTED, "series", "covariate")
    assert 1 <= row["nights"] <= NIGHTS - CHANGED
    assert row["psi"] > 0.25
    assert row["ks"] > 0.3
    faults = rows_of(walked.home, "SELECT * FROM bts.sensor_fault ORDER BY fault")
    assert [f["fault"] for f in faults] == ["silent_station", "stuck"]
    assert {f["first_seen_at"] for f in faults} == {origin_of(CHANGED)}
    assert faults[1]["figure"] == 31.5
    assert faults[0]["parameter_id"] is None


def test_the_snapshot_is_kept_once_and_a_night_looked_at_again_is_replaced(walked: Nights) -> None:
    home, night = walked.home, NIGHTS - 1
    before = {t: rows_of(home, f"SELECT * FROM bts.{t}") for t in ("training_snapshot", "drift_figure")}
    assert len(before["training_snapshot"]) == 5 * len(STATIONS) - 2
    again = watch_drift(home, origin_of(night), origin_of(night))
    pd.testing.assert_frame_equal(again.evidence, walked.reports[night].evidence)
    after = {t: rows_of(home, f"SELECT * FROM bts.{t}") for t in before}
    assert sorted(map(str, after["drift_figure"])) == sorted(map(str, before["drift_figure"]))
    assert str(after["training_snapshot"]) == str(before["training_snapshot"])


def test_the_network_is_read_in_parts_and_no_figure_depends_on_them(
    walked: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[set[int]] = []

    def reading(name: str) -> Callable[..., pd.DataFrame]:
        whole = getattr(storage, name)

        def spied(*given: object) -> pd.DataFrame:
            rows = whole(*given)
            read.append(set(rows["station_id"]))
            return rows

        return spied

    for name in ("read_figures", "read_errors"):
        monkeypatch.setattr(storage, name, reading(name))
    monkeypatch.setattr(drift, "series_at_once", lambda settings: 6)  # of 28: the five of a station
    now, report = origin_of(NIGHTS - 1), walked.reports[-1]
    again = watch_drift(walked.home, now, now)
    assert len(read) == 2 * len(STATIONS)
    assert all(len(stations) <= 1 for stations in read)
    assert len([stations for stations in read if stations]) > len(STATIONS)
    for name in ("evidence", "faults", "figures"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(report, name), check_exact=True)
    assert (again.nights, again.scored_nights) == (report.nights, report.scored_nights)


def test_readings_ahead_of_now_are_a_clock_that_is_wrong(walked: Nights) -> None:
    early = origin_of(NIGHTS - 1) - timedelta(hours=3)
    report = watch_drift(walked.home, origin_of(NIGHTS - 1), early)
    ahead = report.faults[report.faults["fault"] == "clock_ahead"]
    assert set(ahead["station_id"]) == set(STATIONS) - {SILENT}
    assert ahead["figure"].iloc[0] == pytest.approx(2, abs=0.1)
    watch_drift(walked.home, origin_of(NIGHTS - 1), origin_of(NIGHTS - 1))


def test_a_clock_that_was_set_back_is_named_and_its_station_is_not_called_silent(walked: Nights) -> None:
    # Eight hours before the origin the clock of station 4 goes back by ten: what it reports until then is dated to
    # hours that it had reported before.
    landing, rng = walked.home.settings.home.parent / "landing", np.random.default_rng(9)
    until = f"{origin_of(NIGHTS) - timedelta(hours=8):%Y-%m-%d %H:%M:%S}"
    since = f"{origin_of(NIGHTS) - timedelta(hours=18):%Y-%m-%d %H:%M:%S}"
    rows = []
    for row in landing_rows(NIGHTS, rng):
        at = row.rpartition(",")[2]
        rows += [row] if row.split(",")[2] != "4" or at < until else []
        back = pd.Timestamp(at) + timedelta(minutes=5)
        if row.split(",")[2] == "4" and since <= at < f"{origin_of(NIGHTS) - timedelta(hours=10):%Y-%m-%d %H:%M:%S}":
            rows.append(f"{row.rpartition(',')[0]},{back:%Y-%m-%d %H:%M:%S}")
    write(landing, f"{NIGHTS}.csv", *rows)
    land(walked.home, landing, NIGHTS)
    report = watch_drift(walked.home, origin_of(NIGHTS), origin_of(NIGHTS))
    found = report.faults[report.faults["station_id"].isin([SILENT, 4])]
    assert found["fault"].tolist() == ["silent_station", "clock_set_back"]
    set_back = found.iloc[-1]
    assert set_back["parameter_id"] == -1
    assert set_back["since"] == pd.Timestamp(origin_of(NIGHTS) - timedelta(hours=8))
    assert set_back["figure"] == pytest.approx(8, abs=1)
    (row,) = rows_of(walked.home, "SELECT fault, figure FROM bts.sensor_fault WHERE station_id = 4")
    assert row["fault"] == "clock_set_back"


def test_a_home_where_nothing_serves_has_no_drift(tmp_path: Path, new_database: Callable[[], str]) -> None:
    settings = load_settings(home=tmp_path, database_url=new_database(), **SMALL)
    home = open_home(settings)
    try:
        report = watch_drift(home, origin_of(0), origin_of(0))
    finally:
        home.engine.dispose()
    assert report.version is None
    assert report.alarms.empty

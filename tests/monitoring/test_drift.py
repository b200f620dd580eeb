"""Drift: seldom seen where there is none, soon where there is, and told apart."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from benchmarks import drift as benchmark
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.monitoring.drift import Course, distances, follow, judge
from bts_assets.monitoring.evidence import Streams, gather
from bts_assets.monitoring.snapshot import NIGHTS, SKETCH, figures, longest_runs, take

GRID = Grid(timedelta(hours=1), timedelta(days=7), timedelta(hours=48))
END = datetime(2026, 3, 1, tzinfo=UTC)


def streams(values: np.ndarray, **changed: object) -> Streams:
    """The first 56 nights of values (streams, nights) as reference."""
    rows = len(values)
    given = {"group": np.arange(rows), "tolerance": np.full(rows, 0.1), "floor": np.full(rows, 0.05)}
    return Streams(values[:, :NIGHTS], values[:, NIGHTS:], **{**given, **changed})  # type: ignore[arg-type]


def test_a_network_that_does_not_change_raises_hardly_an_alarm_and_one_that_does_soon() -> None:
    # benchmarks/drift.py measures the same over 1,000 site-years.
    found = benchmark.measure(networks=1, nights=150)
    assert found.alarmed == 0
    assert np.mean(found.shifts <= 3) >= 0.9
    assert (found.errors <= 7).all()


def test_evidence_grows_by_one_a_night_at_most_while_nothing_changes() -> None:
    values = np.random.default_rng(0).standard_normal((400, NIGHTS + 100))
    evidence = gather(streams(values, group=np.zeros(400, int), tolerance=np.zeros(400)), np.full(400, 12.0)).either
    assert np.exp(evidence[:, -1]).mean() <= 100
    # Markov: it passes 2,000 within 100 nights in one stream of twenty at most.
    assert np.mean(evidence.max(axis=1) >= np.log(2000)) <= 0.05


def test_nights_that_hang_together_are_not_taken_for_a_change() -> None:
    rng, rows = np.random.default_rng(1), 200
    values = np.zeros((rows, NIGHTS + 200))
    for night in range(1, values.shape[1]):
        values[:, night] = 0.7 * values[:, night - 1] + rng.standard_normal(rows)
    evidence = gather(streams(values, group=np.zeros(rows, int)), np.full(rows, np.log(365 / 0.05))).either
    assert np.mean((evidence >= np.log(365 / 0.05)).any(axis=1)) <= 0.05


def test_weather_that_all_stations_have_is_no_change_of_one() -> None:
    rng, rows = np.random.default_rng(2), 20
    weather = np.cumsum(rng.standard_normal(NIGHTS + 30)) / 2  # wanders off for good
    values = np.linspace(0.8, 1.2, rows)[:, None] * weather + 0.3 * rng.standard_normal((rows, NIGHTS + 30))
    bound = np.full(rows, np.log(1e5))
    together = gather(streams(values, group=np.zeros(rows, int)), bound).either
    alone = gather(streams(values), bound).either
    assert (together.max(axis=1) < bound).all()
    assert (alone.max(axis=1) >= bound).mean() > 0.5


def test_a_lone_outlier_is_no_change_of_errors_and_a_standing_one_is() -> None:
    values = np.random.default_rng(3).standard_normal((1, NIGHTS + 20))
    bound = np.array([np.log(1e5)])
    values[0, NIGHTS + 5] = 40
    assert gather(streams(values, rising=True, most=2.5), bound).either.max() < bound[0]
    values[0, NIGHTS + 5 :] = 4
    assert gather(streams(values, rising=True, most=2.5), bound).either.max() >= bound[0]


def test_nights_that_are_missing_say_nothing_and_a_young_reference_neither() -> None:
    values = np.random.default_rng(4).standard_normal((2, NIGHTS + 6))
    values[0, NIGHTS + 2 :] = np.nan
    values[1, : NIGHTS - 5] = np.nan
    found = gather(streams(values), np.full(2, 12.0))
    assert (found.either[0, 2:] == found.either[0, 1]).all()
    assert np.isnan(found.either[1]).all()


def test_a_stream_without_any_deviation_says_nothing() -> None:
    found = gather(streams(np.ones((1, NIGHTS + 3)), floor=np.full(1, np.nan)), np.full(1, 12.0))
    assert np.isnan(found.either).all()


@pytest.mark.parametrize(
    ("level", "error", "kind"),
    [(1.0, 0.0, "covariate"), (0.0, 0.8, "concept"), (1.0, 0.8, "label")],
    ids=["inputs alone", "errors alone", "both"],
)
def test_drift_is_told_apart_by_what_has_changed(level: float, error: float, kind: str) -> None:
    rng, rows = np.random.default_rng(5), 12
    drawn = [rng.standard_normal((rows, NIGHTS + 12)) * 0.1 for _ in range(3)]
    drawn[0][0, NIGHTS:] += level
    drawn[2][0, NIGHTS:] += error
    reference, live = (Course(*(d[:, part] for d in drawn)) for part in (slice(NIGHTS), slice(NIGHTS, None)))
    ids = np.repeat([1, 2], 6), np.tile(np.arange(6), 2)
    found = judge(follow(*ids, np.ones(rows), reference, live))
    alarms = found[found["alarm"] & (found["scope"] == "series")]
    assert set(alarms["kind"]) == {kind}
    assert set(zip(alarms["station_id"], alarms["parameter_id"], strict=True)) == {(1, 0)}
    assert alarms["nights"].between(1, 12).all()
    if level:
        assert alarms.loc[alarms["figure"] == "level", "change"].item() == pytest.approx(level, abs=0.2)
    if error:
        assert alarms.loc[alarms["figure"] == "error", "change"].item() == pytest.approx(np.expm1(error), abs=0.4)


def test_a_change_of_the_whole_network_is_one_finding_about_a_parameter() -> None:
    rng, stations = np.random.default_rng(6), 30
    level = 0.1 * rng.standard_normal((stations, NIGHTS + 10))
    level[:, NIGHTS:] += 1.0
    nothing = np.full((stations, 0), np.nan)
    reference, live = Course(level[:, :NIGHTS], nothing, nothing), Course(level[:, NIGHTS:], nothing, nothing)
    found = judge(follow(np.arange(stations), np.full(stations, 122), np.ones(stations), reference, live))
    alarms = found[found["alarm"]]
    assert alarms["scope"].tolist() == ["parameter"]
    assert alarms["parameter_id"].tolist() == [122]


def test_nothing_is_judged_before_the_first_night() -> None:
    nothing = np.full((2, 0), np.nan)
    course = Course(nothing, nothing, nothing)
    found = judge(follow(np.array([1, 2]), np.array([122, 122]), np.ones(2), course, course))
    assert found.empty
    assert {"alarm", "kind", "nights"} <= set(found.columns)


def test_distances_are_those_of_samples() -> None:
    rng = np.random.default_rng(7)
    before, after = rng.standard_normal(4000), rng.standard_normal(1000) + 1
    sketch = np.quantile(before, SKETCH)[None]
    apart, stability = distances(sketch, after[None])
    everything = np.sort(np.concatenate([before, after]))
    exact = np.abs(np.searchsorted(np.sort(before), everything, "right") / 4000
                   - np.searchsorted(np.sort(after), everything, "right") / 1000).max()  # fmt: skip
    assert apart[0] == pytest.approx(exact, abs=0.03)
    assert stability[0] > 0.25 > distances(sketch, rng.standard_normal((1, 1000)))[1][0]
    constant = distances(np.full((1, len(SKETCH)), 5.0), np.full((1, 50), 5.0))
    assert constant[0][0] == 0
    assert np.isnan(distances(sketch, np.full((1, 9), np.nan))).all()


def panel(values: np.ndarray, end: datetime = END) -> Panel:
    rows = len(values)
    return Panel(GRID, np.arange(rows), np.full(rows, 122, np.int32), end, values)


def test_a_snapshot_finds_its_own_days_ordinary_whatever_the_hour_it_ends() -> None:
    hours = np.arange(24 * 70)
    values = (10 + 5 * np.sin(2 * np.pi * hours / 24))[None] + 0.01 * np.random.default_rng(8).standard_normal(
        (1, 1680)
    )
    for shift in (0, 7):
        end = END + timedelta(hours=shift)
        trained = take(panel(values[:, : 1400 + shift], end - timedelta(hours=280)), ())
        assert trained.level.shape == (1, NIGHTS)
        assert np.abs(trained.level).max() < 0.02
        later = panel(values[:, 1400 + shift : 1400 + shift + 48], end - timedelta(hours=232))
        assert np.abs(figures(later, later.values, trained.profile).level).max() < 0.02
    assert trained.sigma[0] == pytest.approx(5 * np.sin(np.pi * 0.34), rel=0.05)


def test_days_that_were_hardly_observed_have_no_figures_and_a_short_training_fewer_nights() -> None:
    values = np.random.default_rng(9).standard_normal((2, 24 * 12))
    values[0, -24:-3] = np.nan
    values[1] = np.nan
    trained = take(panel(values), ())
    assert trained.level.shape == (2, 12)
    assert np.isnan(trained.level[0, -1])
    assert np.isfinite(trained.level[0, :-1]).all()
    assert np.isnan(trained.level[1]).all()
    assert np.isnan(trained.sketch[1]).all()


def test_a_meter_is_known_by_its_rises() -> None:
    meter = np.cumsum(np.full((1, 24 * 10), 0.5), axis=1)
    meter[0, 100:] -= 40  # replaced
    trained = take(panel(meter), counters=(122,))
    assert trained.sketch[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "longest"),
    [([1, 1, 1, 2, 2], 3), ([1, np.nan, 1, 1], 3), ([1, 2, 3], 1), ([np.nan, np.nan], 0)],
)
def test_longest_run_passes_over_what_is_missing(values: list[float], longest: int) -> None:
    assert longest_runs(np.array([values], dtype=float)).tolist() == [longest]


def test_judged_rows_are_a_frame_of_plain_columns() -> None:
    rng = np.random.default_rng(10)
    course = Course(*(rng.standard_normal((6, NIGHTS)) for _ in range(3)))
    found = judge(follow(np.arange(6), np.full(6, 1), np.ones(6), course, course))
    assert isinstance(found, pd.DataFrame)
    assert set(found["scope"]) == {"series", "station", "parameter"}

"""Past nights replayed: what each may know, when it trains anew, and what becomes of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from parts_of_work import assert_same, trained_before, travelled
from small_panels import CATALOGUE, END, GRID, daily_values, make_panel

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.forecasting import backtest as rolling
from bts_assets.forecasting.backtest import (
    SERVED,
    Fit,
    RollingScores,
    TooFewOrigins,
    covered,
    long_form,
    past_origins,
    reissue,
    rolling_backtest,
    summary,
)
from bts_assets.forecasting.efforts import EFFORTS, Work
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.forecasting.forecasters import LastValue
from bts_assets.forecasting.metrics import METRICS, mase_scale

pytestmark = pytest.mark.slow

DAY = timedelta(days=1)
SERIES = ["station_id", "parameter_id"]


@pytest.fixture(scope="module")
def origins(panel: Panel) -> tuple:
    return past_origins(GRID, panel.start, panel.end, 2, DAY)


@pytest.fixture(scope="module")
def fit() -> Iterator[Fit]:
    """Training for real, as short as it can be."""

    def run(known: Panel, on_progress: OnProgress | None) -> FittedBundle:
        return fit_bundle(known, CATALOGUE, effort="quick", seed=7, on_progress=on_progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EFFORTS, "quick", Work(20, 20, 1, 1000))
        yield run


@pytest.fixture(scope="module")
def trained(panel: Panel, origins: tuple, fit: Fit) -> FittedBundle:
    return fit(panel.until((panel.end - origins[0]) // GRID.step), None)


@pytest.fixture(scope="module")
def replayed(panel: Panel, origins: tuple, fit: Fit) -> RollingScores:
    return rolling_backtest(panel, CATALOGUE, origins, fit, refit_every=2)


def given(version: FittedBundle, seen: list[Panel] | None = None) -> Fit:
    """Training that gives this version at once, and notes what it was shown."""

    def run(known: Panel, on_progress: OnProgress | None) -> FittedBundle:
        if seen is not None:
            seen.append(known)
        if on_progress:
            on_progress("training", 5, 10)
            on_progress("training", 10, 10)
        return version

    return run


def test_origins_end_with_the_data_and_lie_apart(panel: Panel) -> None:
    assert past_origins(GRID, panel.start, END, 3, DAY) == tuple(END - GRID.horizon - k * DAY for k in (2, 1, 0))
    # Of the ten days: half of one after the last, and before the first a day and a quarter.
    assert len(past_origins(GRID, panel.start, END, 9, DAY)) == 9


@pytest.mark.parametrize(
    ("count", "apart", "says"),
    [
        (10, DAY, "10 origins 24h apart do not fit: 9 of them do in the 10d from 2026-11-10 02:00 to 2026-11-20 02:00"),
        (2, 10 * DAY, "2 origins 10d apart do not fit: 1 of them does"),
        (1, timedelta(minutes=90), "90min apart are not a whole number of steps of 1h"),
        (1, timedelta(0), "not a whole number of steps"),
        (0, DAY, "0 origins 24h apart do not fit"),
    ],
)
def test_origins_that_do_not_fit_are_refused_with_how_many_do(
    panel: Panel, count: int, apart: timedelta, says: str
) -> None:
    with pytest.raises(TooFewOrigins, match=says):
        past_origins(GRID, panel.start, panel.end, count, apart)


def test_data_too_short_for_any_origin_say_none(panel: Panel) -> None:
    with pytest.raises(TooFewOrigins, match=r"none of them do in the 36h .* the first needs 30h before it"):
        past_origins(GRID, END - timedelta(hours=36), END, 1, DAY)


def test_each_series_origin_and_candidate_is_scored_and_what_is_served_beside_them(
    panel: Panel, origins: tuple, replayed: RollingScores
) -> None:
    scores = replayed.scores
    assert list(scores.columns) == [*SERIES, "origin", "candidate", *METRICS]
    assert {SERVED, "lstm", "last_value", "seasonal_naive_day"} <= set(scores["candidate"])
    served = scores[scores["candidate"] == SERVED]
    forecast = {(s, p) for s, p in zip(panel.station_id, panel.parameter_id, strict=True) if p != 4}
    assert set(map(tuple, served[SERIES].to_numpy())) == forecast
    assert sorted(set(scores["origin"])) == sorted(pd.Timestamp(o) for o in origins)
    assert not scores.duplicated([*SERIES, "origin", "candidate"]).any()
    assert np.isfinite(served[list(METRICS)]).all().all()
    assert replayed.failures.empty


def test_a_score_is_what_it_says_by_hand(panel: Panel, origins: tuple, replayed: RollingScores) -> None:
    column = (origins[0] - panel.start) // GRID.step
    truth, last = panel.values[0, column : column + 12], panel.values[0, column - 1]
    row = replayed.scores.query("candidate == 'last_value' and station_id == 1").sort_values("origin").iloc[0]
    assert row["mae"] == pytest.approx(np.abs(truth - last).mean())
    assert row["bias"] == pytest.approx((last - truth).mean())
    # The scale does not depend on actuals: neither of this origin's horizon, nor of the days to the next.
    assert row["mase"] == pytest.approx(row["mae"] / mase_scale(panel.values[:1, :column], 24)[0])


def poisoned(panel: Panel, column: int) -> Panel:
    """Everything from `column` on is other than it was, and series come that nobody had heard of."""
    values = panel.values.copy()
    values[:, column:] = 1e4 * np.random.default_rng(3).normal(size=values[:, column:].shape)
    extra = np.full((2, panel.steps), np.nan)
    extra[:, column:] = 5.0
    return make_panel(np.concatenate([values, extra]), [*panel.parameter_id.tolist(), 1, 77])


def issued_by(panel: Panel, origins: tuple, fit: Fit) -> dict[str, dict[tuple[int, int], np.ndarray]]:
    """Per candidate, the quantiles of each series."""
    found: dict[str, dict[tuple[int, int], np.ndarray]] = {}
    for issued in reissue(panel, CATALOGUE, origins, fit):
        for row, quantiles in zip(issued.rows, issued.quantiles, strict=True):
            key = (int(panel.station_id[row]), int(panel.parameter_id[row]))
            found.setdefault(issued.candidate, {})[key] = quantiles
    return found


def test_nothing_that_came_after_an_origin_reaches_its_forecasts(
    panel: Panel, origins: tuple, fit: Fit, trained: FittedBundle
) -> None:
    first = origins[:1]
    column = (first[0] - panel.start) // GRID.step
    clean = issued_by(panel, first, fit)
    dirty = issued_by(poisoned(panel, column), first, fit)
    assert clean.keys() == dirty.keys() >= {SERVED, "lstm"}
    for candidate, forecasts in clean.items():
        assert forecasts.keys() == dirty[candidate].keys()
        for series, quantiles in forecasts.items():
            np.testing.assert_array_equal(quantiles, dirty[candidate][series])
    # The poison is one: an hour later it is known, and the forecasts are others.
    later = issued_by(poisoned(panel, column - 1), first, given(trained))
    assert not np.array_equal(clean[SERVED][1, 1], later[SERVED][1, 1])


def test_between_trainings_the_version_before_forecasts(panel: Panel, trained: FittedBundle) -> None:
    origins = past_origins(GRID, panel.start, panel.end, 5, DAY)
    seen: list[Panel] = []
    replayed = rolling_backtest(panel, CATALOGUE, origins, given(trained, seen), refit_every=2)
    assert [known.end for known in seen] == [origins[0], origins[2], origins[4]]
    assert replayed.scores["origin"].nunique() == 5


def test_training_is_shown_the_whole_past_and_nothing_else(panel: Panel, origins: tuple, trained: FittedBundle) -> None:
    seen: list[Panel] = []
    rolling_backtest(panel, CATALOGUE, origins, given(trained, seen))
    for known, origin in zip(seen, origins, strict=True):
        np.testing.assert_array_equal(known.values, panel.values[:, : (origin - panel.start) // GRID.step])


def test_progress_tells_of_all_trainings_together(panel: Panel, origins: tuple, trained: FittedBundle) -> None:
    told: list[tuple[str, int, int]] = []
    rolling_backtest(panel, CATALOGUE, origins, given(trained), on_progress=lambda *said: told.append(said))
    assert told == [
        ("origins", 0, 2),
        ("training", 5, 20),
        ("training", 10, 20),
        ("origins", 1, 2),
        ("training", 15, 20),
        ("training", 20, 20),
        ("origins", 2, 2),
    ]


def test_trainings_elsewhere_come_to_the_same_and_are_sent_no_more_than_they_score(
    panel: Panel, trained: FittedBundle
) -> None:
    origins = past_origins(GRID, panel.start, panel.end, 5, DAY)
    fit = partial(trained_before, replace(trained, failures={"fine_tuned": "the loss is nan"}))
    here = rolling_backtest(panel, CATALOGUE, origins, fit, refit_every=2)
    told: list[tuple[str, int, int]] = []
    sent: list[Any] = []

    def elsewhere(work: Callable[[Any], Any], parts: Iterable[Any]) -> Iterator[Any]:
        for part in parts:
            sent.append(part)
            its_work, its_part = travelled((work, part))
            yield travelled(its_work(its_part))

    there = rolling_backtest(
        panel,
        CATALOGUE,
        origins,
        fit,
        refit_every=2,
        on_progress=lambda *said: told.append(said),
        spread=elsewhere,
    )
    assert len(here.failures) == 5
    assert_same(here, there)
    assert [part.panel.end for part in sent] == [origins[k] + GRID.horizon for k in (1, 3, 4)]
    assert told == [("origins", done, 5) for done in (0, 2, 4, 5)]


class Fragile:
    """The last value, but one series is more than it can bear."""

    name = "last_value"

    def __init__(self, bears: Callable[[int], bool]) -> None:
        self.bears = bears

    def forecast(self, panel: Panel) -> np.ndarray:
        if not all(self.bears(int(s)) for s in panel.station_id):
            raise FloatingPointError("too\nmuch")
        return LastValue().forecast(panel)


def in_place_of_last_value(forecaster: Fragile, patch: pytest.MonkeyPatch) -> None:
    load = rolling.load_forecasters
    patch.setattr(rolling, "load_forecasters", lambda *given: {**load(*given), forecaster.name: forecaster})


def test_a_candidate_that_fails_costs_its_own_series_and_is_named(
    panel: Panel, origins: tuple, trained: FittedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place_of_last_value(Fragile(lambda station: station != 3), monkeypatch)
    replayed = rolling_backtest(panel, CATALOGUE, origins, given(trained))
    fragile = replayed.scores[replayed.scores["candidate"] == "last_value"]
    assert set(fragile["station_id"]) == {1, 2, 5, 6}
    others = replayed.scores[replayed.scores["candidate"] == SERVED]
    assert set(others["station_id"]) == {1, 2, 3, 5, 6}
    assert replayed.failures.drop(columns="origin").to_dict("records") == [
        {
            "candidate": "last_value",
            "reason": "FloatingPointError: too",
            "series": 1,
            "station_id": 3,
            "parameter_id": 3,
        }
    ] * len(origins)


def test_a_candidate_that_always_fails_is_given_up(
    panel: Panel, origins: tuple, trained: FittedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    in_place_of_last_value(Fragile(lambda station: bool(asked.append(station))), monkeypatch)
    many = make_panel(daily_values(300), [1] * 300)
    replayed = rolling_backtest(many, CATALOGUE, origins[:1], given(trained))
    assert replayed.failures["series"].tolist() == [300]
    assert len(asked) < 128
    assert "last_value" not in set(replayed.scores["candidate"])


def test_a_candidate_that_keeps_failures_to_series_is_taken_at_its_word(
    panel: Panel, origins: tuple, trained: FittedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneByOne(Fragile):
        def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
            quantiles = LastValue().forecast(panel)
            quantiles[1] = np.nan
            return quantiles, {1: "no convergence"}

    in_place_of_last_value(OneByOne(lambda _: True), monkeypatch)
    replayed = rolling_backtest(panel, CATALOGUE, origins[:1], given(trained))
    assert replayed.failures[["reason", "series", "station_id"]].to_dict("records") == [
        {"reason": "no convergence", "series": 1, "station_id": 2}
    ]
    assert set(replayed.scores.query("candidate == 'last_value'")["station_id"]) == {1, 3, 5, 6}


def test_a_statistical_candidate_is_asked_where_it_was_tried(
    panel: Panel, origins: tuple, trained: FittedBundle
) -> None:
    weights = trained.bundle.weights
    expensive = weights.candidates.index("window_median")
    cheaply = np.delete(np.arange(len(weights.candidates)), expensive)

    def untried(own: np.ndarray) -> np.ndarray:
        left = np.where(np.arange(len(own)) == expensive, np.nan, own)
        left[cheaply] /= np.nansum(left) or 1
        return left

    by_series = {key: own if key[0] == 5 else untried(own) for key, own in weights.by_series.items()}
    by_parameter = {key: untried(own) for key, own in weights.by_parameter.items()}
    fewer = replace(weights, default=untried(weights.default), by_parameter=by_parameter, by_series=by_series)
    version = replace(trained, bundle=replace(trained.bundle, weights=fewer))
    scores = rolling_backtest(panel, CATALOGUE, origins[:1], given(version)).scores
    assert set(scores.query("candidate == 'window_median'")["station_id"]) == {5}
    assert set(scores.query("candidate == 'last_value'")["station_id"]) == {1, 2, 3, 5, 6}
    figures = summary(scores)
    there = scores.query("candidate == 'served' and station_id == 5")["mase"].mean()
    assert figures.loc["window_median", "served_mase"] == pytest.approx(there)
    assert figures.loc[SERVED, "served_mase"] == figures.loc[SERVED, "mase"]


def test_from_a_reset_on_a_counter_is_not_scored(panel: Panel, origins: tuple, trained: FittedBundle) -> None:
    column = (origins[0] - panel.start) // GRID.step
    values = panel.values.copy()
    values[2, column + 6 :] -= values[2, column]
    replayed = rolling_backtest(make_panel(values, panel.parameter_id.tolist()), CATALOGUE, origins[:1], given(trained))
    again = rolling_backtest(panel, CATALOGUE, origins[:1], given(trained))
    targets = [r.coverage.query("parameter_id == 3 and nominal == 80")["targets"].sum() for r in (replayed, again)]
    assert targets == [6, 12]
    mae = [r.scores.query("candidate == 'last_value' and parameter_id == 3")["mae"].item() for r in (replayed, again)]
    assert mae[0] < mae[1]


def test_a_switch_that_is_forecast_has_a_probability_and_no_interval(
    panel: Panel, origins: tuple, trained: FittedBundle
) -> None:
    catalogue = Catalogue(tuple(replace(p, forecast=True) for p in CATALOGUE))
    replayed = rolling_backtest(panel, catalogue, origins[:1], given(trained))
    doors = replayed.scores[replayed.scores["parameter_id"] == 4]
    assert set(doors["candidate"]) == {SERVED, "event_rate"}
    assert np.isfinite(doors["mae"]).all()
    assert doors[["coverage80", "msis"]].isna().all().all()
    assert 4 not in set(replayed.coverage["parameter_id"])


def test_a_training_that_fails_is_named_and_the_others_are_scored(
    panel: Panel, origins: tuple, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bts_assets.forecasting import lstm

    monkeypatch.setattr(lstm.LstmNetwork, "train", lambda *_: float("nan"))
    replayed = rolling_backtest(panel, CATALOGUE, origins[:1], fit)
    assert set(replayed.failures["candidate"]) == {"lstm"}
    assert "the loss is nan" in replayed.failures["reason"][0]
    assert replayed.failures["series"].tolist() == [5]
    candidates = set(replayed.scores["candidate"])
    assert "lstm" not in candidates
    assert {SERVED, "last_value"} <= candidates


def test_a_series_without_anything_to_compare_with_has_no_score(
    panel: Panel, origins: tuple, trained: FittedBundle
) -> None:
    values = panel.values.copy()
    values[0, (origins[0] - panel.start) // GRID.step :] = np.nan
    silent = make_panel(values, panel.parameter_id.tolist())
    replayed = rolling_backtest(silent, CATALOGUE, origins[:1], given(trained))
    assert set(replayed.scores["station_id"]) == {2, 3, 5, 6}


def test_coverage_by_step_is_what_the_scores_say_of_the_whole_horizon(panel: Panel, replayed: RollingScores) -> None:
    coverage = replayed.coverage
    assert coverage["targets"].groupby([coverage["parameter_id"], coverage["nominal"]]).sum()[1, 80] == 2 * 2 * 12
    assert sorted(set(coverage["first_step"])) == list(range(1, 13))
    by_parameter = covered(coverage, ["parameter_id"])
    served = replayed.scores[replayed.scores["candidate"] == SERVED].groupby("parameter_id")
    for share in (50, 80, 90, 95):
        np.testing.assert_allclose(by_parameter[share], served[f"coverage{share}"].mean())
    assert (np.diff(covered(coverage, ["first_step"]).to_numpy(), axis=1) >= 0).all()


def test_coverage_counts_at_its_step(monkeypatch: pytest.MonkeyPatch, panel: Panel) -> None:
    came = Panel(GRID, panel.station_id, panel.parameter_id, panel.end, np.zeros((6, 12)))
    came.values[:, 0] = np.nan
    quantiles = np.repeat(np.linspace(-1.0, 1.0, 9)[None, None, :], 12, axis=1).repeat(6, axis=0)
    quantiles[:, 3] += 5
    counted = rolling._Coverage(panel)
    counted.add(came, quantiles)
    found = counted.to_frame().query("nominal == 90 and parameter_id == 1")
    assert found["first_step"].tolist() == list(range(2, 13))
    assert found["covered"].tolist() == [1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    assert set(found["targets"]) == {2}
    long = partial(Panel, GRID, np.array([1]), np.array([1]), END)
    many = rolling._Coverage(long(np.zeros((1, 100))))
    many.hits, many.targets = np.ones((4, 1, 100)), np.ones((1, 100))
    buckets = many.to_frame().query("nominal == 50")
    assert len(buckets) == 24
    assert (buckets["first_step"].iloc[0], buckets["last_step"].iloc[-1]) == (1, 100)
    assert (buckets["first_step"].iloc[1:].to_numpy() == buckets["last_step"].iloc[:-1].to_numpy() + 1).all()


def test_long_form_and_summary_hold_every_score(replayed: RollingScores) -> None:
    rows = long_form(replayed.scores)
    assert list(rows.columns) == [*SERIES, "origin", "candidate", "metric", "value"]
    assert len(rows) == len(replayed.scores) * len(METRICS)
    figures = summary(replayed.scores)
    lstm = rows.query("candidate == 'lstm' and metric == 'msis'")["value"]
    assert figures.loc["lstm", "msis"] == pytest.approx(lstm.mean())
    assert figures.loc["lstm", "median_msis"] == pytest.approx(lstm.median())
    assert figures.loc["lstm", "scored"] == len(lstm) == 10
    on_a_part = figures["scored"] < 0.9 * figures.loc[SERVED, "scored"]
    assert list(on_a_part) == sorted(on_a_part)
    assert on_a_part.nunique() == 2
    assert all(part["mase"].is_monotonic_increasing for _, part in figures.groupby(on_a_part))

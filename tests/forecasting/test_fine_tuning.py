"""The pretrained network fine-tuned on a network's own series: better there, judged fairly, the same every time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from small_panels import CATALOGUE

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN
from bts_assets.forecasting import efforts
from bts_assets.forecasting.batch import load_forecasters
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.counters import AsLevels
from bts_assets.forecasting.efforts import Work
from bts_assets.forecasting.fine_tuning import FineTuned, _Examples, fine_tune
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.forecasting.pretrained import PretrainedForecaster, bin_width
from bts_assets.forecasting.training_plan import TooLittleHistoryError
from bts_assets.forecasting.windows import holdout_origins
from bts_assets.pretraining.weights import shipped

HOUR = timedelta(hours=1)
GRID = Grid(HOUR, timedelta(days=7), timedelta(days=1))
ZONE = ZoneInfo("UTC")
STEPS = 50


def panel_of(values: np.ndarray, grid: Grid = GRID) -> Panel:
    end = datetime(2026, 11, 20, tzinfo=UTC)
    return Panel(grid, np.arange(len(values)), np.ones(len(values), np.int32), end, values.astype(np.float64))


def sweeps(series: int = 12, days: int = 40) -> np.ndarray:
    """A pulse that comes an hour later every day: no cycle of a day or a week repeats it, its neighbours all do it."""
    rng = np.random.default_rng(0)
    hour = np.arange(days * 24)
    phase = (hour + rng.integers(0, 25, (series, 1))) % 25
    return 50 + 20 * (phase < 6) + rng.standard_normal((series, len(hour)))


@pytest.fixture(scope="module")
def panel() -> Panel:
    return panel_of(sweeps())


def tuned(panel: Panel, seed: int = 1) -> FineTuned:
    found = fine_tune(panel, holdout_origins(panel), STEPS, seed, ZONE, lambda: False)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def fine_tuned(panel: Panel) -> FineTuned:
    return tuned(panel)


def test_it_forecasts_its_own_series_better_than_the_network_that_never_saw_them(
    panel: Panel, fine_tuned: FineTuned
) -> None:
    origin = holdout_origins(panel)[0]
    truth = panel.values[:, origin : origin + GRID.horizon_steps]
    past = panel.until(panel.steps - origin)
    zero_shot, own = PretrainedForecaster.shipped(UTC), fine_tuned.forecaster(ZONE)
    before, after = (np.abs(f.forecast(past)[:, :, MEDIAN] - truth).mean() for f in (zero_shot, own))
    assert after < 0.9 * before


def test_a_series_upside_down_has_the_forecast_upside_down(panel: Panel, fine_tuned: FineTuned) -> None:
    own = fine_tuned.forecaster(ZONE)
    as_it_is, mirrored = own.forecast(panel), own.forecast(replace(panel, values=-panel.values))
    np.testing.assert_allclose(mirrored, -as_it_is[:, :, ::-1], rtol=1e-6)
    one_way = replace(own, both_ways=False)
    assert not np.allclose(one_way.forecast(panel), as_it_is, rtol=1e-3)


def test_a_mirrored_window_is_the_window_upside_down(panel: Panel) -> None:
    rows, origins = np.array([0, 0]), np.array([600, 600])
    examples = _Examples(panel, ZONE).at(rows, origins, np.array([False, True]))
    np.testing.assert_allclose(examples.truth[1], -examples.truth[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(examples.size[1], examples.size[0], rtol=1e-6)
    plain = _Examples(panel, ZONE).at(rows, origins)
    np.testing.assert_array_equal(plain.truth[0], examples.truth[0])


def test_the_same_series_and_seed_give_the_same_weights(panel: Panel, fine_tuned: FineTuned) -> None:
    again = tuned(panel)
    for name, array in fine_tuned.refined.items():
        np.testing.assert_array_equal(again.refined[name], array)
    other = tuned(panel, seed=2)
    assert not np.array_equal(other.refined["out/kernel"], fine_tuned.refined["out/kernel"])


def test_what_the_backtest_judges_has_not_learned_from_the_holdout_window(
    panel: Panel, fine_tuned: FineTuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bts_assets.pretraining.training import FineTuner

    found = []
    for shift in (0.0, 7.0):
        values = panel.values.copy()
        values[:, holdout_origins(panel)[0] :] += shift * np.arange(values.shape[1] - holdout_origins(panel)[0])
        falling = count(0, -1)
        # The holdout loss only decides when to stop: here it always falls.
        monkeypatch.setattr(FineTuner, "loss", lambda *_, falling=falling: float(next(falling)))
        found.append(tuned(panel_of(values)))
    for name, array in found[0].judged.items():
        np.testing.assert_array_equal(found[1].judged[name], array)
    assert not np.array_equal(found[1].refined["out/kernel"], found[0].refined["out/kernel"])


def test_where_the_holdout_loss_never_falls_there_is_no_such_candidate(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bts_assets.pretraining.training import FineTuner

    rising = count()
    monkeypatch.setattr(FineTuner, "loss", lambda *_: float(next(rising)))
    assert fine_tune(panel, holdout_origins(panel), STEPS, 1, ZONE, lambda: False) is None


def test_without_time_nothing_is_learned(panel: Panel) -> None:
    assert fine_tune(panel, holdout_origins(panel), STEPS, 1, ZONE, lambda: True) is None


def test_a_history_without_a_holdout_window_is_said_to_be_too_short() -> None:
    short = panel_of(sweeps(days=1))
    with pytest.raises(TooLittleHistoryError, match="too little history"):
        fine_tune(short, holdout_origins(short), STEPS, 1, ZONE, lambda: False)


@pytest.mark.parametrize(
    ("step", "horizon"),
    [pytest.param(60, 24, id="steps"), pytest.param(15, 72, id="bins-of-two"), pytest.param(1, 24, id="bins-of-eight")],
)
def test_a_window_is_read_as_it_is_at_night(step: int, horizon: int) -> None:
    grid = Grid(timedelta(minutes=step), timedelta(days=7), timedelta(hours=horizon))
    values = np.cumsum(np.random.default_rng(3).standard_normal((2, 9 * grid.steps_per_day)), axis=1)
    panel = panel_of(values, grid)
    origin = panel.steps - grid.horizon_steps
    windows = _Examples(panel, ZONE).at(np.array([0, 1]), np.array([origin, origin]))
    changed = values.copy()
    changed[:, origin:] = 1e6
    known = _Examples(panel_of(changed, grid), ZONE).at(np.array([0, 1]), np.array([origin, origin]))
    for mine, its in zip(windows.reading.inputs, known.reading.inputs, strict=True):
        np.testing.assert_array_equal(mine, its)
    read: list[np.ndarray] = []
    forecaster = PretrainedForecaster.shipped(ZONE)
    night = panel.until(panel.steps - origin)
    with pytest.MonkeyPatch.context() as patch:
        from bts_assets.forecasting import pretrained

        patch.setattr(pretrained, "forward", lambda _, w, *inputs: read.extend(inputs) or _flat(inputs[1]))
        forecaster.forecast(night)
    for mine, its in zip(windows.reading.inputs, read, strict=True):
        np.testing.assert_allclose(mine, its[:2], atol=1e-5)
    bins = -(-grid.horizon_steps // bin_width(grid.steps_per_day, grid.horizon_steps))
    assert np.isfinite(windows.truth[:, :bins]).all()
    assert np.isnan(windows.truth[:, bins:]).all()


def test_a_context_that_never_moved_teaches_nothing(panel: Panel) -> None:
    origin = panel.steps - GRID.horizon_steps
    values = panel.values.copy()
    values[0, :origin] = 7.0
    values[1, :origin] = np.nan
    windows = _Examples(panel_of(values), ZONE).at(np.arange(3), np.full(3, origin))
    assert windows.weight[:2].tolist() == windows.size[:2].tolist() == [0.0, 0.0]
    assert windows.weight[2] > 0
    assert windows.size[2] > 0
    assert np.isfinite(windows.truth[:, : GRID.horizon_steps]).all()


def _flat(bases: np.ndarray) -> np.ndarray:
    return np.zeros((len(bases), bases.shape[1] * bases.shape[2], 9), np.float32)


@pytest.fixture(scope="module")
def fitted(panel: Panel) -> Iterator[FittedBundle]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(efforts.EFFORTS, "quick", Work(20, 20, 1, 1000, tune_steps=STEPS))
        yield fit_bundle(panel, CATALOGUE, effort="quick", seed=1)


def test_a_model_version_keeps_it_and_its_night_asks_it(fitted: FittedBundle, panel: Panel) -> None:
    assert fitted.figures["fine_tuning_steps"] >= STEPS
    assert "fine_tuned" in set(fitted.scores["candidate"])
    assert "fine_tuned" in fitted.bundle.weights.candidates
    kept = Bundle.from_files(fitted.bundle.files())
    assert kept.digest == fitted.bundle.digest
    served = load_forecasters(kept, CATALOGUE)["fine_tuned"]
    assert isinstance(served, AsLevels)
    expected = PretrainedForecaster.fine_tuned(fitted.bundle.fine_tuned, ZONE).forecast(panel)
    np.testing.assert_array_equal(served.forecaster.forecast(panel), expected)
    assert not np.array_equal(fitted.bundle.fine_tuned["out/kernel"], shipped()["out/kernel"])


def test_a_model_version_without_it_has_no_such_candidate(fitted: FittedBundle) -> None:
    bundle = Bundle.from_files(replace(fitted.bundle, fine_tuned={}).files())
    assert "fine_tuned" not in load_forecasters(bundle, CATALOGUE)


def test_who_asks_for_none_gets_none(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(efforts.EFFORTS, "quick", Work(20, 20, 1, 1000, tune_steps=STEPS))
    without = fit_bundle(panel, CATALOGUE, effort="quick", seed=1, fine_tuning=False)
    assert not without.bundle.fine_tuned
    assert without.figures["fine_tuning_steps"] == 0
    assert "fine_tuned" not in set(without.scores["candidate"])


def test_a_loss_that_is_not_a_number_costs_no_other_candidate(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    from bts_assets.pretraining.training import FineTuner

    monkeypatch.setitem(efforts.EFFORTS, "quick", Work(20, 20, 1, 1000, tune_steps=STEPS))
    monkeypatch.setattr(FineTuner, "train", lambda *_: float("nan"))
    fitted = fit_bundle(panel, CATALOGUE, effort="quick", seed=1)
    assert fitted.failures == {"fine_tuned": "the loss of fine-tuning is nan at step 1"}
    assert not fitted.bundle.fine_tuned
    assert {"lstm", "linear", "pretrained"} <= set(fitted.scores["candidate"])

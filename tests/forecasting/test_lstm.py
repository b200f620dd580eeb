import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from small_panels import CATALOGUE, GRID, daily_values, make_panel
from threadpoolctl import threadpool_info, threadpool_limits

from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN
from bts_assets.forecasting import efforts, fit, linear, lstm_network, lstm_training, training_plan
from bts_assets.forecasting.architecture import UNNAMED, design
from bts_assets.forecasting.batch import load_forecasters, make_batch
from bts_assets.forecasting.efforts import Work
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.forecasting.lstm_training import LstmTraining
from bts_assets.forecasting.scaling import AsinhScales, own_scale
from bts_assets.forecasting.windows import (
    TrainingWindows,
    holdout_origins,
    latest_context,
    minimum_past,
    take_series,
)

pytestmark = pytest.mark.slow

UTC = ZoneInfo("UTC")


def test_the_same_data_and_seed_give_the_same_model_version(
    fitted: FittedBundle, panel: Panel, tiny_effort: None
) -> None:
    again = fit_bundle(panel, CATALOGUE, effort="quick", seed=7)
    assert again.bundle.digest == fitted.bundle.digest
    other = fit_bundle(panel, CATALOGUE, effort="quick", seed=8)
    assert other.bundle.digest != fitted.bundle.digest


def test_training_learns(fitted: FittedBundle) -> None:
    first_seed = fitted.curve[fitted.curve["seed"] == 0]
    assert first_seed["loss"].iloc[-1] < first_seed["loss"].iloc[0]
    assert fitted.figures["steps"] == fitted.figures["windows_trained"] / 256
    assert fitted.figures["seeds"] == 2
    assert not fitted.failures
    assert not fitted.truncated


def test_the_embedding_of_parameters_that_training_does_not_see_is_trained_like_the_others(panel: Panel) -> None:
    training = LstmTraining(panel, holdout_origins(panel), Work(60, 20, 1, 1000), 1, UTC, Hyperparameters(), None)
    training.run(lambda: False)
    (name,) = (name for name in training.refined[0] if "parameter" in name)
    training.network.start(1)
    moved = np.abs(training.refined[0][name] - training.network.weights()[name]).mean(axis=1)
    assert moved[UNNAMED] > 0.1 * moved[UNNAMED + 1 :].mean()


def test_a_step_has_as_many_windows_as_are_asked_for(panel: Panel) -> None:
    work = Work(20, 20, 1, 1000)
    training = LstmTraining(panel, holdout_origins(panel), work, 1, UTC, Hyperparameters(batch=48), None)
    training.run(lambda: False)
    assert training.figures["windows_trained"] == 48 * training.figures["steps"] > 0


def test_the_lstm_is_judged_before_it_is_trained_on_the_holdout_window(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = panel.values.copy()
    changed[:, holdout_origins(panel)[0] :] = 1e4
    monkeypatch.setitem(efforts.EFFORTS, "quick", Work(20, 20, 1, 1000))
    judged, refined = [], []
    for values in (panel.values, changed):
        changed_panel = make_panel(values, panel.parameter_id.tolist())
        training = LstmTraining(
            changed_panel, holdout_origins(panel), efforts.EFFORTS["quick"], 1, UTC, Hyperparameters(), None
        )
        training.run(lambda: False)
        judged.append(training.judged[0])
        refined.append(training.refined[0])
    assert all(np.array_equal(judged[0][name], judged[1][name]) for name in judged[0])
    assert not all(np.array_equal(refined[0][name], refined[1][name]) for name in refined[0])


@pytest.mark.parametrize(("best_after", "refined"), [(1, 20), (2, 40), (5, 100)])
def test_what_was_best_after_a_part_of_its_steps_takes_that_part_of_them_with_the_holdout_window(
    panel: Panel, best_after: int, refined: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bts_assets.forecasting import lstm

    losses = iter([*range(best_after, 0, -1), *[9.0] * 5])
    monkeypatch.setattr(lstm.TrainingData, "validation_loss", lambda *_: next(losses))
    monkeypatch.setattr(training_plan, "MAXIMUM_EPOCHS", 1000)
    monkeypatch.setattr(training_plan, "REFINED_SHARE", 0.0001)
    monkeypatch.setattr(lstm_training, "PATIENCE", 1.0)
    work = Work(5 * lstm.STEPS_PER_CALL, 5 * lstm.STEPS_PER_CALL, 1, 1000)
    training = LstmTraining(panel, holdout_origins(panel), work, 1, UTC, Hyperparameters(), None)
    training.run(lambda: False)
    assert training.figures["steps"] == 5 * lstm.STEPS_PER_CALL + refined


def test_the_linear_map_takes_a_window_in_the_units_that_the_lstm_does(panel: Panel) -> None:
    past = latest_context(panel).values.astype(np.float32)
    past[0, 5:30] = np.nan
    past[1, -6:] = np.nan
    arch = design(GRID, panel.parameter_id, Hyperparameters(), 1)
    expected = lstm_network._own_scale(lstm_network.NUMPY, arch, past, np.isfinite(past))
    for mine, its in zip(own_scale(past, GRID.steps_per_day), expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4)


@pytest.mark.parametrize("calm", ["positive", "narrow"])
def test_a_context_is_served_in_the_units_that_it_was_learned_in(
    calm: str, tiny_effort: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A history that crosses zero has contexts that do not; one that varies widely has contexts that do not."""
    from bts_assets.forecasting import lstm

    rhythm = daily_values(3) - 40
    values = rhythm + 12 if calm == "positive" else np.abs(5 * rhythm)
    values[:, -GRID.context_steps :] = 40 + 12 * (calm == "positive") + rhythm[:, -GRID.context_steps :]
    whole = make_panel(values, [1, 1, 1])
    fitted = fit_bundle(whole, CATALOGUE, effort="quick", seed=7)
    served = list(load_forecasters(fitted.bundle, CATALOGUE).values())
    seen = {}
    by_the_lstm, by_the_map = lstm_network.predict, linear._inputs
    monkeypatch.setattr(lstm_network, "predict", lambda *a: [seen.update(lstm=a[2]), by_the_lstm(*a)][1])
    monkeypatch.setattr(linear, "_inputs", lambda *a: [seen.update(linear=a[0]), by_the_map(*a)][1])
    for forecaster in served:
        forecaster.forecast(whole)
    training = LstmTraining(whole, holdout_origins(whole), Work(1, 1, 1, 1), 7, UTC, Hyperparameters(), None)
    data = lstm.TrainingData(whole, design(GRID, whole.parameter_id), UTC, whole.steps, training.scales)
    learned = data.values[:, -GRID.context_steps :]
    for name in ("lstm", "linear"):
        given = seen[name].astype(np.float64)
        unit = [(v - v.mean(axis=1, keepdims=True)) / v.std(axis=1, keepdims=True) for v in (given, learned)]
        np.testing.assert_allclose(*unit, atol=1e-4, err_msg=name)


NOISE = 0.1 * np.random.default_rng(5).normal(size=daily_values(1).size)


@pytest.mark.parametrize("earlier", [0, 5])
@pytest.mark.parametrize(
    "before", [np.nan, 0.0, NOISE, 1e-9 * NOISE], ids=["new", "at rest", "hardly moving", "in nano"]
)
def test_a_series_that_changes_its_units_spoils_no_other(
    before: float | np.ndarray, earlier: int, tiny_effort: None
) -> None:
    """It does in or shortly before the holdout window, whose end all are trained on."""
    values = daily_values(4)
    alone = make_panel(values, [1] * 4)
    new = np.vstack([values, 1e3 * values[:1]])
    begins = holdout_origins(alone)[0] - earlier
    new[-1, :begins] = np.broadcast_to(before, new.shape[1])[:begins]
    losses, errors = [], []
    for panel in (alone, make_panel(new, [1] * 5)):
        known = panel.until(GRID.horizon_steps)
        training = LstmTraining(known, holdout_origins(known), Work(60, 60, 1, 1000), 1, UTC, Hyperparameters(), None)
        training.run(lambda: False)
        losses.append(training.curve[-1][-1])
        forecaster = lstm_network.LstmForecaster(training.network.arch, tuple(training.refined), UTC, training.scales)
        given = forecaster.forecast(known)[:4, :, MEDIAN]
        errors.append(np.abs(given - values[:, -GRID.horizon_steps :]).mean())
    assert losses[1] == pytest.approx(losses[0], rel=1)
    assert errors[1] < 1.1 * errors[0]


def test_series_that_began_late_do_not_decide_when_training_stops() -> None:
    """They have no say before they were trained on, however many they are."""
    values = np.repeat(daily_values(1), 300, axis=0)
    panel = make_panel(values, [1] * 300)
    panel.values[1:, : holdout_origins(panel)[0]] = np.nan
    alone = take_series(panel, np.array([0]))
    rows, origins = training_plan.validation_windows(np.array([0]), holdout_origins(panel), np.random.default_rng(1))
    assert set(rows) == {0}
    assert set(origins) == set(holdout_origins(panel))
    curves = []
    for given in (alone, panel):
        training = LstmTraining(given, holdout_origins(panel), Work(40, 20, 1, 1), 1, UTC, Hyperparameters(), None)
        training.run(lambda: False)
        curves.append([row[-1] for row in training.curve])
    assert min(curves[1]) > 0
    assert curves[1] == pytest.approx(curves[0], rel=1)


def test_what_never_moves_leaves_a_version_without_lstm(tiny_effort: None) -> None:
    fitted = fit_bundle(make_panel(np.full((3, 240), 7.0), [1] * 3), CATALOGUE, effort="quick", seed=7)
    assert fitted.bundle.lstm_failure == training_plan.NO_WINDOW
    batch = make_batch(fitted.bundle, make_panel(np.full((3, 240), 7.0), [1] * 3), CATALOGUE)
    np.testing.assert_allclose(batch.quantiles, 7.0, atol=0.5)


def test_forecasts_follow_the_unit_of_the_series(fitted: FittedBundle, panel: Panel) -> None:
    forecaster = load_forecasters(fitted.bundle, CATALOGUE)["lstm"]
    some = take_series(panel, np.array([0, 1]))
    scaled = Panel(GRID, some.station_id, some.parameter_id, some.end, some.values * 1e7 - 5e8)
    expected = forecaster.forecast(some) * 1e7 - 5e8
    np.testing.assert_allclose(forecaster.forecast(scaled), expected, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 5, 13, 48, 400])
def test_any_history_is_served_or_left_out(fitted: FittedBundle, steps: int) -> None:
    values = np.pad(daily_values(5), [(0, 0), (160, 0)], constant_values=np.nan)[:, -steps:]
    values[1] = np.nan
    values[2] = 7.0
    values[3] = 0.0
    values[3, -1] = 1e6
    forecaster = load_forecasters(fitted.bundle, CATALOGUE)["lstm"]
    quantiles = forecaster.forecast(make_panel(values, [1, 2, 1, 2, 777]))
    enough = np.isfinite(values[:, -GRID.context_steps :]).sum(axis=1) >= minimum_past(GRID)
    assert np.isfinite(quantiles[enough]).all()
    assert np.isnan(quantiles[~enough]).all()
    assert (np.diff(quantiles[enough], axis=2) >= 0).all()
    if enough[2]:
        np.testing.assert_allclose(quantiles[2], 7.0, rtol=1e-4)


def test_a_loss_that_is_not_a_number_leaves_a_version_without_lstm(
    panel: Panel, tiny_effort: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bts_assets.forecasting import lstm

    monkeypatch.setattr(lstm.LstmNetwork, "train", lambda *_: float("nan"))
    fitted = fit_bundle(panel, CATALOGUE, effort="quick", seed=7)
    assert fitted.bundle.lstm == ()
    assert fitted.bundle.lstm_failure == "the loss is nan at step 20 of seed 0"
    assert set(fitted.scores["candidate"]) == {
        "linear",
        "pretrained",
        "daily_profile",
        "last_value",
        "window_median",
        "seasonal_naive_day",
        "mean_increment",
        "served",
    }
    assert "lstm" not in fitted.bundle.weights.candidates
    assert make_batch(fitted.bundle, panel, CATALOGUE).ledger["status"].isin(["fallback", "excluded"]).all()


@pytest.mark.parametrize(
    ("days", "share"),
    [
        pytest.param(60, training_plan.OF_THAT_HOUR, id="in-a-long-history"),
        pytest.param(6, 0.25, id="no-window-by-heart"),
    ],
)
def test_training_leans_to_the_hour_of_the_night(
    tiny_effort: None, monkeypatch: pytest.MonkeyPatch, days: int, share: float
) -> None:
    from bts_assets.forecasting import lstm

    asked = []
    draw = TrainingWindows.draw

    def spy(windows: TrainingWindows, rng: np.random.Generator, *size: int, of_that_hour: float) -> Any:
        asked.append((windows.cut, of_that_hour))
        return draw(windows, rng, *size, of_that_hour=of_that_hour)

    monkeypatch.setattr(TrainingWindows, "draw", spy)
    # Which windows are asked for does not hang on what is learned from them; compiling for two more shapes takes long.
    monkeypatch.setattr(lstm.LstmNetwork, "train", lambda *_: 0.5)
    panel = make_panel(daily_values(6, days), [1] * 6)
    fit_bundle(panel, CATALOGUE, effort="quick", seed=7)
    cuts, shares = zip(*asked, strict=True)
    assert set(cuts) == {holdout_origins(panel)[0], panel.steps}
    assert min(shares) > 0
    assert (max(shares) < share) if days == 6 else (set(shares) == {share})


@pytest.mark.parametrize("hours", [0, 14, 25])
def test_too_little_history_leaves_a_version_without_lstm(hours: int) -> None:
    fitted = fit_bundle(make_panel(daily_values(2)[:, :hours], [1, 2]), CATALOGUE, effort="quick", seed=1)
    assert fitted.bundle.lstm_failure is not None
    assert fitted.bundle.lstm_failure.startswith("too little history")


def test_the_ceiling_on_time_truncates(panel: Panel, tiny_effort: None) -> None:
    seconds = iter(range(1000))
    told: list[tuple[str, int, int]] = []
    fitted = fit_bundle(
        panel,
        CATALOGUE,
        effort="quick",
        seed=7,
        max_seconds=2.5,
        clock=lambda: float(next(seconds)),
        on_progress=lambda *report: told.append(report),
    )
    assert fitted.truncated
    assert fitted.figures["steps"] == 40
    done = [number for stage, number, total in told if (stage, total) == ("training", 200)]
    assert len(done) == 3
    assert 0 < done[0] < done[1] <= done[2] == 100


def test_a_training_has_one_thread_of_blas_whatever_runs_beside_it(
    panel: Panel, tiny_effort: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The linear model's bits depend on it, and forecasts of the LSTM beside it set it, too."""
    seen = []
    fit_linear = fit._fit_linear

    def spy(*given: Any) -> Any:
        for _ in range(2):
            seen.append({pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"})
            with threadpool_limits(1, "blas"):
                pass
        return fit_linear(*given)

    monkeypatch.setattr(fit, "_fit_linear", spy)
    with threadpool_limits(2, "blas"):
        fit_bundle(panel, CATALOGUE, effort="quick", seed=7)
    assert seen == [{1}, {1}]


def test_nothing_but_the_lstm_module_loads_tensorflow() -> None:
    rooms = "from bts_assets.forecasting import batch, bundle, fit, lstm_network, pretrained"
    code = f"import sys; {rooms}; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_answers_in_eight_threads_are_the_serial_ones_to_the_bit(panel: Panel) -> None:
    from bts_assets.forecasting import lstm

    network = lstm.network(design(GRID, panel.parameter_id, Hyperparameters(), 1))
    seeds = []
    for seed in range(3):
        network.start(seed)
        noise = np.random.default_rng(seed)
        # As if trained: fresh weights give the base forecast, whichever they are.
        seeds.append({name: w + noise.normal(0, 0.1, w.shape).astype(w.dtype) for name, w in network.weights().items()})
    forecaster = lstm_network.LstmForecaster(network.arch, tuple(seeds), UTC, AsinhScales())
    questions = [replace(take_series(panel, slice(0, 2)), values=panel.values[:2] + shift) for shift in range(8)]
    serial = [forecaster.forecast(question) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(forecaster.forecast, questions * 5))
    wrong = [k for k, answer in enumerate(answers) if answer.tobytes() != serial[k % 8].tobytes()]
    assert len(answers) == 40
    assert wrong == []


@pytest.mark.parametrize(
    "grid",
    [
        Grid(timedelta(minutes=15), 7 * DAY, 2 * DAY),
        Grid(timedelta(hours=1), 14 * DAY, 2 * DAY),
        Grid(timedelta(minutes=30), DAY / 2, DAY / 4),
        Grid(timedelta(hours=1), 3 * DAY, DAY),
    ],
    ids=["a week", "two weeks", "half a day", "three days"],
)
def test_numpy_serves_what_tensorflow_trains(grid: Grid) -> None:
    from bts_assets.forecasting import lstm

    arch = design(grid, np.array([1, 2, 3]), Hyperparameters(), 1)
    network, rng = lstm.LstmNetwork(arch, 0.0), np.random.default_rng(1)
    network.start(1)
    weights = {n: (w + rng.normal(0, 0.1, w.shape)).astype(np.float32) for n, w in network.weights().items()}
    network.load(weights)
    assert {name: w.shape for name, w in weights.items()} == lstm_network.shapes(arch)
    past = (100 + rng.normal(0, 1, (40, arch.context_steps)).cumsum(axis=1)).astype(np.float32)
    past[rng.random(past.shape) < 0.3] = np.nan
    past[0], past[1, :-1], past[2] = np.nan, np.nan, 0.0
    when = rng.normal(0, 1, (40, lstm_network.DESCRIPTORS - 4)).astype(np.float32)
    inputs = (past, when, np.arange(40, dtype=np.int32) % (len(arch.parameters) + 1))
    served = lstm_network.predict(weights, arch, *inputs)
    trained = network._forward(*map(lstm.tf.constant, inputs)).numpy()
    assert np.ptp(served[3:], axis=(1, 2)).min() > 0.1, "what every network gives says nothing"
    np.testing.assert_allclose(served, trained, rtol=1e-4, atol=1e-4)
    alone = [lstm_network.predict(weights, arch, *(part[k : k + 1] for part in inputs)) for k in range(40)]
    assert np.concatenate(alone).tobytes() == served.tobytes()


def test_forecasting_with_an_lstm_loads_no_tensorflow(fitted: FittedBundle, panel: Panel) -> None:
    asked = pickle.dumps((fitted.bundle, panel, CATALOGUE))
    code = (
        "import pickle, sys; from bts_assets.forecasting.batch import make_batch;"
        " made = make_batch(*pickle.load(sys.stdin.buffer)); print(made.quantiles.tobytes().hex());"
        " assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=asked, capture_output=True, check=True)
    assert "lstm" in fitted.bundle.weights.candidates
    assert bytes.fromhex(done.stdout.decode()) == make_batch(fitted.bundle, panel, CATALOGUE).quantiles.tobytes()


def test_weights_that_do_not_fit_are_refused() -> None:
    arch = design(GRID, np.array([1, 2]), Hyperparameters(), 1)
    weights = {name: np.zeros(shape, np.float32) for name, shape in lstm_network.shapes(arch).items()}
    name = next(iter(weights))
    inputs = (np.zeros((1, GRID.context_steps), np.float32), np.zeros((1, 8), np.float32), np.zeros(1, np.int32))
    with pytest.raises(ValueError, match=f"{name} has shape"):
        lstm_network.predict(weights | {name: weights[name][:1]}, arch, *inputs)
    with pytest.raises(KeyError):
        lstm_network.predict({k: w for k, w in weights.items() if k != name}, arch, *inputs)

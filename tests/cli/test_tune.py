"""bts tune: what is tried first and next, what a stopped study remembers, what is written, and what goes wrong."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from math import inf, log
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from nights import NIGHT, HomeMaker

from bts_assets.cli.commands import tune as tune_command
from bts_assets.cli.commands.tune import as_settings
from bts_assets.contracts.hyperparameters import Hyperparameters, bounds
from bts_assets.contracts.progress import OnProgress
from bts_assets.forecasting import efforts
from bts_assets.services import trials, tuning
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import ingest
from bts_assets.services.observe import compute_due_days
from bts_assets.services.trials import CAP, Task, TrialOutcome, Worker, scaled_pinball, try_out
from bts_assets.services.tuning import TuningError, tune
from bts_assets.settings import load_settings

DOWN = "http://127.0.0.1:9"
GRID = {"step": timedelta(hours=1), "context": timedelta(days=1), "horizon": timedelta(hours=6)}
MINUTE = 60.0


@pytest.fixture(scope="module")
def observed(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], small_network: Any
) -> Iterator[Home]:
    """A home that observed the small network."""
    home = open_home(load_settings(home=tmp_path_factory.mktemp("observed"), database_url=new_database(), **GRID))
    ingest(with_settings(home, file_stable_for=timedelta(0)), small_network.landing, now=NIGHT)
    compute_due_days(home)
    yield home
    home.engine.dispose()


SEEDS = count(1)


@pytest.fixture
def home(observed: Home, tmp_path: Path) -> Home:
    """The same observations, for a study of the test's own: another folder, another seed."""
    return with_settings(observed, home=tmp_path / "home", seed=next(SEEDS))


@pytest.fixture
def tiny_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(efforts.EFFORTS, "quick", replace(efforts.EFFORTS["quick"], steps=20, refine_steps=20))


@contextmanager
def here(task: Task) -> Iterator[trials.TryOut]:
    """Trains for real, in this process, which a test's patches reach."""
    yield partial(try_out, task)


def distance(chosen: Hyperparameters) -> float:
    """A loss that needs no training; the defaults have 1, and twice their learning rate none."""
    return abs(log(chosen.learning_rate / 8e-3) / log(2))


class Told:
    """Stands for training: gives each trial the loss that it is told, and remembers what was asked."""

    def __init__(self, loss: Callable[[Hyperparameters], float | None] = distance) -> None:
        self.loss = loss
        self.asked: list[Hyperparameters] = []
        self.seconds: list[float] = []

    def __call__(self, task: Task) -> AbstractContextManager[trials.TryOut]:
        return self.answering()

    @contextmanager
    def answering(self) -> Iterator[trials.TryOut]:
        yield self.answer

    def answer(
        self, chosen: Hyperparameters, max_seconds: float, on_progress: OnProgress | None = None
    ) -> TrialOutcome:
        self.asked.append(chosen)
        self.seconds.append(max_seconds)
        loss = self.loss(chosen)
        return TrialOutcome(loss, None if loss is not None else "told to fail")


def with_settings(home: Home, /, **settings: Any) -> Home:
    return replace(home, settings=load_settings(**{**dict(home.settings), **settings}))


def runs(home: Home) -> list[Any]:
    import mlflow

    client = mlflow.MlflowClient(home.mlflow_tracking_uri)
    experiment = client.get_experiment_by_name("bts-tuning")
    found = client.search_runs([experiment.experiment_id], f"tags.seed = '{home.settings.seed}'")
    return sorted(found, key=lambda run: int(run.data.tags["trial"]))


def test_the_present_settings_are_tried_first_and_then_others_within_bounds(home: Home) -> None:
    home = with_settings(home, lstm_width=200, lstm_learning_rate=0.0123)
    told = Told()
    tuned = tune(home, seconds=MINUTE, trials=12, worker=told)
    assert told.asked[0] == home.settings.hyperparameters == Hyperparameters(width=200, learning_rate=0.0123)
    assert tuned.present is not None
    assert tuned.present.number == 0
    assert len(set(told.asked)) == 12
    for name, bound in bounds().items():
        assert all(bound.least <= asked.to_dict()[name] <= bound.most for asked in told.asked), name
    assert [trial.loss for trial in tuned.trials] == sorted(distance(asked) for asked in told.asked)
    assert tuned.best.loss == min(distance(asked) for asked in told.asked) < tuned.present.loss


def test_a_stopped_study_goes_on_as_if_it_had_not_been(home: Home) -> None:
    stopped, whole = Told(), Told()
    tune(home, seconds=MINUTE, trials=11, worker=stopped)
    known: list[int] = []
    tuned = tune(home, seconds=MINUTE, trials=2, worker=stopped, on_start=lambda t: known.append(len(t.trials)))
    assert known == [11]
    assert [trial.number for trial in sorted(tuned.trials, key=lambda t: t.number)] == list(range(13))
    shutil.rmtree(home.settings.home / "tuning")
    tune(home, seconds=MINUTE, trials=13, worker=whole)
    assert stopped.asked == whole.asked


def test_what_was_interrupted_within_a_trial_goes_on_with_another(home: Home) -> None:
    def interrupt(_: Hyperparameters) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(home, seconds=MINUTE, trials=1, worker=Told(interrupt))
    told = Told()
    tuned = tune(home, seconds=MINUTE, trials=2, worker=told)
    assert told.asked[0] == home.settings.hyperparameters
    assert [trial.number for trial in tuned.trials if trial.hyperparameters == told.asked[0]] == [1]


def test_other_observations_another_effort_or_seed_are_another_study(home: Home) -> None:
    def study(home: Home) -> str:
        return tune(home, seconds=MINUTE, trials=1, worker=Told()).study

    first = study(home)
    assert study(home) == study(with_settings(home, lstm_width=32)) == first
    others = {study(with_settings(home, **one)) for one in ({"training_effort": "standard"}, {"seed": 0})}
    with home.engine.begin() as connection:
        raised = "SET values = ARRAY(SELECT value + 1 FROM unnest(values) AS value) WHERE parameter_id = 122"
        connection.execute(sa.text(f"UPDATE bts.observation_block {raised}"))
    others.add(study(home))
    assert len(others | {first}) == 4


def test_settings_that_the_study_does_not_know_are_tried_before_it_goes_on(home: Home) -> None:
    tune(home, seconds=MINUTE, trials=2, worker=Told())
    told = Told()
    tuned = tune(with_settings(home, lstm_width=99), seconds=MINUTE, trials=1, worker=told)
    assert told.asked == [Hyperparameters(width=99)]
    assert tuned.present is not None
    assert tuned.present.number == 2


def test_when_the_time_is_up_only_unknown_settings_are_still_tried(home: Home) -> None:
    told = Told()
    assert len(tune(home, seconds=0, worker=told).trials) == 1
    assert told.seconds == [home.settings.training_ceiling.total_seconds()]
    tune(home, seconds=0, worker=told)
    assert len(told.asked) == 1
    tune(home, seconds=MINUTE, trials=1, worker=told)
    assert 0 < told.seconds[1] <= MINUTE


def test_a_trial_that_fails_is_told_of_and_ends_nothing(home: Home) -> None:
    seen: list[tuning.Trial] = []
    told = Told(lambda chosen: None if len(told.asked) == 2 else distance(chosen))
    tuned = tune(home, seconds=MINUTE, trials=4, worker=told, on_trial=seen.append)
    assert [trial.loss is None for trial in seen] == [False, True, False, False]
    assert seen[1].reason == "told to fail"
    assert [trial.number for trial in sorted(tuned.trials, key=lambda t: t.number)] == [0, 2, 3]
    assert [run.info.status for run in runs(home)] == ["FINISHED", "FAILED", "FINISHED", "FINISHED"]
    assert [run.data.tags.get("reason") for run in runs(home)] == [None, "told to fail", None, None]


def test_where_every_trial_fails_the_search_ends_with_the_reason(home: Home) -> None:
    told = Told(lambda _: None)
    with pytest.raises(TuningError, match="no trial gave a loss: told to fail"):
        tune(home, seconds=MINUTE, worker=told)
    assert len(told.asked) == 3


@pytest.mark.slow
def test_a_real_trial_trains_with_what_it_is_given_and_is_an_mlflow_run(home: Home, tiny_effort: None) -> None:
    bars: set[str] = set()
    tuned = tune(home, seconds=5 * MINUTE, trials=2, worker=here, on_progress=lambda stage, *_: bars.add(stage))
    assert bars >= {"training", "backtest", "seconds"}
    first, second = runs(home)
    by_number = {trial.number: trial for trial in tuned.trials}
    for number, run in enumerate((first, second)):
        trial = by_number[number]
        assert run.data.params == {name: str(value) for name, value in trial.hyperparameters.to_dict().items()}
        assert run.data.metrics["loss"] == trial.loss
        assert 0 < trial.loss < CAP
        assert {"median_mase", "coverage80", "steps", "series"} <= run.data.metrics.keys()
        assert {"observations_digest", "code_version", "effort"} <= run.data.tags.keys()
        assert run.data.tags["study"] == tuned.study
    assert first.data.metrics["parameters"] != second.data.metrics["parameters"]


def test_whatever_training_throws_is_the_outcome(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError("no room\nfor it")

    monkeypatch.setattr(trials, "fit_bundle", broken)
    assert try_out(tuning._task(home), Hyperparameters(), inf) == TrialOutcome(None, "MemoryError: no room")


def test_a_trial_that_was_cut_short_is_not_compared(home: Home, tiny_effort: None) -> None:
    outcome = try_out(tuning._task(home), Hyperparameters(), 0)
    assert (outcome.loss, outcome.reason) == (None, "cut short: the time was up")


def test_mlflow_being_down_is_said_once_and_stops_nothing(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    down = with_settings(home, mlflow_tracking_uri=DOWN)
    with caplog.at_level(logging.WARNING, logger=tuning.__name__):
        tuned = tune(down, seconds=5 * MINUTE, trials=3, worker=Told())
    assert len(tuned.trials) == 3
    said = [record.getMessage() for record in caplog.records if record.name == tuning.__name__]
    assert len(said) == 1
    assert DOWN in said[0]


def scores(pinball: list[float], mae: list[float], mase: list[float], station: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"pinball": pinball, "mae": mae, "mase": mase, "station_id": station, "parameter_id": 1})


def test_a_series_that_hardly_ever_moves_does_not_rule_the_loss() -> None:
    # Scales are 1 and 0.001: the second series' one night of movement would be 1,000 of 2.
    both = scores([0.25, 0.35, 2.0, 0.0], [0.5, 0.7, 4.0, 1e-6], [0.5, 0.7, 4000.0, 1e-3], [1, 1, 2, 2])
    assert scaled_pinball(both[:2]) == pytest.approx(0.3)
    assert scaled_pinball(both) == pytest.approx((0.3 + (CAP + 0) / 2) / 2)


def test_a_horizon_without_error_counts_as_one() -> None:
    exact = scores([0.25, 0.0], [0.5, 0.0], [0.25, 0.0], [1, 1])
    assert scaled_pinball(exact) == pytest.approx((0.125 + 0) / 2)


def serve_or_die(connection: Connection, task: Task) -> None:
    """What a worker's process does here: the trial of width 8 is its last."""
    while True:
        chosen, _ = connection.recv()
        if chosen.width == 8:
            os._exit(9)
        connection.send(("training", os.getpid(), 1))
        connection.send(TrialOutcome(1.0))


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_serve", serve_or_die)
    pids: list[int] = []
    with Worker(None) as answer:  # type: ignore[arg-type] - this process asks for no task
        tell = lambda _, pid, __: pids.append(pid)  # noqa: E731
        assert answer(Hyperparameters(), inf, tell).loss == 1
        assert "ended with 9" in (answer(Hyperparameters(width=8), inf, tell).reason or "")
        assert answer(Hyperparameters(), inf, tell).loss == 1
        assert answer(Hyperparameters(), inf, tell).loss == 1
    assert pids[0] != pids[1] == pids[2]
    assert not Path(f"/proc/{pids[2]}").exists()


@pytest.mark.slow
def test_a_process_is_replaced_before_it_holds_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "_serve", serve_or_die)
    monkeypatch.setattr(trials, "_TRIALS_PER_PROCESS", 2)
    pids: list[int] = []
    with Worker(None) as answer:  # type: ignore[arg-type]
        for _ in range(4):
            answer(Hyperparameters(), inf, lambda _, pid, __: pids.append(pid))
    assert pids[0] == pids[1] != pids[2] == pids[3]


@pytest.mark.parametrize("scale", [1, -1], ids=["none_better", "better"])
def test_what_is_written_gives_a_new_process_those_settings(home: Home, tmp_path: Path, scale: int) -> None:
    tuned = tune(home, seconds=MINUTE, trials=4, worker=Told(lambda chosen: 2 + scale * abs(chosen.width - 64)))
    assert (tuned.best == tuned.present) == (scale == 1)
    assert tuned.best.hyperparameters == (tuned.present if scale == 1 else tuned.trials[0]).hyperparameters
    file = tmp_path / "a folder" / "tuned.env"
    file.parent.mkdir()
    file.write_text(as_settings(tuned), encoding="utf-8")
    script = "from bts_assets.settings import load_settings; print(load_settings().hyperparameters)"
    shell = f"set -a; . '{file}'; set +a; exec '{sys.executable}' -c '{script}'"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == repr(tuned.best.hyperparameters)


def bts_tune(*arguments: str, before: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    script = f"{before}\nfrom bts_assets.cli.app import main; main()"
    given = {f"BTS_{name.upper()}": str(value) for name, value in settings.items()}
    return subprocess.run(
        [sys.executable, "-c", script, "tune", *arguments],
        env=os.environ | {"COLUMNS": "200"} | given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def environment(home: Home) -> dict[str, Any]:
    grid = {"step": "1h", "context": "24h", "horizon": "6h"}
    own = {name: getattr(home.settings, name) for name in ("home", "database_url", "seed")}
    return own | grid


@pytest.mark.slow
def test_the_command_searches_says_what_it_found_and_writes_it(home: Home) -> None:
    done = bts_tune("--trials", "1", **environment(home))
    assert done.returncode == 0, done.stderr
    assert "is new: 45 series, observed until 2026-03-10 00:00 UTC" in done.stderr
    assert "The present settings are the best of 1" in done.stdout
    file = home.settings.home / "tuned.env"
    assert f". {file}" in done.stdout
    assert "BTS_LSTM_WIDTH=64\n" in file.read_text(encoding="utf-8")
    assert not list(home.settings.home.glob(".*.part"))


def test_the_best_trials_are_shown_and_how_much_better_they_are(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in environment(home).items():
        monkeypatch.setenv(f"BTS_{name.upper()}", str(value))
    losses = iter([0.4, 0.5, 0.3, None])
    monkeypatch.setattr(tuning, "tune", partial(tune, worker=Told(lambda _: next(losses))))
    tune_command.tune(trials=4, output=tmp_path / "best.env")
    said, told = capsys.readouterr()
    assert "no loss: told to fail" in told
    assert "Trial 2 is the best of 3: loss 0.3000, -25.0 % against 0.4000 of the present settings" in said
    rows = [line.split()[:3] for line in said.split("change")[1].splitlines()[1:4]]
    assert rows == [["2", "0.3000", "-25.0"], ["0", "0.4000", "present"], ["1", "0.5000", "+25.0"]]
    assert "trial 2" in (tmp_path / "best.env").read_text(encoding="utf-8").lower()


@pytest.mark.parametrize(
    ("arguments", "before", "line"),
    [
        pytest.param([], "", "nothing has been observed in", id="no_data"),
        pytest.param([], "import sys; sys.modules['optuna'] = None", "pip install 'bts-assets[tune]'", id="no_optuna"),
        pytest.param(["--effort", "enormous"], "", "'quick', 'standard' or 'thorough'", id="no_such_effort"),
        pytest.param(["--output", "/nowhere/at/all.env"], "", "/nowhere/at/all.env cannot be written", id="no_folder"),
    ],
)
def test_a_mistake_ends_in_one_clear_line(make_home: HomeMaker, arguments: list[str], before: str, line: str) -> None:
    done = bts_tune(*arguments, before=before, **environment(make_home(**GRID)))
    assert done.returncode in (1, 2, 3)
    assert line in done.stderr
    assert done.stderr.startswith("bts: ")
    assert done.stderr.count("\n") == 1

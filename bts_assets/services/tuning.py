"""A search for hyper-parameters: which are tried, on which observations, and with which results. It trains nothing.

The search is Optuna's (TPE: Bergstra et al., Algorithms for Hyper-Parameter Optimization, 2011). Its studies rest in an
SQLite file of the home, which neither a killed process nor a second one spoils; each trial is an MLflow run besides.
"""

import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.util import find_spec
from math import inf
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sqlalchemy as sa

from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.hyperparameters import Hyperparameters, bounds
from bts_assets.contracts.progress import OnProgress
from bts_assets.forecasting.fit import BACKTEST_SERIES
from bts_assets.forecasting.windows import take_series
from bts_assets.services.home import Home
from bts_assets.services.observe import read_settled_panel
from bts_assets.services.training import training_start
from bts_assets.services.trials import Task, TrialOutcome, TryOut, Worker
from bts_assets.storage.mlflow_experiments import TUNING
from bts_assets.storage.mlflow_registry import ModelStoreError, hushed, mlflow_errors
from bts_assets.storage.observations import count_series, observed_span
from bts_assets.storage.provenance import code_version

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)


#: Where none gave a loss, so many trials that fail show that more of them will too.
_HOPELESS: Final = 3

_REASON: Final = "reason"


class TuningError(BtsError):
    """There is nothing to search with, or on."""


@dataclass(frozen=True)
class Trial:
    """One trial that ended. loss: `scaled_pinball`; None where there was none, for the `reason` given."""

    number: int
    hyperparameters: Hyperparameters
    loss: float | None
    reason: str | None
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """Where a study stands. trials: those with a loss, best first. present: that of the present settings."""

    study: str
    series: int
    observed_until: datetime
    trials: tuple[Trial, ...]
    present: Trial | None

    @property
    def best(self) -> Trial:
        """The present settings, unless another trial has a smaller loss."""
        first = self.trials[0]
        return self.present if self.present and self.present.loss == first.loss else first


def require_optuna() -> None:
    if find_spec("optuna") is None:
        raise TuningError("bts tune needs Optuna, which is not installed: pip install 'bts-assets[tune]'")


def tune(
    home: Home,
    *,
    seconds: float,
    trials: int | None = None,
    worker: Callable[[Task], AbstractContextManager[TryOut]] = Worker,
    on_start: Callable[[Tuned], None] = lambda _: None,
    on_trial: Callable[[Trial], None] = lambda _: None,
    on_progress: OnProgress = lambda *_: None,
) -> Tuned:
    """Try hyper-parameters until `seconds`, or so many `trials`, are used up; go on where the last run stopped.

    Settings of now that the study does not know come first, and are tried to their end. Whatever else runs when the
    time is up is cut short, and not compared.

    Raises:
        TuningError: without observations, or if no trial ever gave a loss.
    """
    search = _Search(home, _task(home))
    before = search.standing()
    on_start(before)
    start, done = time.monotonic(), 0

    def tell(stage: str, part: int, whole: int) -> None:
        on_progress(stage, part, whole)
        on_progress("seconds", min(int(time.monotonic() - start), int(seconds)), int(seconds))

    with worker(search.task) as try_out:
        while trials is None or done < trials:
            first = before.present is None and not done
            left = home.settings.training_ceiling.total_seconds() if first else start + seconds - time.monotonic()
            if left <= 0:
                break
            trial = search.run(try_out, left, tell, present=first)
            done += 1
            on_trial(trial)
            if trial.loss is None and done >= _HOPELESS and not search.standing().trials:
                break
    standing = search.standing()
    if not standing.trials:
        raise TuningError(f"no trial gave a loss: {trial.reason}")
    return standing


def _task(home: Home) -> Task:
    """All that was observed within the span that training reads, of no more series than a backtest scores."""
    settings, grid = home.settings, home.settings.grid
    with home.engine.connect() as connection:
        span = observed_span(connection, grid)
    if span is None:
        raise TuningError(f"nothing has been observed in {settings.home} yet: run bts nightly, or bts ingest, first")
    end = span.end

    def start_of(connection: sa.Connection) -> datetime:
        return training_start(settings, span.start, end, count_series(connection))

    panel, _ = read_settled_panel(home, end, start_of)
    if len(panel) > BACKTEST_SERIES:
        drawn = np.random.default_rng(settings.seed).choice(len(panel), BACKTEST_SERIES, replace=False)
        panel = take_series(panel, np.sort(drawn))
    return Task(panel, home.catalogue, settings.training_effort, settings.seed, settings.timezone)


class _Search:
    """An Optuna study in the home: of one grid, one set of observations, one effort, one version of the code."""

    def __init__(self, home: Home, task: Task) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.CRITICAL)
        self.home, self.task = home, task
        grid = task.panel.grid
        # Whatever makes losses incomparable, or a trial's hyper-parameters others than those that are searched now.
        self.about = {
            "observations_digest": task.panel.digest,
            "catalogue_digest": task.catalogue.digest,
            "grid": [str(grid.step), str(grid.context), str(grid.horizon)],
            "effort": task.effort,
            "seed": task.seed,
            "zone": str(task.zone),
            "bounds": {name: asdict(b) for name, b in bounds().items()},
            "code_version": code_version(),
        }
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.name = f"{task.effort} {digest[:12]}"
        folder = home.settings.home / "tuning"
        folder.mkdir(parents=True, exist_ok=True)
        # Optuna does not expect two processes to make its tables at once.
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{folder / 'studies.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self.study = optuna.create_study(
                storage=storage, study_name=self.name, direction="minimize", load_if_exists=True
            )
        self.space = {name: _distribution(name) for name in bounds()}
        self.mlflow_answers = True

    def standing(self) -> Tuned:
        known = [_trial(t) for t in self.study.get_trials(deepcopy=False) if t.value is not None]
        compared = sorted(known, key=lambda t: (inf if t.loss is None else t.loss, t.number))
        present = next((t for t in compared if t.hyperparameters == self.home.settings.hyperparameters), None)
        return Tuned(self.name, len(self.task.panel), self.task.panel.end, tuple(compared), present)

    def run(self, try_out: TryOut, max_seconds: float, on_progress: OnProgress, *, present: bool) -> Trial:
        """One trial: of the present settings, or of what the study makes of the trials so far."""
        import optuna

        if present:
            self.study.enqueue_trial(self.home.settings.hyperparameters.to_dict())
        # Seeded anew by what is known: a study that was stopped goes on as if it had not been.
        known = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = optuna.samplers.TPESampler(seed=(self.task.seed + known) % 2**32)
        asked = self.study.ask(self.space)
        started = time.time()
        outcome = try_out(Hyperparameters(**asked.params), max_seconds, on_progress)
        if outcome.reason:
            asked.set_user_attr(_REASON, outcome.reason)
        self._log(asked.number, asked.params, outcome, started)
        state = optuna.trial.TrialState.COMPLETE if outcome.loss is not None else optuna.trial.TrialState.FAIL
        return _trial(self.study.tell(asked, outcome.loss, state))

    def _log(self, number: int, params: dict[str, Any], outcome: TrialOutcome, started: float) -> None:
        if not self.mlflow_answers:
            return
        try:
            self._log_run(number, params, outcome, started)
        except ModelStoreError as error:
            self.mlflow_answers = False
            log.warning("%s; the search goes on, and its trials are not logged there", error)

    def _log_run(self, number: int, params: dict[str, Any], outcome: TrialOutcome, started: float) -> None:
        models = self.home.models
        with mlflow_errors(models.tracking_uri), hushed():
            client = models.client()
            from mlflow.entities import Metric, Param

            now_ms = int(time.time() * 1000)
            figures = dict(outcome.figures) | ({} if outcome.loss is None else {"loss": outcome.loss})
            run = client.create_run(
                models.experiment(TUNING),
                start_time=int(started * 1000),
                run_name=f"{self.name}, trial {number}",
                tags={k: json.dumps(v) if isinstance(v, dict | list) else str(v) for k, v in self.about.items()}
                | {"study": self.name, "trial": str(number)}
                | ({_REASON: outcome.reason} if outcome.reason else {}),
            )
            client.log_batch(
                run.info.run_id,
                metrics=[Metric(k, v, now_ms, 0) for k, v in figures.items() if np.isfinite(v)],
                params=[Param(k, str(v)) for k, v in params.items()],
            )
            client.set_terminated(run.info.run_id, "FINISHED" if outcome.loss is not None else "FAILED", now_ms)


def _distribution(name: str) -> "optuna.distributions.BaseDistribution":
    import optuna

    b = bounds()[name]
    if isinstance(getattr(Hyperparameters, name), int):
        return optuna.distributions.IntDistribution(int(b.least), int(b.most), log=b.least > 0)
    return optuna.distributions.FloatDistribution(b.least, b.most, log=b.least > 0)


def _trial(ended: "optuna.trial.FrozenTrial") -> Trial:
    seconds = ended.duration.total_seconds() if ended.duration else 0.0
    return Trial(ended.number, Hyperparameters(**ended.params), ended.value, ended.user_attrs.get(_REASON), seconds)

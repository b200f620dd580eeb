"""Backtests of a home's observations, their scores as a file, and their record in MLflow. Nothing is published here.

In Postgres a backtest leaves nothing behind: no model version, no champion, no batch.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import BtsError, InputError
from bts_assets.contracts.grid import DAY, format_duration
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.work_sharing import Spread
from bts_assets.forecasting.backtest import (
    SERVED,
    RollingScores,
    covered,
    long_form,
    past_origins,
    rolling_backtest,
    summary,
)
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.plots import evaluation
from bts_assets.plots.style import attempted
from bts_assets.services.engine import engine, is_here
from bts_assets.services.home import Home, has_database, migrate_home, open_home, schema_standing
from bts_assets.services.ingest import ingest
from bts_assets.services.observe import compute_due_days, read_settled_panel
from bts_assets.services.temporary_home import closing_home, temporary_home
from bts_assets.services.training import fit_by, training_start
from bts_assets.settings import Settings
from bts_assets.storage.mlflow_experiments import BACKTESTS
from bts_assets.storage.mlflow_pages import run_page
from bts_assets.storage.mlflow_registry import ModelStore, hushed, import_mlflow, mlflow_errors
from bts_assets.storage.observations import count_series, observed_span
from bts_assets.storage.provenance import code_version, machine

#: Parameters whose coverage by step is drawn one by one.
_DRAWN_PARAMETERS: Final = 8


class NothingToTest(BtsError):
    """There are no observations that a backtest could be made of."""


@dataclass(frozen=True)
class Backtest:
    """What a backtest came to, and of what it was made: parameters are settings and plan, as text."""

    replayed: RollingScores
    origins: tuple[datetime, ...]
    parameters: Mapping[str, str]
    series: int
    observations_digest: str
    seconds: float

    @cached_property
    def summary(self) -> pd.DataFrame:
        return summary(self.replayed.scores)

    @property
    def digest(self) -> str:
        """SHA-256 of the Parquet file."""
        return hashlib.sha256(self.parquet).hexdigest()

    @property
    def name(self) -> str:
        effort = self.parameters["BTS_TRAINING_EFFORT"]
        many = "1 origin" if len(self.origins) == 1 else f"{len(self.origins)} origins"
        return f"until {self.origins[-1]:%Y-%m-%d %H:%M}, {many}, {effort}"

    @cached_property
    def parquet(self) -> bytes:
        """The scores in their long form, as a Parquet file."""
        out = BytesIO()
        long_form(self.replayed.scores).to_parquet(out, index=False)
        return out.getvalue()


def run_backtest(
    home: Home,
    origins: int,
    apart: timedelta | None = None,
    refit_every: int = 1,
    on_progress: OnProgress | None = None,
) -> Backtest:
    """Replay nights over all that the home observed; the horizon of the newest ends with it.

    `apart` is the time between origins: a day, as between nights, or the horizon where that is shorter.

    Raises:
        NothingToTest: if nothing was observed, or nothing that could be scored.
        TooFewOrigins: if so many do not fit.
    """
    settings, grid = home.settings, home.settings.grid
    compute_due_days(home, on_progress)
    with home.engine.connect() as connection:
        span, series = observed_span(connection, grid), count_series(connection)
    if span is None:
        raise NothingToTest("nothing has been observed yet: run `bts ingest` first, or name --landing")
    apart = apart or min(DAY, grid.horizon)
    chosen = past_origins(grid, span.start, span.end, origins, apart)

    start = training_start(settings, span.start, chosen[0], series)
    panel, _ = read_settled_panel(home, span.end, lambda _: start)
    clock = time.monotonic()
    # One training alone is done here, its statistical models by the workers.
    alone = is_here(settings) or origins <= refit_every
    with engine(settings, trains=not alone) as spread:
        replayed = rolling_backtest(
            panel,
            home.catalogue,
            chosen,
            _AsANight(settings, home.catalogue, span.start, series, spread if alone else map),
            refit_every=refit_every,
            on_progress=on_progress,
            spread=None if alone else spread,
        )
    if replayed.scores.empty:
        raise NothingToTest("nothing could be scored: after none of the origins was a series observed that is forecast")
    plan = {"origins": str(origins), "apart": format_duration(apart), "refit_every": str(refit_every)}
    ends = {"first_origin": chosen[0].isoformat(), "last_origin": chosen[-1].isoformat()}
    seconds = time.monotonic() - clock
    return Backtest(replayed, chosen, settings.public() | plan | ends, len(panel), panel.digest, seconds)


@dataclass(frozen=True)
class _AsANight:
    """Trains at an origin as a night would, of all that its home has; it can be sent to a worker, which opens no home.

    oldest: the first observation; series: how many there are.
    """

    settings: Settings
    catalogue: Catalogue
    oldest: datetime
    series: int
    spread: Spread

    def __call__(self, known: Panel, on_progress: OnProgress | None) -> FittedBundle:
        start = training_start(self.settings, self.oldest, known.end, self.series)
        steps = (known.end - start) // known.grid.step
        newest = Panel(known.grid, known.station_id, known.parameter_id, known.end, known.values[:, -steps:])
        return fit_by(self.settings, self.catalogue, newest, on_progress, self.spread)


@contextmanager
def opened(
    settings: Settings, landing: Path | None, on_progress: OnProgress | None = None, *, migrates: bool = False
) -> Iterator[Home]:
    """The home that is set; or a temporary one, which has observed the files of a landing folder as any home would.

    Raises:
        NothingToTest: if none of the files gave a valid reading.
        LandingFolderMissing: if there is no such folder.
    """
    if landing is None:
        with closing_home(settings, migrates=migrates) as home:
            yield home
        return
    with temporary_home(settings, landing_dir=landing) as home:
        _observe(home, landing, on_progress)
        yield home


def _observe(home: Home, landing: Path, on_progress: OnProgress | None) -> None:
    now = datetime.now(UTC)
    report = ingest(home, landing, now=now, on_progress=on_progress)
    if not report.accepted:
        why = next(iter({**report.refusals, **report.left}.items()), None)
        raise NothingToTest(
            f"--landing {landing}: none of {report.found} files gave a valid reading"
            + (f"; {why[0]}: {why[1]}" if why else "")
        )


@contextmanager
def place_for(path: Path | None) -> Iterator[Callable[[bytes], None]]:
    """Gives what puts bytes at `path`, whole or not at all; that they can be put there is tried at once. None: nowhere.

    Raises:
        BtsError: saying why they cannot.
    """
    if path is None:
        yield lambda data: None
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _writing(path):
        if path.is_dir():
            raise InputError(f"{path} cannot be written: it is a folder; name a file in it")
        file = partial.open("wb")

    def put(data: bytes) -> None:
        with _writing(path):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            partial.replace(path)

    try:
        with file:
            yield put
    finally:
        partial.unlink(missing_ok=True)


def keep(tested: Backtest, folder: Path) -> Path:
    """Put the scores into a folder, named by the newest origin and the digest of their bytes."""
    path = folder / f"{tested.origins[-1]:%Y%m%dT%H%M%SZ}-{tested.digest[:12]}.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    with place_for(path) as put:
        put(tested.parquet)
    return path


def pictures_of(tested: Backtest, catalogue: Catalogue) -> dict[str, bytes]:
    """File name -> PNG: errors per candidate, coverage stated and measured, coverage by step of what is served."""
    step, coverage = pd.Timedelta(tested.parameters["BTS_STEP"]), tested.replayed.coverage
    errors = tested.summary[["mase", "median_mase"]].dropna()
    intervals = tested.summary.filter(regex=r"^coverage").dropna()
    made_by = (
        f"backtest from {len(tested.origins)} origins until {tested.origins[-1]:%Y-%m-%d %H:%M} UTC ·"
        f" {tested.series:,} series"
    )
    drawn = {}
    if not errors.empty:
        mean, middle = errors["mase"], errors["median_mase"]
        drawn["mase_by_candidate.png"] = evaluation.candidates(mean, middle, "MASE", SERVED, made_by)
    if not intervals.empty:
        drawn["coverage_by_candidate.png"] = evaluation.coverage(intervals, SERVED, made_by)
    if not coverage.empty:
        shown = {"all parameters": covered(coverage, ["last_step"])}
        parameters = coverage["parameter_id"].unique()[:_DRAWN_PARAMETERS]
        for parameter in parameters if len(parameters) > 1 else ():
            own = coverage[coverage["parameter_id"] == parameter]
            shown[f"{parameter} {catalogue.of(int(parameter)).name}"] = covered(own, ["last_step"])
        drawn["coverage_by_step.png"] = evaluation.coverage_by_step(shown, step, made_by)
    return drawn


@dataclass(frozen=True)
class Recorded:
    """A backtest in MLflow: its run, and the address of its page."""

    run_id: str
    page: str


def record_in_home(settings: Settings, tested: Backtest) -> Recorded:
    """As `record_backtest`, to the MLflow of the home that is set, whichever home the backtest was made in.

    Raises:
        BtsError: if the home cannot be opened, or its MLflow does not answer.
    """
    if not has_database(settings) or schema_standing(settings).state == "absent":
        migrate_home(settings)
    home = open_home(settings, to_read=True)  # its grid may be another
    home.engine.dispose()
    return record_backtest(home.models, tested, attempted(pictures_of, tested, home.catalogue) or {})


def record_backtest(models: ModelStore, tested: Backtest, artifacts: Mapping[str, bytes]) -> Recorded:
    """Log a backtest as an MLflow run, with a nested one per candidate, whose figures can be compared.

    Raises:
        ModelStoreError: if MLflow does not answer.
    """
    tags = {"observations_digest": tested.observations_digest, "code_version": code_version()}
    tags |= {f"machine.{k}": str(v) for k, v in machine().items()}
    figures = {str(name): _finite(row) for name, row in tested.summary.iterrows()}
    with mlflow_errors(models.tracking_uri), hushed():
        mlflow = import_mlflow()
        mlflow.set_tracking_uri(models.tracking_uri)
        experiment = models.experiment(BACKTESTS)
        with mlflow.start_run(experiment_id=experiment, run_name=tested.name) as run:
            mlflow.log_params(dict(tested.parameters))
            mlflow.set_tags(tags)
            # The figures of what would have been served: in the same columns as those of each candidate below it.
            mlflow.log_metrics({"seconds": tested.seconds, "series": tested.series, **figures.get(SERVED, {})})
            with TemporaryDirectory() as folder:
                for name, data in {**artifacts, **_tables(tested)}.items():
                    (Path(folder) / name).write_bytes(data)
                mlflow.log_artifacts(folder)
            for name, row in figures.items():
                with mlflow.start_run(experiment_id=experiment, run_name=name, nested=True):
                    mlflow.log_params({**tested.parameters, "candidate": name})
                    mlflow.set_tags(tags)
                    mlflow.log_metrics(row)
        return Recorded(run.info.run_id, run_page(models.pages, run.info.run_id, experiment))


def _tables(tested: Backtest) -> dict[str, bytes]:
    frames = {"summary": tested.summary.reset_index(), "coverage": tested.replayed.coverage}
    if not tested.replayed.failures.empty:
        frames["failures"] = tested.replayed.failures
    tables = {f"{name}.csv": frame.to_csv(index=False).encode() for name, frame in frames.items()}
    return {"scores.parquet": tested.parquet, **tables}


def _finite(figures: pd.Series) -> dict[str, float]:
    return {str(k): float(v) for k, v in figures.items() if np.isfinite(v)}


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}; name another place") from None

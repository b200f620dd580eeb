"""Model versions and which of them is champion: Postgres decides, MLflow's alias mirrors it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets import pictures
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.backtest import METRICS
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.stores import tables
from bts_assets.stores.home import Home
from bts_assets.stores.models import ModelStoreError, Registered, TrainingRecord
from bts_assets.stores.observations import newest_ledger_seq, observed_span, read_panel
from bts_assets.stores.postgres import LOCK_PROMOTE, transaction
from bts_assets.stores.provenance import code_version, machine, packages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelVersion:
    """A row of `bts.model_version`, as far as a night needs it."""

    model_version_id: int
    bundle_digest: str
    lstm_failure: str | None
    mlflow_run_id: str | None
    mlflow_model_uri: str | None
    registry_version: int | None


@dataclass(frozen=True)
class Trained:
    """A version fresh from training, with what its asset shows."""

    version: ModelVersion
    fitted: FittedBundle
    panel: Panel
    seconds: float


def champion_for(engine: sa.Engine, grid: Grid) -> ModelVersion | None:
    """The champion for a step, context and horizon, if there is one."""
    v, c = tables.model_version.c, tables.champion.c
    query = (
        _version_columns()
        .join(tables.champion, c.model_version_id == v.model_version_id)
        .where(v.step_seconds == grid.step.total_seconds())
        .where(v.context_seconds == grid.context.total_seconds())
        .where(v.horizon_seconds == grid.horizon.total_seconds())
        .order_by(c.champion_seq.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    return ModelVersion(**row) if row else None


def mend_alias(home: Home, champion: ModelVersion) -> None:
    """Let MLflow's alias follow the champion again, where it was left behind. MLflow being down stops no night."""
    if champion.registry_version is None:
        return
    try:
        if home.models.champion_version() != champion.registry_version:
            home.models.set_champion(champion.registry_version)
    except ModelStoreError as error:
        log.warning("%s; the alias will be mended by a later night", error)


def train(
    home: Home, issued_at: datetime, run_id: str | None, on_progress: Callable[[str, int, int], None] | None = None
) -> Trained:
    """Train a version on what was observed before `issued_at`, register it and make it champion.

    Training that gives a version that is known already (same data, settings and seed) registers nothing anew.
    """
    settings, grid = home.settings, home.settings.grid
    with home.engine.connect() as connection:
        ledger_seq = newest_ledger_seq(connection)
        span = observed_span(connection, grid)
        oldest = span[0] if span else issued_at
        start = min(max(oldest, grid.floor(issued_at - settings.training_span)), issued_at - grid.context)
        panel = read_panel(connection, grid, start, issued_at)
    started_at, clock = datetime.now(UTC), time.monotonic()
    fitted = fit_bundle(
        panel,
        home.catalogue,
        effort=settings.training_effort,
        seed=settings.seed,
        zone=settings.timezone,
        on_progress=on_progress,
        max_seconds=settings.training_ceiling.total_seconds(),
        clock=time.monotonic,
    )
    seconds = time.monotonic() - clock
    bundle = fitted.bundle
    home.models.keep(bundle)
    known = _find(home.engine, bundle.digest)
    if known is None:
        record = _record(home, fitted, panel, started_at, seconds, ledger_seq, run_id)
        registered = _register(home, fitted, record)
        known = _enter(home, fitted, panel, registered, ledger_seq, run_id)
    if fitted.truncated and champion_for(home.engine, grid) is not None:
        log.warning("training met BTS_TRAINING_CEILING; its version is kept, and the champion before it serves on")
    else:
        _promote(home, known, "the first version for this grid" if bundle.lstm else "no version with an LSTM yet")
    return Trained(known, fitted, panel, seconds)


def summary(fitted: FittedBundle) -> pd.DataFrame:
    """Mean backtest figures per candidate, and of what is `served`; index candidate, columns `METRICS` and series."""
    scores = with_served(fitted)
    if scores.empty:
        return pd.DataFrame(columns=[*METRICS, "series"])
    means = scores.groupby("candidate")[list(METRICS)].mean()
    return means.assign(series=scores.groupby("candidate").size() // scores["origin"].nunique()).sort_values("mase")


def with_served(fitted: FittedBundle) -> pd.DataFrame:
    """The scores, and once more under `served` those of the candidate that was chosen for each series."""
    scores = fitted.scores
    if scores.empty:
        return scores
    chosen = fitted.bundle.choice.of(scores["station_id"].to_numpy(), scores["parameter_id"].to_numpy())
    served = scores[scores["candidate"].to_numpy() == chosen].assign(candidate="served")
    return pd.concat([scores, served], ignore_index=True)


def _register(home: Home, fitted: FittedBundle, record: TrainingRecord) -> Registered | None:
    try:
        return home.models.register(fitted.bundle, record)
    except ModelStoreError as error:
        log.warning("%s; the version serves from Postgres and the cache, without a registry entry", error)
        return None


def _record(
    home: Home,
    fitted: FittedBundle,
    panel: Panel,
    started_at: datetime,
    seconds: float,
    ledger_seq: int,
    run_id: str | None,
) -> TrainingRecord:
    scores = with_served(fitted)
    metrics = {"training_seconds": seconds, "windows_per_second": fitted.figures["windows_trained"] / seconds}
    for candidate, row in summary(fitted).iterrows():
        metrics |= {f"{candidate}.{name}": row[name] for name in METRICS}
    for (candidate, parameter), part in scores.groupby(["candidate", "parameter_id"]):
        if candidate in ("served", "lstm"):
            metrics |= {
                f"{candidate}.mase.{parameter}": part["mase"].mean(),
                f"{candidate}.mae.{parameter}": part["mae"].mean(),
            }
    curve = fitted.curve.assign(step=fitted.curve["step"] + fitted.curve["seed"] * (fitted.curve["step"].max() or 0))
    series = pd.DataFrame(
        {
            "station_id": panel.station_id,
            "parameter_id": panel.parameter_id,
            "observations": np.isfinite(panel.values).sum(axis=1),
        }
    )
    return TrainingRecord(
        name=f"{home.settings.training_effort} until {panel.end:%Y-%m-%d %H:%M}",
        started_at=started_at,
        parameters=home.settings.public() | {k: str(v) for k, v in fitted.figures.items()},
        tags={
            "bundle_digest": fitted.bundle.digest,
            "observations_digest": panel.digest,
            "training_start": panel.start.isoformat(),
            "training_end": panel.end.isoformat(),
            "training_ledger_seq": str(ledger_seq),
            "code_version": code_version(),
            "dagster_run_id": run_id or "",
            "lstm_failure": fitted.bundle.lstm_failure or "",
            **{f"machine.{k}": str(v) for k, v in machine().items()},
            **{f"package.{k}": v for k, v in packages().items()},
        },
        metrics={k: float(v) for k, v in metrics.items() if np.isfinite(v)},
        curve=curve.drop(columns="seed"),
        series=series,
        observations_digest=panel.digest,
        source=(home.settings.home / "readings").as_uri(),
        artifacts=_artifacts(home, fitted, panel),
    )


def _artifacts(home: Home, fitted: FittedBundle, panel: Panel) -> dict[str, bytes]:
    files = {"scores.csv": fitted.scores.to_csv(index=False).encode(), "summary.csv": summary(fitted).to_csv().encode()}
    if not fitted.curve.empty:
        files["training_curve.png"] = pictures.training_curve(fitted.curve)
    past = forecast_against_truth(home, fitted, panel)
    return files | ({"forecast_against_truth.png": past} if past else {})


def forecast_against_truth(home: Home, fitted: FittedBundle, panel: Panel, count: int = 6) -> bytes | None:
    """The newest horizon forecast as if it were not known yet, by the choice of each series, and what came. PNG.

    The refined LSTM has seen this stretch in training, so the picture shows fit; the scores show skill.
    """
    from bts_assets.forecasting.batch import load_forecasters
    from bts_assets.forecasting.windows import latest_context, take_series

    horizon = panel.grid.horizon_steps
    if panel.steps <= horizon or fitted.scores.empty:
        return None
    full = np.isfinite(panel.values[:, -horizon:]).mean(axis=1)
    wanted = np.array([p.forecast for p in home.catalogue.all_of(panel.parameter_id)])
    rows = np.flatnonzero(wanted & (full > 0.5))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))] if len(rows) else rows
    if not len(rows):
        return None
    shown = take_series(panel, rows)
    before = latest_context(shown.until(horizon))
    forecasters = load_forecasters(fitted.bundle)
    frames = []
    for i, name in enumerate(fitted.bundle.choice.of(shown.station_id, shown.parameter_id)):
        one = take_series(before, np.array([i]))
        parameter = home.catalogue.of(int(one.parameter_id[0]))
        frames.append(
            pictures.Forecast(
                title=f"{parameter.name}, station {one.station_id[0]}: {name}",
                unit=parameter.unit,
                step=panel.grid.step,
                issued_at=before.end,
                history=one.values[0],
                quantiles=forecasters[name].forecast(one)[0],
                truth=shown.values[i, -horizon:],
            )
        )
    return pictures.forecasts(frames)


def _enter(
    home: Home, fitted: FittedBundle, panel: Panel, registered: Registered | None, ledger_seq: int, run_id: str | None
) -> ModelVersion:
    grid, bundle = home.settings.grid, fitted.bundle
    row: dict[str, Any] = {
        "bundle_digest": bundle.digest,
        "step_seconds": grid.step.total_seconds(),
        "context_seconds": grid.context.total_seconds(),
        "horizon_seconds": grid.horizon.total_seconds(),
        "effort": home.settings.training_effort,
        "seed": home.settings.seed,
        "lstm_failure": bundle.lstm_failure,
        "truncated": fitted.truncated,
        "training_start": panel.start,
        "training_end": panel.end,
        "training_ledger_seq": ledger_seq,
        "observations_digest": panel.digest,
        "catalogue_digest": bundle.catalogue_digest,
        "metrics": _json(summary(fitted)),
        "mlflow_run_id": registered.run_id if registered else None,
        "mlflow_model_uri": registered.model_uri if registered else None,
        "registry_version": registered.version if registered else None,
        "packages": packages(),
        "machine": machine(),
        "code_version": code_version(),
        "dagster_run_id": run_id,
        "settings": home.settings.public(),
    }
    with home.engine.begin() as connection:
        # Two nights that train on the same data make the same version: the first to enter it stands.
        connection.execute(insert(tables.model_version).values(row).on_conflict_do_nothing())
    entered = _find(home.engine, bundle.digest)
    assert entered is not None  # noqa: S101 - it was entered a moment ago
    return entered


def _promote(home: Home, version: ModelVersion, reason: str) -> None:
    with transaction(home.engine, LOCK_PROMOTE) as connection:
        c = tables.champion.c
        last = connection.scalar(sa.select(c.model_version_id).order_by(c.champion_seq.desc()).limit(1))
        if last != version.model_version_id:
            entry = {"model_version_id": version.model_version_id, "reason": reason}
            connection.execute(sa.insert(tables.champion).values(entry))
    mend_alias(home, version)


def _find(engine: sa.Engine, bundle_digest: str) -> ModelVersion | None:
    query = _version_columns().where(tables.model_version.c.bundle_digest == bundle_digest)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    return ModelVersion(**row) if row else None


def _version_columns() -> sa.Select[Any]:
    v = tables.model_version.c
    return sa.select(
        v.model_version_id, v.bundle_digest, v.lstm_failure, v.mlflow_run_id, v.mlflow_model_uri, v.registry_version
    ).select_from(tables.model_version)


def _json(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    return {
        str(name): {str(k): round(float(v), 6) for k, v in row.items() if np.isfinite(v)}
        for name, row in frame.iterrows()
    }

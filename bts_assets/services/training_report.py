"""What is told of a training: figures, pictures, and what its MLflow run says. It decides and stores nothing."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.metrics import METRICS
from bts_assets.plots import evaluation
from bts_assets.plots import forecast as forecast_plots
from bts_assets.services.home import Home
from bts_assets.storage.mlflow_registry import TrainingRecord
from bts_assets.storage.provenance import code_version, machine, packages


def summary(fitted: FittedBundle) -> pd.DataFrame:
    """Backtest figures per candidate, and of what is `served`: the means of `METRICS`, median_mase, series.

    The median says more than the mean here: a series that hardly ever moves has a scale near 0, and one night on which
    it does move outweighs all others in a mean of scaled errors.
    `served` is the calibrated mixture, each origin by the weights and factors of the others.
    """
    scores = fitted.scores
    if scores.empty:
        return pd.DataFrame(columns=[*METRICS, "median_mase", "series"])
    groups = scores.groupby("candidate")
    figures = groups[list(METRICS)].mean().assign(median_mase=groups["mase"].median())
    return figures.assign(series=groups.size() // scores["origin"].nunique()).sort_values("median_mase")


def summary_as_json(fitted: FittedBundle) -> dict[str, dict[str, float]]:
    return {
        str(name): {str(k): round(float(v), 6) for k, v in row.items() if np.isfinite(v)}
        for name, row in summary(fitted).iterrows()
    }


def record_of(
    home: Home,
    fitted: FittedBundle,
    panel: Panel,
    started_at: datetime,
    seconds: float,
    ledger_seq: int,
    run_id: str | None,
    drawn: Mapping[str, bytes],
) -> TrainingRecord:
    """What MLflow is told of a training."""
    scores = fitted.scores
    metrics = {"training_seconds": seconds, "windows_per_second": fitted.figures["windows_trained"] / seconds}
    for candidate, row in summary(fitted).iterrows():
        metrics |= {f"{candidate}.{name}": row[name] for name in (*METRICS, "median_mase")}
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
        artifacts=_tables(fitted) | dict(drawn),
    )


def late_record(home: Home, row: Mapping[Any, Any]) -> TrainingRecord:
    """What MLflow is told of a training that it missed: what `bts.model_version` has of it."""
    told = ("bundle_digest", "observations_digest", "training_ledger_seq", "code_version", "dagster_run_id")
    return TrainingRecord(
        name=f"{row['effort']} until {row['training_end']:%Y-%m-%d %H:%M}, registered late",
        started_at=row["created_at"],
        parameters=row["settings"],
        tags={
            **{name: str(row[name] or "") for name in (*told, "lstm_failure")},
            "training_start": row["training_start"].isoformat(),
            "training_end": row["training_end"].isoformat(),
            **{f"machine.{k}": str(v) for k, v in row["machine"].items()},
            **{f"package.{k}": v for k, v in row["packages"].items()},
        },
        metrics={f"{name}.{k}": v for name, figures in row["metrics"].items() for k, v in figures.items()},
        curve=pd.DataFrame({"step": []}),
        series=pd.DataFrame({"station_id": [], "parameter_id": [], "observations": []}, dtype="int64"),
        observations_digest=row["observations_digest"],
        source=(home.settings.home / "readings").as_uri(),
    )


def _tables(fitted: FittedBundle) -> dict[str, bytes]:
    return {"scores.csv": fitted.scores.to_csv(index=False).encode(), "summary.csv": summary(fitted).to_csv().encode()}


def pictures_of(fitted: FittedBundle, panel: Panel, catalogue: Catalogue) -> dict[str, bytes]:
    """File name -> PNG: the training curve, and forecasts against truth, where there is anything to draw."""
    drawn = {}
    if not fitted.curve.empty:
        drawn["training_curve.png"] = evaluation.training_curve(fitted.curve)
    past = _forecast_against_truth(fitted, panel, catalogue)
    return drawn | ({"forecast_against_truth.png": past} if past else {})


def _forecast_against_truth(fitted: FittedBundle, panel: Panel, catalogue: Catalogue, count: int = 6) -> bytes | None:
    """The newest horizon forecast as if it were not known yet, and the actuals. PNG.

    The refined LSTM has seen this stretch in training, so the picture shows fit; the scores show skill.
    """
    from bts_assets.forecasting.batch import make_batch
    from bts_assets.forecasting.windows import take_series

    horizon = panel.grid.horizon_steps
    if panel.steps <= horizon or fitted.scores.empty:
        return None
    full = np.isfinite(panel.values[:, -horizon:]).mean(axis=1)
    wanted = np.array([p.forecast for p in catalogue.all_of(panel.parameter_id)])
    rows = np.flatnonzero(wanted & (full > 0.5))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))] if len(rows) else rows
    if not len(rows):
        return None
    shown = take_series(panel, rows)
    before = shown.until(horizon)
    batch = make_batch(fitted.bundle, before, catalogue)
    sources = batch.ledger["source"].dropna().tolist()
    frames = []
    for k, (station, parameter_id) in enumerate(zip(batch.station_id, batch.parameter_id, strict=True)):
        parameter = catalogue.of(int(parameter_id))
        row = np.flatnonzero((shown.station_id == station) & (shown.parameter_id == parameter_id))[0]
        frames.append(
            forecast_plots.Forecast(
                title=f"{parameter.name}, station {station}: {sources[k]}",
                unit=parameter.unit,
                step=panel.grid.step,
                issued_at=before.end,
                history=before.values[row, -panel.grid.context_steps :],
                quantiles=batch.quantiles[k],
                truth=shown.values[row, -horizon:],
            )
        )
    if not frames:
        return None
    return forecast_plots.forecasts(frames, "forecasts of the newest horizon, made without it")

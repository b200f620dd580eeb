"""What is told of a training: figures, pictures, and what its MLflow run says. It decides and stores nothing."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import format_duration
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.metrics import METRICS
from bts_assets.plots import evaluation
from bts_assets.plots import forecast as forecast_plots
from bts_assets.plots.style import attempted
from bts_assets.services.home import Home
from bts_assets.storage.mlflow_registry import TrainingRecord
from bts_assets.storage.provenance import code_version, machine, packages

#: The figures that MLflow's tables compare runs by: of what is served, and of each candidate beside it.
_TOLD: Final = ("mase", "median_mase", "wql", "smape", "bias", "coverage80", "coverage90", "series")
_TOLD_OF_CANDIDATES: Final = ("median_mase", "wql", "coverage80", "series")
#: Figures are told to so many decimals: MLflow shows all that it gets.
_DECIMALS: Final = 4
#: What the names of settings begin with that change a model.
_CHANGE_A_MODEL: Final = (
    *("BTS_STEP", "BTS_CONTEXT", "BTS_HORIZON", "BTS_TIMEZONE", "BTS_SEED"),
    *("BTS_TRAINING_", "BTS_LSTM_", "BTS_STATISTICAL_"),
)


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
    because: str | None = None,
) -> TrainingRecord:
    """What MLflow is told of a training."""
    windows = fitted.figures["windows_trained"]
    metrics = {"training/seconds": seconds, "training/windows_per_second": windows / seconds}
    for candidate, row in comparable(summary(fitted)).iterrows():
        metrics |= {f"{candidate}/{name}": row[name] for name in _told_of(str(candidate))}
    curve = fitted.curve.assign(step=fitted.curve["step"] + fitted.curve["seed"] * (fitted.curve["step"].max() or 0))
    return TrainingRecord(
        name=_run_name(home.settings.training_effort, panel.end),
        about=_about(panel, fitted),
        started_at=started_at,
        seconds=seconds,
        parameters=_of_training(home.settings.public()),
        tags={
            "bundle_digest": fitted.bundle.digest,
            "observations_digest": panel.digest,
            "training_start": panel.start.isoformat(),
            "training_end": panel.end.isoformat(),
            "training_ledger_seq": str(ledger_seq),
            "trained_because": because or "",
            "code_version": code_version(),
            "dagster_run_id": run_id or "",
            "lstm_failure": fitted.bundle.lstm_failure or "",
            # What a training came to is no choice: parameters are what changes a model.
            **{f"training.{name}": str(figure) for name, figure in fitted.figures.items()},
            **{f"machine.{k}": str(v) for k, v in machine().items()},
            **{f"package.{k}": v for k, v in packages().items()},
        },
        metrics=_told(metrics),
        curve=curve.drop(columns="seed").rename(columns=lambda name: name if name == "step" else f"training/{name}"),
        artifacts=_tables(fitted) | dict(drawn),
    )


def late_record(home: Home, row: Mapping[Any, Any]) -> TrainingRecord:
    """What MLflow is told of a training that it missed: what `bts.model_version` has of it."""
    told = ("bundle_digest", "observations_digest", "training_ledger_seq", "code_version", "dagster_run_id")
    return TrainingRecord(
        name=f"{_run_name(row['effort'], row['training_end'])}, registered late",
        about="Trained while MLflow did not answer; `bts.model_version` has all that is known of it.",
        started_at=row["created_at"] - timedelta(seconds=row["training_seconds"] or 0),
        seconds=row["training_seconds"],
        parameters=_of_training(row["settings"]),
        tags={
            **{name: str(row[name] or "") for name in (*told, "lstm_failure")},
            "training_start": row["training_start"].isoformat(),
            "training_end": row["training_end"].isoformat(),
            **{f"machine.{k}": str(v) for k, v in row["machine"].items()},
            **{f"package.{k}": v for k, v in row["packages"].items()},
        },
        metrics=_late_metrics(row),
        curve=pd.DataFrame({"step": []}),
    )


def _late_metrics(row: Mapping[Any, Any]) -> dict[str, float]:
    figures = comparable(pd.DataFrame.from_dict(row["metrics"], orient="index"))
    told = {f"{n}/{k}": v for n, kept in figures.iterrows() for k, v in kept.dropna().items() if k in _told_of(str(n))}
    return _told(told | ({"training/seconds": row["training_seconds"]} if row["training_seconds"] is not None else {}))


def _told(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), _DECIMALS) for name, value in metrics.items() if np.isfinite(value)}


def _told_of(candidate: str) -> tuple[str, ...]:
    return _TOLD if candidate == "served" else _TOLD_OF_CANDIDATES


def comparable(figures: pd.DataFrame) -> pd.DataFrame:
    """The rows of `summary` that were scored on nearly as many series as what is served, and so compare with it.

    Statistical candidates are tried on a part of a large network, a counter's on counters: `summary.csv` has theirs.
    """
    if "served" not in figures.index or "series" not in figures.columns:
        return figures
    return figures[figures["series"] >= 0.9 * figures.loc["served", "series"]]


def _run_name(effort: str, until: datetime) -> str:
    # What tells runs apart comes first: lists show no more than that.
    return f"{effort}, {until:%Y-%m-%d %H:%M} UTC"


def _about(panel: Panel, fitted: FittedBundle) -> str:
    """What the run page says first."""
    grid, origins = panel.grid, fitted.scores["origin"].nunique() if len(fitted.scores) else 0
    return (
        f"{len(panel.values):,} series of {panel.start:%Y-%m-%d %H:%M} to {panel.end:%Y-%m-%d %H:%M} UTC,"
        f" step {format_duration(grid.step)}, context {format_duration(grid.context)},"
        f" horizon {format_duration(grid.horizon)}."
        f" Metrics are means over series at {origins} holdout origin{'' if origins == 1 else 's'}; `served` is what is"
        " published. The gate decides whether the version serves: `bts versions`, `bts lineage`."
    )


def _of_training(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings that change a model; the others stand in `bts.model_version`."""
    return {name: value for name, value in settings.items() if value and name.startswith(_CHANGE_A_MODEL)}


def _tables(fitted: FittedBundle) -> dict[str, bytes]:
    return {"scores.csv": fitted.scores.to_csv(index=False).encode(), "summary.csv": summary(fitted).to_csv().encode()}


def pictures_of(
    fitted: FittedBundle, panel: Panel, catalogue: Catalogue, stations: Mapping[int, str]
) -> dict[str, bytes]:
    """File name -> PNG: the training curve, and forecasts against truth, where there is anything to draw.

    stations: what those of the panel are called.
    """
    told = f"Trained on data until {panel.end:%Y-%m-%d %H:%M} UTC."
    curve = None if fitted.curve.empty else attempted(evaluation.training_curve, fitted.curve, told)
    past = attempted(_forecast_against_truth, fitted, panel, catalogue, stations)
    drawn = {"training_curve.png": curve, "forecast_against_truth.png": past}
    return {name: png for name, png in drawn.items() if png}


def _forecast_against_truth(
    fitted: FittedBundle, panel: Panel, catalogue: Catalogue, stations: Mapping[int, str], count: int = 6
) -> bytes | None:
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
                title=f"{parameter.name}, {stations[int(station)]}: {sources[k]}",
                unit=parameter.unit,
                step=panel.grid.step,
                issued_at=before.end,
                history=before.values[row, -panel.grid.context_steps :],
                quantiles=batch.quantiles[k],
                truth=shown.values[row, -horizon:],
                low_limit=parameter.low_limit,
                high_limit=parameter.high_limit,
            )
        )
    if not frames:
        return None
    return forecast_plots.forecasts(
        frames,
        "the newest horizon, which the refined LSTM has seen: this shows fit, the scores show skill ·"
        f" bundle {fitted.bundle.digest[:12]}",
    )

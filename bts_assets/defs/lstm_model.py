"""The asset `lstm_model`: the model version that serves. It trains only where no champion fits the grid."""

from collections.abc import Mapping
from math import inf
from typing import Any

import dagster as dg
import pandas as pd

from bts_assets import progress
from bts_assets.defs.grouped_series import grouped_series
from bts_assets.defs.measured import measured
from bts_assets.defs.night import Night
from bts_assets.defs.retry import retried_once
from bts_assets.defs.translate import check_spec, mlflow_run, picture
from bts_assets.plots import evaluation
from bts_assets.plots import forecast as forecast_plots
from bts_assets.services.champions import mend_alias
from bts_assets.services.promotion import first_champion, outdated
from bts_assets.services.training import Trained
from bts_assets.storage.model_versions import ModelVersion, champion_for

#: What is served may be so much worse than the best single candidate in the backtest before the check warns.
_TOLERANCE = 1.02

_FIGURES = dg.TableSchema(
    columns=[
        dg.TableColumn("candidate", "string", "served, or one candidate alone"),
        dg.TableColumn("series", "int", "series scored"),
        dg.TableColumn("median_mase", "float", "mean absolute scaled error, seasonal lag one day: median over series"),
        dg.TableColumn("mase", "float", "the same, mean over series"),
        dg.TableColumn("wql", "float", "weighted quantile loss"),
        dg.TableColumn("coverage80", "float", "share of actuals inside the 80 % interval"),
    ]
)


@dg.asset(
    deps=[grouped_series],
    group_name="nightly",
    kinds={"tensorflow", "mlflow"},
    metadata={"dagster/column_schema": _FIGURES},
    check_specs=[
        check_spec(
            "has_lstm",
            "lstm_model",
            "training gave a sound LSTM",
            "lstm_failure says why; bts retrain trains another version",
        ),
        check_spec(
            "as_good_as_best_candidate",
            "lstm_model",
            "what is served loses to no single candidate",
            "bts backtest tells whether it is so on other nights; bts retrain trains a challenger",
        ),
    ],
)
@retried_once
@measured
def lstm_model(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """The champion: LSTM weights, and which candidate serves which series, as one immutable bundle."""
    home = night.home
    champion = champion_for(home.engine, home.settings.grid)
    if champion is not None and champion.lstm_failure is None and not outdated(home, champion):
        version, training = mend_alias(home, champion), {"trained": False}
    else:
        trained = first_champion(home, night.origin.issued_at, context.run.run_id, progress.report)
        version, training = trained.version, _training(trained)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version.bundle_digest),
        metadata={
            "model_version_id": version.model_version_id,
            **_served_mase(version),
            **mlflow_run(home.models, version),
            **_identity(version),
            **training,
            **_backtest(version),
            "dagster/row_count": 1,
            "digest": version.bundle_digest,
        },
        check_results=_checks(version),
    )


def _identity(version: ModelVersion) -> dict[str, Any]:
    known = {
        "mlflow_model_uri": version.mlflow_model_uri,
        "registry_version": version.registry_version,
        "lstm_failure": version.lstm_failure,
    }
    return {k: v for k, v in known.items() if v is not None}


def _backtest(version: ModelVersion) -> dict[str, Any]:
    """The backtest figures that the version was chosen by, as a table; as bars too, where no training is shown."""
    columns = [str(c.name) for c in _FIGURES.columns if c.name != "candidate"]
    most = version.metrics.get("served", {}).get("series", 0)

    def rank(item: tuple[str, Mapping[str, float]]) -> tuple[bool, float]:
        # Not all are scored on the same series: a statistical candidate on a part, one of counters on counters. Only
        # those that are can be compared; the others come last.
        return item[1].get("series", 0) < 0.9 * most, item[1].get("median_mase", inf)

    ranked = sorted(version.metrics.items(), key=rank)
    records = [
        # Every record has every field: of a candidate that forecast nothing they are empty.
        dg.TableRecord({"candidate": name, **{k: round(figures[k], 4) if k in figures else None for k in columns}})
        for name, figures in ranked
    ]
    median = {f"{name} ({f['series']:,.0f} series)": f["median_mase"] for name, f in ranked if "median_mase" in f}
    made_by = f"model version {version.model_version_id} · its last nights, held out of training"
    drawn = picture(evaluation.bars, pd.Series(median, dtype=float), "Backtest", "median MASE over series", made_by)
    return {"backtest": dg.MetadataValue.table(records, schema=_FIGURES), **drawn}


def _served_mase(version: ModelVersion) -> dict[str, float]:
    served = version.metrics.get("served", {}).get("median_mase")
    return {} if served is None else {"served_median_mase": round(served, 3)}


def _training(trained: Trained) -> dict[str, Any]:
    drawn = {name.removesuffix(".png"): forecast_plots.as_markdown(png) for name, png in trained.pictures.items()}
    return {
        "trained": True,
        "training_seconds": round(trained.seconds, 2),
        "training_start": trained.panel.start.isoformat(),
        "training_end": trained.panel.end.isoformat(),
        **trained.fitted.figures,
        **{name: dg.MetadataValue.md(png) for name, png in drawn.items()},
    }


def _checks(version: ModelVersion) -> list[dg.AssetCheckResult]:
    # A candidate that was scored on some series alone, as a statistical one may be, cannot be compared.
    most = max((f.get("series", 0) for f in version.metrics.values()), default=0)
    every = {name: f for name, f in version.metrics.items() if name == "served" or f.get("series", 0) >= 0.9 * most}
    mase = {name: f["median_mase"] for name, f in every.items() if "median_mase" in f}
    served, best = mase.pop("served", None), min(mase.values(), default=None)
    warn = dg.AssetCheckSeverity.WARN
    return [
        dg.AssetCheckResult(
            check_name="has_lstm",
            passed=version.lstm_failure is None,
            severity=warn,
            metadata={"reason": version.lstm_failure or "none"},
        ),
        dg.AssetCheckResult(
            check_name="as_good_as_best_candidate",
            passed=served is not None and best is not None and served <= best * _TOLERANCE,
            severity=warn,
            metadata={"served_median_mase": served, "best_candidate_median_mase": best},
        ),
    ]

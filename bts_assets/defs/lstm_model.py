"""The asset `lstm_model`: the model version that serves. It trains only where no champion fits the grid."""

from typing import Any

import dagster as dg

from bts_assets import pictures, progress
from bts_assets.defs.grouped_series import grouped_series
from bts_assets.defs.night import Night
from bts_assets.defs.translate import picture
from bts_assets.stores.report import summary
from bts_assets.stores.versions import ModelVersion, Trained, champion_for, mend_alias, train

#: What is served may be so much worse than the best single candidate in the backtest before the check warns.
_TOLERANCE = 1.02

_FIGURES = dg.TableSchema(
    columns=[
        dg.TableColumn("candidate", "string"),
        dg.TableColumn("median_mase", "float", "mean absolute scaled error, seasonal lag one day: median over series"),
        dg.TableColumn("mase", "float", "the same, mean over series"),
        dg.TableColumn("mae", "float", "mean absolute error, in each parameter's unit"),
        dg.TableColumn("wql", "float", "weighted quantile loss"),
        dg.TableColumn("coverage80", "float", "share of truths inside the 80 % interval"),
        dg.TableColumn("series", "int", "series scored"),
    ]
)


@dg.asset(
    deps=[grouped_series],
    group_name="bts",
    kinds={"tensorflow", "mlflow"},
    metadata={"dagster/column_schema": _FIGURES},
    check_specs=[
        dg.AssetCheckSpec("has_lstm", asset="lstm_model", description="training gave a sound LSTM"),
        dg.AssetCheckSpec(
            "as_good_as_best_candidate", asset="lstm_model", description="what is served loses to no single candidate"
        ),
    ],
)
def lstm_model(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """The champion: LSTM weights, and which candidate serves which series, as one immutable bundle."""
    home = night.home
    champion = champion_for(home.engine, home.settings.grid)
    if champion is not None and champion.lstm_failure is None:
        mend_alias(home, champion)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(champion.bundle_digest),
            metadata=_identity(champion) | {"trained": False},
            check_results=[
                dg.AssetCheckResult(check_name="has_lstm", passed=True),
                dg.AssetCheckResult(
                    check_name="as_good_as_best_candidate", passed=True, metadata={"judged": "when trained"}
                ),
            ],
        )
    trained = train(home, night.origin.issued_at, context.run.run_id, progress.report)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(trained.version.bundle_digest),
        metadata=_identity(trained.version) | _training(trained) | _pictures(trained),
        check_results=_checks(trained),
    )


def _identity(version: ModelVersion) -> dict[str, Any]:
    known = {
        "dagster/row_count": 1,
        "digest": version.bundle_digest,
        "model_version_id": version.model_version_id,
        "mlflow_run_id": version.mlflow_run_id,
        "mlflow_model_uri": version.mlflow_model_uri,
        "registry_version": version.registry_version,
    }
    return {k: v for k, v in known.items() if v is not None}


def _training(trained: Trained) -> dict[str, Any]:
    figures = summary(trained.fitted)
    records = []
    for name, row in figures.iterrows():
        means = {k: round(float(row[k]), 4) for k in ("median_mase", "mase", "mae", "wql", "coverage80")}
        records.append(dg.TableRecord({"candidate": str(name), "series": int(row["series"]), **means}))
    failure = trained.fitted.bundle.lstm_failure
    return {
        "trained": True,
        "backtest": dg.MetadataValue.table(records, schema=_FIGURES),
        "training_seconds": round(trained.seconds, 2),
        "training_start": trained.panel.start.isoformat(),
        "training_end": trained.panel.end.isoformat(),
        **trained.fitted.figures,
        **({"lstm_failure": failure} if failure else {}),
    }


def _pictures(trained: Trained) -> dict[str, Any]:
    shown = dict(picture(trained.pictures.get("forecast_against_truth.png")))
    if curve := trained.pictures.get("training_curve.png"):
        shown["training_curve"] = dg.MetadataValue.md(pictures.as_markdown(curve))
    return shown


def _checks(trained: Trained) -> list[dg.AssetCheckResult]:
    failure = trained.fitted.bundle.lstm_failure
    mase = summary(trained.fitted)["median_mase"].astype(float)
    served, best = mase.get("served"), mase.drop("served", errors="ignore").min()
    warn = dg.AssetCheckSeverity.WARN
    return [
        dg.AssetCheckResult(
            check_name="has_lstm", passed=failure is None, severity=warn, metadata={"reason": failure or "none"}
        ),
        dg.AssetCheckResult(
            check_name="as_good_as_best_candidate",
            passed=served is not None and bool(served <= best * _TOLERANCE),
            severity=warn,
            metadata={} if served is None else {"served_mase": float(served), "best_candidate_mase": float(best)},
        ),
    ]

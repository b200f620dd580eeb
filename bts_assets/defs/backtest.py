"""The asset `forecast_backtest`: a rolling-origin backtest over past nights. It publishes nothing; no night waits."""

from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd
from pydantic import Field

from bts_assets import progress
from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import BtsError
from bts_assets.defs.grouped_series import grouped_series
from bts_assets.defs.night import Night
from bts_assets.defs.translate import check_spec
from bts_assets.forecasting.backtest import SERVED, covered
from bts_assets.forecasting.metrics import METRICS
from bts_assets.plots import forecast as forecast_plots
from bts_assets.plots.style import attempted
from bts_assets.services.backtest import Backtest, Recorded, keep, pictures_of, record_backtest, run_backtest
from bts_assets.settings import parse_duration
from bts_assets.storage.mlflow_registry import ModelStoreError

#: What is served may have a mean MASE so much above the best single candidate's before the check warns.
_TOLERANCE: Final = 1.02

#: Measured coverage may differ so much from the one stated (as a share) before the check warns.
_COVERAGE_TOLERANCE: Final = 0.03

_ROWS: Final = dg.TableSchema(
    columns=[
        dg.TableColumn("station_id", "int64", "station, the operator's number"),
        dg.TableColumn("parameter_id", "int32", "parameter, the catalogue's number"),
        dg.TableColumn("origin", "datetime64[us, UTC]", "instant that separates what was known from what was forecast"),
        dg.TableColumn("candidate", "string", f"{SERVED}, or one candidate alone"),
        dg.TableColumn("metric", "string", ", ".join(METRICS)),
        dg.TableColumn("value", "float64", "null where the metric has no value for the series"),
    ]
)

_FIGURES: Final = dg.TableSchema(
    columns=[
        dg.TableColumn("candidate", "string"),
        dg.TableColumn("mase", "float", "mean absolute scaled error: mean over series and origins"),
        dg.TableColumn("median_mase", "float", "the same, median"),
        dg.TableColumn("smape", "float", "symmetric mean absolute percentage error, %"),
        dg.TableColumn("wql", "float", "weighted quantile loss"),
        dg.TableColumn("crps", "float", "continuous ranked probability score, scaled as MASE is"),
        dg.TableColumn("msis", "float", "mean scaled interval score of the 95 % interval"),
        *(
            dg.TableColumn(f"coverage{share}", "float", f"share of actuals inside the {share} % interval")
            for share in (50, 80, 90, 95)
        ),
        dg.TableColumn("bias", "float", "forecast median minus truth, in each parameter's unit"),
        dg.TableColumn("scored", "int", "series and origins that it forecast"),
        dg.TableColumn("served_mase", "float", "mean MASE of what was served on those very ones"),
    ]
)


class BacktestConfig(dg.Config):
    """Which past origins are tested; all other settings are those of a night."""

    origins: int = Field(5, ge=1, description="how many past origins to forecast from")
    apart: str | None = Field(
        None, description="time between them, for example 24h; by default a day, or the horizon if that is shorter"
    )
    refit_every: int = Field(1, ge=1, description="train at every so many origins")


@dg.asset(
    deps=[grouped_series],
    group_name="evaluation",
    kinds={"tensorflow", "mlflow", "parquet"},
    metadata={"dagster/column_schema": _ROWS},
    check_specs=[
        check_spec(
            "as_good_as_best_candidate",
            "forecast_backtest",
            "what is served loses to no single candidate",
            "the comparison shows which is better; weights are learnt anew by bts retrain",
        ),
        check_spec(
            "coverage_as_stated",
            "forecast_backtest",
            "80 % and 90 % intervals hold what they say",
            "coverage_by_parameter shows where; served intervals are recalibrated besides",
        ),
    ],
)
def forecast_backtest(context: dg.AssetExecutionContext, night: Night, config: BacktestConfig) -> dg.MaterializeResult:
    """One row per series, past origin, candidate and metric, of a rolling-origin backtest."""
    home = night.home
    try:
        apart = parse_duration(config.apart)
    except ValueError as error:
        raise BtsError(f"apart: {config.apart} {error}") from None
    tested = run_backtest(home, config.origins, apart, config.refit_every, progress.report)
    kept = keep(tested, home.settings.home / "backtests")
    drawn = attempted(pictures_of, tested, home.catalogue) or {}
    recorded = None
    try:
        recorded = record_backtest(home.models, tested, drawn)
    except ModelStoreError as error:
        context.log.warning("%s; the scores are in %s all the same", error, kept)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(tested.digest),
        metadata={
            "series": tested.series,
            "origins": [origin.isoformat() for origin in tested.origins],
            **_served(tested.summary),
            **_recorded(recorded),
            "failures": len(tested.replayed.failures),
            "seconds": round(tested.seconds, 2),
            "file": dg.MetadataValue.path(kept),
            "comparison": _comparison(tested.summary),
            "coverage_by_parameter": _coverage(tested, home.catalogue),
            **{
                name.removesuffix(".png"): dg.MetadataValue.md(forecast_plots.as_markdown(png))
                for name, png in drawn.items()
            },
            "dagster/row_count": len(tested.replayed.scores) * len(METRICS),
            "observations_digest": tested.observations_digest,
            "digest": tested.digest,
        },
        check_results=_checks(tested.summary),
    )


def _comparison(figures: pd.DataFrame) -> dg.TableMetadataValue:
    rows = figures.round(4).reset_index()[[str(c.name) for c in _FIGURES.columns]]
    return dg.MetadataValue.table([dg.TableRecord(_plain(row)) for row in rows.to_dict("records")], schema=_FIGURES)


def _served(figures: pd.DataFrame) -> dict[str, float]:
    """MASE of what would have been served, where anything was."""
    if SERVED not in figures.index:
        return {}
    known = _known(figures.loc[SERVED, ["median_mase", "mase"]].to_dict())
    return {f"served_{name}": round(value, 3) for name, value in known.items()}


def _recorded(recorded: Recorded | None) -> dict[str, Any]:
    if recorded is None:
        return {}
    return {"mlflow_run": dg.MetadataValue.url(recorded.page), "mlflow_run_id": recorded.run_id}


def _coverage(tested: Backtest, catalogue: Catalogue) -> dg.TableMetadataValue:
    """Coverage of what is served, per parameter, over the whole horizon; the picture shows it by step."""
    shares = covered(tested.replayed.coverage, ["parameter_id"]).round(4)
    records = [
        dg.TableRecord(
            _plain(
                {
                    "parameter": catalogue.of(int(p)).name,
                    "parameter_id": int(p),
                    **{f"coverage{share}": v for share, v in row.items()},
                }
            )
        )
        for p, row in shares.iterrows()
    ]
    columns = [c for c in _FIGURES.columns if str(c.name).startswith("coverage")]
    return dg.MetadataValue.table(
        records,
        schema=dg.TableSchema(
            columns=[dg.TableColumn("parameter", "string"), dg.TableColumn("parameter_id", "int"), *columns]
        ),
    )


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """All fields as Python numbers, None where there is no value."""
    return {k: _known(record).get(k) for k in record}


def _known(record: dict[str, Any]) -> dict[str, Any]:
    """The fields that have a value, as Python numbers: JSON has neither NaN nor numpy's types."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in record.items() if not pd.isna(v)}


def _checks(figures: pd.DataFrame) -> list[dg.AssetCheckResult]:
    # One that forecast fewer series and origins than were served has figures of others.
    everywhere = figures.loc[figures["scored"] >= figures["scored"].get(SERVED, 0), "mase"]
    served, best = figures["mase"].get(SERVED), everywhere.drop(SERVED, errors="ignore").min()
    measured = {share: figures[f"coverage{share}"].get(SERVED) for share in (80, 90)}
    warn = dg.AssetCheckSeverity.WARN
    return [
        dg.AssetCheckResult(
            check_name="as_good_as_best_candidate",
            passed=served is not None and bool(served <= best * _TOLERANCE),
            severity=warn,
            metadata=_known({"served_mase": served, "best_candidate_mase": best}),
        ),
        dg.AssetCheckResult(
            check_name="coverage_as_stated",
            passed=all(
                m is not None and bool(abs(m - share / 100) <= _COVERAGE_TOLERANCE) for share, m in measured.items()
            ),
            severity=warn,
            metadata=_known({f"coverage{share}": m for share, m in measured.items()}),
        ),
    ]

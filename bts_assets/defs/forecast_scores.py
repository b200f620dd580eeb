"""The asset `forecast_scores`: what the forecasts of past nights turned out to be worth, as their targets come."""

from collections.abc import Mapping
from typing import Any, Final

import dagster as dg

from bts_assets import progress
from bts_assets.defs.measured import measured
from bts_assets.defs.night import Night
from bts_assets.defs.partitions import asset_by_night
from bts_assets.defs.station_forecasts import station_forecasts
from bts_assets.defs.translate import check_spec, table_schema
from bts_assets.services.scoring import score_matured
from bts_assets.storage import monitoring_tables
from bts_assets.storage.accuracy import accuracy_of_week
from bts_assets.storage.scores import accuracy_by_candidate, accuracy_by_parameter, count_scores

#: Coverage of the 80 % interval further from 80 % than this over a week is worth a warning.
_COVERAGE_MARGIN: Final = 0.07
#: Fewer targets than this say nothing.
_LEAST_TARGETS: Final = 500

_HEADLINE: Final = {"median_mase": "mase", "coverage80": "coverage80"}

_TABLE = dg.TableSchema(
    columns=[
        dg.TableColumn("parameter", "string"),
        dg.TableColumn("mase", "float", "mean absolute scaled error of what was served"),
        dg.TableColumn("last_value", "float", "that of holding the last value, on the same targets"),
        dg.TableColumn("yesterday", "float", "that of repeating the day before"),
        dg.TableColumn("last_week", "float", "that of repeating the week before"),
        dg.TableColumn("day_median", "float", "that of holding the median of the last day"),
        dg.TableColumn("coverage80", "float", "share of actuals within the 80 % interval"),
        dg.TableColumn("targets", "int", "that have come, of the forecasts of the last 7 scored days"),
    ]
)


@asset_by_night(
    deps=[station_forecasts],
    group_name="nightly",
    kinds={"postgres"},
    # After all that readers wait for.
    op_tags={"dagster/priority": "-1"},
    metadata={
        "dagster/column_schema": table_schema(monitoring_tables.forecast_score),
        "dagster/table_name": "bts.forecast_score",
    },
    check_specs=[
        check_spec(
            "no_worse_than_last_value",
            "forecast_scores",
            "over 7 scored days the served forecasts' MASE is below that of holding the last value",
            "bts accuracy names parameters and series; bts retrain trains a challenger",
        ),
        check_spec(
            "intervals_cover",
            "forecast_scores",
            "over 7 scored days the 80 % intervals hold 80 % of the actuals, within 7 points",
            "recalibration corrects it night by night; bts accuracy names the parameters",
        ),
    ],
)
@measured
def forecast_scores(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """Sums of errors per batch, series and quarter of the horizon, beside baselines; read bts.forecast_accuracy."""
    home = night.home
    report = score_matured(home, progress.report, now=night.now)
    with home.engine.connect() as connection:
        by_parameter, overall = accuracy_by_parameter(connection), accuracy_by_candidate(connection)
        week = accuracy_of_week(connection).get("served")
        stored = count_scores(connection)
    records = [dg.TableRecord({k: _plain(v) for k, v in row.items()}) for row in by_parameter]
    served = overall.get("served", {})
    return dg.MaterializeResult(
        metadata={
            # The median over parameters, as station_forecasts has it: one parameter that hardly moves leads any mean.
            **_of_week(week),
            "batches_scored": len(report.batches),
            "new_rows": report.rows,
            "dagster/row_count": stored,
            "accuracy_7_days": dg.MetadataValue.table(records, schema=_TABLE),
        },
        check_results=[_beats_last_value(overall), _covers(served)],
    )


def _of_week(week: Mapping[Any, Any] | None) -> dict[str, Any]:
    return {f"{told}_7_days": _plain(week[name]) for told, name in _HEADLINE.items()} if week else {}


def _beats_last_value(overall: dict[str, dict[str, Any]]) -> dg.AssetCheckResult:
    known = [overall.get(name, {}).get("mase") for name in ("served", "last_value")]
    told = [float(mase) for mase in known if mase is not None]
    return dg.AssetCheckResult(
        check_name="no_worse_than_last_value",
        passed=len(told) < len(known) or told[0] <= told[1],
        severity=dg.AssetCheckSeverity.WARN,
        description=None if len(told) == len(known) else "nothing has come true yet",
        metadata=dict(zip(("mase", "mase_last_value"), map(_plain, told), strict=False)),
    )


def _covers(served: dict[str, Any]) -> dg.AssetCheckResult:
    enough = served.get("targets", 0) >= _LEAST_TARGETS
    return dg.AssetCheckResult(
        check_name="intervals_cover",
        passed=not enough or abs(served["coverage80"] - 0.8) <= _COVERAGE_MARGIN,
        severity=dg.AssetCheckSeverity.WARN,
        description=None if enough else f"fewer than {_LEAST_TARGETS} targets have come",
        metadata={"coverage80": _plain(served["coverage80"]), "targets": int(served["targets"])} if served else {},
    )


def _plain(value: Any) -> Any:
    """In Python's own numbers, rounded."""
    return value if isinstance(value, str) or value is None else round(float(value), 4)

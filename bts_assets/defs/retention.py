"""The asset `retention`: what went past its retention, deleted once the night is published."""

import dagster as dg

from bts_assets import progress
from bts_assets.defs.challenger import challenger_forecasts
from bts_assets.defs.measured import measured
from bts_assets.defs.night import Night
from bts_assets.defs.translate import check_spec
from bts_assets.services.retention import find_past, prune

_WENT = dg.TableSchema(
    columns=[
        dg.TableColumn("batches", "int", "batches whose forecasts were deleted"),
        dg.TableColumn("days", "int", "UTC days whose observations were deleted"),
        dg.TableColumn("files", "int", "landing files whose readings were deleted"),
    ]
)


@dg.asset(
    deps=[challenger_forecasts],
    group_name="nightly",
    kinds={"postgres"},
    # Last of all: what is deleted was read by whoever wanted it tonight.
    op_tags={"dagster/priority": "-2"},
    metadata={"dagster/column_schema": _WENT, "dagster/table_name": "bts.pruning"},
    check_specs=[
        check_spec(
            "nothing_past_is_left",
            "retention",
            "all that is past its retention went",
            "the next night goes on; bts prune --dry-run names what is left",
        )
    ],
)
@measured
def retention(night: Night) -> dg.MaterializeResult:
    """Forecasts, observations and readings past BTS_FORECAST_RETENTION and BTS_OBSERVATION_RETENTION are deleted."""
    past = prune(night.home, progress.report)
    left = find_past(night.home)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{len(past.batches)} {len(past.days)} {len(past.files)} {night.origin.issued_at}"),
        metadata={
            "dagster/row_count": past.forecast_rows + past.observations,
            "batches": len(past.batches),
            "forecast_rows": past.forecast_rows,
            "forecast_bytes": past.forecast_bytes,
            "days": len(past.days),
            "observations": past.observations,
            "observation_bytes": past.observation_bytes,
            "files": len(past.files),
            "file_bytes": past.file_bytes,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="nothing_past_is_left",
                passed=not (left.batches or left.days or left.files),
                severity=dg.AssetCheckSeverity.WARN,
            )
        ],
    )

"""The asset `site_power`: how long batteries last, and what wears out at stations, by their own past."""

from datetime import datetime

import dagster as dg

from bts_assets.defs.measured import measured, night_by_night
from bts_assets.defs.night import Night
from bts_assets.defs.partitions import asset_by_night
from bts_assets.defs.station_forecasts import station_forecasts
from bts_assets.defs.translate import check_spec, table_schema
from bts_assets.services.home import Home
from bts_assets.services.site_power import SitePower, assess
from bts_assets.storage import monitoring_tables
from bts_assets.storage.drift import served_batch
from bts_assets.storage.power import findings_by_kind


@asset_by_night(
    deps=[station_forecasts],
    group_name="nightly",
    kinds={"postgres"},
    op_tags={"dagster/priority": "-1"},
    metadata={
        "dagster/column_schema": table_schema(monitoring_tables.station_battery),
        "dagster/table_name": "bts.battery_autonomy",
    },
    check_specs=[
        check_spec(
            "nothing_wears_out",
            "site_power",
            "no station is unlike its own past",
            "bts.maintenance_list has the stations and what is unusual: have them looked at",
        )
    ],
)
@measured
def site_power(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """Hours that batteries last if the grid fails, generators and cooling beside their past; bts.maintenance_list."""
    return night_by_night(context, night, lambda origin: _assess(night.home, origin.issued_at))


def _assess(home: Home, issued_at: datetime) -> dg.MaterializeResult:
    with home.engine.connect() as connection:
        batch = served_batch(connection, issued_at)
    found = assess(home, batch.batch_id, issued_at) if batch else SitePower(0, 0)
    with home.engine.connect() as connection:
        named = findings_by_kind(connection, batch.batch_id) if batch else {}
    return dg.MaterializeResult(
        metadata={"dagster/row_count": found.stations, "findings": found.findings, **named},
        check_results=[
            dg.AssetCheckResult(
                check_name="nothing_wears_out",
                passed=not found.findings,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=named,
            )
        ],
    )

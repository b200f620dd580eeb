"""The asset `grouped_series`: observations, one regular series per station and parameter, in Postgres."""

from datetime import timedelta

import dagster as dg
import numpy as np

from bts_assets import progress
from bts_assets.contracts.schemas import Observations
from bts_assets.defs.measured import measured
from bts_assets.defs.night import Night
from bts_assets.defs.readings import readings
from bts_assets.defs.retry import retried_once
from bts_assets.defs.translate import check_spec, column_schema, picture
from bts_assets.plots import forecast as forecast_plots
from bts_assets.services.catalogue import unlisted_parameters
from bts_assets.services.data_warnings import ahead_warning, coarse_warning, limits_warning, lost_warning
from bts_assets.services.home import Home
from bts_assets.services.observe import compute_due_days, read_newest_day_back
from bts_assets.storage.observation_blocks import first_heard, read_panel
from bts_assets.storage.observations import (
    ObservedSpan,
    count_series,
    observed_span,
    observed_totals,
)
from bts_assets.storage.series_names import station_titles

#: Series that the picture shows, each of another parameter.
_PICTURED = 8


@dg.asset(
    deps=[readings],
    group_name="nightly",
    kinds={"postgres", "pandera"},
    metadata={"dagster/column_schema": column_schema(Observations), "dagster/table_name": "bts.observation"},
    check_specs=[
        check_spec(
            "observations_schema",
            "grouped_series",
            "the newest day, or a part of its stations, read back, is sound",
            "bts verify names what is damaged, and --repair ingests it again",
        ),
        check_spec(
            "days_computed",
            "grouped_series",
            "no day lacked readings that were taken in",
            "bts verify --repair ingests the missing readings again from their landing files",
        ),
        check_spec(
            "readings_keep_their_own",
            "grouped_series",
            "no more than a few per cent of a day's readings gave way to others of the same id",
            "where ids do not identify readings set BTS_READING_IDS=ignore, where they do key",
        ),
        check_spec(
            "nothing_ahead_of_now",
            "grouped_series",
            "no observation is of the time after now",
            "a station's clock or BTS_LANDING_TIMEZONE is wrong",
        ),
        check_spec(
            "series_known",
            "grouped_series",
            "at least one series has observations",
            "no landing file gave a reading: bts doctor, and the check files_usable of readings",
        ),
    ],
)
@retried_once
@measured
def grouped_series(night: Night) -> dg.MaterializeResult:
    """One row per series and step that has readings: a pure function of the readings of its UTC day."""
    home = night.home
    report = compute_due_days(home, progress.report)
    with home.engine.connect() as connection:
        totals = observed_totals(connection)
        span = observed_span(connection, home.settings.grid)
        series = count_series(connection)
    read_back = read_newest_day_back(home, span.end if span else night.now)
    ahead, lost, idle = ahead_warning(home, night.now), lost_warning(home, night.now), limits_warning(home)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(totals.digest),
        metadata={
            "series": series,
            "dagster/row_count": totals.observations,
            "days": totals.days,
            "days_computed": report.days,
            "observations_computed": report.observations,
            "readings_used": report.readings,
            "duplicates_across_files": report.duplicates,
            **{name: report.merged[name] for name in ("corrected", "contradicted", "ids_ignored")},
            "unlisted": unlisted_parameters(home),
            "warnings": [warning for warning in (lost, ahead, idle, coarse_warning(home)) if warning],
            **({"observed_from": str(span.start), "observed_until": str(span.end)} if span else {}),
            **picture(_picture, home, span),
            "digest": totals.digest,
        },
        check_results=[
            dg.AssetCheckResult(check_name="observations_schema", passed=True, metadata={"rows_validated": read_back}),
            dg.AssetCheckResult(
                check_name="days_computed",
                passed=not report.failed,
                metadata={"failed": {str(day): why for day, why in report.failed.items()}},
            ),
            _warned("readings_keep_their_own", lost),
            _warned("nothing_ahead_of_now", ahead),
            dg.AssetCheckResult(check_name="series_known", passed=bool(series), metadata={"series": series}),
        ],
    )


def _warned(check: str, warning: str | None) -> dg.AssetCheckResult:
    said = {"warning": warning} if warning else {}
    return dg.AssetCheckResult(
        check_name=check, passed=warning is None, severity=dg.AssetCheckSeverity.WARN, metadata=said
    )


def _picture(home: Home, span: ObservedSpan | None) -> bytes | None:
    """The newest week of a few series, spread over the parameters."""
    if span is None:
        return None
    grid, end = home.settings.grid, span.end
    start = max(grid.floor(end - timedelta(days=7)), span.start)
    with home.engine.connect() as connection:
        shown = first_heard(connection, grid, start, end, _PICTURED)
        panel = read_panel(connection, grid, start, end, shown)
        stations = station_titles(connection, panel.station_id)
    rows = np.argsort(panel.parameter_id).tolist()
    names = [
        (f"{parameter.name}, {stations[int(panel.station_id[i])]}", parameter.unit)
        for i in rows
        for parameter in (home.catalogue.of(int(panel.parameter_id[i])),)
    ]
    made_by = f"observations of the week before {end:%Y-%m-%d %H:%M}"
    return forecast_plots.panel_at_a_glance(panel, names, rows, made_by) if rows else None

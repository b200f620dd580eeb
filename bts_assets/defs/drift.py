"""The asset `drift`: what has changed since the version that serves was trained, and which sensors report wrongly."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import dagster as dg
import pandas as pd

from bts_assets.defs.data_profile import data_profile
from bts_assets.defs.forecast_scores import forecast_scores
from bts_assets.defs.measured import measured, night_by_night
from bts_assets.defs.night import Night
from bts_assets.defs.partitions import asset_by_night
from bts_assets.defs.retry import retried_once
from bts_assets.defs.translate import check_spec, table_schema
from bts_assets.services.drift import DriftReport, watch_drift
from bts_assets.services.home import Home
from bts_assets.storage import drift_tables
from bts_assets.storage.series_names import station_titles

#: A row of findings -> what its station and parameter are called.
Namer = Callable[[Any], dict[str, str]]

#: Rows that a table in Dagster shows at most.
_SHOWN: Final = 50

_ALARMS: Final = dg.TableSchema(
    columns=[
        dg.TableColumn("scope", "string", "series, station or parameter"),
        dg.TableColumn("station", "string"),
        dg.TableColumn("parameter", "string"),
        dg.TableColumn("kind", "string", "covariate, concept or label drift, as far as data can tell"),
        dg.TableColumn("figure", "string", "what has changed"),
        dg.TableColumn("change", "float", "of a level in standard deviations; of spread and error the ratio less 1"),
        dg.TableColumn("nights", "int", "in a row"),
    ]
)
_FAULTS: Final = dg.TableSchema(
    columns=[
        dg.TableColumn("fault", "string"),
        dg.TableColumn("station", "string"),
        dg.TableColumn("parameter", "string"),
        dg.TableColumn("since", "string", "UTC"),
        dg.TableColumn("figure", "float", "share observed, value, factor, or hours"),
    ]
)


@asset_by_night(
    deps=[forecast_scores, data_profile],
    group_name="nightly",
    kinds={"postgres"},
    op_tags={"dagster/priority": "-1"},
    metadata={
        "dagster/column_schema": table_schema(drift_tables.drift_evidence),
        "dagster/table_name": "bts.drift_evidence",
    },
    check_specs=[
        check_spec(
            "nothing_drifts",
            "drift",
            "no stream's evidence for a change has reached its bound",
            "bts drift names the series; the schedule on_evidence retrains, or bts retrain at once",
        ),
        check_spec(
            "sensors_report_rightly",
            "drift",
            "no sensor is stuck or mis-scaled, no station silent",
            "bts drift names sensors and stations: have them looked at",
        ),
    ],
)
@measured
@retried_once
def drift(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """Evidence of change against the training snapshot, and faulty sensors; read bts.drift and bts.sensor_fault."""
    return night_by_night(context, night, lambda origin: _watch(night, origin.issued_at))


def _watch(night: Night, issued_at: datetime) -> dg.MaterializeResult:
    report = watch_drift(night.home, issued_at, night.now)
    alarms, faults = report.alarms, report.faults
    name = _namer(night.home, alarms.head(_SHOWN), faults.head(_SHOWN))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(report.evidence),
            "issued_at": report.issued_at.isoformat(),
            **({"model_version_id": report.version.model_version_id} if report.version else {}),
            **_nights(report),
            "alarms": len(alarms),
            "faults": len(faults),
            "drifting": dg.MetadataValue.table(_alarm_rows(alarms, name), schema=_ALARMS),
            "faulty": dg.MetadataValue.table(_fault_rows(faults, name), schema=_FAULTS),
        },
        check_results=[
            _check("nothing_drifts", alarms, "scope"),
            _check("sensors_report_rightly", faults, "fault"),
        ],
    )


def _nights(report: DriftReport) -> dict[str, int]:
    names = ("nights", "reference_nights", "scored_nights", "reference_scored_nights")
    return {name: getattr(report, name) for name in names}


def _check(name: str, found: pd.DataFrame, by: str) -> dg.AssetCheckResult:
    counted = found[by].value_counts().to_dict() if len(found) else {}
    return dg.AssetCheckResult(
        check_name=name,
        passed=found.empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={str(k): int(v) for k, v in counted.items()},
    )


def _alarm_rows(alarms: pd.DataFrame, name: Namer) -> list[dg.TableRecord]:
    records = []
    for row in alarms.head(_SHOWN).itertuples():
        named = {"scope": row.scope, "kind": row.kind, "figure": row.figure, "nights": int(row.nights)}
        change = None if pd.isna(row.change) else round(float(row.change), 2)
        records.append(dg.TableRecord({**name(row), **named, "change": change}))
    return records


def _fault_rows(faults: pd.DataFrame, name: Namer) -> list[dg.TableRecord]:
    records = []
    for row in faults.head(_SHOWN).itertuples():
        since = "" if pd.isna(row.since) else f"{row.since:%Y-%m-%d %H:%M}"
        figure = None if pd.isna(row.figure) else round(float(row.figure), 4)
        records.append(dg.TableRecord({**name(row), "fault": row.fault, "since": since, "figure": figure}))
    return records


def _namer(home: Home, *tables: pd.DataFrame) -> Namer:
    """Names the station and parameter of a row; empty for what is of a whole parameter or station."""
    stations = {int(station) for table in tables if len(table) for station in table["station_id"]}
    with home.engine.connect() as connection:
        called = station_titles(connection, stations)

    def name(row: Any) -> dict[str, str]:
        return {
            "station": "" if row.station_id < 0 else called[int(row.station_id)],
            "parameter": "" if row.parameter_id < 0 else home.catalogue.of(int(row.parameter_id)).name,
        }

    return name

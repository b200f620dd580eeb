"""The asset `data_profile`: ranges, distribution and gaps of the night's input data, kept for later questions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.defs.grouped_series import grouped_series
from bts_assets.defs.measured import measured, night_by_night
from bts_assets.defs.night import Night
from bts_assets.defs.partitions import asset_by_night
from bts_assets.defs.retry import retried_once
from bts_assets.defs.translate import check_spec, picture, table_schema
from bts_assets.landing.panel_profile import by_parameter
from bts_assets.plots import profile as profile_plots
from bts_assets.services.data_profile import Described, describe, describe_trainings, find_kept, keep, kept_profile
from bts_assets.services.home import Home
from bts_assets.storage import tables
from bts_assets.storage.series_names import station_titles

#: The figures that the metadata begins with.
_FIRST = ("series", "silent_series", "observations", "missing_share", "data_start", "data_end", "by_parameter")

_MADE_BY = ("code_version", "dagster_run_id", "dataset_id", "ledger_seq")

_BY_PARAMETER = dg.TableSchema(
    columns=[
        dg.TableColumn("parameter", "string"),
        dg.TableColumn("series", "int"),
        dg.TableColumn("silent", "int", "series without an observation"),
        dg.TableColumn("readings", "int"),
        dg.TableColumn("observations", "int"),
        dg.TableColumn("missing_share", "float", "share of steps without an observation, 0 to 1"),
        dg.TableColumn("minimum", "float", "in the parameter's unit"),
        dg.TableColumn("mean", "float", "in the parameter's unit"),
        dg.TableColumn("maximum", "float", "in the parameter's unit"),
        dg.TableColumn("gaps", "int", "runs of missing steps"),
        dg.TableColumn("longest_gap", "int", "steps"),
        dg.TableColumn("readings_per_step", "float", "mean over the steps that have any"),
        dg.TableColumn("most_readings", "int", "of one step"),
    ]
)


@asset_by_night(
    deps=[grouped_series],
    group_name="nightly",
    kinds={"postgres", "mlflow"},
    # Last of all that is ready: no forecast waits for a description, or is lost where describing fails.
    op_tags={"dagster/priority": "-1"},
    metadata={
        "dagster/column_schema": table_schema(tables.series_profile),
        "dagster/table_name": "bts.series_profile",
    },
    check_specs=[
        check_spec(
            "every_series_profiled",
            "data_profile",
            "each series of the context has its row",
            "the next night profiles anew; report it where it stays",
        )
    ],
)
@retried_once
@measured
def data_profile(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """Figures of every series over the context before the origin, and the data set's own; read bts.data_profile."""
    return night_by_night(context, night, lambda origin: _profile(context, night.home, origin.issued_at))


def _profile(context: dg.AssetExecutionContext, home: Home, end: datetime) -> dg.MaterializeResult:
    start = end - home.settings.context
    said = _said_before(context, find_kept(home, start, end))
    if said is None:
        described = describe(home, start, end, context.run.run_id)
        dataset_id, new = keep(home, described)
        with home.engine.connect() as connection:
            stations = station_titles(connection, described.series["station_id"].unique())
        said = {**_metadata(described, home.catalogue, stations), "dataset_id": dataset_id, "new": new}
    else:
        dataset_id, said = int(said["dataset_id"].value), {**said, "new": False}
    trained = describe_trainings(home, context.run.run_id)
    profile = kept_profile(home, dataset_id)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(profile.digest),
        metadata=_digests_last(
            {
                **said,
                "trainings_described": [version["model_version_id"] for version in trained],
                "dagster/row_count": profile.rows,
            }
        ),
        check_results=[
            dg.AssetCheckResult(
                check_name="every_series_profiled",
                passed=profile.rows == profile.series,
                metadata={"rows": profile.rows, "series": profile.series},
            )
        ],
    )


def _said_before(context: dg.AssetExecutionContext, dataset_id: int | None) -> dict[str, Any] | None:
    """The newest materialization's metadata, if it is of the same data set: its picture takes longest to draw."""
    newest = context.instance.get_latest_materialization_event(context.asset_key)
    if dataset_id is None or newest is None or newest.asset_materialization is None:
        return None
    said = dict(newest.asset_materialization.metadata)
    return said if said["dataset_id"].value == dataset_id else None


def _digests_last(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a person asks for first, then the rest; what only machines compare last."""

    def place(name: str) -> tuple[bool, bool, int]:
        return name.endswith("digest"), name in _MADE_BY, _FIRST.index(name) if name in _FIRST else len(_FIRST)

    return {name: said[name] for name in sorted(said, key=place)}


def _metadata(described: Described, catalogue: Catalogue, stations: Mapping[int, str]) -> Mapping[str, Any]:
    about = {k: v for k, v in described.row.items() if v is not None}
    digest = about.pop("observations_digest")
    shares = {kind: about[kind] / max(about["rows"], 1) for kind in ("accepted", "rejected", "duplicate")}
    return {
        **about,
        "missing_share": round(about["missing_share"], 4),
        "digest": digest,
        "data_start": about["data_start"].isoformat(),
        "data_end": about["data_end"].isoformat(),
        **{f"{kind}_share": round(share, 4) for kind, share in shares.items()},
        "by_parameter": _table(described, catalogue),
        **picture(_picture, described, catalogue, stations),
    }


def _table(described: Described, catalogue: Catalogue) -> dg.TableMetadataValue:
    figures = by_parameter(described.series, described.steps).astype(object)
    records = [
        dg.TableRecord({"parameter": catalogue.of(int(p)).name, **{str(k): _plain(v) for k, v in row.items()}})
        for p, row in figures.iterrows()
    ]
    return dg.MetadataValue.table(records, schema=_BY_PARAMETER)


def _plain(value: Any) -> Any:
    """As Python numbers, None for NaN: JSON has neither NaN nor numpy's types."""
    return None if pd.isna(value) else round(value, 4) if isinstance(value, float) else int(value)


def _picture(described: Described, catalogue: Catalogue, stations: Mapping[int, str]) -> bytes:
    titles = {
        int(p): f"{parameter.name}{f', {parameter.unit}' if parameter.unit else ''}"
        for p in np.unique(described.series["parameter_id"])
        for parameter in [catalogue.of(int(p))]
    }
    missing = described.series.pivot_table(index="parameter_id", columns="station_id", values="missing_share")
    values = {
        title: np.concatenate([panel.values[panel.parameter_id == p] for panel in described.shown])
        for p, title in titles.items()
    }
    start, end = (f"{described.row[name]:%Y-%m-%d %H:%M}" for name in ("data_start", "data_end"))
    named = missing.rename(index=titles, columns=stations)
    return profile_plots.data_at_a_glance(named, values, f"observations from {start} to {end} UTC")

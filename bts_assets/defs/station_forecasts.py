"""The asset `station_forecasts`: the champion's forecasts of every series, published as one batch."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.schemas import Forecasts, validate
from bts_assets.defs.lstm_model import lstm_model
from bts_assets.defs.night import Night
from bts_assets.defs.translate import column_schema, counts, mlflow_run, picture
from bts_assets.plots import forecast as forecast_plots
from bts_assets.services.home import Home
from bts_assets.services.mlflow_sync import tell_served
from bts_assets.services.nightly import publish_night
from bts_assets.services.probation import running
from bts_assets.storage.forecasts import QUANTILE_COLUMNS, read_batch
from bts_assets.storage.model_versions import champion_for

_BATCH = sa.text("SELECT * FROM bts.batch WHERE batch_id = :batch_id")
_SOURCES = sa.text(
    "SELECT coalesce(source, status) AS source, count(*) FROM bts.forecast_ledger WHERE batch_id = :batch_id"
    " GROUP BY 1 ORDER BY 2 DESC"
)

_NEWEST = sa.text("SELECT max(last_observed_at) FROM bts.forecast_ledger WHERE batch_id = :batch_id")
# Series with an observation before the origin, known by the ledger entry that the batch was made from.
_KNOWN = sa.text("""
    SELECT count(*) FROM bts.series AS s, bts.batch AS b
    WHERE b.batch_id = :batch_id AND s.first_ledger_seq <= b.input_ledger_seq
      AND (SELECT true FROM bts.observation AS o WHERE o.station_id = s.station_id
           AND o.parameter_id = s.parameter_id AND o.observed_at < :issued_at LIMIT 1)
""")


@dg.asset(
    deps=[lstm_model],
    group_name="bts",
    kinds={"postgres", "pandera"},
    metadata={"dagster/column_schema": column_schema(Forecasts), "dagster/table_name": "bts.forecast"},
    check_specs=[
        dg.AssetCheckSpec("forecasts_schema", asset="station_forecasts", description="the batch, read back, is sound"),
        dg.AssetCheckSpec(
            "every_series_accounted_for", asset="station_forecasts", description="each has its ledger row"
        ),
        dg.AssetCheckSpec("input_is_fresh", asset="station_forecasts", description="the newest observation is recent"),
        dg.AssetCheckSpec("forecasters_ran", asset="station_forecasts", description="no series had to fall back"),
    ],
)
def station_forecasts(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """All forecasts of one origin, published together or not at all; read them through bts.latest_forecast."""
    home, origin = night.home, night.origin
    champion = champion_for(home.engine, home.settings.grid)
    if champion is None:
        raise dg.Failure("no champion fits this grid; materialize lstm_model first")
    context.log.info("origin %s: %s", origin.issued_at, origin.why)
    probation = running(home)
    trial = probation.trial if probation else None
    result = publish_night(home, origin, champion, context.run.run_id, trial)
    champion = result.version
    tell_served(home)
    with home.engine.connect() as connection:
        batch = connection.execute(_BATCH, {"batch_id": result.batch_id}).mappings().one()
        sources = {str(k): int(v) for k, v in connection.execute(_SOURCES, {"batch_id": result.batch_id})}
        stored = validate(Forecasts, read_batch(connection, result.batch_id))
        newest = connection.scalar(_NEWEST, {"batch_id": result.batch_id})
        series = connection.scalar(_KNOWN, {"batch_id": result.batch_id, "issued_at": batch["issued_at"]})
    expected = (batch["forecast"] + batch["fallback"]) * batch["horizon_steps"]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(batch["forecasts_digest"]),
        metadata={
            "dagster/row_count": len(stored),
            "digest": batch["forecasts_digest"],
            "observations_digest": batch["observations_digest"],
            "batch_id": result.batch_id,
            "issued_at": origin.issued_at.isoformat(),
            "origin": origin.why,
            "kind": batch["kind"],
            "new": result.new,
            "serves_latest": result.serves_latest,
            "model_version_id": champion.model_version_id,
            **_canary(batch),
            **mlflow_run(home.models, champion.mlflow_run_id),
            "trained_past_origin": champion.training_end > batch["issued_at"],
            "series": batch["series"],
            **{status: batch[status] for status in ("forecast", "fallback", "excluded")},
            "sources": counts(sources),
            **picture(_picture(home, result.given.panel, stored)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="forecasts_schema", passed=len(stored) == expected, metadata={"rows_validated": len(stored)}
            ),
            dg.AssetCheckResult(
                check_name="every_series_accounted_for",
                passed=batch["series"] == series,
                metadata={"series": int(series or 0), "ledger_rows": batch["series"]},
            ),
            dg.AssetCheckResult(
                check_name="input_is_fresh",
                passed=newest is not None and newest >= batch["issued_at"] - home.settings.horizon,
                metadata={"newest_observation": str(newest), "older_than_is_an_alarm": str(home.settings.horizon)},
            ),
            dg.AssetCheckResult(
                check_name="forecasters_ran",
                passed=batch["fallback"] == 0,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"fallback": batch["fallback"]},
            ),
        ],
    )


def _canary(batch: Mapping[Any, Any]) -> dict[str, Any]:
    """Of a batch that a challenger had a share in."""
    names = ("canary_version_id", "canary_share")
    return {name: batch[name] for name in names if batch["canary_version_id"] is not None}


def _picture(home: Home, panel: Panel, stored: pd.DataFrame, count: int = 6) -> bytes | None:
    """A few forecasts, as stored, with the history that they were made from, spread over the parameters."""
    shown: dict[int, forecast_plots.Forecast] = {}
    for (station, parameter_id), rows in stored.groupby(["station_id", "parameter_id"]):
        parameter = home.catalogue.of(int(parameter_id))
        if parameter.parameter_id in shown or len(shown) == count:
            continue
        row = np.flatnonzero((panel.station_id == station) & (panel.parameter_id == parameter_id))[0]
        shown[parameter.parameter_id] = forecast_plots.Forecast(
            title=f"{parameter.name}, station {station}",
            unit=parameter.unit,
            step=panel.grid.step,
            issued_at=panel.end,
            history=panel.values[row],
            quantiles=rows.sort_values("step_ahead")[list(QUANTILE_COLUMNS)].to_numpy(),
            low_limit=parameter.low_limit,
            high_limit=parameter.high_limit,
        )
    return forecast_plots.forecasts(list(shown.values())) if shown else None

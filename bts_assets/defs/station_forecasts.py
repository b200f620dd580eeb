"""The asset `station_forecasts`: the champion's forecasts of every series, published as one batch."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import numpy as np

from bts_assets.contracts.nights import ORIGIN
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.contracts.schemas import Forecasts
from bts_assets.defs.lstm_model import lstm_model
from bts_assets.defs.measured import measured, night_by_night
from bts_assets.defs.night import Night
from bts_assets.defs.partitions import asset_by_night
from bts_assets.defs.retry import retried_once
from bts_assets.defs.translate import check_spec, column_schema, counts, mlflow_run, picture, tag_run
from bts_assets.plots import forecast as forecast_plots
from bts_assets.services.home import Home
from bts_assets.services.mlflow_sync import tell_served
from bts_assets.services.nightly import NightResult, publish_night
from bts_assets.services.probation import running
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.accuracy import accuracy_of_week
from bts_assets.storage.forecasts import StoredForecast, some_forecasts, stored_batch
from bts_assets.storage.loading import UnsoundForecasts
from bts_assets.storage.model_versions import ModelVersion, champion_for
from bts_assets.storage.observation_blocks import count_known, read_panel
from bts_assets.storage.series_names import station_titles
from bts_assets.storage.station_limits import limits_of_series

#: Series that a picture is drawn of, each of another parameter.
_PICTURES = 6


def _by_the_morning(settings: Settings) -> dg.FreshnessPolicy:
    """Every day by BTS_READY_BY there is a batch of that night, made since its origin."""
    ready_by = settings.ready_by
    since_origin = timedelta(hours=ready_by.hour - ORIGIN.hour, minutes=ready_by.minute - ORIGIN.minute)
    deadline = f"{ready_by.minute} {ready_by.hour} * * *"
    return dg.FreshnessPolicy.cron(deadline, since_origin, str(settings.timezone))


@asset_by_night(
    deps=[lstm_model],
    group_name="nightly",
    kinds={"postgres", "pandera"},
    metadata={"dagster/column_schema": column_schema(Forecasts), "dagster/table_name": "bts.forecast"},
    freshness_policy=_by_the_morning(load_settings()),
    check_specs=[
        check_spec(
            "forecasts_schema",
            "station_forecasts",
            "every row is as its schema says; what is not so is never published",
            "the previous batch goes on serving; report it with the metadata",
            blocking=True,
        ),
        check_spec(
            "every_series_accounted_for",
            "station_forecasts",
            "each series of the input has its row in the forecast ledger",
            "report it with the metadata; bts.series_status has the series that there are",
        ),
        check_spec(
            "input_is_fresh",
            "station_forecasts",
            "the newest observation is recent",
            "see whether landing files arrive: bts doctor, and the newest of bts.ingest_ledger",
        ),
        check_spec(
            "forecasters_ran",
            "station_forecasts",
            "no series had to fall back",
            "bts.series_status has the reason of each",
        ),
    ],
)
@retried_once
@measured
def station_forecasts(
    context: dg.AssetExecutionContext, night: Night
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """All forecasts of one origin, published together or not at all; read them through bts.latest_forecast."""
    try:
        made = night_by_night(context, night, lambda origin: _publish(context, night.home, origin))
    except UnsoundForecasts as error:
        yield dg.AssetCheckResult(check_name="forecasts_schema", passed=False, metadata={"refused": str(error)})
        raise
    yield made


def _publish(context: dg.AssetExecutionContext, home: Home, origin: Origin) -> dg.MaterializeResult:
    champion = champion_for(home.engine, home.settings.grid)
    if champion is None:
        raise dg.Failure("no champion fits this grid; materialize lstm_model first")
    context.log.info("origin %s: %s", origin.issued_at, origin.why)
    probation = running(home)
    result = publish_night(home, origin, champion, context.run.run_id, probation.canary if probation else None)
    tell_served(home)
    # The tags of a run over several nights are the newest one's.
    made = {"batch": result.batch_id, "model_version": result.version.model_version_id}
    tag_run(context, origin=f"{origin.issued_at:%Y-%m-%dT%H:%MZ}", **made)
    return _told(home, origin, result)


def _told(home: Home, origin: Origin, result: NightResult) -> dg.MaterializeResult:
    champion = result.version
    made_by = f"batch {result.batch_id}, model version {champion.model_version_id}"
    with home.engine.connect() as connection:
        stored = stored_batch(connection, result.batch_id)
        batch, newest = stored.row, stored.newest_observed
        shown = some_forecasts(connection, result.batch_id, _PICTURES)
        series = count_known(connection, home.settings.grid, batch["issued_at"], batch["input_ledger_seq"])
        week = accuracy_of_week(connection)
    # The forecasts of an old batch that is asked for again may have been pruned.
    expected = 0 if batch["pruned_at"] else (batch["forecast"] + batch["fallback"]) * batch["horizon_steps"]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(batch["forecasts_digest"]),
        metadata={
            "series": batch["series"],
            "batch_id": result.batch_id,
            **_mase(champion, week),
            "model_version_id": champion.model_version_id,
            **mlflow_run(home.models, champion),
            **{status: batch[status] for status in ("forecast", "fallback", "excluded")},
            "issued_at": origin.issued_at.isoformat(),
            "origin": origin.why,
            "kind": batch["kind"],
            "new": result.new,
            "serves_latest": result.serves_latest,
            **_canary(batch),
            "trained_past_origin": champion.training_end > batch["issued_at"],
            "sources": counts(stored.sources),
            **picture(_picture, home, batch["issued_at"], shown, made_by),
            "dagster/row_count": stored.forecasts,
            "bytes": stored.forecasts * len(QUANTILE_COLUMNS) * 8,
            "observations_digest": batch["observations_digest"],
            "digest": batch["forecasts_digest"],
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="forecasts_schema",
                passed=stored.forecasts == expected,
                metadata={"rows_validated": stored.forecasts},
            ),
            dg.AssetCheckResult(
                check_name="every_series_accounted_for",
                passed=batch["series"] == series,
                metadata={"series": series, "ledger_rows": batch["series"]},
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


def _mase(champion: ModelVersion, week: Mapping[str, Mapping[Any, Any]]) -> dict[str, float]:
    """Median MASE of what was served over the last scored days, and in the backtest of the version, where known."""
    told = {
        "median_mase_7_days": week.get("served", {}).get("mase"),
        "median_mase_backtest": champion.metrics.get("served", {}).get("median_mase"),
    }
    return {name: round(value, 3) for name, value in told.items() if value is not None}


def _canary(batch: Mapping[Any, Any]) -> dict[str, Any]:
    """The challenger and its share of the stations, where the batch is a canary's too."""
    names = ("canary_version_id", "canary_share")
    return {name: batch[name] for name in names if batch["canary_version_id"] is not None}


def _picture(home: Home, issued_at: datetime, shown: list[StoredForecast], made_by: str) -> bytes | None:
    """A few forecasts, as stored, with the newest of the history that they were made from."""
    grid, series = home.settings.grid, [(stored.station_id, stored.parameter_id) for stored in shown]
    parameters = [home.catalogue.of(stored.parameter_id) for stored in shown]
    with home.engine.connect() as connection:
        panel = read_panel(connection, grid, issued_at - grid.context, issued_at, series)
        limits = [
            limits_of_series(connection, stored.station_id, parameter)
            for stored, parameter in zip(shown, parameters, strict=True)
        ]
        stations = station_titles(connection, (stored.station_id for stored in shown))
    drawn: list[forecast_plots.Forecast] = []
    for stored, parameter, (low, high) in zip(shown, parameters, limits, strict=True):
        mine = (panel.station_id == stored.station_id) & (panel.parameter_id == stored.parameter_id)
        forecast = forecast_plots.Forecast(
            title=f"{parameter.name}, {stations[stored.station_id]}: {stored.source}",
            unit=parameter.unit,
            step=panel.grid.step,
            issued_at=panel.end,
            history=panel.values[np.flatnonzero(mine)[0]],
            quantiles=stored.quantiles,
            low_limit=low,
            high_limit=high,
        )
        drawn.append(forecast)
    return forecast_plots.forecasts(drawn, made_by) if drawn else None

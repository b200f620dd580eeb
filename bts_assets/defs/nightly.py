"""When things run: the nightly job, ingest as files come, retraining by the week or by hand, backtests by hand."""

import hashlib
import time
from typing import Final

import dagster as dg

from bts_assets.services.home import open_home
from bts_assets.services.ingest import look_for_fresh_files
from bts_assets.settings import load_settings

#: A night's origin is at two; it starts half an hour later, when the files of the hour before two have landed.
ORIGIN_HOUR: Final = 2
START: Final = "30 2 * * *"

#: After Sunday's night has been published.
RETRAINING: Final = "0 4 * * 0"

nightly = dg.define_asset_job(
    "nightly",
    selection=[
        *("readings", "grouped_series", "lstm_model", "station_forecasts"),
        *("challenger_forecasts", "data_profile", "forecast_scores", "retention"),
    ],
    description="landing files in, forecasts out: ingest, observe, forecast, publish; score what came true; prune",
)

ingest = dg.define_asset_job(
    "ingest", selection=["readings", "grouped_series"], description="take landing files in, without forecasting"
)

retrain = dg.define_asset_job(
    "retrain",
    selection=["challenger_model"],
    description="train a challenger on what is known; it serves from then on if it is better than the champion",
)

backtest = dg.define_asset_job(
    "backtest", selection=["forecast_backtest"], description="what past nights would have been worth; publishes nothing"
)


@dg.schedule(
    job=nightly,
    cron_schedule=START,
    execution_timezone=str(load_settings().timezone),
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One run per night, whose origin is 02:00 in BTS_TIMEZONE."""
    return _of_the_night(context)


@dg.schedule(job=retrain, cron_schedule=RETRAINING, execution_timezone=str(load_settings().timezone))
def every_week(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """One challenger a week, trained on what was known at 02:00 in BTS_TIMEZONE. It is off until it is switched on."""
    return _of_the_night(context)


@dg.sensor(job=ingest, minimum_interval_seconds=60, default_status=dg.DefaultSensorStatus.RUNNING)
def new_landing_files() -> dg.RunRequest | dg.SkipReason:
    """Takes new landing files in as they come, so that the night has little left to read."""
    home = open_home(load_settings())
    try:
        if not home.landing.is_dir():
            return dg.SkipReason(f"no landing folder at {home.landing}")
        _, fresh = look_for_fresh_files(home, home.landing)
    finally:
        home.engine.dispose()
    if not fresh:
        return dg.SkipReason("no new landing files")
    # Within ten minutes the same files are asked for once; after that again, should the run have failed.
    window = int(time.time() // 600)
    seen = f"{window}\n" + "\n".join(f"{f.path} {f.size} {f.mtime_ns}" for f in fresh)
    return dg.RunRequest(run_key=hashlib.sha256(seen.encode("utf-8", "backslashreplace")).hexdigest())


def night_config(landing_dir: str | None = None, as_of: str | None = None) -> dict[str, dict]:
    """Run configuration of the resource `night`."""
    given = {k: v for k, v in (("landing_dir", landing_dir), ("as_of", as_of)) if v is not None}
    return {"resources": {"night": {"config": given}}}


def _of_the_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    # A tick that is asked for by hand comes in UTC.
    tick = context.scheduled_execution_time.astimezone(load_settings().timezone)
    night = tick.replace(hour=ORIGIN_HOUR, minute=0, second=0, microsecond=0)
    return dg.RunRequest(run_key=f"{night:%Y-%m-%d}", run_config=night_config(as_of=night.isoformat()))

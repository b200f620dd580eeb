"""When things run: the nightly job, ingest as files come, retraining on evidence or by hand, backtests by hand."""

import hashlib
import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import dagster as dg

from bts_assets.contracts.nights import START, may_start, origin_of
from bts_assets.defs.challenger import REASON
from bts_assets.defs.partitions import partition_of, tags_of
from bts_assets.services.home import open_home
from bts_assets.services.ingest import look_for_fresh_files
from bts_assets.services.retraining import whether_to_retrain
from bts_assets.settings import load_settings

#: A night starts half an hour after its origin. In the night when the clock skips from two to three, Dagster moves the
#: first time to three, which is the origin itself: then it is the second that starts it. On any other night, the second
#: finds the night's run already there, or makes good a first that was missed.
STARTS: Final = [f"{START.minute} {START.hour} * * *", f"{START.minute} {START.hour + 1} * * *"]

#: After the night has been published.
RETRAINING: Final = "0 4 * * *"

nightly = dg.define_asset_job(
    "nightly",
    selection=[
        *("readings", "grouped_series", "lstm_model", "station_forecasts"),
        *("challenger_forecasts", "data_profile", "forecast_scores", "drift", "site_power", "alerts", "retention"),
    ],
    description="landing files in, forecasts out: ingest, observe, forecast, publish; score, find drift, alert, prune",
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
    "backtest",
    selection=["forecast_backtest"],
    description="a rolling-origin backtest: past nights are forecast again and scored; publishes nothing",
)


@dg.schedule(
    job=nightly,
    cron_schedule=STARTS,
    execution_timezone=str(load_settings().timezone),
    description="the night: takes files in, forecasts from 02:00 in BTS_TIMEZONE, publishes, scores, alerts",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def every_night(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run per night, whose origin is 02:00 in BTS_TIMEZONE.

    After nights of downtime the newest alone is made good: Dagster asks for the last time missed, and no other. Nobody
    acts on a forecast of a night that is over, and its landing files are taken in all the same.
    """
    zone = load_settings().timezone
    if not may_start(context.scheduled_execution_time, zone):
        return dg.SkipReason("files of the hour before the origin have half an hour to land; the night starts then")
    return _of_the_night(context, tags_of)


@dg.schedule(
    job=retrain,
    cron_schedule=RETRAINING,
    execution_timezone=str(load_settings().timezone),
    description="trains a challenger where drift, accuracy, age or new data ask for one; its tick says why, or why not",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def on_evidence(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """A challenger on what was known at 02:00 in BTS_TIMEZONE, where drift, accuracy, age or new data ask for one."""
    settings = load_settings()
    home = open_home(settings, to_read=True)
    try:
        day = context.scheduled_execution_time.astimezone(settings.timezone).date()
        verdict = whether_to_retrain(home, origin_of(day, settings.timezone))
    finally:
        home.engine.dispose()
    if not verdict.due:
        return dg.SkipReason(verdict.words)
    return _of_the_night(context, lambda _: {REASON: verdict.words})


@dg.sensor(
    job=ingest,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="takes new landing files in as they come, so that the night has little left to read",
)
def new_landing_files() -> dg.RunRequest | dg.SkipReason:
    """Takes new landing files in as they come, so that the night has little left to read."""
    home = open_home(load_settings(), to_read=True)
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


def night_config(landing_dir: str | None = None, as_of: str | None = None, why: str | None = None) -> dict[str, dict]:
    """Run configuration of the resource `night`."""
    given = {k: v for k, v in (("landing_dir", landing_dir), ("as_of", as_of), ("why", why)) if v is not None}
    return {"resources": {"night": {"config": given}}}


def _of_the_night(context: dg.ScheduleEvaluationContext, tags: Callable[[datetime], dict[str, str]]) -> dg.RunRequest:
    zone = load_settings().timezone
    # A tick that is asked for by hand comes in UTC.
    origin = origin_of(context.scheduled_execution_time.astimezone(zone).date(), zone)
    config = night_config(as_of=origin.isoformat())
    return dg.RunRequest(run_key=partition_of(origin), run_config=config, tags=tags(origin))

"""The one Definitions object: it lists, and decides nothing."""

import dagster as dg

from bts_assets.defs.abandoned_runs import abandoned_runs
from bts_assets.defs.alerts import alert_watch, alerts, succeeded_runs
from bts_assets.defs.backtest import forecast_backtest
from bts_assets.defs.challenger import challenger_forecasts, challenger_model
from bts_assets.defs.data_profile import data_profile
from bts_assets.defs.drift import drift
from bts_assets.defs.failed_runs import failed_runs
from bts_assets.defs.forecast_scores import forecast_scores
from bts_assets.defs.grouped_series import grouped_series
from bts_assets.defs.io_manager import StoresNothing
from bts_assets.defs.lstm_model import lstm_model
from bts_assets.defs.night import Night
from bts_assets.defs.readings import readings
from bts_assets.defs.retention import retention
from bts_assets.defs.schedules import backtest, every_night, ingest, new_landing_files, nightly, on_evidence, retrain
from bts_assets.defs.site_power import site_power
from bts_assets.defs.station_forecasts import station_forecasts

defs = dg.Definitions(
    assets=[
        readings,
        grouped_series,
        lstm_model,
        station_forecasts,
        challenger_forecasts,
        data_profile,
        forecast_scores,
        site_power,
        alerts,
        drift,
        retention,
        challenger_model,
        forecast_backtest,
    ],
    jobs=[nightly, ingest, retrain, backtest],
    schedules=[every_night, on_evidence],
    sensors=[new_landing_files, failed_runs, succeeded_runs, abandoned_runs, alert_watch],
    resources={"night": Night.configure_at_launch(), "io_manager": StoresNothing()},
    # A process per step would import Dagster, MLflow or TensorFlow in each.
    executor=dg.in_process_executor,
)

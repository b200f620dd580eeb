"""The registered model as MLflow serves it: raw history rows in, forecast rows out. MLflow runs this file from code."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import panel_from_observations
from bts_assets.contracts.schemas import UTC_TIME, Readings, validate
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.landing.series import observe


class ServedForecaster(PythonModel):
    """Forecasts from the end of the newest step that the rows reach into, of every series in them."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["bundle"])
        self._bundle = Bundle.from_files({file.name: file.read_bytes() for file in folder.iterdir()})

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rows of `station_id, parameter_id, reading_time, value` in; rows of the `Forecasts` schema out."""
        readings = validate(Readings, _readings(model_input))
        grid, catalogue = self._bundle.grid, load_catalogue()
        newest = readings["reading_time"].max().to_pydatetime()
        end = grid.instant(grid.index(newest) + 1)
        start = end - grid.context
        midnight = datetime.combine(start.date(), datetime.min.time(), UTC)
        observed = observe([readings], catalogue, grid, midnight, midnight + (grid.context // DAY + 3) * DAY)
        panel = panel_from_observations(observed.observations, grid, start, end)
        return make_batch(self._bundle, panel, catalogue).to_frame()


def _readings(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "reading_id": pd.array([pd.NA] * len(rows), dtype="Int64"),
            "station_id": rows["station_id"].to_numpy(np.int64),
            "parameter_id": rows["parameter_id"].to_numpy(np.int32),
            "reading_time": pd.to_datetime(rows["reading_time"], utc=True, format="ISO8601").astype(UTC_TIME).array,
            "value": rows["value"].to_numpy(np.float64),
        }
    )


mlflow.models.set_model(ServedForecaster())

"""The registered model as MLflow serves it: raw history rows in, forecast rows out. MLflow runs this file from code."""

import hashlib
import json
import logging
import os
import time
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException
from mlflow.pyfunc import PythonModel
from pyarrow import csv
from threadpoolctl import threadpool_limits

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.schemas import Readings, validate
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.bundle import Bundle, digest_of
from bts_assets.landing.cells import PADDING
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.series import observe

#: The columns of a landing file; `id` may be left out.
_COLUMNS: Final = ("id", "station_id", "parameter_id", "reading_time", "value")

#: Below this every whole number is a float of its own.
_EXACT: Final = 2**53

#: File that answered requests are logged to, a JSON object a line; unset: standard error.
_LOG_SETTING: Final = "BTS_REQUEST_LOG"


class RequestRefused(MlflowException):
    """Rows that nothing can be forecast from; MLflow's server answers with status 400 and the one line."""

    def __init__(self, line: str) -> None:
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return str(self.args[0])

    @message.setter
    def message(self, text: str) -> None:
        """Ignored: MLflow's server would put a print of all rows before the text."""


class ServedForecaster(PythonModel):
    """Forecasts from the end of the newest step that the rows reach into, of every series in them.

    Rows are read by the rules of a landing file, as a night would: one that cannot be used is left out, and counted in
    the answer. Nothing here changes while it answers, so that a server may ask from several threads.
    """

    def load_context(self, context: Any) -> None:
        """Raises `BundleError` or `MlflowException` where the bytes are not those that were trained."""
        folder = Path(context.artifacts["bundle"])
        files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
        if digest_of(files) != folder.name:
            raise MlflowException(f"model version {folder.name[:12]} is not what was trained: its bytes have changed")
        self._bundle = Bundle.from_files(files)
        self._catalogue = self._bundle.catalogue
        self._about = {"bundle_digest": folder.name, **_registered(folder.parents[1])}
        self._log = _request_log()
        # For good: requests come in several threads, and a limit that each sets for itself ends for all with the first.
        threadpool_limits(1, "blas")
        # A model that cannot forecast does not come up; and the first request waits for no import.
        grid = self._bundle.grid
        nothing = np.zeros((1, grid.context_steps))
        panel = Panel(grid, np.zeros(1, np.int64), np.zeros(1, np.int32), grid.floor(datetime.now(UTC)), nothing)
        make_batch(self._bundle, panel, self._catalogue)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Rows of `station_id, parameter_id, reading_time, value` and perhaps `id` in, of the `Forecasts` schema out.

        Each row out ends with `rejected`: how many of the rows in were left out, by reason; empty where none was.

        Raises:
            RequestRefused: if no row can be used.
        """
        now, begun = datetime.now(UTC), time.monotonic()
        entry = {"time": now.isoformat(), **self._about, "rows": len(model_input)}
        try:
            rows = _as_landing_file(model_input)
            entry["input_digest"] = hashlib.sha256(rows).hexdigest()
            parsed = self._parse(rows, now)
            panel = self._panel(parsed)
            batch = make_batch(self._bundle, panel, self._catalogue)
            entry |= _answer(parsed, panel, batch)
            return batch.to_frame().assign(rejected=_in_words(parsed.reasons))
        except Exception as error:
            entry["error"] = (str(error).splitlines() or [type(error).__name__])[0]
            raise
        finally:
            self._log.info(json.dumps(entry | {"seconds": round(time.monotonic() - begun, 3)}))

    def _parse(self, rows: bytes, now: datetime) -> ParsedFile:
        try:
            parsed = parse_landing_file(rows, self._catalogue, landing_timezone=ZoneInfo("UTC"), now=now, max_skew=DAY)
        except LandingFileRefused as error:
            raise RequestRefused(str(error)) from None
        if not parsed.accepted:
            reasons = _in_words(parsed.reasons)
            raise RequestRefused(f"none of {parsed.rows} rows can be used{reasons and ': ' + reasons}")
        return parsed

    def _panel(self, parsed: ParsedFile) -> Panel:
        grid, readings = self._bundle.grid, validate(Readings, parsed.readings)
        end = grid.instant(grid.index(readings["reading_time"].max().to_pydatetime()) + 1)
        start = end - grid.context
        midnight = datetime.combine(start.date(), datetime.min.time(), UTC)
        observed = observe([readings], self._catalogue, grid, midnight, midnight + (grid.context // DAY + 3) * DAY)
        # A series whose rows are all older is known, and silent: so the panel is the one of a night that knew them.
        known = readings[["station_id", "parameter_id"]].drop_duplicates()
        return panel_from_observations(observed.observations, grid, start, end, known)


def _as_landing_file(rows: pd.DataFrame) -> bytes:
    """The rows as CSV. A cell is what a landing file would hold there; nothing in it can end the cell or the row."""
    out = BytesIO()
    columns = [name for name in _COLUMNS if name in rows]
    table = pa.table([_cells(name, rows[name]) for name in columns], names=columns)
    csv.write_csv(table, out, csv.WriteOptions(quoting_style="none"))
    return out.getvalue()


def _cells(name: str, column: pd.Series) -> pa.Array:
    if column.dtype.kind in "iuf" and (name == "value" or column.dtype.kind != "f"):
        return pa.array(column, from_pandas=True)
    texts = pa.array(column.map(_text, na_action="ignore"), pa.string(), from_pandas=True)
    return pc.replace_substring_regex(pc.ascii_trim(texts, characters=PADDING), '[,"\r\n]', "?")


def _text(cell: Any) -> str:
    """A cell of JSON as a landing file would have it: beside a missing id, pandas makes 7 into 7.0."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < _EXACT:
        return str(int(cell))
    return str(cell)


def _answer(parsed: ParsedFile, panel: Panel, batch: Batch) -> dict[str, Any]:
    return {
        "accepted": parsed.accepted,
        "rejected": parsed.reasons,
        "duplicate": parsed.duplicates,
        "issued_at": panel.end.isoformat(),
        "observations_digest": panel.digest,
        "series": len(panel),
        "forecast": len(batch.quantiles),
    }


def _in_words(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items())


def _registered(model: Path) -> dict[str, Any]:
    """Name and version of a model that came from the registry: MLflow leaves them beside it."""
    file = model / "registered_model_meta"
    told = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {"model": told.get("model_name"), "registry_version": told.get("model_version")}


def _request_log() -> logging.Logger:
    path = os.environ.get(_LOG_SETTING)
    handler = logging.FileHandler(path, encoding="utf-8") if path else logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("bts_assets.requests")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    return logger


mlflow.models.set_model(ServedForecaster())

"""The pandera schemas of the frames that rooms hand to each other: columns, types, units and checks.

Reading times, observation times and target times are UTC and timezone-aware. Values are in the unit of the
catalogue. A frame that breaks its schema is a defect of the room that made it, so validation here is strict;
dirt in landing files is sorted out row by row before a `Readings` frame exists.
"""

from typing import Final

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.config import ValidationDepth

from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS

UTC_TIME: Final = pd.DatetimeTZDtype(unit="us", tz="UTC")
STATUSES: Final = ("forecast", "fallback", "excluded")


class SchemaChecksDisabled(BtsError, RuntimeError):
    """pandera was switched off from outside: a green light that means nothing."""


def _finite(values: pd.Series) -> pd.Series:
    return pd.Series(np.isfinite(values.to_numpy()), index=values.index)


_STATION: Final = pa.Column(
    "int64", pa.Check.ge(-(1 << 52)), description="station, the operator's number; below zero: of a name"
)
_PARAMETER: Final = pa.Column(
    "int32", pa.Check.ge(-(1 << 30)), description="parameter, the catalogue's number; below zero: of a name"
)

Readings: Final = pa.DataFrameSchema(
    {
        "reading_id": pa.Column(
            "Int64", nullable=True, description="the source's number of the reading, where it has one"
        ),
        "station_id": _STATION,
        "parameter_id": _PARAMETER,
        "reading_time": pa.Column(UTC_TIME, description="when the sensor was read, UTC"),
        "value": pa.Column("float64", pa.Check(_finite, error="finite"), description="in the parameter's unit"),
    },
    strict=True,
    ordered=True,
    name="Readings",
    description="accepted raw rows of one landing file, irregular in time",
)

Observations: Final = pa.DataFrameSchema(
    {
        "station_id": _STATION,
        "parameter_id": _PARAMETER,
        "observed_at": pa.Column(UTC_TIME, description="start of the interval [t, t + step), UTC"),
        "value": pa.Column(
            "float64", pa.Check(_finite, error="finite"), description="aggregated as the catalogue says"
        ),
        "readings": pa.Column("int32", pa.Check.ge(1), description="how many readings made it"),
    },
    strict=True,
    ordered=True,
    name="Observations",
    description="one row per series and step that has readings; a step without readings has no row",
)


def _quantiles_ascend(frame: pd.DataFrame) -> pd.Series:
    values = frame[list(QUANTILE_COLUMNS)].to_numpy()
    return pd.Series((np.diff(values, axis=1) >= 0).all(axis=1), index=frame.index)


Forecasts: Final = pa.DataFrameSchema(
    {
        "station_id": _STATION,
        "parameter_id": _PARAMETER,
        "issued_at": pa.Column(UTC_TIME, description="forecast origin, UTC"),
        "target_at": pa.Column(UTC_TIME, description="start of the interval that the row speaks of, UTC"),
        "step_ahead": pa.Column("int16", pa.Check.ge(1), description="steps after the origin, from 1"),
        **{
            q: pa.Column("float64", pa.Check(_finite, error="finite"), description=f"{int(q[1:])} % quantile")
            for q in QUANTILE_COLUMNS
        },
    },
    checks=[
        pa.Check(lambda f: f["target_at"] >= f["issued_at"], error="target_at >= issued_at"),
        pa.Check(_quantiles_ascend, error="q05 <= q10 <= q50 <= q90 <= q95"),
    ],
    strict=True,
    ordered=True,
    name="Forecasts",
    description="one row per series and step ahead of one batch",
)

ForecastLedger: Final = pa.DataFrameSchema(
    {
        "station_id": _STATION,
        "parameter_id": _PARAMETER,
        "status": pa.Column(str, pa.Check.isin(STATUSES)),
        "source": pa.Column(str, nullable=True, description="the candidate that served, or mixture; null if excluded"),
        "reason": pa.Column(str, nullable=True, description="why fallback or excluded"),
        "last_observed_at": pa.Column(UTC_TIME, nullable=True, description="newest observation before the origin, UTC"),
        "history_steps": pa.Column("int32", pa.Check.ge(0), description="observations in the context"),
        "context_steps": pa.Column("int32", pa.Check.ge(0), description="steps from the first of them to the origin"),
        "components": pa.Column(object, nullable=True, description="candidate -> weight, for a mixture"),
    },
    checks=pa.Check(
        lambda f: (f["status"] == "forecast") | f["reason"].notna(), error="a fallback or exclusion says why"
    ),
    strict=True,
    ordered=True,
    unique=["station_id", "parameter_id"],
    name="ForecastLedger",
    description="one row per series of one batch: nothing disappears silently",
)


def validate(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> pd.DataFrame:
    """Validate a frame against one of the schemas above, all failures at once.

    Raises:
        pandera.errors.SchemaErrors: with every failing check.
        SchemaChecksDisabled: if pandera is switched off, wholly or in part (PANDERA_VALIDATION_ENABLED=False,
            PANDERA_VALIDATION_DEPTH=SCHEMA_ONLY).
    """
    config = pa.config.get_config_context()
    if not config.validation_enabled:
        raise SchemaChecksDisabled("pandera validation is switched off; unset PANDERA_VALIDATION_ENABLED")
    if config.validation_depth is not ValidationDepth.SCHEMA_AND_DATA:
        raise SchemaChecksDisabled("pandera validation is switched off in part; unset PANDERA_VALIDATION_DEPTH")
    return schema.validate(frame, lazy=True)

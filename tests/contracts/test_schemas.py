"""Each schema refuses what its checks say, and a switched-off pandera is no green light."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors

from bts_assets.contracts import schemas
from bts_assets.contracts.schemas import (
    ForecastLedger,
    Forecasts,
    Observations,
    Readings,
    SchemaChecksDisabled,
    validate,
)

AT = pd.Timestamp(datetime(2026, 3, 10, tzinfo=UTC)).as_unit("us")


def times(*minutes: int) -> pd.Series:
    return pd.Series([AT + timedelta(minutes=m) for m in minutes]).astype(schemas.UTC_TIME)


SERIES = {"station_id": np.array([1, 2], "int64"), "parameter_id": np.array([122, 122], "int32")}
GOOD = {
    "Readings": pd.DataFrame(
        {
            "reading_id": pd.array([7, pd.NA], "Int64"),
            **SERIES,
            "reading_time": times(0, 1),
            "value": [1.5, -2.5],
        }
    ),
    "Observations": pd.DataFrame(
        {**SERIES, "observed_at": times(0, 15), "value": [1.5, -2.5], "readings": np.array([1, 9], "int32")}
    ),
    "Forecasts": pd.DataFrame(
        {
            **SERIES,
            "issued_at": times(0, 0),
            "target_at": times(0, 15),
            "step_ahead": np.array([1, 2], "int16"),
            **{q: [v, 3.0] for q, v in (("q05", 1.0), ("q10", 1.0), ("q50", 2.0), ("q90", 4.0), ("q95", 5.0))},
        }
    ),
    "ForecastLedger": pd.DataFrame(
        {
            **SERIES,
            "status": ["forecast", "excluded"],
            "source": ["lstm", None],
            "reason": [None, "no observation in the context"],
            "last_observed_at": pd.Series([AT, pd.NaT]).astype(schemas.UTC_TIME),
            "history_steps": np.array([96, 0], "int32"),
            "context_steps": np.array([672, 0], "int32"),
            "components": pd.Series([{"lstm": 1.0}, None], dtype=object),
        }
    ),
}  # fmt: skip
SCHEMAS: dict[str, pa.DataFrameSchema] = {s.name: s for s in (Readings, Observations, Forecasts, ForecastLedger)}
each_schema = pytest.mark.parametrize("name", SCHEMAS)

ASCENDING = "q05 <= q10 <= q50 <= q90 <= q95"
REASONED = "a fallback or exclusion says why"
Break = Callable[[pd.DataFrame], pd.DataFrame]


def put(column: str, value: object, row: int = 0) -> Break:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame[column].copy()
        changed.iloc[row] = value
        return frame.assign(**{column: changed})

    return change


def cast(column: str, dtype: object) -> Break:
    return lambda frame: frame.assign(**{column: frame[column].astype(dtype)})


def refusal(name: str, change: Break) -> pd.DataFrame:
    """The failure cases of a good frame with one change."""
    with pytest.raises(SchemaErrors) as error:
        validate(SCHEMAS[name], change(GOOD[name].copy()))
    return error.value.failure_cases


@each_schema
def test_good_frame_passes_unchanged(name: str) -> None:
    pd.testing.assert_frame_equal(validate(SCHEMAS[name], GOOD[name]), GOOD[name])


@each_schema
def test_empty_frame_of_the_right_types_passes(name: str) -> None:
    assert validate(SCHEMAS[name], GOOD[name].iloc[:0]).empty


@pytest.mark.parametrize(
    ("name", "change", "check"),
    [
        pytest.param("Readings", put("value", np.nan), "not_nullable", id="reading_without_value"),
        pytest.param("Readings", put("value", np.inf), "finite", id="reading_that_is_infinite"),
        pytest.param(
            "Readings", put("station_id", -(2**52) - 1), f"greater_than_or_equal_to({-(2**52)})", id="no_names_station"
        ),
        pytest.param(
            "Readings",
            put("parameter_id", -(2**30) - 1),
            f"greater_than_or_equal_to({-(2**30)})",
            id="no_names_parameter",
        ),
        pytest.param("Readings", put("reading_time", pd.NaT), "not_nullable", id="reading_without_time"),
        pytest.param("Observations", put("value", np.nan), "not_nullable", id="observation_without_value"),
        pytest.param("Observations", put("value", -np.inf), "finite", id="observation_that_is_infinite"),
        pytest.param("Observations", put("readings", 0), "greater_than_or_equal_to(1)", id="observation_of_no_reading"),
        pytest.param("Forecasts", put("q50", 9.0), ASCENDING, id="median_above_q90"),
        pytest.param("Forecasts", put("q05", 3.1, row=1), ASCENDING, id="q05_above_q10"),
        pytest.param("Forecasts", put("q95", 3.9), ASCENDING, id="q95_below_q90"),
        pytest.param("Forecasts", put("q10", np.nan), "not_nullable", id="quantile_that_is_missing"),
        pytest.param("Forecasts", put("q95", np.inf), "finite", id="quantile_that_is_infinite"),
        pytest.param(
            "Forecasts", put("target_at", AT - timedelta(minutes=15)), "target_at >= issued_at", id="target_in_the_past"
        ),
        pytest.param("Forecasts", put("step_ahead", 0), "greater_than_or_equal_to(1)", id="step_ahead_of_nothing"),
        pytest.param(
            "ForecastLedger", put("status", "lost"), "isin(('forecast', 'fallback', 'excluded'))", id="unknown_status"
        ),
        pytest.param("ForecastLedger", put("reason", None, row=1), REASONED, id="exclusion_without_reason"),
        pytest.param("ForecastLedger", put("status", "fallback"), REASONED, id="fallback_without_reason"),
        pytest.param("ForecastLedger", put("station_id", 1, row=1), "multiple_fields_uniqueness", id="series_twice"),
        pytest.param("ForecastLedger", put("history_steps", -1), "greater_than_or_equal_to(0)", id="negative_history"),
    ],
)
def test_value_that_breaks_a_check_is_refused(name: str, change: Break, check: str) -> None:
    assert check in set(refusal(name, change)["check"].astype(str))


@pytest.mark.parametrize(
    ("name", "column", "dtype"),
    [
        pytest.param("Readings", "reading_id", "float64", id="reading_id_as_float"),
        pytest.param("Readings", "station_id", "int32", id="narrow_station_id"),
        pytest.param("Readings", "reading_time", "datetime64[us, Asia/Ho_Chi_Minh]", id="time_of_another_zone"),
        pytest.param("Readings", "value", "float32", id="half_the_digits"),
        pytest.param("Observations", "observed_at", "datetime64[ns, UTC]", id="nanoseconds"),
        pytest.param("Observations", "readings", "float64", id="count_as_float"),
        pytest.param("Forecasts", "q50", object, id="quantile_as_object"),
        pytest.param("ForecastLedger", "context_steps", "int64", id="wide_steps"),
    ],
)
def test_wrong_type_is_refused_and_not_mended(name: str, column: str, dtype: object) -> None:
    cases = refusal(name, cast(column, dtype))
    assert any(str(check).startswith("dtype(") for check in cases["check"])
    assert column in set(cases["column"].fillna("")) | set(cases["schema_context"]) | set(cases["failure_case"])


def test_naive_time_is_refused() -> None:
    naive = refusal("Readings", lambda f: f.assign(reading_time=f["reading_time"].dt.tz_localize(None)))
    assert any(str(check).startswith("dtype(") for check in naive["check"])


@each_schema
def test_extra_missing_and_disordered_columns_are_refused(name: str) -> None:
    last = GOOD[name].columns[-1]
    assert set(refusal(name, lambda f: f.assign(extra=1))["failure_case"]) == {"extra"}
    assert last in set(refusal(name, lambda f: f.drop(columns=last))["failure_case"])
    assert "column_ordered" in set(refusal(name, lambda f: f[[last, *f.columns[:-1]]])["check"])


def test_all_failures_are_told_at_once() -> None:
    both = refusal("Forecasts", lambda f: put("step_ahead", 0)(put("q50", 9.0)(f)))
    assert {"greater_than_or_equal_to(1)", ASCENDING} <= set(both["check"])


@pytest.mark.parametrize(
    "switched",
    [
        pytest.param({"validation_enabled": False}, id="off"),
        pytest.param({"validation_depth": ValidationDepth.SCHEMA_ONLY}, id="types_only"),
        pytest.param({"validation_depth": ValidationDepth.DATA_ONLY}, id="values_only"),
    ],
)
@each_schema
def test_nothing_passes_while_checks_are_switched_off(name: str, switched: dict[str, object]) -> None:
    with config_context(**switched), pytest.raises(SchemaChecksDisabled, match="unset PANDERA_VALIDATION"):  # type: ignore[arg-type]
        validate(SCHEMAS[name], GOOD[name])


@each_schema
def test_every_column_says_what_it_is(name: str) -> None:
    undescribed = [c for c, column in SCHEMAS[name].columns.items() if not column.description]
    assert undescribed == (["status"] if name == "ForecastLedger" else [])

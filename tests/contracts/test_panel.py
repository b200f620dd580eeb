"""The panel: where each observation goes, what stays out, and what the digest holds fast."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel, panel_from_observations
from bts_assets.contracts.schemas import UTC_TIME

HOUR = timedelta(hours=1)
GRID = Grid(HOUR, 4 * HOUR, 2 * HOUR)
START = datetime(2026, 3, 10, tzinfo=UTC)
NAN = np.nan


def observed(*rows: tuple[int, int, int, float]) -> pd.DataFrame:
    """Rows of (station, parameter, hours after START, value)."""
    station, parameter, hours, value = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pd.DataFrame(
        {
            "station_id": np.array(station, "int64"),
            "parameter_id": np.array(parameter, "int32"),
            "observed_at": pd.Series([START + h * HOUR for h in hours], dtype=UTC_TIME),
            "value": np.array(value, "float64"),
            "readings": np.ones(len(rows), "int32"),
        }
    )


def panel(rows: pd.DataFrame, hours: int = 4, known: pd.DataFrame | None = None, grid: Grid = GRID) -> Panel:
    return panel_from_observations(rows, grid, START, START + hours * HOUR, known)


#: Station ids sort otherwise as text, and lie beyond 32 bits.
ROWS = observed((1161114002, 122, 0, 1.0), (1161114002, 122, 3, 4.0), (9, 122, 1, 2.0), (1161114002, 111, 2, 3.0))


def series(p: Panel) -> list[tuple[int, int]]:
    return list(zip(p.station_id.tolist(), p.parameter_id.tolist(), strict=True))


def test_each_observation_stands_in_its_series_and_step() -> None:
    p = panel(ROWS)
    assert series(p) == [(9, 122), (1161114002, 111), (1161114002, 122)]
    np.testing.assert_array_equal(p.values, [[NAN, 2, NAN, NAN], [NAN, NAN, 3, NAN], [1, NAN, NAN, 4]])
    assert (len(p), p.steps, p.start, p.end) == (3, 4, START, START + 4 * HOUR)
    assert (p.values.dtype, p.station_id.dtype, p.parameter_id.dtype) == ("float64", "int64", "int32")


def test_rows_outside_the_span_are_not_used() -> None:
    outside = observed((9, 122, -1, 99.0), (9, 122, 4, 99.0), (77, 122, 4, 99.0), (78, 122, -1, 99.0))
    p = panel(pd.concat([outside, ROWS]))
    assert series(p) == series(panel(ROWS))
    assert p.digest == panel(ROWS).digest


def test_known_series_is_there_although_silent() -> None:
    known = pd.DataFrame({"station_id": [5, 9], "parameter_id": [114, 122]})
    p = panel(ROWS, known=known)
    assert series(p) == [(5, 114), (9, 122), (1161114002, 111), (1161114002, 122)]
    assert np.isnan(p.values[0]).all()
    np.testing.assert_array_equal(p.values[1:], panel(ROWS).values)


def test_known_series_alone_make_a_panel_and_nothing_makes_an_empty_one() -> None:
    known = pd.DataFrame({"station_id": [5], "parameter_id": [114]})
    assert series(panel(observed(), known=known)) == [(5, 114)]
    nothing = panel(observed())
    assert nothing.values.shape == (0, 4)
    assert nothing.digest != panel(observed(), hours=3).digest


def test_order_of_input_does_not_matter() -> None:
    random = np.random.default_rng(0)
    for _ in range(5):
        shuffled = ROWS.iloc[random.permutation(len(ROWS))]
        p = panel(shuffled)
        assert series(p) == series(panel(ROWS))
        assert p.digest == panel(ROWS).digest


def test_span_off_the_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="off the 1:00:00 grid"):
        panel_from_observations(ROWS, GRID, START + timedelta(minutes=1), START + 4 * HOUR)
    with pytest.raises(ValueError, match="off the 1:00:00 grid"):
        panel_from_observations(ROWS, GRID, START, START + timedelta(minutes=90))


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="2 series"):
        Panel(GRID, np.array([1, 2]), np.array([1, 2]), START, np.zeros((3, 4)))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(panel(ROWS.assign(value=[1.0, 4.0, 2.0, np.nextafter(3.0, 4.0)])), id="last_bit_of_a_value"),
        pytest.param(panel(ROWS.assign(parameter_id=ROWS["parameter_id"] + np.int32(1))), id="parameters"),
        pytest.param(panel(ROWS.assign(station_id=ROWS["station_id"] + 1)), id="stations"),
        pytest.param(panel(ROWS, hours=5), id="span"),
        pytest.param(panel_from_observations(ROWS, GRID, START - HOUR, START + 4 * HOUR), id="start"),
        pytest.param(panel(ROWS, known=pd.DataFrame({"station_id": [5], "parameter_id": [1]})), id="a_silent_series"),
        pytest.param(replace(panel(ROWS), end=START + 5 * HOUR), id="times"),
        pytest.param(replace(panel(ROWS), grid=Grid(HOUR / 2, HOUR, HOUR)), id="step"),
    ],
)
def test_digest_tells_inputs_apart(other: Panel) -> None:
    assert other.digest != panel(ROWS).digest


def test_digest_heeds_neither_context_nor_horizon() -> None:
    assert panel(ROWS, grid=Grid(HOUR, 9 * HOUR, HOUR)).digest == panel(ROWS).digest


def test_until_is_the_panel_as_it_was_known_then() -> None:
    earlier = panel(ROWS).until(1)
    assert (earlier.start, earlier.end, earlier.steps) == (START, START + 3 * HOUR, 3)
    np.testing.assert_array_equal(earlier.values, panel(ROWS).values[:, :3])
    assert earlier.digest == panel(ROWS, hours=3).digest
    assert panel(ROWS).until(0).digest == panel(ROWS).digest
    assert panel(ROWS).until(4).values.shape == (3, 0)

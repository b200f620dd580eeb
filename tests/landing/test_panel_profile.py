"""Figures of data, held against the same figures worked out one series at a time."""

from datetime import UTC, datetime, timedelta
from itertools import groupby

import numpy as np
import pandas as pd
import pytest

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.landing import panel_profile as module
from bts_assets.landing.panel_profile import by_parameter, profile

GRID = Grid(timedelta(hours=1), timedelta(hours=6), timedelta(hours=2))
END = datetime(2026, 3, 10, tzinfo=UTC)
NAN = np.nan


def panel_of(values: list[list[float]] | np.ndarray, parameters: list[int] | None = None) -> Panel:
    array = np.array(values, dtype=float)
    parameter_id = np.array(parameters or [122] * len(array), dtype=np.int32)
    return Panel(GRID, np.arange(1, len(array) + 1), parameter_id, END, array)


def counted(*rows: tuple[int, int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["station_id", "parameter_id", "readings", "most_readings"])


def random_panel(series: int, steps: int, seed: int = 1) -> Panel:
    rng = np.random.default_rng(seed)
    values = rng.normal(50, 10, (series, steps))
    values[rng.random(values.shape) < rng.random((series, 1))] = NAN
    parameters = rng.integers(110, 115, series).astype(np.int32)
    return Panel(GRID, np.arange(series), parameters, END, values)


def runs_of_missing(values: np.ndarray) -> list[int]:
    return [len(list(run)) for missing, run in groupby(np.isnan(values)) if missing]


def test_figures_of_a_series_are_what_one_reads_off_it() -> None:
    (row,) = profile(panel_of([[NAN, 1, 3, NAN, NAN, 8]]), counted((1, 122, 12, 7))).to_dict("records")
    assert row == {
        "station_id": 1, "parameter_id": 122, "observations": 3, "missing_share": 0.5, "minimum": 1, "maximum": 8,
        "q05": pytest.approx(1.2), "q25": 2, "median": 3, "q75": 5.5, "q95": pytest.approx(7.5), "mean": 4,
        "sd": pytest.approx(np.std([1, 3, 8])), "gaps": 2, "longest_gap": 2, "readings": 12, "most_readings": 7,
        "readings_per_step": 4,
    }  # fmt: skip


def test_a_silent_series_has_its_row_without_values() -> None:
    figures = profile(panel_of([[NAN] * 4, [5, 5, 5, 5]]), counted((2, 122, 4, 1)))
    silent, steady = figures.to_dict("records")
    assert [silent[k] for k in ("observations", "missing_share", "gaps", "longest_gap", "readings")] == [0, 1, 1, 4, 0]
    values = ["minimum", "q05", "q25", "median", "q75", "q95", "maximum", "mean", "sd"]
    assert all(np.isnan(silent[name]) for name in values)
    assert {steady[name] for name in values} == {5, 0}
    assert (silent["readings_per_step"], steady["readings_per_step"]) == (0, 1)
    assert (steady["gaps"], steady["longest_gap"]) == (0, 0)


def test_figures_are_those_of_numpy_on_each_series_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = random_panel(300, 97)
    figures = profile(panel, counted())
    for row, values in zip(figures.itertuples(), panel.values, strict=True):
        known = values[np.isfinite(values)]
        assert row.observations == len(known)
        runs = runs_of_missing(values)
        assert (row.gaps, row.longest_gap) == (len(runs), max(runs, default=0))
        if len(known):
            quantiles = [row.minimum, row.q05, row.q25, row.median, row.q75, row.q95, row.maximum]
            np.testing.assert_allclose(quantiles, np.quantile(known, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), rtol=1e-12)
            np.testing.assert_allclose([row.mean, row.sd], [known.mean(), known.std()], rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(module, "_CHUNK", 7)
    pd.testing.assert_frame_equal(profile(panel, counted()), figures)


def test_parameters_are_put_together_over_their_series() -> None:
    panel = panel_of([[1, 2, NAN, 3], [10, NAN, NAN, NAN], [NAN] * 4], [122, 122, 111])
    figures = by_parameter(profile(panel, counted((1, 122, 30, 20), (2, 122, 2, 2))), panel.steps)
    assert list(figures.index) == [111, 122]
    load = figures.loc[122].to_dict()
    assert load == {
        "series": 2, "silent": 0, "readings": 32, "observations": 4, "missing_share": 0.5, "minimum": 1, "mean": 4,
        "maximum": 10, "gaps": 2, "longest_gap": 3, "readings_per_step": 8, "most_readings": 20,
    }  # fmt: skip
    silent = figures.loc[111]
    assert (silent["silent"], silent["missing_share"], silent["readings_per_step"]) == (1, 1, 0)
    assert np.isnan(silent["mean"])


def test_a_panel_without_series_has_no_figures() -> None:
    empty = profile(panel_of(np.empty((0, 6))), counted())
    assert len(empty) == 0
    assert len(by_parameter(empty, 6)) == 0

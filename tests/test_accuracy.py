"""The accuracy benchmark is honest: it sees no test value early, foresees no outage, and gives points no intervals."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy import NEED_QUANTILES, score_any
from benchmarks.accuracy_data import M4_CUTS, m4_hourly
from benchmarks.accuracy_floor import foreseeable_signal
from benchmarks.accuracy_tables import report
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.backtest import SERVED
from bts_assets.forecasting.metrics import METRICS
from bts_assets.simulation.simulate import NetworkSpec, simulate_network

START = datetime(2026, 11, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_validation_cuts_m4s_training_part_and_never_opens_the_test(tmp_path: Path) -> None:
    folder = tmp_path / "m4_hourly_dev"
    folder.mkdir()
    lengths = (700, 960)
    rows = [[f"H{n}", *range(n), *[""] * (960 - n)] for n in lengths]
    pd.DataFrame(rows).to_csv(folder / "hourly-train.csv", index=False)

    cases = m4_hourly(tmp_path, timedelta(days=14), validate=True)

    assert len(cases) == len(M4_CUTS)
    for case, cut in zip(cases, M4_CUTS, strict=True):
        assert case.known[:, -1].tolist() == [n - cut - 1 for n in lengths]
        assert case.panel.values[:, -1].tolist() == [n - cut + 47 for n in lengths]
        assert case.origins == (case.panel.steps - 48,)
    with pytest.raises(FileNotFoundError, match="hourly-test"):
        m4_hourly(tmp_path, timedelta(days=14), validate=False)


def test_the_foreseeable_is_the_truth_before_the_origin_and_no_outage_after_it(tmp_path: Path) -> None:
    spec = NetworkSpec(stations=20, days=4, end=START, seed=3, parameters=(114, 121), readings_per_hour=1)
    origin = spec.end - timedelta(days=1)
    simulate_network(spec, tmp_path / "landing")
    wide = {"index": ["station_id", "parameter_id"], "columns": "observed_at", "values": "value"}
    truth = pd.read_parquet(tmp_path / "landing-truth" / "truth.parquet").pivot_table(**wide)
    foreseen = foreseeable_signal(spec, origin).pivot_table(**wide)

    past = truth.columns < origin
    pd.testing.assert_frame_equal(foreseen.loc[:, past], truth.loc[:, past])
    voltage = truth.index.get_level_values("parameter_id") == 121
    assert (truth.loc[voltage, ~past] == 0).to_numpy().any()
    assert (foreseen.loc[voltage, ~past].iloc[:, 12:] > 0).to_numpy().all()
    # The weather is foreseen for hours, and not for a day.
    error = (foreseen - truth).loc[~voltage, ~past].abs().mean()
    assert error.iloc[:8].max() < 0.2 < error.iloc[-16:].mean()


def test_a_data_set_of_two_grids_is_reported_whole() -> None:
    def scored(label: str, steps: int, mase: float) -> pd.DataFrame:
        rows = {
            "series": [f"{label} 1"], "label": label, "steps": steps, "origin": START, "candidate": SERVED,
            "station_id": 1, "parameter_id": 7, "mase": mase,
        }  # fmt: skip
        rest = {metric: 0.5 for metric in METRICS if metric != "mase"}
        return pd.DataFrame(rows).assign(**rest)

    quarters, hours = scored("quarters", 96, 1.0), scored("hours", 24, 3.0)
    last = pd.concat([quarters, hours]).assign(candidate="last_value")
    scores = pd.concat([quarters, hours, last], ignore_index=True)
    told = report("nab", "Two grids", scores, [1.0], [])

    assert "| **served** | 2.000 | 2.000 |" in told
    assert "| quarters | 1.000 |" in told
    assert "| hours | 3.000 |" in told


def test_a_forecast_of_points_has_no_figure_of_an_interval() -> None:
    truth = np.array([[1.0, 2.0], [3.0, 5.0]])
    came = Panel(Grid(HOUR, HOUR, 2 * HOUR), np.array([1, 2]), np.array([7, 7]), START, truth)
    points = np.full((2, 2, len(QUANTILES)), np.nan)
    points[:, :, MEDIAN] = truth + 1

    scored = score_any(came, "points", points, np.array([1.0, 2.0]))

    assert scored["mase"].tolist() == [1.0, 0.5]
    assert scored[list(NEED_QUANTILES)].isna().all(axis=None)
    assert scored[[m for m in METRICS if m not in NEED_QUANTILES]].notna().all(axis=None)

"""How the pretrained network forecasts recordings that it never saw, beside last value and seasonal naive.

    python -m benchmarks.pretrained [--only nab,ett,m4] [--data ../shared/data] [--weights FILE]

Zero-shot: nothing is trained or chosen here. MASE is scaled by the mean absolute difference from one day to the next
in all that precedes the first origin; a series that cannot be scaled is left out.
"""

import argparse
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from safetensors.numpy import load_file

from benchmarks.accuracy_data import HOUR, MINUTE, BacktestCase, m4_hourly
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.forecasters import Forecaster, LastValue, SeasonalNaive
from bts_assets.forecasting.metrics import mase_scale
from bts_assets.forecasting.pretrained import PretrainedForecaster
from bts_assets.forecasting.windows import at_origin

BASELINES: Final = (LastValue(), SeasonalNaive("seasonal_naive_day", 1), SeasonalNaive("seasonal_naive_week", 7))


def nab(data: Path) -> list[BacktestCase]:
    """23 series of volumes, traffic and prices, 24 h ahead from 10 origins: at 15 min, prices at an hour."""
    found = []
    for file in sorted((data / "nab_dev").glob("*.csv")):
        step = HOUR if file.name.startswith("exchange") else 15 * MINUTE
        grid = Grid(step, 14 * DAY, DAY)
        table = pd.read_csv(file, parse_dates=["timestamp"])
        series = table.set_index(table["timestamp"].dt.tz_localize("UTC"))["value"].resample(step).mean()
        end = series.index[-1].to_pydatetime() + step
        panel = Panel(grid, np.array([1]), np.array([1], np.int32), end, series.to_numpy(np.float64)[None])
        last = panel.steps - grid.horizon_steps
        apart = (last - panel.steps // 3) // 9
        origins = tuple(last - apart * back for back in reversed(range(10)))
        found.append(BacktestCase(panel, origins, label=file.stem))
    return found


def ett(data: Path) -> list[BacktestCase]:
    """ETTh1 as GIFT-Eval cuts it: 20 windows of 48 h that do not overlap, at its end."""
    table = pd.read_csv(data / "ett" / "ETTh1.csv", index_col="date", parse_dates=True).tz_localize("UTC")
    grid = Grid(HOUR, 42 * DAY, 48 * HOUR)
    values = table.to_numpy(np.float64).T
    end = table.index[-1].to_pydatetime() + HOUR
    panel = Panel(grid, np.full(len(values), 1), np.arange(len(values), dtype=np.int32), end, values)
    return [BacktestCase(panel, tuple(panel.steps - 48 * k for k in range(20, 0, -1)), label="ETTh1")]


def m4(data: Path) -> list[BacktestCase]:
    return m4_hourly(data, 42 * DAY, validate=False)


DATA_SETS: Final[dict[str, Callable[[Path], list[BacktestCase]]]] = {"nab": nab, "ett": ett, "m4": m4}


def scores(case: BacktestCase, forecaster: Forecaster) -> pd.DataFrame:
    """A row per series and origin: MASE, pinball loss, sMAPE, coverage, and what WQL is of."""
    scale = mase_scale(case.known, case.panel.grid.steps_per_day)
    horizon = case.panel.grid.horizon_steps
    levels = np.array(QUANTILES)
    rows = []
    for origin in case.origins:
        truth = case.panel.values[:, origin : origin + horizon]
        context = at_origin(case.panel, origin)
        quantiles = np.sort(forecaster.forecast(context), axis=2)
        floor = np.where(np.nanmin(context.values, axis=1) >= 0, 0.0, -np.inf)
        quantiles = np.maximum(quantiles, floor[:, None, None])
        error = truth[:, :, None] - quantiles
        loss = np.nanmean(np.maximum(levels * error, (levels - 1) * error), axis=(1, 2))
        known = np.isfinite(truth)
        row = {
            "series": [f"{case.label} {k}" for k in range(len(truth))],
            "mase": np.nanmean(np.abs(error[:, :, MEDIAN]), axis=1) / scale,
            "loss": loss / scale,
            "wql": 2 * loss * known.sum(axis=1),
            "size": np.nansum(np.abs(truth), axis=1),
            "smape": 200
            * np.nanmean(np.abs(error[:, :, MEDIAN]) / (np.abs(truth) + np.abs(quantiles[:, :, MEDIAN])), axis=1),
        }
        for name, low in (("coverage80", 2), ("coverage90", 1)):
            inside = (truth >= quantiles[:, :, low] - 1e-12) & (truth <= quantiles[:, :, -1 - low] + 1e-12)
            row[name] = np.where(known, inside, 0).sum(axis=1) / known.sum(axis=1)
        rows.append(pd.DataFrame(row))
    return pd.concat(rows)


def report(name: str, data: Path, pretrained: Forecaster) -> str:
    cases = DATA_SETS[name](data)
    lines = [f"{name}: {sum(len(r.panel) for r in cases)} series", ""]
    lines += [
        "| | MASE | median MASE | loss / last value | WQL | sMAPE | 80 % coverage | 90 % coverage"
        " | worst series / last value |",
        "| --- " * 9 + "|",
    ]
    by_name = {f.name: pd.concat([scores(r, f) for r in cases]) for f in (*BASELINES, pretrained)}
    usual = by_name["last_value"]
    for who, table in by_name.items():
        table = table[np.isfinite(table["mase"]) & (usual["mase"] < np.inf)]
        by_series = table.groupby("series")[["mase", "loss", "coverage80", "coverage90", "wql", "size", "smape"]].mean()
        last = usual.groupby("series")[["mase", "loss"]].mean().loc[by_series.index]
        ratio = by_series["loss"] / last["loss"]
        mean = by_series.mean()
        wql = (by_series["wql"] / by_series["size"]).mean()
        lines.append(
            f"| {who} | {mean['mase']:.3f} | {by_series['mase'].median():.3f} | {np.exp(np.log(ratio).mean()):.3f}"
            f" | {wql:.3f} | {mean['smape']:.2f} | {100 * mean['coverage80']:.0f} | {100 * mean['coverage90']:.0f}"
            f" | {(by_series['mase'] / last['mase']).max():.2f} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", default="nab,ett,m4")
    parser.add_argument(
        "--weights", type=Path, help="others than those that ship, or a checkpoint of `benchmarks.pretrain`"
    )
    asked = parser.parse_args()
    pretrained = PretrainedForecaster.shipped(UTC)
    if asked.weights:
        # A checkpoint's weights, too.
        arrays = {name.removeprefix("weights/"): array for name, array in load_file(asked.weights).items()}
        pretrained = PretrainedForecaster(arrays, UTC)
    for name in asked.only.split(","):
        sys.stdout.write(report(name, asked.data, pretrained) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

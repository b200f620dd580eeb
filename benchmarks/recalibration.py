"""Do intervals mend themselves? Nights after one training, with and without recalibration.

    python -m benchmarks.recalibration [--only ett] [--compare] [--kept FOLDER] [--data ../shared/data]

A version is trained once, at quick effort, and forecasts night after night: 60 nights of seven kinds of made-up drift,
three stretches of 60 nights of ETTh1, and what the bursty series of `nab_dev` are long enough for. Recalibration is
applied to what was forecast; bounds are not asked again, which a night does after it. `--compare` adds what else was
tried; kept forecasts are not made again.
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.recalibration_data import DRIFTS, FIRST_PARAMETER, Nights, all_nights
from benchmarks.recalibration_methods import METHODS
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.forecasting.recalibration import STRETCHES, stretches

_INTERVALS: Final = {"80": (0.1, 0.9), "90": (0.05, 0.95)}
_STORED: Final = [QUANTILES.index(q) for q in STORED_QUANTILES]


def figures(nights: Nights, served: np.ndarray) -> dict[str, float]:
    """Coverage in per cent, overall and by quarter of the horizon; how far the series' are from 80 on average; WQL."""
    truth, known = nights.truth, np.isfinite(nights.truth) & np.isfinite(served).all(axis=3)
    inside = {name: _inside(served, truth, *levels) for name, levels in _INTERVALS.items()}
    found = {f"coverage {name}": 100 * held[known].mean() for name, held in inside.items()}
    stretch = stretches(truth.shape[2])
    for k in range(STRETCHES):
        part = known & (stretch == k)
        found[f"quarter {k + 1}"] = 100 * inside["80"][part].mean()
    counts = known.sum(axis=(0, 2))
    own = 100 * (inside["80"] & known).sum(axis=(0, 2)) / np.maximum(counts, 1)
    found["off by series"] = np.abs(own - 80)[counts > 0].mean()
    return found | {"WQL": _wql(served, truth, known)}


def _inside(served: np.ndarray, truth: np.ndarray, low: float, high: float) -> np.ndarray:
    return (truth >= served[..., QUANTILES.index(low)]) & (truth <= served[..., QUANTILES.index(high)])


def _wql(served: np.ndarray, truth: np.ndarray, known: np.ndarray) -> float:
    """The weighted quantile loss of the stored levels, as the mean over series."""
    levels = np.array(STORED_QUANTILES)
    above = np.where(known, truth, 0.0)[..., None] - np.where(known[..., None], served[..., _STORED], 0.0)
    loss = np.maximum(levels * above, (levels - 1) * above).mean(axis=3).sum(axis=(0, 2))
    size = np.abs(np.where(known, truth, 0.0)).sum(axis=(0, 2))
    return float(np.mean(2 * loss[size > 0] / size[size > 0]))


def of_one(nights: Nights, served: np.ndarray, parameter: int) -> tuple[Nights, np.ndarray]:
    """The series of one parameter."""
    rows = np.flatnonzero(nights.panel.parameter_id == parameter)
    return nights.of(rows), served[:, rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--kept", type=Path, help="folder of forecasts, kept for another run; by default none are")
    parser.add_argument("--only", help="sets whose name has this in it")
    parser.add_argument("--compare", action="store_true", help="other ways of recalibration too")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        table = run(arguments, arguments.kept or Path(folder))
    sys.stdout.write(table.to_string(index=False, float_format=_number) + "\n")


def run(arguments: argparse.Namespace, kept: Path) -> pd.DataFrame:
    """A row per set, or kind of drift, and way of recalibration."""
    names = list(METHODS) if arguments.compare else ["as they are", "recalibrated"]
    rows: list[dict[str, object]] = []
    for nights in all_nights(arguments.data, kept, arguments.only):
        for name in names:
            began = time.process_time()
            served = METHODS[name](nights)
            seconds = time.process_time() - began
            rows.append({"set": nights.label, "method": name, **figures(nights, served), "CPU s": seconds})
            if nights.label == "drift" and not arguments.compare:
                for k, kind in enumerate(DRIFTS):
                    own = of_one(nights, served, FIRST_PARAMETER + k)
                    rows.append({"set": f"drift: {kind}", "method": name, **figures(*own)})
    if not rows:
        sys.exit(f"no set has '{arguments.only}' in its name")
    return pd.DataFrame(rows).sort_values("set", kind="stable")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4f}" if value < 1 else f"{value:.1f}"


if __name__ == "__main__":
    main()

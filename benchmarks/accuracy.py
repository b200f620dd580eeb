"""Accuracy and calibration on five data sets, beside named references: `make bench-accuracy`.

    python -m benchmarks.accuracy [--only m4,ett,bts,nab,simulator] [--effort quick] [--validate]

The main job's own code trains on what precedes an origin and forecasts from it; later data are for scoring alone.
`served` is what the forecast table would have held; the candidates are scored alone, too. MASE is scaled by the mean
absolute difference from one day to the next in all that precedes the first origin. Settings of the main job that have
no option here, those of the LSTM among them, are read as it reads them (`BTS_...`).
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks import accuracy_data, accuracy_pictures, accuracy_tables
from benchmarks.accuracy_data import BacktestCase
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import context_for
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.backtest import SERVED, Issued, reissue
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.forecasting.lstm_training import LstmTraining
from bts_assets.forecasting.metrics import actuals_of, mase_scale, score
from bts_assets.forecasting.windows import recent_steps, take_series
from bts_assets.settings import Settings, load_settings

#: What a forecast of points alone has no figure for.
NEED_QUANTILES: Final = ("pinball", "wql", "crps", "msis", "coverage50", "coverage80", "coverage90", "coverage95")


@dataclass(frozen=True)
class DataSet:
    """referenced: other libraries are run on it, as `accuracy_references` says."""

    title: str
    cases: Callable[[argparse.Namespace], list[BacktestCase]]
    referenced: bool = False


DATA_SETS: Final = {
    "m4": DataSet(
        "M4 Hourly: 207 series, 48 h ahead",
        lambda a: accuracy_data.m4_hourly(a.data, timedelta(days=a.m4_context), validate=False),
    ),
    "m4-validate": DataSet(
        "M4 Hourly, its training part cut: 207 series, 48 h ahead",
        lambda a: accuracy_data.m4_hourly(a.data, timedelta(days=a.m4_context), validate=True),
    ),
    "ett": DataSet("ETTh1: 7 parameters, hourly, 24 h ahead", lambda a: accuracy_data.ett_hourly(a.data), True),
    "bts": DataSet("bts/landing: 2 series, 5 min, 2 h ahead", lambda a: accuracy_data.bts_recording(a.data)),
    "nab": DataSet("NAB: 23 bursty or drifting series, 24 h ahead", lambda a: accuracy_data.bursty(a.data)),
    "simulator": DataSet(
        "Simulator, a steady network: 50 stations, 15 min, 48 h ahead",
        lambda a: accuracy_data.simulated(a.networks, steady=True),
    ),
    "simulator-weather": DataSet(
        "Simulator, with weather and events: 50 stations, 15 min, 48 h ahead",
        lambda a: accuracy_data.simulated(a.networks, steady=False),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """The result of a case. scores: as `backtest.together` gives them, with the case's label and the steps ahead
    that are scored (all, and the first day's). served: what was served, a forecast per origin. seconds: per training.
    """

    case: BacktestCase
    scores: pd.DataFrame
    served: list[Issued]
    seconds: list[float]


def run(case: BacktestCase, settings: Settings, others: dict[str, np.ndarray]) -> Outcome:
    """`others`: forecasts by name, (origins, series, horizon, levels)."""
    catalogue = load_catalogue()
    scale = mase_scale(case.known, case.panel.grid.steps_per_day)
    rows: list[pd.DataFrame] = []
    served: list[Issued] = []
    seconds: list[float] = []

    def fit(known: Panel, on_progress: OnProgress | None) -> FittedBundle:
        started = time.perf_counter()
        fitted = fit_bundle(
            known,
            catalogue,
            effort=settings.training_effort,
            seed=settings.seed,
            hyperparameters=settings.hyperparameters,
            statistical_max_series=settings.statistical_max_series,
            on_progress=on_progress,
        )
        seconds.append(time.perf_counter() - started)
        _tell(f"  trained in {seconds[-1]:.0f} s {case.label}")
        return fitted

    def add(origin: int, name: str, of: np.ndarray, quantiles: np.ndarray) -> None:
        came = take_series(actuals_of(case.panel, origin), of)
        for steps in sorted({came.steps, min(came.steps, came.grid.steps_per_day)}):
            scored = score_any(came.until(came.steps - steps), name, quantiles[:, :steps], scale[of])
            rows.append(scored.assign(label=case.label, steps=steps))

    for issued in reissue(case.panel, catalogue, case.issued_at, fit, refit_every=case.refit_every):
        origin = (issued.origin - case.panel.start) // case.panel.grid.step
        add(origin, issued.candidate, issued.rows, issued.quantiles)
        if issued.candidate == SERVED:
            served.append(issued)
    everything = np.arange(len(case.panel))
    for number, origin in enumerate(case.origins):
        for name, given in others.items():
            add(origin, name, everything, given[number])
        for name, signal in case.signals.items():
            points = signal[:, origin : origin + case.panel.grid.horizon_steps]
            add(origin, name, everything, _of_points(points))
    return Outcome(case, pd.concat(rows, ignore_index=True), served, seconds)


def _of_points(points: np.ndarray) -> np.ndarray:
    quantiles = np.full((*points.shape, len(QUANTILES)), np.nan)
    quantiles[:, :, MEDIAN] = points
    return quantiles


def score_any(came: Panel, name: str, quantiles: np.ndarray, scale: np.ndarray) -> pd.DataFrame:
    """As `backtest.score`, also of forecasts that hold nothing but a median: these have no figure of an interval."""
    if np.isfinite(quantiles).any(axis=(0, 1)).sum() != 1:
        return score(came, name, quantiles, scale)
    points = quantiles[:, :, MEDIAN : MEDIAN + 1]
    scored = score(came, name, np.repeat(points, len(QUANTILES), axis=2), scale)
    return scored.assign(**dict.fromkeys(NEED_QUANTILES, np.nan))


def references(case: BacktestCase, python: Path) -> dict[str, np.ndarray]:
    """Forecasts of other libraries by name; made once for the same data, and kept beside their environment."""
    grid = case.panel.grid
    request = {
        "origins": case.origins,
        "horizon": grid.horizon_steps,
        "context": recent_steps(grid),
        "seasons": [grid.steps_per_day, 7 * grid.steps_per_day],
        "levels": QUANTILES,
    }
    text = json.dumps(request)
    asked = hashlib.sha256((case.panel.digest + text).encode()).hexdigest()
    folder = python.absolute().parents[1] / "forecasts" / asked[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "request.json").write_text(text, encoding="utf-8")
    np.save(folder / "panel.npy", case.panel.values)
    command = [str(python.absolute()), "-m", "benchmarks.accuracy_references", str(folder)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[1])  # noqa: S603 - ourselves
    made = sorted(path for path in folder.glob("*.npy") if path.stem != "panel")
    return {path.stem: np.load(path) for path in made}


def bench(name: str, arguments: argparse.Namespace, settings: Settings) -> str:
    """The report of one data set, as Markdown."""
    data_set = DATA_SETS[name]
    _tell(data_set.title)
    outcomes = []
    missing = []
    for case in data_set.cases(arguments):
        others = {}
        if data_set.referenced and arguments.references.exists():
            others = references(case, arguments.references)
        elif data_set.referenced:
            missing = ["statsforecast and neuralforecast: not run, no environment; `make bench-references` makes it"]
        outcomes.append(run(case, settings, others))
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        served = [(o.case, o.served) for o in outcomes]
        (arguments.pictures / f"accuracy-{name}.png").write_bytes(accuracy_pictures.forecasts(served))
        (arguments.pictures / f"worst-{name}.png").write_bytes(accuracy_pictures.worst(served))
    scores = pd.concat([o.scores for o in outcomes], ignore_index=True)
    seconds = [s for o in outcomes for s in o.seconds]
    if arguments.scores:
        arguments.scores.mkdir(parents=True, exist_ok=True)
        scores.to_parquet(arguments.scores / f"accuracy-{name}.parquet")
    trainings = f"trained {len(seconds)} times, {np.mean(seconds):.0f} s on average, {max(seconds):.0f} s at most"
    how = f"effort {settings.training_effort}, seed {settings.seed}: {trainings}"
    return accuracy_tables.report(name, data_set.title, scores, seconds, [how, *missing])


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--only", default="m4,ett,bts,nab,simulator,simulator-weather", help="some of them, with commas between"
    )
    parser.add_argument("--effort", choices=("quick", "standard", "thorough"))
    parser.add_argument("--seed", type=int)
    parser.add_argument(
        "--statistical-max-series", type=int, help="series that statistical candidates are tried on, at most"
    )
    parser.add_argument("--validate", action="store_true", help="M4: cut its training part, and do not read the test")
    parser.add_argument("--m4-context", type=int, default=context_for(accuracy_data.HOUR).days, help="days")
    parser.add_argument("--networks", type=int, default=2, help="simulated networks")
    parser.add_argument("--references", type=Path, default=Path(".bts-references/bin/python"), help="their Python")
    parser.add_argument(
        "--without-lstm",
        action="store_true",
        help="as on a night whose LSTM could not be trained: what the LSTM brings",
    )
    parser.add_argument("--markdown", type=Path, help="write the report there, too")
    parser.add_argument(
        "--pictures", type=Path, help="folder for two pictures per data set: from good to bad, and the worst"
    )
    parser.add_argument("--scores", type=Path, help="folder for every score, as Parquet")
    arguments = parser.parse_args()
    settings = load_settings(
        training_effort=arguments.effort, seed=arguments.seed, statistical_max_series=arguments.statistical_max_series
    )
    parts = []
    names = ["m4-validate" if n == "m4" and arguments.validate else n for n in arguments.only.split(",")]
    if unknown := sorted(set(names) - set(DATA_SETS)):
        parser.error(f"--only {','.join(unknown)}: there are {', '.join(DATA_SETS)}")
    if arguments.without_lstm:
        patch.object(LstmTraining, "run", side_effect=FloatingPointError("left out")).start()
    for name in names:
        parts.append(bench(name, arguments, settings))
        sys.stdout.write(parts[-1] + "\n")
        sys.stdout.flush()
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()

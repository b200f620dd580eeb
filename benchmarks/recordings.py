"""The two real recordings, forecast by the main job's own steps, and scored on what came after beside the baselines.

    python -m benchmarks.recordings [--data ../shared/data]

A version is trained on what precedes the first origin, and chooses there; then it forecasts from that origin and later
ones, whose targets it never saw. MASE as in `forecasting.backtest`, mean over series and origins.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pandas as pd

from bts_assets.forecasting.backtest import mase_scale, metrics
from bts_assets.forecasting.batch import load_forecasters
from bts_assets.forecasting.windows import latest_context
from bts_assets.settings import load_settings
from bts_assets.stores import embedded
from bts_assets.stores.home import Home, open_home
from bts_assets.stores.ingest import ingest
from bts_assets.stores.observations import compute_due_days, observed_span, read_panel
from bts_assets.stores.versions import train

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from ett import write_landing_files


@dataclass(frozen=True)
class Recording:
    name: str
    settings: dict[str, Any]
    origins: int
    apart: timedelta
    landing: Callable[[Path, Path], Path]


def bts_landing(data: Path, _scratch: Path) -> Path:
    return data / "bts" / "landing"


def ett_landing(data: Path, scratch: Path) -> Path:
    write_landing_files(data / "ett" / "ETTh1.csv", scratch / "ett")
    return scratch / "ett"


HOUR: Final = timedelta(hours=1)
RECORDINGS: Final = (
    Recording(
        "bts/landing, 5 min, 2 h ahead",
        {"step": timedelta(minutes=5), "context": 6 * HOUR, "horizon": 2 * HOUR},
        5,
        timedelta(minutes=30),
        bts_landing,
    ),
    Recording(
        "ETTh1, 1 h, 24 h ahead",
        {"step": HOUR, "context": 336 * HOUR, "horizon": 24 * HOUR, "training_span": timedelta(days=800)},
        20,
        timedelta(days=5),
        ett_landing,
    ),
)


def scores(home: Home, recording: Recording) -> pd.DataFrame:
    grid = home.settings.grid
    with home.engine.connect() as connection:
        span = observed_span(connection, grid)
        if span is None:
            raise SystemExit(f"{recording.name}: nothing was observed")
        first = span[1] - grid.horizon - (recording.origins - 1) * recording.apart
        everything = read_panel(connection, grid, span[0], span[1])
    fitted = train(home, first, None).fitted
    known = everything.steps - (span[1] - first) // grid.step
    scale = mase_scale(everything.values[:, :known], grid.steps_per_day)
    forecasters = load_forecasters(fitted.bundle)
    chosen = fitted.bundle.choice.of(everything.station_id, everything.parameter_id)
    rows = []
    for number in range(recording.origins):
        column = known + number * (recording.apart // grid.step)
        past = latest_context(everything.until(everything.steps - column))
        truth = everything.values[:, column : column + grid.horizon_steps]
        each = {name: metrics(f.forecast(past), truth, scale) for name, f in forecasters.items()}
        for name, figures in each.items():
            rows += [{"candidate": name, "mase": m, "coverage80": c} for m, c in _pairs(figures)]
        for i, name in enumerate(chosen):
            rows.append({"candidate": "served", **{k: each[name][k][i] for k in ("mase", "coverage80")}})
    # A candidate that could serve none of the series, as a week's lag in a day of data, has no row.
    return pd.DataFrame(rows).dropna().groupby("candidate").mean().sort_values("mase")


def _pairs(figures: dict[str, np.ndarray]) -> list[tuple[float, float]]:
    return list(zip(figures["mase"].tolist(), figures["coverage80"].tolist(), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--effort", choices=("quick", "standard", "thorough"), default="quick")
    arguments = parser.parse_args()
    for recording in RECORDINGS:
        with TemporaryDirectory(prefix="bts-benchmark-") as folder:
            scratch = Path(folder)
            scratch.chmod(0o755)
            landing = recording.landing(arguments.data, scratch)
            settings = load_settings(home=scratch / "home", training_effort=arguments.effort, **recording.settings)
            home = open_home(settings)
            try:
                ingest(home.engine, home.readings, landing, settings, home.catalogue, now=datetime.now(UTC))
                compute_due_days(home.engine, home.readings, home.catalogue, settings.grid)
                table = scores(home, recording)
            finally:
                home.engine.dispose()
                embedded.stop(settings.home)
        sys.stdout.write(f"\n{recording.name}, {recording.origins} origins, effort {arguments.effort}\n")
        for name, row in table.iterrows():
            sys.stdout.write(f"  {name:22} MASE {row['mase']:6.3f}   coverage of 80 % {row['coverage80']:.2f}\n")


if __name__ == "__main__":
    main()

"""A month of nights over two networks that are twins, but for what every day strikes one of them.

    python -m benchmarks.twins [--nights 30] [--stations 8] [--seed 11]

Both are the simulated network, dirt and all. In the struck one each day of the history and of the month has a misread
(one reading of a gauge or counter has another value that its parameter may have), an outage (a station's grid voltage,
load and frequency are 0 for one to four hours) and a station whose sensors send ids that name no readings (their own
number, 0 or a row number). Both are taken in and observed night by night, each trains a version at its first night, and
every night three batches are made: the twin's, the struck network's by the twin's version, and the struck network's by
its own version, which was trained on what is struck.

A target is off where a struck quantile of 0.05, 0.5 or 0.95 lies further from the twin's than the twin's own 95 %
interval is wide. Issue and rule: at 99 % of the targets none is.
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue, load_catalogue
from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import ingest
from bts_assets.services.observe import compute_due_days, read_settled_panel
from bts_assets.services.training import fit_as_set
from bts_assets.settings import load_settings
from bts_assets.simulation.simulate import NetworkSpec, simulate_network
from bts_assets.storage.embedded import server as embedded

END: Final = datetime(2026, 4, 12, tzinfo=UTC)
#: Days of files before the first night.
HISTORY: Final = 10
#: What fails with the grid.
GRID_PARAMETERS: Final = ("121", "122", "123")
#: The quantiles that are compared; the ends of the 95 % interval are the measure.
COMPARED: Final = tuple(QUANTILES.index(q) for q in (0.05, 0.5, 0.95))
LOW, HIGH = QUANTILES.index(0.025), QUANTILES.index(0.975)

Rows = list[list[str]]


@dataclass(frozen=True)
class Strikes:
    """What strikes the network on one day: each a station, with an hour or hours of the day."""

    misread: str
    misread_hour: int
    outage: str
    outage_hours: range
    repeated: str
    repeated_as: str  # sensor, zero or row

    @staticmethod
    def drawn(rng: np.random.Generator, stations: list[str]) -> "Strikes":
        misread, outage, repeated = (stations[k] for k in rng.choice(len(stations), 3, replace=False))
        start = int(rng.integers(0, 20))
        hours = range(start, start + int(rng.integers(1, 5)))
        form = str(rng.choice(["sensor", "zero", "row"]))
        return Strikes(misread, int(rng.integers(0, 24)), outage, hours, repeated, form)


def strike(rows: Rows, hour: int, strikes: Strikes, rng: np.random.Generator, catalogue: Catalogue) -> None:
    """Change the rows (id, value, station, parameter, time) of one hour's file in place."""
    whole = [row for row in rows if len(row) == 5]
    if hour == strikes.misread_hour:
        mine = [r for r in whole if r[2] == strikes.misread and r[3].isdigit() and misreads(r, catalogue)]
        if mine:
            row = mine[int(rng.integers(len(mine)))]
            row[1] = str(rng.choice(misreads(row, catalogue)))
    for number, row in enumerate(whole, start=1):
        if row[2] == strikes.outage and hour in strikes.outage_hours and row[3] in GRID_PARAMETERS:
            row[1] = "0"
        if row[2] == strikes.repeated:
            row[0] = {"sensor": row[3], "zero": "0", "row": str(number)}[strikes.repeated_as]


def misreads(row: list[str], catalogue: Catalogue) -> list[float]:
    """Values that a reading's parameter may have, and that are far from what it has; none for switches."""
    parameter = catalogue.of(int(row[3]))
    if parameter.kind == "switch":
        return []
    if parameter.kind == "counter":
        with suppress(ValueError):
            return [0.0, 10 * float(row[1])]
    ends = (parameter.valid_min, parameter.valid_max)
    return [0.0] * (parameter.valid_min == 0) + [0.999 * end for end in ends if end]


def write_struck(twin: Path, struck: Path, seed: int) -> None:
    """The twin's landing files with the strikes of each day."""
    rng, catalogue = np.random.default_rng(seed), load_catalogue()
    struck.mkdir()
    for day, files in days_of(twin):
        texts = {file: [line.split(",") for line in file.read_text("utf-8").splitlines()] for file in files}
        stations = sorted({r[2] for rows in texts.values() for r in rows[1:] if len(r) == 5 and len(r[2]) == 10})
        strikes = Strikes.drawn(rng, stations)
        for file, rows in texts.items():
            if rows[0] == ["id", "value", "station_id", "parameter_id", "reading_time"]:
                strike(rows[1:], (hour_of(file) - day) // timedelta(hours=1), strikes, rng, catalogue)
            (struck / file.name).write_text("".join(",".join(row) + "\n" for row in rows), "utf-8")


def days_of(landing: Path) -> Iterator[tuple[datetime, list[Path]]]:
    files = sorted(landing.glob("*.csv"))
    for day in sorted({hour_of(file).replace(hour=0) for file in files}):
        yield day, [file for file in files if hour_of(file).replace(hour=0) == day]


def hour_of(file: Path) -> datetime:
    return datetime.strptime(file.name[6:19], "%Y-%m-%d-%H").replace(tzinfo=UTC)


class TwinNetwork:
    """One of the twins: its files, as they come, and its home."""

    def __init__(self, files: Path, home: Path) -> None:
        self.files = sorted(files.glob("*.csv"))
        self.landing = home.with_name(home.name + "-landing")
        self.landing.mkdir()
        home.mkdir(mode=0o755)
        self.home: Home = open_home(load_settings(home=home, file_stable_for=timedelta(0)))
        self.bundle: Bundle | None = None
        self.unnamed = 0

    def night(self, origin: datetime) -> Panel:
        """Take in the files up to the origin and observe; returns what is known then. The first night trains."""
        for file in self.files:
            if hour_of(file) < origin and not (self.landing / file.name).exists():
                shutil.copy(file, self.landing)
        ingest(self.home, self.landing, now=origin)
        self.unnamed += compute_due_days(self.home).merged["ids_ignored"]
        if self.bundle is None:
            start = origin - HISTORY * DAY
            panel, _ = read_settled_panel(self.home, origin, lambda _: start)
            self.bundle = fit_as_set(self.home, panel).bundle
        panel, _ = read_settled_panel(self.home, origin, lambda _: origin - self.home.settings.context)
        return panel

    def close(self) -> None:
        self.home.engine.dispose()
        with suppress(embedded.EmbeddedPostgresError):
            embedded.stop(self.home.settings.home)


def compared(twin: Batch, struck: Batch) -> pd.DataFrame:
    """Per series: targets, and how many are off; `outside`: struck medians that the twin's interval does not hold."""
    keys = [pd.MultiIndex.from_arrays([b.station_id, b.parameter_id]) for b in (twin, struck)]
    both = keys[0].intersection(keys[1], sort=False)
    was, now = (b.quantiles[k.get_indexer(both)] for b, k in zip((twin, struck), keys, strict=True))
    # Four digits are what a series is told by; a constant has no width of its own.
    width = np.maximum(was[:, :, HIGH] - was[:, :, LOW], 1e-4 * np.abs(was[:, :, COMPARED[1]]))
    away = np.abs(now - was)[:, :, COMPARED].max(axis=2)
    worst = np.divide(away, width, out=np.where(away > 0, np.inf, 0.0), where=width > 0)
    median = now[:, :, COMPARED[1]]
    outside = (median < was[:, :, LOW]) | (median > was[:, :, HIGH])
    return pd.DataFrame({
        "station_id": both.get_level_values(0), "parameter_id": both.get_level_values(1), "targets": away.shape[1],
        "off": (worst > 1).sum(axis=1), "outside": outside.sum(axis=1), "worst": worst.max(axis=1),
    })  # fmt: skip


def forecasts(home: Home, bundle: Bundle | None, panel: Panel) -> Batch:
    assert bundle is not None  # noqa: S101 - the first night trained it
    return make_batch(bundle, panel, home.catalogue, levels=QUANTILES)


def walk(twin: TwinNetwork, struck: TwinNetwork, nights: int) -> pd.DataFrame:
    """Every night's comparison, by `model` (of the twin, own) and `night`."""
    found = []
    for night in range(nights):
        origin = END - (nights - night) * DAY + timedelta(hours=2)
        was, now = twin.night(origin), struck.night(origin)
        of_twin = forecasts(twin.home, twin.bundle, was)
        for model, bundle in (("the twin's", twin.bundle), ("its own", struck.bundle)):
            batch = forecasts(struck.home, bundle, now)
            found.append(compared(of_twin, batch).assign(model=model, night=night))
        sys.stderr.write(f"\rnight {night + 1} of {nights}")
    sys.stderr.write("\n")
    return pd.concat(found, ignore_index=True)


def report(found: pd.DataFrame) -> Iterator[str]:
    for model, of_model in found.groupby("model", sort=False):
        targets, off, outside = (int(of_model[name].sum()) for name in ("targets", "off", "outside"))
        yield f"by {model} version: {targets:,} targets, {off:,} are off; {1 - off / targets:.3%} are not"
        yield f"  medians within the twin's 95 % interval {1 - outside / targets:.3%}"
        by = of_model.groupby("parameter_id")[["targets", "off", "outside"]].sum()
        by = by[by["off"] > 0].sort_values("off", ascending=False)
        worst = of_model.groupby("parameter_id")["worst"].max()
        for parameter, row in by.iterrows():
            yield (
                f"  parameter {parameter}: {row['off']:,} of {row['targets']:,} off, the worst"
                f" {worst[parameter]:.1f} widths"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--stations", type=int, default=8)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--output", type=Path, help="Parquet file of every night's comparison, series by series")
    arguments = parser.parse_args()
    for name in [n for n in os.environ if n.startswith("BTS_")]:
        del os.environ[name]
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        top = Path(folder)
        top.chmod(0o755)
        days = arguments.nights + HISTORY
        spec = NetworkSpec(arguments.stations, days, END, arguments.seed, readings_per_hour=6)
        truth = simulate_network(spec, top / "twin-files")
        write_struck(truth.landing, top / "struck-files", arguments.seed)
        networks = [TwinNetwork(top / f"{name}-files", top / name) for name in ("twin", "struck")]
        try:
            start = time.perf_counter()
            found = walk(networks[0], networks[1], arguments.nights)
            took = time.perf_counter() - start
        finally:
            for network in networks:
                network.close()
    if arguments.output:
        found.to_parquet(arguments.output)
    sys.stdout.write(f"{arguments.nights} nights of two networks of {arguments.stations} stations in {took:,.0f} s\n")
    unnamed = [network.unnamed for network in networks]
    sys.stdout.write(f"readings whose ids were found to name nothing: {unnamed[1]:,} (the twin's: {unnamed[0]:,})\n")
    sys.stdout.write("".join(line + "\n" for line in report(found)))


if __name__ == "__main__":
    main()

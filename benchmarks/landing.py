"""Landing files to observations, against the tutorial's way, as a ratio measured in one run on one machine.

    python -m benchmarks.landing [--files 24] [--rows 165000]

`tutorial` takes the steps of the tutorial's grouping script; `plain` only reads, groups and writes, leaving times as
text. `parsed` is ours up to observations in memory; `ingested` is
the whole of it: validated, readings at rest in Parquet, ledger and observations in Postgres, the server awake.

Each way runs in a process of its own over the same files, just written and so in the page cache. Seconds leave out
imports; peak memory is of the whole process.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import Grid
from bts_assets.contracts.schemas import Observations, Readings, validate
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.inbox import LandingFile, digest_of, look, read_settled, settled
from bts_assets.landing.series import Observed, observe
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import ingest
from bts_assets.services.observe import compute_due_days
from bts_assets.settings import load_settings
from bts_assets.storage.embedded import server as embedded

DAY: Final = datetime(2017, 4, 18, tzinfo=UTC)
STATIONS: Final = 75
PARAMETERS: Final = 20
#: One row in so many is a sentinel, one a repeated line, one a broken value, one a line with a field too many.
DIRT_EVERY: Final = 500
MEBIBYTE: Final = 1 << 20


def write_files(folder: Path, files: int, rows: int) -> None:
    """Hourly files of one day (then of the next ones), each in order of time, with a little dirt of every kind."""
    generator = np.random.default_rng(20170418)
    known = [p.parameter_id for p in load_catalogue() if p.kind == "gauge"]
    parameters = np.array([*known, *range(900, 900 + PARAMETERS)][:PARAMETERS])
    for hour in range(files):
        second = np.sort(generator.integers(0, 3600, rows))
        start = np.datetime64(DAY.replace(tzinfo=None) + timedelta(hours=hour), "s")
        table = pa.table(
            {
                "id": 5_652_000_000 + hour * rows + np.arange(rows),
                "value": np.round(generator.normal(50, 3, rows), 2),
                "station_id": 1_161_114_000 + generator.integers(0, STATIONS, rows),
                "parameter_id": generator.choice(parameters, rows),
                "reading_time": pa.array(start + second).cast(pa.string()),
            }
        )
        sink = pa.BufferOutputStream()
        pa.csv.write_csv(table, sink, pa.csv.WriteOptions(quoting_style="none"))
        lines = sink.getvalue().to_pybytes().splitlines()
        for row in range(DIRT_EVERY, rows, DIRT_EVERY):
            identity, value, *rest = lines[row].split(b",")
            dirty = {0: [identity, b"999999", *rest], 1: [identity, b"n/a", *rest], 2: [identity, value, *rest, b"7"]}
            lines[row] = b",".join(dirty.get(row // DIRT_EVERY % 4, lines[row - 1].split(b",")))
        (folder / f"param-{hour:04d}.csv").write_bytes(b"\n".join(lines) + b"\n")


def plain_way(landing: Path, out: Path) -> dict[str, object]:
    """The least that a reader of the tutorial could do: concat, groupby, one CSV per group, times left as text."""
    readings = read_all(landing)
    for (station, parameter), group in readings.groupby(["station_id", "parameter_id"]):
        group.to_csv(out / f"{station}_{parameter}.csv", index=False)
    return {"rows": len(readings)}


def tutorial_way(landing: Path, out: Path) -> dict[str, object]:
    """The steps of the tutorial's grouping script: times become centred hours and values are scaled, so that the
    series can be learned from; each series goes, in order of time, into a CSV of its own.
    """
    readings = read_all(landing)
    instants = pd.to_datetime(readings["reading_time"], errors="coerce").astype("int64")
    readings["instant"] = instants
    readings["hours"] = (instants - instants.mean()) / 3.6e12
    readings = readings.drop(columns="reading_time").sort_values("hours")
    for (station, parameter), group in readings.groupby(["station_id", "parameter_id"]):
        value = pd.to_numeric(group["value"], errors="coerce")
        centred = value - value.mean()
        scaled = group.assign(scaled=centred / centred.max())
        scaled.sort_values("hours").to_csv(out / f"{station}_{parameter}.csv", index=False)
    return {"rows": len(readings)}


def read_all(landing: Path) -> pd.DataFrame:
    frames = [pd.read_csv(path, on_bad_lines="skip", low_memory=False) for path in sorted(landing.rglob("*.csv"))]
    return pd.concat(frames, ignore_index=True)


def parsed_way(landing: Path, out: Path) -> dict[str, object]:
    """Look, read, digest, parse and validate on two threads, then observe; `settled` without its pause."""
    ready, _ = settled(look(landing), look(landing))
    with ThreadPoolExecutor(2) as pool:
        parsed = dict(pool.map(lambda file: take(landing, file), ready))
    observed = observe_all([parsed[digest].readings for digest in sorted(parsed)])
    rejected = sum(len(p.rejected) for p in parsed.values())
    duplicates = sum(p.duplicates for p in parsed.values()) + observed.duplicates
    return {
        "rows": sum(p.rows for p in parsed.values()),
        "readings": observed.readings,
        "rejected": rejected,
        "duplicates": duplicates,
        "observations": len(observed.observations),
    }


def take(landing: Path, file: LandingFile) -> tuple[str, ParsedFile]:
    data = read_settled(landing, file, 1 << 30)
    now = DAY + timedelta(days=365)
    parsed = parse_landing_file(
        data, load_catalogue(), landing_timezone=ZoneInfo("UTC"), now=now, max_skew=timedelta(days=1)
    )
    validate(Readings, parsed.readings)
    return digest_of(data), parsed


def observe_all(readings: list[pd.DataFrame]) -> Observed:
    grid = Grid(timedelta(minutes=15), timedelta(days=7), timedelta(days=2))
    newest = max(frame["reading_time"].max() for frame in readings)
    end = DAY + timedelta(days=(newest - DAY).days + 1)
    observed = observe(readings, load_catalogue(), grid, DAY, end)
    validate(Observations, observed.observations)
    return observed


def prepare_home(out: Path) -> Home:
    """An open home, its server awake and its schema there: what every night but the first one finds."""
    out.chmod(0o755)
    return open_home(load_settings(home=out / "home", file_stable_for=timedelta(0)))


def ingested_way(landing: Path, home: Home) -> dict[str, object]:
    """What the assets `readings` and `grouped_series` do."""
    now = DAY + timedelta(days=365)
    taken = ingest(home, landing, now=now)
    observed = compute_due_days(home)
    return {
        "rows": taken.rows,
        "readings": observed.readings,
        "rejected": taken.rejected,
        "duplicates": taken.duplicate + observed.duplicates,
        "observations": observed.observations,
    }


TUTORIALS: Final = {"plain": plain_way, "tutorial": tutorial_way}
WAYS: Final = (*TUTORIALS, "parsed", "ingested")


def measure_here(way: str, landing: Path) -> dict[str, object]:
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        out = Path(folder)
        home = prepare_home(out) if way == "ingested" else None
        start, busy = time.perf_counter(), time.process_time()
        if home:
            result = ingested_way(landing, home)
        else:
            result = parsed_way(landing, out) if way == "parsed" else TUTORIALS[way](landing, out)
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        if home:
            home.engine.dispose()
            embedded.stop(home.settings.home)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu": busy, "peak_mib": peak, **result}


def measure_apart(way: str, landing: Path) -> dict[str, object]:
    command = [sys.executable, "-m", "benchmarks.landing", "--way", way, "--landing", str(landing)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=24)
    parser.add_argument("--rows", type=int, default=165_000, help="per file")
    parser.add_argument("--way", choices=WAYS, help="measure one way in this process and print JSON (with --landing)")
    parser.add_argument("--landing", type=Path)
    arguments = parser.parse_args()
    if arguments.way:
        sys.stdout.write(json.dumps(measure_here(arguments.way, arguments.landing)) + "\n")
        return
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        write_files(Path(folder), arguments.files, arguments.rows)
        rows = arguments.files * arguments.rows
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / MEBIBYTE
        sys.stdout.write(f"{arguments.files} files, {rows:,} rows, {size:,.0f} MiB\n")
        seconds = {}
        for way in WAYS:
            result = measure_apart(way, Path(folder))
            seconds[way] = float(str(result.pop("seconds")))
            busy = float(str(result.pop("cpu")))
            peak = float(str(result.pop("peak_mib")))
            counts = ", ".join(f"{name} {number:,}" for name, number in result.items())
            rate = rows / seconds[way] / 1e6
            took = f"{seconds[way]:7.2f} s ({busy:.2f} s of CPU) {rate:6.2f} M rows/s"
            sys.stdout.write(f"{way:9} {took}  peak {peak:6,.0f} MiB  {counts}\n")
        for way in TUTORIALS:
            sys.stdout.write(f"{way} takes {seconds[way] / seconds['ingested']:.1f} times as long as ingested\n")


if __name__ == "__main__":
    main()

"""What a small landing file costs `bts ingest`: many stations that write a file an hour, four rows each.

    python -m benchmarks.small_files [--files 5000] [--rows 4] [--form plain | dirty | quoted]

CPU of the whole command, user and system, all its threads, less that of the same command over one such file: start,
Dagster and the wait for settled files are paid once, however many files there are. The server's CPU is told beside it.
The readings are those of one day, which the command computes too. `dirty`: one row of each file is a sentinel, and one
has a field too many; `quoted`: every cell is in quotes.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from benchmarks.own_home import own_home
from benchmarks.watch import server_cpu
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.services.home import Home

HOUR: Final = datetime(2017, 4, 18, 9, tzinfo=UTC)
HEADER: Final = "id,value,station_id,parameter_id,reading_time\n"


def write_files(folder: Path, files: int, rows: int, form: str, first: int = 0) -> None:
    """Files of a station and hour each, in folders of a thousand: a parameter after the other, minutes apart."""
    generator = np.random.default_rng(first)
    parameters = [p.parameter_id for p in load_catalogue() if p.kind == "gauge"]
    for number in range(first, first + files):
        below = folder / f"{number // 1000:03d}"
        below.mkdir(parents=True, exist_ok=True)
        values = np.round(generator.normal(50, 3, rows), 2)
        lines = [
            f"{number * rows + row},{value},{1_161_114_000 + number},{parameters[row % len(parameters)]},"
            f"{HOUR + timedelta(minutes=15 * row % 60):%Y-%m-%d %H:%M:%S}\n"
            for row, value in enumerate(values)
        ]
        if form == "dirty":
            lines += [lines[0].replace(f",{values[0]},", ",999999,"), f"{lines[-1][:-1]},7\n"]
        if form == "quoted":
            lines = ['"' + line[:-1].replace(",", '","') + '"\n' for line in lines]
        (below / f"station-{number:06d}.csv").write_text(HEADER + "".join(lines), encoding="utf-8")


def ingest(home: Home, landing: Path) -> tuple[float, float, float]:
    """Seconds of CPU of the command and of the server, and of the clock."""
    environment = os.environ | {"BTS_HOME": str(home.settings.home), "BTS_FILE_STABLE_FOR": "0s"}
    command = [sys.executable, "-m", "bts_assets.cli", "ingest", "--landing", str(landing)]
    before, served, start = _children(), server_cpu(home.settings.home), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)  # noqa: S603 - ourselves
    took = time.perf_counter() - start
    return _children() - before, server_cpu(home.settings.home) - served, took


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--rows", type=int, default=4, help="per file")
    parser.add_argument("--form", choices=("plain", "dirty", "quoted"), default="plain")
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="bts-benchmark-") as folder, own_home() as home:
        landing = Path(folder)
        write_files(landing, 1, arguments.rows, arguments.form)
        ingest(home, landing)  # compiles, migrates, warms the page cache
        write_files(landing, 1, arguments.rows, arguments.form, first=1)
        fixed, fixed_server, _ = ingest(home, landing)
        write_files(landing, arguments.files, arguments.rows, arguments.form, first=2)
        used, served, took = ingest(home, landing)
        each, of_server = (seconds * 1000 / arguments.files for seconds in (used - fixed, served - fixed_server))
        sys.stdout.write(
            f"{arguments.files:,} files of {arguments.rows} rows, {arguments.form}: {each:.2f} ms of CPU each,"
            f" of the server {of_server:.2f}; {took:.1f} s in all ({used:.1f} s of CPU,"
            f" {fixed:.1f} of them for a single file)\n"
        )


if __name__ == "__main__":
    main()

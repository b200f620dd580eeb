"""What one late file costs observing: of one station, on a day of a network that was observed before.

    python -m benchmarks.late_file [--stations 2000] [--rounds 3]

`its station` is computed alone; `the whole day` is what it costs where nothing is known of the day's stations. In
turn, in one process, without taking files in. The server's CPU is told beside that of the process.
"""

import argparse
import shutil
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import sqlalchemy as sa

from benchmarks.own_home import own_home
from benchmarks.watch import server_cpu
from bts_assets.services.home import Home
from bts_assets.services.ingest import ingest
from bts_assets.services.observe import compute_due_days
from bts_assets.simulation.simulate import NetworkSpec, first_parameters, simulate_network

END: Final = datetime(2026, 3, 10, tzinfo=UTC)
#: Way -> what is forgotten first.
WAYS: Final = {"its station": None, "the whole day": "DELETE FROM bts.observed_station"}


def late_file(landing: Path, number: int, station: int) -> None:
    """A reading each quarter of an hour of one parameter, minutes after those that are there."""
    times = [END - timedelta(days=1) + timedelta(minutes=15 * n + 7, seconds=number) for n in range(96)]
    rows = [f"{number}.{n},{station},111,{at:%Y-%m-%d %H:%M:%S}\n" for n, at in enumerate(times)]
    shutil.rmtree(landing)
    landing.mkdir()
    (landing / f"late-{number}.csv").write_text("value,station_id,parameter_id,reading_time\n" + "".join(rows))


def observing(home: Home) -> tuple[float, float, float]:
    """Seconds of the clock, of the process' CPU, and of the server's."""
    start, busy, served = time.perf_counter(), time.process_time(), server_cpu(home.settings.home)
    report = compute_due_days(home)
    if report.failed or not report.days:
        raise SystemExit(f"nothing was observed: {report}")
    return (
        time.perf_counter() - start,
        time.process_time() - busy,
        server_cpu(home.settings.home) - served,
    )


def told(name: str, seconds: list[tuple[float, float, float]]) -> None:
    wall, busy, served = (median(column) for column in zip(*seconds, strict=True))
    every = ", ".join(f"{one[0]:.2f}" for one in seconds)
    sys.stdout.write(f"{name:20} {wall:7.2f} s ({every}), {busy:6.2f} s of CPU, {served:6.2f} of the server\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="bts-benchmark-") as folder, own_home(file_stable_for=timedelta(0)) as home:
        landing = Path(folder) / "landing"
        parameters = first_parameters(20)
        spec = NetworkSpec(arguments.stations, 1, END, seed=1, parameters=parameters, readings_per_hour=4.0)
        simulate_network(spec, landing, truth=Path(folder) / "truth")
        ingest(home, landing, now=END + timedelta(days=1))
        told("the day at first", [observing(home)])
        with home.engine.connect() as connection:
            log = "SELECT readings, observations FROM bts.observed_day ORDER BY readings DESC LIMIT 1"
            readings, observations = connection.execute(sa.text(log)).one()
            station = connection.execute(sa.text("SELECT min(station_id) FROM bts.series")).scalar_one()
        sys.stdout.write(f"{arguments.stations:,} stations: {readings:,} readings, {observations:,} observations\n")
        seconds: dict[str, list[tuple[float, float, float]]] = {way: [] for way in WAYS}
        for number in range(arguments.rounds * len(WAYS)):
            way = list(WAYS)[number % len(WAYS)]
            late_file(landing, number, station)
            ingest(home, landing, now=END + timedelta(days=1))
            if forget := WAYS[way]:
                with home.engine.begin() as connection:
                    connection.execute(sa.text(forget))
            seconds[way].append(observing(home))
        for way, found in seconds.items():
            told(way, found)


if __name__ == "__main__":
    main()

"""A network's night with a champion: wall time, CPU and memory of every stage, and what it adds on disk.

    python -m benchmarks.scale --stations 500 [--record]

A network of 20 parameters a station, a reading a quarter hour, is simulated over `--days` days and one more. The days
are taken in and observed, a version is trained on them and serves; then the last day's landing files come, and the
night that is measured goes from them to all that a night publishes. Each phase has a process of its own, so that its
peak memory is its own; Postgres' CPU is told apart, and its memory is not counted. The folder (`--folder`, or a
temporary one) may be given again: what it has already is not made again. A progress bar goes to the standard error.
What a stage adds on disk is read off the sizes of files once a second, Postgres' journal left out. `--record` enters
the night, under the commit, in docs/scale.json and draws docs/scale.png.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from math import nan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from benchmarks import scale_report
from benchmarks.bar import Bar, StepsOfRun
from benchmarks.watch import EVERY, Watch

END: Final = datetime(2026, 4, 12, tzinfo=UTC)


def simulate(stations: int, days: int, folder: Path) -> dict[str, Any]:
    """The network's landing files, an hour each."""
    from bts_assets.simulation.simulate import NetworkSpec, first_parameters, simulate_network

    spec = NetworkSpec(stations, days + 1, END, seed=1, parameters=first_parameters(20), readings_per_hour=4.0)
    bar = Bar("1 of 3, simulating")
    with Watch(folder / "home") as watch:
        start = time.time()
        truth = simulate_network(spec, folder / "files", truth=folder / "truth", on_progress=bar.tell)
    bar.end()
    rows = truth.totals["rows"]
    size = sum(file.stat().st_size for file in (folder / "files").iterdir())
    return {"simulate": watch.between(start, time.time()), "rows": rows, "bytes": size}


def night(stations: int, days: int, folder: Path, last: bool) -> dict[str, Any]:
    """The nightly job over the files until the end of the history, or of the day after it."""
    _ = stations
    origin = END if last else END - timedelta(days=1)
    landing = folder / "landing"
    landing.mkdir(exist_ok=True)
    for file in sorted((folder / "files").iterdir()):
        if _hour_of(file) < origin and not (landing / file.name).exists():
            file.rename(landing / file.name)
    home = folder / "home"
    home.mkdir(exist_ok=True)
    os.environ["BTS_HOME"] = str(home)
    import dagster as dg

    from bts_assets import progress
    from bts_assets.cli.run_job import run_job
    from bts_assets.settings import load_settings

    bar = Bar("3 of 3, the night" if last else "2 of 3, history and training")
    with Watch(home) as watch, StepsOfRun(bar), progress.listening(bar.listen):
        start = time.time()
        said = run_job("nightly", load_settings(), landing=landing, as_of=origin.isoformat())
        end = time.time()
    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs(limit=1)[0]
        steps = {s.step_key: (s.start_time, s.end_time) for s in instance.get_run_step_stats(run.run_id)}
    stages = {name: watch.between(at, over or end) for name, (at, over) in sorted(steps.items(), key=_began) if at}
    forecasts = said["station_forecasts"]
    return {
        "stages": {**stages, "all": watch.between(start, end)},
        "alone": _alone(home) if last else {},
        "series": forecasts["series"],
        "forecast": forecasts["forecast"],
        "forecasts_digest": forecasts["digest"],
        "postgres_bytes": _size(home / "postgres"),
        "readings_bytes": _size(home / "readings"),
        "days": days,
    }


def _alone(home: Path) -> dict[str, dict[str, float]]:
    """What two parts of stages take by themselves, in a process that is warm: scoring a batch, of which a night with a
    horizon of two days has two, and the breaches of the batch that serves.
    """
    import pandas as pd
    import sqlalchemy as sa

    from bts_assets.forecasting.batch import Batch
    from bts_assets.monitoring.dependence import dependence_of
    from bts_assets.services.breach import breach_rows, breach_rule, straying
    from bts_assets.services.home import open_home
    from bts_assets.services.scoring import score_matured
    from bts_assets.settings import load_settings
    from bts_assets.storage.drift import served_batch
    from bts_assets.storage.observation_blocks import ALL_STATIONS, read_panel
    from bts_assets.storage.scores import read_quantiles
    from bts_assets.storage.station_limits import station_limits

    made = open_home(load_settings())
    grid, found = made.settings.grid, {}
    with made.engine.begin() as connection:
        connection.execute(sa.text("UPDATE bts.scored_batch SET ledger_seq = -1"))
    with Watch(home) as watch:
        time.sleep(2 * EVERY)
        start = time.time()
        score_matured(made)
        time.sleep(2 * EVERY)
        found["scoring a batch once more"] = watch.between(start, time.time())
    with made.engine.connect() as connection:
        batch = served_batch(connection, END)
        assert batch is not None  # noqa: S101 - the night has published it
        ids, quantiles = read_quantiles(connection, batch.batch_id, grid.horizon_steps, ALL_STATIONS)
        panel = read_panel(connection, grid, END - grid.context, END)
        limits = station_limits(connection)
    station, parameter = (ids.get_level_values(k).to_numpy() for k in (0, 1))
    with Watch(home) as watch:
        time.sleep(2 * EVERY)
        start = time.time()
        joint = dependence_of(straying(panel, made.catalogue, limits), panel.parameter_id)
        served = Batch(grid, END, station, parameter, quantiles, pd.DataFrame())
        breach_rows(served, panel, joint, made.catalogue, limits, breach_rule(made.settings))
        time.sleep(2 * EVERY)
        found["breaches, within station_forecasts"] = watch.between(start, time.time())
    return found


def _began(step: tuple[str, tuple[float | None, float | None]]) -> float:
    return step[1][0] or 0.0


def _hour_of(file: Path) -> datetime:
    return datetime.strptime("-".join(file.stem.split("-")[1:5]), "%Y-%m-%d-%H").replace(tzinfo=UTC)


def _size(folder: Path) -> int:
    return int(subprocess.run(["du", "-sb", folder], capture_output=True, check=True).stdout.split()[0])  # noqa: S603, S607


def phase(name: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a phase came to: in a process of its own, or as it stands in the folder."""
    kept = folder / f"{name}.json"
    if not kept.exists():
        command = [sys.executable, "-m", "benchmarks.scale", "--phase", name, "--folder", str(folder)]
        command += ["--stations", str(arguments.stations), "--days", str(arguments.days)]
        subprocess.run(command, check=True)  # noqa: S603 - ourselves
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


@contextmanager
def place(given: Path | None) -> Iterator[Path]:
    from benchmarks.own_home import stopped

    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        with stopped(given / "home"):
            yield given
        return
    with TemporaryDirectory(prefix="bts-scale-") as folder:
        Path(folder).chmod(0o755)  # for the unprivileged user that a root's server runs as
        with stopped(Path(folder) / "home"):
            yield Path(folder)


def _print(arguments: argparse.Namespace, found: dict[str, dict[str, Any]]) -> None:
    say = sys.stdout.write
    drawn, trained, measured = found["simulate"], found["champion"], found["night"]
    say(f"{arguments.stations:,} stations, {measured['series']:,} series, {drawn['rows']:,} rows of landing files\n\n")
    say(f"{'stage':34}{'wall':>9}{'CPU':>9}{'Postgres':>10}{'peak memory':>14}{'in Postgres':>14}{'in files':>11}\n")
    rows = {f"simulate {arguments.days + 1} days": drawn["simulate"]}
    rows |= {f"history and training: {name}": stage for name, stage in trained["stages"].items() if stage["cpu_s"] > 1}
    rows |= {f"night: {name}": stage for name, stage in measured["stages"].items()}
    rows |= {f"alone: {name}": stage for name, stage in measured["alone"].items()}
    for name, row in rows.items():
        say(
            f"{name[:33]:34}{row['wall_s']:>8.1f}s{row['cpu_s']:>8.1f}s{row['postgres_cpu_s']:>9.1f}s"
            f"{row['peak_bytes'] / 2**20:>10,.0f} MiB{row.get('postgres_added_bytes', nan) / 1e6:>11,.1f} MB"
            f"{row.get('files_added_bytes', nan) / 1e6:>8,.1f} MB\n"
        )
    new = {k: measured[k] - trained[k] for k in ("postgres_bytes", "readings_bytes")}
    say(f"\nthe night added {new['postgres_bytes']:,} bytes in Postgres and {new['readings_bytes']:,} of readings\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=500)
    parser.add_argument("--days", type=int, default=8, help="days of history that the champion is trained on")
    parser.add_argument("--folder", type=Path, help="where everything is made, and kept")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--record", action="store_true", help="enter the night in docs/scale.json, draw docs/scale.png")
    parser.add_argument("--phase", choices=["simulate", "champion", "night"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase:
        given = arguments.stations, arguments.days, arguments.folder
        made = simulate(*given) if arguments.phase == "simulate" else night(*given, last=arguments.phase == "night")
        (arguments.folder / f"{arguments.phase}.json").write_text(json.dumps(made, indent=1))
        return
    with place(arguments.folder) as folder:
        found = {name: phase(name, arguments, folder) for name in ("simulate", "champion", "night")}
        _print(arguments, found)
        if arguments.record:
            scale_report.record(arguments.stations, found)
        if arguments.json:
            arguments.json.write_text(json.dumps(vars(arguments) | found, indent=1, default=str))
        if arguments.folder is None:
            shutil.rmtree(folder / "files", ignore_errors=True)


if __name__ == "__main__":
    main()

"""Where the time of a first night goes: imports, orchestration, data, training, registering, publishing.

    python -m benchmarks.nightly

The same work as `bts nightly` in an empty home over the simulated network, in one process, with the heavy imports made
first so that they can be told apart. A second line times the real command, and a third the same night again.
"""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

#: What each asset's time is counted as.
KINDS = {
    "readings": "data: landing to readings",
    "grouped_series": "data: readings to observations",
    "lstm_model": "registering, plots and backtest pictures",
    "station_forecasts": "forecasting, publishing, checks, plots",
    "data_profile": "describing the data",
    "forecast_scores": "watching",
    "site_power": "watching",
    "drift": "watching",
    "alerts": "watching",
    "retention": "watching",
    "challenger_forecasts": "looking for a challenger on probation",
}


def shares(home: Path) -> dict[str, float]:
    os.environ["BTS_HOME"] = str(home)
    times: dict[str, float] = {}

    def took(name: str, since: float) -> float:
        times[name] = time.perf_counter() - since
        return time.perf_counter()

    at = start = time.perf_counter()
    import dagster  # noqa: F401

    at = took("import dagster", at)
    import mlflow  # noqa: F401

    at = took("import mlflow", at)
    import bts_assets.forecasting.lstm

    at = took("import tensorflow", at)
    import bts_assets.definitions  # noqa: F401
    from bts_assets.cli.run_job import run_job
    from bts_assets.settings import load_settings
    from bts_assets.simulation.simulate import NetworkSpec, simulate_network

    at = took("import the rest", at)
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    simulate_network(NetworkSpec(stations=8, days=14, end=end, seed=1), home / "landing")
    at = took("simulating", at)
    settings = load_settings(landing_dir=home / "landing")
    said = run_job("nightly", settings, landing=home / "landing")
    took("run", at)
    steps = _steps()
    training = float(said["lstm_model"]["training_seconds"])
    for asset, seconds in steps.items():
        kind = KINDS[asset]
        times[kind] = times.get(kind, 0) + seconds - (training if asset == "lstm_model" else 0)
    times["training and backtest"] = training
    times["orchestration, opening the home, first schemas"] = times.pop("run") - sum(steps.values())
    times["total"] = time.perf_counter() - start
    return times


def _steps() -> dict[str, float]:
    """Seconds of each asset, over all runs of the instance: a first night takes files in before it knows its origin."""
    import dagster as dg

    seconds: dict[str, float] = {}
    with dg.DagsterInstance.get() as instance:
        for run in instance.get_runs():
            for step in instance.get_run_step_stats(run.run_id):
                took = (step.end_time or 0) - (step.start_time or 0)
                seconds[step.step_key] = seconds.get(step.step_key, 0) + took
    return seconds


def main() -> None:
    if len(sys.argv) > 1:
        for name, seconds in shares(Path(sys.argv[1])).items():
            sys.stdout.write(f"{seconds:7.2f} s  {name}\n")
        return
    program = Path(sys.executable).parent / "bts"
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        Path(folder).chmod(0o755)
        for home in ("shares", "command"):
            (Path(folder) / home).mkdir(mode=0o755)
        subprocess.run([sys.executable, "-m", "benchmarks.nightly", f"{folder}/shares"], check=True)  # noqa: S603
        environment = {**os.environ, "BTS_HOME": f"{folder}/command"}
        for name in ("bts nightly, the first night", "bts nightly, the same night again"):
            start = time.perf_counter()
            subprocess.run([program, "nightly"], check=True, env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
            sys.stdout.write(f"{time.perf_counter() - start:7.2f} s  {name}\n")
        for home in ("shares", "command"):
            stop = {**os.environ, "BTS_HOME": f"{folder}/{home}"}
            subprocess.run([program, "stop"], check=True, env=stop, stdout=subprocess.DEVNULL)  # noqa: S603


if __name__ == "__main__":
    main()

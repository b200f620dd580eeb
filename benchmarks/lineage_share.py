"""What lineage adds to the wall time of a night: digests, ledger, code version, MLflow's tags, description of the data.

    python -m benchmarks.lineage_share [--nights 7]

Nights of the simulated network (8 stations, 14 days before the first), each the nightly job in a process of its own,
imports included, with the champion that the first night trained. New: a day of files came; again: nothing did. What
lineage costs is timed where it is called, in the same process. Medians over the nights. The import of MLflow counts as
the night's: the champion's alias is compared with it every night.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from bts_assets.contracts.grid import DAY

END: Final = datetime(2026, 4, 12, tzinfo=UTC)
HISTORY: Final = 14

#: What is timed: part -> where it is called from.
_TIMED: Final = {
    "digests of landing files": ("bts_assets.landing.inbox.digest_of",),
    "digests of observations, panels and forecasts": (
        "bts_assets.storage.observations.station_digests",
        "bts_assets.storage.loading.forecast_digests",
    ),
    "rows of the forecast ledger": ("bts_assets.storage.loading._load_ledger",),
    "code version, machine": ("bts_assets.storage.provenance._git", "bts_assets.storage.provenance._processor"),
    "MLflow told of the batch": ("bts_assets.defs.station_forecasts.tell_served",),
}
_PANELS: Final = "digests of observations, panels and forecasts"
_PROFILE: Final = "data_profile: description, table, picture"


def one_night(landing: Path, as_of: str) -> dict[str, float]:
    """Run the nightly job here; seconds per part of what lineage costs."""
    import dagster as dg

    from bts_assets.cli.run_job import run_job
    from bts_assets.contracts.panel import Panel
    from bts_assets.settings import load_settings

    took: defaultdict[str, float] = defaultdict(float)

    def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return work(*given, **named)
            finally:
                took[part] += time.perf_counter() - start

        return run

    for part, places in _TIMED.items():
        for place in places:
            module, _, name = place.rpartition(".")
            setattr(import_module(module), name, timed(part, getattr(import_module(module), name)))
    digests = cached_property(timed(_PANELS, vars(Panel)["series_digests"].func))
    digests.__set_name__(Panel, "series_digests")
    setattr(Panel, "series_digests", digests)  # noqa: B010 - a property is replaced, which no assignment says
    run_job("nightly", load_settings(), landing=landing, as_of=as_of)
    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs(limit=1)[0]
        steps = {s.step_key: s for s in instance.get_run_step_stats(run.run_id)}
    described = steps["data_profile"]
    took[_PROFILE] = (described.end_time or 0) - (described.start_time or 0)
    return dict(took)


def measured(home: Path, landing: Path, as_of: datetime) -> dict[str, float]:
    """As `one_night`, in a process of its own, with its `wall` seconds."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.lineage_share",
        "--landing",
        str(landing),
        "--as-of",
        as_of.isoformat(),
    ]
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - ourselves
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "BTS_HOME": str(home)}
    )
    return json.loads(done.stdout.splitlines()[-1]) | {"wall": time.perf_counter() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, default=7)
    parser.add_argument("--landing", type=Path, help="measure one night in this process and print JSON (with --as-of)")
    parser.add_argument("--as-of")
    arguments = parser.parse_args()
    if arguments.landing:
        sys.stdout.write("\n" + json.dumps(one_night(arguments.landing, arguments.as_of)) + "\n")
        return
    from bts_assets.simulation.simulate import NetworkSpec, simulate_network

    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        top = Path(folder)
        top.chmod(0o755)
        home, landing = top / "home", top / "landing"
        home.mkdir(mode=0o755)
        landing.mkdir()
        spec = NetworkSpec(stations=8, days=HISTORY + arguments.nights, end=END, seed=1)
        files = sorted(simulate_network(spec, top / "stage").landing.glob("*.csv"))
        nights: dict[str, list[dict[str, float]]] = {"new": [], "again": []}
        for night in range(arguments.nights + 1):
            origin = END - (arguments.nights - night) * DAY
            for file in files:
                here = datetime.strptime(file.name[6:19], "%Y-%m-%d-%H").replace(tzinfo=UTC) < origin
                if here and not (landing / file.name).exists():
                    shutil.copy2(file, landing)
            new = measured(home, landing, origin)
            if night:  # the first one trains
                nights["new"].append(new)
                nights["again"].append(measured(home, landing, origin))
        stop = {**os.environ, "BTS_HOME": str(home)}
        subprocess.run([Path(sys.executable).parent / "bts", "stop"], check=True, env=stop, stdout=subprocess.DEVNULL)  # noqa: S603
    for name, found in nights.items():
        walls = statistics.median(night["wall"] for night in found)
        shares = [sum(v for k, v in night.items() if k != "wall") / night["wall"] for night in found]
        sys.stdout.write(f"{name}: {walls:.2f} s, of which lineage {statistics.median(shares):.1%}")
        sys.stdout.write(f" ({min(shares):.1%} to {max(shares):.1%} in {len(found)} nights)\n")
        for part in (*_TIMED, _PROFILE):
            sys.stdout.write(f"{statistics.median(night.get(part, 0.0) for night in found):8.3f} s  {part}\n")


if __name__ == "__main__":
    main()

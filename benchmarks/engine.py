"""Several workers against one: forecasts of a night, and per-series statistical models; wall time, CPU, the same bits.

    python -m benchmarks.engine --stations 200 --workers 2
    BTS_ENGINE=ray BTS_RAY_ADDRESS=127.0.0.1:6379 python -m benchmarks.engine --workers 2

A network is simulated and a version trained on it, as `benchmarks.scale` does (`--folder` keeps them, and may be one of
its). Everything is then made by this process alone and by the workers, on the same part sizes. A worker's start, its
imports, counts. Where the machine is shared, wall time says little: CPU seconds of each process tell how evenly the
work was shared, and what it cost in all.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.candidates import STATISTICAL
from bts_assets.forecasting.forecasters import forecast_each
from bts_assets.forecasting.windows import in_chunks, take_series
from bts_assets.services.engine import engine
from bts_assets.services.home import Home, open_home
from bts_assets.services.known_at_origin import InputPart, what_is_given
from bts_assets.services.nightly import _forecast_part
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.loading import BatchPart, forecast_digests
from bts_assets.storage.model_versions import ModelVersion, champion_for


@dataclass(frozen=True)
class Done:
    """A part's digests, and the CPU seconds of the process that made it, since it began."""

    digests: list[bytes]
    process: int
    cpu: float


def forecast_part(versions: list[ModelVersion], home: Home, part: InputPart) -> Done:
    made: BatchPart = _forecast_part(versions, np.array([], dtype=np.int64), home, part)
    return Done(forecast_digests(made.batch), os.getpid(), time.process_time())


def forecast_night(home: Home, origin: Origin, version: ModelVersion, at_once: int) -> Iterator[Done]:
    with what_is_given(home, origin, at_once) as given, given.each(partial(forecast_part, [version])) as parts:
        yield from parts


def statistical_part(panel: Panel) -> Done:
    given = [forecast_each(model, panel)[0] for model in STATISTICAL]
    return Done([sha256(one.tobytes()).digest() for one in given], os.getpid(), time.process_time())


def fit_statistical(home: Home, panel: Panel) -> Iterator[Done]:
    chunks = (take_series(panel, np.arange(part.start, part.stop)) for part in in_chunks(len(panel), 16))
    with engine(home.settings) as spread:
        yield from spread(statistical_part, chunks)


def measured(name: str, settings: Settings, run: Callable[[], Iterator[Done]]) -> dict[str, Any]:
    start, before = time.monotonic(), time.process_time()
    done = list(run())
    own = time.process_time() - before
    others: dict[int, float] = {}
    for one in done:
        if one.process != os.getpid():
            others[one.process] = max(one.cpu, others.get(one.process, 0.0))
    digest = sha256(b"".join(digest for one in done for digest in one.digests)).hexdigest()
    found = {
        "work": name,
        "where": settings.engine,
        "workers": settings.workers or 1,
        "parts": len(done),
        "wall_s": round(time.monotonic() - start, 1),
        "cpu_s": round(own, 1),
        "workers_cpu_s": sorted(round(cpu, 1) for cpu in others.values()),
        "load": round(os.getloadavg()[0], 1),
        "digest": digest[:12],
        "children_peak_MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    return found


def compare(folder: Path, workers: int, series: int, at_once: int, first: str) -> None:
    alone = load_settings(home=folder / "home", engine="local", workers=1)
    chosen = load_settings(home=folder / "home", workers=workers)
    home = open_home(alone)
    version = champion_for(home.engine, alone.grid)
    if version is None:
        raise SystemExit(f"{folder} has no trained version")
    origin = Origin(datetime(2026, 4, 11, tzinfo=UTC), "live", "the benchmark's")
    with what_is_given(home, origin) as given:
        every = list(zip(given.station_id.tolist(), given.parameter_id.tolist(), strict=True))
        panel = given.panel_of(every[:: max(len(every) // series, 1)][:series])
    homes = [replace(home, settings=settings) for settings in (alone, chosen)]
    for name, run in (
        ("forecast", lambda one: forecast_night(one, origin, version, at_once)),
        ("statistical", lambda one: fit_statistical(one, panel)),
    ):
        if first not in ("both", name):
            continue
        found = [measured(name, one.settings, partial(run, one)) for one in homes]
        if found[0]["digest"] != found[1]["digest"]:
            raise SystemExit(f"{name}: the bits differ")
        sys.stdout.write(f"{name}: {found[0]['wall_s'] / found[1]['wall_s']:.2f} times as fast\n")


def main() -> None:
    from benchmarks import scale

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", type=int, default=200)
    parser.add_argument("--days", type=int, default=8, help="days of history that the champion is trained on")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--series", type=int, default=192, help="series that statistical models are fitted to")
    parser.add_argument("--part", type=int, default=512, help="series of a part")
    parser.add_argument("--only", choices=["forecast", "statistical", "both"], default="both")
    parser.add_argument("--folder", type=Path, help="where everything is made, and kept")
    arguments = parser.parse_args()
    with scale.place(arguments.folder) as folder:
        for name in ("simulate", "champion"):
            scale.phase(name, arguments, folder)
        compare(folder, arguments.workers, arguments.series, arguments.part, arguments.only)


if __name__ == "__main__":
    # By its name, so that workers on Ray find what they are to do.
    from benchmarks.engine import main as named

    named()

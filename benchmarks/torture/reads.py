"""Readers over new connections while batches are published and pruned and views rebuilt: none is torn or empty."""

import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import psycopg2
from many_batches import LEVELS, add_nights
from small_nights import GRID, SMALL, lineage, publish_panel, serving_version, simple_bundle, small_batch, small_panel

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.children import start
from benchmarks.torture.stage import Place, Stage
from bts_assets.services.home import Home
from bts_assets.services.retention import prune
from bts_assets.storage.forecasts import publish
from bts_assets.storage.loading import BatchPart
from bts_assets.storage.postgres import migrate

READERS: Final = 24
BATCHES: Final = 400
_SECONDS: Final = 1.5
_SETTINGS: Final = {**SMALL, "file_stable_for": timedelta(0), "training_span": timedelta(days=1)}
_LOOK: Final = "SELECT count(*), count(DISTINCT batch_id), min(batch_id), max(q50) - min(q50) FROM bts.latest_forecast"


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """Some seconds of readers beside publishing, pruning and migrating; then the same readers alone, for comparison."""
    stored = stage.once("home of reads", lambda: _stored(stage))
    made = FaultTrial()
    with stage.place(stored) as place:
        busy = _raced(place, made, _disturb)
        idle = _raced(place, made, _idle)
    p99 = [float(np.percentile(times, 99)) for times in (busy, idle)]
    made.kinds["p99 busy over idle, per mille"] = int(1000 * p99[0] / p99[1])
    return made


def _stored(stage: Stage) -> Place:
    place = stage.new_place(**_SETTINGS)

    def fill(home: Home) -> None:
        version = serving_version(home, simple_bundle()).model_version_id
        publish_panel(home.engine, small_panel(), version)
        add_nights(home.engine, BATCHES)

    ended = place.run(fill)
    if ended.status != "done":
        raise RuntimeError(ended.value)
    return place


def _raced(place: Place, made: FaultTrial, beside: Any) -> list[float]:
    """Seconds that each look took."""
    stop = place.folder / f"stop{time.monotonic_ns()}"
    readers = [
        start(lambda level=level: _look_until(place.url, level, stop), place.log)  # type: ignore[misc]
        for level in (list(LEVELS) * READERS)[:READERS]
    ]
    ended = place.run(beside)
    stop.touch()
    made.expect(ended.status == "done", f"what went on beside the readers: {ended.why}")
    times: list[float] = []
    for reader in readers:
        seen = reader.end(kill_after=60)
        if seen.status != "done":
            made.fail(f"a reader {seen.why}")
            continue
        looks, wrong = seen.value
        made.land("reads", 2 * len(looks))
        made.failures += wrong
        times += looks
    return times


def _look_until(url: str, level: str, stop: Path) -> tuple[list[float], list[str]]:
    times, wrong = [], []
    while not stop.exists():
        began = time.perf_counter()
        with closing(psycopg2.connect(url)) as connection:
            connection.set_session(isolation_level=LEVELS[level])
            with connection.cursor() as cursor:
                looks = []
                for _ in range(2):
                    cursor.execute(_LOOK)
                    looks.append(cursor.fetchone() or ())
        times.append(time.perf_counter() - began)
        wrong += [f"{level}: a reader saw {look}" for look in looks if look[:2] != (18, 1) or look[3] != 0.25]
        if level == "REPEATABLE READ" and looks[0] != looks[1]:
            wrong.append(f"one snapshot showed {looks}")
    return times, wrong


def _disturb(home: Home) -> None:
    """Publish, prune a batch that went past its retention meanwhile, and lay the views down anew, again and again."""
    version = serving_version(home, simple_bundle(seed=2)).model_version_id
    until, level = time.monotonic() + _SECONDS, 100
    span = BATCHES * timedelta(days=1)
    while time.monotonic() < until:
        panel = small_panel(level)
        batch = small_batch(panel)
        publish(home.engine, [BatchPart(batch)], batch.issued_at, lineage(panel, version), GRID)
        span -= timedelta(days=1)
        pruning = Home(
            home.settings.model_copy(update={"forecast_retention": span}),
            home.url,
            home.engine,
            home.catalogue,
            home.urls,
        )
        prune(pruning)
        if level % 5 == 0:
            migrate(home.engine, home.catalogue)
        level += 1


def _idle(_: Home) -> None:
    time.sleep(_SECONDS / 4)

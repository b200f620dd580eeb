"""A store filled with batches by SQL alone, as years of nights leave it, and readers that race with publishing.

    python tests/helpers/many_batches.py [--batches 400] [--readers 24] [--publishes 50]

runs the race of tests/storage/test_forecast_store.py at that size, on a server of its own, and says what was seen.
"""

import argparse
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED, ISOLATION_LEVEL_REPEATABLE_READ
from small_nights import (
    SMALL,
    lineage,
    publish_panel,
    publish_whole,
    serving_version,
    simple_bundle,
    small_batch,
    small_panel,
)

from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage.embedded import server as embedded

LEVELS: Final = {"READ COMMITTED": ISOLATION_LEVEL_READ_COMMITTED, "REPEATABLE READ": ISOLATION_LEVEL_REPEATABLE_READ}

_BATCHES: Final = """
    INSERT INTO bts.batch (issued_at, kind, model_version_id, step_seconds, horizon_steps, input_start,
        input_ledger_seq, observations_digest, catalogue_digest, forecasts_digest, series, forecast, fallback, excluded,
        settings, code_version)
    SELECT first.issued_at - (known.batches + n) * interval '1 day', 'live', first.model_version_id, first.step_seconds,
           first.horizon_steps,
           first.input_start - (known.batches + n) * interval '1 day', 0, first.observations_digest,
           first.catalogue_digest, first.forecasts_digest, first.series, first.forecast, 0, 0, '{}', 'test'
    FROM (SELECT * FROM bts.batch ORDER BY batch_id LIMIT 1) AS first,
         (SELECT count(*) AS batches FROM bts.batch) AS known, generate_series(%(count)s, 1, -1) AS n;
    INSERT INTO bts.forecast_ledger
    SELECT b.batch_id, l.station_id, l.parameter_id, l.status, l.source, l.reason, b.issued_at, 24, 24, l.components
    FROM bts.batch AS b, (SELECT * FROM bts.forecast_ledger ORDER BY batch_id LIMIT 3) AS l
    WHERE b.batch_id > (SELECT max(batch_id) FROM bts.forecast_ledger);
    INSERT INTO bts.forecast_series
    SELECT b.batch_id, s.station_id, s.parameter_id, s.q05, s.q10, s.q50, s.q90, s.q95
    FROM bts.batch AS b, (SELECT * FROM bts.forecast_series ORDER BY batch_id LIMIT 3) AS s
    WHERE b.batch_id > (SELECT max(batch_id) FROM bts.forecast_series);
    INSERT INTO bts.publication (batch_id, serves_latest, reason)
    SELECT batch_id, false, 'an earlier night' FROM bts.batch
    WHERE batch_id > (SELECT max(batch_id) FROM bts.publication) ORDER BY batch_id
"""


def add_nights(engine: sa.Engine, count: int) -> None:
    """Nightly batches before the first one, each a copy of its three series."""
    with engine.begin() as connection:
        connection.exec_driver_sql(_BATCHES, {"count": count})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(
            "VACUUM ANALYZE bts.batch, bts.forecast_series, bts.forecast_ledger, bts.publication"
        )


@dataclass
class Race:
    """What readers saw. wrong: looks that showed not one whole batch, or two batches in one snapshot."""

    reads: int = 0
    batches: set[int] = field(default_factory=set)
    wrong: list[Any] = field(default_factory=list)


def race(home: Home, version: int, readers: int, publishes: int, isolation: str) -> Race:
    """Publish batch after batch while readers look, each look over a new connection."""
    panels = [small_panel(100 + level) for level in range(publishes)]
    made = [small_batch(panel) for panel in panels]
    seen, stop = Race(), threading.Event()
    with _running(readers, lambda: _look(home, seen, isolation), stop):
        for panel, batch in zip(panels, made, strict=True):
            publish_whole(home.engine, batch, lineage(panel, version))
    return seen


@contextmanager
def _running(count: int, work: Callable[[], None], stop: threading.Event) -> Iterator[None]:
    def run() -> None:
        while not stop.is_set():
            work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


_LOOK: Final = "SELECT count(*), count(DISTINCT batch_id), min(batch_id), max(q50) - min(q50) FROM bts.latest_forecast"


def _look(home: Home, seen: Race, isolation: str) -> None:
    with closing(psycopg2.connect(home.url)) as connection:
        connection.set_session(isolation_level=LEVELS[isolation])
        with connection.cursor() as cursor:
            looks = []
            for _ in range(2):
                cursor.execute(_LOOK)
                looks.append(cursor.fetchone())
    seen.reads += len(looks)
    seen.batches.update(look[2] for look in looks)
    seen.wrong.extend(look for look in looks if look[:2] != (18, 1) or look[3] != 0.25)
    if isolation == "REPEATABLE READ" and looks[0] != looks[1]:
        seen.wrong.append(looks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--readers", type=int, default=24)
    parser.add_argument("--publishes", type=int, default=50)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="bts-race-") as folder:
        Path(folder).chmod(0o755)
        home = open_home(load_settings(home=Path(folder), file_stable_for=timedelta(0), **SMALL))
        try:
            version = serving_version(home, simple_bundle()).model_version_id
            publish_panel(home.engine, small_panel(), version)
            add_nights(home.engine, arguments.batches)
            for isolation in LEVELS:
                seen = race(home, version, arguments.readers, arguments.publishes, isolation)
                sys.stdout.write(
                    f"{isolation}: {len(seen.wrong)} of {seen.reads:,} reads empty or torn,"
                    f" {len(seen.batches)} batches seen\n"
                )
                version = serving_version(home, simple_bundle(seed=2)).model_version_id
        finally:
            home.engine.dispose()
            embedded.stop(Path(folder))


if __name__ == "__main__":
    main()

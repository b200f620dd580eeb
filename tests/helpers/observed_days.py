"""Days of a small network that are observed anew, and what observing came to; no tests are here."""

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from small_nights import ORIGIN, SMALL, observe_due, rows_of, small_up_to, take_in

from bts_assets.services import observe
from bts_assets.services.home import Home, open_home
from bts_assets.services.observe import ObserveReport
from bts_assets.settings import load_settings
from bts_assets.simulation.simulate import Dirt, NetworkSpec, simulate_network

DAYS: Final = [ORIGIN.date() - timedelta(days=n) for n in (2, 1)]


@dataclass(frozen=True)
class Seen:
    """What observing came to and stored, and how many workers of this machine there were when each part came."""

    report: ObserveReport
    log: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    workers: list[int]


def two_days(folder: Path, database_url: str) -> Home:
    """Two days of six stations, taken in: some files rest as rows, the others as Parquet."""
    dirt = Dirt(duplicate=0.01, repeated=0.01, late=0.03)
    spec = NetworkSpec(stations=6, days=2, end=ORIGIN, seed=3, readings_per_hour=4, dirt=dirt)
    simulate_network(spec, folder / "landing")
    settings = load_settings(home=folder / "home", database_url=database_url, file_stable_for=timedelta(0), **SMALL)
    made = open_home(settings)
    rows = [len(file.read_text().splitlines()) for file in (folder / "landing").iterdir()]
    with small_up_to(sorted(rows)[len(rows) // 2]):
        take_in(made, folder / "landing")
    return made


def observed_anew(
    home: Home, monkeypatch: pytest.MonkeyPatch, disturb: Callable[[], object] = int, **settings: Any
) -> Seen:
    """Compute all days anew by an engine that is set otherwise; disturb: called when the first part is there."""
    with home.engine.begin() as connection:
        for table in ("observed_day", "observation_block"):
            connection.exec_driver_sql(f"DELETE FROM bts.{table}")
    alive: list[int] = []

    def look(point: str) -> None:
        if point == "observe.after_read":
            alive.append(len(multiprocessing.active_children()))
            if len(alive) == 1:
                disturb()

    monkeypatch.setattr(observe, "crash_point", look)
    report = observe_due(replace(home, settings=home.settings.model_copy(update=settings)))
    names = "day, digest, observations, readings, first_observed_at, last_observed_at, repeated, corrected, ids_ignored"
    log = rows_of(home, f"SELECT {names} FROM bts.observed_day ORDER BY day")
    order = "starts_at, station_id, parameter_id"
    return Seen(report, log, rows_of(home, f"SELECT * FROM bts.observation_block ORDER BY {order}"), alive)

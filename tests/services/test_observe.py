"""Days observed by several workers: the same rows and digests as by one process, whoever dies, whatever is damaged."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from small_nights import ORIGIN, SMALL, observe_due, rows_of, small_up_to, take_in

from bts_assets.services import memory, observe, shared_snapshot
from bts_assets.services.home import Home, open_home
from bts_assets.services.observe import ObserveReport
from bts_assets.settings import load_settings
from bts_assets.simulation.simulate import Dirt, NetworkSpec, simulate_network

pytestmark = pytest.mark.slow

DAYS = [ORIGIN.date() - timedelta(days=n) for n in (2, 1)]


@dataclass(frozen=True)
class Seen:
    """What observing came to and stored, and how many workers there were when each part came."""

    report: ObserveReport
    log: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    workers: list[int]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Home]:
    """Two days of six stations, taken in: some files rest as rows, the others as Parquet."""
    folder = tmp_path_factory.mktemp("observe")
    dirt = Dirt(duplicate=0.01, repeated=0.01, late=0.03)
    spec = NetworkSpec(stations=6, days=2, end=ORIGIN, seed=3, readings_per_hour=4, dirt=dirt)
    simulate_network(spec, folder / "landing")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    made = open_home(settings)
    rows = [len(file.read_text().splitlines()) for file in (folder / "landing").iterdir()]
    with small_up_to(sorted(rows)[len(rows) // 2]):
        take_in(made, folder / "landing")
    yield made
    made.engine.dispose()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LEAST_READINGS", 100)


def seen(home: Home, monkeypatch: pytest.MonkeyPatch, workers: int, disturb: Callable[[], object] = int) -> Seen:
    """Compute all days anew; disturb: called when the first part is there."""
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
    report = observe_due(replace(home, settings=home.settings.model_copy(update={"workers": workers})))
    names = "day, digest, observations, readings, first_observed_at, last_observed_at, repeated, corrected, ids_ignored"
    log = rows_of(home, f"SELECT {names} FROM bts.observed_day ORDER BY day")
    order = "starts_at, station_id, parameter_id"
    return Seen(report, log, rows_of(home, f"SELECT * FROM bts.observation_block ORDER BY {order}"), alive)


def kill() -> None:
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("disturb", [int, kill])
def test_no_bit_depends_on_who_observes_nor_on_one_that_is_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch, disturb: Callable[[], object]
) -> None:
    alone, beside = seen(home, monkeypatch, 1), seen(home, monkeypatch, 2, disturb)
    assert alone.workers == [0]
    assert beside.workers[0] == 2
    assert len(beside.workers) >= 4
    assert beside.report == alone.report
    assert beside.report.duplicates > 0
    assert beside.log == alone.log
    assert beside.blocks == alone.blocks
    assert multiprocessing.active_children() == []


def test_one_part_alone_is_computed_here(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert seen(home, monkeypatch, 2).workers == [0]


@pytest.mark.usefixtures("small_parts")
def test_damage_that_a_worker_finds_costs_its_own_day(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    (digest, *_) = [d for d in digests_of(home, DAYS[0]) if home.readings.path(d).exists()]
    file = home.readings.path(digest)
    sound = file.read_bytes()
    values = pq.ParquetFile(file).metadata.row_group(0).column(4)
    middle = values.data_page_offset + values.total_compressed_size // 2
    file.write_bytes(sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :])
    try:
        assert home.readings.count_by_station([digest])  # what the parts are made by finds nothing
        damaged = seen(home, monkeypatch, 2)
    finally:
        file.write_bytes(sound)
    assert [(day, digest[:12] in why) for day, why in damaged.report.failed.items()] == [(DAYS[0], True)]
    assert [row["day"] for row in damaged.log] == DAYS[1:]
    assert 2 in damaged.workers
    assert damaged.log == seen(home, monkeypatch, 1).log[1:]


@pytest.mark.usefixtures("small_parts")
def test_workers_that_do_not_find_the_files_leave_the_days_to_this_process(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = seen(home, monkeypatch, 1)
    elsewhere = home.settings.model_copy(update={"home": tmp_path})
    told = shared_snapshot._Shared.of(replace(home, settings=elsewhere))
    monkeypatch.setattr(shared_snapshot._Shared, "of", lambda _: told)
    left = seen(home, monkeypatch, 2)
    assert (left.report, left.log, left.blocks) == (alone.report, alone.log, alone.blocks)


def digests_of(home: Home, day: date) -> list[str]:
    query = (
        "SELECT digest FROM bts.landing_file WHERE days = ARRAY[CAST(:day AS date)] AND status = 'accepted' ORDER BY 1"
    )
    return [row["digest"] for row in rows_of(home, query, day=day)]

"""Days observed by several workers: the same rows and digests as by one process, whoever dies, whatever is damaged."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from observed_days import DAYS, observed_anew, two_days
from small_nights import rows_of

from bts_assets.services import memory, shared_snapshot
from bts_assets.services.home import Home

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Home]:
    made = two_days(tmp_path_factory.mktemp("observe"), new_database())
    yield made
    made.engine.dispose()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_LEAST_READINGS", 100)


def kill() -> None:
    os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("disturb", [int, kill])
def test_no_bit_depends_on_who_observes_nor_on_one_that_is_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch, disturb: Callable[[], object]
) -> None:
    alone, beside = observed_anew(home, monkeypatch, workers=1), observed_anew(home, monkeypatch, disturb, workers=2)
    assert alone.workers == [0]
    assert beside.workers[0] == 2
    assert len(beside.workers) >= 4
    assert beside.report == alone.report
    assert beside.report.duplicates > 0
    assert beside.log == alone.log
    assert beside.blocks == alone.blocks
    assert multiprocessing.active_children() == []


def test_one_part_alone_is_computed_here(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert observed_anew(home, monkeypatch, workers=2).workers == [0]


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
        damaged = observed_anew(home, monkeypatch, workers=2)
    finally:
        file.write_bytes(sound)
    assert [(day, digest[:12] in why) for day, why in damaged.report.failed.items()] == [(DAYS[0], True)]
    assert [row["day"] for row in damaged.log] == DAYS[1:]
    assert 2 in damaged.workers
    assert damaged.log == observed_anew(home, monkeypatch, workers=1).log[1:]


@pytest.mark.usefixtures("small_parts")
def test_workers_that_do_not_find_the_files_leave_the_days_to_this_process(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    alone = observed_anew(home, monkeypatch, workers=1)
    elsewhere = home.settings.model_copy(update={"home": tmp_path})
    told = shared_snapshot._Shared.of(replace(home, settings=elsewhere))
    monkeypatch.setattr(shared_snapshot._Shared, "of", lambda _: told)
    left = observed_anew(home, monkeypatch, workers=2)
    assert (left.report, left.log, left.blocks) == (alone.report, alone.log, alone.blocks)


def digests_of(home: Home, day: date) -> list[str]:
    query = (
        "SELECT digest FROM bts.landing_file WHERE days = ARRAY[CAST(:day AS date)] AND status = 'accepted' ORDER BY 1"
    )
    return [row["digest"] for row in rows_of(home, query, day=day)]

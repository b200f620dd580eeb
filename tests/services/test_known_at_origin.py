"""A night in parts: whatever stations are held at once, every bit of it is the same, and a series is its own."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pandas as pd
import pytest
from small_nights import LOAD, SMALL, rows_of
from walked_nights import NIGHTS, Walk, origin_of, pooling_bundle, walk

from bts_assets.contracts.origin import Origin
from bts_assets.forecasting.batch import Batch
from bts_assets.services.home import open_home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.nightly import forecast
from bts_assets.settings import load_settings
from bts_assets.storage.loading import BatchPart, forecast_digests, forecasts_digest
from bts_assets.storage.observation_blocks import station_parts

ORIGIN = Origin(origin_of(NIGHTS - 1), "live", "the test says so")


@dataclass(frozen=True)
class Night:
    """What a night knew and made: digests of its input and recalibration, and its parts."""

    known: tuple[str, str | None]
    parts: list[BatchPart]

    @property
    def batches(self) -> list[Batch]:
        return [part.batch for part in self.parts]

    @property
    def digests(self) -> list[bytes]:
        return [one for batch in self.batches for one in forecast_digests(batch)]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("parts")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    done = walk(home, folder / "landing", pooling_bundle())
    with home.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO bts.station_limit (station_id, parameter_id, high_limit)"
            f" VALUES (1, {LOAD}, 45), (2, {LOAD}, 45)"
        )
    yield done
    home.engine.dispose()


def night(walked: Walk, at_once: int, recalibrated: bool = True, disturb: Callable[[], object] = int) -> Night:
    """disturb: called when the first part is there."""
    with what_is_given(walked.home, ORIGIN, at_once) as given:
        applied = given.recalibration if recalibrated else None
        with forecast(walked.home, replace(given, recalibration=applied), walked.version) as made:
            parts = [next(made)]
            disturb()
            parts += made
    return Night((given.observations_digest, applied.digest if applied else None), parts)


def test_parts_hold_whole_stations_and_as_many_as_fit(walked: Walk) -> None:
    with walked.home.engine.connect() as connection:
        by_size = {size: station_parts(connection, size) for size in (1, 2, 3, 100)}
    # Station 1 has two series, the others one.
    assert by_size[1] == [(n, n) for n in range(1, 7)]
    assert by_size[2] == [(1, 1), (2, 3), (4, 5), (6, 6)]
    assert by_size[3] == [(1, 2), (3, 5), (6, 6)]
    assert by_size[100] == [(1, 6)]


def test_no_bit_depends_on_how_much_is_held_at_once(walked: Walk) -> None:
    whole, apart = night(walked, 100), night(walked, 1)
    assert (len(whole.parts), len(apart.parts)) == (1, 6)
    assert whole.known[1] is not None
    assert_same(whole, apart)


def test_no_bit_depends_on_who_forecasts_nor_on_one_that_is_killed(walked: Walk) -> None:
    home = replace(walked.home, settings=walked.home.settings.model_copy(update={"workers": 2}))

    def kill() -> None:
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        os.kill(workers[0].pid or 0, signal.SIGKILL)

    beside = night(replace(walked, home=home), 1, disturb=kill)
    assert len(beside.parts) == 6
    assert_same(night(walked, 1), beside)


def assert_same(*nights: Night) -> None:
    one, other = nights
    assert one.known == other.known
    assert one.digests == other.digests
    ledgers, foreseen, inputs = (
        [pd.concat([p.batch.ledger for p in n.parts], ignore_index=True) for n in nights],
        [pd.concat([p.foreseen for p in n.parts if len(p.foreseen)]) for n in nights],
        [[one for p in n.parts for one in p.input_digests or []] for n in nights],
    )
    pd.testing.assert_frame_equal(*ledgers)
    keys = ["station_id", "parameter_id", "side"]
    assert len(foreseen[0])
    pd.testing.assert_frame_equal(*(f.sort_values(keys, ignore_index=True) for f in foreseen))
    assert inputs[0] == inputs[1]


def test_a_poisoned_series_changes_no_other(walked: Walk) -> None:
    # What its past forecasts missed is part of what recalibration tells all series of its parameter: that is apart.
    before = night(walked, 2, recalibrated=False)
    with walked.home.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE bts.observation_block SET values = array_fill('Infinity'::float8, ARRAY[cardinality(values)])"
            f" WHERE station_id = 2 AND parameter_id = {LOAD}"
        )
    after = night(walked, 2, recalibrated=False)
    was, now = ({d[0]: d[1] for d in zip(_series(n), n.digests, strict=True)} for n in (before, after))
    assert {key for key in was if was[key] != now.get(key)} == {(2, LOAD)}
    assert before.known[0] != after.known[0]


def test_digests_of_series_make_those_of_the_batch(walked: Walk) -> None:
    """What one series was made from, and came to, is proved by its own digest and the others' alone."""
    batch_id = walked.batches[-1]
    (batch,) = rows_of(walked.home, "SELECT * FROM bts.batch WHERE batch_id = :b", b=batch_id)
    query = "SELECT * FROM bts.forecast_ledger WHERE batch_id = :b ORDER BY station_id, parameter_id"
    ledger = rows_of(walked.home, query, b=batch_id)
    served = [bytes(row["forecast_digest"]) for row in ledger if row["status"] != "excluded"]
    assert forecasts_digest(batch["issued_at"], served) == batch["forecasts_digest"]
    assert all((row["forecast_digest"] is None) == (row["status"] == "excluded") for row in ledger)
    assert all(len(row["input_digest"]) == 32 for row in ledger)


def _series(night: Night) -> list[tuple[int, int]]:
    return [pair for b in night.batches for pair in zip(b.station_id.tolist(), b.parameter_id.tolist(), strict=True)]

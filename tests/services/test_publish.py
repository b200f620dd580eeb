"""Publishing: a batch once and whole, and what readers see before, during and after."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from small_nights import (
    GRID,
    ORIGIN,
    SMALL,
    hourly,
    lineage,
    observe_due,
    publish_panel,
    publish_whole,
    rows_of,
    serving_version,
    simple_bundle,
    small_batch,
    small_panel,
    take_in,
    write,
)

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.schemas import Forecasts, validate
from bts_assets.forecasting.batch import Batch
from bts_assets.services.home import Home, open_home
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.settings import load_settings
from bts_assets.storage.binary_copy import copy_in, copy_out
from bts_assets.storage.forecasts import read_batch
from bts_assets.storage.loading import PublishRefused
from bts_assets.storage.postgres import DatabaseError, connect

COLUMNS = [
    *("station_id", "parameter_id", "issued_at", "target_at", "step_ahead"),
    *("q05", "q10", "q50", "q90", "q95", "source", "batch_id", "model_version_id"),
]


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


@pytest.fixture
def version(home: Home) -> int:
    return serving_version(home, simple_bundle()).model_version_id


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[tuple[Home, int]]:
    """A home with one published batch, and its version, for tests after which it must be as it was."""
    home = open_home(load_settings(home=tmp_path_factory.mktemp("served"), database_url=new_database(), **SMALL))
    version = serving_version(home, simple_bundle()).model_version_id
    publish_panel(home.engine, small_panel(1), version)
    yield home, version
    home.engine.dispose()


def latest(home: Home) -> list[dict[str, Any]]:
    return rows_of(home, "SELECT * FROM bts.latest_forecast ORDER BY station_id, step_ahead")


def batches_seen(rows: list[dict[str, Any]]) -> set[int]:
    return {row["batch_id"] for row in rows}


def retrospective(home: Home) -> Origin:
    return Origin(ORIGIN, "retrospective", "the test says so")


# A batch is (origin, input, model version)


def test_readers_see_every_row_of_a_published_batch(home: Home, version: int) -> None:
    panel = small_panel(level=40)
    batch = small_batch(panel)
    published = publish_panel(home.engine, panel, version)
    assert (published.new, published.serves_latest) == (True, True)
    rows = latest(home)
    assert [list(row) for row in rows] == [COLUMNS] * (3 * GRID.horizon_steps)
    assert {row["source"] for row in rows} == {"last_value"}
    assert rows[0]["target_at"] == rows[0]["issued_at"] == ORIGIN
    assert [r["target_at"] - ORIGIN for r in rows[:6]] == [GRID.step * k for k in range(6)]
    with home.engine.connect() as connection:
        stored = validate(Forecasts, read_batch(connection, published.batch_id))
    keys = ["station_id", "step_ahead"]
    pd.testing.assert_frame_equal(stored.sort_values(keys, ignore_index=True), batch.to_frame())


def test_the_same_batch_twice_is_one_batch(home: Home, version: int) -> None:
    first, again = (publish_panel(home.engine, small_panel(), version) for _ in range(2))
    assert (again.batch_id, again.new, again.serves_latest) == (first.batch_id, False, True)
    assert len(rows_of(home, "SELECT * FROM bts.publication")) == 1


def test_two_publishers_of_the_same_batch_publish_once(home: Home, version: int) -> None:
    barrier, results = threading.Barrier(4), []
    batch = small_batch(small_panel())

    def run() -> None:
        barrier.wait(10)
        results.append(publish_whole(home.engine, batch, lineage(small_panel(), version)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r.new for r in results) == [False, False, False, True]
    assert len({r.batch_id for r in results}) == 1


def test_another_input_or_another_version_is_another_batch(home: Home, version: int) -> None:
    other = serving_version(home, simple_bundle(seed=2)).model_version_id
    published = [
        publish_panel(home.engine, panel, of)
        for panel, of in ((small_panel(1), version), (small_panel(2), version), (small_panel(2), other))
    ]
    assert [p.new for p in published] == [True] * 3
    assert len({p.batch_id for p in published}) == 3
    assert batches_seen(latest(home)) == {published[-1].batch_id}


def test_an_earlier_origin_is_stored_and_does_not_become_the_latest(home: Home, version: int) -> None:
    now, then = small_panel(1), small_panel(2, end=ORIGIN - timedelta(days=2))
    served = publish_panel(home.engine, now, version)
    stored = publish_panel(home.engine, then, version)
    assert (stored.new, stored.serves_latest) == (True, False)
    assert batches_seen(latest(home)) == {served.batch_id}
    at_origin = rows_of(home, "SELECT * FROM bts.forecast_at_origin(:at)", at=then.end)
    assert batches_seen(at_origin) == {stored.batch_id}
    assert list(at_origin[0]) == COLUMNS
    assert rows_of(home, "SELECT * FROM bts.forecast_at_origin(:at)", at=then.end + GRID.step) == []
    (log,) = rows_of(home, "SELECT reason FROM bts.publication WHERE NOT serves_latest")
    assert "earlier than" in log["reason"]


def test_what_a_reader_saw_then_can_be_asked_for(home: Home, version: int) -> None:
    seen = [(datetime.now(UTC), None)]
    for level in (1, 2):
        batch_id = publish_panel(home.engine, small_panel(level), version).batch_id
        seen.append((datetime.now(UTC), batch_id))
    publish_panel(home.engine, small_panel(3, end=ORIGIN - GRID.step), version)
    seen.append((datetime.now(UTC), seen[-1][1]))
    for instant, batch_id in seen:
        rows = rows_of(home, "SELECT * FROM bts.forecast_as_of(:at)", at=instant)
        assert batches_seen(rows) == ({batch_id} if batch_id else set())
    assert list(rows[0]) == COLUMNS


# Refused, and readers keep what they had


def _crossing(batch: Batch) -> Batch:
    batch.quantiles[1, 2] = batch.quantiles[1, 2, ::-1] - np.arange(5)
    return batch


def _with(value: float, quantile: int) -> Callable[[Batch], Batch]:
    def spoil(batch: Batch) -> Batch:
        batch.quantiles[0, 0, quantile] = value
        return batch

    return spoil


def _without_a_series(batch: Batch) -> Batch:
    return replace(
        batch, station_id=batch.station_id[1:], parameter_id=batch.parameter_id[1:], quantiles=batch.quantiles[1:]
    )


def _with_a_series_twice(batch: Batch) -> Batch:
    batch.station_id[1] = batch.station_id[0]
    return batch


def _without_the_last_step(batch: Batch) -> Batch:
    return replace(batch, quantiles=batch.quantiles[:, :-1])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(_crossing, id="crossing"),
        *(pytest.param(_with(np.nan, k), id=f"nan in quantile {k}") for k in (0, 2, 4)),
        pytest.param(_with(np.inf, 4), id="endless"),
        pytest.param(_with(-np.inf, 0), id="endless below"),
        pytest.param(_without_a_series, id="series missing"),
        pytest.param(_with_a_series_twice, id="series twice"),
        pytest.param(_without_the_last_step, id="step missing"),
    ],
)
def test_an_unsound_batch_is_refused_and_readers_keep_the_one_before(
    served: tuple[Home, int], spoil: Callable[[Batch], Batch]
) -> None:
    home, version = served
    before = latest(home)
    with pytest.raises(PublishRefused, match="still serves") as caught:
        publish_whole(home.engine, spoil(small_batch(small_panel(2))), lineage(small_panel(2), version))
    assert "\n" not in str(caught.value)
    assert latest(home) == before
    left = "SELECT (SELECT count(*) FROM bts.batch) AS batches, (SELECT count(*) FROM bts.forecast_ledger) AS entries"
    assert rows_of(home, left) == [{"batches": 1, "entries": 3}]
    assert rows_of(home, "SELECT count(*) AS n FROM bts.forecast_series") == [{"n": 3}]


def test_a_batch_without_a_forecast_is_refused_and_the_one_before_it_serves(home: Home, version: int) -> None:
    publish_panel(home.engine, small_panel(), version)
    before = latest(home)
    later = small_panel(series=0, end=ORIGIN + timedelta(days=9))
    with pytest.raises(PublishRefused, match="none of 0 series could be forecast"):
        publish_whole(home.engine, small_batch(later), lineage(later, version))
    assert latest(home) == before


def test_reasons_of_any_text_reach_the_ledger_as_they_are(home: Home, version: int) -> None:
    batch = small_batch(small_panel())
    said = ["comma, \"quote\"\nand 'line'", "; DROP TABLE bts.batch --", "\\N and \\."]
    batch.ledger["status"], batch.ledger["reason"] = "fallback", said
    batch.ledger["components"] = pd.Series([{"b": 0.25, "a": 0.75}, None, None], dtype=object)
    publish_whole(home.engine, batch, lineage(small_panel(), version))
    rows = rows_of(home, "SELECT reason, components FROM bts.series_status ORDER BY station_id")
    assert [row["reason"] for row in rows] == said
    assert [row["components"] for row in rows] == [{"a": 0.75, "b": 0.25}, None, None]


# Company


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_readers_racing_with_publishes_see_one_whole_batch(home: Home, version: int, isolation: str) -> None:
    publish_panel(home.engine, small_panel(0), version)
    panels = [small_panel(level) for level in range(1, 11)]
    made = [small_batch(panel) for panel in panels]
    stop, wrong, reads, seen = threading.Event(), [], [0], set()
    query = sa.text(
        "SELECT count(*), count(DISTINCT batch_id), min(batch_id), max(q50) - min(q50) FROM bts.latest_forecast"
    )

    def read() -> None:
        engine = connect(home.url, timedelta(seconds=5))
        while not stop.is_set():
            with engine.connect().execution_options(isolation_level=isolation) as connection:
                looks = [tuple(connection.execute(query).one()) for _ in range(2)]
            reads[0] += len(looks)
            seen.update(look[2] for look in looks)
            wrong.extend(look for look in looks if look[:2] != (18, 1) or look[3] != 0.25)
            if isolation == "REPEATABLE READ" and looks[0] != looks[1]:
                wrong.append(looks)
        engine.dispose()

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for panel, batch in zip(panels, made, strict=True):
            publish_whole(home.engine, batch, lineage(panel, version))
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert reads[0] >= 20
    assert len(seen) > 2, "the readers saw no change: this was no race"


def test_a_reader_in_a_long_transaction_neither_blocks_nor_sees_a_publish(home: Home, version: int) -> None:
    first = publish_panel(home.engine, small_panel(1), version)
    query = sa.text("SELECT DISTINCT batch_id FROM bts.latest_forecast")
    with home.engine.connect().execution_options(isolation_level="REPEATABLE READ") as reader:
        assert reader.execute(query).scalars().all() == [first.batch_id]
        begun = time.monotonic()
        second = publish_panel(home.engine, small_panel(2), version)
        assert time.monotonic() - begun < 5
        assert reader.execute(query).scalars().all() == [first.batch_id]
    assert batches_seen(latest(home)) == {second.batch_id}


def test_a_lock_on_the_forecasts_ends_a_publish_in_one_line(make_home: Any) -> None:
    home = make_home(**SMALL, lock_timeout=timedelta(milliseconds=200))
    version = serving_version(home, simple_bundle()).model_version_id
    publish_panel(home.engine, small_panel(1), version)
    before = latest(home)
    with home.engine.connect() as holder:
        holder.exec_driver_sql("LOCK TABLE bts.forecast IN SHARE MODE")
        with pytest.raises(DatabaseError, match="still serves") as caught:
            publish_panel(home.engine, small_panel(2), version)
    assert "\n" not in str(caught.value)
    assert latest(home) == before
    assert publish_panel(home.engine, small_panel(2), version).new


# From observations to a batch


def test_a_night_publishes_once_and_late_data_is_another_batch(home: Home, tmp_path: Any) -> None:
    champion = serving_version(home, simple_bundle())
    landing = tmp_path / "landing"
    write(landing, "a.csv", *hourly(range(20)), *hourly(range(3), station=2, first_id=50))

    def night() -> Any:
        take_in(home, landing)
        observe_due(home)
        return forecast_and_publish(home, retrospective(home), champion, "run")

    first, again = night(), night()
    assert (first.new, again.new, again.serves_latest, again.batch_id) == (True, False, True, first.batch_id)
    before = latest(home)
    assert [row["q50"] for row in before[::6]] == [29.0, 12.0]
    write(landing, "future.csv", *hourly(range(24, 27)), *hourly([25], station=8, first_id=80))
    assert not night().new, "readings at or after the origin are no input of it"
    assert latest(home) == before
    write(landing, "late.csv", *hourly(range(20, 24), first_id=60))
    late = night()
    assert late.new
    assert [row["q50"] for row in latest(home)[::6]] == [33.0, 12.0]
    lineages = rows_of(home, "SELECT DISTINCT batch_id, cardinality(input_files) AS files FROM bts.forecast_lineage")
    assert {row["batch_id"]: row["files"] for row in lineages} == {first.batch_id: 1, late.batch_id: 2}


def test_another_catalogue_makes_another_batch(home: Home, tmp_path: Any) -> None:
    champion = serving_version(home, simple_bundle())
    write(tmp_path / "in", "a.csv", *hourly(range(20)))
    take_in(home, tmp_path / "in")
    observe_due(home)
    first = forecast_and_publish(home, retrospective(home), champion, None)
    (load,) = [p for p in home.catalogue if p.parameter_id == 122]
    lower = Catalogue(tuple(replace(p, valid_max=5.0) if p is load else p for p in home.catalogue))
    other = forecast_and_publish(replace(home, catalogue=lower), retrospective(home), champion, None)
    assert (other.new, other.batch_id != first.batch_id) == (True, True)
    assert max(row["q95"] for row in latest(home)) == 5.0
    made_with = rows_of(home, "SELECT DISTINCT batch_id, catalogue_digest FROM bts.forecast_lineage ORDER BY 1")
    assert [row["catalogue_digest"] for row in made_with] == [home.catalogue.digest, lower.digest]


def test_a_series_silent_throughout_the_context_says_when_it_was_heard(home: Home, tmp_path: Any) -> None:
    champion = serving_version(home, simple_bundle())
    write(tmp_path / "in", "a.csv", *hourly(range(-40, -30), station=5, value=99, first_id=100), *hourly(range(24)))
    take_in(home, tmp_path / "in")
    observe_due(home)
    forecast_and_publish(home, retrospective(home), champion, None)
    silent = rows_of(home, "SELECT status, reason, last_observed_at FROM bts.series_status WHERE station_id = 5")
    heard = ORIGIN - timedelta(hours=24 + 31)
    assert silent == [{"status": "excluded", "reason": "no observation in the context", "last_observed_at": heard}]
    assert len(latest(home)) == GRID.horizon_steps


# Binary COPY


@pytest.mark.parametrize("rows", [0, 7, 70_000])
def test_columns_come_back_from_a_copy_as_they_went(home: Home, rows: int) -> None:
    rng = np.random.default_rng(5)
    instants = ["0001-01-01", "1969-12-31T23:59:59.999999", "1999-12-31T23:59:59.999999", "2000-01-01"]
    instants += ["2000-01-01T00:00:00.000001", "2026-03-10T12:34:56.789012", "9999-12-31T23:59:59.999999"]
    extremes = {
        "small": np.array([-(2**15), 2**15 - 1, -1, 0, 1, 256, -256], np.int16),
        "middle": np.array([-(2**31), 2**31 - 1, -1, 0, 1, 65536, -65536], np.int32),
        "large": np.array([-(2**63), 2**63 - 1, -1, 0, 1, 2**40, -(2**40)], np.int64),
        "single": np.array([-1.5, np.nan, np.inf, -np.inf, 0.1, 1e38, 1e-45], np.float32),
        "number": np.array([-1.5, np.nan, np.inf, -np.inf, 0.1, 1e308, 5e-324]),
        "instant": np.array(instants, "datetime64[us]"),
    }
    columns = {name: values[rng.integers(0, 7, rows)] if rows != 7 else values for name, values in extremes.items()}
    types = {"small": "int16", "middle": "int32", "large": "int64", "single": "float32", "number": "float64"}
    with home.engine.connect() as connection:
        connection.exec_driver_sql(
            "CREATE TEMP TABLE there (n serial, small int2, middle int4, large int8, single float4, number float8,"
            " instant timestamptz)"
        )
        assert copy_in(connection, "there", columns) == rows
        back = copy_out(connection, f"SELECT {', '.join(columns)} FROM there ORDER BY n", {**types, "instant": "time"})
        text = connection.exec_driver_sql("SELECT instant::text, large FROM there ORDER BY n").all()
    for name, dtype in types.items():
        assert back[name].dtype == dtype
        np.testing.assert_array_equal(back[name].to_numpy(), columns[name])
    assert str(back["instant"].dtype) == "datetime64[us, UTC]"
    np.testing.assert_array_equal(back["instant"].dt.tz_localize(None).to_numpy(), columns["instant"])
    if rows == 7:  # what Postgres says of it, not only what comes back
        assert text[0] == ("0001-01-01 00:00:00+00", -(2**63))
        assert [row[0] for row in text[5:]] == ["2026-03-10 12:34:56.789012+00", "9999-12-31 23:59:59.999999+00"]

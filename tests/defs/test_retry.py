"""A fault that can pass costs an asset a second try and doubles nothing; a defect costs the run at once."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import dagster as dg
import psycopg2
import pytest
import sqlalchemy as sa
from nights import HomeMaker
from small_nights import (
    ORIGIN,
    SMALL,
    forecasts_digest,
    hourly,
    ledger,
    observations_digest,
    rows_of,
    serving_version,
    simple_bundle,
    write,
)

from bts_assets.contracts.errors import BtsError
from bts_assets.definitions import defs
from bts_assets.defs import retry
from bts_assets.defs.abandoned_runs import PROCESS, this_process
from bts_assets.defs.schedules import night_config
from bts_assets.services import observe
from bts_assets.services.home import Home
from bts_assets.storage import forecasts, ingest_ledger, loading
from bts_assets.storage.passing_faults import can_pass
from bts_assets.storage.postgres import connect

#: What a night with a champion does, in order: without the model between them Dagster knows of none.
STEPS: Final = (["readings", "grouped_series"], ["station_forecasts"])


class Point(NamedTuple):
    """Where a connection is cut: after which function did its work, in which asset."""

    module: Any
    name: str
    asset: str


POINTS: Final = {
    "file entered, not committed": Point(ingest_ledger, "_list_new", "readings"),
    "observations replaced, not committed": Point(observe, "replace_days", "grouped_series"),
    "forecasts copied, not committed": Point(loading, "copy_in", "station_forecasts"),
    "pointer moved, not committed": Point(forecasts, "_point", "station_forecasts"),
}


@pytest.fixture
def prepared(make_home: HomeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Home]:
    """Makes homes with a champion, and lets runs find the newest; nobody waits before a second try."""
    monkeypatch.setattr(retry, "SECONDS_TO_WAIT", 0)
    landing = tmp_path / "landing"
    for part in range(3):
        write(landing, f"{part}.csv", *hourly(range(part * 8, part * 8 + 8)), *hourly([part], station=2, first_id=90))
    monkeypatch.setenv("BTS_LANDING_DIR", str(landing))
    monkeypatch.setenv("BTS_FILE_STABLE_FOR", "0s")
    for name, span in (("STEP", "1h"), ("CONTEXT", "1d"), ("HORIZON", "6h")):
        monkeypatch.setenv(f"BTS_{name}", span)

    def make() -> Home:
        home = make_home(**SMALL)
        monkeypatch.setenv("BTS_HOME", str(home.settings.home))
        monkeypatch.setenv("BTS_DATABASE_URL", home.url)
        serving_version(home, simple_bundle())
        return home

    return make


def night(instance: dg.DagsterInstance) -> None:
    for assets in STEPS:
        run = defs.resolve_job_def("nightly").execute_in_process(
            instance=instance,
            run_config=night_config(as_of=ORIGIN.isoformat()),
            asset_selection=[dg.AssetKey(name) for name in assets],
            partition_key=f"{ORIGIN:%Y-%m-%d}" if assets == ["station_forecasts"] else None,
        )
        assert run.success


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def attempts(instance: dg.DagsterInstance, event: dg.DagsterEventType) -> list[str]:
    """The assets' steps that had such an event, in order."""
    run_ids = [run.run_id for run in instance.get_runs()]
    return [e.step_key for run_id in run_ids for e in instance.all_logs(run_id, of_type=event) if e.step_key]


def what_rests(home: Home) -> dict[str, Any]:
    keys = ("path", "digest", "status", "rows", "accepted", "rejected", "duplicate", "superseded_by")
    counted = ("landing_file", "observed_day", "series", "batch", "publication")
    return {
        "files": [{k: row[k] for k in keys} for row in ledger(home)],
        "observations": observations_digest(home),
        "forecasts": forecasts_digest(home),
        "rows": {table: rows_of(home, f"SELECT count(*) AS n FROM bts.{table}")[0]["n"] for table in counted},
        "stored": rows_of(home, "SELECT count(*) AS n FROM bts.forecast")[0]["n"],
    }


def cut(monkeypatch: pytest.MonkeyPatch, home: Home, point: Point, times: int) -> list[int]:
    """Let the server end the session of the caller, in the first calls of a function; the backends ended."""
    original, ended = getattr(point.module, point.name), []

    def call(connection: sa.Connection, *args: Any, **kwargs: Any) -> Any:
        done = original(connection, *args, **kwargs)
        if len(ended) < times:
            backend = connection.connection.driver_connection.info.backend_pid
            with psycopg2.connect(home.url) as other, other.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
                assert cursor.fetchone() == (True,)
            ended.append(backend)
        return done

    monkeypatch.setattr(point.module, point.name, call)
    return ended


def test_a_connection_cut_once_costs_a_second_try_and_doubles_nothing(
    prepared: Callable[[], Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        undisturbed = prepared()
        night(instance)
        assert attempts(instance, dg.DagsterEventType.STEP_RESTARTED) == []
        runs = instance.get_runs()
    expected = what_rests(undisturbed)
    (batch,) = rows_of(undisturbed, "SELECT successor_due_at FROM bts.batch")
    assert batch["successor_due_at"] == ORIGIN.replace(hour=4)  # it was made before the night's own origin, at two
    assert all(run.tags[PROCESS] == this_process() for run in runs)
    assert expected["stored"] == 12
    for point in POINTS.values():
        with dg.DagsterInstance.ephemeral() as instance, monkeypatch.context() as patch:
            home = prepared()
            ended = cut(patch, home, point, times=1)
            night(instance)
            assert len(ended) == 1
            assert attempts(instance, dg.DagsterEventType.STEP_RESTARTED) == [point.asset]
        assert what_rests(home) == expected


def test_a_connection_cut_each_time_ends_in_one_line_after_two_tries(
    prepared: Callable[[], Home], monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    home, point = prepared(), POINTS["file entered, not committed"]
    ended = cut(monkeypatch, home, point, times=100)
    with pytest.raises(BtsError, match="the connection to Postgres was lost while taking in files"):
        night(instance)
    assert len(ended) == 2
    assert attempts(instance, dg.DagsterEventType.STEP_FAILURE) == ["readings"]


@pytest.mark.parametrize("error", [ZeroDivisionError("a defect"), BtsError("bad input")], ids=["defect", "bad_input"])
def test_what_cannot_pass_is_not_tried_again(
    prepared: Callable[[], Home], monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance, error: Exception
) -> None:
    calls = []
    prepared()

    def fail(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr("bts_assets.defs.readings.ingest", fail)
    with pytest.raises(type(error), match=str(error)):
        night(instance)
    assert len(calls) == 1


def refusal(url: str, statement: str) -> BaseException:
    with connect(url, timedelta(milliseconds=50)).connect() as connection, pytest.raises(sa.exc.DBAPIError) as refused:
        connection.exec_driver_sql(statement)
    return refused.value


def raise_state(state: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'told' USING ERRCODE = '{state}'; END $$"


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "57P01", "57P03", "53300", "08006", "08P01"])
def test_locks_lost_connections_and_serialization_failures_can_pass(database_url: str, state: str) -> None:
    assert can_pass(refusal(database_url, raise_state(state)))


@pytest.mark.parametrize("state", ["23505", "22003", "42P01", "53100", "57014", "28000", "XX000", "P0001"])
def test_broken_data_defects_and_a_full_disk_do_not_pass(database_url: str, state: str) -> None:
    assert not can_pass(refusal(database_url, raise_state(state)))


def test_a_lock_that_is_held_can_pass_though_its_one_line_hides_where_it_came_from(database_url: str) -> None:
    refused = refusal(database_url, raise_state("55P03"))

    def told_in_one_line() -> None:
        try:
            raise refused
        except sa.exc.OperationalError:
            raise BtsError("another process is publishing") from None

    with pytest.raises(BtsError) as told:
        told_in_one_line()
    assert can_pass(told.value)


def test_a_server_that_does_not_answer_can_pass_and_a_wrong_password_cannot(database_url: str) -> None:
    with pytest.raises(psycopg2.OperationalError) as silent:
        psycopg2.connect("postgresql://bts@127.0.0.1:1/bts")
    assert can_pass(silent.value)
    with pytest.raises(psycopg2.OperationalError) as refused:
        psycopg2.connect(database_url.replace("://bts:", "://bts:wrong"))
    assert "password authentication failed" in str(refused.value)
    assert not can_pass(refused.value)

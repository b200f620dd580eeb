"""Dagster's storage over kept connections: as many as work at once, none after the end, and a cut one is replaced."""

from collections.abc import Callable

import dagster as dg
import pytest
import sqlalchemy as sa

from bts_assets.cli.run_job import environment
from bts_assets.services.home import Home
from tests.helpers.waiting import eventually


@pytest.fixture
def home(make_home: Callable[..., Home], monkeypatch: pytest.MonkeyPatch) -> Home:
    made = make_home()
    for name, value in environment(made).items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def connected(home: Home, administrator: sa.Engine) -> Callable[[], list[int]]:
    """The server's processes that serve Dagster's connections; not those that vacuum its tables now and then."""
    database = sa.make_url(home.dagster_database_url).database
    query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND datname = %s AND pid <> ALL(%s)"

    def now(besides: tuple[int, ...] = ()) -> list[int]:
        with administrator.connect() as connection:
            return list(connection.exec_driver_sql(query, (database, list(besides))).scalars())

    home.engine.dispose()
    besides = tuple(now())
    return lambda: now(besides)


def test_statements_share_a_connection_that_is_closed_with_the_instance(connected: Callable[[], list[int]]) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.get_runs()
        (first,) = connected()
        for _ in range(5):
            instance.get_runs()
            instance.fetch_materializations(dg.AssetKey("readings"), limit=1)
            instance.all_instigator_state()
        assert connected() == [first]
    assert eventually(lambda: connected() == [])


def test_a_connection_that_was_cut_is_replaced(connected: Callable[[], list[int]], administrator: sa.Engine) -> None:
    with dg.DagsterInstance.get() as instance:
        instance.get_runs()
        (first,) = connected()
        with administrator.connect() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(%s, 5000)", (first,))
        assert instance.get_runs() == []
        assert connected() != [first]

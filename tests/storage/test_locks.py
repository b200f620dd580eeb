"""Locks: one holder at a time, named to whoever waited in vain; and how several processes come to have them."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError

from bts_assets.storage import locks
from bts_assets.storage.locks import hold, lock_table, make_locks, transaction
from bts_assets.storage.postgres import DatabaseError, connect

DOING = {
    locks.LOCK_MIGRATE: "migrating",
    locks.LOCK_INGEST: "taking in files",
    locks.LOCK_PUBLISH: "publishing",
    locks.LOCK_PROMOTE: "promoting a model",
    locks.LOCK_SCORE: "scoring forecasts",
}


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    made = connect(database_url, timedelta(milliseconds=50))
    make_locks(made)
    yield made
    made.dispose()


@pytest.mark.parametrize(("lock", "doing"), DOING.items(), ids=DOING.values())
def test_a_lock_has_one_holder_at_a_time_whose_work_is_named(engine: sa.Engine, lock: int, doing: str) -> None:
    others = [other for other in DOING if other != lock]
    with transaction(engine, lock), transaction(engine, *others):
        for held in (lock, others[-1]):
            with (
                pytest.raises(DatabaseError, match=f"another process is {DOING[held]}; try again when it is done"),
                transaction(engine, held),
            ):
                pass
    with transaction(engine, lock):  # it ended with its transaction
        pass


@pytest.mark.parametrize(
    ("held", "doing"),
    [
        ((), "loading a batch"),
        ((locks.LOCK_PUBLISH,), "publishing"),
        ((locks.LOCK_PUBLISH, locks.LOCK_SCORE), "scoring"),
    ],
)
def test_a_connection_that_is_lost_is_named_with_what_was_done_last(
    engine: sa.Engine, held: tuple[int, ...], doing: str
) -> None:
    def lose(connection: sa.Connection) -> None:
        own = connection.scalar(sa.text("SELECT pg_backend_pid()"))
        with engine.connect() as other:
            other.execute(sa.text("SELECT pg_terminate_backend(:own, 5000)"), {"own": own})
        connection.execute(sa.text("SELECT 1"))

    # As the server said it, or the driver: a line of theirs.
    lost = f"lost while {doing}.*: (terminating|server closed the) connection .*; run it again"
    with pytest.raises(DatabaseError, match=lost), transaction(engine, *held) as connection:
        lose(connection)


def test_any_other_error_stays_what_it_is(engine: sa.Engine) -> None:
    with pytest.raises(ProgrammingError), transaction(engine, locks.LOCK_INGEST) as connection:
        connection.execute(sa.text("SELECT nothing FROM nowhere"))
    with transaction(engine, locks.LOCK_INGEST), engine.begin() as hurried:
        hurried.execute(sa.text("SET LOCAL statement_timeout = 10"))
        with pytest.raises(OperationalError, match="statement timeout"):
            hold(hurried, locks.LOCK_INGEST)


def test_of_processes_at_once_each_finds_all_locks_made_with_their_comments(database_url: str) -> None:
    engines = [connect(database_url, timedelta(seconds=10)) for _ in range(4)]
    barrier, done = threading.Barrier(len(engines)), []

    def make(engine: sa.Engine) -> None:
        barrier.wait(10)
        make_locks(engine)
        with engine.connect() as connection:
            done.append({row.lock_id: row.name for row in connection.execute(sa.select(lock_table))})

    threads = [threading.Thread(target=make, args=[engine]) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [DOING] * len(engines)
    with engines[0].connect() as connection:
        told = connection.execute(
            sa.text("SELECT col_description('bts.lock'::regclass, n) FROM generate_series(0, 2) AS n ORDER BY n")
        )
        assert told.scalars().all()[1:] == [column.comment for column in lock_table.columns]
        assert connection.scalar(sa.text("SELECT obj_description('bts.lock'::regclass)")) == lock_table.comment
    for engine in engines:
        engine.dispose()


def test_who_finds_the_locks_there_writes_nothing_and_one_that_is_missing_is_added(engine: sa.Engine) -> None:
    said: list[str] = []
    sa.event.listen(engine, "before_cursor_execute", lambda *given: said.append(given[2].split()[0]))
    make_locks(engine)
    assert set(said) <= {"SELECT", "SET"}
    with engine.begin() as connection:
        connection.execute(lock_table.delete().where(lock_table.c.lock_id == locks.LOCK_SCORE))
    make_locks(engine)
    with transaction(engine, locks.LOCK_SCORE):
        pass


@pytest.mark.parametrize(
    ("codes", "tried", "fails"),
    [(["23505", "42P06"], 3, False), (["42P07"] * 4, 3, True), (["42501"] * 4, 1, True)],
    ids=["made by another", "again and again", "denied"],
)
def test_what_another_process_made_meanwhile_is_looked_for_again(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch, codes: list[str], tried: int, fails: bool
) -> None:
    tries: list[Any] = []

    def meet(connection: sa.Connection) -> None:
        tries.append(connection)
        if len(tries) <= len(codes):
            raise ProgrammingError("", {}, SimpleNamespace(pgcode=codes[len(tries) - 1]))  # type: ignore[arg-type]

    monkeypatch.setattr(locks, "_make_locks", meet)
    if fails:
        with pytest.raises(ProgrammingError):
            make_locks(engine)
    else:
        make_locks(engine)
    assert len(tries) == tried

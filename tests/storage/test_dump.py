"""A database written to a file and loaded from it, whole or not at all, into servers old and new."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from bts_assets.storage import dump as dumps
from bts_assets.storage.dump import dump, is_occupied, load
from bts_assets.storage.failures import DatabaseError

#: Whether the server counts as one that knows every setting of pg_restore 18.
each_kind = pytest.mark.parametrize("knows_it", [170_000, 990_000], ids=["new", "old"])


def tables(url: str) -> list[tuple[str, int]]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT relname, relnatts FROM pg_class WHERE relnamespace = 'bts'::regnamespace ORDER BY 1")
        return cursor.fetchall()


def parameters(url: str) -> int:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM bts.parameter")
        return int(cursor.fetchone()[0])  # type: ignore[index]


@each_kind
def test_what_was_dumped_is_there_again(
    home_database: Callable[[], str],
    new_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    knows_it: int,
) -> None:
    monkeypatch.setattr(dumps, "_KNOWS_IT", knows_it)
    before, after = home_database(), new_database()
    dump(before, tmp_path / "dump")
    load(after, tmp_path / "dump")
    assert tables(after) == tables(before)
    assert parameters(after) == parameters(before) > 0


@each_kind
def test_a_dump_that_is_cut_off_leaves_nothing(
    home_database: Callable[[], str],
    new_database: Callable[[], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    knows_it: int,
) -> None:
    monkeypatch.setattr(dumps, "_KNOWS_IT", knows_it)
    whole, cut, after = tmp_path / "whole", tmp_path / "cut", new_database()
    dump(home_database(), whole)
    data = whole.read_bytes()
    cut.write_bytes(data[: len(data) * 9 // 10])
    with pytest.raises(DatabaseError) as told:
        load(after, cut)
    assert "\n" not in str(told.value)
    assert not is_occupied(after)

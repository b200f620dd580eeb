"""deploy/citus.sql against the schema: what Citus asks of tables that are distributed or on every node."""

import re
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa
from nights import HomeMaker

STATEMENTS: Final = (Path(__file__).parents[2] / "deploy/citus.sql").read_text(encoding="utf-8")
DISTRIBUTED: Final = re.findall(r"create_distributed_table\('bts\.(\w+)', 'station_id'", STATEMENTS)
REFERENCE: Final = re.findall(r"create_reference_table\('bts\.(\w+)'\)", STATEMENTS)

#: Of each table its columns, the columns of each unique index, and the tables that its foreign keys lead to.
_TABLES: Final = sa.text("""
    SELECT c.relname,
           ARRAY(SELECT attname FROM pg_attribute
                 WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) AS columns,
           ARRAY(SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = c.oid AND indisunique) AS keys,
           ARRAY(SELECT f.relname FROM pg_constraint AS o JOIN pg_class AS f ON f.oid = o.confrelid
                 WHERE o.conrelid = c.oid AND contype = 'f') AS refers_to,
           EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal) AS triggers
    FROM pg_class AS c WHERE relnamespace = 'bts'::regnamespace AND relkind = 'r'
""")


@pytest.fixture
def tables(make_home: HomeMaker) -> dict[str, sa.RowMapping]:
    with make_home().engine.connect() as connection:
        return {row["relname"]: row for row in connection.execute(_TABLES).mappings()}


def test_keys_of_distributed_tables_contain_the_station(tables: dict[str, sa.RowMapping]) -> None:
    for name in DISTRIBUTED:
        assert all("station_id" in key for key in tables[name]["keys"]), name
        assert not tables[name]["triggers"], name


def test_foreign_keys_lead_to_what_is_on_every_node(tables: dict[str, sa.RowMapping]) -> None:
    for name in (*DISTRIBUTED, *REFERENCE):
        assert set(tables[name]["refers_to"]) <= set(REFERENCE), name


def test_every_table_of_series_is_distributed(tables: dict[str, sa.RowMapping]) -> None:
    """People enter the others by hand, or alerts count them: they stay small."""
    by_series = {name for name, row in tables.items() if {"station_id", "parameter_id"} <= set(row["columns"])}
    by_hand = {"alarm", "alert", "silence"}
    assert by_series - by_hand <= set(DISTRIBUTED)

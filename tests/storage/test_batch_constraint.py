"""No two batches are the same, on servers on which a null differs from every other null too."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy.exc import IntegrityError

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.storage import batch_constraint
from bts_assets.storage.postgres import connect, migrate

ONE_NIGHT: Final = (Path(__file__).parents[1] / "data" / "one_night.sql").read_text(encoding="utf-8")
_AGAIN: Final = """
    DO $$
    DECLARE names text := (
        SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
        WHERE attrelid = 'bts.batch'::regclass AND attnum > 0 AND NOT attisdropped AND attidentity = '');
    BEGIN EXECUTE format('INSERT INTO bts.batch (%1$s) SELECT %1$s FROM bts.batch LIMIT 1', names); END $$
"""


@pytest.mark.parametrize("version", [150_000, 990_000], ids=["nulls are alike", "they are not"])
def test_the_same_batch_cannot_be_there_twice(
    new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    monkeypatch.setattr(batch_constraint, "_NULLS_ALIKE", version)
    engine = connect(new_database(), timedelta(seconds=20))
    migrate(engine, load_catalogue())
    with engine.begin() as connection:
        connection.exec_driver_sql(ONE_NIGHT.replace("%", "%%"))
    with engine.connect() as connection, pytest.raises(IntegrityError, match="uq_batch_identity"):
        connection.exec_driver_sql(_AGAIN.replace("%", "%%"))
    monkeypatch.setattr(batch_constraint, "_NULLS_ALIKE", 150_000)  # as where the server was upgraded since
    migrate(engine, load_catalogue(), "0002")
    migrate(engine, load_catalogue())
    engine.dispose()

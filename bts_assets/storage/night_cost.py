"""The ledger of what each stage of a night cost."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.storage.monitoring_tables import night_part, night_stage


def keep_stage(engine: sa.Engine, values: Mapping[str, Any]) -> None:
    """Enter a stage of a run, or replace what an earlier try of it left."""
    _keep(engine, night_stage, values)


def keep_part(engine: sa.Engine, values: Mapping[str, Any]) -> None:
    """Enter one night of a stage of a run, or replace what an earlier try of it left."""
    _keep(engine, night_part, values)


def _keep(engine: sa.Engine, table: sa.Table, values: Mapping[str, Any]) -> None:
    statement = insert(table).values(dict(values))
    kept = {c.name: statement.excluded[c.name] for c in table.columns if not c.primary_key}
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(constraint=table.primary_key, set_=kept))

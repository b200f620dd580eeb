"""The ledger of what each stage of a night cost."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.storage.monitoring_tables import night_stage


def keep_stage(engine: sa.Engine, values: Mapping[str, Any]) -> None:
    """Enter a stage of a run, or replace what an earlier try of it left."""
    statement = insert(night_stage).values(dict(values))
    kept = {c.name: statement.excluded[c.name] for c in night_stage.columns if not c.primary_key}
    with engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "stage"], set_=kept))

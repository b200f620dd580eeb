"""Dagster's Postgres storage with connections that are kept: what dagster.yaml names.

Dagster's own opens one for each statement, which took a fifth of a night without a training
(docs/decisions/dagster-connections.md).
"""

from collections.abc import Mapping
from typing import Any, Self

import sqlalchemy as sa
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage


class PooledPostgresStorage(DagsterPostgresStorage):
    """The storage of runs, events and schedules over one pool. A connection that was cut is replaced when it is next
    taken, so that a restart of the server between two statements costs nothing.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        # As many more as threads ask for, as with Dagster's own; they are closed when given back.
        self._pool = sa.create_engine(
            self.postgres_url, isolation_level="AUTOCOMMIT", pool_size=2, max_overflow=-1, pool_pre_ping=True
        )
        for storage in (self._run_storage, self._event_log_storage, self._schedule_storage):
            storage._engine = self._pool
        # Dagster ends an instance by these, not by the storage's own: an embedded server goes to sleep once nobody is
        # connected.
        self._run_storage.dispose = self._pool.dispose  # type: ignore[method-assign]

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        return cls(inst_data=inst_data, postgres_url=config_value["postgres_url"])

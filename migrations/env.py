"""Alembic's entry: runs the revisions over the connection that bts_assets.storage.postgres.migrate hands in."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine, text

from bts_assets.storage.postgres import sqlalchemy_url
from bts_assets.storage.table_columns import SCHEMA
from bts_assets.storage.tables import metadata


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """What autogenerate compares: our schema."""
    return name == SCHEMA if kind == "schema" else True


def _run(connection: Connection) -> None:
    # This begins the transaction that all revisions share: whole or not at all.
    if connection.scalar(text(f"SELECT to_regnamespace('{SCHEMA}') IS NULL")):
        connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=_is_ours,
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    _run(given)
else:  # the plain `alembic` command of a developer
    with create_engine(sqlalchemy_url(os.environ["BTS_DATABASE_URL"])).connect() as connection:
        _run(connection)
        connection.commit()

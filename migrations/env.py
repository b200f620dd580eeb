"""Alembic's entry: runs the revisions over the connection that bts_assets.stores.postgres.migrate hands in."""

import os

from alembic import context
from sqlalchemy import Connection, create_engine, text

from bts_assets.stores.postgres import sqlalchemy_url
from bts_assets.stores.tables import SCHEMA, metadata


def _run(connection: Connection) -> None:
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        include_name=lambda name, kind, _: name == SCHEMA if kind == "schema" else True,
        # Each revision whole or not at all.
        transaction_per_migration=True,
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

"""What the tables have in common: the schema, its naming, and columns that each say what they hold, and its unit."""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

SCHEMA: Final = "bts"
metadata = sa.MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)
UTC_TIME: Final = sa.DateTime(timezone=True)
NOW: Final = sa.text("clock_timestamp()")


def column(name: str, kind: Any, comment: str, *args: Any, nullable: bool = False, **kwargs: Any) -> sa.Column:
    return sa.Column(name, kind, *args, nullable=nullable, comment=comment, **kwargs)


def number(name: str, comment: str) -> sa.Column:
    """A key that counts up and is never given twice."""
    return column(name, sa.BigInteger, comment, sa.Identity(always=True), primary_key=True)


def qty(name: str, comment: str) -> sa.Column:
    """A number of things, of which there were none where nobody counted them."""
    return column(name, sa.BigInteger, comment, server_default=sa.text("0"))


def station_key(primary_key: bool = True) -> sa.Column:
    return column("station_id", sa.BigInteger, "station, the operator's number", primary_key=primary_key)


def parameter_key(primary_key: bool = True) -> sa.Column:
    return column("parameter_id", sa.Integer, "parameter, the catalogue's number", primary_key=primary_key)


def made_by() -> list[sa.Column]:
    return [
        column("code_version", sa.Text, "version of the package, and the commit where it ran from a checkout"),
        column("dagster_run_id", sa.Text, "the Dagster run that made it", nullable=True),
        column("settings", JSONB, "every setting that decides a result, as read then"),
    ]

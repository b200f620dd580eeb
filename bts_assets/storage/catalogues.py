"""Catalogues as they were used, by digest: what a batch or a model version was made with can be had again."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.catalogue import Catalogue, catalogue_of_rows
from bts_assets.storage import tables


def keep_catalogue(connection: sa.Connection, catalogue: Catalogue) -> str:
    """Store a catalogue unless it is there already; its digest."""
    row = {"digest": catalogue.digest, "parameters": catalogue.rows()}
    connection.execute(insert(tables.catalogue).values(row).on_conflict_do_nothing())
    return catalogue.digest


def stored_catalogue(connection: sa.Connection, digest: str) -> Catalogue | None:
    """The catalogue of a digest; None: it was used before catalogues were kept."""
    column = tables.catalogue.c
    rows = connection.scalar(sa.select(column.parameters).where(column.digest == digest))
    return None if rows is None else catalogue_of_rows(rows)

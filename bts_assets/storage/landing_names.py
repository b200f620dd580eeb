"""Numbers of stations and parameters that landing files name: given once, below zero, and kept for ever."""

from collections.abc import Sequence

import sqlalchemy as sa

from bts_assets.landing.names import NamedKind, number_proposed
from bts_assets.storage.locks import transaction

_KNOWN = sa.text("SELECT name, number FROM bts.landing_name WHERE kind = :kind AND name = ANY(CAST(:names AS text[]))")
#: A name that the catalogue or the operator's list of stations has once is that one, whatever its case.
_LISTED = {
    "station": sa.text("""
        SELECT lower(name) AS name, min(station_id) AS number FROM bts.station
        WHERE listed AND lower(name) = ANY(CAST(:names AS text[])) GROUP BY lower(name) HAVING count(*) = 1
    """),
    "parameter": sa.text("""
        SELECT lower(name) AS name, min(parameter_id) AS number FROM bts.parameter
        WHERE known AND lower(name) = ANY(CAST(:names AS text[])) GROUP BY lower(name) HAVING count(*) = 1
    """),
}
_GIVE = sa.text("""
    INSERT INTO bts.landing_name (kind, name, number)
    SELECT :kind, name, number FROM unnest(CAST(:names AS text[]), CAST(:numbers AS bigint[])) AS t (name, number)
    ON CONFLICT DO NOTHING
""")


def numbers_of_names(engine: sa.Engine, kind: NamedKind, names: Sequence[str]) -> dict[str, int]:
    """The number of every name; new names are given theirs in this transaction, whoever else asks at the same time."""
    with transaction(engine) as connection:
        numbers = _known(connection, kind, names)
        missing = sorted(set(names) - numbers.keys())
        found = connection.execute(_LISTED[kind], {"names": [n.lower() for n in missing]})
        listed = {row.name: int(row.number) for row in found}
        attempt = 0
        while missing:
            # Another name may have had the number first: then the next one is tried.
            proposed = [listed.get(n.lower(), number_proposed(kind, n, attempt)) for n in missing]
            connection.execute(_GIVE, {"kind": kind, "names": missing, "numbers": proposed})
            numbers |= _known(connection, kind, missing)
            missing = [name for name in missing if name not in numbers]
            attempt += 1
    return numbers


def _known(connection: sa.Connection, kind: NamedKind, names: Sequence[str]) -> dict[str, int]:
    return {row.name: int(row.number) for row in connection.execute(_KNOWN, {"kind": kind, "names": list(names)})}

"""What stations are called where they are shown, and which station and parameter a person means by a name."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final, Literal

import sqlalchemy as sa

from bts_assets.contracts.errors import UsageError

_NAMED: Final = {
    "station": sa.text("SELECT station_id AS number, name FROM bts.station WHERE name IS NOT NULL ORDER BY 1"),
    "parameter": sa.text("SELECT parameter_id AS number, name FROM bts.parameter ORDER BY 1"),
}

_TITLES: Final = sa.text("SELECT station_id, name FROM bts.station WHERE station_id = ANY (:stations)")


def station_titles(connection: sa.Connection, stations: Iterable[int]) -> dict[int, str]:
    """What each of the stations is called in titles and tables: its name, or `station 12` where it has none."""
    wanted = sorted({int(station) for station in stations})
    known = {row.station_id: row.name for row in connection.execute(_TITLES, {"stations": wanted})}
    return {station: known.get(station) or f"station {station}" for station in wanted}


def series_meant(engine: sa.Engine, station: str, parameter: str) -> tuple[int, int]:
    """station_id and parameter_id, each given as its number or its name, whatever its case.

    Raises:
        UsageError: if nothing is called so, or several are; which names come near.
    """
    with engine.connect() as connection:
        return number_meant(connection, "station", station), number_meant(connection, "parameter", parameter)


def number_meant(connection: sa.Connection, kind: Literal["station", "parameter"], said: str) -> int:
    """The number of a station or parameter that is given as its number or its name, whatever its case.

    Raises:
        UsageError: if nothing is called so, or several are; which names come near.
    """
    try:
        return int(said)
    except ValueError:
        named = [(int(row.number), str(row.name)) for row in connection.execute(_NAMED[kind])]
    found = [number for number, name in named if name.casefold() == said.strip().casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"several {kind}s are called {said}: give one of the ids {', '.join(map(str, found[:5]))}")
    by_case = {name.casefold(): name for _, name in named}
    begin = [name for case, name in by_case.items() if case.startswith(said.strip().casefold())]
    near = sorted(begin[:3] or [by_case[match] for match in get_close_matches(said.casefold(), by_case, n=3)])
    hint = f"did you mean {' or '.join(near)}?" if near else f"bts.{kind} has the names and ids"
    raise UsageError(f"no {kind} is called {said}: {hint}")

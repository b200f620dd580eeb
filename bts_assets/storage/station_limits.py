"""Limits of single stations (`bts.station_limit`): those of a series, and those that hold for nothing, by mistake."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from bts_assets.contracts.catalogue import Parameter


def limits_of_series(
    connection: sa.Connection, station_id: int, parameter: Parameter
) -> tuple[float | None, float | None]:
    """Low and high limit of a series, each its station's own or else its parameter's, in the parameter's unit."""
    own = connection.execute(_OWN, {"station": station_id, "parameter": parameter.parameter_id}).first()
    low, high = own or (None, None)
    return parameter.low_limit if low is None else low, parameter.high_limit if high is None else high


_OWN: Final = sa.text(
    "SELECT low_limit, high_limit FROM bts.station_limit WHERE station_id = :station AND parameter_id = :parameter"
)


@dataclass(frozen=True)
class IdleLimit:
    """A row of `bts.station_limit` that does not hold; low, high: what would, the parameter's own where it has none.

    unknown: neither the catalogue nor any reading knows the parameter. Else the low limit is not below the high one.
    """

    station_id: int
    parameter_id: int
    low: float | None
    high: float | None
    unknown: bool


def idle_limits(connection: sa.Connection) -> list[IdleLimit]:
    """Limits that do not hold, by station and parameter."""
    return [IdleLimit(*row) for row in connection.execute(_IDLE)]


_IDLE: Final = sa.text("""
    SELECT l.station_id, l.parameter_id, coalesce(l.low_limit, p.low_limit) AS low,
           coalesce(l.high_limit, p.high_limit) AS high, p.parameter_id IS NULL AS unknown
    FROM bts.station_limit AS l LEFT JOIN bts.parameter AS p USING (parameter_id)
    WHERE p.parameter_id IS NULL OR coalesce(l.low_limit, p.low_limit) >= coalesce(l.high_limit, p.high_limit)
    ORDER BY 1, 2
""")

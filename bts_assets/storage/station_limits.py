"""Limits of single stations (`bts.station_limit`): all, those of a series, those that hold for nothing, by mistake; and
those that batches were made with (`bts.limit_set`)."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.catalogue import Parameter
from bts_assets.monitoring.terms import Limits, limit_rows, limits_digest, limits_of_rows
from bts_assets.storage import tables

#: Limits that leave a low limit at or above the high one are a mistake, and do not hold; `data_warnings` tells of them.
_HOLDING: Final = sa.text("""
    SELECT l.station_id, l.parameter_id, l.low_limit, l.high_limit
    FROM bts.station_limit AS l LEFT JOIN bts.parameter AS p USING (parameter_id)
    WHERE (coalesce(l.low_limit, p.low_limit) >= coalesce(l.high_limit, p.high_limit)) IS NOT TRUE
""")


def station_limits(connection: sa.Connection) -> Limits:
    """The limits of stations that hold now."""
    return {(s, p): (low, high) for s, p, low, high in connection.execute(_HOLDING)}


def keep_limits(connection: sa.Connection, limits: Limits) -> None:
    """Store the limits that a batch is made with, unless they are there already."""
    row = {"digest": limits_digest(limits), "limits": limit_rows(limits)}
    connection.execute(insert(tables.limit_set).values(row).on_conflict_do_nothing())


def kept_limits(connection: sa.Connection, digest: str) -> Limits | None:
    """The limits of a digest; None: they are gone, or altered."""
    column = tables.limit_set.c
    rows = connection.scalar(sa.select(column.limits).where(column.digest == digest))
    limits = None if rows is None else limits_of_rows(rows)
    return limits if limits is not None and limits_digest(limits) == digest else None


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

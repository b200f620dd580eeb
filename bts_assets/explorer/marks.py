"""Spans that charts mark: planned outages and the operator's alarms, where this database keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bts_assets.explorer.look import Look
from bts_assets.explorer.question import Question

_THERE: Final = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'bts'::regnamespace AND relname = ANY (:names) AND has_table_privilege(oid, 'SELECT')
"""
#: Relation -> its spans at a station: from, to, what, and the parameter that it is about, if it is about one.
_SPANS: Final = {
    "planned_outage": """
        SELECT starts_at AS begins_at, ends_at, 'planned outage: ' || reason AS what, NULL::int AS parameter_id
        FROM bts.planned_outage WHERE station_id = :station AND starts_at < :until AND ends_at > :start
        ORDER BY starts_at LIMIT 200
    """,
    "operator_alarm": """
        SELECT started_at AS begins_at, until AS ends_at,
               concat_ws(' ', 'alarm:', coalesce(parameter, 'kind ' || alarm_kind), side) AS what, parameter_id
        FROM bts.operator_alarm WHERE station_id = :station AND started_at < :until AND until > :start
        ORDER BY started_at LIMIT 200
    """,
}


@dataclass(frozen=True)
class Mark:
    """One span; `parameter` None: it is about the whole station."""

    begins_at: datetime
    ends_at: datetime
    what: str
    parameter: int | None


def marks(look: Look, station: int, start: datetime, until: datetime) -> tuple[list[Mark], list[Question]]:
    """What is to be marked within a span, and how it was asked for; nothing where nothing of it is kept."""
    there = Question("what this database keeps", _THERE, {"names": list(_SPANS)}).ask(look.connection)
    values = {"station": station, "start": start, "until": until}
    asked = [Question(f"spans of bts.{row['relname']}", _SPANS[row["relname"]], values) for row in there]
    found = [
        Mark(row["begins_at"], row["ends_at"], row["what"], row["parameter_id"])
        for question in asked
        for row in question.ask(look.connection)
    ]
    return sorted(found, key=lambda mark: mark.begins_at), asked


def of_parameter(found: Sequence[Mark], parameter: int) -> list[tuple[datetime, datetime, str]]:
    """Spans of one chart: those of the station, and those of its own parameter."""
    return [(m.begins_at, m.ends_at, m.what) for m in found if m.parameter in (None, parameter)]

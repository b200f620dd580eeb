"""Spans that charts mark: planned outages, the operator's alarms and our alerts, where this database keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from bts_assets.explorer.look import Look
from bts_assets.explorer.question import Question

Kind = Literal["outage", "alarm", "alert"]

_THERE: Final = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'bts'::regnamespace AND relname = ANY (:names) AND has_table_privilege(oid, 'SELECT')
    ORDER BY array_position(:names, relname::text)
"""
#: Relation -> its spans at a station: kind, from, to, what, and the parameter that it is about, if it is about one.
_SPANS: Final = {
    "planned_outage": """
        SELECT 'outage' AS kind, starts_at AS begins_at, ends_at, 'planned outage: ' || reason AS what,
               NULL::int AS parameter_id
        FROM bts.planned_outage WHERE station_id = :station AND starts_at < :until AND ends_at > :start
        ORDER BY starts_at LIMIT 200
    """,
    "operator_alarm": """
        SELECT 'alarm' AS kind, started_at AS begins_at, until AS ends_at,
               concat_ws(' ', 'alarm:', coalesce(parameter, 'kind ' || alarm_kind), side) AS what, parameter_id
        FROM bts.operator_alarm WHERE station_id = :station AND started_at < :until AND until > :start
        ORDER BY started_at LIMIT 200
    """,
    # From when it is about: an open one lasts until now, and is an instant where that lies ahead.
    "alert_status": """
        SELECT 'alert' AS kind, begins_at, greatest(begins_at, coalesce(cleared_at, now())) AS ends_at,
               concat_ws(' ', perceived_severity, 'alert:', summary, '(' || state || ')') AS what, parameter_id
        FROM (SELECT *, coalesce(expected_at, CAST(details ->> 'last_observed_at' AS timestamptz), raised_at)
                     AS begins_at
              FROM bts.alert_status WHERE station_id = :station) AS alert
        WHERE begins_at < :until AND greatest(begins_at, coalesce(cleared_at, now())) >= :start
        ORDER BY begins_at LIMIT 200
    """,
}


@dataclass(frozen=True)
class Mark:
    """One span, or an instant where it ends as it begins; `parameter` None: it is about the whole station."""

    kind: Kind
    begins_at: datetime
    ends_at: datetime
    what: str
    parameter: int | None = None


def marks(look: Look, station: int, start: datetime, until: datetime) -> tuple[list[Mark], list[Question]]:
    """What is to be marked within a span, and how it was asked for; nothing where nothing of it is kept."""
    there = Question("what this database keeps", _THERE, {"names": list(_SPANS)}).ask(look.connection)
    values = {"station": station, "start": start, "until": until}
    asked = [Question(f"spans of bts.{row['relname']}", _SPANS[row["relname"]], values) for row in there]
    found = [
        Mark(row["kind"], row["begins_at"], row["ends_at"], row["what"], row["parameter_id"])
        for question in asked
        for row in question.ask(look.connection)
    ]
    return sorted(found, key=lambda mark: mark.begins_at), asked


def of_parameter(found: Sequence[Mark], parameter: int) -> list[Mark]:
    """Marks of one chart: those of the station, and those of its own parameter."""
    return [mark for mark in found if mark.parameter in (None, parameter)]

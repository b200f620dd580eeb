"""Spans that charts mark: planned outages, the operator's alarms and our alerts, where this database keeps them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

from bts_assets.explorer.question import Question
from bts_assets.explorer.request import PageRequest
from bts_assets.explorer.words import at

#: An instant as summaries of alerts have it.
_INSTANT: Final = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d) UTC")

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
               NULL::int AS parameter_id, false AS goes_on
        FROM bts.planned_outage WHERE station_id = :station AND starts_at < :until AND ends_at > :start
        ORDER BY starts_at LIMIT 200
    """,
    "operator_alarm": """
        SELECT 'alarm' AS kind, started_at AS begins_at, until AS ends_at,
               concat_ws(' ', 'alarm:', coalesce(parameter, 'kind ' || alarm_kind), side) AS what, parameter_id,
               ended_at IS NULL AS goes_on
        FROM bts.operator_alarm WHERE station_id = :station AND started_at < :until AND until > :start
        ORDER BY started_at LIMIT 200
    """,
    # From when it is about. One that is not cleared has no end: it is drawn until now; ahead of now, as an instant.
    # Its summary is for people who are told of all stations: on the page of one it goes without the name.
    "alert_status": """
        SELECT 'alert' AS kind, begins_at, greatest(begins_at, coalesce(cleared_at, now())) AS ends_at,
               concat_ws(' ', perceived_severity, 'alert:', summary, '(' || state || ')') AS what, parameter_id,
               cleared_at IS NULL AS goes_on
        FROM (SELECT *, coalesce(expected_at, CAST(details ->> 'last_observed_at' AS timestamptz), raised_at)
                     AS begins_at
              FROM bts.alert_status WHERE station_id = :station) AS alert
        WHERE begins_at < :until AND greatest(begins_at, coalesce(cleared_at, now())) >= :start
        ORDER BY begins_at LIMIT 200
    """,
}


@dataclass(frozen=True)
class Mark:
    """One span, or an instant where it ends as it begins; `parameter` None: it is about the whole station.

    `goes_on`: it has no end yet, and `ends_at` is how far it is drawn.
    """

    kind: Kind
    begins_at: datetime
    ends_at: datetime
    what: str
    parameter: int | None = None
    goes_on: bool = False


def marks(
    request: PageRequest, station: Mapping[str, Any], start: datetime, until: datetime, zone: ZoneInfo
) -> tuple[list[Mark], list[Question]]:
    """What is to be marked within a span, and how it was asked for; nothing where nothing of it is kept.

    station: its `station_id` and `name`. zone: of the times in the words.
    """
    there = Question("what this database keeps", _THERE, {"names": list(_SPANS)}).ask(request.connection)
    values = {"station": station["station_id"], "start": start, "until": until}
    asked = [Question(f"spans of bts.{row['relname']}", _SPANS[row["relname"]], values) for row in there]
    found = [
        Mark(
            row["kind"],
            row["begins_at"],
            row["ends_at"],
            told_here(row["what"], station, zone),
            row["parameter_id"],
            row["goes_on"],
        )
        for question in asked
        for row in question.ask(request.connection)
    ]
    return sorted(found, key=lambda mark: mark.begins_at), asked


def told_here(what: str, station: Mapping[str, Any], zone: ZoneInfo) -> str:
    """Words about a station as its own page says them: without its name, times in the page's zone."""
    number, name = station["station_id"], station["name"]
    for known in (f"{name} ({number})", f"station {number}", str(name or number)):
        what = what.replace(f" of {known}:", ":").replace(f"{known}: ", "").replace(f"{known} is silent", "silent")
    return _INSTANT.sub(lambda told: at(datetime.fromisoformat(told[1]).replace(tzinfo=UTC), zone), what)


def of_parameter(found: Sequence[Mark], parameter: int) -> list[Mark]:
    """Marks of one chart: those of the station, and those of its own parameter."""
    return [mark for mark in found if mark.parameter in (None, parameter)]

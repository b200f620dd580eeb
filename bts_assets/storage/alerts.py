"""Alerts at rest: raised and cleared, acknowledged and silenced, and which of them each channel is still to tell."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.alerts import Alert, Event, Message
from bts_assets.storage import alert_tables as t
from bts_assets.storage.scores import score_again

_RAISE: Final = sa.text("""
    INSERT INTO bts.alert AS a (kind, key, perceived_severity, station_id, parameter_id, summary, details, expected_at,
        raised_at, seen_at)
    SELECT e.kind, e.key, e.perceived_severity, e.station_id, e.parameter_id, e.summary, e.details, e.expected_at,
        :now, :now
    FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS e (kind text, key text, perceived_severity text,
        station_id bigint, parameter_id integer, summary text, details jsonb, expected_at timestamptz)
    ON CONFLICT (kind, key) WHERE cleared_at IS NULL DO UPDATE SET
        perceived_severity = excluded.perceived_severity, summary = excluded.summary, details = excluded.details,
        expected_at = excluded.expected_at, seen_at = greatest(a.seen_at, excluded.seen_at)
    RETURNING alert_id, xmax = 0 AS new
""")
_CLEAR: Final = sa.text("""
    UPDATE bts.alert SET cleared_at = :now
    WHERE kind = :kind AND cleared_at IS NULL AND NOT key = ANY(CAST(:kept AS text[]))
    RETURNING alert_id
""")
_CLEAR_ONE: Final = sa.text(
    "UPDATE bts.alert SET cleared_at = :now WHERE kind = :kind AND key = :key AND cleared_at IS NULL RETURNING alert_id"
)
#: What a channel is still to tell: a try that failed is tried again after 1, 2, 4... minutes, at most an hour; one that
#: was never finished, after ten. That an alert is over is told to those who were told that it began.
_PENDING: Final = sa.text("""
    SELECT a.* FROM bts.alert_status AS a
    CROSS JOIN LATERAL (SELECT a.state = 'cleared' AS cleared) AS c
    LEFT JOIN bts.alert_delivery AS d ON (d.alert_id, d.cleared, d.channel) = (a.alert_id, c.cleared, :channel)
    WHERE (a.state = 'open' OR (a.cleared_at > :now - interval '7 days' AND EXISTS (
               SELECT FROM bts.alert_delivery AS r
               WHERE r.alert_id = a.alert_id AND NOT r.cleared AND r.channel = :channel AND r.state = 'sent')))
      AND (d.state IS NULL
           OR d.state = 'failed' AND d.tried_at <= :now - least(2 ^ (d.attempts - 1), 60) * interval '1 minute'
           OR d.state = 'sending' AND d.tried_at <= :now - interval '10 minutes')
    ORDER BY a.alert_id
""")
#: Whoever else claims the same alerts at the same time gets none of them.
_CLAIM: Final = sa.text("""
    INSERT INTO bts.alert_delivery AS d (alert_id, cleared, channel, state, attempts, message_id, tried_at)
    SELECT id, :cleared, :channel, 'sending', 1, :message_id, :now FROM unnest(CAST(:ids AS bigint[])) AS i (id)
    ON CONFLICT (alert_id, cleared, channel) DO UPDATE SET
        state = 'sending', attempts = d.attempts + 1, message_id = excluded.message_id, tried_at = excluded.tried_at
    WHERE d.state = 'failed' OR d.state = 'sending' AND d.tried_at <= :now - interval '10 minutes'
    RETURNING alert_id
""")
_SENT_LATELY: Final = sa.text(
    "SELECT count(DISTINCT message_id) FROM bts.alert_delivery"
    " WHERE channel = :channel AND tried_at > :now - interval '1 hour'"
)
_SETTLE: Final = sa.text(
    "UPDATE bts.alert_delivery SET state = :state, error = :error"
    " WHERE channel = :channel AND message_id = :message_id AND state = 'sending'"
)
_UNBEGUN: Final = sa.text(
    "UPDATE bts.alert_delivery SET state = 'failed', error = 'there was no time left to begin it',"
    " attempts = attempts - 1, tried_at = tried_at - interval '1 hour'"
    " WHERE channel = :channel AND message_id = :message_id AND state = 'sending'"
)


@dataclass(frozen=True)
class Changed:
    """Numbers of the alerts that were raised, and of those that were cleared."""

    raised: tuple[int, ...] = ()
    cleared: tuple[int, ...] = ()


def raise_events(connection: sa.Connection, events: Iterable[Event], now: datetime) -> tuple[int, ...]:
    """Keep events; one whose key is open already is the same, seen again. Numbers of those that are new."""
    rows = {(event.kind, event.key): _row(event) for event in events}
    found = connection.execute(_RAISE, {"events": json.dumps(list(rows.values())), "now": now}).all()
    return tuple(row.alert_id for row in found if row.new)


def clear_others(connection: sa.Connection, kind: str, kept: Collection[str], now: datetime) -> tuple[int, ...]:
    """Clear every open alert of a kind but those of some keys; their numbers."""
    return tuple(connection.execute(_CLEAR, {"kind": kind, "kept": list(kept), "now": now}).scalars())


def clear_one(connection: sa.Connection, kind: str, key: str, now: datetime) -> tuple[int, ...]:
    """Clear the open alert of a key, if there is one; its number."""
    return tuple(connection.execute(_CLEAR_ONE, {"kind": kind, "key": key, "now": now}).scalars())


def pending(connection: sa.Connection, channel: str, now: datetime) -> list[Alert]:
    """What a channel is still to tell, and may be told now."""
    return [_alert(row) for row in connection.execute(_PENDING, {"channel": channel, "now": now}).mappings()]


def tried_lately(connection: sa.Connection, channel: str, now: datetime) -> int:
    """Messages that a channel was given within the last hour."""
    return int(connection.execute(_SENT_LATELY, {"channel": channel, "now": now}).scalar_one())


def claim(connection: sa.Connection, channel: str, message: Message, now: datetime) -> bool:
    """Take it on to send a message by a channel: false, and nothing is taken on, if another process has some of it."""
    ids = [alert.alert_id for alert in message.alerts]
    given = {"channel": channel, "message_id": message.message_id, "cleared": message.cleared, "now": now, "ids": ids}
    nested = connection.begin_nested()
    claimed = connection.execute(_CLAIM, given).all()
    if len(claimed) < len(ids):
        nested.rollback()
        return False
    nested.commit()
    return True


def settle(connection: sa.Connection, channel: str, message_id: str, error: str | None) -> None:
    """A message was sent, or why it was not."""
    given = {"channel": channel, "message_id": message_id, "error": error, "state": "failed" if error else "sent"}
    connection.execute(_SETTLE, given)


def give_back(connection: sa.Connection, channel: str, message_id: str) -> None:
    """A message that was taken on was not begun: it is tried next time."""
    connection.execute(_UNBEGUN, {"channel": channel, "message_id": message_id})


def acknowledge(connection: sa.Connection, alert_ids: Sequence[int], said: str, now: datetime) -> set[int]:
    """Say that somebody takes open alerts over; those of the numbers that are open."""
    a = t.alert.c
    taken = sa.update(t.alert).where(a.alert_id.in_(alert_ids), a.cleared_at.is_(None))
    return set(
        connection.execute(taken.values(acknowledged_at=now, acknowledgement=said).returning(a.alert_id)).scalars()
    )


def add_silence(connection: sa.Connection, values: Mapping[str, Any]) -> int:
    """Enter a silence; its number."""
    return int(connection.execute(sa.insert(t.silence).values(values).returning(t.silence.c.silence_id)).scalar_one())


def end_silence(connection: sa.Connection, silence_id: int, now: datetime) -> bool:
    """End a silence now; false if none of that number runs."""
    q = t.silence.c
    ended = sa.update(t.silence).where(q.silence_id == silence_id, q.until > now).values(until=now)
    return connection.execute(ended).rowcount > 0


def add_outages(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Enter planned outages; how many were not there before. What they overlap is scored anew."""
    statement = insert(t.planned_outage).values(list(rows)).on_conflict_do_nothing()
    o = t.planned_outage.c
    added = connection.execute(statement.returning(o.starts_at, o.ends_at)).all()
    for starts_at, ends_at in added:
        score_again(connection, starts_at, ends_at)
    return len(added)


def remove_outages(connection: sa.Connection, numbers: Sequence[int]) -> set[int]:
    """Delete planned outages; the numbers that were there. What they overlapped is scored anew."""
    o = t.planned_outage.c
    for starts_at, ends_at in connection.execute(sa.select(o.starts_at, o.ends_at).where(o.outage_id.in_(numbers))):
        score_again(connection, starts_at, ends_at)
    return set(
        connection.execute(sa.delete(t.planned_outage).where(o.outage_id.in_(numbers)).returning(o.outage_id)).scalars()
    )


def _row(event: Event) -> dict[str, Any]:
    return {
        "kind": event.kind,
        "key": event.key,
        "perceived_severity": event.severity,
        "station_id": event.station_id,
        "parameter_id": event.parameter_id,
        "summary": event.summary.replace("\0", ""),
        "details": dict(event.details),
        "expected_at": event.expected_at.isoformat() if event.expected_at else None,
    }


def _alert(row: sa.RowMapping) -> Alert:
    event = Event(
        row["kind"],
        row["key"],
        row["perceived_severity"],
        row["summary"],
        row["station_id"],
        row["parameter_id"],
        row["expected_at"],
        row["details"],
    )
    return Alert(row["alert_id"], event, row["raised_at"], row["cleared_at"], row["station"], row["region"])

"""Events worth telling people of, alerts as they are kept, and the messages that tell of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

Kind = Literal["breach", "drift", "failure", "late", "silent"]
Severity = Literal["critical", "major", "minor", "warning"]

#: ITU-T X.733's perceived severities, the gravest first.
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "major", "minor", "warning")


@dataclass(frozen=True)
class Event:
    """Something that holds now and is worth telling.

    key: what it is about, among events of its kind; while an event of that key is open, another one is the same.
    expected_at: when it is expected to happen, or happened (UTC): an outage planned for then suppresses it.
    details: figures for machines, JSON.
    """

    kind: Kind
    key: str
    severity: Severity
    summary: str
    station_id: int | None = None
    parameter_id: int | None = None
    expected_at: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """An event as it is kept: raised, and cleared once it no longer holds. Times UTC."""

    alert_id: int
    event: Event
    raised_at: datetime
    cleared_at: datetime | None = None
    station: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Message:
    """What is sent at once: alerts of one kind and region that were raised, or that were cleared.

    message_id: the same for the same alerts, so that a receiver can drop what it got twice.
    """

    message_id: str
    kind: str
    cleared: bool
    region: str | None
    severity: Severity
    title: str
    text: str
    alerts: tuple[Alert, ...]

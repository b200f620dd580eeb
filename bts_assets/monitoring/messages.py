"""How alerts are grouped into messages: one for all of a kind in a region, so that an outage is told once."""

import hashlib
from collections.abc import Iterable
from typing import Final

from bts_assets.contracts.alerts import SEVERITIES, Alert, Message

#: Alerts that a message names one by one; the others are counted.
NAMED: Final = 15

_WHAT: Final = {
    "breach": ("limit passed or likely to be", "limits passed or likely to be"),
    "drift": ("series or parameter that drifts", "series or parameters that drift"),
    "failure": ("failed run", "failed runs"),
    "late": ("night that is late", "nights that are late"),
    "silent": ("silent station", "silent stations"),
}


def grouped(alerts: Iterable[Alert]) -> list[Message]:
    """Messages of alerts to be told, the gravest first; those that are cleared after those that are raised."""
    groups: dict[tuple[bool, str, str | None], list[Alert]] = {}
    for alert in alerts:
        groups.setdefault((alert.cleared_at is not None, alert.event.kind, alert.region), []).append(alert)
    messages = [_message(*key, sorted(group, key=_gravity)) for key, group in groups.items()]
    return sorted(messages, key=lambda m: (m.cleared, SEVERITIES.index(m.severity), m.kind, m.region or ""))


def _gravity(alert: Alert) -> tuple[int, int]:
    return SEVERITIES.index(alert.event.severity), alert.alert_id


def _message(cleared: bool, kind: str, region: str | None, alerts: list[Alert]) -> Message:
    identity = f"{cleared} {' '.join(str(a.alert_id) for a in alerts)}"
    lines = [f"{alert.event.severity}: {alert.event.summary}" for alert in alerts[:NAMED]]
    if len(alerts) > NAMED:
        lines.append(f"and {len(alerts) - NAMED} more: bts alerts")
    return Message(
        message_id=hashlib.sha256(identity.encode()).hexdigest()[:32],
        kind=kind,
        cleared=cleared,
        region=region,
        severity=alerts[0].event.severity,
        title=_title(cleared, kind, region, alerts),
        text="\n".join(lines),
        alerts=tuple(alerts),
    )


def _title(cleared: bool, kind: str, region: str | None, alerts: list[Alert]) -> str:
    one, many = _WHAT[kind]
    stations = len({a.event.station_id for a in alerts if a.event.station_id is not None})
    where = f" in {region}" if region else ""
    at = f", {stations} stations" if stations > 1 and kind != "silent" else ""
    state = "over" if cleared else alerts[0].event.severity
    return f"BTS {state}: {len(alerts)} {one if len(alerts) == 1 else many}{where}{at}"

"""Where messages go: services that apprise knows, and a webhook that gets JSON as notification.schema.json says."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any, Final, Protocol

from bts_assets.contracts.alerts import Alert, Message
from bts_assets.contracts.errors import BtsError, UsageError

#: Version of the webhook's JSON; it grows by fields alone.
SCHEMA: Final = "bts-notification/1"
#: Alerts that the JSON lists; `alerts_total` counts them all.
LISTED: Final = 500


class NotificationError(BtsError):
    """A message was not taken: one line without the address, which may hold a secret."""


class Channel(Protocol):
    """name: what it is called in tables, without a secret. `send` raises `NotificationError`."""

    @property
    def name(self) -> str: ...

    def send(self, message: Message, seconds: float) -> None: ...


class Apprise:
    """A service by its apprise URL, for example mailto://, slack:// or tgram://.

    Raises:
        UsageError: if apprise knows no such URL.
    """

    def __init__(self, url: str) -> None:
        from apprise import Apprise as Service
        from apprise import AppriseAsset

        self.name = _named(url)
        # Answers within the time that is given: apprise's own waits are per step, and longer.
        self._service = Service(asset=AppriseAsset(async_mode=False))
        if not self._service.add(url):
            raise UsageError(
                f"BTS_ALERT_URLS: {url.partition('://')[0]}://... is no URL that apprise knows;"
                " see its list of services"
            )

    def send(self, message: Message, seconds: float) -> None:
        for server in self._service:
            server.socket_connect_timeout = server.socket_read_timeout = max(seconds, 0.1)
        kind = "success" if message.cleared else "failure" if message.severity == "critical" else "warning"
        if not self._service.notify(title=message.title, body=message.text, notify_type=kind, body_format="text"):
            raise NotificationError(f"{self.name} did not take the message")


class Webhook:
    """An address that gets each message as JSON by POST, and answers with a status below 300."""

    def __init__(self, url: str) -> None:
        self.name = _named(url)
        self._url = url

    def send(self, message: Message, seconds: float) -> None:
        import requests

        try:
            answer = requests.post(self._url, json=as_json(message), timeout=max(seconds, 0.1), allow_redirects=False)
        except requests.RequestException as error:
            raise NotificationError(f"{self.name} did not answer: {type(error).__name__}") from None
        if answer.status_code >= 300:
            raise NotificationError(f"{self.name} answered with status {answer.status_code}")


def channels(urls: str | None, webhook: str | None) -> list[Channel]:
    """The channels of the settings BTS_ALERT_URLS (URLs with blanks between them) and BTS_ALERT_WEBHOOK.

    Raises:
        UsageError: naming the kind of a URL that cannot be used.
    """
    found: list[Channel] = [Apprise(url) for url in (urls or "").split()]
    if webhook:
        if not webhook.startswith(("http://", "https://")):
            raise UsageError("BTS_ALERT_WEBHOOK must begin with http:// or https://")
        found.append(Webhook(webhook))
    return list({channel.name: channel for channel in found}.values())


def schema() -> str:
    """JSON schema of what a webhook is sent."""
    return files(__package__).joinpath("notification.schema.json").read_text(encoding="utf-8")


def as_json(message: Message) -> dict[str, Any]:
    """A message as a webhook gets it; `schema` says what is in it."""
    return {
        "schema": SCHEMA,
        "message_id": message.message_id,
        "kind": message.kind,
        "transition": "cleared" if message.cleared else "raised",
        "perceived_severity": message.severity,
        "region": message.region,
        "title": message.title,
        "text": message.text,
        "alerts_total": len(message.alerts),
        "alerts": [_alert_json(alert) for alert in message.alerts[:LISTED]],
    }


def _alert_json(alert: Alert) -> Mapping[str, Any]:
    event = alert.event
    return {
        "alert_id": alert.alert_id,
        "key": event.key,
        "perceived_severity": event.severity,
        "summary": event.summary,
        "station_id": event.station_id,
        "station": alert.station,
        "parameter_id": event.parameter_id,
        "expected_at": _iso(event.expected_at),
        "raised_at": _iso(alert.raised_at),
        "cleared_at": _iso(alert.cleared_at),
        "details": dict(event.details),
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _named(url: str) -> str:
    """Scheme and a digest: the address itself may hold a password or a token."""
    return f"{url.partition('://')[0].lower()}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"

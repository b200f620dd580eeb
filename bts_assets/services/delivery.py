"""Telling people of alerts: once each, grouped, not too often, and never for longer than BTS_ALERT_TIMEOUT."""

import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from bts_assets.contracts.alerts import Alert, Event, Message
from bts_assets.monitoring.messages import grouped
from bts_assets.notify.channels import Channel, channels
from bts_assets.notify.sending import send_all
from bts_assets.services.home import Home
from bts_assets.settings import Settings
from bts_assets.storage.alerts import claim, give_back, pending, settle, tried_lately

log = logging.getLogger(__name__)

#: Characters of an error that are kept.
_LONGEST: Final = 300


@dataclass(frozen=True)
class Delivered:
    """Messages that were sent, that were not taken (and why), and that wait for the rate limit or for time."""

    sent: int = 0
    failed: tuple[str, ...] = ()
    waiting: int = 0


def deliver(home: Home, now: datetime) -> Delivered:
    """Send every channel what it is still to tell. Nothing that a server does makes this raise or take longer.

    A message is taken on before it is sent and settled after it, in commits of their own: killed in between, it is sent
    again ten minutes later, under the same message_id.

    Raises:
        UsageError: if BTS_ALERT_URLS or BTS_ALERT_WEBHOOK cannot be used.
    """
    work: dict[Channel, list[Message]] = {}
    waiting = 0
    for channel in channels_of(home.settings):
        work[channel], left = _taken_on(home, channel, now)
        waiting += left
    outcomes = send_all({c: m for c, m in work.items() if m}, home.settings.alert_timeout.total_seconds())
    sent, failed = 0, []
    with home.engine.begin() as connection:
        for channel, outcome in outcomes.items():
            for message in work[channel]:
                if message.message_id not in outcome.errors:
                    give_back(connection, channel.name, message.message_id)
                    waiting += 1
                    continue
                error = outcome.errors[message.message_id]
                settle(connection, channel.name, message.message_id, error and error[:_LONGEST])
                sent += error is None
                failed += [error] if error else []
    for error in dict.fromkeys(failed):
        log.warning("an alert could not be told, and is told again later: %s", error)
    return Delivered(sent, tuple(failed), waiting)


def channels_of(settings: Settings) -> list[Channel]:
    """The channels of the settings.

    Raises:
        UsageError: if one of them cannot be used.
    """
    return channels(settings.alert_urls, settings.alert_webhook)


def send_plain(settings: Settings, event: Event, now: datetime) -> dict[str, str | None]:
    """Send an event to every channel without keeping it: to try them, or where no database can be reached.

    Per channel why it was not taken, or None.

    Raises:
        UsageError: if a channel cannot be used.
    """
    (message,) = grouped([Alert(0, event, now)])
    identity = hashlib.sha256(f"{event.kind} {event.key} {now.isoformat()}".encode()).hexdigest()[:32]
    message = Message(**{**vars(message), "message_id": identity})
    outcomes = send_all({c: [message] for c in channels_of(settings)}, settings.alert_timeout.total_seconds())
    return {channel.name: outcome.errors.get(identity, "was not begun") for channel, outcome in outcomes.items()}


def _taken_on(home: Home, channel: Channel, now: datetime) -> tuple[list[Message], int]:
    """Messages to send by a channel, and how many more wait for the rate limit."""
    with home.engine.begin() as connection:
        messages = grouped(pending(connection, channel.name, now))
        room = home.settings.alert_messages_per_hour - tried_lately(connection, channel.name, now)
        now_sent, later = messages[: max(room, 0)], messages[max(room, 0) :]
        return [m for m in now_sent if claim(connection, channel.name, m, now)], len(later)

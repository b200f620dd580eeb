"""Sending within a time, whatever a server does: each channel has a thread that nobody waits for any longer."""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bts_assets.contracts.alerts import Message
from bts_assets.notify.channels import Channel, NotificationError


@dataclass
class Outcome:
    """Why each message of a channel was not taken, or None if it was; a message that is not listed was not begun."""

    errors: dict[str, str | None] = field(default_factory=dict)


def send_all(work: Mapping[Channel, Sequence[Message]], seconds: float) -> dict[Channel, Outcome]:
    """Send each channel its messages, in order, all channels at once, in `seconds` altogether.

    A message that is under way when time is over has failed; those behind it are not begun. The threads are daemons:
    a server that never answers keeps no process from ending.
    """
    deadline = time.monotonic() + seconds
    runs = [_Run(channel, messages, deadline) for channel, messages in work.items()]
    for run in runs:
        run.thread.start()
    for run in runs:
        run.thread.join(max(0.0, deadline - time.monotonic()))
    return {run.channel: run.ended(seconds) for run in runs}


class _Run:
    def __init__(self, channel: Channel, messages: Sequence[Message], deadline: float) -> None:
        self.channel, self._messages, self._deadline = channel, messages, deadline
        self._lock, self._over = threading.Lock(), False
        self._under_way: str | None = None
        self._errors: dict[str, str | None] = {}
        self.thread = threading.Thread(target=self._work, name=f"notify {channel.name}", daemon=True)

    def _work(self) -> None:
        for message in self._messages:
            with self._lock:
                if self._over or time.monotonic() >= self._deadline:
                    return
                self._under_way = message.message_id
            error = self._try(message)
            with self._lock:
                if self._over:
                    return
                self._errors[message.message_id], self._under_way = error, None

    def _try(self, message: Message) -> str | None:
        try:
            self.channel.send(message, self._deadline - time.monotonic())
        except NotificationError as error:
            return str(error)
        except Exception as error:  # a channel's defect is its own: the others are told all the same
            return f"{self.channel.name} failed: {type(error).__name__}"
        return None

    def ended(self, seconds: float) -> Outcome:
        with self._lock:
            self._over = True
            if self._under_way is not None:
                self._errors[self._under_way] = f"{self.channel.name} did not answer within {seconds:g} s"
            return Outcome(dict(self._errors))

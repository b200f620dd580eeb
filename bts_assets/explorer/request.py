"""One request as pages see it: a read-only snapshot, what was asked for, and how fresh all of it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from bts_assets.contracts.grid import instant_of
from bts_assets.explorer.page import BadAddress
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.words import age, at

_BATCH: Final = Question("the batch that serves", "SELECT * FROM bts.latest_batch")
_NEWEST: Final = Question("the newest entry of every log", "SELECT * FROM bts.newest_entry")

#: What a state of the batch means to who looks, and whether it is one to act on.
STATES: Final[dict[str, tuple[str, str]]] = {
    "current": ("good", "the latest night is published"),
    "late": ("bad", "the next night is overdue; these forecasts still cover the coming hours"),
    "stale": ("bad", "these forecasts have expired, or readings had stopped before they were made"),
    "retrospective": ("note", "made after the fact, from the end of a recording"),
    "in_sample": ("note", "made by a model that was trained on the forecast period"),
    "none": ("bad", "nothing has been published yet: run bts nightly"),
}


_UNLOGGED_SECONDS: Final = 300


@dataclass(frozen=True)
class Freshness:
    """How fresh what is shown is. `batch`: the row of `bts.latest_batch`, None before the first night."""

    batch: Row | None
    newest: Row
    now: datetime

    @property
    def state(self) -> str:
        if self.batch is None:
            return "none"
        said = str(self.batch["state"])
        return "late" if said == "stale" and self.batch["forecasts_end_at"] > self.now and not self.silent else said

    @property
    def silent(self) -> bool:
        """The readings had stopped long before the batch was made."""
        if self.batch is None or self.batch["last_observed_at"] is None:
            return True
        return self.batch["issued_at"] - self.batch["last_observed_at"] > timedelta(days=1)

    @property
    def kind(self) -> str:
        return STATES[self.state][0]

    @property
    def meaning(self) -> str:
        return STATES[self.state][1]

    @property
    def observed_at(self) -> datetime | None:
        return self.newest["last_observed_at"]

    @property
    def observed_age(self) -> str:
        return age(None if self.observed_at is None else self.now - self.observed_at)

    @property
    def batch_age(self) -> str:
        return age(None if self.batch is None else self.now - self.batch["issued_at"])

    def stamp(self) -> tuple[Any, ...]:
        """What a page made now depends on: equal stamps, equal pages. What no log tells of, as names of stations and
        planned outages, is looked at again after `_UNLOGGED_SECONDS`."""
        unlogged = int(self.now.timestamp()) // _UNLOGGED_SECONDS
        return (*self.newest.values(), self.state, self.observed_age, self.batch_age, unlogged)


class FreshnessKept:
    """The batch that serves, looked up again when another serves or half a minute has passed: its state needs a look
    at every series of the batch, which is the dearest query of most pages."""

    _FOR: Final = timedelta(seconds=30)

    def __init__(self) -> None:
        self._kept: tuple[Any, datetime, Row | None] | None = None

    def of(self, connection: sa.Connection) -> Freshness:
        now, newest = datetime.now(UTC), _NEWEST.one(connection) or {}
        kept, pointer = self._kept, newest["publication_seq"]
        if kept is None or kept[0] != pointer or now - kept[1] > self._FOR:
            kept = self._kept = (pointer, now, _BATCH.one(connection))
        return Freshness(kept[2], newest, now)


def made_by(request: "PageRequest") -> str:
    """What made the forecasts that serve, for below a picture of them."""
    batch = request.fresh.batch or {}
    told = f"batch {batch.get('batch_id')}, model version {batch.get('model_version_id')}"
    return f"{told}, origin {at(batch.get('issued_at'))} UTC"


@dataclass(frozen=True)
class PageRequest:
    """One request. `places`: parts of its path; `asked`: what its query string says."""

    connection: sa.Connection
    fresh: Freshness
    places: Mapping[str, Any]
    asked: Mapping[str, str]

    @property
    def batch_id(self) -> int | None:
        return None if self.fresh.batch is None else int(self.fresh.batch["batch_id"])

    def text(self, name: str) -> str | None:
        """What was typed, without blanks around it; None: nothing was.

        Raises:
            BadAddress: if it is longer than anyone types, or holds a NUL.
        """
        text = self.asked.get(name, "").strip()
        if len(text) > 200 or "\0" in text:
            raise BadAddress(f"{name} is no text of up to 200 characters: shorten it")
        return text or None

    def whole(self, name: str, default: int | None = None, least: int = -(1 << 31), most: int = 1 << 31) -> int | None:
        """A whole number.

        Raises:
            BadAddress: if it is none, or out of range.
        """
        text = self.text(name)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            value = most + 1
        if not least <= value <= most:
            raise BadAddress(f"{name} is no whole number from {least} to {most}: mend the address")
        return value

    def instant(self, name: str) -> datetime | None:
        """An instant with its offset.

        Raises:
            BadAddress: if it is none.
        """
        text = self.text(name)
        if text is None:
            return None
        try:
            return instant_of(text.replace(" ", "+"), UTC)
        except ValueError:
            raise BadAddress(f"{name} is no instant: write for example 2026-11-20T02:00Z") from None

    def one_of(self, name: str, choices: tuple[str, ...]) -> str:
        """One of some words, by default the first.

        Raises:
            BadAddress: if it is none of them.
        """
        text = self.text(name)
        if text is not None and text not in choices:
            raise BadAddress(f"{name} is none of {', '.join(choices)}: mend the address")
        return text or choices[0]

    def zone(self, timezone: str | None) -> ZoneInfo:
        """UTC, or where it is asked for the zone of a site that has one."""
        site = self.one_of("time", ("utc", "site")) == "site"
        return ZoneInfo(timezone) if site and timezone else ZoneInfo("UTC")

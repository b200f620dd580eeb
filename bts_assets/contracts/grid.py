"""The regular grid that observations and forecasts stand on: step, context and horizon, and their arithmetic.

The grid starts at the Unix epoch in UTC, so a step must divide a day: then every day starts on the grid,
whatever the time zone of the schedule, and two runs can never disagree about where a step begins.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property
from typing import Final

from bts_assets.contracts.errors import UsageError

DAY: Final = timedelta(days=1)
_SECOND: Final = timedelta(seconds=1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class GridError(UsageError, ValueError):
    """A step, context or horizon that does not make a grid."""


@dataclass(frozen=True)
class Grid:
    """Step (width of an interval), context (past that a model sees) and horizon (how far ahead it looks)."""

    step: timedelta
    context: timedelta
    horizon: timedelta

    def __post_init__(self) -> None:
        # Whole seconds: that is how the database keeps it.
        if self.step < _SECOND or self.step % _SECOND or self.step > DAY or DAY % self.step:
            raise GridError(
                f"BTS_STEP={format_duration(self.step)} does not divide a day; use for example 5min, 15min or 1h"
            )
        for name, span in (("BTS_CONTEXT", self.context), ("BTS_HORIZON", self.horizon)):
            if span < self.step or span % self.step:
                raise GridError(
                    f"{name}={format_duration(span)} is not a whole number of steps of"
                    f" BTS_STEP={format_duration(self.step)}"
                )

    @cached_property
    def context_steps(self) -> int:
        return self.context // self.step

    @cached_property
    def horizon_steps(self) -> int:
        return self.horizon // self.step

    @cached_property
    def steps_per_day(self) -> int:
        return DAY // self.step

    def index(self, instant: datetime) -> int:
        """The number of the step that `instant` falls in, counted from the epoch."""
        return (instant - EPOCH) // self.step

    def instant(self, index: int) -> datetime:
        """The start of step `index`, in UTC."""
        return EPOCH + index * self.step

    def floor(self, instant: datetime) -> datetime:
        """The newest grid instant that is not after `instant`."""
        return self.instant(self.index(instant))


def instant_of(text: str, zone: tzinfo) -> datetime:
    """A time that somebody wrote, ISO 8601; one without an offset is of `zone`.

    Raises:
        ValueError: if it is none.
    """
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=zone)


def context_for(step: timedelta) -> timedelta:
    """The context where none is set: as many steps as tell how weeks repeat, in whole weeks; one to six."""
    return min(max(1008 * step // (7 * DAY), 1), 6) * 7 * DAY


def format_duration(span: timedelta) -> str:
    """`15min`, `48h`, `7d`: the largest unit that divides the span; what `settings` reads back."""
    seconds = span.total_seconds()
    # A day and two are said in hours, as operators say them; a week in days.
    for unit, width in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= width and seconds % width == 0 and not (unit == "d" and seconds < 3 * width):
            return f"{int(seconds // width)}{unit}"
    # All digits down to the microsecond, and never an exponent, so that it can be read back.
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"

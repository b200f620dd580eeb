"""A chart before it is drawn: numbers, what its axis shows of them, the sentence that says the same, the table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import groupby
from statistics import median
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from bts_assets.explorer.marks import Mark
from bts_assets.explorer.words import decimals

#: What one chart can have drawn, each with a look of its own in explorer.js and picture.py.
LINES: Final = ("observed", "q05", "q10", "q50", "q90", "q95")
#: Zeros are those of outages where no more than this share of what was observed is zero.
_OUTAGES: Final = 0.1
#: One value in so many at either end of what was observed may be an excursion.
_ENDS: Final = 50
#: Excursions are shown up to this multiple of the usual range beyond it, and any that come again and last: this share.
_FAR: Final = 0.8
_LASTING: Final = 0.01


@dataclass(frozen=True)
class Axis:
    """What the axis of values shows. far: the farthest value that lies outside on either side, and when it was."""

    low: float
    high: float
    far: Sequence[tuple[datetime, float]] = ()


@dataclass(frozen=True)
class Chart:
    """One series in time: every line has a value, or None, for every one of `times`, which are evenly apart.

    `title` is for a page that names the station, `alone` for a picture by itself. `low` and `high` are limits.
    """

    name: str
    title: str
    sentence: str
    unit: str
    zone: ZoneInfo
    times: Sequence[datetime]
    lines: Mapping[str, Sequence[float | None]]
    origin: datetime | None = None
    low: float | None = None
    high: float | None = None
    marks: Sequence[Mark] = ()
    small: bool = False
    link: str | None = None
    alone: str | None = None

    @property
    def full_title(self) -> str:
        """Its title where it stands without the page."""
        return self.alone or self.title

    @cached_property
    def axis(self) -> Axis:
        """The forecast and the ordinary range of what was observed, and what lies beyond that range if it comes again
        and lasts, as the runs of a generator; not what happened once, nor the zeros of outages, which would squeeze all
        the rest into a line. Limits where they are near."""
        forecast = [v for name in LINES[1:] for v in self.lines.get(name, ()) if v is not None]
        came = [(at, v) for at, v in zip(self.times, self.lines["observed"], strict=True) if v is not None]
        if not came and not forecast:
            return Axis(0.0, 1.0)
        alive = [v for _, v in came if v != 0]
        dead = len(came) - len(alive) <= _OUTAGES * len(came)
        usual = sorted(alive if dead else [v for _, v in came])
        few = len(usual) // _ENDS
        inner = [*forecast, *usual[few : len(usual) - few]] or [0.0]
        least, most = min(inner), max(inner)
        # Of what is constant but for a while, that while is what matters.
        reach = _FAR * (most - least) or float("inf")
        bottom, top = least - reach, most + reach
        values = [v for _, v in came if v != 0 or not dead or bottom < 0 < top]
        lowest, highest = min(values, default=least), max(values, default=most)
        if lowest > bottom or _comes_again([v < bottom for v in values]):
            least = min(least, lowest)
        if highest < top or _comes_again([v > top for v in values]):
            most = max(most, highest)
        # What is all but constant is shown as such, not blown up to its rounding.
        spread = max(most - least, abs(most) * 2e-4) or 1.0
        for limit in (self.low, self.high):
            if limit is not None and least - _FAR * spread <= limit <= most + _FAR * spread:
                least, most = min(least, limit), max(most, limit)
        low, high = least - 0.06 * spread, most + 0.06 * spread
        ends = (min(came, key=lambda c: c[1]), max(came, key=lambda c: c[1])) if came else ()
        return Axis(low, high, [(at, v) for at, v in ends if not low <= v <= high])

    @property
    def limits(self) -> list[float]:
        """Those that are drawn."""
        return [
            limit for limit in (self.low, self.high) if limit is not None and self.axis.low <= limit <= self.axis.high
        ]

    @cached_property
    def decimals(self) -> int:
        """After the point, so that the edges of an interval are told apart; without a forecast, the usual values."""
        if "q50" in self.lines:
            edges = zip(self.lines["q05"], self.lines["q95"], strict=True)
            widths = [high - low for low, high in edges if low is not None and high is not None]
            return decimals(median(widths) if widths else 0.0)
        return decimals((self.axis.high - self.axis.low) / 10)

    def data(self) -> Markup:
        """JSON that cannot end the element that it stands in."""
        numbers: dict[str, Any] = {
            "start": int(self.times[0].timestamp()) if self.times else 0,
            "step": int((self.times[1] - self.times[0]).total_seconds()) if len(self.times) > 1 else 0,
            "steps": len(self.times),
            **{name: [_short(v, self.decimals + 1) for v in values] for name, values in self.lines.items()},
            "title": self.title, "unit": self.unit, "zone": self.zone.key, "small": self.small,
            "origin": None if self.origin is None else int(self.origin.timestamp()),
            "low": self.low, "high": self.high, "decimals": self.decimals,
            "axis": [self.axis.low, self.axis.high],
            "far": [[int(at.timestamp()), value] for at, value in self.axis.far],
            "spans": [[int(m.begins_at.timestamp()), int(m.ends_at.timestamp()), m.what, m.kind] for m in self.marks],
        }  # fmt: skip
        text = json.dumps(numbers, separators=(",", ":"), allow_nan=False)
        return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704

    @property
    def heading(self) -> list[str]:
        return [name for name in LINES if name in self.lines]

    def rows(self, hours: int = 1) -> list[tuple[datetime, list[float | None]]]:
        """A row per so many whole hours: what a person can read."""
        return [
            (at, [self.lines[name][i] for name in self.heading])
            for i, at in enumerate(self.times)
            if int(at.timestamp()) % (3600 * hours) == 0
        ]


def _comes_again(beyond: Sequence[bool]) -> bool:
    """More than one stretch of them, and together more than a moment."""
    stretches = sum(is_beyond for is_beyond, _ in groupby(beyond))
    return stretches > 1 and sum(beyond) >= _LASTING * len(beyond)


def _short(value: float | None, digits: int) -> float | None:
    """As many digits as a chart shows."""
    if value is None or value != value or abs(value) == float("inf"):
        return None
    return round(value, digits)


def merged(
    observed: Mapping[datetime, float],
    forecast: Sequence[Mapping[str, Any]],
    start: datetime,
    end: datetime,
    step: timedelta,
    every: int = 1,
) -> tuple[list[datetime], dict[str, list[float | None]]]:
    """Observations and forecasts on one grid from `start` to `end` (exclusive); of `every` steps one is taken."""
    steps = max((end - start) // step, 0)
    times = [start + i * step for i in range(0, steps, every)]
    by_target = {row["target_at"]: row for row in forecast}
    lines: dict[str, list[float | None]] = {"observed": [observed.get(at) for at in times]}
    if forecast:
        for name in LINES[1:]:
            lines[name] = [by_target[at][name] if at in by_target else None for at in times]
    return times, lines

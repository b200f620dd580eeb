"""A chart before it is drawn: numbers for the browser, the sentence that says the same, and the table of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from bts_assets.explorer.marks import Mark

#: What one chart can have drawn, each with a look of its own in explorer.js.
LINES: Final = ("observed", "q05", "q10", "q50", "q90", "q95")


@dataclass(frozen=True)
class Chart:
    """One series in time: every line has a value, or None, for every one of `times`, which are evenly apart.

    `title` is for a page that names the station, `alone` for a picture by itself.
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

    def data(self) -> Markup:
        """JSON that cannot end the element that it stands in."""
        numbers: dict[str, Any] = {
            "start": int(self.times[0].timestamp()) if self.times else 0,
            "step": int((self.times[1] - self.times[0]).total_seconds()) if len(self.times) > 1 else 0,
            "steps": len(self.times),
            **{name: [_short(v) for v in values] for name, values in self.lines.items()},
            "title": self.title, "unit": self.unit, "zone": self.zone.key, "small": self.small,
            "origin": None if self.origin is None else int(self.origin.timestamp()),
            "low": self.low, "high": self.high,
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


def _short(value: float | None) -> float | None:
    """As many digits as a chart shows; of a large counter all before the point, for it goes on by ones."""
    if value is None or value != value or abs(value) == float("inf"):
        return None
    return float(f"{value:.5g}") if abs(value) < 10_000 else round(value, 1)


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

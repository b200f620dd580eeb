"""Values as a page says them: numbers in plain digits, times in a zone, ages, shares."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup

from bts_assets.contracts.text import counted, percent, printable

#: Shown where there is no value.
NOTHING: Final = "–"


def shown(value: Any) -> Any:
    """What a template prints of any value: text without characters that steer; it is escaped after that."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def number(value: float | None, digits: int = 4) -> str:
    """Plain digits, as many as matter: 24.12, and 16,532 whole, for a counter goes on by ones; never 4.633e+04."""
    if value is None or value != value:
        return NOTHING
    rounded = float(f"{value:.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}")
    if rounded and abs(rounded) < 1e-4:
        return f"{rounded:g}"
    text = f"{rounded:,.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def decimals(width: float) -> int:
    """Digits after the point that show two of the digits of a width, so that its ends are told apart."""
    return min(max(1 - math.floor(math.log10(width)), 0), 6) if 1e-9 < width < float("inf") else 2


def together(*values: float) -> list[str]:
    """Numbers that stand side by side: decimals by what lies between the least and the greatest, 49.98 and 50.02."""
    width = max(values) - min(values)
    if width <= 1e-6 * max(map(abs, values)):
        return [number(value) for value in values]
    return [fixed(value, decimals(width)) for value in values]


def between(low: float, high: float, unit: str | None) -> str:
    """`49.98 to 50.02 Hz`, or `0 A` where both are one."""
    least, most = together(low, high)
    return f"{least} to {most} {unit or ''}".rstrip() if least != most else with_unit(low, unit)


def beyond(value: float | None, limit: float, unit: str | None) -> str:
    """A value beside a limit that it passes or comes near to: 51.02 Hz, where three digits would be the limit's own."""
    if value is None or value != value:
        return NOTHING
    text = together(limit, value)[1]
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {unit}" if unit else text


def sized(value: float | None, size: float | None, unit: str | None) -> str:
    """A figure of an error with the decimals that give the error three digits, so that both of a row have as many."""
    text = fixed(value, decimals(size or 0.0) + 1)
    return f"{text} {unit}" if unit and text != NOTHING else text


def fixed(value: float | None, digits: int = 2) -> str:
    """A figure of a column that is compared down: as many decimals in every row."""
    return NOTHING if value is None or value != value else f"{round(value, digits) + 0.0:,.{digits}f}"


def with_unit(value: float | None, unit: str | None, digits: int = 4) -> str:
    return f"{number(value, digits)} {unit}" if value is not None and unit else number(value, digits)


def share(value: float | None, digits: int = 0) -> str:
    """0.123 as 12 %; what is possible but rare is not said to be 0 %."""
    if value is None or value != value:
        return NOTHING
    return percent(value, digits)


def count(value: int | None, one: str = "", many: str = "") -> str:
    """`3 stations`, `1 station`; without words the number alone."""
    if value is None:
        return NOTHING
    return counted(value, one, many) if one else f"{value:,}"


def at(instant: datetime | None, zone: ZoneInfo | None = None, day: bool = True) -> str:
    """25 Nov 23:30; with the year where it is not the one that most readers are in."""
    if instant is None:
        return NOTHING
    local = instant.astimezone(zone or UTC)
    if not day:
        return f"{local:%H:%M}"
    year = "" if abs((datetime.now(UTC) - instant).days) < 200 else f" {local:%Y}"
    return f"{local.day} {local:%b}{year} {local:%H:%M}"


def iso(instant: datetime | None) -> str:
    return "" if instant is None else instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def age(passed: timedelta | None) -> str:
    """How long ago, in hours and days: coarse enough that a page stays the same for a while."""
    if passed is None:
        return NOTHING
    hours = passed.total_seconds() / 3600
    if hours < 1:
        return "less than 1 h"
    return f"{hours:.0f} h" if hours < 48 else f"{hours / 24:.0f} days"


def long(span: timedelta | None) -> str:
    if span is None:
        return NOTHING
    hours = span.total_seconds() / 3600
    return f"{span.total_seconds() / 60:.0f} min" if hours < 1 else f"{hours:.{0 if hours >= 10 else 1}f} h"


def forecaster(name: str) -> str:
    """A baseline or candidate as tables name it."""
    named = {
        "seasonal_naive_day": "same hour yesterday",
        "seasonal_naive_week": "same hour last week",
        "window_median": "median of the last day",
    }
    return named.get(name, name.replace("_", " "))


def drawable(text: str) -> str:
    """Text of others for a picture, where a dollar sign begins mathematics."""
    return printable(text, "").replace("$", "\\$")

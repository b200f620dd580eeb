"""What text in a column counts as a time: ISO 8601 and its relatives, dates by day or month first, epochs.

As in `cells`: Arrow's cast where a whole column is clean, then the two common forms, then every other one by its parts.
"""

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bts_assets.landing.cells import Cells, cast_or_none, matches, trimmed

# No date that matches can fail to exist, so the cast of what matches cannot fail either.
_LEAP_DAY: Final = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
_DATE: Final = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_DAY})"
)
_NAIVE: Final = rf"^{_DATE}[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,9}})?"
_ZONED: Final = _NAIVE + r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)$"
_SHORTEST_TIME: Final = len("2017-04-18 04:00:21")
_SHORTEST_EPOCH: Final = len("946684800")

#: Everything else that is a date and a time: year first, or day and month in either order.
_PARTS: Final = (
    r"^(?P<a>[0-9]{1,4})(?P<s>[-/.])(?P<b>[0-9]{1,2})(?P<t>[-/.])(?P<c>[0-9]{2,4})[ Tt]"
    r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-5][0-9])(?P<second>:[0-5][0-9])?(?:[.,](?P<fraction>[0-9]{1,9}))?"
    r"(?P<half> ?[AaPp][Mm])?(?P<zone> ?(?:[Zz]|[Uu][Tt][Cc]|[Gg][Mm][Tt]|[+-][0-9]{2}(?::?[0-9]{2})?))?$"
)
_EPOCH: Final = r"^(?P<whole>[0-9]{9,19})(?:\.(?P<fraction>[0-9]{1,9}))?$"

#: Epochs count from 1970; a number is of the unit in which it lies between 2000 and 2100, and there is only one.
_EPOCH_UNITS: Final = {"epoch s": 1, "epoch ms": 10**3, "epoch us": 10**6, "epoch ns": 10**9}
_EPOCH_FIRST: Final = 946_684_800
_EPOCH_LAST: Final = 4_102_444_800

#: Localising is kept to the times that may be accepted, and a day around them.
_WINDOW_MARGIN: Final = np.timedelta64(2, "D")
_MINUTE: Final = 60_000_000


@dataclass(frozen=True)
class Times(Cells):
    """Instants as int64 UTC microseconds. `unplaced`: naive, and the zone's clock shows it twice or never;
    `either`: the day could be the month; `forms`: which forms occur.
    """

    unplaced: np.ndarray
    either: np.ndarray
    forms: tuple[str, ...]


def times(
    texts: pa.StringArray, zone: ZoneInfo, first: np.datetime64, last: np.datetime64, dayfirst: bool | None = None
) -> Times:
    """Times with an offset, in `zone` without one, or epochs; `dayfirst`: what 03/04/2026 is.

    Those far outside of [first, last] keep that property and nothing else.
    """
    none = np.zeros(len(texts), bool)
    shortest = pc.min(pc.binary_length(texts)).as_py() or 0
    naive = cast_or_none(texts, pa.timestamp("us")) if shortest >= _SHORTEST_TIME else None
    if naive is not None:
        placed, unplaced = _localised(naive, zone, first, last)
        return Times(placed, none, unplaced, none, ("iso",))
    texts = trimmed(texts)
    is_naive, is_zoned = matches(texts, _NAIVE + "$"), matches(texts, _ZONED)
    values, unplaced, either = np.zeros(len(texts), "int64"), none.copy(), none.copy()
    values[is_naive], unplaced[is_naive] = _localised(_stamps(texts, is_naive), zone, first, last)
    values[is_zoned] = _stamps(texts, is_zoned, "UTC")
    forms = {name for name, found in (("iso", is_naive), ("iso with offset", is_zoned)) if found.any()}
    broken = ~(is_naive | is_zoned)
    # What is shorter than an epoch is not worth a look.
    rest = np.flatnonzero(broken & (pc.binary_length(texts).to_numpy(zero_copy_only=False) >= _SHORTEST_EPOCH))
    if len(rest):
        others = _others(texts.take(pa.array(rest)), zone, first, last, dayfirst)
        values[rest], broken[rest], unplaced[rest] = others.values, others.broken, others.unplaced
        either[rest] = others.either
        forms |= set(others.forms)
    return Times(values, broken, unplaced, either, tuple(sorted(forms)))


def _others(
    texts: pa.StringArray, zone: ZoneInfo, first: np.datetime64, last: np.datetime64, dayfirst: bool | None
) -> Times:
    epochs = _epochs(texts)
    dated = ~pc.is_null(pc.extract_regex(texts, _PARTS)).to_numpy(zero_copy_only=False)
    values, broken = epochs.values.copy(), epochs.broken & ~dated
    unplaced, either = np.zeros(len(texts), bool), np.zeros(len(texts), bool)
    forms = set(epochs.forms)
    rows = np.flatnonzero(dated)
    if len(rows):
        found = _by_parts(pc.extract_regex(texts.take(pa.array(rows)), _PARTS), zone, first, last, dayfirst)
        values[rows], broken[rows], unplaced[rows], either[rows] = (
            found.values,
            found.broken,
            found.unplaced,
            found.either,
        )
        forms |= set(found.forms)
    return Times(values, broken, unplaced, either, tuple(forms))


def _epochs(texts: pa.StringArray) -> Times:
    parts = pc.extract_regex(texts, _EPOCH)
    found = ~pc.is_null(parts).to_numpy(zero_copy_only=False)
    values, broken, none = np.zeros(len(texts), "int64"), np.ones(len(texts), bool), np.zeros(len(texts), bool)
    forms = []
    rows = np.flatnonzero(found)
    if len(rows):
        parts = parts.take(pa.array(rows))
        whole = pc.struct_field(parts, "whole").cast(pa.uint64()).to_numpy()
        nanoseconds = _nanoseconds(pc.struct_field(parts, "fraction"))
        has_fraction = pc.struct_field(parts, "fraction")
        has_fraction = (pc.binary_length(has_fraction).to_numpy(zero_copy_only=False)) > 0
        for name, per_second in _EPOCH_UNITS.items():
            of_unit = (whole >= _EPOCH_FIRST * per_second) & (whole < _EPOCH_LAST * per_second)
            of_unit &= ~has_fraction | (per_second <= 1000)
            if of_unit.any():
                seconds, part = np.divmod(whole[of_unit].astype("int64"), per_second)
                below = part * (10**9 // per_second) + nanoseconds[of_unit] // per_second
                values[rows[of_unit]] = seconds * 10**6 + below // 1000
                broken[rows[of_unit]] = False
                forms.append(name)
    return Times(values, broken, none, none, tuple(forms))


def _by_parts(
    parts: pa.StructArray, zone: ZoneInfo, first: np.datetime64, last: np.datetime64, dayfirst: bool | None
) -> Times:
    text = {name: pc.struct_field(parts, name) for name in ("a", "s", "b", "t", "c", "half", "zone", "second")}
    long = {name: pc.binary_length(text[name]).to_numpy(zero_copy_only=False) for name in text}
    a, b, c = (text[name].cast(pa.int64()).to_numpy() for name in "abc")
    same = pc.equal(text["s"], text["t"]).to_numpy(zero_copy_only=False)
    year_first = same & (long["a"] == 4) & (long["b"] == 2) & (long["c"] == 2)
    year_last = same & (long["a"] <= 2) & (long["c"] == 4)
    year, month, day = np.where(year_first, a, c), np.where(year_first, b, a), np.where(year_first, c, b)
    if dayfirst:
        month, day = np.where(year_first, b, b), np.where(year_first, c, a)
    either = year_last & (dayfirst is None)
    microseconds, right = _clock(parts, long)
    right &= _exists(year, month, day) & (year_first | year_last)
    wall = np.zeros(len(a), "int64")
    wall[right] = _midnight(year[right], month[right], day[right]) + microseconds[right]

    has_zone, offset, zone_right = _offsets(text["zone"])
    right &= zone_right
    values, unplaced = wall - offset, np.zeros(len(a), bool)
    naive = right & ~has_zone & ~either
    values[naive], unplaced[naive] = _localised(wall[naive], zone, first, last)
    forms = _forms(right & ~either, year_first, has_zone, long, dayfirst)
    return Times(values, ~right & ~either, unplaced, either, forms)


def _forms(
    right: np.ndarray, year_first: np.ndarray, has_zone: np.ndarray, long: dict[str, np.ndarray], dayfirst: bool | None
) -> tuple[str, ...]:
    order = "day first" if dayfirst else "month first"
    found = {
        "iso": right & year_first & ~has_zone,
        "iso with offset": right & year_first & has_zone,
        order: right & ~year_first,
        "without seconds": right & (long["second"] == 0),
        "12 hours": right & (long["half"] > 0),
    }
    return tuple(name for name, rows in found.items() if rows.any())


def _clock(parts: pa.StructArray, long: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The time of day in microseconds, and where there is such a time."""
    hour, minute = (pc.struct_field(parts, name).cast(pa.int64()).to_numpy() for name in ("hour", "minute"))
    seconds = pc.utf8_slice_codeunits(pc.struct_field(parts, "second"), 1, 3)
    second = pc.if_else(pc.equal(seconds, ""), "0", seconds).cast(pa.int64()).to_numpy()
    fraction = pc.struct_field(parts, "fraction")
    has_fraction = pc.binary_length(fraction).to_numpy(zero_copy_only=False) > 0
    half = long["half"] > 0
    after_noon = matches(pc.struct_field(parts, "half"), "[Pp]")
    within = second * 10**9 + _nanoseconds(fraction)
    is_end_of_day = (hour == 24) & (minute == 0) & (within == 0)  # ISO 8601 has it: the next day's midnight
    right = np.where(half, (hour >= 1) & (hour <= 12), (hour <= 23) | is_end_of_day)
    right &= ~(has_fraction & (long["second"] == 0))
    hour = np.where(half, hour % 12 + 12 * after_noon, hour)
    return (hour * 60 + minute) * _MINUTE + within // 1000, right


def _offsets(zones: pa.StringArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which cells name an offset, the offset in microseconds, and where there is such an offset (or none)."""
    has_zone = pc.binary_length(zones).to_numpy(zero_copy_only=False) > 0
    digits = pc.ascii_rpad(pc.replace_substring_regex(zones, "[^0-9]", ""), 4, "0").cast(pa.int64()).to_numpy()
    minutes = digits // 100 * 60 + digits % 100
    sign = np.where(matches(zones, "-"), -1, 1)
    return has_zone, sign * minutes * _MINUTE, (digits // 100 <= 23) & (digits % 100 <= 59)


def _exists(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    longest = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])[np.clip(month, 0, 12)]
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    longest = longest - ((month == 2) & ~leap)
    return (month >= 1) & (month <= 12) & (day >= 1) & (day <= longest)


def _midnight(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray:
    months = ((year - 1970) * 12 + month - 1).astype("M8[M]")
    return (months.astype("M8[D]") + (day - 1)).astype("M8[us]").view("int64")


def _nanoseconds(fractions: pa.StringArray) -> np.ndarray:
    return pc.ascii_rpad(fractions, 9, "0").cast(pa.int64()).to_numpy()


def _localised(
    naive: np.ndarray, zone: ZoneInfo, first: np.datetime64, last: np.datetime64
) -> tuple[np.ndarray, np.ndarray]:
    unplaced = np.zeros(len(naive), bool)
    if zone.key == "UTC":
        return naive, unplaced
    wall = naive.view("M8[us]")
    near = (wall >= first - _WINDOW_MARGIN) & (wall <= last + _WINDOW_MARGIN)
    placed = pd.DatetimeIndex(wall[near]).tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    instants = naive.copy()
    instants[near] = placed.as_unit("us").asi8
    unplaced[near] = placed.isna()
    return instants, unplaced


def _stamps(texts: pa.StringArray, mask: np.ndarray, zone: str | None = None) -> np.ndarray:
    chosen = texts.filter(pa.array(mask))
    # Arrow refuses digits beyond its unit.
    chosen = pc.replace_substring_regex(chosen, r"(\.[0-9]{6})[0-9]+", r"\1")
    return chosen.cast(pa.timestamp("us", zone)).cast(pa.int64()).to_numpy()

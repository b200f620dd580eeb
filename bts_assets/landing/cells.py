"""What text in a column counts as an integer, a number or a time, decided for whole columns at once.

Arrow's cast is the shortcut for columns that are clean; where it refuses, the plain cells are picked and cast, and the
few others are decided one by one. Which reason a broken cell leads to is for `files`.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

#: What may surround a cell: blanks, and the quotes of files that quote everything.
PADDING: Final = ' \t"'

_DIGITS: Final = b"0123456789"
_INTEGER: Final = re.compile(r"[+-]?0*([0-9]{1,19})")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# No date that matches can fail to exist, so the cast of what matches cannot fail either.
_LEAP_DAY: Final = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
_DATE: Final = (
    r"(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    rf"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_DAY})"
)
_NAIVE: Final = rf"^{_DATE}[ T](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,9}})?"
_OFFSET: Final = r"(?:Z|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)$"
_SHORTEST_TIME: Final = len("2017-04-18 04:00:21")

#: Localising is kept to the times that may be accepted, and a day around them.
_WINDOW_MARGIN: Final = np.timedelta64(2, "D")


@dataclass(frozen=True)
class Cells:
    """The values of a column (anything where `broken`), and masks over its rows."""

    values: np.ndarray
    broken: np.ndarray


def integers(texts: pa.StringArray, largest: int, *, empty: int | None = None) -> Cells:
    """Integers from 0 to `largest`; an empty cell is `empty` where that is given."""
    # Arrow reads 0x1F as a number; nobody's ids are written so.
    values = None if _holds(texts, b"xX") else _cast(texts, pa.int64())
    if values is not None:
        return Cells(values, (values < 0) | (values > largest))
    texts = pc.ascii_trim(texts, characters=PADDING)
    cells = _isolate(texts, pa.int64(), _DIGITS, "^[0-9]{1,18}$", _one_integer)
    broken = cells.broken | (cells.values < 0) | (cells.values > largest)
    if empty is not None:
        absent = pc.equal(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
        return Cells(np.where(absent, empty, cells.values), broken & ~absent)
    return Cells(cells.values, broken)


def numbers(texts: pa.StringArray) -> Cells:
    """Finite decimal numbers with a point, with or without an exponent."""
    values = _cast(texts, pa.float64())
    if values is None:
        texts = pc.ascii_trim(texts, characters=PADDING)
        cells = _isolate(texts, pa.float64(), _DIGITS + b".-", r"^-?[0-9]{1,30}(?:\.[0-9]{1,30})?$", _one_number)
        values = np.where(cells.broken, np.nan, cells.values)
    # Adding zero turns -0.0 into 0.0: equal values must have equal bits.
    return Cells(values + 0.0, ~np.isfinite(values))


@dataclass(frozen=True)
class Times(Cells):
    """Instants as int64 UTC microseconds; `unplaced`: naive, and the zone's clock shows it twice or never."""

    unplaced: np.ndarray


def times(texts: pa.StringArray, zone: ZoneInfo, first: np.datetime64, last: np.datetime64) -> Times:
    """ISO 8601 times to the second or finer (finer than 1 us is cut off), each naive in `zone` or with an offset.

    Times more than two days outside `first` to `last` (UTC) are read as if the zone were UTC: nobody accepts them.
    """
    shortest = pc.min(pc.binary_length(texts)).as_py() or 0
    naive = _cast(texts, pa.timestamp("us")) if shortest >= _SHORTEST_TIME else None
    if naive is not None:
        return Times(*_localised(naive, zone, first, last))
    texts = pc.ascii_trim(texts, characters=PADDING)
    is_naive, is_zoned = _matches(texts, _NAIVE + "$"), _matches(texts, _NAIVE + _OFFSET)
    values = np.zeros(len(texts), "int64")
    unplaced = np.zeros(len(texts), bool)
    values[is_naive], _, unplaced[is_naive] = _localised(_stamps(texts, is_naive, "us"), zone, first, last)
    values[is_zoned] = _stamps(texts, is_zoned, "us", "UTC")
    return Times(values, ~(is_naive | is_zoned), unplaced)


def _localised(naive: np.ndarray, zone: ZoneInfo, first: np.datetime64, last: np.datetime64) -> tuple[np.ndarray, ...]:
    none = np.zeros(len(naive), bool)
    if zone.key == "UTC":
        return naive, none, none
    wall = naive.view("M8[us]")
    near = (wall >= first - _WINDOW_MARGIN) & (wall <= last + _WINDOW_MARGIN)
    placed = pd.DatetimeIndex(wall[near]).tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    instants, unplaced = naive.copy(), none.copy()
    instants[near] = placed.as_unit("us").asi8
    unplaced[near] = placed.isna()
    return instants, none, unplaced


def _stamps(texts: pa.StringArray, mask: np.ndarray, unit: str, zone: str | None = None) -> np.ndarray:
    chosen = texts.filter(pa.array(mask))
    # Arrow refuses digits beyond its unit.
    chosen = pc.replace_substring_regex(chosen, r"(\.[0-9]{6})[0-9]+", r"\1")
    return chosen.cast(pa.timestamp(unit, zone)).cast(pa.int64()).to_numpy()


def _cast(texts: pa.StringArray, kind: pa.DataType) -> np.ndarray | None:
    try:
        cast = texts.cast(kind)
    except pa.ArrowInvalid:
        return None
    return (cast.cast(pa.int64()) if pa.types.is_timestamp(kind) else cast).to_numpy()


def _holds(texts: pa.StringArray, letters: bytes) -> bool:
    characters = texts.buffers()[2]
    found = np.frombuffer(characters, "uint8") if characters is not None and characters.size else np.empty(0, "uint8")
    return any((found == letter).any() for letter in letters)


def _matches(texts: pa.StringArray, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)


def _isolate(
    texts: pa.StringArray, kind: pa.DataType, letters: bytes, plain: str, one: Callable[[str], float | int | None]
) -> Cells:
    """Cast the cells made of `letters` alone, or if that fails those that match `plain`; ask `one` about the rest."""
    empty = pc.equal(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    is_plain = ~(empty | _with_others(texts, letters))
    cast = _cast(texts.filter(pa.array(is_plain)), kind)
    if cast is None:
        is_plain = _matches(texts, plain)
        cast = texts.filter(pa.array(is_plain)).cast(kind).to_numpy()
    values = np.zeros(len(texts), kind.to_pandas_dtype())
    values[is_plain] = cast
    broken = empty.copy()
    for row in np.flatnonzero(~(is_plain | empty)):
        value = one(texts[int(row)].as_py())
        if value is None:
            broken[row] = True
        else:
            values[row] = value
    return Cells(values, broken)


def _with_others(texts: pa.StringArray, letters: bytes) -> np.ndarray:
    """Which cells hold a byte that is none of `letters`: several times as fast as a regular expression."""
    other = np.ones(256, bool)
    other[list(letters)] = False
    found = np.zeros(len(texts), bool)
    ends = np.frombuffer(texts.buffers()[1], "int32")[texts.offset : texts.offset + len(texts) + 1]
    if ends[-1] > ends[0]:
        where = np.flatnonzero(other[np.frombuffer(texts.buffers()[2], "uint8")[ends[0] : ends[-1]]]) + ends[0]
        found[np.searchsorted(ends, where, side="right") - 1] = True
    return found


def _one_integer(text: str) -> int | None:
    match = _INTEGER.fullmatch(text)
    if not match or int(match[1]) >= 1 << 63:
        return None
    return -int(match[1]) if text.startswith("-") else int(match[1])


def _one_number(text: str) -> float | None:
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None

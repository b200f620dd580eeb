"""Which readings of several landing files say the same thing again, decided by content alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.landing.columns import NO_ID, ReadingColumns, concatenated

_DAY: Final = 86_400_000_000
#: A table of counts may be this many times as long as the keys it counts.
_TABLE_LIMIT: Final = 8
# Odd constants of splitmix64: any would do, a collision only costs a second look.
_MIXERS: Final = tuple(
    np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], "uint64")
)


@dataclass(frozen=True)
class Resolved:
    """The readings that stand, file by file, and how many did not: repeated, or contradicted under their own id."""

    parts: list[ReadingColumns]
    duplicates: int
    conflicts: int


def resolve_duplicates(parts: Sequence[ReadingColumns]) -> Resolved:
    """Resolve within series and UTC day; which file a reading came from plays no part.

    Equal (id, time, value) collapse, as do identical rows without ids. Of one id with different content, the
    greatest time stays, then the greatest value.
    """
    suspects = _suspects(parts)
    if not any(len(rows) for rows in suspects):
        return Resolved(list(parts), 0, 0)
    rows = concatenated([part.take(of_part) for part, of_part in zip(parts, suspects, strict=True)])
    order = np.lexsort((rows.value, rows.time, rows.reading_id, rows.parameter_id, rows.station_id))
    ordered = rows.take(order)
    same_id = _equal_to_next(ordered.station_id, ordered.parameter_id, ordered.time // _DAY, ordered.reading_id)
    repeated = same_id & _equal_to_next(ordered.time, ordered.value)
    contradicted = same_id & ~repeated & (ordered.reading_id != NO_ID)
    dropped = np.zeros(len(rows), bool)
    dropped[order] = repeated | contradicted
    kept, position = [], 0
    for part, of_part in zip(parts, suspects, strict=True):
        gone = of_part[dropped[position : position + len(of_part)]]
        position += len(of_part)
        kept.append(part.take(np.delete(np.arange(len(part)), gone)) if len(gone) else part)
    return Resolved(kept, int(repeated.sum()), int(contradicted.sum()))


def _suspects(parts: Sequence[ReadingColumns]) -> list[np.ndarray]:
    """The few rows of each part that could be repeated or contradicted; the others need no sorting."""
    has_id = [part.reading_id != NO_ID for part in parts]
    with_id = _occurring_twice(
        [p.reading_id if h.all() else p.reading_id[h] for p, h in zip(parts, has_id, strict=True)]
    )
    without = _occurring_twice([_content(p.take(~h)) for p, h in zip(parts, has_id, strict=True)])
    return [
        np.concatenate([np.flatnonzero(h)[i], np.flatnonzero(~h)[j]])
        for h, i, j in zip(has_id, with_id, without, strict=True)
    ]


def _occurring_twice(keys: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Per array, the positions of the keys that occur more than once over all arrays."""
    filled = [k for k in keys if len(k)]
    total = sum(map(len, filled))
    if not total:
        return [np.empty(0, "int64")] * len(keys)
    low, high = min(int(k.min()) for k in filled), max(int(k.max()) for k in filled)
    if high - low < _TABLE_LIMIT * total:
        counts = np.zeros(high - low + 1, "int32")
        for k in filled:
            offset = int(k.min())
            of_part = np.bincount(k - offset)
            counts[offset - low : offset - low + len(of_part)] += of_part
        if counts.max() == 1:
            return [np.empty(0, "int64")] * len(keys)
        return [np.flatnonzero(counts[k - low] > 1) for k in keys]
    twice = pd.Series(np.concatenate(keys)).duplicated(keep=False).to_numpy()
    return [np.flatnonzero(mask) for mask in np.split(twice, np.cumsum([len(k) for k in keys])[:-1])]


def _content(rows: ReadingColumns) -> np.ndarray:
    """A 63-bit mark of each row's content without its id; equal rows have equal marks."""
    mark = np.zeros(len(rows), "uint64")
    for column, mixer in zip((rows.station_id, rows.parameter_id, rows.time, rows.value), _MIXERS, strict=True):
        bits = column.view("uint64") if column.itemsize == 8 else column.astype("uint64")
        mark = (mark ^ bits) * mixer
        mark ^= mark >> np.uint64(31)
    return (mark >> np.uint64(1)).astype("int64")


def _equal_to_next(*columns: np.ndarray) -> np.ndarray:
    equal = np.zeros(len(columns[0]), bool)
    equal[:-1] = np.logical_and.reduce([c[1:] == c[:-1] for c in columns])
    return equal

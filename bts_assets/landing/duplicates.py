"""Which readings of several landing files say the same thing again, and which a newer file corrects."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import pandas as pd

from bts_assets.landing.reading_arrays import NO_ID, ReadingArrays, concatenated
from bts_assets.landing.reading_ids import DAY, Candidates, unnamed_readings

#: What ids are: what they turn out to be (auto), the key of a reading whatever they look like, or nothing (ignore).
ReadingIds = Literal["auto", "key", "ignore"]

#: A table of counts may be this many times as long as the keys it counts.
_TABLE_LIMIT: Final = 8
# Odd constants of splitmix64: any would do, a collision only costs a second look.
_MIXERS: Final = tuple(
    np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], "uint64")
)

#: Of some readings station_id, and time in microseconds.
_When = tuple[np.ndarray, np.ndarray]

#: What can become of a reading; see `Resolved`.
MERGED: Final = ("repeated", "corrected", "contradicted", "ids_ignored")


@dataclass(frozen=True)
class Resolved:
    """The readings that stand, file by file, and what became of the others.

    merged: how many, by station_id and UTC day (int64, days since 1970; those that have any): repeated (the same
    content is kept once), corrected (a newer file gives other content under the id), contradicted (the same file does),
    ids_ignored (readings that stand, but whose id was found to name nothing).
    """

    parts: list[ReadingArrays]
    merged: pd.DataFrame


def resolve_duplicates(
    parts: Sequence[ReadingArrays], entries: Sequence[int] | None = None, reading_ids: ReadingIds = "auto"
) -> Resolved:
    """Resolve within series and UTC day. Equal (id, time, value) collapse, as do equal (time, value) without ids.

    Where ids name readings, one id is one reading: the content of the newest file stands, and of several in one file
    that of the greatest time, then the greatest value. Where they name nothing they are left aside.

    Args:
        entries: the ledger's number of each part, greater for what came later; by default all came at once.
    """
    if not parts:
        return Resolved([], _by_station_and_day([]))
    entry = np.zeros(len(parts), "int64") if entries is None else np.asarray(entries, "int64")
    ignored = [part.reading_id != NO_ID if reading_ids == "ignore" else np.zeros(len(part), bool) for part in parts]
    kept = [_without_ids(part, mask) for part, mask in zip(parts, ignored, strict=True)]
    candidates = Candidates.of(kept, _with_repeated_id(kept))
    if reading_ids == "auto":
        ignored = unnamed_readings(kept, candidates)
    stations, times = (np.concatenate(columns) for columns in zip(*map(_when, parts, ignored), strict=True))
    counted = [("ids_ignored", stations, times)]
    dropped = _merge_by_id(candidates, ignored, entry)
    counted += [(name, *_when(candidates.rows, rows)) for name, rows in dropped.items()]
    gone = np.logical_or.reduce(list(dropped.values()))
    kept = [
        _without(_without_ids(part, mask), candidates.position[own[gone[own]]])
        for part, mask, own in zip(kept, ignored, candidates.by_part(len(kept)), strict=True)
    ]
    kept, repeated = _merge_without_ids(kept)
    return Resolved(kept, _by_station_and_day([*counted, ("repeated", *repeated)]))


def _merge_by_id(c: Candidates, ignored: Sequence[np.ndarray], entry: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of the candidates that do not stand, by what became of them."""
    newest = entry[c.part]
    repeated = ~_last_of(c.content, newest)
    named = ~repeated
    for mask, own in zip(ignored, c.by_part(len(ignored)), strict=True):
        named[own] &= ~mask[c.position[own]]
    rows = np.flatnonzero(named)
    # Within a group the order is by time and value: of equally new ones the greatest is the last.
    stands = _last_of(c.group[rows], newest[rows])
    latest = np.zeros(int(c.group[-1]) + 1 if len(c.group) else 0, "int64")
    latest[c.group[rows[stands]]] = newest[rows[stands]]
    lost = rows[~stands]
    older = newest[lost] < latest[c.group[lost]]
    corrected, contradicted = np.zeros(len(named), bool), np.zeros(len(named), bool)
    corrected[lost[older]], contradicted[lost[~older]] = True, True
    return {"repeated": repeated, "corrected": corrected, "contradicted": contradicted}


def _last_of(group: np.ndarray, newest: np.ndarray) -> np.ndarray:
    """Which rows are the last of the newest of their group; groups are ascending."""
    order = np.lexsort((np.arange(len(group)), newest, group))
    last = np.ones(len(group), bool)
    last[order[:-1]] = group[order[1:]] != group[order[:-1]] if len(group) else last[:0]
    return last


def _merge_without_ids(parts: list[ReadingArrays]) -> tuple[list[ReadingArrays], _When]:
    """The parts with equal rows without ids kept once, and of those that are not when and where they are of."""
    without = [np.flatnonzero(part.reading_id == NO_ID) for part in parts]
    twice = _occurring_twice([_content(part.take(rows)) for part, rows in zip(parts, without, strict=True)])
    suspects = [rows[positions] for rows, positions in zip(without, twice, strict=True)]
    if not any(map(len, suspects)):
        return parts, (np.empty(0, "int64"), np.empty(0, "int64"))
    rows = concatenated([part.take(of_part) for part, of_part in zip(parts, suspects, strict=True)])
    order = np.lexsort((rows.value, rows.time, rows.parameter_id, rows.station_id))
    ordered = rows.take(order)
    repeated = np.zeros(len(rows), bool)
    repeated[order] = _equal_to_next(ordered.station_id, ordered.parameter_id, ordered.time, ordered.value)
    of_part = np.split(repeated, np.cumsum([len(s) for s in suspects])[:-1])
    kept = [_without(part, of[gone]) for part, of, gone in zip(parts, suspects, of_part, strict=True)]
    return kept, _when(rows, repeated)


def _when(rows: ReadingArrays, mask: np.ndarray) -> _When:
    return rows.station_id[mask], rows.time[mask]


def _by_station_and_day(counted: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """How many there are of each name, of which the stations and the times are given."""
    by = [
        pd.DataFrame({"station_id": stations, "day": times // DAY}).value_counts().rename(name)
        for name, stations, times in counted
    ]
    keys = np.array(sorted({key for own in by for key in own.index}), "int64").reshape(-1, 2)
    index = pd.MultiIndex.from_arrays(keys.T, names=["station_id", "day"])
    table = pd.DataFrame(0, index=index, columns=list(MERGED))
    for own in by:
        table.loc[own.index, own.name] += own
    return table


def _without_ids(part: ReadingArrays, rows: np.ndarray) -> ReadingArrays:
    return replace(part, reading_id=np.where(rows, NO_ID, part.reading_id)) if rows.any() else part


def _without(part: ReadingArrays, positions: np.ndarray) -> ReadingArrays:
    return part.take(np.delete(np.arange(len(part)), positions)) if len(positions) else part


def _with_repeated_id(parts: Sequence[ReadingArrays]) -> list[np.ndarray]:
    """The positions of each part whose id occurs more than once over all of them."""
    with_id = [part.reading_id != NO_ID for part in parts]
    twice = _occurring_twice(
        [p.reading_id if h.all() else p.reading_id[h] for p, h in zip(parts, with_id, strict=True)]
    )
    return [np.flatnonzero(h)[positions] for h, positions in zip(with_id, twice, strict=True)]


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


def _content(rows: ReadingArrays) -> np.ndarray:
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

"""Whether ids name readings: per file, station and UTC day, by what the files say under the same id. It merges nothing.

In the field an id is a reading's number in its source, a row number that begins anew in each file, the sensor's number,
or 0. Only the first may be used to replace one reading by another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.landing.reading_arrays import NO_ID, ReadingArrays, concatenated

DAY: Final = 86_400_000_000

#: The share of a file's readings of a station and day that may speak against its ids before all of them are ignored;
#: applied in this order.
_TOLERATED: Final = (0.5, 0.01)
#: So many ids that stay at their time, for each that moved, show that moving is the exception.
_STEADY_PER_MOVED: Final = 3


@dataclass(frozen=True)
class Candidates:
    """Readings of several files that share series, UTC day and id with others, in order of these, time and value.

    part, position: where each came from; group: dense number of its (series, day, id); moment: of its (group, time);
    content: of its (moment, value).
    """

    rows: ReadingArrays
    part: np.ndarray
    position: np.ndarray
    group: np.ndarray
    moment: np.ndarray
    content: np.ndarray

    @staticmethod
    def of(parts: Sequence[ReadingArrays], suspects: Sequence[np.ndarray]) -> "Candidates":
        """`suspects` are positions of each part; every row of an id that occurs twice must be among them."""
        rows = concatenated([p.take(of_part) for p, of_part in zip(parts, suspects, strict=True)])
        part = np.repeat(np.arange(len(parts)), [len(s) for s in suspects])
        position = np.concatenate([*suspects, np.empty(0, "int64")]).astype("int64")
        key = _dense(_series_days(rows), rows.reading_id)
        shared = np.flatnonzero(np.bincount(key, minlength=1)[key] > 1)
        order = shared[np.lexsort((rows.value[shared], rows.time[shared], key[shared]))]
        return Candidates._numbered(rows.take(order), part[order], position[order], key[order])

    def by_part(self, parts: int) -> list[np.ndarray]:
        """The rows of each part: asked of part by part, many small ones would cost their number squared."""
        order = np.argsort(self.part, kind="stable")
        return np.split(order, np.searchsorted(self.part[order], np.arange(1, parts)))

    def among(self, kept: np.ndarray) -> "Candidates":
        """Those that a mask has."""
        return Candidates._numbered(self.rows.take(kept), self.part[kept], self.position[kept], self.group[kept])

    def conflicting(self) -> "Candidates":
        """Those whose id has more than one content."""
        return self.among(_distinct_per(self.group, self.content)[self.group] > 1)

    @staticmethod
    def _numbered(rows: ReadingArrays, part: np.ndarray, position: np.ndarray, key: np.ndarray) -> "Candidates":
        group = _numbered(key)
        moment = _numbered(group, rows.time)
        return Candidates(rows, part, position, group, moment, _numbered(moment, rows.value))


def unnamed_readings(parts: Sequence[ReadingArrays], candidates: Candidates) -> list[np.ndarray]:
    """Per part, a mask of the readings whose ids name nothing.

    A reading speaks against the ids of its file if the same id stands in its series and day at another time, or for
    another value in the same file; it speaks for them if another file gives another value for the same id and time,
    which is what a correction looks like. A time that moved counts as corrected too, where it is the exception in its
    series and no other reading lies between both times. The ids of a file name no readings of a station and day where
    more speak against them than for them, and more than a hundredth of all. Files that are wrong by half are found
    first, so that they do not speak against the others.
    """
    masks = [part.reading_id == NO_ID for part in parts]
    candidates = candidates.conflicting()
    for tolerated in _TOLERATED:
        against, supporting = _judged(parts, masks, candidates)
        if not against.any():
            break
        by_part = candidates.by_part(len(parts))
        for number in np.unique(candidates.part[against]):
            mine = by_part[number]
            code = _station_days(parts[number])
            own, size = code[candidates.position[mine]], int(code.max()) + 1
            speak_against, speak_for, readings = (
                np.bincount(k, minlength=size)
                for k in (own[against[mine]], own[supporting[mine]], code[~masks[number]])
            )
            masks[number] |= (speak_against > np.maximum(speak_for, tolerated * readings))[code]
        unnamed = np.zeros(len(candidates.part), bool)
        for mask, mine in zip(masks, by_part, strict=True):
            unnamed[mine] = mask[candidates.position[mine]]
        candidates = candidates.among(~unnamed).conflicting()
    return [mask & (part.reading_id != NO_ID) for mask, part in zip(masks, parts, strict=True)]


def _judged(
    parts: Sequence[ReadingArrays], unnamed: Sequence[np.ndarray], c: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Which candidates speak against ids, and which for them."""
    moments = _distinct_per(c.group, c.moment)
    within = _differs_within(c.part, c.group, c.content)
    elsewhere = _differs_within(np.zeros_like(c.part), c.moment, c.content) & ~within
    several = moments[c.group] > 1
    corrected = np.zeros(len(c.part), bool)
    two = (moments[c.group] == 2) & ~within
    if two.any():
        every = concatenated([part.take(~mask) for part, mask in zip(parts, unnamed, strict=True)])
        corrected = two & _exceptional(every, c, moments, two)
    against = (several & ~corrected) | within
    return against, (elsewhere | corrected) & ~against


def _exceptional(every: ReadingArrays, c: Candidates, moments: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Which candidates belong to an id at two times with no other reading of the series between them, in a series and
    day most of whose ids stay at their time; `every` is all readings whose ids count.
    """
    every = every.take(np.isin(every.station_id, np.unique(c.rows.station_id[two])))
    both = concatenated([every, c.rows])  # so that series and days have the same numbers on both sides
    code = _series_days(both)
    own, size = code[len(every) :], int(code.max()) + 1
    first = np.unique(c.group, return_index=True)[1]
    ids = np.bincount(code[: len(every)][_first_of_each(code[: len(every)], every.reading_id)], minlength=size)
    several = np.bincount(own[first][moments > 1], minlength=size)
    steady = ids - several >= _STEADY_PER_MOVED * several
    times = _ascending(code * DAY + both.time % DAY)
    at = np.searchsorted(times, own * DAY + c.rows.time % DAY)
    low, high = np.full(len(moments), len(times)), np.zeros(len(moments), "int64")
    np.minimum.at(low, c.group, at)
    np.maximum.at(high, c.group, at)
    return steady[own] & (high - low == 1)[c.group]


def _series_days(rows: ReadingArrays) -> np.ndarray:
    return _dense(_dense(rows.station_id, rows.parameter_id), rows.time // DAY)


def _station_days(rows: ReadingArrays) -> np.ndarray:
    return _dense(rows.station_id, rows.time // DAY)


def _dense(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """A number from 0 per pair."""
    one = pd.factorize(first)[0]
    other, others = pd.factorize(second)
    return np.asarray(pd.factorize(one * max(len(others), 1) + other)[0], "int64")


def _first_of_each(code: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Positions of the first row of each pair."""
    return np.flatnonzero(~pd.Series(_dense(code, identity)).duplicated().to_numpy())


def _distinct_per(group: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """The number of distinct inner numbers in each group; both arrays ascend."""
    first = np.unique(inner, return_index=True)[1]
    return np.bincount(group[first], minlength=int(group[-1]) + 1 if len(group) else 0)


def _differs_within(part: np.ndarray, group: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Which rows share part and group with a row of other content."""
    order = np.lexsort((content, group, part))
    p, g, own = part[order], group[order], content[order]
    starts = np.flatnonzero(np.append(True, (p[1:] != p[:-1]) | (g[1:] != g[:-1]))) if len(p) else np.empty(0, int)
    if not len(starts):
        return np.zeros(0, bool)
    lengths = np.diff(starts, append=len(p))
    differs = np.zeros(len(part), bool)
    differs[order] = np.repeat(own[starts] != own[starts + lengths - 1], lengths)
    return differs


def _ascending(numbers: np.ndarray) -> np.ndarray:
    """Distinct numbers in order: as np.unique, whose hashing takes many times as long where most are distinct."""
    ordered = np.sort(numbers)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]


def _numbered(*columns: np.ndarray) -> np.ndarray:
    """Rows in order, numbered by the runs of equal columns."""
    if not len(columns[0]):
        return np.empty(0, "int64")
    changes = np.logical_or.reduce([c[1:] != c[:-1] for c in columns])
    return np.concatenate([[0], np.cumsum(changes)])

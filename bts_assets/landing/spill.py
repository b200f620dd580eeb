"""The accepted readings of one landing file, sorted in memory as far as they fit, and beyond that by way of runs.

A run is so many readings, sorted, in a temporary file. At the end the runs are merged range by range: of each range of
the canonical order the slices of all runs, which fit into memory again. What comes out is what sorting all readings
together gives, row by row.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from bts_assets.landing.reading_arrays import (
    NO_READINGS,
    Facts,
    ReadingArrays,
    SortedReadings,
    canonical_order,
    columns_of,
    concatenated,
    repeats_previous,
)
from bts_assets.landing.scratch import Scratch, mapped

#: Where more than one row in so many is rejected, they are dropped block by block, to hold no more than is needed.
_FEW: Final = 8
#: Samples of each run, for each run: more of them fill ranges better, and cost looking for them.
_SAMPLES: Final = 4
_NO_REASONS: Final = np.empty(0, "uint8")


class Spill:
    """Readings in a temporary file, in the parts in which they were added. Where each part begins after the one before
    it ends, they are `SortedReadings`.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._file = scratch.file()
        self._lengths: list[int] = []
        self._facts = Facts()

    def add(self, readings: ReadingArrays) -> None:
        for column in columns_of(readings):
            self._file.write(np.ascontiguousarray(column).data)
            self._file.write(bytes(-column.nbytes % _ALIGNED))
        self._lengths.append(len(readings))

    def __len__(self) -> int:
        return sum(self._lengths)

    def parts(self) -> Iterator[ReadingArrays]:
        """Arrays that are read from the file where they are looked at; nothing is to be added after this."""
        if not len(self):
            return
        data, start = mapped(self._file), 0
        for length in self._lengths:
            columns = []
            for empty in columns_of(NO_READINGS):
                columns.append(np.frombuffer(data, empty.dtype, length, start))
                start += columns[-1].nbytes + -columns[-1].nbytes % _ALIGNED
            yield ReadingArrays(*columns)

    def facts(self) -> Facts:
        return Facts.of_all(part.facts().distinct() for part in self.parts())


#: Each column begins at a multiple of so many bytes.
_ALIGNED: Final = 8


class Gathering:
    """Takes the readings of a file table by table; `duplicates`: those that were found to repeat another."""

    def __init__(self, scratch: Scratch | None) -> None:
        self.duplicates = 0
        self._scratch = scratch
        self._runs: Spill | None = None
        self._clear()

    def _clear(self) -> None:
        self._parts, self._reasons, self._held = [NO_READINGS], [_NO_REASONS], 0

    def add(self, readings: ReadingArrays, reason: np.ndarray) -> None:
        """Rows, and the number of the reason of each that is rejected; of others 0."""
        if np.count_nonzero(reason) > len(reason) // _FEW:
            readings, reason = readings.take(reason == 0), reason[reason == 0]
        self._parts.append(readings)
        self._reasons.append(reason)
        self._held += len(readings)
        if self._scratch and self._held > self._scratch.rows:
            self._runs = self._runs or Spill(self._scratch)
            self._runs.add(self._sorted_run())

    def readings(self) -> SortedReadings:
        """All that were added. Nothing is to be added after this."""
        last = self._sorted_run()
        if self._runs is None or self._scratch is None:
            return last
        self._runs.add(last)
        result = Spill(self._scratch)
        for slices in ranges(list(self._runs.parts()), self._scratch.rows):
            result.add(self._unique(concatenated(slices), None))
        return result

    def _sorted_run(self) -> ReadingArrays:
        parts, reasons = self._parts, self._reasons
        readings, reason = (
            (concatenated(parts), np.concatenate(reasons)) if len(parts) > 2 else (parts[-1], reasons[-1])
        )
        del parts, reasons
        self._clear()
        return self._unique(readings, reason if reason.any() else None)

    def _unique(self, readings: ReadingArrays, reason: np.ndarray | None) -> ReadingArrays:
        """In canonical order, without those that are rejected or repeat another."""
        order = canonical_order(readings)
        accepted = readings.take(order if reason is None else order[reason[order] == 0])
        repeated = repeats_previous(accepted)
        found = int(repeated.sum())
        self.duplicates += found
        return accepted.take(~repeated) if found else accepted


def ranges(runs: Sequence[ReadingArrays], rows: int) -> Iterator[list[ReadingArrays]]:
    """Sorted runs cut at the same places of the canonical order: of each range the slices of all runs, together at most
    `rows`, or as many as runs, where those are more. Within a run no reading may repeat another.
    """
    # Between neighbouring samples of a run lie fewer rows than `spacing`; so a range of some samples of all runs has
    # their number times spacing, and up to a spacing of each run that begins before it.
    spacing = max(rows // (_SAMPLES * len(runs)), 1)
    samples = concatenated([run.take(slice(spacing - 1, None, spacing)) for run in runs])
    samples = samples.take(canonical_order(samples))
    every = max(rows // spacing - len(runs), 1)
    edges = samples.take(slice(every, None, every))
    keys = list(zip(*(column for column in _by_rank(edges)), strict=True))
    places = [[0, *(_before(run, key) for key in keys), len(run)] for run in runs]
    for spans in zip(*(pairwise(own) for own in places), strict=True):
        yield [run.take(slice(*span)) for run, span in zip(runs, spans, strict=True)]


def _before(run: ReadingArrays, key: tuple[np.generic, ...]) -> int:
    """How many readings of a sorted run come before a key."""
    first, end = 0, len(run)
    for column, wanted in zip(_by_rank(run), key, strict=True):
        within = column[first:end]
        first, end = (first + int(np.searchsorted(within, wanted, side)) for side in ("left", "right"))
    return first


def _by_rank(readings: ReadingArrays) -> tuple[np.ndarray, ...]:
    """The columns, the one that decides the canonical order first."""
    r = readings
    return r.station_id, r.parameter_id, r.time, r.reading_id, r.value

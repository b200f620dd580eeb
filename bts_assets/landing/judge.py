"""Which rows of a landing file are readings, and why the others are not: cell by cell, by the file's one dialect."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.landing import cells
from bts_assets.landing.dialect import Dialect, LandingRules
from bts_assets.landing.names import NamedKind, NumberOf, is_name, unquoted
from bts_assets.landing.reading_arrays import NO_ID, ReadingArrays
from bts_assets.landing.reasons import Reason
from bts_assets.landing.table import Table
from bts_assets.landing.times import times

#: Earlier readings are clocks that lost their battery, not history.
EARLIEST: Final = np.datetime64("2000-01-01T00:00:00", "us")
#: More distinct names than a network could have are not names.
_MOST_NAMES: Final = 50_000

_INT64: Final = (1 << 63) - 1
_INT32: Final = (1 << 31) - 1


class Judge:
    """Judges table after table of one file. What the header left open of its dialect the first table decides; unless
    `decided` says that nothing is left open: then no row has a say in how another is read.
    """

    def __init__(
        self,
        dialect: Dialect,
        rules: LandingRules,
        zone: ZoneInfo,
        catalogue: Catalogue,
        latest: np.datetime64,
        number_of: NumberOf | None,
        *,
        decided: bool = False,
    ) -> None:
        self.dialect = dialect
        #: The forms of time in the last table, and which of its rows have a time.
        self.forms: tuple[str, ...] = ()
        self.has_time = np.empty(0, bool)
        self._rules, self._zone, self._latest = rules, zone, latest
        self._catalogue, self._number_of = catalogue, number_of
        self._decided, self._unclear_commas = decided, False

    def __call__(self, table: Table) -> tuple[ReadingArrays, np.ndarray]:
        """Every row's values, and the number of its reason, or 0 where it is accepted."""
        columns = table.columns
        station = self._keys("station", columns["station_id"], _INT64)
        parameter = self._keys("parameter", columns["parameter_id"], _INT32)
        value, unclear = self._values(columns["value"])
        time = times(columns["reading_time"], self._zone, EARLIEST, self._latest, self._rules.dayfirst)
        self.forms, self.has_time = time.forms, ~(time.broken | time.either)
        if not self._decided:
            self.dialect = replace(self.dialect, times=time.forms, quoted=table.block.quoted)
            self._decided = len(value.values) > 0
        reason = np.zeros(len(value.values), "uint8")

        def reject(rows: np.ndarray, why: Reason) -> None:
            reason[rows & (reason == 0)] = why.number

        reject(station.broken, Reason.STATION)
        reject(parameter.broken, Reason.PARAMETER)
        reject(unclear, Reason.DECIMAL)
        reject(value.broken, Reason.VALUE)
        is_sentinel, is_outside = _against_catalogue(parameter.values, value.values, self._catalogue)
        reject(is_sentinel, Reason.SENTINEL)
        reject(is_outside, Reason.RANGE)
        reject(time.broken, Reason.TIME)
        reject(time.either, Reason.DAY_ORDER)
        reject(time.unplaced, Reason.UNPLACED)
        reject(time.values > self._latest.astype("int64"), Reason.FUTURE)
        reject(time.values < EARLIEST.astype("int64"), Reason.ANCIENT)
        ids = _identities(columns, len(reason))
        return ReadingArrays(ids, station.values, parameter.values.astype("int32"), time.values, value.values), reason

    def _values(self, texts: pa.StringArray) -> tuple[cells.Cells, np.ndarray]:
        """The numbers, and the cells whose comma could be either mark."""
        none = np.zeros(len(texts), bool)
        if self._rules.decimal:
            self.dialect = replace(self.dialect, decimal=self._rules.decimal)
            return cells.numbers(texts, self._rules.decimal, grouped=True), none
        value = cells.numbers(texts, self.dialect.decimal)
        if (self._decided and not self._unclear_commas) or not value.broken.any() or not cells.holds(texts, b","):
            return value, none
        mark, with_comma = cells.decimal_marks(texts, ~value.broken)
        if not self._decided and mark == "comma":
            self.dialect = replace(self.dialect, decimal="comma")
            return cells.numbers(texts, "comma"), none
        self._unclear_commas = self._unclear_commas or mark == "either"
        return value, with_comma if self._unclear_commas else none

    def _keys(self, kind: NamedKind, texts: pa.StringArray, largest: int) -> cells.Cells:
        """Ids; and, in a file that writes names, the numbers of names."""
        ids = cells.integers(texts, largest)
        named = getattr(self.dialect, f"{kind}s") == "names"
        if self._number_of is None or not ids.broken.any() or (self._decided and not named):
            return ids
        rows = np.flatnonzero(ids.broken)
        found = texts.take(pa.array(rows)).dictionary_encode()
        names = [unquoted(text) for text in found.dictionary.to_pylist()]
        usable = np.array([is_name(name) for name in names])[found.indices.to_numpy()]
        if not named and (2 * usable.sum() <= len(texts) or len(names) > _MOST_NAMES):
            return ids
        changed: dict[str, Any] = {f"{kind}s": "names"}
        self.dialect = replace(self.dialect, **changed)
        numbers = self._number_of(kind, sorted({name for name in names if is_name(name)}))
        return _with_numbers(ids, rows[usable], np.array([numbers.get(n, 0) for n in names])[found.indices][usable])


def _with_numbers(ids: cells.Cells, rows: np.ndarray, numbers: np.ndarray) -> cells.Cells:
    values, broken = ids.values.copy(), ids.broken.copy()
    values[rows], broken[rows] = numbers, False
    return cells.Cells(values, broken)


def _identities(columns: Mapping[str, pa.StringArray], rows: int) -> np.ndarray:
    return cells.identities(columns["id"], NO_ID) if "id" in columns else np.full(rows, NO_ID, "int64")


def _against_catalogue(
    parameter_id: np.ndarray, value: np.ndarray, catalogue: Catalogue
) -> tuple[np.ndarray, np.ndarray]:
    """Which values are a sentinel of their parameter, and which lie outside its valid range."""
    code, distinct = pd.factorize(parameter_id)
    parameters = catalogue.all_of(distinct)
    low = np.array([p.valid_min for p in parameters], "float64")
    high = np.array([p.valid_max for p in parameters], "float64")
    sentinel = np.zeros(len(value), bool)
    for code_of_fault in sorted({s for p in parameters for s in p.sentinels}):
        hit = np.flatnonzero(value == code_of_fault)
        applies = np.array([code_of_fault in p.sentinels for p in parameters], bool)
        sentinel[hit] |= applies[code[hit]]
    return sentinel, (value < low[code]) | (value > high[code])

"""From the bytes of one landing file to its readings, its rejected rows with their reasons, and its duplicates.

Not here: which files there are (`inbox`), and what becomes of readings across files (`series`). A wrong header
refuses the file; a wrong cell rejects its row and no other.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.landing.dialect import Dialect, LandingRules
from bts_assets.landing.header import read_header
from bts_assets.landing.judge import Judge
from bts_assets.landing.names import NumberOf
from bts_assets.landing.reading_arrays import NO_READINGS, ReadingArrays, SortedReadings, concatenated
from bts_assets.landing.reasons import Rejections
from bts_assets.landing.scratch import Bytes, Scratch
from bts_assets.landing.spill import Gathering
from bts_assets.landing.table import read_tables
from bts_assets.landing.text import decoded

_NO_RULES: Final = LandingRules()


@dataclass(frozen=True)
class ParsedFile:
    """What one landing file holds; accepted + rejected_rows + duplicates == rows, its records that are not blank.

    `ordered` are the readings in canonical order (station, parameter, time, id, value), in memory or in a temporary
    file; `arrays` the same in memory, `readings` as a `contracts.schemas.Readings` frame, made when it is asked for: it
    costs more than parsing a small file.
    `rejected` has line (int64, 1-based in the file), raw (printable text, cut where very long) and reason, of the
    first rows that were rejected; `reasons` counts them all. `cause`: why no row could be used, if none could.
    """

    ordered: SortedReadings
    rejected: pd.DataFrame
    rows: int
    duplicates: int
    reasons: dict[str, int]
    dialect: Dialect
    cause: str | None

    @property
    def arrays(self) -> ReadingArrays:
        parts = list(self.ordered.parts())
        return parts[0] if len(parts) == 1 else concatenated([NO_READINGS, *parts])

    @cached_property
    def readings(self) -> pd.DataFrame:
        return self.arrays.frame()

    @property
    def accepted(self) -> int:
        return len(self.ordered)

    @property
    def rejected_rows(self) -> int:
        return sum(self.reasons.values())


def parse_landing_file(
    data: Bytes,
    catalogue: Catalogue,
    *,
    landing_timezone: ZoneInfo,
    now: datetime,
    max_skew: timedelta,
    rules: LandingRules = _NO_RULES,
    number_of: NumberOf | None = None,
    max_bytes: int | None = None,
    rejected_kept: int | None = None,
    scratch: Scratch | None = None,
) -> ParsedFile:
    """Sort the rows of a landing file into readings, rejected and duplicates. docs/landing.md says what is taken.

    Times without an offset are in `landing_timezone`; those later than `now + max_skew` are rejected. `number_of` gives
    names of stations and parameters their numbers; without it such names are broken ids. Of gzip no more than
    `max_bytes` are unpacked. Rejected rows are kept with their text up to `rejected_kept`, and counted all. What is
    more than `scratch` holds in memory is in temporary files meanwhile; what is found is the same.

    Raises:
        LandingFileRefused: if the file is empty, not text, or its header lacks a column or names one twice.
        OSError: if the disk does not take a temporary file.
    """
    text = decoded(data, max_bytes, scratch)
    header = read_header(text, rules.columns)
    judge = Judge(header.dialect, rules, landing_timezone, catalogue, latest_of(now, max_skew), number_of)
    rejections, gathered, rows = Rejections(rejected_kept), Gathering(scratch), 0
    for table in read_tables(text.data, header):
        readings, reason = judge(table)
        rows += len(readings) + len(table.block.ragged)
        rejections.add(table, reason)
        gathered.add(readings, reason)
    accepted = gathered.readings()
    return ParsedFile(
        ordered=accepted,
        rejected=rejections.frame(),
        rows=rows,
        duplicates=gathered.duplicates,
        reasons=rejections.counts(),
        dialect=judge.dialect,
        cause=None if len(accepted) else rejections.cause(header),
    )


def latest_of(now: datetime, max_skew: timedelta) -> np.datetime64:
    """The latest time that a reading may have, in UTC."""
    return np.datetime64((now + max_skew).astimezone(UTC).replace(tzinfo=None), "us")

"""Turns one hour's clean readings into the bytes of a landing file with measured dirt, and counts what it planted.

What the readings are, and where the files lie, is `simulate.py`'s.
"""

from collections import Counter
from dataclasses import dataclass, fields
from io import BytesIO
from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow import csv

from bts_assets.contracts.catalogue import DEFAULT_SENTINELS, Catalogue
from bts_assets.landing.reading_arrays import ReadingArrays, concatenated
from bts_assets.landing.reasons import Reason

COLUMNS: Final = ("id", "value", "station_id", "parameter_id", "reading_time")
LONGEST_DELAY_HOURS: Final = 6
#: The column that a refused file lacks.
MISSING_COLUMN: Final = "value"
#: Kind of dirt -> the landing parser's reason, for the kinds that are rejected: an id that is no number is taken.
REASONS: Final = {
    "sentinel": Reason.SENTINEL,
    "out_of_range": Reason.RANGE,
    "broken_value": Reason.VALUE,
    "broken_time": Reason.TIME,
    "future_time": Reason.FUTURE,
    "ancient_time": Reason.ANCIENT,
    "broken_station": Reason.STATION,
    "broken_parameter": Reason.PARAMETER,
    "ragged": Reason.COLUMNS,
}
#: Kinds that change the text of a row.
_OF_TEXT: Final = (
    *("sentinel", "out_of_range", "broken_value", "broken_time", "future_time", "ancient_time", "broken_id"),
    *("broken_station", "broken_parameter", "ragged"),
)
ROW_KINDS: Final = (*_OF_TEXT, "duplicate", "repeated", "late", "out_of_order")
#: Kind -> the field it breaks and what may stand there instead. The year is beyond any clock that reads the file.
BROKEN_TEXTS: Final = {
    "broken_value": (1, (b"", b"n/a", b"1.2.3", b"--", b"12V", b"nan", b"inf")),
    "broken_time": (4, (b"", b"yesterday", b"2017-13-45 00:00:00", b"2017-04-18 25:61:00")),
    "future_time": (4, (b"2199-01-01 00:00:00",)),
    "ancient_time": (4, (b"1970-01-01 00:00:07", b"1999-12-31 23:59:59")),
    # Followed by the id: whatever it looks like, it is another one for each reading.
    "broken_id": (0, (b"x", b"-", b"99999999999999999999")),
    "broken_station": (2, (b"", b"BTS-7", b"-1")),
    "broken_parameter": (3, (b"", b"grid", b"99999999999")),
}


@dataclass(frozen=True)
class Dirt:
    """How much dirt, as a share of rows where nothing else is said. A row has at most one kind of it."""

    sentinel: float = 0.002
    out_of_range: float = 0.0005
    broken_value: float = 0.0003
    broken_time: float = 0.0002
    future_time: float = 0.0001
    ancient_time: float = 0.0001
    broken_id: float = 0.0001
    broken_station: float = 0.0001
    broken_parameter: float = 0.0001
    ragged: float = 0.0003
    duplicate: float = 0.001  # twice in one file
    repeated: float = 0.001  # once more in a later file, with the same id and content
    late: float = 0.005  # in a later hour's file only
    out_of_order: float = 0.01
    copied_files: float = 0.01  # share of files that lie there twice, byte for byte
    refused_files: float = 0.0  # share of files without their value column
    silent_stations: float = 0.05  # hours without a reading of the station: times per station and day
    missing_sensors: float = 0.02  # the same of one series: times per series and day

    def __post_init__(self) -> None:
        rates = [getattr(self, f.name) for f in fields(self)]
        if min(rates) < 0 or sum(self.row_rates) > 1:
            raise ValueError("rates of dirt must not be negative, and those of rows must not exceed 1 together")

    @property
    def row_rates(self) -> list[float]:
        return [getattr(self, kind) for kind in ROW_KINDS]


NO_DIRT: Final = Dirt(**dict.fromkeys((f.name for f in fields(Dirt)), 0.0))


@dataclass(frozen=True)
class FileTruth:
    """What a landing file holds: rows = accepted + rejected + duplicates, unless it is refused whole.

    `repeated` counts the accepted rows that an earlier file holds too. A file with `copy_of` is another's bytes; one
    with a `missing_column` is refused, and its rows are neither accepted nor rejected.
    """

    name: str
    rows: int
    accepted: int
    rejected: dict[str, int]
    duplicates: int
    repeated: int = 0
    copy_of: str | None = None
    missing_column: str | None = None


class Soiler:
    """Plants dirt hour by hour, in order: rows of one hour turn up again in a later hour's file."""

    def __init__(self, dirt: Dirt, hours: int, seed: int, catalogue: Catalogue) -> None:
        rng = np.random.default_rng([seed, 3])
        self._hours, self._seed, self._catalogue = hours, seed, catalogue
        self._edges = np.cumsum(dirt.row_rates)
        self._refused = rng.random(hours) < dirt.refused_files
        self._copied = rng.random(hours) < dirt.copied_files
        self._late: dict[int, list[ReadingArrays]] = {}
        self._repeats: dict[int, list[ReadingArrays]] = {}

    def is_copied(self, hour: int) -> bool:
        """Whether the hour's file lies there under a second name too."""
        return bool(self._copied[hour])

    def file_of_hour(self, hour: int, clean: ReadingArrays, name: str) -> tuple[bytes, FileTruth]:
        """The bytes of the hour's file, and what they hold. `clean` is in order of time."""
        rng = np.random.default_rng([self._seed, 4, hour])
        kind = np.searchsorted(self._edges, rng.random(len(clean)), side="right").astype(np.int8)
        moved = self._send_on(hour, clean, kind, rng)
        if self._refused[hour]:
            return _refused_file(name, clean)

        late, repeats = self._late.pop(hour, []), self._repeats.pop(hour, [])
        twice = np.flatnonzero(kind == _kind("duplicate"))
        stay = np.flatnonzero(~moved)
        rows = concatenated([clean.take(stay), clean.take(twice), *late, *repeats])
        added = len(rows) - len(stay)
        kinds = np.concatenate([kind[stay], np.full(added, len(ROW_KINDS), dtype=np.int8)])
        # Late rows and repeats lie anywhere in the file; a duplicate soon after its first; others where time puts them.
        place = np.concatenate([stay, twice, rng.uniform(0, len(clean) + 1, added - len(twice))]).astype(float)
        place[len(stay) : len(stay) + len(twice)] += rng.uniform(0.5, 50, len(twice))
        displaced = kinds == _kind("out_of_order")
        place[displaced] += rng.uniform(-300, 300, int(displaced.sum()))
        order = np.argsort(place, kind="stable")
        rows, kinds = rows.take(order), kinds[order]

        planted = Counter(kind for kind in (ROW_KINDS[k] for k in kinds[kinds < len(_OF_TEXT)]) if kind in REASONS)
        rejected = dict(sorted((str(REASONS[kind]), count) for kind, count in planted.items()))
        truth = FileTruth(
            name=name,
            rows=len(rows),
            accepted=len(rows) - planted.total() - len(twice),
            rejected=rejected,
            duplicates=len(twice),
            repeated=sum(map(len, repeats)),
        )
        return _header(COLUMNS) + self._soiled(rows, kinds, rng), truth

    def _send_on(self, hour: int, clean: ReadingArrays, kind: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Hand late and repeated rows to later hours; which rows left this hour's file, bool (rows,).

        ReadingArrays stay where no later file can take them; nothing passes into or out of a refused file.
        """
        moved = np.zeros(len(clean), dtype=bool)
        for name, waiting in (("late", self._late), ("repeated", self._repeats)):
            chosen = np.flatnonzero(kind == _kind(name))
            target = hour + rng.integers(1, LONGEST_DELAY_HOURS + 1, len(chosen))
            for later in range(hour + 1, min(hour + LONGEST_DELAY_HOURS + 1, self._hours)):
                index = chosen[target == later]
                if len(index) and not self._refused[later] and not self._refused[hour]:
                    waiting.setdefault(later, []).append(clean.take(index))
                    moved[index] = name == "late"
        return moved

    def _soiled(self, rows: ReadingArrays, kinds: np.ndarray, rng: np.random.Generator) -> bytes:
        value = rows.value.copy()
        sentinel = np.flatnonzero(kinds == _kind("sentinel"))
        value[sentinel] = rng.choice(DEFAULT_SENTINELS, len(sentinel))
        for i in np.flatnonzero(kinds == _kind("out_of_range")):
            parameter = self._catalogue.of(int(rows.parameter_id[i]))
            above = np.isfinite(parameter.valid_max) and (np.isinf(parameter.valid_min) or rng.random() < 0.5)
            beyond = 1 + float(rng.integers(0, 100)) / 4
            value[i] = parameter.valid_max + beyond if above else parameter.valid_min - beyond
        body = _body({"id": rows.reading_id, "value": value, **_keys(rows)})
        first, last = _kind("broken_value"), _kind("ragged")
        return _with_broken_lines(body, kinds, np.flatnonzero((kinds >= first) & (kinds <= last)), rng)


def _kind(name: str) -> int:
    return ROW_KINDS.index(name)


def _keys(rows: ReadingArrays) -> dict[str, np.ndarray | pa.Array]:
    time = pa.array(rows.time // 10**6, pa.timestamp("s"))
    return {"station_id": rows.station_id, "parameter_id": rows.parameter_id, "reading_time": time}


def _header(columns: tuple[str, ...]) -> bytes:
    return (",".join(columns) + "\n").encode()


def _body(columns: dict[str, np.ndarray | pa.Array]) -> bytes:
    """CSV lines without a header."""
    buffer = BytesIO()
    csv.write_csv(pa.table(columns), buffer, csv.WriteOptions(include_header=False, quoting_style="none"))
    return buffer.getvalue()


def _refused_file(name: str, clean: ReadingArrays) -> tuple[bytes, FileTruth]:
    columns = tuple(c for c in COLUMNS if c != MISSING_COLUMN)
    data = _header(columns) + _body({"id": clean.reading_id, **_keys(clean)})
    return data, FileTruth(name, len(clean), 0, {}, 0, missing_column=MISSING_COLUMN)


def _with_broken_lines(body: bytes, kinds: np.ndarray, broken: np.ndarray, rng: np.random.Generator) -> bytes:
    """`body` with the lines at the ascending positions `broken` spoilt as their kind says."""
    newlines = np.flatnonzero(np.frombuffer(body, dtype=np.uint8) == ord("\n"))
    pieces, done = [], 0
    for i in broken:
        start, end = (int(newlines[i - 1]) + 1 if i else 0), int(newlines[i])
        pieces += [body[done:start], _broken_line(body[start:end], ROW_KINDS[kinds[i]], rng)]
        done = end
    return b"".join([*pieces, body[done:]])


def _broken_line(line: bytes, kind: str, rng: np.random.Generator) -> bytes:
    values = line.split(b",")
    if kind == "ragged":
        return b",".join((values[:-1], values[:2], [*values, b"0"])[rng.integers(3)])
    column, texts = BROKEN_TEXTS[kind]
    values[column] = texts[rng.integers(len(texts))] + (values[column] if kind == "broken_id" else b"")
    return b",".join(values)

"""One Parquet file of readings, written and read a row group at a time, however large it is.

Each row group has a SHA-256 of its readings, so that a part of the file is read and trusted without the rest. Not here:
which files there are, and when their readings count (`readings`).
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bts_assets.landing.reading_arrays import NO_ID, ReadingArrays, concatenated
from bts_assets.storage.crash_points import crash_point

#: Rows of every row group but the last: whatever parts the readings came in, the file is the same.
GROUP_ROWS: Final = 1 << 18
#: Rows in (station, parameter, time) order compress well by deltas; lz4 costs next to nothing to read back.
_COMPRESSION: Final = "lz4"
_SCHEMA: Final = pa.schema(
    [
        pa.field("reading_id", pa.int64()),
        pa.field("station_id", pa.int64(), nullable=False),
        pa.field("parameter_id", pa.int32(), nullable=False),
        pa.field("reading_time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ]
)
#: Key of the metadata under which the SHA-256 of the readings stands; of several row groups, that of `_GROUPS`.
_DIGEST: Final = b"bts.readings_sha256"
#: Of several row groups, a line each: the SHA-256 of its readings, its first and its last station. Older files have
#: none, and one SHA-256 for all groups together. Parquet's own statistics will not do: nothing protects them.
_GROUPS: Final = b"bts.row_groups"

#: Which stations are wanted: all (None), from one to another, or a few.
Wanted = tuple[int, int] | Collection[int] | None
#: The pieces of a column, by its name.
_Column = Callable[[str], Iterable[pa.ChunkedArray]]


@dataclass(frozen=True)
class _Group:
    digest: str
    first: int
    last: int

    def meets(self, stations: Wanted) -> bool:
        if stations is None:
            return True
        if isinstance(stations, tuple):
            return stations[0] <= self.last and self.first <= stations[1]
        return any(self.first <= station <= self.last for station in stations)


def write(path: Path, parts: Iterable[ReadingArrays]) -> None:
    """Write readings that come in canonical order, in parts of any size."""
    groups: list[_Group] = []
    with pq.ParquetWriter(
        path,
        _SCHEMA,
        compression=_COMPRESSION,
        use_dictionary=["station_id", "parameter_id"],
        column_encoding=dict.fromkeys(("reading_id", "reading_time"), "DELTA_BINARY_PACKED"),
        write_page_checksum=True,
    ) as writer:
        for readings in _regrouped(parts):
            table = _table(readings)
            writer.write_table(table, row_group_size=GROUP_ROWS)
            groups.append(_Group(_digest(_column_of(table)), *readings.station_id[[0, -1]].tolist()))
            crash_point("ingest.after_group")
        writer.add_key_value_metadata(_vouching(groups))


class ReadingFile:
    """An open Parquet file of readings. Whatever is wrong with it raises one of Arrow's errors, or ValueError."""

    def __init__(self, file: pq.ParquetFile) -> None:
        self._file = file
        self._metadata: dict[bytes, bytes] = file.metadata.metadata or {}

    @property
    def is_vouched(self) -> bool:
        """Whether its readings have a SHA-256; those of older code have none."""
        return _DIGEST in self._metadata

    def parts(self, stations: Wanted = None) -> Iterator[ReadingArrays]:
        """The readings of the row groups that may have one of these stations, each verified by its digest."""
        if not self._file.schema_arrow.equals(_SCHEMA):
            raise ValueError("its columns are not those that were written")
        count, groups = self._file.num_row_groups, self._groups()
        if groups is None and count != 1:
            # One digest goes over column after column of them all: each is read for itself, and then again.
            self._check(self._metadata.get(_DIGEST), self._column)
        for number in range(count):
            if groups and not groups[number].meets(stations):
                continue
            table = self._file.read_row_group(number, use_threads=False)
            if groups or count == 1:
                expected = groups[number].digest.encode() if groups else self._metadata.get(_DIGEST)
                self._check(expected, _column_of(table))
            yield _arrays(table)

    def stations(self) -> Iterator[np.ndarray]:
        """The stations of its readings, of one row group after the other, not verified."""
        return (column.to_numpy() for column in self._column("station_id"))

    def _column(self, name: str) -> Iterator[pa.ChunkedArray]:
        for number in range(self._file.num_row_groups):
            yield self._file.read_row_group(number, columns=[name], use_threads=False)[name]

    def _groups(self) -> list[_Group] | None:
        """What vouches for each row group; None where, if anything, one digest vouches for all together."""
        lines = self._metadata.get(_GROUPS)
        if lines is None:
            return None
        told = [line.split() for line in lines.decode().splitlines()]
        if self._metadata.get(_DIGEST) != _seal(lines) or len(told) != self._file.num_row_groups:
            raise ValueError(_ALTERED)
        return [_Group(digest, int(first), int(last)) for digest, first, last in told]

    def _check(self, expected: bytes | None, column: _Column) -> None:
        if expected is not None and expected != _digest(column).encode():
            raise ValueError(_ALTERED)


@contextmanager
def opened(path: Path) -> Iterator[ReadingFile]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        yield ReadingFile(file)


_ALTERED: Final = "its readings are not those that were written"


def _regrouped(parts: Iterable[ReadingArrays]) -> Iterator[ReadingArrays]:
    """The same readings in parts of `GROUP_ROWS` rows and a last one."""
    held: list[ReadingArrays] = []
    room = GROUP_ROWS
    for part in parts:
        start = 0
        while start < len(part):
            held.append(part.take(slice(start, start + room)))
            start, room = start + len(held[-1]), room - len(held[-1])
            if not room:
                yield concatenated(held) if len(held) > 1 else held[0]
                held, room = [], GROUP_ROWS
    if held:
        yield concatenated(held) if len(held) > 1 else held[0]


def _vouching(groups: list[_Group]) -> dict[bytes, bytes]:
    if len(groups) == 1:
        return {_DIGEST: groups[0].digest.encode()}
    lines = "".join(f"{group.digest} {group.first} {group.last}\n" for group in groups).encode()
    return {_DIGEST: _seal(lines), _GROUPS: lines}


def _seal(lines: bytes) -> bytes:
    return hashlib.sha256(lines).hexdigest().encode()


def _table(readings: ReadingArrays) -> pa.Table:
    ids, time = readings.reading_id, pa.array(readings.time).cast(pa.timestamp("us", tz="UTC"))
    columns = [pa.array(ids, mask=ids == NO_ID), readings.station_id, readings.parameter_id, time, readings.value]
    return pa.table([pa.array(column) for column in columns], schema=_SCHEMA)


def _arrays(table: pa.Table) -> ReadingArrays:
    time = table["reading_time"].cast(pa.int64())
    ids = table["reading_id"].fill_null(NO_ID)
    station, parameter, value = (table[name] for name in ("station_id", "parameter_id", "value"))
    # Adding zero turns -0.0 into 0.0: equal values must have equal bits.
    columns = (ids.to_numpy(), station.to_numpy(), parameter.to_numpy(), time.to_numpy(), value.to_numpy() + 0.0)
    return ReadingArrays(*columns)


def _column_of(table: pa.Table) -> _Column:
    return lambda name: [table[name]]


def _digest(column: _Column) -> str:
    """Hexadecimal SHA-256 over names and values of the columns in order, however Parquet encodes them."""
    digest = hashlib.sha256(b"readings 1\n")
    for field in _SCHEMA:
        digest.update(field.name.encode())
        for piece in column(field.name):
            values = piece.cast(pa.int64()) if pa.types.is_timestamp(field.type) else piece
            values = values.fill_null(NO_ID) if field.nullable else values
            for chunk in values.chunks:
                digest.update(np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False)).data)
    return digest.hexdigest()

"""Moving columns of numbers, instants and arrays of numbers into Postgres and out of it by binary COPY: no loop over
rows.

The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". No column may be null here.
"""

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO, StringIO
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
#: Postgres counts microseconds from 2000-01-01.
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
#: Records are encoded and sent in blocks of about so many bytes, so that memory does not grow with the rows.
_BLOCK_BYTES: Final = 4 << 20
#: numpy's kind and size of an array's cells -> Postgres' number of their type (pg_type.oid).
_CELL_TYPES: Final = {"i2": 21, "i4": 23, "i8": 20, "f4": 700, "f8": 701}


def copy_in(connection: sa.Connection, table: str, columns: Mapping[str, np.ndarray]) -> int:
    """COPY equally long arrays into `table`; returns the number of rows that arrived.

    datetime64 arrays (n,) are UTC instants; a column of arrays is given as (n, length).
    """
    names = ", ".join(f'"{name}"' for name in columns)
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN (FORMAT binary)", _Stream(_encoded(columns)))
        return int(cursor.rowcount)


def copy_rows(connection: sa.Connection, table: str, rows: pd.DataFrame) -> None:
    """COPY a frame into `table` as text: slower than arrays, for few rows with text or nulls (NaN, NA) among them."""
    text = StringIO()
    rows.to_csv(text, index=False, header=False, na_rep="\\N")
    text.seek(0)
    names = ", ".join(rows.columns)
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN (FORMAT csv, NULL '\\N')", text)


def copy_out(connection: sa.Connection, query: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """The rows of `query` as a frame. `columns`: name -> numpy dtype, `time` for timestamptz (datetime64[us, UTC])."""
    record = np.dtype(
        [("count", ">i2"), *((f"{k}{n}", t) for n, d in columns.items() for k, t in (("len_", ">i4"), ("", _wire(d))))]
    )
    sink = BytesIO()
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", sink)
    rows = np.frombuffer(sink.getbuffer()[len(_HEADER) : -len(_TRAILER)], dtype=record)
    return pd.DataFrame({name: _decode(rows[name], dtype) for name, dtype in columns.items()})


def copy_out_in_blocks(
    connection: sa.Connection,
    query: str,
    columns: Mapping[str, tuple[str, int]],
    take: Callable[[dict[str, np.ndarray]], None],
) -> None:
    """Hand the rows of `query` to `take` block by block, so that memory does not grow with them.

    columns: name -> numpy dtype (`time` for timestamptz, given as datetime64[us] in UTC) and length of its arrays, 0
    for a plain number.

    Raises:
        ValueError: if an array is of another length, or holds nulls.
    """
    samples = {name: np.empty((0, n) if n else 0, _wire(dtype)) for name, (dtype, n) in columns.items()}
    sink = _Sink(_record(samples), columns, take)
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", sink)
    sink.end()


class _Sink:
    """Takes what COPY writes, and decodes it record by record."""

    def __init__(
        self, record: np.dtype, columns: Mapping[str, tuple[str, int]], take: Callable[[dict[str, np.ndarray]], None]
    ) -> None:
        self._record, self._columns, self._take = record, columns, take
        self._held, self._skip = bytearray(), len(_HEADER)

    def write(self, data: bytes) -> int:
        self._held += data
        if len(self._held) >= _BLOCK_BYTES:
            self._decode()
        return len(data)

    def end(self) -> None:
        self._decode()
        if bytes(self._held) != _TRAILER:
            raise ValueError("arrays of another length were read than were asked for")

    def _decode(self) -> None:
        size = self._record.itemsize
        end = self._skip + (len(self._held) - self._skip) // size * size
        rows = np.frombuffer(bytes(self._held[self._skip : end]), dtype=self._record)
        del self._held[:end]
        self._skip = 0
        for name, (_, length) in self._columns.items():
            if (rows[f"len_{name}"] != self._record[name].itemsize).any():
                raise ValueError(f"an array of {name} has not {length} numbers")
        if len(rows):
            self._take({name: self._column(rows, name) for name in self._columns})

    def _column(self, rows: np.ndarray, name: str) -> np.ndarray:
        dtype, length = self._columns[name]
        values = rows[name]["cells"]["value"] if length else rows[name]
        if dtype != "time":
            return values.astype(dtype)
        return (values.astype(np.int64) + _POSTGRES_EPOCH_US).view("datetime64[us]")


class _Stream:
    """Feeds COPY block by block."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def read(self, _size: int = -1) -> bytes:
        return next(self._blocks, b"")


def _encoded(columns: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """The header, the records in blocks, and the trailer."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    record = _record({name: _numbers(values[:0]) for name, values in arrays.items()})
    count, block = len(next(iter(arrays.values()))), max(1, _BLOCK_BYTES // record.itemsize)
    yield _HEADER
    for start in range(0, count, block):
        yield _filled(record, {name: _numbers(values[start : start + block]) for name, values in arrays.items()})
    yield _TRAILER


def _record(arrays: Mapping[str, np.ndarray]) -> np.dtype:
    """What a row is on the wire: the number of its fields, then of each its length and its bytes."""
    fields: list[Any] = [("count", ">i2")]
    for name, values in arrays.items():
        cell: Any = values.dtype.newbyteorder(">").str
        if values.ndim == 2:
            numbers = [(part, ">i4") for part in ("dimensions", "nulls", "type", "size", "first")]
            cell = np.dtype([*numbers, ("cells", [("length", ">i4"), ("value", cell)], (values.shape[1],))])
        fields += [(f"len_{name}", ">i4"), (name, cell)]
    return np.dtype(fields)


def _filled(record: np.dtype, arrays: Mapping[str, np.ndarray]) -> bytes:
    rows = np.empty(len(next(iter(arrays.values()))), dtype=record)
    rows["count"] = len(arrays)
    for name, values in arrays.items():
        rows[f"len_{name}"] = record[name].itemsize
        if values.ndim == 1:
            rows[name] = values
            continue
        array = rows[name]
        array["dimensions"], array["nulls"], array["size"], array["first"] = 1, 0, values.shape[1], 1
        array["type"] = _CELL_TYPES[values.dtype.str[1:]]
        array["cells"]["length"], array["cells"]["value"] = values.dtype.itemsize, values
    return rows.tobytes()


def _numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind != "M":
        return values
    return values.astype("datetime64[us]").astype(np.int64) - _POSTGRES_EPOCH_US


def _wire(dtype: str) -> str:
    return ">i8" if dtype == "time" else np.dtype(dtype).newbyteorder(">").str


def _decode(values: np.ndarray, dtype: str) -> Any:
    if dtype != "time":
        return values.astype(dtype)
    instants = (values.astype(np.int64) + _POSTGRES_EPOCH_US).view("datetime64[us]")
    return pd.Series(instants).dt.tz_localize("UTC")


def _cursor(connection: sa.Connection) -> Any:
    """A cursor of the driver itself, within a transaction that begins as every other does."""
    if not connection.in_transaction():
        connection.begin()
    return connection.connection.cursor()

"""Moving columns of numbers and instants into and out of Postgres by binary COPY, as arrays, without a loop over rows.

The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". No column may be null here.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
#: Postgres counts microseconds from 2000-01-01.
_POSTGRES_EPOCH_US: Final = 946_684_800_000_000
_BLOCK_ROWS: Final = 65_536


def copy_in(connection: sa.Connection, table: str, columns: Mapping[str, np.ndarray]) -> int:
    """COPY equally long arrays into `table`; datetime64 arrays are UTC instants. Returns the number of rows."""
    rows = _encode(columns)
    names = ", ".join(f'"{name}"' for name in columns)
    with _cursor(connection) as cursor:
        cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN (FORMAT binary)", _Stream(rows))
    return len(rows)


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


class _Stream:
    """Feeds COPY the header, the records block by block, and the trailer, without one copy of it all."""

    def __init__(self, rows: np.ndarray) -> None:
        self._blocks = self._generate(rows)

    def read(self, _size: int = -1) -> bytes:
        return next(self._blocks, b"")

    @staticmethod
    def _generate(rows: np.ndarray) -> Any:
        yield _HEADER
        for start in range(0, len(rows), _BLOCK_ROWS):
            yield rows[start : start + _BLOCK_ROWS].tobytes()
        yield _TRAILER


def _encode(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    arrays = {name: _numbers(np.asarray(values)) for name, values in columns.items()}
    record: list[tuple[str, str]] = [("count", ">i2")]
    for name, values in arrays.items():
        record += [(f"len_{name}", ">i4"), (name, values.dtype.newbyteorder(">").str)]
    rows = np.empty(len(next(iter(arrays.values()))), dtype=np.dtype(record))
    rows["count"] = len(arrays)
    for name, values in arrays.items():
        rows[f"len_{name}"] = values.dtype.itemsize
        rows[name] = values
    return rows


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
    return connection.connection.cursor()

"""Where accepted readings rest: one immutable Parquet file per landing file, named by the digest of its bytes; those of
small landing files in a table (`small_readings`).

Each Parquet file carries checksums of its pages and a SHA-256 of the readings in it, as each row of the table does, so
that bits that flipped at rest are found when they are read, and cannot pass for other readings.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa

from bts_assets.contracts.errors import BtsError
from bts_assets.landing.reading_arrays import NO_ID, ReadingArrays
from bts_assets.storage import small_readings
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.partials import clear_abandoned, partial_file

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
#: Files that are read side by side: Arrow lets go of the interpreter.
_READERS: Final = 2
#: Key of the file's metadata under which the SHA-256 of its readings stands.
_DIGEST: Final = b"bts.readings_sha256"


class ReadingsMissing(BtsError):
    """The readings of a known landing file are gone or damaged."""


class ReadingStore:
    """Parquet files below one folder, and the small ones of one database."""

    def __init__(self, root: Path, engine: sa.Engine) -> None:
        self.root = root
        self._engine = engine

    def path(self, digest: str) -> Path:
        """Where the Parquet file of a landing file is, if it has one."""
        return self.root / digest[:2] / f"{digest}.parquet"

    def place(self, digest: str) -> str:
        """Where readings that are gone have to be again, in words."""
        return str(self.path(digest)) if self.path(digest).exists() else f"{self.path(digest)} or {_ROW}"

    def sizes(self, digests: Sequence[str]) -> dict[str, int]:
        """Bytes of the readings of each landing file whose readings are there."""
        with self._engine.connect() as connection:
            found = small_readings.sizes(connection, digests)
        for digest in digests:
            if digest not in found and (size := self._size(digest)) is not None:
                found[digest] = size
        return found

    def _size(self, digest: str) -> int | None:
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def remove_file(self, digest: str) -> None:
        """Delete a Parquet file; one that is gone already is none to mind."""
        self.path(digest).unlink(missing_ok=True)

    def write(self, digest: str, readings: ReadingArrays) -> None:
        """Let the readings rest as Parquet, durably, before the ledger vouches for them. The same digest is the same
        file.
        """
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Copies of one file may be read side by side: each writes a partial file of its own.
        partial = path.with_suffix(f".{os.getpid()}-{get_ident()}.part")
        with partial_file(partial) as held:
            table = _table(readings)
            pq.write_table(
                table.replace_schema_metadata({_DIGEST: _digest(table)}),
                partial,
                compression=_COMPRESSION,
                use_dictionary=["station_id", "parameter_id"],
                column_encoding=dict.fromkeys(("reading_id", "reading_time"), "DELTA_BINARY_PACKED"),
                write_page_checksum=True,
            )
            os.fsync(held)
            crash_point("ingest.after_partial")
            partial.replace(path)
            _sync_folder(path.parent)
            crash_point("ingest.after_rename")

    def clear_abandoned(self) -> int:
        """Delete what processes that died left half written; how many files."""
        return clear_abandoned(self.root.glob("*/*.part"))

    def read(self, digest: str) -> pd.DataFrame:
        """The `Readings` frame of one landing file.

        Raises:
            ReadingsMissing: naming the landing file whose readings are gone or damaged.
        """
        (readings,) = self.each([digest])
        return readings.frame()

    def each(
        self, digests: Sequence[str], part: Callable[[ReadingArrays], ReadingArrays] = lambda whole: whole
    ) -> Iterator[ReadingArrays]:
        """The readings of landing files in canonical order, file by file, or a part of them; the small ones are asked
        for together, and Parquet is read side by side.

        Raises:
            ReadingsMissing: naming the first landing file whose readings are gone or damaged.
        """
        small = self._small(digests)
        with ThreadPoolExecutor(_READERS) as pool:
            others = pool.map(lambda digest: part(self._of_file(digest)), (d for d in digests if d not in small))
            for digest in digests:
                yield part(small[digest]) if digest in small else next(others)

    def count_by_station(self, digests: Sequence[str]) -> Counter[int]:
        """How many readings of each station landing files have.

        Raises:
            ReadingsMissing: naming the landing file whose readings are gone or damaged.
        """
        small, counts = self._small(digests), Counter[int]()
        for digest in digests:
            stations = small[digest].station_id if digest in small else self._stations(digest)
            counts.update(dict(zip(*(a.tolist() for a in np.unique(stations, return_counts=True)), strict=True)))
        return counts

    def is_vouched(self, digest: str) -> bool:
        """Whether readings that are there have a SHA-256; Parquet of older code has none.

        Raises:
            ReadingsMissing: naming the landing file whose readings are damaged.
        """
        if not self.path(digest).exists():
            return True
        with self._damage_named(digest):
            return _DIGEST in (pq.read_schema(self.path(digest)).metadata or {})

    def set_aside(self, digest: str) -> bytes | None:
        """Take damaged readings out of the store: Parquet gets the ending `.damaged`, a row is given back."""
        if self.path(digest).exists():
            self.path(digest).replace(self._aside(digest))
        with self._engine.begin() as connection:
            return small_readings.take_out(connection, digest)

    def put_back(self, digest: str, row: bytes | None) -> None:
        """Undo `set_aside`: damaged readings are more than none."""
        if self._aside(digest).exists():
            self._aside(digest).replace(self.path(digest))
        if row is not None:
            with self._engine.begin() as connection:
                small_readings.put(connection, {digest: row})

    def _aside(self, digest: str) -> Path:
        return self.path(digest).with_suffix(".damaged")

    def _small(self, digests: Sequence[str]) -> dict[str, ReadingArrays]:
        with self._engine.connect() as connection:
            found = small_readings.read(connection, digests)
        for digest, readings in found.items():
            if readings is None:
                raise ReadingsMissing(_told(digest, "damaged", _ROW))
        return {digest: readings for digest, readings in found.items() if readings is not None}

    def _of_file(self, digest: str) -> ReadingArrays:
        table = self._read_sound(digest)
        time = table["reading_time"].cast(pa.int64())
        ids = table["reading_id"].fill_null(NO_ID)
        station, parameter, value = (table[name] for name in ("station_id", "parameter_id", "value"))
        # Adding zero turns -0.0 into 0.0: equal values must have equal bits.
        columns = (ids.to_numpy(), station.to_numpy(), parameter.to_numpy(), time.to_numpy(), value.to_numpy() + 0.0)
        return ReadingArrays(*columns)

    def _stations(self, digest: str) -> np.ndarray:
        with self._damage_named(digest):
            columns = pq.read_table(self.path(digest), columns=["station_id"], use_threads=False)
        return columns["station_id"].to_numpy()

    def _read_sound(self, digest: str) -> pa.Table:
        with self._damage_named(digest):
            with pq.ParquetFile(self.path(digest), page_checksum_verification=True) as file:
                table = file.read(use_threads=False)
            written = (table.schema.metadata or {}).get(_DIGEST)
            if not table.schema.equals(_SCHEMA) or (written is not None and written != _digest(table)):
                raise ValueError("its readings are not those that were written")
            return table

    @contextmanager
    def _damage_named(self, digest: str) -> Iterator[None]:
        """Whatever a damaged file makes of the reader: Arrow raises a dozen kinds of errors on flipped bits."""
        try:
            yield
        except Exception as error:
            what = "gone" if isinstance(error, FileNotFoundError) else "damaged"
            raise ReadingsMissing(_told(digest, what, self.place(digest))) from None


#: Where the readings of a small landing file are.
_ROW: Final = "their row of bts.landing_reading"


def _told(digest: str, what: str, where: str) -> str:
    return (
        f"the readings of landing file {digest[:12]} are {what}: run bts verify --repair,"
        f" or restore {where} from a backup"
    )


def _table(readings: ReadingArrays) -> pa.Table:
    ids, time = readings.reading_id, pa.array(readings.time).cast(pa.timestamp("us", tz="UTC"))
    columns = [pa.array(ids, mask=ids == NO_ID), readings.station_id, readings.parameter_id, time, readings.value]
    return pa.table([pa.array(column) for column in columns], schema=_SCHEMA)


def _digest(table: pa.Table) -> bytes:
    """Hexadecimal SHA-256 over names and values of the columns in order, however Parquet encodes them."""
    digest = hashlib.sha256(b"readings 1\n")
    for field in _SCHEMA:
        column = table[field.name]
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64())
        values = column.fill_null(NO_ID) if field.nullable else column
        digest.update(field.name.encode())
        for chunk in values.chunks:
            digest.update(np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False)).data)
    return digest.hexdigest().encode()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Where accepted readings rest: one immutable Parquet file per landing file, named by the digest of its bytes.

Each file carries checksums of its pages and a SHA-256 of the readings in it, so that bits that flipped at rest are
found when they are read, and cannot pass for other readings.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bts_assets.contracts.errors import BtsError
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
#: Key of the file's metadata under which the SHA-256 of its readings stands.
_DIGEST: Final = b"bts.readings_sha256"


class ReadingsMissing(BtsError):
    """The Parquet file of a known landing file is gone or damaged."""


class ReadingStore:
    """Parquet files below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        return self.root / digest[:2] / f"{digest}.parquet"

    def size(self, digest: str) -> int | None:
        """Bytes of a file; None: there is none."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def remove(self, digest: str) -> None:
        """Delete a file; one that is gone already is none to mind."""
        self.path(digest).unlink(missing_ok=True)

    def write(self, digest: str, readings: pd.DataFrame) -> None:
        """Let the readings rest, durably, before the ledger vouches for them. The same digest is the same file."""
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Copies of one file may be read side by side: each writes a partial file of its own.
        partial = path.with_suffix(f".{os.getpid()}-{get_ident()}.part")
        with partial_file(partial) as held:
            table = pa.Table.from_pandas(readings, schema=_SCHEMA, preserve_index=False, nthreads=1)
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
            ReadingsMissing: naming the file that is gone or damaged.
        """
        table = self._read_sound(digest)
        frame = table.drop_columns("reading_id").to_pandas()
        ids = table["reading_id"]
        frame.insert(0, "reading_id", pd.array(ids.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)))
        return frame

    def count_by_station(self, digest: str) -> dict[int, int]:
        """How many readings of each station a landing file has.

        Raises:
            ReadingsMissing: naming the file that is gone or damaged.
        """
        with self._damage_named(digest):
            column = pq.read_table(self.path(digest), columns=["station_id"], use_threads=False)["station_id"]
        stations, counts = np.unique(column.to_numpy(), return_counts=True)
        return dict(zip(stations.tolist(), counts.tolist(), strict=True))

    def is_vouched(self, digest: str) -> bool:
        """Whether a file says what its readings' SHA-256 is; one of older code does not.

        Raises:
            ReadingsMissing: naming the file that is gone or damaged.
        """
        with self._damage_named(digest):
            return _DIGEST in (pq.read_schema(self.path(digest)).metadata or {})

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
            raise ReadingsMissing(
                f"the readings of landing file {digest[:12]} are {what}: run bts verify --repair,"
                f" or restore {self.path(digest)} from a backup"
            ) from None


def _digest(table: pa.Table) -> bytes:
    """Hexadecimal SHA-256 over names and values of the columns in order, however Parquet encodes them."""
    digest = hashlib.sha256(b"readings 1\n")
    for field in _SCHEMA:
        column = table[field.name]
        if pa.types.is_timestamp(field.type):
            column = column.cast(pa.int64())
        values = column.fill_null(_NO_ID) if field.nullable else column
        digest.update(field.name.encode())
        for chunk in values.chunks:
            digest.update(np.ascontiguousarray(chunk.to_numpy(zero_copy_only=False)).data)
    return digest.hexdigest().encode()


#: Stands for a missing id in the digest alone: ids are never negative.
_NO_ID: Final = -1


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

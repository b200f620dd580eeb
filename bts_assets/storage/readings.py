"""Where accepted readings rest: one immutable Parquet file per landing file, named by the digest of its bytes."""

import os
from pathlib import Path
from threading import get_ident
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bts_assets.contracts.errors import BtsError

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
        try:
            table = pa.Table.from_pandas(readings, schema=_SCHEMA, preserve_index=False, nthreads=1)
            pq.write_table(
                table,
                partial,
                compression=_COMPRESSION,
                use_dictionary=["station_id", "parameter_id"],
                column_encoding=dict.fromkeys(("reading_id", "reading_time"), "DELTA_BINARY_PACKED"),
            )
            with partial.open("rb") as written:
                os.fsync(written.fileno())
            partial.replace(path)
            _sync_folder(path.parent)
        finally:
            partial.unlink(missing_ok=True)

    def read(self, digest: str) -> pd.DataFrame:
        """The `Readings` frame of one landing file.

        Raises:
            ReadingsMissing: naming the file that is gone or damaged.
        """
        try:
            table = pq.ParquetFile(self.path(digest)).read(use_threads=False)
        except (OSError, pa.ArrowException) as error:
            what = "gone" if isinstance(error, FileNotFoundError) else "damaged"
            raise ReadingsMissing(
                f"the readings of landing file {digest[:12]} are {what}: restore {self.path(digest)} from a backup"
            ) from None
        frame = table.drop_columns("reading_id").to_pandas()
        ids = table["reading_id"]
        frame.insert(0, "reading_id", pd.array(ids.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)))
        return frame


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

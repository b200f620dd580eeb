"""Where accepted readings rest: one immutable Parquet file per landing file, named by the digest of its bytes; those of
small landing files in a table (`small_readings`).

Each Parquet file carries checksums of its pages and a SHA-256 of its readings (`reading_file`), each row of the table a
SHA-256, so that bits that flipped at rest are found when they are read, and cannot pass for other readings.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.errors import BtsError
from bts_assets.landing.reading_arrays import NO_READINGS, ReadingArrays, concatenated
from bts_assets.storage import reading_file, small_readings
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.partials import clear_abandoned, partial_file
from bts_assets.storage.reading_file import Wanted

#: Files that are read side by side: Arrow lets go of the interpreter.
_READERS: Final = 2


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

    def has_file(self, digest: str) -> bool:
        return self.path(digest).exists()

    def place(self, digest: str) -> str:
        """Where readings that are gone have to be again, in words."""
        return str(self.path(digest)) if self.has_file(digest) else f"{self.path(digest)} or {_ROW}"

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

    def write(self, digest: str, parts: Iterable[ReadingArrays]) -> None:
        """Let readings that come in canonical order rest as Parquet, durably, before the ledger vouches for them. The
        same digest is the same file.
        """
        path = self.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Copies of one file may be read side by side: each writes a partial file of its own.
        partial = path.with_suffix(f".{os.getpid()}-{get_ident()}.part")
        with partial_file(partial) as held:
            reading_file.write(partial, parts)
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

    def each(self, digests: Sequence[str], stations: Wanted = None) -> Iterator[ReadingArrays]:
        """The readings of landing files in canonical order, file by file: of all stations, from one to another, or of a
        few. The small ones are asked for together; of Parquet what is wanted is read, side by side.

        Raises:
            ReadingsMissing: naming the first landing file whose readings are gone or damaged.
        """
        small = self._small(digests)
        with ThreadPoolExecutor(_READERS) as pool:
            others = pool.map(lambda digest: self._of_file(digest, stations), (d for d in digests if d not in small))
            for digest in digests:
                yield _of_stations(small[digest], stations) if digest in small else next(others)

    def in_parts(self, digest: str) -> Iterator[ReadingArrays]:
        """The readings of one landing file in canonical order, in parts of a bounded size.

        Raises:
            ReadingsMissing: naming the landing file whose readings are gone or damaged.
        """
        small = self._small([digest])
        return iter(small.values()) if small else self._parts(digest)

    def count_by_station(self, digests: Sequence[str]) -> Counter[int]:
        """How many readings of each station landing files have.

        Raises:
            ReadingsMissing: naming the landing file whose readings are gone or damaged.
        """
        small, counts = self._small(digests), Counter[int]()
        for digest in digests:
            for stations in [small[digest].station_id] if digest in small else self._stations(digest):
                each, rows = np.unique(stations, return_counts=True)
                counts.update(dict(zip(each.tolist(), rows.tolist(), strict=True)))
        return counts

    def is_vouched(self, digest: str) -> bool:
        """Whether readings that are there have a SHA-256; Parquet of older code has none.

        Raises:
            ReadingsMissing: naming the landing file whose readings are damaged.
        """
        if not self.has_file(digest):
            return True
        with self._damage_named(digest), reading_file.opened(self.path(digest)) as file:
            return file.is_vouched

    def set_aside(self, digest: str) -> bytes | None:
        """Take damaged readings out of the store: Parquet gets the ending `.damaged`, a row is given back."""
        if self.has_file(digest):
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

    def _of_file(self, digest: str, stations: Wanted) -> ReadingArrays:
        parts = [_of_stations(part, stations) for part in self._parts(digest, stations)]
        return parts[0] if len(parts) == 1 else concatenated([NO_READINGS, *parts])

    def _parts(self, digest: str, stations: Wanted = None) -> Iterator[ReadingArrays]:
        with self._damage_named(digest), reading_file.opened(self.path(digest)) as file:
            yield from file.parts(stations)

    def _stations(self, digest: str) -> Iterator[np.ndarray]:
        with self._damage_named(digest), reading_file.opened(self.path(digest)) as file:
            yield from file.stations()

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


def _of_stations(readings: ReadingArrays, stations: Wanted) -> ReadingArrays:
    if stations is None:
        return readings
    own = readings.station_id
    if isinstance(stations, tuple):
        return readings.take((own >= stations[0]) & (own <= stations[1]))
    return readings.take(np.isin(own, list(stations)))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

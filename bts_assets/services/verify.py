"""Whether what rests is what was put there: every store walked against its digests, and readings brought back."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.progress import OnProgress
from bts_assets.forecasting.bundle import digest_of
from bts_assets.landing.series import digest_of_stations, has_digest, station_digests
from bts_assets.services.home import Home
from bts_assets.services.ingest import ingest
from bts_assets.services.memory import series_at_once
from bts_assets.storage.forecasts import is_as_published
from bts_assets.storage.observation_blocks import station_parts
from bts_assets.storage.observations import midnight_of, read_observations
from bts_assets.storage.readings import ReadingsMissing
from bts_assets.storage.recalibrations import read_recalibration

_DIGEST_LENGTH: Final = 64


@dataclass(frozen=True)
class Verified:
    """What walking a store came to: `wrong` has a line for each thing that is gone or differs from its digest.

    unvouched: how many have no digest of their own, and were only read.
    """

    store: str
    checked: int
    unvouched: int
    wrong: tuple[str, ...]


def verify(home: Home, on_progress: OnProgress | None = None) -> list[Verified]:
    """Read everything that rests in the home and compare it with its digest. Nothing is changed."""
    walks: list[Callable[[], Verified]] = [
        lambda: _readings(home),
        lambda: _observations(home),
        lambda: _bundles("bundles", sorted(_named_by_digest(home.models.cache, "*"))),
        lambda: _bundles("mlflow artifacts", sorted(_named_by_digest(home.models.artifacts, "**/artifacts/*"))),
        lambda: _forecasts(home),
    ]
    found = []
    for done, walk in enumerate(walks, start=1):
        found.append(walk())
        if on_progress:
            on_progress("verifying", done, len(walks))
    return found


def repair(home: Home, now: datetime) -> tuple[list[str], list[str]]:
    """Take the readings of damaged files in again where their landing files are still there; paths mended, and not.

    A damaged Parquet file is kept beside the new one with the ending `.damaged`.
    """
    mended: list[str] = []
    left: list[str] = []
    for digest, path in _damaged(home):
        (mended if _taken_again(home, digest, path, now) else left).append(path)
    return mended, left


_ACCEPTED: Final = sa.text("""
    SELECT digest::text, min(path) AS path, max(accepted) AS accepted FROM bts.landing_file
    WHERE status = 'accepted' AND pruned_at IS NULL GROUP BY digest ORDER BY digest
""")
_PATHS: Final = sa.text("SELECT DISTINCT path FROM bts.landing_file WHERE digest = :digest ORDER BY path")
_DAYS: Final = sa.text("""
    SELECT DISTINCT ON (day) day, digest::text, observations FROM bts.observed_day
    WHERE day > coalesce((SELECT max(day) FROM bts.pruning), '-infinity') ORDER BY day, ledger_seq DESC
""")
_BATCHES: Final = sa.text("""
    SELECT batch_id, issued_at, horizon_steps, forecasts_digest::text, recalibration_digest::text FROM bts.batch
    WHERE pruned_at IS NULL ORDER BY batch_id
""")


def _readings(home: Home) -> Verified:
    with home.engine.connect() as connection:
        files = connection.execute(_ACCEPTED).all()
    wrong, unvouched = [], 0
    for digest, path, accepted in files:
        try:
            rows = sum(map(len, home.readings.in_parts(digest)))
            unvouched += not home.readings.is_vouched(digest)
        except ReadingsMissing as error:
            wrong.append(f"{path}: {error}")
            continue
        if rows != accepted:
            wrong.append(f"{path}: {home.readings.path(digest)} has {rows} readings, the ledger {accepted}")
    return Verified("readings", len(files), unvouched, tuple(wrong))


def _observations(home: Home) -> Verified:
    wrong = []
    with home.engine.connect() as connection:
        days = connection.execute(_DAYS).all()
        for day, digest, count in days:
            if not _is_as_computed(connection, home, midnight_of(day), digest):
                wrong.append(f"{day}: its observations are not the {count} that were computed")
    return Verified("observations", len(days), 0, tuple(wrong))


def _is_as_computed(connection: sa.Connection, home: Home, start: datetime, digest: str) -> bool:
    """Whether a day's observations have this digest; whole days are read only for one from before there were parts."""
    parts = station_parts(connection, series_at_once(home.settings))
    read = (read_observations(connection, start, start + DAY, part) for part in parts)
    if digest_of_stations(own for part in read for own in station_digests(part)) == digest:
        return True
    return has_digest(read_observations(connection, start, start + DAY), digest)


def _named_by_digest(root: Path, pattern: str) -> Iterator[Path]:
    return (p for p in root.glob(pattern) if p.is_dir() and len(p.name) == _DIGEST_LENGTH)


def _bundles(store: str, folders: list[Path]) -> Verified:
    wrong = [f"{folder}: its bytes have changed" for folder in folders if not _is_sound(folder)]
    return Verified(store, len(folders), 0, tuple(wrong))


def _is_sound(folder: Path) -> bool:
    try:
        return digest_of({file.name: file.read_bytes() for file in folder.iterdir()}) == folder.name
    except OSError:
        return False


def _forecasts(home: Home) -> Verified:
    wrong = []
    with home.engine.connect() as connection:
        batches = connection.execute(_BATCHES).all()
        for batch_id, issued_at, horizon_steps, digest, recalibrated in batches:
            if not is_as_published(connection, batch_id, issued_at, horizon_steps, digest):
                wrong.append(f"batch {batch_id} of {issued_at}: its forecasts are not those that were published")
            applied = read_recalibration(connection, batch_id)
            if (applied.digest if applied else None) != recalibrated:
                wrong.append(f"batch {batch_id} of {issued_at}: its recalibration is not the one that was applied")
    return Verified("forecasts", len(batches), 0, tuple(wrong))


def _damaged(home: Home) -> list[tuple[str, str]]:
    """Digest and path of each accepted landing file whose readings cannot be read, or vouch for nothing."""
    with home.engine.connect() as connection:
        files = connection.execute(_ACCEPTED).all()
    return [(digest, path) for digest, path, accepted in files if not _holds(home, digest, accepted)]


def _holds(home: Home, digest: str, accepted: int) -> bool:
    try:
        return home.readings.is_vouched(digest) and sum(map(len, home.readings.in_parts(digest))) == accepted
    except ReadingsMissing:
        return False


def _taken_again(home: Home, digest: str, path: str, now: datetime) -> bool:
    if not _still_landed(home, digest):
        return False
    row = home.readings.set_aside(digest)
    # Readings that are gone are taken in again by any ingest: this is the one.
    ingest(home, home.landing, now=now)
    if home.readings.sizes([digest]):
        return True
    home.readings.put_back(digest, row)
    return False


def _still_landed(home: Home, digest: str) -> bool:
    """Whether a landing file with these very bytes lies where the ledger last met it."""
    with home.engine.connect() as connection:
        paths = connection.execute(_PATHS, {"digest": digest}).scalars().all()
    for path in paths:
        try:
            with (home.landing / path).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                    return True
        except (OSError, ValueError):
            continue
    return False

"""Retention: which forecasts, observations and readings are past theirs, and deleting them.

Time is counted back from the origin that serves, not from now: where nights stop, nothing goes.
"""

from dataclasses import dataclass
from datetime import UTC, date
from typing import Final

import sqlalchemy as sa

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.progress import OnProgress
from bts_assets.services.home import Home
from bts_assets.storage import retention as stored
from bts_assets.storage import small_readings
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.locks import LOCK_INGEST, LOCK_PUBLISH, transaction
from bts_assets.storage.retention import OldBatch, OldDay

#: Files between two commits: a pruning that is killed has little to do again.
_FILES_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Past:
    """What is past its retention. bytes: of forecasts and observations about, of files as the disk says."""

    batches: tuple[OldBatch, ...] = ()
    days: tuple[OldDay, ...] = ()
    files: tuple[str, ...] = ()
    forecast_bytes: int = 0
    observation_bytes: int = 0
    file_bytes: int = 0

    @property
    def forecast_rows(self) -> int:
        return sum(batch.rows for batch in self.batches)

    @property
    def observations(self) -> int:
        return sum(day.observations for day in self.days)


def find_past(home: Home) -> Past:
    """What a pruning would delete now. Of no retention, and before anything was published, nothing."""
    with home.engine.connect() as connection:
        batches = _old_batches(home, connection)
        before = _first_kept_day(home, connection)
        days = stored.old_days(connection, before) if before else []
        files = _unneeded_files(home, connection, before, [batch.batch_id for batch in batches]) if before else {}
        rows, observations = sum(b.rows for b in batches), sum(d.observations for d in days)
        forecast_bytes, observation_bytes = stored.bytes_of_rows(connection, rows, observations)
    return Past(tuple(batches), tuple(days), tuple(files), forecast_bytes, observation_bytes, sum(files.values()))


def prune(home: Home, on_progress: OnProgress | None = None) -> Past:
    """Delete what is past its retention; what that was. Killed anywhere, the next pruning does the rest.

    A batch, a day and some files are each a commit of their own, under the lock of publishing or ingest.

    Raises:
        DatabaseError: if another process publishes, or takes files in, for too long.
    """
    past = find_past(home)
    total, done = len(past.batches) + len(past.days) + len(past.files), 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if on_progress:
            on_progress("pruning", done, total)

    for batch in past.batches:
        _prune_batch(home, batch)
        crash_point("retention.after_batch")
        tell(1)
    for day in past.days:
        _prune_day(home, day)
        crash_point("retention.after_day")
        tell(1)
    for start in range(0, len(past.files), _FILES_AT_ONCE):
        some = past.files[start : start + _FILES_AT_ONCE]
        _prune_files(home, some)
        tell(len(some))
    if past.batches or past.days:
        stored.free_space(home.engine)
    return past


def _prune_batch(home: Home, batch: OldBatch) -> None:
    with transaction(home.engine, LOCK_PUBLISH) as connection:
        # What serves, or is on probation, may have changed since it was found.
        if batch in _old_batches(home, connection):
            stored.delete_forecasts(connection, batch.batch_id)


def _prune_day(home: Home, day: OldDay) -> None:
    with transaction(home.engine, LOCK_INGEST) as connection:
        if any(old.day == day.day for old in stored.old_days(connection, day.day + DAY)):
            stored.delete_day(connection, day.day)


def _prune_files(home: Home, digests: tuple[str, ...]) -> None:
    """The ledger says so first: a file that is gone and not told of would be asked for from a backup."""
    with transaction(home.engine, LOCK_INGEST) as connection:
        before = _first_kept_day(home, connection)
        unneeded = _unneeded_files(home, connection, before, []) if before else {}
        going = [digest for digest in digests if digest in unneeded]
        stored.mark_readings_pruned(connection, going)
        small_readings.remove(connection, going)
    crash_point("retention.after_mark")
    for digest in going:
        home.readings.remove_file(digest)
        crash_point("retention.after_file")


def _old_batches(home: Home, connection: sa.Connection) -> list[OldBatch]:
    kept, origin = home.settings.forecast_retention, stored.serving_origin(connection)
    return [] if kept is None or origin is None else stored.old_batches(connection, origin - kept)


def _first_kept_day(home: Home, connection: sa.Connection) -> date | None:
    """The first UTC day whose observations stay; None: all do."""
    kept, origin = home.settings.observation_retention, stored.serving_origin(connection)
    return None if kept is None or origin is None else (origin - kept).astimezone(UTC).date()


def _unneeded_files(home: Home, connection: sa.Connection, before: date, going: list[int]) -> dict[str, int]:
    """Digest -> bytes of the readings that nothing needs and that are there still."""
    return home.readings.sizes(stored.unneeded_readings(connection, before, going))

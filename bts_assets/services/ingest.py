"""Taking landing files in: read, validate, let the readings rest, enter the ledger. Each file stands or falls alone."""

import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.text import counted
from bts_assets.landing import inbox
from bts_assets.landing.scratch import PREFIX
from bts_assets.services.home import Home
from bts_assets.services.landing_reads import Read, defect, groups_of, rules_kept
from bts_assets.services.landing_work import SET_ASIDE, journal_of, prepared_in_order
from bts_assets.services.memory import landing_scratch
from bts_assets.services.reading_journal import FATAL
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.ingest_ledger import UNREAD, digests_of, enter_files, newest_entries, read_again
from bts_assets.storage.landing_decisions import FileEntry, read_rows
from bts_assets.storage.observed_stations import forget_days_of
from bts_assets.storage.partials import clear_abandoned


@dataclass(frozen=True)
class IngestReport:
    """What one look at the landing folder came to. Row counts are of the files taken now."""

    found: int = 0
    taken: int = 0
    unusable: int = 0  # had rows, or none, but gave no reading
    refused: int = 0
    copies: int = 0
    corrected: int = 0  # of those taken: replaced what had come under their path
    continued: int = 0  # of those taken: go on where what had come under their path ended, which counts as well
    unchanged: int = 0
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    rejected_by_reason: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  # path -> why it was left for later
    refusals: dict[str, str] = field(default_factory=dict)  # path -> why
    unusables: dict[str, str] = field(default_factory=dict)  # path -> the likely cause
    others: dict[str, str] = field(default_factory=dict)  # path -> why it is not looked at
    narrowed: dict[str, str] = field(default_factory=dict)  # path -> what the file that it replaced had more of


def ingest(
    home: Home,
    landing: Path,
    *,
    now: datetime,
    run_id: str | None = None,
    on_progress: OnProgress | None = None,
) -> IngestReport:
    """Take in every settled landing file below `landing` that the ledger does not know as it is.

    Raises:
        LandingFolderMissing: if there is no such folder.
    """
    journal = journal_of(home)
    journal.divide()
    first, fresh = look_for_fresh_files(home, landing)
    crash_point("landing.after_look")
    deaths = journal.deaths(first.files)
    left = {skipped.path: skipped.reason for skipped in first.skipped}
    aside = [file for file in first.files if deaths.get(file.path, 0) >= FATAL]
    left |= {file.path: SET_ASIDE for file in aside}
    ready: list[inbox.LandingFile] = []
    if fresh:
        _forget_days_of_gone(home, fresh)
        home.readings.clear_abandoned()
        clear_abandoned(landing_scratch(home.settings).folder.glob(f"{PREFIX}*"))
        time.sleep(home.settings.file_stable_for.total_seconds())
        settled, unsettled = inbox.settled(first, inbox.look(landing))
        paths = {f.path for f in fresh}
        ready = [f for f in settled if f.path in paths]
        left |= {f.path: "still being written" for f in unsettled}

    tally: list[dict[str, Any]] = []
    _enter(home, [Read(file, UNREAD, refused=SET_ASIDE) for file in aside], run_id)
    # What was being read when a run died is tried last and alone: should it kill this one too, it is known for it.
    suspects = [file for file in ready if file.path in deaths]
    others = [file for file in ready if file.path not in deaths]
    done = 0
    groups = [*groups_of(others), *([file] for file in suspects)]
    for results in prepared_in_order(home, landing, groups, len(suspects), now):
        left |= {result.file.path: result.left for result in results if result.left}
        readable = [result for result in results if not result.left]
        for result, entered in zip(readable, _enter(home, readable, run_id), strict=True):
            if isinstance(entered, str):
                left[result.file.path] = entered
            else:
                tally.append(entered)
        done += len(results)
        if on_progress:
            on_progress("taking in files", done, len(ready))
    unchanged = len(first.files) - len(fresh) - len(aside)
    return replace(_report(len(first.files), unchanged, tally, left), others={s.path: s.reason for s in first.others})


def _forget_days_of_gone(home: Home, fresh: list[inbox.LandingFile]) -> None:
    """Readings that are gone come back with their file, perhaps as others: time, catalogue and landing zone may have
    moved on. So its days are computed whole when they are due next.
    """
    known = digests_of(home.engine, [file.path for file in fresh])
    if gone := set(known) - home.readings.sizes(known).keys():
        forget_days_of(home.engine, sorted(gone))


def retry_failed(home: Home) -> int:
    """Have the next ingest read everything again that was refused, unusable or set aside; how many entries that are."""
    journal_of(home).forget()
    return read_again(home.engine)


def look_for_fresh_files(home: Home, landing: Path) -> tuple[inbox.Look, list[inbox.LandingFile]]:
    """All landing files, and those of them that the ledger does not know with this size and time of last change.

    Raises:
        LandingFolderMissing: if there is no such folder.
    """
    look = inbox.look(landing)
    known = _known_files(home)
    fresh = [f for f in look.files if known.get(f.path) != (f.size, f.mtime_ns)]
    deaths = journal_of(home).deaths(fresh)
    return look, [f for f in fresh if deaths.get(f.path, 0) < FATAL]


def _known_files(home: Home) -> dict[str, tuple[int, int]]:
    """Path -> (size, time of last change) as last taken in: an unchanged file need not be read again.

    One that could not be read is tried again, since its permissions change without a trace; so is one that could not be
    used by other rules than those of now; and one whose readings are gone from the store, unless they were pruned: it
    brings them back.
    """
    rules = rules_kept(home)

    def stands(entry: Any) -> bool:
        if entry.status in ("refused", "unusable"):
            return entry.digest != UNREAD and entry.rules == rules
        return entry.pruned_at is not None or entry.small or home.readings.has_file(entry.digest)

    entries = newest_entries(home.engine)
    return {entry.path: (entry.bytes, entry.modified_ns) for entry in entries if stands(entry)}


def _entry(home: Home, read: Read) -> FileEntry:
    file = read.file
    rules = rules_kept(home)
    return FileEntry(file.path, file.size, file.mtime_ns, read.digest, read.parsed, read.refused, rules, read.small)


def _enter(home: Home, reads: list[Read], run_id: str | None) -> list[dict[str, Any] | str]:
    """Enter files together: of each its row, or why the database cannot hold what is in it. It is then left, and the
    others are entered: each half is tried, until the file stands alone.

    Raises:
        sqlalchemy.exc.DBAPIError: if the fault is not a file's: a lost connection, a full disk.
    """
    if not reads:
        return []
    try:
        return list(enter_files(home.engine, [_entry(home, read) for read in reads], home.catalogue, run_id))
    except sa.exc.DBAPIError as error:
        if (getattr(error.orig, "pgcode", None) or "")[:2] not in _FAULTS_OF_CONTENT:
            raise
        if len(reads) == 1:
            return [defect(error.orig or error)]
    half = len(reads) // 2
    return _enter(home, reads[:half], run_id) + _enter(home, reads[half:], run_id)


#: Classes of SQLSTATE: data exception, integrity constraint violation, program limit exceeded.
_FAULTS_OF_CONTENT: Final = ("22", "23", "54")


def _report(found: int, unchanged: int, tally: list[dict[str, Any]], left: dict[str, str]) -> IngestReport:
    taken = [row for row in tally if row["status"] != "unchanged"]
    reasons: dict[str, int] = {}
    for row in taken:
        for reason, rows in row["rejected_by_reason"].items():
            reasons[reason] = reasons.get(reason, 0) + int(rows)
    return IngestReport(
        found=found,
        taken=sum(row["status"] == "accepted" for row in taken),
        unusable=sum(row["status"] == "unusable" for row in taken),
        refused=sum(row["status"] == "refused" for row in taken),
        copies=sum(row["status"] == "copy" for row in taken),
        corrected=sum(row["corrects"] for row in taken),
        continued=sum(row["goes_on"] for row in taken),
        unchanged=unchanged + len(tally) - len(taken),
        rows=sum(row["rows"] for row in taken),
        accepted=sum(row["accepted"] for row in taken),
        rejected=sum(row["rejected"] for row in taken),
        duplicate=sum(row["duplicate"] for row in taken),
        rejected_by_reason=reasons,
        left=left,
        refusals={row["path"]: row["reason"] for row in taken if row["status"] == "refused"},
        unusables={row["path"]: row["reason"] for row in taken if row["status"] == "unusable"},
        narrowed={row["path"]: _narrowed(row) for row in taken if row["narrows"]},
    )


def _narrowed(row: dict[str, Any]) -> str:
    """What may no longer count, since a file replaced one of its name that had more."""
    had = row["narrows"]
    return (
        f"{counted(read_rows(row), 'row')} until {row['last_reading_at']:{_AT}} UTC replaced {read_rows(had):,} until"
        f" {had['last_reading_at']:{_AT}}, which count only as far as other files have them"
    )


_AT: Final = "%Y-%m-%d %H:%M:%S"

"""Taking landing files in: read, validate, let the readings rest, enter the ledger. Each file stands or falls alone."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa
from pandera.errors import SchemaErrors

from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.schemas import Readings, validate
from bts_assets.landing import inbox
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.names import NamedKind
from bts_assets.services.home import Home
from bts_assets.services.memory import landing_bytes_at_once
from bts_assets.services.reading_journal import FATAL, ReadingJournal
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.ingest_ledger import UNREAD, FileEntry, enter_files, newest_entries, read_again, vouched_digests
from bts_assets.storage.landing_names import numbers_of_names

#: Files are parsed side by side; Arrow lets go of the interpreter, and more than two only cost memory.
_WORKERS: Final = 2

#: Files that are checked and entered together: so many, of so many bytes in all.
_GROUP_FILES: Final = 64
_GROUP_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class IngestReport:
    """What one look at the landing folder came to. Row counts are of the files taken now."""

    found: int = 0
    taken: int = 0
    unusable: int = 0  # had rows, or none, but gave no reading
    refused: int = 0
    copies: int = 0
    corrected: int = 0  # of those taken: came with other content under a known path
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


@dataclass(frozen=True)
class _Read:
    """One file's bytes, read: what the ledger will say of it."""

    file: inbox.LandingFile
    digest: str = ""
    parsed: ParsedFile | None = None
    refused: str | None = None
    left: str | None = None


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
    first, fresh = look_for_fresh_files(home, landing)
    crash_point("landing.after_look")
    journal = _journal(home)
    left = {skipped.path: skipped.reason for skipped in first.skipped}
    aside = [file for file in first.files if journal.deaths(file) >= FATAL]
    left |= {file.path: _SET_ASIDE for file in aside}
    ready: list[inbox.LandingFile] = []
    if fresh:
        home.readings.clear_abandoned()
        time.sleep(home.settings.file_stable_for.total_seconds())
        settled, unsettled = inbox.settled(first, inbox.look(landing))
        paths = {f.path for f in fresh}
        ready = [f for f in settled if f.path in paths]
        left |= {f.path: "still being written" for f in unsettled}

    vouched = vouched_digests(home.engine)

    def kept(reads: list[_Read]) -> list[_Read]:
        return [_keep(home, each, vouched) for each in _validated(reads)]

    def read(files: Sequence[inbox.LandingFile]) -> list[_Read]:
        if len(files) == 1:
            with journal.reading(files[0]):
                return kept([_parse(home, landing, files[0], now)])
        reads = []
        for file in files:
            # Only while it is parsed: a small file that kills a run puts none of its group under suspicion.
            with journal.reading(file):
                reads.append(_parse(home, landing, file, now))
        return kept(reads)

    tally: list[dict[str, Any]] = []
    _enter(home, [_Read(file, UNREAD, refused=_SET_ASIDE) for file in aside], run_id)
    # What was being read when a run died is tried last and alone: should it kill this one too, it is known for it.
    suspects = [file for file in ready if journal.deaths(file)]
    others = [file for file in ready if file not in suspects]
    done = 0
    groups = [*groups_of(others), *([file] for file in suspects)]
    for results in read_in_order(read, groups, alone=len(suspects), at_once=landing_bytes_at_once(home.settings)):
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


def retry_failed(home: Home) -> int:
    """Have the next ingest read everything again that was refused, unusable or set aside; how many entries that are."""
    _journal(home).forget()
    return read_again(home.engine)


_SET_ASIDE: Final = (
    "set aside: the run died twice while reading it; it is read again when it changes, or after bts ingest --retry"
)


def _journal(home: Home) -> ReadingJournal:
    return ReadingJournal(home.settings.home / "reading")


def look_for_fresh_files(home: Home, landing: Path) -> tuple[inbox.Look, list[inbox.LandingFile]]:
    """All landing files, and those of them that the ledger does not know with this size and time of last change.

    Raises:
        LandingFolderMissing: if there is no such folder.
    """
    look = inbox.look(landing)
    known, journal = _known_files(home), _journal(home)
    fresh = [f for f in look.files if known.get(f.path) != (f.size, f.mtime_ns)]
    return look, [f for f in fresh if journal.deaths(f) < FATAL]


def groups_of(files: Sequence[inbox.LandingFile]) -> Iterator[list[inbox.LandingFile]]:
    """Files in their order, small ones together: what a file costs beside its rows is then paid once a group."""
    group: list[inbox.LandingFile] = []
    held = 0
    for file in files:
        if group and (held + file.size > _GROUP_BYTES or len(group) == _GROUP_FILES):
            yield group
            group, held = [], 0
        group.append(file)
        held += file.size
    if group:
        yield group


def _parse(home: Home, root: Path, file: inbox.LandingFile, now: datetime) -> _Read:
    settings = home.settings
    digest = ""
    try:
        data = inbox.read_settled(root, file, settings.max_file_bytes)
        crash_point("landing.after_read")
        digest = inbox.digest_of(data)
        parsed = parse_landing_file(
            data,
            home.catalogue,
            landing_timezone=settings.landing_timezone,
            now=now,
            max_skew=settings.max_skew,
            rules=_rules(home),
            number_of=lambda kind, names: _numbers_of(home, kind, names),
            max_bytes=settings.max_file_bytes,
            rejected_kept=settings.rejected_kept,
        )
    except inbox.StillChanging:
        return _Read(file, left="still being written")
    except LandingFileRefused as refusal:
        return _Read(file, digest or UNREAD, refused=str(refusal))
    except OSError as error:
        # A disk that is full or a file that cannot be opened says nothing of the file's content: try again next time.
        return _Read(file, left=_unkept(error))
    except Exception as error:
        # A defect of ours, which one file met: it must not cost the night all the others.
        return _Read(file, left=_defect(error))
    crash_point("landing.after_parse")
    return _Read(file, digest, parsed)


def _unkept(error: OSError) -> str:
    return f"could not be read or kept: {error.strerror or error}"


def _validated(reads: list[_Read]) -> list[_Read]:
    """The files with what breaks the schema left out: all readings are looked at together, and where they break it,
    those of each file.
    """
    frames = [read.parsed.readings for read in reads if read.parsed]
    try:
        if frames:
            validate(Readings, pd.concat(frames, ignore_index=True) if len(frames) > 1 else frames[0])
        return reads
    except SchemaErrors as error:
        if len(reads) > 1:
            return [checked for read in reads for checked in _validated([read])]
        return [_Read(reads[0].file, left=f"{BREAKS_SCHEMA}: {len(error.failure_cases)} failing cases; report it")]


def _keep(home: Home, read: _Read, vouched: frozenset[str]) -> _Read:
    """Lets the readings rest, durably, before the ledger is told of them."""
    # What the ledger vouches for is never written anew: time, catalogue and landing zone may have moved on since.
    if not read.parsed or not read.parsed.accepted:
        return read
    if read.digest in vouched and home.readings.path(read.digest).exists():
        return read
    try:
        home.readings.write(read.digest, read.parsed.readings)
    except OSError as error:
        return _Read(read.file, left=_unkept(error))
    except Exception as error:
        return _Read(read.file, left=_defect(error))
    return read


def _rules(home: Home) -> LandingRules:
    settings = home.settings
    return LandingRules(settings.header_names, settings.landing_dayfirst, settings.landing_decimal)


def _numbers_of(home: Home, kind: NamedKind, names: Sequence[str]) -> dict[str, int]:
    return numbers_of_names(home.engine, kind, names)


def _rules_kept(home: Home) -> dict[str, Any]:
    """What decides whether a file can be used, besides its bytes: if it changes, what could not be is read again."""
    rules = _rules(home)
    return {
        "columns": dict(rules.columns),
        "dayfirst": rules.dayfirst,
        "decimal": rules.decimal,
        "max_bytes": home.settings.max_file_bytes,
    }


#: Begins the reason of a file whose accepted rows are not what the pandera schema says: a defect of the parser.
BREAKS_SCHEMA: Final = "breaks the schema of readings"


def read_in_order(
    read: Callable[[Sequence[inbox.LandingFile]], list[_Read]],
    groups: Sequence[list[inbox.LandingFile]],
    alone: int,
    at_once: int,
) -> Iterator[list[_Read]]:
    """Read ahead by a few groups, and no more than `at_once` bytes unless one file alone has more, so that memory grows
    neither with the landing folder nor with its files; the last `alone` groups by themselves.
    """
    together = deque(groups[: len(groups) - alone])
    ahead: deque[tuple[int, Future[list[_Read]]]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        while together or ahead:
            while together and len(ahead) <= _WORKERS:
                size = sum(file.size for file in together[0])
                if ahead and size + sum(held for held, _ in ahead) > at_once:
                    break
                ahead.append((size, pool.submit(read, together.popleft())))
            # It counts as held until it is entered, which is when the next is asked for.
            yield ahead[0][1].result()
            ahead.popleft()
    yield from map(read, groups[len(groups) - alone :])


def _known_files(home: Home) -> dict[str, tuple[int, int]]:
    """Path -> (size, time of last change) as last taken in: an unchanged file need not be read again.

    One that could not be read is tried again, since its permissions change without a trace; so is one that could not be
    used by other rules than those of now; and one whose readings are gone from the store, unless they were pruned: it
    brings them back.
    """
    rules = _rules_kept(home)

    def stands(entry: Any) -> bool:
        if entry.status in ("refused", "unusable"):
            return entry.digest != UNREAD and entry.rules == rules
        return entry.pruned_at is not None or home.readings.path(entry.digest).exists()

    entries = newest_entries(home.engine)
    return {entry.path: (entry.bytes, entry.modified_ns) for entry in entries if stands(entry)}


def _entry(home: Home, read: _Read) -> FileEntry:
    file = read.file
    return FileEntry(file.path, file.size, file.mtime_ns, read.digest, read.parsed, read.refused, _rules_kept(home))


def _enter(home: Home, reads: list[_Read], run_id: str | None) -> list[dict[str, Any] | str]:
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
            return [_defect(error.orig or error)]
    half = len(reads) // 2
    return _enter(home, reads[:half], run_id) + _enter(home, reads[half:], run_id)


#: Classes of SQLSTATE: data exception, integrity constraint violation, program limit exceeded.
_FAULTS_OF_CONTENT: Final = ("22", "23", "54")


def _defect(error: BaseException) -> str:
    return f"could not be taken in: {type(error).__name__}: {error}".splitlines()[0]


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
        corrected=sum(row.get("corrects", False) for row in taken),
        unchanged=unchanged + len(tally) - len(taken),
        rows=sum(row["rows"] for row in taken),
        accepted=sum(row["accepted"] for row in taken),
        rejected=sum(row["rejected"] for row in taken),
        duplicate=sum(row["duplicate"] for row in taken),
        rejected_by_reason=reasons,
        left=left,
        refusals={row["path"]: row["reason"] for row in taken if row["status"] == "refused"},
        unusables={row["path"]: row["reason"] for row in taken if row["status"] == "unusable"},
    )

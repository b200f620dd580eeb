"""Taking landing files in: read, validate, let the readings rest, enter the ledger. Each file stands or falls alone."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from pandera.errors import SchemaErrors
from sqlalchemy.dialects.postgresql import distinct_on, insert

from bts_assets.contracts.catalogue import Catalogue, unknown_parameter
from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.schemas import Readings, SchemaChecksDisabled, validate
from bts_assets.landing import inbox
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.settings import Settings
from bts_assets.storage import tables
from bts_assets.storage.postgres import LOCK_INGEST, parameter_row, transaction
from bts_assets.storage.provenance import code_version
from bts_assets.storage.readings import ReadingStore

Progress = Callable[[str, int, int], None]

#: Files are parsed side by side; Arrow lets go of the interpreter, and more than two only cost memory.
_WORKERS: Final = 2


class LandingFolderMissing(BtsError):
    """The landing folder is not there."""


@dataclass(frozen=True)
class IngestReport:
    """What one look at the landing folder came to. Row counts are of the files taken now."""

    found: int = 0
    taken: int = 0
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


@dataclass(frozen=True)
class _Read:
    """One file's bytes, read: what the ledger will say of it."""

    file: inbox.LandingFile
    digest: str = ""
    parsed: ParsedFile | None = None
    refused: str | None = None
    left: str | None = None


def ingest(
    engine: sa.Engine,
    store: ReadingStore,
    landing: Path,
    settings: Settings,
    catalogue: Catalogue,
    *,
    now: datetime,
    run_id: str | None = None,
    on_progress: Progress | None = None,
) -> IngestReport:
    """Take in every settled landing file below `landing` that the ledger does not know as it is.

    Raises:
        LandingFolderMissing: if there is no such folder.
    """
    first, fresh = look_for_fresh_files(engine, store, landing)
    left = {skipped.path: skipped.reason for skipped in first.skipped}
    ready: list[inbox.LandingFile] = []
    if fresh:
        time.sleep(settings.settle.total_seconds())
        settled, unsettled = inbox.settled(first, _look(landing))
        paths = {f.path for f in fresh}
        ready = [f for f in settled if f.path in paths]
        left |= {f.path: "still being written" for f in unsettled}

    vouched = _vouched(engine)

    def read(file: inbox.LandingFile) -> _Read:
        return _read(landing, file, store, settings, catalogue, now, vouched)

    tally: list[dict[str, Any]] = []
    for done, result in enumerate(_in_order(read, ready), start=1):
        entered = result.left or _enter_alone(engine, result, settings, catalogue, run_id)
        if isinstance(entered, str):
            left[result.file.path] = entered
        else:
            tally.append(entered)
        if on_progress:
            on_progress("taking in files", done, len(ready))
    return _report(len(first.files), len(first.files) - len(fresh), tally, left)


def look_for_fresh_files(
    engine: sa.Engine, store: ReadingStore, landing: Path
) -> tuple[inbox.Look, list[inbox.LandingFile]]:
    """All landing files, and those of them that the ledger does not know with this size and time of last change.

    Raises:
        LandingFolderMissing: if there is no such folder.
    """
    look = _look(landing)
    known = _known_files(engine, store)
    return look, [f for f in look.files if known.get(f.path) != (f.size, f.mtime_ns)]


def _look(landing: Path) -> inbox.Look:
    try:
        return inbox.look(landing)
    except inbox.LandingFolderMissing as error:
        raise LandingFolderMissing(str(error)) from None


def _read(
    root: Path,
    file: inbox.LandingFile,
    store: ReadingStore,
    settings: Settings,
    catalogue: Catalogue,
    now: datetime,
    vouched: frozenset[str],
) -> _Read:
    digest = ""
    try:
        data = inbox.read_settled(root, file, settings.max_file_bytes)
        digest = inbox.digest_of(data)
        parsed = parse_landing_file(
            data, catalogue, landing_timezone=settings.landing_timezone, now=now, max_skew=settings.max_skew
        )
        validate(Readings, parsed.readings)
        # What the ledger vouches for is never written anew: time, catalogue and landing zone may have moved on since.
        if digest not in vouched or not store.path(digest).exists():
            store.write(digest, parsed.readings)
    except inbox.StillChanging:
        return _Read(file, left="still being written")
    except LandingFileRefused as refusal:
        return _Read(file, digest or _EMPTY_DIGEST, refused=str(refusal))
    except OSError as error:
        # A disk that is full or a file that cannot be opened says nothing of the file's content: try again next time.
        return _Read(file, left=f"could not be read or kept: {error.strerror or error}")
    except SchemaChecksDisabled:
        raise
    except SchemaErrors as error:
        return _Read(file, left=f"{BREAKS_SCHEMA}: {len(error.failure_cases)} failing cases; report it")
    except Exception as error:
        # A defect of ours, which one file met: it must not cost the night all the others.
        return _Read(file, left=_defect(error))
    return _Read(file, digest, parsed)


#: Begins the reason of a file whose accepted rows are not what the pandera schema says: a defect of the parser.
BREAKS_SCHEMA: Final = "breaks the schema of readings"

#: Stands for the digest of a file that could not be read at all: too large, or closed to this user.
_EMPTY_DIGEST: Final = "0" * 64


def _in_order(read: Callable[[inbox.LandingFile], _Read], files: list[inbox.LandingFile]) -> Iterator[_Read]:
    """Read ahead by a few files, no more, so that memory does not grow with the landing folder."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        queue = iter(files)
        ahead: list[Future[_Read]] = [pool.submit(read, f) for f in islice(queue, _WORKERS + 1)]
        while ahead:
            yield ahead.pop(0).result()
            ahead += [pool.submit(read, f) for f in islice(queue, 1)]


def _known_files(engine: sa.Engine, store: ReadingStore) -> dict[str, tuple[int, int]]:
    """Path -> (size, time of last change) as last taken in: an unchanged file need not be read again.

    One that could not be read is tried again, since its permissions, and how large it may be, change without a trace;
    and so is one whose readings are gone from the store: the landing file brings them back.
    """
    t = tables.landing_file.c
    newest = sa.select(t.path, t.bytes, t.modified_ns, t.digest, t.status).ext(distinct_on(t.path))
    with engine.connect() as connection:
        rows = connection.execute(newest.order_by(t.path, t.ledger_seq.desc()))
        return {
            path: (size, modified)
            for path, size, modified, digest, status in rows
            if digest != _EMPTY_DIGEST and (status == "refused" or store.path(digest).exists())
        }


def _vouched(engine: sa.Engine) -> frozenset[str]:
    """Digests whose readings the ledger has accepted, whether they still count or not."""
    t = tables.landing_file.c
    with engine.connect() as connection:
        return frozenset(connection.execute(sa.select(t.digest).where(t.status == "accepted")).scalars())


def _enter_alone(
    engine: sa.Engine, read: _Read, settings: Settings, catalogue: Catalogue, run_id: str | None
) -> dict[str, Any] | str:
    """Enter one file, or say why the database cannot hold what is in it; it is then left, and the others go on.

    Raises:
        sqlalchemy.exc.DBAPIError: if the fault is not the file's: a lost connection, a full disk.
    """
    try:
        return _enter(engine, read, settings, catalogue, run_id)
    except sa.exc.DBAPIError as error:
        if (getattr(error.orig, "pgcode", None) or "")[:2] not in _FAULTS_OF_CONTENT:
            raise
        return _defect(error.orig or error)


#: Classes of SQLSTATE: data exception, integrity constraint violation, program limit exceeded.
_FAULTS_OF_CONTENT: Final = ("22", "23", "54")


def _defect(error: BaseException) -> str:
    return f"could not be taken in: {type(error).__name__}: {error}".splitlines()[0]


def _enter(
    engine: sa.Engine, read: _Read, settings: Settings, catalogue: Catalogue, run_id: str | None
) -> dict[str, Any]:
    """Enter one file into the ledger, with all that belongs to it, in one transaction."""
    t = tables.landing_file
    with transaction(engine, LOCK_INGEST) as connection:
        same = sa.and_(t.c.path == read.file.path, t.c.superseded_by.is_(None))
        newest = sa.select(t).where(same).order_by(t.c.ledger_seq.desc()).limit(1)
        before = connection.execute(newest).mappings().first()
        if before and before["digest"] == read.digest:
            seen = {"bytes": read.file.size, "modified_ns": read.file.mtime_ns}
            connection.execute(sa.update(t).where(t.c.ledger_seq == before["ledger_seq"]).values(seen))
            return {"status": "unchanged"}
        # What no longer counts cannot be copied: a correction taken back is accepted anew, with the counts that it had.
        counts = sa.and_(t.c.superseded_by.is_(None), t.c.path != read.file.path)
        twins = sa.select(t, counts.label("counts")).where(t.c.digest == read.digest, t.c.status == "accepted")
        twin = connection.execute(twins.order_by(counts.desc(), t.c.ledger_seq).limit(1)).mappings().first()
        row = _ledger_row(read, dict(twin) if twin else None, run_id)
        ledger_seq = connection.execute(sa.insert(t).values(row).returning(t.c.ledger_seq)).scalar_one()
        if row["status"] != "refused":
            # A refused correction corrects nothing: what was taken before stays in use.
            older = sa.update(t).where(same, t.c.ledger_seq < ledger_seq).values(superseded_by=ledger_seq)
            row["corrects"] = connection.execute(older).rowcount > 0
        if row["status"] == "accepted" and read.parsed:
            _enter_rejections(connection, ledger_seq, read.parsed.rejected, settings.rejected_kept)
            _list_new(connection, read.parsed.readings, catalogue)
    return row | {"path": read.file.path}


#: What an entry says of the content alone, whenever and under whatever name it came.
_OF_CONTENT: Final = (
    "rows",
    "accepted",
    "rejected",
    "duplicate",
    "rejected_by_reason",
    "first_reading_at",
    "last_reading_at",
    "days",
)


def _ledger_row(read: _Read, twin: dict[str, Any] | None, run_id: str | None) -> dict[str, Any]:
    parsed = read.parsed
    row: dict[str, Any] = {
        "path": read.file.path,
        "digest": read.digest,
        "status": "refused" if parsed is None else "copy" if twin and twin["counts"] else "accepted",
        "reason": read.refused,
        "bytes": read.file.size,
        "modified_ns": read.file.mtime_ns,
        "rows": 0,
        "accepted": 0,
        "rejected": 0,
        "duplicate": 0,
        "rejected_by_reason": {},
        "first_reading_at": None,
        "last_reading_at": None,
        "days": [],
        "taken_at": datetime.now(UTC),
        "code_version": code_version(),
        "dagster_run_id": run_id,
    }
    if parsed is None:
        return row
    if twin and not twin["counts"]:
        return row | {k: twin[k] for k in _OF_CONTENT}
    if twin:
        same = {k: twin[k] for k in ("first_reading_at", "last_reading_at", "days")}
        return (
            row | same | {"rows": parsed.rows, "duplicate": parsed.rows, "reason": f"the same bytes as {twin['path']}"}
        )
    # The frame's order is by series: its days are few, so their numbers are all that need be looked through.
    times = parsed.readings["reading_time"].dt.tz_localize(None).to_numpy("datetime64[us]")
    days = np.unique(times.astype("datetime64[D]"))
    return row | {
        "rows": parsed.rows,
        "accepted": parsed.accepted,
        "rejected": len(parsed.rejected),
        "duplicate": parsed.duplicates,
        "rejected_by_reason": parsed.reasons,
        "first_reading_at": times.min().item().replace(tzinfo=UTC) if len(times) else None,
        "last_reading_at": times.max().item().replace(tzinfo=UTC) if len(times) else None,
        "days": days.tolist(),
    }


def _enter_rejections(connection: sa.Connection, ledger_seq: int, rejected: pd.DataFrame, kept: int) -> None:
    first = rejected.head(kept)
    if len(first):
        columns = {"lines": first["line"].tolist(), "raw": first["raw"].tolist()}
        reasons = [str(reason) for reason in first["reason"]]
        connection.execute(_REJECTIONS, {"ledger_seq": ledger_seq, "reasons": reasons, **columns})


# Whole columns as arrays: one statement a file, where a statement a row would cost more than reading the file did.
_REJECTIONS: Final = sa.text(
    "INSERT INTO bts.landing_rejection (ledger_seq, line, raw, reason) SELECT :ledger_seq, line, raw, reason"
    " FROM unnest(CAST(:lines AS bigint[]), CAST(:raw AS text[]), CAST(:reasons AS text[])) AS t (line, raw, reason)"
)
_STATIONS: Final = sa.text(
    "INSERT INTO bts.station (station_id, listed) SELECT id, false FROM unnest(CAST(:ids AS bigint[])) AS t (id)"
    " ON CONFLICT DO NOTHING"
)


def _list_new(connection: sa.Connection, readings: pd.DataFrame, catalogue: Catalogue) -> None:
    """List the stations and unknown parameters that these readings are the first to name."""
    connection.execute(_STATIONS, {"ids": readings["station_id"].unique().tolist()})
    known = {p.parameter_id for p in catalogue}
    unknown = [int(i) for i in readings["parameter_id"].unique() if int(i) not in known]
    if unknown:
        rows = [parameter_row(unknown_parameter(i)) for i in unknown]
        connection.execute(insert(tables.parameter).on_conflict_do_nothing(), rows)


def _report(found: int, unchanged: int, tally: list[dict[str, Any]], left: dict[str, str]) -> IngestReport:
    taken = [row for row in tally if row["status"] != "unchanged"]
    reasons: dict[str, int] = {}
    for row in taken:
        for reason, rows in row["rejected_by_reason"].items():
            reasons[reason] = reasons.get(reason, 0) + int(rows)
    return IngestReport(
        found=found,
        taken=sum(row["status"] == "accepted" for row in taken),
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
    )

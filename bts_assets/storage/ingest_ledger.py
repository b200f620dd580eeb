"""The ingest ledger: one row per landing file and content, with its rejected rows; entered whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from bts_assets.contracts.catalogue import Catalogue, unknown_parameter
from bts_assets.landing.files import ParsedFile
from bts_assets.storage import tables
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.locks import LOCK_INGEST, transaction
from bts_assets.storage.postgres import parameter_row
from bts_assets.storage.provenance import code_version

#: Stands for the digest of a file that could not be read at all: too large, or closed to this user.
UNREAD: Final = "0" * 64


@dataclass(frozen=True)
class FileEntry:
    """What the ledger is told of one file: its path below the landing root, its content, why it was refused, and the
    `rules` that it was read by (JSON).
    """

    path: str
    size: int
    modified_ns: int
    digest: str
    parsed: ParsedFile | None
    refused: str | None
    rules: dict[str, Any]

    @property
    def failure(self) -> str | None:
        """`refused` or `unusable`, where nothing of it can be used."""
        return "refused" if self.parsed is None else "unusable" if not self.parsed.accepted else None

    @property
    def reason(self) -> str | None:
        return self.refused if self.parsed is None else self.parsed.cause

    @property
    def dialect(self) -> dict[str, Any]:
        return (self.parsed.dialect.as_json() if self.parsed else {}) | {"rules": self.rules}


def newest_entries(engine: sa.Engine) -> Sequence[Any]:
    """The newest entry of every path: path, bytes, modified_ns, digest, status, pruned_at, rules (JSON)."""
    t = tables.landing_file.c
    columns = (t.path, t.bytes, t.modified_ns, t.digest, t.status, t.pruned_at, t.dialect["rules"].label("rules"))
    newest = sa.select(*columns).ext(distinct_on(t.path))
    with engine.connect() as connection:
        return connection.execute(newest.order_by(t.path, t.ledger_seq.desc())).all()


def vouched_digests(engine: sa.Engine) -> frozenset[str]:
    """Digests whose readings the ledger has accepted, whether they still count or not."""
    t = tables.landing_file.c
    with engine.connect() as connection:
        return frozenset(connection.execute(sa.select(t.digest).where(t.status == "accepted")).scalars())


@dataclass(frozen=True)
class Accepted:
    """The accepted rows of all files that are not superseded, and a digest of these files' digests."""

    rows: int
    digest: str


def accepted_now(connection: sa.Connection) -> Accepted:
    row = connection.execute(_ACCEPTED).one()
    return Accepted(int(row.accepted), row.digest)


_ACCEPTED: Final = sa.text("""
    SELECT coalesce(sum(accepted), 0) AS accepted,
           encode(sha256(convert_to(coalesce(string_agg(digest, ',' ORDER BY digest), ''), 'UTF8')), 'hex') AS digest
    FROM bts.landing_file WHERE superseded_by IS NULL AND status = 'accepted'
""")


def bytes_taken(connection: sa.Connection, run_id: str) -> int:
    """The bytes of the files that a Dagster run took in."""
    t = tables.landing_file.c
    return int(connection.scalar(sa.select(sa.func.sum(t.bytes)).where(t.dagster_run_id == run_id)) or 0)


def accepted_by_day(connection: sa.Connection, days: int = 21) -> pd.Series:
    """Accepted rows, float64, by the UTC day of their file's first reading: the newest days, descending."""
    rows = connection.execute(_BY_DAY, {"days": days}).all()
    return pd.DataFrame(rows, columns=["day", "accepted"]).set_index("day")["accepted"].astype(float)


_BY_DAY: Final = sa.text("""
    SELECT first_reading_at::date AS day, sum(accepted) AS accepted FROM bts.landing_file
    WHERE status = 'accepted' AND superseded_by IS NULL AND first_reading_at IS NOT NULL
    GROUP BY 1 ORDER BY 1 DESC LIMIT :days
""")


def enter_files(
    engine: sa.Engine, reads: Sequence[FileEntry], catalogue: Catalogue, run_id: str | None
) -> list[dict[str, Any]]:
    """Enter files of different paths into the ledger, with all that belongs to them, in one transaction and in their
    order; of each the row, or unchanged.
    """
    with transaction(engine, LOCK_INGEST) as connection:
        known = _Known(connection, reads)
        rows = [_enter(connection, known, read, run_id) for read in reads]
        given = [
            read.parsed.readings
            for read, row in zip(reads, rows, strict=True)
            if read.parsed and row["status"] in ("accepted", "unusable")
        ]
        if given:
            _list_new(connection, given, catalogue)
        crash_point("ingest.before_commit")
    crash_point("ingest.after_commit")
    return rows


class _Known:
    """What the ledger says of the paths and contents of some files: asked once, and kept as they are entered."""

    def __init__(self, connection: sa.Connection, reads: Sequence[FileEntry]) -> None:
        t = tables.landing_file
        of_paths = sa.select(t).where(t.c.path.in_([r.path for r in reads]), t.c.superseded_by.is_(None))
        of_contents = sa.select(t).where(t.c.digest.in_([r.digest for r in reads]), t.c.status == "accepted")
        self._rows: dict[int, dict[str, Any]] = {}
        for query in (of_paths, of_contents):
            for row in connection.execute(query).mappings():
                self._rows.setdefault(row["ledger_seq"], dict(row))

    def newest(self, path: str) -> dict[str, Any] | None:
        """The newest entry of a path that is not superseded."""
        return max(self._standing(path), key=lambda row: row["ledger_seq"], default=None)

    def twin(self, read: FileEntry) -> dict[str, Any] | None:
        """The entry that accepted these bytes: one of another path that counts, if there is any; `counts` says so."""
        same = [
            row | {"counts": row["superseded_by"] is None and row["path"] != read.path}
            for row in self._rows.values()
            if row["digest"] == read.digest and row["status"] == "accepted"
        ]
        return min(same, key=lambda row: (not row["counts"], row["ledger_seq"]), default=None)

    def enter(self, ledger_seq: int, row: dict[str, Any]) -> None:
        self._rows[ledger_seq] = row | {"ledger_seq": ledger_seq, "superseded_by": None}

    def supersede(self, path: str, ledger_seq: int) -> list[str]:
        """What stood of a path before an entry counts no more; what it was."""
        older = [row for row in self._standing(path) if row["ledger_seq"] < ledger_seq]
        for row in older:
            row["superseded_by"] = ledger_seq
        return [row["status"] for row in older]

    def _standing(self, path: str) -> list[dict[str, Any]]:
        return [row for row in self._rows.values() if row["path"] == path and row["superseded_by"] is None]


def _enter(connection: sa.Connection, known: _Known, read: FileEntry, run_id: str | None) -> dict[str, Any]:
    t = tables.landing_file
    before = known.newest(read.path)
    if before and before["digest"] == read.digest and _says(before, read):
        seen: dict[str, Any] = {"bytes": read.size, "modified_ns": read.modified_ns}
        if read.failure:
            seen["dialect"] = read.dialect
        connection.execute(sa.update(t).where(t.c.ledger_seq == before["ledger_seq"]).values(seen))
        return {"status": "unchanged"}
    # What no longer counts cannot be copied: a correction taken back is accepted anew, with the counts that it had.
    row = _ledger_row(read, known.twin(read), run_id)
    ledger_seq = connection.execute(sa.insert(t).values(row).returning(t.c.ledger_seq)).scalar_one()
    known.enter(ledger_seq, row)
    crash_point("ingest.after_entry")
    if before and not read.failure:
        # A correction of which nothing can be used corrects nothing: what was taken before stays in use.
        same = sa.and_(t.c.path == read.path, t.c.superseded_by.is_(None), t.c.ledger_seq < ledger_seq)
        connection.execute(sa.update(t).where(same).values(superseded_by=ledger_seq))
        superseded = known.supersede(read.path, ledger_seq)
        row["corrects"] = any(status in ("accepted", "copy") for status in superseded)
    if row["status"] in ("accepted", "unusable") and read.parsed:
        _enter_rejections(connection, ledger_seq, read.parsed.rejected)
    return row | {"path": read.path}


def _says(entry: dict[str, Any], read: FileEntry) -> bool:
    """Whether an entry of the same bytes already says what became of them. What was accepted stays so; what could not
    be used may have become usable, or be refused for another reason.
    """
    failed = entry["status"] in ("refused", "unusable")
    return not failed or (entry["status"], entry["reason"]) == (read.failure, read.reason)


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


def _ledger_row(read: FileEntry, twin: dict[str, Any] | None, run_id: str | None) -> dict[str, Any]:
    parsed = read.parsed
    row: dict[str, Any] = {
        "path": read.path,
        "digest": read.digest,
        "status": read.failure or ("copy" if twin and twin["counts"] else "accepted"),
        "reason": read.reason,
        "bytes": read.size,
        "modified_ns": read.modified_ns,
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
        "dialect": read.dialect,
    }
    if parsed is None:
        return row
    if twin and not twin["counts"] and not read.failure:
        return row | {k: twin[k] for k in _OF_CONTENT}
    if twin and not read.failure:
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
        "rejected": parsed.rejected_rows,
        "duplicate": parsed.duplicates,
        "rejected_by_reason": parsed.reasons,
        "first_reading_at": times.min().item().replace(tzinfo=UTC) if len(times) else None,
        "last_reading_at": times.max().item().replace(tzinfo=UTC) if len(times) else None,
        "days": days.tolist(),
    }


def _enter_rejections(connection: sa.Connection, ledger_seq: int, rejected: pd.DataFrame) -> None:
    if len(rejected):
        columns = {"lines": rejected["line"].tolist(), "raw": rejected["raw"].tolist()}
        reasons = [str(reason) for reason in rejected["reason"]]
        connection.execute(_REJECTIONS, {"ledger_seq": ledger_seq, "reasons": reasons, **columns})


# Whole columns as arrays: one statement a file, where a statement a row would cost more than reading the file did.
_REJECTIONS: Final = sa.text(
    "INSERT INTO bts.landing_rejection (ledger_seq, line, raw, reason) SELECT :ledger_seq, line, raw, reason"
    " FROM unnest(CAST(:lines AS bigint[]), CAST(:raw AS text[]), CAST(:reasons AS text[])) AS t (line, raw, reason)"
)
_STATIONS: Final = sa.text("""
    INSERT INTO bts.station (station_id, name, listed)
    SELECT id, n.name, false FROM unnest(CAST(:ids AS bigint[])) AS t (id)
    LEFT JOIN bts.landing_name AS n ON n.kind = 'station' AND n.number = id AND id < 0
    ON CONFLICT DO NOTHING
""")
_PARAMETER_NAMES: Final = sa.text(
    "SELECT number, name FROM bts.landing_name WHERE kind = 'parameter' AND number = ANY(CAST(:ids AS bigint[]))"
)


def _list_new(connection: sa.Connection, given: Sequence[pd.DataFrame], catalogue: Catalogue) -> None:
    """List the stations and unknown parameters that readings of some files are the first to name."""
    stations, parameters = (
        dict.fromkeys(int(i) for readings in given for i in readings[name].unique())
        for name in ("station_id", "parameter_id")
    )
    connection.execute(_STATIONS, {"ids": list(stations)})
    known = {p.parameter_id for p in catalogue}
    unknown = [i for i in parameters if i not in known]
    if unknown:
        named = connection.execute(_PARAMETER_NAMES, {"ids": [i for i in unknown if i < 0]})
        names = {row.number: row.name for row in named}
        rows = [parameter_row(unknown_parameter(i)) | ({"name": names[i]} if i in names else {}) for i in unknown]
        connection.execute(insert(tables.parameter).on_conflict_do_nothing(), rows)


def read_again(engine: sa.Engine) -> int:
    """Forget the rules by which files were refused or found unusable, so that they are read again; how many."""
    t = tables.landing_file.c
    of_failed = sa.and_(t.status.in_(("refused", "unusable")), t.superseded_by.is_(None))
    with engine.begin() as connection:
        return connection.execute(sa.update(tables.landing_file).where(of_failed).values(dialect=sa.null())).rowcount

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
from bts_assets.storage.postgres import LOCK_INGEST, parameter_row, transaction
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


def enter_file(engine: sa.Engine, read: FileEntry, catalogue: Catalogue, run_id: str | None) -> dict[str, Any]:
    """Enter one file into the ledger, with all that belongs to it, in one transaction; the row, or unchanged."""
    t = tables.landing_file
    with transaction(engine, LOCK_INGEST) as connection:
        same = sa.and_(t.c.path == read.path, t.c.superseded_by.is_(None))
        newest = sa.select(t).where(same).order_by(t.c.ledger_seq.desc()).limit(1)
        before = connection.execute(newest).mappings().first()
        if before and before["digest"] == read.digest and _says(before, read):
            seen: dict[str, Any] = {"bytes": read.size, "modified_ns": read.modified_ns}
            if read.failure:
                seen["dialect"] = read.dialect
            connection.execute(sa.update(t).where(t.c.ledger_seq == before["ledger_seq"]).values(seen))
            return {"status": "unchanged"}
        # What no longer counts cannot be copied: a correction taken back is accepted anew, with the counts that it had.
        counts = sa.and_(t.c.superseded_by.is_(None), t.c.path != read.path)
        twins = sa.select(t, counts.label("counts")).where(t.c.digest == read.digest, t.c.status == "accepted")
        twin = connection.execute(twins.order_by(counts.desc(), t.c.ledger_seq).limit(1)).mappings().first()
        row = _ledger_row(read, dict(twin) if twin else None, run_id)
        ledger_seq = connection.execute(sa.insert(t).values(row).returning(t.c.ledger_seq)).scalar_one()
        if not read.failure:
            # A correction of which nothing can be used corrects nothing: what was taken before stays in use.
            older = sa.update(t).where(same, t.c.ledger_seq < ledger_seq).values(superseded_by=ledger_seq)
            superseded = connection.execute(older.returning(t.c.status)).scalars().all()
            row["corrects"] = any(status in ("accepted", "copy") for status in superseded)
        if row["status"] in ("accepted", "unusable") and read.parsed:
            _enter_rejections(connection, ledger_seq, read.parsed.rejected)
            _list_new(connection, read.parsed.readings, catalogue)
    return row | {"path": read.path}


def _says(entry: sa.RowMapping, read: FileEntry) -> bool:
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


def _list_new(connection: sa.Connection, readings: pd.DataFrame, catalogue: Catalogue) -> None:
    """List the stations and unknown parameters that these readings are the first to name."""
    connection.execute(_STATIONS, {"ids": readings["station_id"].unique().tolist()})
    known = {p.parameter_id for p in catalogue}
    unknown = [int(i) for i in readings["parameter_id"].unique() if int(i) not in known]
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

"""The ingest ledger: one row per landing file and content, with its rejected rows; entered whole or not at all."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from bts_assets.contracts.catalogue import Catalogue, unknown_parameter
from bts_assets.contracts.grid import EPOCH
from bts_assets.landing.files import ParsedFile
from bts_assets.landing.reading_arrays import Facts, ReadingArrays
from bts_assets.storage import small_readings, tables
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.locks import LOCK_INGEST, transaction
from bts_assets.storage.postgres import parameter_row
from bts_assets.storage.provenance import code_version

#: Stands for the digest of a file that could not be read at all: too large, or closed to this user.
UNREAD: Final = "0" * 64


@dataclass(frozen=True)
class FileEntry:
    """What the ledger is told of one file: its path below the landing root, its content, why it was refused, and the
    `rules` that it was read by (JSON). small: its readings, where they are to rest in a row (`small_readings`).
    """

    path: str
    size: int
    modified_ns: int
    digest: str
    parsed: ParsedFile | None
    refused: str | None
    rules: dict[str, Any]
    small: ReadingArrays | None = None

    @property
    def failure(self) -> str | None:
        """`refused` or `unusable`, where nothing of it can be used."""
        return "refused" if self.parsed is None else "unusable" if not self.parsed.accepted else None

    @property
    def reason(self) -> str | None:
        return self.refused if self.parsed is None else self.parsed.cause

    @cached_property
    def facts(self) -> Facts:
        return self.parsed.ordered.facts() if self.parsed else Facts()

    @property
    def dialect(self) -> dict[str, Any]:
        return (self.parsed.dialect.as_json() if self.parsed else {}) | {"rules": self.rules}


def newest_entries(engine: sa.Engine) -> Sequence[Any]:
    """The newest entry of every path: path, bytes, modified_ns, digest, status, pruned_at, rules (JSON), and whether
    its readings rest in a row.
    """
    t, r = tables.landing_file.c, tables.landing_reading.c
    small = sa.exists().where(r.digest == t.digest).label("small")
    columns = (
        t.path,
        t.bytes,
        t.modified_ns,
        t.digest,
        t.status,
        t.pruned_at,
        t.dialect["rules"].label("rules"),
        small,
    )
    newest = sa.select(*columns).ext(distinct_on(t.path))
    with engine.connect() as connection:
        return connection.execute(newest.order_by(t.path, t.ledger_seq.desc())).all()


def digests_of(engine: sa.Engine, paths: Sequence[str]) -> list[str]:
    """The contents that count under some paths, and whose readings were not pruned."""
    with engine.connect() as connection:
        return list(connection.execute(_DIGESTS_OF, {"paths": list(paths)}).scalars())


_DIGESTS_OF: Final = sa.text("""
    SELECT DISTINCT digest::text FROM bts.landing_file
    WHERE path = ANY(CAST(:paths AS text[])) AND status IN ('accepted', 'copy')
      AND superseded_by IS NULL AND pruned_at IS NULL
""")


def vouched_digests(engine: sa.Engine, digests: Sequence[str]) -> frozenset[str]:
    """Those digests whose readings the ledger has accepted, whether they still count or not."""
    t = tables.landing_file.c
    wanted = sa.select(t.digest).where(t.status == "accepted", t.digest.in_(digests))
    with engine.connect() as connection:
        return frozenset(connection.execute(wanted).scalars())


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
        decided = [_decide(known, read, run_id) for read in reads]
        new = [each for each in decided if each.row]
        if new:
            _enter(connection, new, catalogue)
        if len(new) < len(decided):
            _say_unchanged(connection, [each for each in decided if not each.row])
        small_readings.keep(connection, {read.digest: read.small for read in reads if read.small})
        crash_point("ingest.before_commit")
    crash_point("ingest.after_commit")
    return [each.said for each in decided]


class _Known:
    """What the ledger says of the paths and contents of some files: asked once, and kept as they are decided on. What
    is not entered yet has the greatest numbers, in its order.
    """

    def __init__(self, connection: sa.Connection, reads: Sequence[FileEntry]) -> None:
        t = tables.landing_file
        of_paths = sa.select(t).where(t.c.path.in_([r.path for r in reads]), t.c.superseded_by.is_(None))
        of_contents = sa.select(t).where(t.c.digest.in_([r.digest for r in reads]), t.c.status == "accepted")
        self._paths: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._contents: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self._unentered = count(1 << 62)
        rows = {
            row["ledger_seq"]: row for query in (of_paths, of_contents) for row in connection.execute(query).mappings()
        }
        for seq in sorted(rows):
            self._add(dict(rows[seq]))

    def _add(self, row: dict[str, Any]) -> None:
        self._paths[row["path"]].append(row)
        if row["status"] == "accepted":
            self._contents[row["digest"]].append(row)

    def standing(self, path: str) -> list[dict[str, Any]]:
        """The entries of a path that are not superseded, the newest last."""
        return [row for row in self._paths[path] if row["superseded_by"] is None]

    def twin(self, read: FileEntry) -> dict[str, Any] | None:
        """The entry that accepted these bytes: one of another path that counts, if there is any; `counts` says so."""
        same = [
            row | {"counts": row["superseded_by"] is None and row["path"] != read.path}
            for row in self._contents[read.digest]
        ]
        return min(same, key=lambda row: (not row["counts"], row["ledger_seq"]), default=None)

    def enter(self, row: dict[str, Any], superseded: list[dict[str, Any]]) -> None:
        number = next(self._unentered)
        for older in superseded:
            older["superseded_by"] = number
        self._add(row | {"ledger_seq": number, "superseded_by": None})


@dataclass(frozen=True)
class _Decided:
    """What becomes of a file: the row that it gets, and the numbers of those that it supersedes; or, without a row, the
    number of the one that says it already.
    """

    read: FileEntry
    said: dict[str, Any]
    row: dict[str, Any] | None
    older: tuple[int, ...]


def _decide(known: _Known, read: FileEntry, run_id: str | None) -> _Decided:
    standing = known.standing(read.path)
    before = standing[-1] if standing else None
    if before and before["digest"] == read.digest and _says(before, read):
        return _Decided(read, {"status": "unchanged"}, None, (before["ledger_seq"],))
    # What no longer counts cannot be copied: a correction taken back is accepted anew, with the counts that it had.
    row = _ledger_row(read, known.twin(read), run_id)
    # A correction of which nothing can be used corrects nothing: what was taken before stays in use.
    superseded = [] if read.failure else standing
    known.enter(row, superseded)
    corrects = any(older["status"] in ("accepted", "copy") for older in superseded)
    said = row | ({"corrects": corrects} if superseded else {})
    return _Decided(read, said, row, tuple(older["ledger_seq"] for older in superseded))


def _enter(connection: sa.Connection, new: Sequence[_Decided], catalogue: Catalogue) -> None:
    """Enter the files that have a row, with their rejected rows and what they are the first to name."""
    t = tables.landing_file
    insert_all = sa.insert(t).returning(t.c.ledger_seq, sort_by_parameter_order=True)
    entered = list(connection.execute(insert_all, [each.row for each in new if each.row]).scalars())
    crash_point("ingest.after_entry")
    superseded = [(older, by) for each, by in zip(new, entered, strict=True) for older in each.older]
    if superseded:
        connection.execute(
            _SUPERSEDE, dict(zip(("older", "by"), map(list, zip(*superseded, strict=True)), strict=True))
        )
    given = [
        (seq, each.read.parsed, each.read.facts)
        for each, seq in zip(new, entered, strict=True)
        if each.read.parsed and each.said["status"] in ("accepted", "unusable")
    ]
    if given:
        _enter_rejections(connection, [(seq, parsed.rejected) for seq, parsed, _ in given if len(parsed.rejected)])
        _list_new(connection, [facts for _, _, facts in given], catalogue)


def _say_unchanged(connection: sa.Connection, unchanged: Sequence[_Decided]) -> None:
    """Files that are what the ledger says may have been touched; of those that failed, by which rules now."""
    dialects = [json.dumps(each.read.dialect) if each.read.failure else None for each in unchanged]
    seen = {"bytes": [each.read.size for each in unchanged], "modified": [each.read.modified_ns for each in unchanged]}
    entries = [each.older[0] for each in unchanged]
    connection.execute(_SEEN, {"entries": entries, "dialects": dialects, **seen})


_SUPERSEDE: Final = sa.text("""
    UPDATE bts.landing_file AS f SET superseded_by = t.by
    FROM unnest(CAST(:older AS bigint[]), CAST(:by AS bigint[])) AS t (older, by) WHERE f.ledger_seq = t.older
""")
_SEEN: Final = sa.text("""
    UPDATE bts.landing_file AS f
    SET bytes = t.bytes, modified_ns = t.modified, dialect = coalesce(CAST(t.dialect AS jsonb), f.dialect)
    FROM unnest(CAST(:entries AS bigint[]), CAST(:bytes AS bigint[]), CAST(:modified AS bigint[]),
                CAST(:dialects AS text[])) AS t (entry, bytes, modified, dialect)
    WHERE f.ledger_seq = t.entry
""")


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
    facts = read.facts
    return row | {
        "rows": parsed.rows,
        "accepted": parsed.accepted,
        "rejected": parsed.rejected_rows,
        "duplicate": parsed.duplicates,
        "rejected_by_reason": parsed.reasons,
        "first_reading_at": None if facts.first is None else EPOCH + timedelta(microseconds=facts.first),
        "last_reading_at": None if facts.last is None else EPOCH + timedelta(microseconds=facts.last),
        "days": facts.days.astype("datetime64[D]").tolist(),
    }


def _enter_rejections(connection: sa.Connection, rejected: Sequence[tuple[int, pd.DataFrame]]) -> None:
    """The rejected rows of files, by the number of their entry."""
    if rejected:
        rows = pd.concat([rows.assign(entry=seq) for seq, rows in rejected])
        columns = {name: rows[name].astype(object).tolist() for name in ("entry", "line", "raw")}
        connection.execute(_REJECTIONS, {**columns, "reason": [str(reason) for reason in rows["reason"]]})


# Whole columns as arrays: one statement, where a statement a row would cost more than reading the files did.
_REJECTIONS: Final = sa.text("""
    INSERT INTO bts.landing_rejection (ledger_seq, line, raw, reason)
    SELECT * FROM unnest(CAST(:entry AS bigint[]), CAST(:line AS bigint[]), CAST(:raw AS text[]),
                         CAST(:reason AS text[]))
""")
_STATIONS: Final = sa.text("""
    INSERT INTO bts.station (station_id, name, listed)
    SELECT id, n.name, false FROM unnest(CAST(:ids AS bigint[])) AS t (id)
    LEFT JOIN bts.landing_name AS n ON n.kind = 'station' AND n.number = id AND id < 0
    ON CONFLICT DO NOTHING
""")
_PARAMETER_NAMES: Final = sa.text(
    "SELECT number, name FROM bts.landing_name WHERE kind = 'parameter' AND number = ANY(CAST(:ids AS bigint[]))"
)


def _list_new(connection: sa.Connection, facts: Sequence[Facts], catalogue: Catalogue) -> None:
    """List the stations and unknown parameters that readings are the first to name."""
    columns = ([of.stations for of in facts], [of.parameters for of in facts])
    stations, parameters = (pd.unique(np.concatenate(ids)).tolist() for ids in columns)
    connection.execute(_STATIONS, {"ids": stations})
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

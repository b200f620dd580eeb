"""The ingest ledger: one row per landing file and content, with its rejected rows; entered whole or not at all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on, insert

from bts_assets.contracts.catalogue import Catalogue, unknown_parameter
from bts_assets.landing.reading_arrays import Facts
from bts_assets.storage import small_readings, tables
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.landing_decisions import Decided, FileEntry, decide
from bts_assets.storage.locks import LOCK_INGEST, transaction
from bts_assets.storage.postgres import parameter_row

#: Stands for the digest of a file that could not be read at all: too large, or closed to this user.
UNREAD: Final = "0" * 64


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
           encode(sha256(convert_to(coalesce(string_agg(DISTINCT digest, ',' ORDER BY digest), ''), 'UTF8')), 'hex')
               AS digest
    FROM bts.landing_file WHERE superseded_by IS NULL AND status IN ('accepted', 'copy')
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
        decided = decide(connection, reads, run_id)
        new = [each for each in decided if each.row]
        if new:
            _enter(connection, new, catalogue)
        if len(new) < len(decided):
            _say_unchanged(connection, [each for each in decided if not each.row])
        small_readings.keep(connection, {read.digest: read.small for read in reads if read.small})
        crash_point("ingest.before_commit")
    crash_point("ingest.after_commit")
    return [each.said for each in decided]


def _enter(connection: sa.Connection, new: Sequence[Decided], catalogue: Catalogue) -> None:
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


def _say_unchanged(connection: sa.Connection, unchanged: Sequence[Decided]) -> None:
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

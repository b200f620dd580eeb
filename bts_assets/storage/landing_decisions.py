"""What becomes of a landing file, by what the ledger has of its name and of its content; nothing is written here."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.contracts.grid import EPOCH
from bts_assets.landing.corrections import Span, corrects
from bts_assets.landing.files import ParsedFile
from bts_assets.landing.reading_arrays import Facts, ReadingArrays
from bts_assets.storage import tables
from bts_assets.storage.provenance import code_version


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
        self._corrected: set[tuple[str, str]] = set()
        self._unentered = count(1 << 62)
        rows = {
            row["ledger_seq"]: row for query in (of_paths, of_contents) for row in connection.execute(query).mappings()
        }
        standing = {row["digest"] for row in rows.values() if row["superseded_by"] is None and _is_used(dict(row))}
        if standing:
            rows |= self._beside(connection, standing)
        for seq in sorted(rows):
            self._add(dict(rows[seq]))

    def _beside(self, connection: sa.Connection, digests: set[str]) -> dict[int, Any]:
        """What stands under any name that some contents came under; `_corrected` is where they were corrected."""
        t, by = tables.landing_file, tables.landing_file.alias()
        named = sa.select(t.c.path).where(t.c.digest.in_(digests), t.c.superseded_by.is_(None))
        beside = sa.select(t).where(t.c.path.in_(named), t.c.superseded_by.is_(None))
        of = sa.select(t.c.digest, t.c.path).join(by, by.c.ledger_seq == t.c.superseded_by)
        corrected = of.where(t.c.digest.in_(digests), by.c.digest != t.c.digest)
        self._corrected |= {(row.digest, row.path) for row in connection.execute(corrected)}
        return {row["ledger_seq"]: row for row in connection.execute(beside).mappings()}

    def _add(self, row: dict[str, Any]) -> None:
        self._paths[row["path"]].append(row)
        if row["status"] == "accepted":
            self._contents[row["digest"]].append(row)

    def standing(self, path: str) -> list[dict[str, Any]]:
        """The entries of a path that are not superseded, the newest last."""
        return [row for row in self._paths[path] if row["superseded_by"] is None]

    def corrected_elsewhere(self, entry: dict[str, Any]) -> bool:
        """Whether other content replaced this one under another name."""
        return any(digest == entry["digest"] and path != entry["path"] for digest, path in self._corrected)

    def left_behind(self, corrected: dict[str, Any]) -> list[dict[str, Any]]:
        """Entries of the same content under other names that have gone on since: nobody can correct it there."""
        self._corrected.add((corrected["digest"], corrected["path"]))
        found = []
        for path in self._paths.keys() - {corrected["path"]}:
            used = [row for row in self.standing(path) if _is_used(row)]
            found += [row for row in used[:-1] if row["digest"] == corrected["digest"]]
        return found

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
class Decided:
    """What becomes of a file: the row that it gets, and the numbers of those that it supersedes; or, without a row, the
    number of the one that says it already. said: the row, or that it is unchanged, for the report of the run.
    """

    read: FileEntry
    said: dict[str, Any]
    row: dict[str, Any] | None
    older: tuple[int, ...]


def decide(connection: sa.Connection, reads: Sequence[FileEntry], run_id: str | None) -> list[Decided]:
    """What becomes of some files of different paths, in their order."""
    known = _Known(connection, reads)
    return [_decide(known, read, run_id) for read in reads]


def _decide(known: _Known, read: FileEntry, run_id: str | None) -> Decided:
    standing = known.standing(read.path)
    before = standing[-1] if standing else None
    if before and before["digest"] == read.digest and _says(before, read):
        return Decided(read, {"status": "unchanged"}, None, (before["ledger_seq"],))
    # What no longer counts cannot be copied: a correction taken back is accepted anew, with the counts that it had.
    row = _ledger_row(read, known.twin(read), run_id)
    # A correction of which nothing can be used corrects nothing: what was taken before stays in use.
    superseded = [] if read.failure else [older for older in standing if _supersedes(row, older)]
    corrected = [older for older in superseded if _is_used(older)]
    said = row | {
        "corrects": bool(corrected),
        "goes_on": row["status"] == "accepted" and not corrected and any(map(_is_used, standing)),
        "narrows": max((older for older in corrected if _narrows(row, older)), key=read_rows, default=None),
    }
    # Of content that came under several names one is corrected: the others, once they have gone on, are corrected with
    # it, whichever comes first.
    other = [older for older in corrected if older["digest"] != read.digest]
    superseded += [twin for older in other for twin in known.left_behind(older)]
    if said["goes_on"]:
        superseded += [older for older in standing if _is_used(older) and known.corrected_elsewhere(older)]
    known.enter(row, superseded)
    return Decided(read, said, row, tuple(older["ledger_seq"] for older in superseded))


def _is_used(entry: dict[str, Any]) -> bool:
    return entry["status"] in ("accepted", "copy")


def read_rows(entry: dict[str, Any]) -> int:
    """Rows of a file that could be used, whether another file or row had said the same or not."""
    return int(entry["rows"] - entry["rejected"])


def _narrows(newer: dict[str, Any], older: dict[str, Any]) -> bool:
    """Whether a file that replaces another ends before it, or has less than half as many rows."""
    return newer["last_reading_at"] < older["last_reading_at"] or 2 * read_rows(newer) < read_rows(older)


def _span(entry: dict[str, Any]) -> Span | None:
    first, last = entry["first_reading_at"], entry["last_reading_at"]
    return Span(first, last, entry["days"]) if first and last else None


def _supersedes(newer: dict[str, Any], older: dict[str, Any]) -> bool:
    """What has no readings gives way to anything."""
    spans = [span for span in (_span(newer), _span(older)) if span]
    return len(spans) < 2 or corrects(*spans)


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

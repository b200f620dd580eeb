"""Landing files: what came in, what was refused, and the rows that were not taken, with their text."""

from collections.abc import Mapping
from typing import Any, Final

from bts_assets.explorer.page import NotThere, Page, Table
from bts_assets.explorer.pages.home import like
from bts_assets.explorer.paging import Key, sliced
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest

_STATES: Final = ("any", "accepted", "refused", "unusable", "copy", "rejections")
#: The newest first: ascending in what is below zero.
_ORDER: Final = Key((("older", "bigint"),))
_LINES: Final = Key((("line", "bigint"),))

_WANTED: Final = """
    (CAST(:status AS text) IN ('any', 'rejections') OR status = :status)
      AND (CAST(:status AS text) <> 'rejections' OR rejected > 0)
      AND (CAST(:search AS text) IS NULL OR path ILIKE :like OR starts_with(digest, :search))
      AND (CAST(:known AS bigint) IS NULL OR ledger_seq <= :known)
      AND (CAST(:from AS timestamptz) IS NULL OR last_reading_at >= :from)
      AND (CAST(:until AS timestamptz) IS NULL OR first_reading_at < :until)"""
_FILES: Final = f"""
    SELECT ledger_seq, path, status, reason, bytes, rows, accepted, rejected, duplicate, rejected_by_reason,
           first_reading_at, last_reading_at, taken_at, superseded_by, -ledger_seq AS older
    FROM bts.ingest_ledger
    WHERE {_WANTED}
      AND {{beyond}}
    ORDER BY {{order}}
"""
#: Of all files that are listed; where nothing narrows the list, of those of the last day.
_TOTALS: Final = f"""
    SELECT count(*) AS files, count(*) FILTER (WHERE status = 'refused') AS refused, sum(rows) AS rows,
           sum(accepted) AS accepted, sum(rejected) AS rejected, sum(duplicate) AS duplicate
    FROM bts.ingest_ledger
    WHERE {_WANTED}
      AND (NOT :of_last_day OR taken_at > now() - interval '1 day')
"""
_FILE: Final = "SELECT * FROM bts.ingest_ledger WHERE ledger_seq = :ledger_seq"
_REJECTED: Final = """
    SELECT line, reason, raw FROM bts.rejected_reading WHERE ledger_seq = :ledger_seq AND {beyond}
    ORDER BY {order}
"""


def show(request: PageRequest) -> Page:
    search = request.text("search")
    values: dict[str, Any] = {
        "status": request.one_of("status", _STATES), "search": search, "like": like(search),
        "known": request.whole("known", least=0, most=1 << 62), "from": request.instant("from"),
        "until": request.instant("until"),
    }  # fmt: skip
    listed, files = sliced(
        request, _ORDER, lambda beyond, order: Question(
            "landing files, the newest first", _FILES.format(beyond=beyond, order=order), values
        ),
    )  # fmt: skip
    narrowed = (
        any(values[name] is not None for name in ("search", "known", "from", "until")) or values["status"] != "any"
    )
    about = "the files that are listed" if narrowed else "files of the last day"
    totals = Question(f"{about}, together", _TOTALS, {**values, "of_last_day": not narrowed})
    given = {
        "listed": listed, "totals": totals.one(request.connection), "narrowed": narrowed, "asked": values,
        "states": _STATES,
    }  # fmt: skip
    tables = {"files": Table(files, listed.rows)}
    return Page("landing.html", "Landing files", given, [files, totals], listed.rows, name="landing", tables=tables)


def show_file(request: PageRequest) -> Page:
    key = {"ledger_seq": request.places["entry"]}
    file = Question("the entry of the ledger", _FILE, key)
    row = file.one(request.connection) if key["ledger_seq"] < 1 << 62 else None
    if row is None:
        raise NotThere(f"the ledger has no entry {key['ledger_seq']}: look for the file by its name")
    listed, rejected = sliced(
        request, _LINES, lambda beyond, order: Question(
            "rows that were not taken", _REJECTED.format(beyond=beyond, order=order), key
        ), rows=100,
    )  # fmt: skip
    given = {"file": row, "listed": listed, "reasons": reasons(row), "dialect": row["dialect"] or {}}
    tables = {"rejected_rows": Table(rejected, listed.rows), "ledger_entry": Table(file, [row])}
    title = str(row["path"])
    return Page("landing_file.html", title, given, [rejected, file], listed.rows, name="landing", tables=tables)


def reasons(file: Row) -> list[tuple[str, int]]:
    """Reasons of its rejected rows, the most frequent first."""
    counted: Mapping[str, int] = file["rejected_by_reason"] or {}
    return sorted(counted.items(), key=lambda item: -item[1])

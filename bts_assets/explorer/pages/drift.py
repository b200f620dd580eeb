"""Whether the data and the errors still look like those that the champion was trained on, where that is watched."""

from collections.abc import Sequence
from typing import Any, Final

from bts_assets.explorer.page import Page, Table
from bts_assets.explorer.paging import rows_asked
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest

#: Rows shown of each view.
_MOST: Final = 200
#: Told by the first column of a row, with its links, or once for all rows.
_TOLD_ONCE: Final = (
    "model_version_id",
    "issued_at",
    "region",
    "station_id",
    "station",
    "parameter_id",
    "parameter",
    "unit",
)

#: Columns whose name says little.
_HEADINGS: Final = {"ks": "Kolmogorov–Smirnov", "psi": "PSI of readings", "forecast_psi": "PSI of forecasts",
                    "bound": "evidence at alarm"}  # fmt: skip

#: Whatever this database has: these views come and grow with what is watched.
_VIEWS: Final = Question(
    "the views that tell of drift and faults",
    """
    SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS about
    FROM pg_class AS c
    WHERE c.relnamespace = 'bts'::regnamespace AND c.relkind = 'v'
      AND (c.relname LIKE '%drift%' OR c.relname = 'sensor_fault') AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY 1
    """,
)


def show(request: PageRequest) -> Page:
    views = _VIEWS.ask(request.connection)
    most = rows_asked(request, _MOST)
    tables: dict[str, Table] = {}
    for view in views:
        question = Question(view["about"] or view["name"], f'SELECT * FROM bts."{view["name"]}" LIMIT {most}')
        tables[view["name"]] = Table(question, question.ask(request.connection))
    shown = [_table(view, tables[view["name"]].rows) for view in views]
    given = {"tables": shown, "most": _MOST, "headings": _HEADINGS}
    questions = [*(table.question for table in tables.values()), _VIEWS]
    first = next((table.rows for table in tables.values()), ())
    return Page("drift.html", "Drift", given, questions, first, name="drift", tables=tables)


def _table(view: Row, rows: Sequence[Row]) -> dict[str, Any]:
    """Rows with an alarm come first; columns that say the same in every row, or nothing, are left to the file."""
    ordered = sorted(rows, key=lambda row: not row.get("alarm"))
    named = [name for name in (rows[0] if rows else []) if name not in _TOLD_ONCE]
    columns = [name for name in named if any(row[name] is not None for row in rows)]
    origin = rows[0].get("issued_at") if rows else None
    of_series = bool(rows) and "station_id" in rows[0]
    return {**view, "columns": columns, "rows": ordered, "issued_at": origin, "of_series": of_series}

"""Whether the data and the errors still look like those that the champion was trained on, where that is watched."""

from typing import Any, Final

from bts_assets.explorer.look import Look
from bts_assets.explorer.page import Page
from bts_assets.explorer.question import Question, Row

#: Rows shown of each view.
_MOST: Final = 200

_VIEWS: Final = Question(
    "the views that tell of drift",
    """
    SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS about
    FROM pg_class AS c
    WHERE c.relnamespace = 'bts'::regnamespace AND c.relkind = 'v' AND c.relname LIKE '%drift%'
      AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY 1
    """,
)


def show(look: Look) -> Page:
    tables: list[dict[str, Any]] = []
    questions = []
    first: list[Row] = []
    for view in _VIEWS.ask(look.connection):
        question = Question(view["about"] or view["name"], f'SELECT * FROM bts."{view["name"]}" LIMIT {_MOST}')
        rows = question.ask(look.connection)
        questions.append(question)
        first = first or rows
        tables.append(
            {"name": view["name"], "about": view["about"], "columns": list(rows[0]) if rows else [], "rows": rows}
        )
    given = {"tables": tables, "most": _MOST}
    return Page("drift.html", "Drift", given, [*questions, _VIEWS], first, name="drift")

"""Pages drawn: templates to HTML, queries to SQL text, rows to CSV, pictures to PNG; each with its ETag."""

import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response

from bts_assets import __version__
from bts_assets.contracts.text import iso_duration
from bts_assets.explorer import words
from bts_assets.explorer.page import BadAddress, NotThere, Page
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import Freshness
from bts_assets.storage.mlflow_pages import run_page

FORMATS: Final = ("html", "sql", "csv", "png")
_TEMPLATES: Final = Path(__file__).parent / "templates"
#: Cells that a spreadsheet would run as a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
#: A trace of the code that draws: another version of it draws other pages.
_CODE: Final = hashlib.sha256(
    b"".join(
        p.read_bytes()
        for p in sorted(Path(__file__).parent.rglob("*.*"))
        if p.suffix in (".py", ".html", ".js", ".css")
    )
).hexdigest()


@dataclass(frozen=True)
class Elsewhere:
    """Addresses of Dagster's and MLflow's pages; None: nobody said where they are."""

    dagster: str | None = None
    mlflow: str | None = None

    def mlflow_run(self, run_id: str, experiment_id: str | None) -> str:
        """Where MLflow shows a run, while it is said where MLflow is."""
        return run_page(self.mlflow, run_id, experiment_id) if self.mlflow else ""


class Drawing:
    """Draws pages. What it is given by them is escaped, whatever it is."""

    def __init__(self, elsewhere: Elsewhere, ways: Sequence[tuple[str, str]]) -> None:
        self._elsewhere = elsewhere
        self._templates = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, finalize=words.shown,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        told = (words.number, words.fixed, words.with_unit, words.share, words.count, words.at,
                words.iso, words.age, words.long, words.forecaster, words.between,
                words.beyond, words.sized, words.decimals)  # fmt: skip
        self._templates.filters.update({f.__name__: f for f in told})
        self._templates.globals.update(version=__version__, code=_CODE[:8], elsewhere=elsewhere, ways=ways)

    def tag(self, request: Request, fresh: Freshness) -> str:
        """Equal tags, equal pages: what was asked, the newest entries of all logs, and the code that draws."""
        asked = f"{request.url.path}?{request.url.query}"
        content = "\n".join(map(str, (asked, _CODE, self._elsewhere, *fresh.stamp())))
        return f'"{hashlib.sha256(content.encode()).hexdigest()[:32]}"'

    def response(
        self, request: Request, page: Page, fresh: Freshness, tag: str, columns: Callable[[Question], Sequence[str]]
    ) -> Response:
        """The page in the format that is asked for. `columns`: the names of a query's columns, for a CSV of no rows.

        Raises:
            BadAddress: if there is no such format.
            NotThere: if there is no picture of it, or no such table on it.
        """
        wanted = request.query_params.get("format", "html")
        if wanted not in FORMATS:
            raise BadAddress(f"format is none of {', '.join(FORMATS)}: mend the address")
        headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
        if wanted == "html":
            return Response(self.html(request, page, fresh), media_type="text/html", headers=headers)
        if table := request.query_params.get("table"):
            page = page.only(table)
        if wanted == "sql":
            text = "\n".join(question.as_text() for question in page.questions)
            return Response(text, media_type="text/plain; charset=utf-8", headers=headers)
        headers["Content-Disposition"] = f'attachment; filename="{file_name(page.name)}.{wanted}"'
        if wanted == "csv":
            return Response(
                as_csv(page.rows, [] if page.rows else columns(page.questions[0])),
                media_type="text/csv; charset=utf-8",
                headers=headers,
            )
        if page.picture is None:
            raise NotThere("there is nothing to draw on this page: ask for its table as CSV")
        headers["Content-Disposition"] = headers["Content-Disposition"].replace("attachment", "inline")
        return Response(page.picture(), media_type="image/png", headers=headers)

    def html(self, request: Request, page: Page, fresh: Freshness) -> str:
        return self._render(request, page.template, fresh, page=page, title=page.title, **page.given)

    def error(self, request: Request, status: int, told: str, fresh: Freshness | None) -> str:
        """One line on what is wrong and what to do."""
        return self._render(request, "error.html", fresh, page=None, title="Not shown", status=status, told=told)

    def entrance(self, wrong: bool) -> str:
        """The page that asks for the token; `wrong`: another one was given."""
        return self._templates.get_template("entrance.html").render(wrong=wrong)

    def _render(self, request: Request, template: str, fresh: Freshness | None, **given: Any) -> str:
        here = request.url.path
        link = partial(address, here, dict(request.query_params))
        return self._templates.get_template(template).render(fresh=fresh, here=here, link=link, **given)


def address(path: str, asked: dict[str, str], **changes: Any) -> str:
    """This very page with some of what is asked changed; None takes it away."""
    merged = asked | {k: None if v is None else str(v) for k, v in changes.items()}
    query = urlencode({k: v for k, v in merged.items() if v})
    return f"{path}?{query}" if query else path


def as_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Rows under the names of their columns; under `columns` if there are none."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(rows[0].keys() if rows else columns)
    writer.writerows([_cell(value) for value in row.values()] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, datetime):
        return words.iso(value)
    if isinstance(value, timedelta):
        return iso_duration(value)
    # Text of others that a spreadsheet would run.
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-") or "bts"

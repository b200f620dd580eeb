"""The web application: addresses to pages, errors to one line each, and every page as HTML, SQL, CSV or PNG."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bts_assets.contracts.errors import BtsError
from bts_assets.explorer.draw import Drawing, Elsewhere
from bts_assets.explorer.guard import Guard
from bts_assets.explorer.page import BadAddress, NotThere, Page
from bts_assets.explorer.pages import accuracy, data, drift, home, landing, models, series, station, stations
from bts_assets.explorer.request import Freshness, FreshnessKept, PageRequest
from bts_assets.storage.failures import DatabaseError, explained
from bts_assets.storage.read_only_query import become_reader

#: Not by the name of the module: what goes wrong here is for the file of logs, with its traceback.
log = logging.getLogger("explorer")

HERE: Final = Path(__file__).parent

Show = Callable[[PageRequest], Page]
PAGES: Final[dict[str, Show]] = {
    "/": home.show,
    "/stations": stations.show,
    "/station/{station:int}": station.show,
    "/series/{station:int}/{parameter:int}": series.show,
    "/accuracy": accuracy.show,
    "/models": models.show,
    "/drift": drift.show,
    "/landing": landing.show,
    "/landing/{entry:int}": landing.show_file,
    "/data": data.show,
}
#: What the top of every page leads to.
WAYS: Final = (
    ("/", "Maintenance"),
    ("/stations", "Stations"),
    ("/accuracy", "Accuracy"),
    ("/models", "Models"),
    ("/drift", "Drift"),
    ("/landing", "Landing"),
    ("/data", "Data"),
)
#: A page that takes longer is given up, milliseconds.
_PATIENCE_MS: Final = 20_000
#: Not a mistake of whoever looks.
_STATUS: Final = {NotThere: 404, BadAddress: 400, DatabaseError: 503}


def make_app(engine: sa.Engine, *, token: str | None = None, elsewhere: Elsewhere | None = None) -> Guard:
    """The page over a database. Without a token it answers to names of loopback alone."""
    explorer = _Explorer(engine, Drawing(elsewhere or Elsewhere(), WAYS))
    routes = [Route(path, explorer.endpoint(show), methods=["GET"]) for path, show in PAGES.items()]
    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    handlers: dict[Any, Any] = {HTTPException: explorer.no_page, Exception: explorer.failed}
    app = Starlette(routes=[*routes, static], exception_handlers=handlers)
    return Guard(app, token, explorer.drawing.entrance)


class _Explorer:
    def __init__(self, engine: sa.Engine, drawing: Drawing) -> None:
        self.engine, self.drawing, self._kept = engine, drawing, FreshnessKept()

    def endpoint(self, show: Show) -> Callable[[Request], Response]:
        def respond(request: Request) -> Response:
            fresh = None
            try:
                with self._snapshot() as connection:
                    fresh = self._kept.of(connection)
                    tag = self.drawing.tag(request, fresh)
                    if tag in request.headers.get("if-none-match", ""):
                        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "private, no-cache"})
                    page = show(PageRequest(connection, fresh, request.path_params, request.query_params))
                    return self.drawing.response(request, page, fresh, tag, lambda asked: asked.columns(connection))
            except Exception as error:
                return self._refused(request, error, fresh)

        return respond

    @contextmanager
    def _snapshot(self) -> Iterator[sa.Connection]:
        """What all queries of a page see: one instant, in a session that cannot write and does not wait for ever."""
        isolated = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with isolated.connect() as connection, connection.begin():
            connection.exec_driver_sql(f"SET TRANSACTION READ ONLY; SET LOCAL statement_timeout = {_PATIENCE_MS}")
            become_reader(connection)
            yield connection

    def _refused(self, request: Request, error: Exception, fresh: Freshness | None) -> Response:
        told = explained(error)
        if told is None:
            log.exception("the page %s failed", request.url.path)
            told = BtsError(
                "this page failed; it is a defect, not a mistake of yours: logs/bts.log in BTS_HOME says more"
            )
        status = next((code for kind, code in _STATUS.items() if isinstance(told, kind)), 500)
        return HTMLResponse(self.drawing.error(request, status, str(told), fresh), status)

    def no_page(self, request: Request, error: HTTPException) -> Response:
        told = {404: "there is no such page: the ways to all pages are above", 405: "this page can only be read"}
        text = told.get(error.status_code, error.detail)
        return HTMLResponse(self.drawing.error(request, error.status_code, text, None), error.status_code)

    def failed(self, request: Request, error: Exception) -> Response:
        return self._refused(request, error, None)

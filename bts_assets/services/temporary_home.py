"""A home that is gone afterwards, with a Postgres of its own: backtests of a folder and rehearsals work in one."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bts_assets.services.home import Home, open_home
from bts_assets.settings import Settings
from bts_assets.storage.embedded import server as embedded


@contextmanager
def closing_home(settings: Settings, **how: Any) -> Iterator[Home]:
    """The home that is set, its connections closed afterwards. how: as `open_home` takes it."""
    home = open_home(settings, **how)
    try:
        yield home
    finally:
        home.engine.dispose()


@contextmanager
def temporary_home(settings: Settings, **own: Any) -> Iterator[Home]:
    """An empty home with the settings that decide results, and `own`: settings of this home alone."""
    with TemporaryDirectory(prefix="bts-temporary-") as folder:
        Path(folder).chmod(0o755)  # for the unprivileged user that a root's server runs as
        place = Path(folder) / "home"
        unset = ("stations_file", "database_url", "reader_database_url", "direct_database_url", "mlflow_tracking_uri")
        apart = {"home": place, "landing_dir": Path(folder) / "landing", **dict.fromkeys(unset)}
        try:
            with closing_home(settings.model_copy(update=apart | own)) as home:
                yield home
        finally:
            embedded.stop(place)

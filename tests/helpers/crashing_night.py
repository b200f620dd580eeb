"""Runs a night in a process of its own that kills itself at a named point; no tests are here."""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from small_nights import ORIGIN, SMALL, observe_due, take_in

from bts_assets.contracts.origin import Origin
from bts_assets.services import ingest, observe
from bts_assets.services.home import Home, open_home
from bts_assets.services.nightly import NightResult, forecast_and_publish
from bts_assets.settings import load_settings
from bts_assets.storage import forecasts, ingest_ledger
from bts_assets.storage.model_versions import champion_for

#: Where it dies -> module, function, which call of it, and whether that call is still done.
POINTS: Final[dict[str, tuple[Any, str, int, bool]]] = {
    "parquet written, file not entered": (ingest, "enter_files", 3, False),
    "file entered, not committed": (ingest_ledger, "_list_new", 2, True),
    "files taken, nothing observed": (observe, "_compute", 1, False),
    "observations replaced, not committed": (observe, "replace_days", 1, True),
    "forecasts copied, not committed": (forecasts, "copy_in", 1, True),
    "batch loaded, pointer not moved": (forecasts, "_point", 1, False),
    "pointer moved, not committed": (forecasts, "_point", 1, True),
}


def run_night(home: Home, landing: Path) -> NightResult:
    take_in(home, landing)
    observe_due(home)
    champion = champion_for(home.engine, home.settings.grid)
    assert champion is not None
    return forecast_and_publish(home, Origin(ORIGIN, "retrospective", "the test says so"), champion, None)


def _die_at(point: str) -> None:
    module, name, fatal, first_do = POINTS[point]
    original, calls = getattr(module, name), iter(range(1, 1000))

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) < fatal:
            return original(*args, **kwargs)
        if first_do:
            original(*args, **kwargs)
        return os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, call)


if __name__ == "__main__":
    point, folder, url, landing = sys.argv[1:]
    _die_at(point)
    vars(ingest)["_GROUP_FILES"] = 1  # entered one by one, so that it dies between two of them
    settings = load_settings(home=Path(folder), database_url=url, file_stable_for=timedelta(0), **SMALL)
    run_night(open_home(settings), Path(landing))

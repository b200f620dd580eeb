"""Takes landing files in, trains and forecasts in a process of its own, and prints the result; no tests are here."""

import json
import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import Final

from small_nights import ORIGIN, SMALL, forecasts_digest, observations_digest, observe_due, rows_of, take_in

from bts_assets.contracts.origin import Origin
from bts_assets.forecasting import efforts
from bts_assets.services import promotion as gate
from bts_assets.services import training as versions
from bts_assets.services.home import Home, open_home
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.settings import load_settings

#: As little as there can be of everything that a real training has: two seeds, and a statistical candidate or three.
TINY: Final = efforts.Work(40, 20, 2, 1000, statistical_max_series=2, statistical_max_fits=4)


def run_night(home: Home, landing: Path, runs: list[list[str]]) -> dict[str, object]:
    """Files arrive run by run, in the order in which they are named; then a version is trained and forecasts."""
    inbox = home.settings.home / "inbox"
    inbox.mkdir()
    for names in runs:
        for name in names:
            shutil.copyfile(landing / name, inbox / name)
        take_in(home, inbox)
        observe_due(home)
    trained = gate.first_champion(home, ORIGIN, None)
    night = forecast_and_publish(home, Origin(ORIGIN, "retrospective", "the test says so"), trained.version, None)
    sources = rows_of(
        home, "SELECT status, source, components FROM bts.series_status ORDER BY station_id, parameter_id"
    )
    return {
        "observations": observations_digest(home),
        "panel": rows_of(home, "SELECT observations_digest FROM bts.batch WHERE batch_id = :b", b=night.batch_id),
        "version": trained.version.bundle_digest,
        "forecasts": forecasts_digest(home),
        "failures": trained.fitted.failures,
        "sources": sources,
    }


if __name__ == "__main__":
    folder, url, landing, runs = sys.argv[1:]
    efforts.EFFORTS["quick"] = TINY
    versions._register = lambda *_: None  # MLflow takes its time, and has no say
    given = {"home": Path(folder), "database_url": url, "file_stable_for": timedelta(0), "training_effort": "quick"}
    opened = open_home(load_settings(**(given | SMALL)))
    sys.stdout.write(json.dumps(run_night(opened, Path(landing), json.loads(runs))))

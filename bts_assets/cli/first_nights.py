"""The first nights of a simulated network: some past ones before tonight's, so that one can look back on something."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bts_assets.cli.render.terminal import err, out
from bts_assets.cli.run_job import Metadata, run_job
from bts_assets.services.home import open_home
from bts_assets.settings import Settings

#: Nights before tonight's. The first of them trains, so that all the others were not seen by the model.
PAST: Final = 2

_NOTHING_YET: Final = sa.text("SELECT NOT EXISTS (SELECT FROM bts.batch)")


def first_nights(settings: Settings, landing: Path) -> Metadata:
    """Run the nights that a new home lacks, then tonight's; what all of them did, the newest of each asset.

    Ingest and training are those of the first night that was run: the later ones find nothing left to do.
    """
    if not _nothing_yet(settings):
        return run_job("nightly", settings, landing=landing)
    out.print(f"{PAST} past nights come first, so that there is something to look back on")
    tonight = settings.grid.floor(datetime.now(UTC))
    past = [tonight - n * timedelta(days=1) for n in range(PAST, 0, -1)]
    first, *_ = [run_job("nightly", settings, landing=landing, as_of=night.isoformat()) for night in past]
    last = run_job("nightly", settings, landing=landing)
    return {**last, **{name: first[name] for name in ("readings", "grouped_series", "lstm_model")}}


def _nothing_yet(settings: Settings) -> bool:
    home = open_home(settings, say=lambda told: err.print(told, markup=False))
    with home.engine.connect() as connection:
        nothing = bool(connection.scalar(_NOTHING_YET))
    home.engine.dispose()
    return nothing

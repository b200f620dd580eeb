"""`bts rehearse`: nights of a simulated network in which faults are planted, and what was told of them, when."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.monitoring.rehearsal import BREACH, DRIFT, EXPECTED, Notice, Planted, Report, judge, lasts
from bts_assets.services.alerts import check
from bts_assets.services.breach import limits_of
from bts_assets.services.drift import watch_drift
from bts_assets.services.home import Home
from bts_assets.services.ingest import ingest
from bts_assets.services.nightly import publish_night
from bts_assets.services.observe import compute_due_days
from bts_assets.services.promotion import first_champion
from bts_assets.services.scoring import score_matured
from bts_assets.services.site_power import assess
from bts_assets.storage.model_versions import champion_for
from bts_assets.storage.observations import read_panel
from bts_assets.storage.station_limits import station_limits

#: The limit by which the harm of a fault is known; of any other it is there when it begins.
_HARM: Final = {
    "dying_air_conditioner": (111, "high"),
    "ageing_battery": (141, "low"),
    "fuel_runs_out": (121, "low"),
}
_ALERTS: Final = sa.text("""
    SELECT kind, key, station_id, parameter_id, summary, details FROM bts.alert
    WHERE raised_at = :now AND kind IN ('breach', 'drift', 'silent') ORDER BY alert_id
""")
_FAULTS: Final = sa.text(
    "SELECT fault, station_id, nullif(parameter_id, -1) AS parameter_id FROM bts.found_fault WHERE issued_at = :at"
)
#: A whole parameter has the median of its series.
_LEVELS: Final = sa.text("""
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY level) AS level FROM bts.drift_figure
    WHERE issued_at >= :at AND parameter_id = :parameter_id
      AND (CAST(:station_id AS bigint) IS NULL OR station_id = :station_id)
    GROUP BY issued_at ORDER BY issued_at
""")
_FINDINGS: Final = sa.text("SELECT kind, station_id, what FROM bts.station_finding WHERE batch_id = :batch_id")


def rehearse(
    home: Home,
    stage: Path,
    origins: Sequence[datetime],
    end: datetime,
    planted: Sequence[Planted],
    on_progress: OnProgress | None = None,
) -> Report:
    """Walk through nights in an empty home, train before the first, and judge what was told. Nobody is notified.

    stage: landing files of every hour until `end`; they move to the home's landing folder as their hours end.
    planted: the faults in them; when their harm came is found here.
    """
    landing = home.landing
    landing.mkdir(parents=True, exist_ok=True)
    told = _Told(home)
    for night, origin in enumerate(origins):
        _move(stage, landing, origin)
        told.night(origin, landing)
        if on_progress:
            on_progress("rehearsing nights", night + 1, len(origins))
    _move(stage, landing, end)
    ingest(home, landing, now=end)
    compute_due_days(home)
    with home.engine.connect() as connection:
        panel = read_panel(connection, home.settings.grid, origins[0], end)
    beyond = _beyond(home, panel)
    known = [replace(fault, happened_at=_harm(fault, beyond)) for fault in planted]
    lasting = {notice for notice in told.notices if notice.figure == "level" and _lasts(home, notice)}
    return judge(known, told.notices, beyond, len(panel) * len(origins), lasting)


class _Told:
    """What nights told of, in order; what held the night before is not told again."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.notices: list[Notice] = []
        self._before: set[tuple[Any, ...]] = set()

    def night(self, origin: datetime, landing: Path) -> None:
        """The work of a night, as the assets do it, and its result."""
        home, now = self.home, origin + timedelta(minutes=30)
        ingest(home, landing, now=now)
        compute_due_days(home)
        champion = champion_for(home.engine, home.settings.grid)
        version = champion or first_champion(home, origin, None).version
        published = publish_night(home, Origin(origin, "live", "rehearsed"), version, None, None)
        score_matured(home)
        watch_drift(home, origin, now)
        assess(home, published.batch_id, origin)
        check(home, now)
        with home.engine.connect() as connection:
            alerts = connection.execute(_ALERTS, {"now": now}).mappings().all()
            faults = connection.execute(_FAULTS, {"at": origin}).mappings().all()
            findings = connection.execute(_FINDINGS, {"batch_id": published.batch_id}).mappings().all()
        self.notices += [_of_alert(origin, row) for row in alerts]
        found = [
            *(Notice(origin, r["fault"], r["station_id"], r["parameter_id"], r["fault"]) for r in faults),
            *(Notice(origin, r["kind"], r["station_id"], None, r["what"]) for r in findings),
        ]
        held = {(n.how, n.station_id, n.parameter_id) for n in found}
        self.notices += [n for n in found if (n.how, n.station_id, n.parameter_id) not in self._before]
        self._before = held


def _of_alert(origin: datetime, row: sa.RowMapping) -> Notice:
    if row["kind"] != "breach":
        how = DRIFT if row["kind"] == "drift" else "silent"
        figure = row["details"].get("figure")
        return Notice(origin, how, row["station_id"], row["parameter_id"], row["summary"], figure=figure)
    how = EXPECTED if "probability_48h" in row["details"] else BREACH
    side = row["key"].rpartition(":")[2]
    return Notice(origin, how, row["station_id"], row["parameter_id"], row["summary"], side)


def _lasts(home: Home, notice: Notice) -> bool:
    """Whether the nights after a notice of drift still have the level that it told of."""
    given = {"at": notice.at, "station_id": notice.station_id, "parameter_id": notice.parameter_id}
    with home.engine.connect() as connection:
        levels = connection.execute(_LEVELS, given).scalars().all()
    return lasts([float("nan") if level is None else level for level in levels])


def _move(stage: Path, landing: Path, until: datetime) -> None:
    """Let the files land whose hour is over."""
    name = f"param-{until:%Y-%m-%d-%H}"
    for file in stage.glob("*.csv"):
        if file.name < name:
            file.rename(landing / file.name)


def _beyond(home: Home, panel: Panel) -> dict[tuple[int, int, str], list[datetime]]:
    """When each series lay beyond a limit, from the first night on."""
    with home.engine.connect() as connection:
        low, high = limits_of(panel.station_id, panel.parameter_id, home.catalogue, station_limits(connection))
    found = {}
    pairs = zip(panel.station_id.tolist(), panel.parameter_id.tolist(), strict=True)
    for row, (station, parameter) in enumerate(pairs):
        values = panel.values[row]
        for side, past in (("low", values < low[row]), ("high", values > high[row])):
            found[station, parameter, side] = [panel.start + int(k) * panel.grid.step for k in np.flatnonzero(past)]
    return found


def _harm(fault: Planted, beyond: Mapping[tuple[int, int, str], Sequence[datetime]]) -> datetime | None:
    """When the limit of a fault was passed first after it began; of a fault that has none, when it began."""
    limit = _HARM.get(fault.kind)
    if limit is None or fault.station_id is None:
        return fault.began_at
    return next((at for at in beyond.get((fault.station_id, *limit), ()) if at >= fault.began_at), None)

"""What is worth telling: breaches, silent stations, drift, a late night and failed runs, raised and cleared in turn.

That people are told is the matter of `delivery`.
"""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from bts_assets.contracts.alerts import Event, Kind
from bts_assets.contracts.text import percent
from bts_assets.services.home import Home
from bts_assets.storage.alerts import Changed, clear_one, clear_others, raise_events

log = logging.getLogger(__name__)

#: An alert of a breach that is expected ends once it is half as likely as one must be to be raised.
_HOLDS: Final = 0.5

#: Batches made of the past warn nobody.
_SERVES: Final = "(SELECT state FROM bts.latest_batch) IN ('current', 'stale')"
#: `silent`: the series has no observation in the day before the origin. Nothing new is known of it, and that is told.
_PREDICTED: Final = sa.text(f"""
    SELECT p.*, coalesce(l.last_observed_at < b.issued_at - interval '1 day', false) AS silent
    FROM bts.predicted_breach AS p
    JOIN bts.batch AS b ON b.batch_id = p.batch_id
    LEFT JOIN bts.forecast_ledger AS l
        ON (l.batch_id, l.station_id, l.parameter_id) = (p.batch_id, p.station_id, p.parameter_id)
    WHERE p.probability_48h >= :least AND {_SERVES}
    ORDER BY p.station_id, p.parameter_id, p.side
""")  # noqa: S608 - a constant of this file
_NOW: Final = sa.text(f"SELECT * FROM bts.current_breach WHERE {_SERVES} ORDER BY station_id, parameter_id")  # noqa: S608
#: Stations that were heard once, and of whose series none was in the last six hours before the origin.
_SILENT: Final = sa.text(f"""
    SELECT s.region, l.station_id, s.name AS station, max(l.last_observed_at) AS last_observed_at, b.issued_at,
           count(*) AS series
    FROM bts.latest_batch AS b
    JOIN bts.forecast_ledger AS l USING (batch_id)
    LEFT JOIN bts.station AS s USING (station_id)
    WHERE {_SERVES}
    GROUP BY s.region, l.station_id, s.name, b.issued_at
    HAVING max(l.last_observed_at) < b.issued_at - interval '6 hours'
    ORDER BY l.station_id
""")  # noqa: S608 - a constant of this file
#: A whole station or parameter stands for its series.
_DRIFTS: Final = sa.text(f"SELECT * FROM bts.drift WHERE alarm AND {_SERVES}")  # noqa: S608 - a constant of this file
_BATCH: Final = sa.text("SELECT * FROM bts.latest_batch")
_ANYTHING: Final = sa.text("SELECT EXISTS (SELECT FROM bts.landing_file)")


@dataclass(frozen=True)
class Checked:
    """What a look at everything came to: alerts raised and cleared."""

    raised: int = 0
    cleared: int = 0


def tell_of(home: Home, kind: Kind, events: Iterable[Event], now: datetime, kept: Collection[str] = ()) -> Changed:
    """Let these be the events of a kind that hold now: new ones are raised, open ones that are not among them cleared.

    An event whose key is open is the one that is open. kept: keys that are not raised, but not cleared either.
    """
    found = list(events)
    with home.engine.begin() as connection:
        raised = raise_events(connection, found, now)
        cleared = clear_others(connection, kind, {e.key for e in found} | set(kept), now)
    return Changed(raised, cleared)


def run_failed(home: Home, job: str, reason: str, now: datetime, as_of: str | None = None) -> Changed:
    """A run of a job failed: one alert until a run of it succeeds, however often it is tried meanwhile."""
    of = f" of {as_of}" if as_of else ""
    severity: Any = "critical" if job == "nightly" else "major"
    event = Event("failure", job, severity, f"run of job {job}{of} failed: {reason}", details={"reason": reason})
    with home.engine.begin() as connection:
        return Changed(raise_events(connection, [event], now))


def run_succeeded(home: Home, job: str, now: datetime) -> Changed:
    """A run of a job succeeded: its failure, if one is open, is over."""
    with home.engine.begin() as connection:
        return Changed(cleared=clear_one(connection, "failure", job, now))


def check(home: Home, now: datetime) -> Checked:
    """Look at breaches, silent stations, drift and whether the night is late; keep what is new and what is over."""
    least = home.settings.alert_probability
    with home.engine.connect() as connection:
        possible = connection.execute(_PREDICTED, {"least": least * _HOLDS}).mappings().all()
        beyond = connection.execute(_NOW).mappings().all()
        silent = connection.execute(_SILENT).mappings().all()
        drifts = connection.execute(_DRIFTS).mappings().all()
        late = _late(connection)
    told = [row for row in possible if row["probability_48h"] >= least and not row["silent"]]
    likely = {e.key: e for e in map(_expected, told)}
    # What is beyond its limit now is the breach that was expected, not another one.
    breaches = {**likely, **{e.key: e for e in map(_beyond, beyond)}}
    changed = (
        tell_of(home, "breach", breaches.values(), now, {_breach_key(row) for row in possible}),
        tell_of(home, "silent", map(_fell_silent, silent), now),
        tell_of(home, "drift", {e.key: e for e in map(_drifted, drifts)}.values(), now),
        tell_of(home, "late", late, now),
    )
    return Checked(sum(len(c.raised) for c in changed), sum(len(c.cleared) for c in changed))


def _late(connection: sa.Connection) -> list[Event]:
    batch = connection.execute(_BATCH).mappings().first()
    if batch is None:
        if not connection.scalar(_ANYTHING):
            return []  # a home that nobody has used yet
        return [Event("late", "night", "critical", "landing files were taken in, and no forecast was ever published")]
    if batch["state"] != "stale":
        return []
    newest = batch["last_observed_at"]
    heard = f"; newest observation {newest:%Y-%m-%d %H:%M} UTC" if newest else ""
    summary = f"the night is late: the newest batch is of origin {batch['issued_at']:%Y-%m-%d %H:%M} UTC{heard}"
    return [Event("late", "night", "critical", summary, details={"batch_id": batch["batch_id"]})]


def _drifted(row: sa.RowMapping) -> Event:
    where = row["parameter"] or (f"parameter {row['parameter_id']}" if row["parameter_id"] is not None else "readings")
    at = f" of {row['station'] or row['station_id']}" if row["station_id"] is not None else ""
    nights = f"{row['nights']} night{'s' * (row['nights'] != 1)}"
    said = f"{where}{at}: {row['figure']} has changed since training ({row['kind']} drift, {nights})"
    details = {name: row[name] for name in ("scope", "figure", "change", "evidence", "bound", "model_version_id")}
    return Event(
        "drift",
        f"{row['scope']}:{row['station_id']}:{row['parameter_id']}:{row['figure']}",
        "minor",
        said,
        row["station_id"],
        row["parameter_id"],
        details=details,
    )


def _breach_key(row: sa.RowMapping) -> str:
    return f"{row['station_id']}:{row['parameter_id']}:{row['side']}"


def _expected(row: sa.RowMapping) -> Event:
    first = row["first_likely_at"]
    since = f", likely from {first:%Y-%m-%d %H:%M} UTC" if first else ""
    shares = {name: round(row[name], 3) for name in ("probability_6h", "probability_24h", "probability_48h")}
    return Event(
        "breach",
        _breach_key(row),
        row["perceived_severity"],
        f"{_limit(row)} within 48 h, chance {percent(row['probability_48h'])}{since};"
        f" on average reaching {row['expected_worst']:.4g} {row['unit'] or ''}".rstrip(),
        row["station_id"],
        row["parameter_id"],
        first,
        {**shares, "limit": row["limit_value"], "expected_worst": row["expected_worst"], "batch_id": row["batch_id"]},
    )


def _beyond(row: sa.RowMapping) -> Event:
    return Event(
        "breach",
        _breach_key(row),
        "critical",
        f"{_limit(row)} now: {row['value']:.4g}, observed at {row['observed_at']:%Y-%m-%d %H:%M} UTC",
        row["station_id"],
        row["parameter_id"],
        row["observed_at"],
        {"limit": row["limit_value"], "value": row["value"]},
    )


def _fell_silent(row: sa.RowMapping) -> Event:
    last = row["last_observed_at"]
    return Event(
        "silent",
        str(row["station_id"]),
        "major",
        f"{_station(row)} is silent since {last:%Y-%m-%d %H:%M} UTC: none of its {row['series']} series reports",
        row["station_id"],
        # Without a time of its own: an outage that is planned suppresses it as long as that lasts.
        details={"series": row["series"], "last_observed_at": last.isoformat()},
    )


def _limit(row: sa.RowMapping) -> str:
    side = "above" if row["side"] == "high" else "below"
    name = row["parameter"] or f"parameter {row['parameter_id']}"
    return f"{_station(row)}: {name} {side} {row['limit_value']:g} {row['unit'] or ''}".rstrip()


def _station(row: sa.RowMapping) -> str:
    return f"{row['station']} ({row['station_id']})" if row["station"] else f"station {row['station_id']}"

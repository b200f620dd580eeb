"""One station: all its parameters as small charts on one time axis."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from bts_assets.explorer.chart import Chart, merged
from bts_assets.explorer.marks import Mark, marks, of_parameter
from bts_assets.explorer.page import NotThere, Page, Table
from bts_assets.explorer.picture import draw_charts
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest, made_by
from bts_assets.explorer.words import at, between

#: Days of history, by default and at most.
_DAYS: Final = 3
_MOST_DAYS: Final = 28
#: Points of a small chart, about.
_POINTS: Final = 240

STATION: Final = "SELECT * FROM bts.station WHERE station_id = :station"
_SERIES: Final = """
    SELECT f.parameter_id, f.parameter, p.unit, p.kind, f.status, f.source, f.reason, f.last_observed_at,
           coalesce(l.low_limit, p.low_limit) AS low_limit, coalesce(l.high_limit, p.high_limit) AS high_limit
    FROM bts.series_status AS f
    LEFT JOIN bts.parameter AS p USING (parameter_id)
    LEFT JOIN bts.station_limit AS l USING (station_id, parameter_id)
    WHERE f.station_id = :station
    ORDER BY f.parameter_id
"""
_FORECAST: Final = """
    SELECT parameter_id, target_at, q05, q10, q50, q90, q95 FROM bts.latest_forecast
    WHERE station_id = :station ORDER BY parameter_id, target_at
"""
_OBSERVED: Final = """
    SELECT parameter_id, observed_at, value FROM bts.observation
    WHERE station_id = :station AND parameter_id = ANY (:parameters) AND observed_at >= :start AND observed_at < :until
    ORDER BY parameter_id, observed_at
"""
_BREACHES: Final = """
    SELECT parameter_id, parameter, unit, side, limit_value, perceived_severity, how_sure, first_likely_at,
           probability_48h, expected_worst
    FROM bts.predicted_breach WHERE station_id = :station AND probability_48h >= 0.1
    ORDER BY first_likely_at NULLS LAST, probability_48h DESC
"""
_FINDINGS: Final = "SELECT * FROM bts.maintenance_finding WHERE station_id = :station"


def show(request: PageRequest) -> Page:
    values = {"station": request.places["station"]}
    about = Question("the station", STATION, values).one(request.connection)
    series = Question("its series in the batch that serves", _SERIES, values)
    found = series.ask(request.connection)
    if about is None and not found:
        raise NotThere(f"no station {values['station']} is known: look for it by name among all stations")
    station: dict[str, Any] = {"name": None, "region": None, "timezone": None, "in_service_since": None,
                               "station_id": values["station"], **(about or {})}  # fmt: skip
    zone = request.zone(station["timezone"])
    days = request.whole("days", _DAYS, 1, _MOST_DAYS) or _DAYS
    questions = [series]
    charts: list[Chart] = []
    marked: list[Mark] = []
    forecasts: list[Row] = []
    behind: list[Row] = []
    breaches = Question("what may pass a limit", _BREACHES, values)
    findings = Question("what wears out", _FINDINGS, values)
    tables = {
        "series": Table(series, found),
        "breaches": Table(breaches, breaches.ask(request.connection)),
        "findings": Table(findings, findings.ask(request.connection)),
    }
    if found and request.fresh.batch is not None:
        start = request.fresh.batch["issued_at"] - timedelta(days=days)
        span = {"start": start, "until": request.fresh.batch["forecasts_end_at"]}
        forecast = Question("its forecasts", _FORECAST, values)
        parameters = [row["parameter_id"] for row in found]
        observed = Question("its observations", _OBSERVED, {**values, **span, "parameters": parameters})
        forecasts = forecast.ask(request.connection)
        marked, asked = marks(request, station, span["start"], span["until"], zone)
        behind = observed.ask(request.connection)
        tables |= {"forecasts": Table(forecast, forecasts), "observations": Table(observed, behind)}
        charts = _charts(request, station, found, forecasts, behind, span, zone, marked)
        first = [forecast, observed] if forecasts else [observed, forecast]
        questions = [*first, series, breaches, findings, *asked]
    given = {
        "station": station, "charts": charts, "marks": marked, "zone": zone, "days": days,
        "breaches": tables["breaches"].rows, "findings": tables["findings"].rows,
        "excluded": [row for row in found if row["status"] == "excluded"],
    }  # fmt: skip
    title = station["name"] or f"Station {station['station_id']}"
    picture = (lambda: draw_charts(charts, made_by(request))) if charts else None
    name = f"station-{station['station_id']}"
    return Page("station.html", title, given, questions, forecasts or behind, picture, name, tables)


def _charts(
    request: PageRequest,
    station: Mapping[str, Any],
    series: Sequence[Row],
    forecasts: Sequence[Row],
    observed: Sequence[Row],
    span: Mapping[str, datetime],
    zone: Any,
    marked: Sequence[Mark],
) -> list[Chart]:
    ahead: dict[int, list[Row]] = defaultdict(list)
    behind: dict[int, dict[datetime, float]] = defaultdict(dict)
    for row in forecasts:
        ahead[row["parameter_id"]].append(row)
    for row in observed:
        behind[row["parameter_id"]][row["observed_at"]] = row["value"]
    step, origin = step_of(request, forecasts), request.fresh.batch["issued_at"] if request.fresh.batch else None
    every = max(1, round((span["until"] - span["start"]) / step / _POINTS))
    charts = []
    for row in series:
        key = row["parameter_id"]
        if row["status"] == "excluded" and not behind[key]:
            continue
        low, high = (row["low_limit"], row["high_limit"]) if ahead[key] else (None, None)
        times, lines = merged(behind[key], ahead[key], span["start"], span["until"], step, every)
        charts.append(
            Chart(
                f"p{key}", str(row["parameter"] or key), _sentence(row, ahead[key], zone), row["unit"] or "",
                zone, times, lines, origin, low, high, of_parameter(marked, key), small=True,
                link=f"/series/{station['station_id']}/{key}", alone=_alone(row, station),
            )
        )  # fmt: skip
    return charts


def _alone(row: Row, station: Mapping[str, Any]) -> str:
    where = station["name"] or f"station {station['station_id']}"
    return ": ".join(filter(None, (f"{row['parameter'] or row['parameter_id']}, {where}", row["source"])))


def step_of(request: PageRequest, forecasts: Sequence[Row]) -> timedelta:
    """The grid's step: what lies between two targets."""
    targets = sorted({row["target_at"] for row in forecasts[:50]})
    return targets[1] - targets[0] if len(targets) > 1 else timedelta(minutes=15)


def _sentence(row: Row, ahead: Sequence[Row], zone: Any) -> str:
    if not ahead:
        return f"Not forecast: {row['reason'] or 'its forecasts were pruned'}."
    low, high = min(f["q10"] for f in ahead), max(f["q90"] for f in ahead)
    span, last = between(low, high, row["unit"]), ahead[-1]["target_at"]
    return f"{'Mostly' if ' to ' in span else 'Stays at'} {span} until {at(last, zone)}."

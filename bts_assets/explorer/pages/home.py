"""The first page: stations where a limit may be passed, the soonest first, and what wears out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from bts_assets.explorer.answer_cache import AnswerCache
from bts_assets.explorer.page import Page, Table
from bts_assets.explorer.paging import Key, rows_asked, sliced
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest, made_by
from bts_assets.explorer.words import drawable

#: A breach that is less likely than this within the horizon is listed only where all are asked for.
LEAST: Final = 0.1

#: What means more than itself in a pattern.
_WILD: Final = "%_\\"

#: First those that are likely, by when; then those that are possible, by how likely.
ORDER: Final = Key((("soonest", "timestamptz"), ("unlikely", "float8"), ("station_id", "bigint")))

_WANTED: Final = """
    probability_48h >= :least
    AND (CAST(:region AS text) IS NULL OR region = :region)
    AND (CAST(:parameter AS int) IS NULL OR parameter_id = :parameter)
    AND (CAST(:search AS text) IS NULL OR station ILIKE :like OR CAST(station_id AS text) = :search)"""

_STATIONS: Final = """
    SELECT * FROM (
        SELECT station_id, station, region, count(*) AS breaches,
               min(first_likely_at) AS first_likely_at,
               coalesce(min(first_likely_at), timestamptz '9999-01-01 00:00Z') AS soonest,
               max(probability_48h)::float8 AS probability,
               1 - max(probability_48h)::float8 AS unlikely
        FROM bts.predicted_breach
        WHERE {wanted}
        GROUP BY station_id, station, region
    ) AS listed
    WHERE {beyond}
    ORDER BY {order}
"""
_BREACHES: Final = f"""
    SELECT station_id, station, region, parameter_id, parameter, unit, side, limit_value, perceived_severity, how_sure,
           first_likely_at, probability_6h, probability_24h, probability_48h, expected_worst, expected_duration,
           issued_at, batch_id
    FROM bts.predicted_breach
    WHERE station_id = ANY (:stations) AND {_WANTED}
    ORDER BY first_likely_at NULLS LAST, probability_48h DESC, station_id, parameter_id, side
"""
_TOTALS: Final = f"""
    SELECT count(DISTINCT station_id) AS stations,
           count(DISTINCT station_id) FILTER (WHERE how_sure = 'likely') AS likely,
           count(DISTINCT station_id) FILTER (WHERE probability_6h >= 0.5) AS within_6h
    FROM bts.predicted_breach
    WHERE {_WANTED}
"""
#: Shown at most, the most severe first; all of them are in the table's CSV.
_FINDINGS_SHOWN: Final = 20
#: What wears out belongs to no parameter: where one is asked for, there is none of it.
_FINDINGS: Final = """
    SELECT *, count(*) OVER () AS of_all FROM bts.maintenance_finding
    WHERE CAST(:parameter AS int) IS NULL AND (CAST(:region AS text) IS NULL OR region = :region)
      AND (CAST(:search AS text) IS NULL OR station ILIKE :like OR CAST(station_id AS text) = :search)
    LIMIT :most
"""
#: The newest observation of some series, by their keys alone. `bts.current_breach` has all that are beyond a limit; it
#: looks at every series of the batch.
_NOW: Final = """
    SELECT asked.station_id, asked.parameter_id, o.value, o.observed_at
    FROM unnest(CAST(:stations AS bigint[]), CAST(:parameters AS int[])) AS asked (station_id, parameter_id)
    CROSS JOIN LATERAL (
        SELECT value, observed_at FROM bts.observation AS o
        WHERE o.station_id = asked.station_id AND o.parameter_id = asked.parameter_id AND o.observed_at > :since
        ORDER BY observed_at DESC LIMIT 1
    ) AS o
"""
#: An older observation says nothing about now.
_NOW_WITHIN: Final = timedelta(hours=6)
REGIONS: Final = Question(
    "regions",
    "SELECT region, count(*) AS stations FROM bts.station WHERE region IS NOT NULL GROUP BY region ORDER BY 1",
)
_PARAMETERS: Final = """
    SELECT parameter_id, name FROM bts.parameter
    WHERE parameter_id IN (SELECT parameter_id FROM bts.forecast_ledger WHERE batch_id = :batch)
      AND (low_limit IS NOT NULL OR high_limit IS NOT NULL
           OR parameter_id IN (SELECT parameter_id FROM bts.station_limit))
    ORDER BY name
"""
#: Asking for them reads every series of the batch: once for each that is published.
_kept: Final = AnswerCache()


def show(request: PageRequest) -> Page:
    values = wanted(request)
    listed, asked = sliced(
        request, ORDER, lambda beyond, order: Question(
            "stations where a limit may be passed, the soonest first",
            _STATIONS.format(wanted=_WANTED, beyond=beyond, order=order), values,
        ),
    )  # fmt: skip
    ids = [row["station_id"] for row in listed.rows]
    breaches = Question("what may pass which limit there, and when", _BREACHES, {**values, "stations": ids})
    totals = Question("how many stations", _TOTALS, values)
    found = breaches.ask(request.connection) if ids else []
    now = Question("what was observed there last", _NOW, _newest_of(found, request))
    newest = {(row["station_id"], row["parameter_id"]): row for row in (now.ask(request.connection) if found else [])}
    most = {"most": rows_asked(request, _FINDINGS_SHOWN)}
    findings = Question("what wears out, the most severe first", _FINDINGS, values | most)
    worn = findings.ask(request.connection) if listed.before is None else []
    parameters = Question("parameters of this network that have limits", _PARAMETERS, {"batch": request.batch_id})
    given = {
        "findings": worn,
        "more_findings": worn[0]["of_all"] - len(worn) if worn else 0,
        "listed": listed,
        "breaches": by_station(found),
        "beyond": _beyond(found, newest),
        "totals": totals.one(request.connection),
        "regions": REGIONS.ask(request.connection),
        "parameters": _kept.answer(request.connection, parameters, request.fresh.newest["publication_seq"]),
        "asked": {k: values[k] for k in ("region", "parameter", "search")},
        "every": values["least"] < LEAST,
        "least": LEAST,
    }
    picture = (lambda: _draw(listed.rows, made_by(request))) if listed.rows else None
    questions = [asked, breaches, totals, now, findings]
    tables = {"findings": Table(findings, worn)}
    return Page("home.html", "What needs a visit", given, questions, found, picture, "maintenance", tables)


def _newest_of(breaches: Sequence[Row], request: PageRequest) -> dict[str, Any]:
    until = request.fresh.observed_at or request.fresh.now
    pairs = sorted({(row["station_id"], row["parameter_id"]) for row in breaches})
    return {
        "stations": [station for station, _ in pairs],
        "parameters": [parameter for _, parameter in pairs],
        "since": until - _NOW_WITHIN,
    }


def _beyond(breaches: Sequence[Row], newest: Mapping[tuple[int, int], Row]) -> dict[tuple[int, int, str], Row]:
    """The newest observations that are beyond the limit that they may pass, by station, parameter and side."""
    found = {}
    for row in breaches:
        now = newest.get((row["station_id"], row["parameter_id"]))
        side, limit = row["side"], row["limit_value"]
        if now is not None and (now["value"] > limit if side == "high" else now["value"] < limit):
            found[row["station_id"], row["parameter_id"], side] = now
    return found


def _draw(rows: Sequence[Row], footer: str) -> bytes:
    import pandas as pd

    from bts_assets.plots.evaluation import bars

    names = [drawable(f"{row['station'] or ''} ({row['station_id']})".strip()) for row in rows]
    chances = pd.Series([100 * row["probability"] for row in rows], index=names)
    return bars(chances, "Chance of passing a limit within 48 h", "%", footer)


def wanted(request: PageRequest) -> dict[str, Any]:
    """What the list is narrowed to, as values of its query."""
    search = request.text("search")
    return {
        "least": 0.0 if request.one_of("list", ("usual", "all")) == "all" else LEAST,
        "region": request.text("region"),
        "parameter": request.whole("parameter"),
        "search": search,
        "like": like(search),
    }


def like(search: str | None) -> str | None:
    """A pattern that finds the text anywhere, and nothing else."""
    if search is None:
        return None
    escaped = "".join(f"\\{c}" if c in _WILD else c for c in search)
    return f"%{escaped}%"


def by_station(rows: list[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["station_id"]].append(row)
    return grouped

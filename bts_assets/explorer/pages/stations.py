"""All stations, by name, narrowed by what is typed."""

from typing import Final

from bts_assets.explorer.page import Page, Table
from bts_assets.explorer.pages.home import REGIONS, wanted
from bts_assets.explorer.paging import Key, sliced
from bts_assets.explorer.question import Question
from bts_assets.explorer.request import PageRequest

#: Names with numbers in them in the order of those numbers, as long as they have ten digits at most.
_ORDER: Final = Key((("sorted_name", "text"), ("station_id", "bigint")))
_STATIONS: Final = """
    SELECT * FROM (
        SELECT station_id, name, region, latitude, longitude, timezone, in_service_since, listed,
               coalesce(lower(name), '') AS sorted_name
        FROM bts.station
        WHERE (CAST(:region AS text) IS NULL OR region = :region)
          AND (CAST(:search AS text) IS NULL OR name ILIKE :like OR CAST(station_id AS text) = :search)
    ) AS found
    WHERE {beyond}
    ORDER BY {order}
"""
_BREACHES: Final = """
    SELECT station_id, count(*) AS breaches, min(first_likely_at) AS first_likely_at,
           max(probability_48h) AS probability, bool_or(how_sure = 'likely') AS likely
    FROM bts.predicted_breach
    WHERE station_id = ANY (:stations) AND probability_48h >= 0.1
    GROUP BY station_id
"""


def show(request: PageRequest) -> Page:
    asked = wanted(request)
    values = {k: asked[k] for k in ("region", "search", "like")}
    listed, stations = sliced(
        request,
        _ORDER,
        lambda beyond, order: Question("stations", _STATIONS.format(beyond=beyond, order=order), values),
    )
    ids = [row["station_id"] for row in listed.rows]
    breaches = Question("what may pass a limit at them", _BREACHES, {"stations": ids})
    found = breaches.ask(request.connection) if ids else []
    given = {
        "listed": listed,
        "breaches": {row["station_id"]: row for row in found},
        "regions": REGIONS.ask(request.connection),
        "asked": values,
    }
    tables = {"stations": Table(stations, listed.rows), "breaches": Table(breaches, found)}
    questions, rows = [stations, breaches], listed.rows
    return Page("stations.html", "Stations", given, questions, rows, name="stations", tables=tables)

"""What the data of a night looked like: by parameter, and the series that miss most."""

from typing import Any, Final

from bts_assets.explorer.look import Look
from bts_assets.explorer.page import Page, Table
from bts_assets.explorer.paging import Key, sliced
from bts_assets.explorer.question import Question

_DATASET: Final = Question(
    "the newest data set that was described",
    """
    SELECT dataset_id, name, provider, data_start, data_end, files, bytes, rows, accepted, rejected,
           duplicate, created_at
    FROM bts.dataset ORDER BY dataset_id DESC LIMIT 1
    """,
)
_PARAMETERS: Final = """
    SELECT parameter_id, parameter, unit, count(*) AS series, sum(readings) AS readings,
           avg(missing_share) AS missing_share, count(*) FILTER (WHERE observations = 0) AS silent,
           min(minimum) AS minimum, avg(q05) AS q05, avg(median) AS median, avg(q95) AS q95, max(maximum) AS maximum,
           max(longest_gap) AS longest_gap, avg(readings_per_step) AS readings_per_step
    FROM bts.data_profile WHERE dataset_id = :dataset GROUP BY 1, 2, 3 ORDER BY parameter_id
"""
_SERIES: Final = """
    SELECT * FROM (
        SELECT station_id, station, parameter_id, parameter, unit, readings, observations, missing_share, gaps,
               longest_gap, minimum, median, maximum, 1 - missing_share AS present
        FROM bts.data_profile
        WHERE dataset_id = :dataset AND (CAST(:parameter AS int) IS NULL OR parameter_id = :parameter)
    ) AS found
    WHERE {beyond}
    ORDER BY {order}
"""
_ORDER: Final = Key((("present", "float8"), ("station_id", "bigint"), ("parameter_id", "int")))


def show(look: Look) -> Page:
    dataset = _DATASET.one(look.connection)
    parameter = look.whole("parameter")
    if dataset is None:
        given: dict[str, Any] = {"dataset": None, "parameters": [], "listed": None, "parameter": parameter}
        return Page("data.html", "Data", given, [_DATASET], name="data")
    values = {"dataset": dataset["dataset_id"], "parameter": parameter}
    parameters = Question("every parameter of it", _PARAMETERS, {"dataset": dataset["dataset_id"]})
    listed, series = sliced(
        look, _ORDER, lambda beyond, order: Question(
            "its series, those that miss most first", _SERIES.format(beyond=beyond, order=order), values
        ),
    )  # fmt: skip
    rows = parameters.ask(look.connection)
    given = {"dataset": dataset, "parameters": rows, "listed": listed, "parameter": parameter}
    tables = {"parameters": Table(parameters, rows), "series": Table(series, listed.rows)}
    return Page("data.html", "Data", given, [parameters, series, _DATASET], rows, name="data", tables=tables)

"""What the data of the night looked like: by parameter, and the series that miss most."""

from typing import Any, Final

from bts_assets.explorer.page import Page, Table
from bts_assets.explorer.paging import Key, sliced
from bts_assets.explorer.question import Question
from bts_assets.explorer.request import PageRequest

#: Of the newest published night whose data was described; never what a training learned from.
_DATASET: Final = Question(
    "the data set of the night",
    """
    SELECT d.dataset_id, d.name, d.provider, d.data_start, d.data_end, d.files, d.bytes, d.rows, d.accepted,
           d.rejected, d.duplicate, d.created_at
    FROM bts.dataset AS d
    WHERE EXISTS (SELECT FROM bts.batch AS b JOIN bts.publication AS p USING (batch_id)
                  WHERE p.serves_latest AND b.issued_at = d.data_end AND b.observations_digest = d.observations_digest)
    ORDER BY d.data_end DESC, d.dataset_id DESC LIMIT 1
    """,
)
#: A counter only rises: when a series stood where says nothing, and less so averaged over counters of other ages.
_PARAMETERS: Final = """
    SELECT parameter_id, parameter, unit, count(*) AS series, sum(readings) AS readings,
           avg(missing_share) AS missing_share, count(*) FILTER (WHERE observations = 0) AS silent,
           max(longest_gap) AS longest_gap, min(minimum) AS minimum, avg(q05) FILTER (WHERE levels) AS q05,
           avg(median) FILTER (WHERE levels) AS median, avg(q95) FILTER (WHERE levels) AS q95,
           max(maximum) AS maximum, avg(readings_per_step) AS readings_per_step
    FROM (SELECT d.*, coalesce(p.kind, 'gauge') <> 'counter' AS levels
          FROM bts.data_profile AS d LEFT JOIN bts.parameter AS p USING (parameter_id)
          WHERE dataset_id = :dataset) AS profile
    GROUP BY 1, 2, 3 ORDER BY parameter_id
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


def show(request: PageRequest) -> Page:
    dataset = _DATASET.one(request.connection)
    parameter = request.whole("parameter")
    if dataset is None:
        given: dict[str, Any] = {"dataset": None, "parameters": [], "listed": None, "parameter": parameter}
        return Page("data.html", "Data", given, [_DATASET], name="data")
    values = {"dataset": dataset["dataset_id"], "parameter": parameter}
    parameters = Question("every parameter of it", _PARAMETERS, {"dataset": dataset["dataset_id"]})
    listed, series = sliced(
        request, _ORDER, lambda beyond, order: Question(
            "its series, those that miss most first", _SERIES.format(beyond=beyond, order=order), values
        ),
    )  # fmt: skip
    rows = parameters.ask(request.connection)
    given = {"dataset": dataset, "parameters": rows, "listed": listed, "parameter": parameter}
    tables = {"parameters": Table(parameters, rows), "series": Table(series, listed.rows)}
    return Page("data.html", "Data", given, [parameters, series, _DATASET], rows, name="data", tables=tables)

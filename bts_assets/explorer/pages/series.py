"""One series: its history, the forecast from an origin, the actuals since, and the forecast's lineage."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from bts_assets.explorer.chart import Chart, merged
from bts_assets.explorer.marks import marks, of_parameter
from bts_assets.explorer.page import NotThere, Page, Table
from bts_assets.explorer.pages.station import STATION
from bts_assets.explorer.picture import draw_charts
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest
from bts_assets.explorer.words import at, between, count, share, together, with_unit

_DAYS: Final = 7
_MOST_DAYS: Final = 60

_ORIGINS: Final = Question(
    "the batches that were published, the last one of each origin",
    """
    SELECT DISTINCT ON (b.issued_at) b.issued_at, b.batch_id, b.kind, p.published_at, b.step_seconds, b.horizon_steps
    FROM bts.publication AS p JOIN bts.batch AS b USING (batch_id)
    WHERE b.pruned_at IS NULL
    ORDER BY b.issued_at DESC, p.publication_seq DESC LIMIT 120
    """,
)
_PARAMETER: Final = """
    SELECT p.parameter_id, p.name, p.unit, p.kind,
           coalesce(l.low_limit, p.low_limit) AS low_limit, coalesce(l.high_limit, p.high_limit) AS high_limit,
           l.station_id IS NOT NULL AS own_limits
    FROM bts.parameter AS p
    LEFT JOIN bts.station_limit AS l ON l.parameter_id = p.parameter_id AND l.station_id = :station
    WHERE p.parameter_id = :parameter
"""
_MADE_BY: Final = """
    SELECT batch_id, issued_at, published_at, kind, status, source, reason, components, model_version_id,
           registry_version, mlflow_run_id, mlflow_experiment_id,
           dagster_run_id, training_dagster_run_id, training_start, training_end,
           input_start, input_ledger_seq, bundle_digest, observations_digest, forecasts_digest, catalogue_digest,
           code_version, training_code_version, seed, canary, trained_past_origin, pruned_at,
           recalibration_factors, recalibration_nights
    FROM bts.forecast_lineage
    WHERE batch_id = :batch AND station_id = :station AND parameter_id = :parameter
"""
_FORECAST: Final = """
    SELECT target_at, q05, q10, q50, q90, q95 FROM bts.forecast
    WHERE batch_id = :batch AND station_id = :station AND parameter_id = :parameter ORDER BY step_ahead
"""
_OBSERVED: Final = """
    SELECT observed_at, value, readings FROM bts.observation
    WHERE station_id = :station AND parameter_id = :parameter AND observed_at >= :start AND observed_at < :until
    ORDER BY observed_at
"""
_WORTH: Final = """
    WITH scored AS (
        SELECT *, rank() OVER (ORDER BY array_position(ARRAY['live', 'retrospective', 'in_sample'], kind)) AS choice
        FROM bts.scored_forecast
        WHERE station_id = :station AND parameter_id = :parameter AND role = 'served'
    )
    SELECT candidate, kind, count(DISTINCT batch_id) AS nights, sum(targets) AS targets,
           sum(absolute_error) / sum(targets) AS mae,
           sum(absolute_error / nullif(scale, 0)) / nullif(sum(targets) FILTER (WHERE scale > 0), 0) AS mase,
           sum(inside80)::float8 / sum(targets) AS coverage80, sum(inside90)::float8 / sum(targets) AS coverage90,
           (SELECT count(DISTINCT batch_id) FROM scored WHERE choice > 1) AS nights_left_out
    FROM scored
    WHERE choice = 1
    GROUP BY candidate, kind ORDER BY candidate <> 'served', candidate
"""
#: The day before the origin beside the same 24 hours of days before it, less the median difference; what followed then.
#: The quarter of the steps that differ most is left out, in which an outage of either day falls: every past day would
#: differ by it, and by nothing else.
_SIMILAR: Final = """
    WITH known AS (
        SELECT div(seconds - 1, 86400)::int AS days_ago, mod(seconds - 1, 86400) AS place, value
        FROM (SELECT extract(epoch FROM CAST(:origin AS timestamptz) - observed_at) AS seconds, value
              FROM bts.observation
              WHERE station_id = :station AND parameter_id = :parameter AND observed_at < :origin
                AND observed_at >= CAST(:origin AS timestamptz) - :days * interval '1 day') AS observed
    ), level AS (
        SELECT days_ago, min(value) AS least, max(value) AS most FROM known GROUP BY days_ago
    ), pair AS (
        SELECT d.days_ago, d.value - t.value AS higher
        FROM known AS t JOIN known AS d ON d.place = t.place AND d.days_ago > 0
        WHERE t.days_ago = 0
    ), ranked AS (
        SELECT days_ago, abs(higher - middle) AS apart, steps,
               row_number() OVER (PARTITION BY days_ago ORDER BY abs(higher - middle)) AS nearest
        FROM pair JOIN (
            SELECT days_ago, percentile_cont(0.5) WITHIN GROUP (ORDER BY higher) AS middle, count(*) AS steps
            FROM pair GROUP BY days_ago
        ) AS shift USING (days_ago)
    )
    SELECT r.days_ago, CAST(:origin AS timestamptz) - (r.days_ago + 1) * interval '1 day' AS starts_at,
           avg(r.apart) FILTER (WHERE r.nearest <= ceil(0.75 * r.steps)) AS difference,
           followed.least AS followed_least, followed.most AS followed_most
    FROM ranked AS r JOIN level AS followed ON followed.days_ago = r.days_ago - 1
    GROUP BY r.days_ago, followed.least, followed.most
    HAVING 2 * count(*) > (SELECT count(*) FROM known WHERE days_ago = 0)
    ORDER BY difference, r.days_ago LIMIT 3
"""
#: Days that the day before the origin is compared with.
_COMPARED_DAYS: Final = 56
_BREACHES: Final = """
    SELECT side, limit_value, unit, how_sure, perceived_severity, first_likely_at, probability_6h, probability_24h,
           probability_48h, expected_worst, expected_duration
    FROM bts.predicted_breach WHERE station_id = :station AND parameter_id = :parameter ORDER BY probability_48h DESC
"""
_SIBLINGS: Final = """
    SELECT parameter_id, parameter FROM bts.series_status WHERE station_id = :station ORDER BY parameter_id
"""


def show(request: PageRequest) -> Page:
    key = {"station": request.places["station"], "parameter": request.places["parameter"]}
    origins = _ORIGINS.ask(request.connection)
    chosen = _chosen(request, origins)
    asked = {**key, "batch": None if chosen is None else chosen["batch_id"]}
    made_by = Question("what made its forecast", _MADE_BY, asked)
    forecast = Question("its forecast from that origin", _FORECAST, asked)
    made = made_by.one(request.connection)
    parameter = Question("its parameter and limits", _PARAMETER, key).one(request.connection)
    if made is None or chosen is None or parameter is None:
        raise NotThere(_why_not(key, parameter, chosen))
    station = Question("its station", STATION, {"station": key["station"]}).one(request.connection)
    about = {"name": None, "region": None, "timezone": None, "station_id": key["station"], **(station or {})}
    zone = request.zone(about["timezone"])
    days = request.whole("days", _DAYS, 1, _MOST_DAYS) or _DAYS
    step = timedelta(seconds=chosen["step_seconds"])
    span = {
        "start": chosen["issued_at"] - timedelta(days=days),
        "until": chosen["issued_at"] + chosen["horizon_steps"] * step,
    }
    observed = Question("what was observed", _OBSERVED, {**key, **span})
    ahead, behind = forecast.ask(request.connection), observed.ask(request.connection)
    came = {row["observed_at"]: row["value"] for row in behind}
    worth = Question("what its forecasts were worth, beside the baselines", _WORTH, key)
    breaches = Question("which limits it may pass", _BREACHES, key)
    compared = {**key, "origin": chosen["issued_at"], "days": _COMPARED_DAYS}
    similar = Question("past days whose shape is nearest to the day before the origin", _SIMILAR, compared)
    marked, more = marks(request, about, span["start"], span["until"], zone)
    times, lines = merged(came, ahead, span["start"], span["until"], step)
    title = f"{parameter['name']}, {about['name'] or 'station ' + str(key['station'])}"
    chart = Chart(
        "series", title, _sentence(ahead, came, parameter, zone), parameter["unit"] or "", zone, times, lines,
        chosen["issued_at"], parameter["low_limit"], parameter["high_limit"],
        of_parameter(marked, key["parameter"]),
    )  # fmt: skip
    serves = request.batch_id == chosen["batch_id"]
    given: dict[str, Any] = {
        "station": about, "parameter": parameter, "chart": chart, "made": made, "zone": zone, "days": days,
        "origins": origins, "chosen": chosen, "serves": serves, "forecasts": bool(ahead),
        "neighbours": _neighbours(origins, chosen),
        "truth": _truth(ahead, came),
        "worth": worth.ask(request.connection),
        "breaches": breaches.ask(request.connection) if serves else [],
        "marks": chart.marks,
        "siblings": Question("its siblings", _SIBLINGS, {"station": key["station"]}).ask(request.connection),
        "weights": _weights(made["components"]),
        "factors": _by_hours(made, chosen["horizon_steps"] * step / 4),
        "similar": similar.ask(request.connection) if ahead else [],
    }  # fmt: skip
    caption = f"batch {made['batch_id']}, model version {made['model_version_id']}, {made['source'] or 'not forecast'}"
    picture = (lambda: draw_charts([chart], caption)) if ahead or behind else None
    # Of what is not forecast, its history.
    questions = [*([forecast, observed] if ahead else [observed, forecast]), made_by, worth, similar, breaches, *more]
    tables = {"forecast": Table(forecast, ahead), "observations": Table(observed, behind)}
    tables |= {"scores": Table(worth, given["worth"]), "similar_days": Table(similar, given["similar"])}
    rows = [{"station_id": key["station"], "parameter_id": key["parameter"], "issued_at": chosen["issued_at"], **row,
             "came": came.get(row["target_at"])} for row in ahead] or behind  # fmt: skip
    name = f"series-{key['station']}-{key['parameter']}"
    return Page("series.html", title, given, questions, rows, picture, name, tables)


def _chosen(request: PageRequest, origins: Sequence[Row]) -> Row | None:
    """The batch of the origin that is asked for, else the one that serves.

    Raises:
        NotThere: if none of that origin is kept.
    """
    origin = request.instant("origin")
    if origin is None:
        return next((row for row in origins if row["batch_id"] == request.batch_id), None)
    for row in origins:
        if row["issued_at"] == origin:
            return row
    raise NotThere(f"no batch of origin {at(origin)} UTC is kept: choose another night")


def _why_not(key: dict[str, Any], parameter: Row | None, chosen: Row | None) -> str:
    if chosen is None:
        return "nothing has been published yet: run bts nightly"
    if parameter is None:
        return f"no parameter {key['parameter']} is known: look at the station's own"
    return (
        f"the batch has no {parameter['name']} of station {key['station']}: look at the station's own parameters,"
        " or choose another night"
    )


def _weights(components: dict[str, float | None] | None) -> list[tuple[str, float]]:
    """Members of a mixture, the heaviest first; one without a number was not asked."""
    given = [(name, weight) for name, weight in (components or {}).items() if weight]
    return sorted(given, key=lambda item: -item[1])


def _by_hours(made: Row, quarter: timedelta) -> list[dict[str, Any]]:
    """A row per quarter of the horizon, told in hours ahead: factors on the widths of q05, q10, q90 and q95, and how
    many nights speak for them, as `bts lineage` says it; none where none was applied."""
    factors, nights = made["recalibration_factors"] or [], made["recalibration_nights"] or []
    hours = quarter / timedelta(hours=1)
    return [
        {"hours": f"{i / 4 * hours:g} to {(i / 4 + 1) * hours:g}", "nights": max(nights[i : i + 4]),
         "factors": factors[i : i + 4]}
        for i in range(0, len(factors), 4)
    ]  # fmt: skip


def _neighbours(origins: Sequence[Row], chosen: Row) -> tuple[Row | None, Row | None]:
    """The nights before and after."""
    i = [row["batch_id"] for row in origins].index(chosen["batch_id"])
    return (origins[i + 1] if i + 1 < len(origins) else None, origins[i - 1] if i else None)


def _truth(ahead: Sequence[Row], came: dict[datetime, float]) -> dict[str, Any]:
    """The actuals of one forecast: how many, and their shares within the intervals."""
    matched = [(row, came[row["target_at"]]) for row in ahead if row["target_at"] in came]
    if not matched:
        return {"targets": 0}
    return {
        "targets": len(matched),
        "coverage80": sum(r["q10"] <= v <= r["q90"] for r, v in matched) / len(matched),
        "coverage90": sum(r["q05"] <= v <= r["q95"] for r, v in matched) / len(matched),
        "mae": sum(abs(r["q50"] - v) for r, v in matched) / len(matched),
    }


def _sentence(ahead: Sequence[Row], came: dict[datetime, float], parameter: Row, zone: ZoneInfo) -> str:
    if not ahead:
        return "There is no forecast of this series; the observations are shown."
    unit = parameter["unit"]
    low, high = min(ahead, key=lambda r: r["q50"]), max(ahead, key=lambda r: r["q50"])
    least, most = together(low["q50"], high["q50"])
    span = between(min(r["q10"] for r in ahead), max(r["q90"] for r in ahead), unit)
    if least == most:
        lies = f"stays at {with_unit(low['q50'], unit)}"
    else:
        top = f"{most} {unit}" if unit else most
        lies = f"lies between {least} ({at(low['target_at'], zone)}) and {top} ({at(high['target_at'], zone)})"
    words = (
        f"From {at(ahead[0]['target_at'], zone)} on, the median {lies}. The 80 % interval"
        f" {'spans' if ' to ' in span else 'stays at'} {span}."
    )
    for limit, side in ((parameter["high_limit"], "high"), (parameter["low_limit"], "low")):
        if limit is not None:
            words += " " + _of_limit(ahead, limit, side, unit, zone)
    truth = _truth(ahead, came)
    if truth["targets"]:
        words += (
            f" {count(truth['targets'], 'step')} of it have been observed so far, {share(truth['coverage80'])} of them"
            " within the 80 % interval."
        )
    return words


def _of_limit(ahead: Sequence[Row], limit: float, side: str, unit: str | None, zone: ZoneInfo) -> str:
    outer = "q95" if side == "high" else "q05"

    def first(column: str) -> datetime | None:
        beyond = (r["target_at"] for r in ahead if (r[column] > limit if side == "high" else r[column] < limit))
        return next(beyond, None)

    name = f"the {side} limit of {with_unit(limit, unit)}"
    if (likely := first("q50")) is not None:
        return (
            f"The median passes {name} at {at(likely, zone)}. How likely a breach is also depends on the past days on"
            " which the limit was passed or was not."
        )
    if (possible := first(outer)) is not None:
        return f"The 90 % interval reaches {name} from {at(possible, zone)} on."
    return f"The 90 % interval does not reach {name}."

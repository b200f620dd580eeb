"""What served beside the baselines: errors and coverage by parameter, stretch of the horizon and hour of the day.

All but the worst series are read from sums that were made when each batch was scored.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from statistics import median
from typing import Any, Final

from bts_assets.explorer.answer_cache import AnswerCache
from bts_assets.explorer.page import BadAddress, Page, Table
from bts_assets.explorer.picture import draw_bars
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest
from bts_assets.explorer.words import count, fixed, forecaster, share

DAYS: Final = (1, 7, 28)
#: For a batch with more series, the page names the query of the worst: it reads every series of a week.
MANY: Final = 20_000
#: Series named among the worst.
_WORST: Final = 15

_ACCURACY: Final = """
    SELECT parameter_id, parameter, unit, candidate, role, kind, model_version_id, nights, series, targets, mae, mase,
           pinball, crps, bias, coverage80, coverage90
    FROM bts.forecast_accuracy JOIN bts.scored_kind USING (days, kind) WHERE days = :days
    ORDER BY parameter_id, candidate <> 'served', role <> 'served', candidate
"""
_STRETCHES: Final = """
    SELECT stretch, candidate, sum(targets) AS targets, percentile_cont(0.5) WITHIN GROUP (ORDER BY mase) AS mase,
           sum(coverage80 * targets) / sum(targets) AS coverage80,
           sum(coverage90 * targets) / sum(targets) AS coverage90
    FROM bts.stretch_accuracy JOIN bts.scored_kind USING (days, kind) WHERE days = :days AND role = 'served'
    GROUP BY stretch, candidate ORDER BY stretch, candidate <> 'served', candidate
"""
_HOURS: Final = """
    SELECT hour, candidate, sum(targets) AS targets, percentile_cont(0.5) WITHIN GROUP (ORDER BY mase) AS mase,
           sum(coverage80 * targets) / sum(targets) AS coverage80
    FROM bts.hourly_accuracy JOIN bts.scored_kind USING (days, kind)
    WHERE days = :days AND role = 'served' AND (CAST(:parameter AS int) IS NULL OR parameter_id = :parameter)
    GROUP BY hour, candidate ORDER BY hour, candidate <> 'served', candidate
"""
_WORST_SERIES: Final = """
    SELECT station_id, station, parameter_id, parameter, unit, targets, mae, best_baseline, best_baseline_mae,
           ratio_to_best_baseline, mase, coverage80
    FROM bts.worst_series WHERE ratio_to_best_baseline > 1 LIMIT :worst
"""

#: The worst series change only when something was scored.
_kept: Final = AnswerCache()


def show(request: PageRequest) -> Page:
    many = request.fresh.batch is not None and request.fresh.batch["series"] > MANY
    days = request.whole("days", 7) or 7
    if days not in DAYS:
        raise BadAddress("days is none of 1, 7 and 28: mend the address")
    parameter = request.whole("parameter")
    accuracy = Question(f"errors of the last {days} scored days", _ACCURACY, {"days": days})
    stretches = Question("errors and coverage by quarter of the horizon", _STRETCHES, {"days": days})
    hours = Question("errors by hour of the day, UTC", _HOURS, {"days": days, "parameter": parameter})
    worst = Question("the series whose best baseline was better by most", _WORST_SERIES, {"worst": _WORST})
    rows = accuracy.ask(request.connection)
    parameters = by_parameter(rows)
    of_hours, of_stretches = hours.ask(request.connection), stretches.ask(request.connection)
    by_hour = beside_baselines(of_hours, "hour")
    given: dict[str, Any] = {
        "days": days, "choices": DAYS, "parameters": parameters, "baselines": _baselines(parameters),
        "sentence": _sentence(parameters, days),
        "stretches": beside_baselines(of_stretches, "stretch"), "quarter": _quarter(request),
        "chosen": parameter, "hours": by_hour, "hours_in_words": _hours_in_words(by_hour),
        "worst": None if many else _kept.answer(request.connection, worst, request.fresh.newest["scored_at"]),
        "in_sample": any(row["kind"] == "in_sample" for row in rows),
    }  # fmt: skip
    versions = sorted({row["model_version_id"] for row in rows if row["candidate"] == "served"})
    nights = max((row["nights"] for row in rows), default=0)
    footer = f"model version {', '.join(map(str, versions))}, all sources, {count(nights, 'night')}"
    scaled = any(p["served"]["mase"] is not None for p in parameters)
    picture = (lambda: _draw(parameters, days, footer)) if scaled else None
    tables = {"parameters": Table(accuracy, rows), "stretches": Table(stretches, of_stretches)}
    tables |= {"hours": Table(hours, of_hours)} | ({} if many else {"worst": Table(worst, given["worst"])})
    questions = [accuracy, stretches, hours, worst]
    return Page("accuracy.html", "Accuracy", given, questions, rows, picture, f"accuracy-{days}d", tables)


def _quarter(request: PageRequest) -> float | None:
    """A quarter of the horizon that serves, hours."""
    batch = request.fresh.batch
    return None if batch is None else (batch["forecasts_end_at"] - batch["issued_at"]) / timedelta(hours=4)


def beside_baselines(rows: Sequence[Row], by: str) -> list[dict[str, Any]]:
    """A line per hour of the day, or whatever it is `by`: what served, and the errors of each baseline."""
    grouped: dict[int, dict[str, Row]] = defaultdict(dict)
    for row in rows:
        grouped[row[by]][row["candidate"]] = row
    return [
        {by: place, **_beside(told["served"], {name: row["mase"] for name, row in told.items() if name != "served"})}
        for place, told in grouped.items()
        if "served" in told
    ]


def _beside(served: Row, baselines: Mapping[str, float | None]) -> dict[str, Any]:
    """What served, each baseline, the least MASE of them, and whether that is the less.

    Of the same targets: 1 is no bar to be under, since MASE divides by differences within the history.
    """
    best = min((v for v in baselines.values() if v is not None), default=None)
    # By what the page shows of both: more than rounding apart.
    worse = served["mase"] is not None and best is not None and round(served["mase"], 2) > round(best, 2)
    return {"served": served, "baselines": baselines, "best": best, "worse": worse}


def _hours_in_words(hours: Sequence[Mapping[str, Any]]) -> str:
    known = [h for h in hours if h["served"]["mase"] is not None]
    if not known:
        return ""
    best, worst = (choose(known, key=lambda h: h["served"]["mase"]) for choose in (min, max))
    return (
        f"Forecasts are closest at {best['hour']:02}:00 UTC (MASE {fixed(best['served']['mase'])}) and furthest off"
        f" at {worst['hour']:02}:00 UTC ({fixed(worst['served']['mase'])})."
    )


def by_parameter(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line per parameter: what served, each baseline, and challengers beside it."""
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row["parameter_id"]].append(row)
    return [_line(group) for group in grouped.values()]


def _line(group: Sequence[Row]) -> dict[str, Any]:
    told: dict[tuple[str, str, Any], list[Row]] = defaultdict(list)
    for row in group:
        shadow = row["model_version_id"] if row["role"] != "served" else None
        told[row["role"], row["candidate"], shadow].append(row)
    summed = {key: _together(rows) for key, rows in told.items()}
    served = summed.get(("served", "served", None)) or next(iter(summed.values()))
    baselines = {name: row["mase"] for (role, name, _), row in summed.items() if role == "served" != name}
    shadows = [row for (role, _, _), row in summed.items() if role != "served"]
    return {**_beside(served, baselines), "shadows": shadows}


def _together(rows: Sequence[Row]) -> Row:
    """One row of several kinds of nights and versions: means weighted by their targets."""
    weights = [float(row["targets"]) for row in rows]

    def mean(name: str) -> float | None:
        known = [(row[name], weight) for row, weight in zip(rows, weights, strict=True) if row[name] is not None]
        return sum(v * w for v, w in known) / sum(w for _, w in known) if known else None

    means = {name: mean(name) for name in ("mae", "mase", "bias", "coverage80", "coverage90")}
    whole = {"nights": sum(row["nights"] for row in rows), "series": max(row["series"] for row in rows)}
    return {**rows[0], **means, **whole, "targets": sum(weights)}


def _listed(words: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), *words[-1:]) if part)


def _baselines(parameters: Sequence[Mapping[str, Any]]) -> list[str]:
    """Baselines that any of the parameters was scored beside."""
    return sorted({name for p in parameters for name in p["baselines"]})


def _sentence(parameters: Sequence[Mapping[str, Any]], days: int) -> str:
    """All parameters in words, each counting alike: one series that was reset shall not drown the others."""

    def middle(values: Iterable[float | None]) -> float | None:
        known = [v for v in values if v is not None]
        return median(known) if known else None

    def covered(name: str) -> str:
        known = [p["served"] for p in parameters if p["served"][name] is not None]
        targets = sum(float(row["targets"]) for row in known)
        return share(sum(row[name] * float(row["targets"]) for row in known) / targets if targets else None, 1)

    nights = max((p["served"]["nights"] for p in parameters), default=0)
    served = middle(p["served"]["mase"] for p in parameters)
    if served is None:
        return ""
    beside = [
        f"{forecaster(name)} {fixed(middle(p['baselines'].get(name) for p in parameters))}"
        for name in _baselines(parameters)
    ]
    return (
        f"Over the last {'scored day' if days == 1 else f'{days} scored days'}"
        f" ({count(nights, 'night')}) the median parameter had a scaled error (MASE) of"
        f" {fixed(served)}, beside {_listed(beside) or 'no baseline'}; the 80 % intervals covered"
        f" {covered('coverage80')} of all actuals, the 90 % intervals {covered('coverage90')}."
    )


def _draw(parameters: Sequence[Mapping[str, Any]], days: int, footer: str) -> bytes:
    lines = [
        (p["served"]["parameter"] or str(p["served"]["parameter_id"]), p["served"]["mase"], p["best"])
        for p in parameters
        if p["served"]["mase"] is not None
    ]
    return draw_bars(lines, f"Scaled error of what served, last {count(days, 'scored day')}", "MASE", footer)

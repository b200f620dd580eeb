"""Drift against what a version was trained on: which series, stations and parameters have changed, and in what.

A series' level and spread are compared with its own and with the course that its parameter takes over the network, so
that a season is one finding about a parameter, not one per station. Errors are judged per series, per station and per
parameter. Kolmogorov-Smirnov's distance and the population stability index explain; they raise no alarm.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from bts_assets.monitoring import nan_means
from bts_assets.monitoring.evidence import LEAST_GROUP, Streams, gather
from bts_assets.monitoring.snapshot import SKETCH

Scope = Literal["series", "station", "parameter"]

#: False alarms that a station may raise in a year, all its series and figures together; as many the network's
#: parameters may.
FALSE_ALARMS: Final = 0.05

#: A standing difference that counts as no change: of a level in standard deviations of the series, of the logs of
#: spread and error as they are. A whole parameter has no neighbours that weather could be told from change by.
_TOLERANCE: Final = {
    "series": {"level": 0.1, "spread": 0.1, "error": 0.1},
    "station": {"error": 0.05},
    "parameter": {"level": 0.25, "spread": 0.15, "error": 0.1},
}
#: The least standard deviation that is believed of a night's figure, in the same units.
_FLOOR: Final = 0.05
_FIGURES: Final = ("level", "spread", "error")
#: Normal score that a single night counts as at most: a sensor that jumps does so for good, errors and weather do not.
_MOST: Final = {"level": np.inf, "spread": 3.0, "error": 2.5}
_MOST_TOGETHER: Final = 3.0
#: How a station's false alarms are shared between its series' figures and its own errors: what is sought soonest gets
#: most.
_SHARES: Final = {"level": 0.5, "spread": 0.2, "error": 0.1, "station": 0.2}
#: Nights over which the size of a change is told.
_RECENT: Final = 3
#: Shares between whose quantiles the population stability index counts.
_TENTHS: Final = np.linspace(0.1, 0.9, 9)
_LEAST_SHARE: Final = 1e-3


@dataclass(frozen=True)
class Course:
    """Nightly figures of series in reference and since, each (series, nights), oldest first, NaN where unknown.

    level in the series' unit, spread as the log of a standard deviation, error as the log of the mean absolute error.
    The nights of errors are their own: a forecast is scored a day after its night.
    """

    level: np.ndarray
    spread: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Followed:
    """One figure of streams of one scope, after each live night.

    station_id, parameter_id (streams,), -1 where the scope has none; evidence (streams, nights) and bound (streams,):
    logs to base 10, an alarm where the first reaches the second; deviation (streams, nights): in standard deviations of
    a night; change (streams,): over the last nights, of a level in sigma, of spread and error their ratio less 1.
    """

    scope: Scope
    figure: str
    station_id: np.ndarray
    parameter_id: np.ndarray
    evidence: np.ndarray
    bound: np.ndarray
    deviation: np.ndarray
    change: np.ndarray


def judge(followed: list[Followed]) -> pd.DataFrame:
    """What the newest live night is evidence of: a row per stream that has any, its fields as in `Followed`.

    Columns: scope, figure, station_id, parameter_id, evidence, bound, deviation, change, nights (in a row that were an
    alarm, the newest the last), alarm and kind. kind, of an
    alarm, as far as data can tell: covariate: inputs changed and errors did not; concept: errors rose and inputs did
    not change; label: both did, so that what was to be forecast has moved and the forecasts have not followed.
    """
    frames = [
        pd.DataFrame(
            {
                "scope": f.scope,
                "figure": f.figure,
                "station_id": f.station_id,
                "parameter_id": f.parameter_id,
                "evidence": f.evidence[:, -1],
                "bound": f.bound,
                "deviation": f.deviation[:, -1],
                "change": f.change,
                "nights": _in_a_row(f.evidence >= f.bound[:, None]),
            }
        )
        for f in followed
        if f.evidence.shape[1]
    ]
    columns = ["scope", "figure", "station_id", "parameter_id", "evidence", "bound", "deviation", "change", "nights"]
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)
    found = found[np.isfinite(found["evidence"].astype(float))].reset_index(drop=True)
    found["alarm"] = found["evidence"] >= found["bound"]
    found["kind"] = _kinds(found[found["alarm"]]).reindex(found.index)
    return found


def follow(
    station_id: np.ndarray,
    parameter_id: np.ndarray,
    sigma: np.ndarray,
    reference: Course,
    live: Course,
    false_alarms: float = FALSE_ALARMS,
) -> list[Followed]:
    """Evidence of every stream after each live night; sigma (series,): standard deviation of the reference's values."""
    counts = np.unique(station_id, return_inverse=True, return_counts=True)
    ids = _Ids(station_id, parameter_id)
    series = counts[2][counts[1]]
    own = [
        _followed("series", f, ids, parameter_id, sigma, reference, live, _bound(series, _SHARES[f] * false_alarms))
        for f in _FIGURES
    ]
    station = _stations(station_id, reference, live, false_alarms)
    return [*own, station, *_parameters(parameter_id, sigma, reference, live, false_alarms)]


def distances(sketch: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kolmogorov-Smirnov's distance and the population stability index of values (series, steps) from a sketch.

    sketch (series, levels of `SKETCH`). Each (series,), NaN where either is unknown. The first is looked at where the
    sketch has a quantile, the second between the sketch's deciles.
    """
    count = np.isfinite(values).sum(axis=1)
    # A comparison with NaN is false.
    share = np.stack([(values <= q[:, None]).sum(axis=1) for q in sketch.T], axis=1)
    below = np.stack([(values < q[:, None]).sum(axis=1) for q in sketch.T], axis=1)
    share, below = (part / np.maximum(count, 1)[:, None] for part in (share, below))
    # Where values repeat, the reference's own steps lie between the levels of equal quantiles.
    apart = np.maximum(np.maximum(SKETCH - share, below - SKETCH), 0).max(axis=1)
    deciles = [int(np.abs(SKETCH - tenth).argmin()) for tenth in _TENTHS]
    middle = (share[:, deciles] + below[:, deciles]) / 2
    expected = np.diff(np.concatenate([[0.0], SKETCH[deciles], [1.0]]))
    came = np.diff(middle, axis=1, prepend=0.0, append=1.0)
    expected, came = np.maximum(expected, _LEAST_SHARE), np.maximum(came, _LEAST_SHARE)
    stability = ((came - expected) * np.log(came / expected)).sum(axis=1)
    unsure = (count == 0) | ~np.isfinite(sketch).all(axis=1)
    return np.where(unsure, np.nan, apart), np.where(unsure, np.nan, stability)


@dataclass(frozen=True)
class _Ids:
    station: np.ndarray
    parameter: np.ndarray


def _stations(station_id: np.ndarray, reference: Course, live: Course, false_alarms: float) -> Followed:
    """Errors of all series of a station: the mean of their logs, each about its own of the reference."""
    stations, row = np.unique(station_id, return_inverse=True)
    middle = nan_means.mean(reference.error)[:, None]
    mean = [_of("error", _grouped(c.error - middle, row, len(stations), _mean_of_columns)) for c in (reference, live)]
    bound = _bound(np.ones(len(stations)), _SHARES["station"] * false_alarms)
    together, ones = np.zeros(len(stations), dtype=np.int64), np.ones(len(stations))
    ids = _Ids(stations, np.full(len(stations), -1))
    return _followed("station", "error", ids, together, ones, mean[0], mean[1], bound)


def _parameters(
    parameter_id: np.ndarray, sigma: np.ndarray, reference: Course, live: Course, false_alarms: float
) -> list[Followed]:
    """The median over the network of each parameter's figures, each about its own of the reference; levels in sigma."""
    every, count = np.unique(parameter_id, return_counts=True)
    parameters = every[count >= LEAST_GROUP]
    if not len(parameters):
        return []
    row = np.where(np.isin(parameter_id, parameters), np.searchsorted(parameters, parameter_id), -1)
    bound = _bound(np.full(len(parameters), len(_FIGURES) * len(parameters)), false_alarms)
    ids, ones = _Ids(np.full(len(parameters), -1), parameters), np.ones(len(parameters))
    found = []
    for figure in _FIGURES:
        unit = np.where(sigma > 0, sigma, np.nan)[:, None] if figure == "level" else 1.0
        middle = nan_means.mean(getattr(reference, figure))[:, None]
        median = [
            _of(figure, _grouped((getattr(c, figure) - middle) / unit, row, len(parameters), _median_of_columns))
            for c in (reference, live)
        ]
        found.append(_followed("parameter", figure, ids, parameters, ones, median[0], median[1], bound))
    return found


def _of(figure: str, values: np.ndarray) -> Course:
    """A course of one figure."""
    nothing = np.full((len(values), 0), np.nan)
    return Course(**{name: values if name == figure else nothing for name in _FIGURES})


def _followed(
    scope: Scope,
    figure: str,
    ids: _Ids,
    group: np.ndarray,
    sigma: np.ndarray,
    reference: Course,
    live: Course,
    bound: np.ndarray,
) -> Followed:
    before, since = getattr(reference, figure), getattr(live, figure)
    unit = sigma if figure == "level" else np.ones(len(sigma))
    unit = np.where(unit > 0, unit, np.nan)
    most = _MOST[figure] if scope == "series" else _MOST_TOGETHER
    tolerance = _TOLERANCE[scope][figure] * unit
    streams = Streams(before, since, group, tolerance, _FLOOR * unit, figure == "error", most)
    found = gather(streams, bound)
    change = (nan_means.mean(since[:, -_RECENT:]) - nan_means.mean(before)) / unit
    return Followed(
        scope,
        figure,
        ids.station,
        ids.parameter,
        found.either / np.log(10),
        bound / np.log(10),
        found.deviation,
        change if figure == "level" else np.expm1(change),
    )


def _kinds(alarms: pd.DataFrame) -> pd.Series:
    inputs, errors = alarms[alarms["figure"] != "error"], alarms[alarms["figure"] == "error"]
    told = {}
    for row in alarms.itertuples():
        moved, wrong = (_touches(part, row.scope, row.station_id, row.parameter_id) for part in (inputs, errors))
        told[row.Index] = "label" if moved and wrong else "concept" if wrong else "covariate"
    return pd.Series(told, dtype=object)


def _in_a_row(alarms: np.ndarray) -> np.ndarray:
    """How many of the newest nights (streams, nights) are alarms without a gap."""
    return np.logical_and.accumulate(alarms[:, ::-1], axis=1).sum(axis=1)


def _bound(streams: np.ndarray, false_alarms: float) -> np.ndarray:
    """Log of the evidence that is an alarm, where so many streams may raise so many false ones in a year."""
    return np.log(365 * streams / false_alarms)


def _touches(alarms: pd.DataFrame, scope: str, station: int, parameter: int) -> bool:
    """Whether any of some alarms is about the same series, station or parameter."""
    same_station, same_parameter = alarms["station_id"] == station, alarms["parameter_id"] == parameter
    if scope == "station":
        return bool(same_station.any())
    if scope == "parameter":
        return bool((same_parameter & (alarms["scope"] == "parameter")).any())
    return bool((same_station & (same_parameter | (alarms["scope"] == "station"))).any())


def _mean_of_columns(values: np.ndarray) -> np.ndarray:
    return nan_means.mean(values, axis=0)


def _median_of_columns(values: np.ndarray) -> np.ndarray:
    enough = np.isfinite(values).sum(axis=0) >= LEAST_GROUP
    middle = np.full(values.shape[1], np.nan)
    if enough.any():
        middle[enough] = nan_means.median(values[:, enough], axis=0)
    return middle


def _grouped(
    values: np.ndarray, row: np.ndarray, groups: int, put_together: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """One course (groups, nights) of the series of each group."""
    together = np.full((groups, values.shape[1]), np.nan)
    for group in range(groups):
        together[group] = put_together(values[row == group])
    return together

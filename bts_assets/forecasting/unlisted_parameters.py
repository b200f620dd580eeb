"""What a parameter that the catalogue does not list looks like, from its data alone: kind, range, codes.

Proposals are for an operator to look through. Only what cannot well be anything else is acted upon unasked: a meter
that never falls is forecast as a counter.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from bts_assets.contracts.catalogue import DEFAULT_SENTINELS, Catalogue, Kind, Parameter, unknown_parameter
from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.text import percent

#: A series tells whether it counts from so many values, over a day at least, that rose so often.
_LEAST_VALUES: Final = 48
_LEAST_RISES: Final = 12
#: A fall to less than this share of the level before is a counter that began again; of its steps so many may be.
_RESET_TO: Final = 0.1
_MOST_RESETS: Final = 0.05
#: What begins again counts up to there, in so many rises each time; a switch goes on in one.
_LEAST_RISES_PER_RESET: Final = 4
#: The share of its values that may be misread.
_MOST_MISREAD: Final = 0.02
#: The share of the series that can tell that must count upwards; the others may be misread.
_COUNTING_SHARE: Final = 0.9

#: Equipment writes codes in place of measurements: nines, and the ends of its integers.
_CODES: Final = frozenset(
    sign * float(code)
    for sign in (1, -1)
    for code in (999, 9999, 99999, 999999, 9999999, 99999999, 32767, 32768, 65535, 2147483647, 2147483648)
)
#: A code lies further from the other values than so many times their spread.
_CODE_DISTANCE: Final = 10
#: The share of values (without codes) at either end that the proposed range leaves out.
_TAIL: Final = 0.001


@dataclass(frozen=True)
class SeriesValues:
    """One series' values in order of time, without gaps, and the time that they span in seconds."""

    values: np.ndarray
    seconds: float


@dataclass(frozen=True)
class Proposal:
    """A catalogue row for a parameter, and in words what it was read off."""

    parameter: Parameter
    why: str


def propose(parameter_id: int, series: Sequence[SeriesValues]) -> Proposal:
    """A row for a parameter from all its series; a gauge where nothing speaks for another kind."""
    values = np.concatenate([np.empty(0), *(s.values for s in series)])
    codes = _codes(values)
    plain = values[~np.isin(values, codes)]
    clean = [replace(s, values=s.values[~np.isin(s.values, codes)]) for s in series]
    base = Parameter(parameter_id, f"Parameter {parameter_id}", sentinels=(*DEFAULT_SENTINELS, *codes))
    kind, why = _kind(plain, clean)
    if codes:
        why += f"; {', '.join(f'{code:g}' for code in codes)} look like codes, not measurements"
    if kind == "switch":
        row = replace(base, kind="switch", aggregation="max", valid_min=0.0, valid_max=1.0, forecast=False)
    elif kind == "counter":
        row = replace(base, kind="counter", aggregation="last", valid_min=0.0)
    else:
        low, high = _range(plain)
        row = replace(base, valid_min=low, valid_max=high)
    return Proposal(row, why)


def counts(series: Iterable[SeriesValues]) -> bool:
    """Whether series are levels of a counter beyond doubt: of those that can tell, nearly all never fall but to begin
    again.
    """
    verdicts = [verdict for s in series for verdict in [_counts(s)] if verdict is not None]
    return bool(verdicts) and sum(verdicts) >= _COUNTING_SHARE * len(verdicts)


def with_inferred_counters(catalogue: Catalogue, panel: Panel) -> Catalogue:
    """The catalogue, and beside it, not known, the unlisted parameters of the panel that count (`counts`).

    Their observations stay means, as those of any unlisted parameter.
    """
    listed = {p.parameter_id for p in catalogue}
    step = panel.grid.step.total_seconds()
    found = []
    for parameter_id in sorted(set(panel.parameter_id.tolist()) - listed):
        known = [np.flatnonzero(np.isfinite(row)) for row in panel.values[panel.parameter_id == parameter_id]]
        rows = panel.values[panel.parameter_id == parameter_id]
        series = [
            SeriesValues(row[at], float(at[-1] - at[0]) * step) for row, at in zip(rows, known, strict=True) if len(at)
        ]
        if counts(series):
            found.append(replace(unknown_parameter(int(parameter_id)), kind="counter"))
    return Catalogue((*catalogue.parameters, *found)) if found else catalogue


def _kind(values: np.ndarray, series: Sequence[SeriesValues]) -> tuple[Kind, str]:
    what = f"{len(values):,} readings of {len(series):,} series"
    distinct = np.unique(values[: 1 << 20]) if len(values) else values
    if len(distinct) == 2 and distinct.tolist() == [0, 1]:
        on = float(values.mean())
        return "switch", f"{what} are 0 or 1 alone, {percent(on, 1)} of them 1"
    if counts(series):
        return "counter", f"{what} rise and never fall but to begin again"
    if len(distinct) == 1:
        return "gauge", f"{what} are all {distinct[0]:g}: too little to tell"
    return "gauge", f"{what}, from {values.min():g} to {values.max():g}" if len(
        values
    ) else "no reading: nothing to tell"


def _counts(series: SeriesValues) -> bool | None:
    """None: too little to tell."""
    values, misread = _in_order(series.values)
    if misread > _MOST_MISREAD * len(series.values):
        return False
    change = np.diff(values)
    if len(values) < _LEAST_VALUES or series.seconds < DAY.total_seconds() or (change > 0).sum() < _LEAST_RISES:
        # A fall tells what it is not, however few there are.
        return False if (change < 0).any() else None
    fell = change < 0
    began_again = fell & (values[1:] < _RESET_TO * values[:-1])
    resets, rises = int(began_again.sum()), int((change > 0).sum())
    seldom = resets <= _MOST_RESETS * len(change) and resets * _LEAST_RISES_PER_RESET <= rises
    return bool(values.min() >= 0 and not (fell & ~began_again).any() and seldom)


def _in_order(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The values without those that are out of order between two that are in order, and how many those are."""
    before, own, after = values[:-2], values[1:-1], values[2:]
    misread = np.zeros(len(values), bool)
    misread[1:-1] = (before <= after) & ((own < before) | (own > after))
    return values[~misread], int(misread.sum())


def _codes(values: np.ndarray) -> tuple[float, ...]:
    """Values that recur, are written like a code, and lie far beyond the others; ascending."""
    found, count = np.unique(values[np.isin(values, list(_CODES))], return_counts=True)
    others = values[~np.isin(values, list(_CODES))]
    if not len(others):
        return ()
    low, high = np.quantile(others, [0.01, 0.99])
    spread = max(high - low, abs(low), abs(high), 1.0)
    far = (found < low - _CODE_DISTANCE * spread) | (found > high + _CODE_DISTANCE * spread)
    return tuple(float(code) for code in found[far & (count > 1)])


def _range(values: np.ndarray) -> tuple[float, float]:
    """A range that holds nearly all values with as much room again on either side, in round numbers."""
    if not len(values):
        return -math.inf, math.inf
    low, high = (float(v) for v in np.quantile(values, [_TAIL, 1 - _TAIL]))
    room = max(high - low, 0.1 * max(abs(low), abs(high)), 1e-9)
    unit = 10.0 ** math.floor(math.log10(room))
    least = math.floor((low - room) / unit) * unit
    return 0.0 if low >= 0 > least else least, math.ceil((high + room) / unit) * unit

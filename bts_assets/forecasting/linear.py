"""The linear candidate: every step ahead as a weighted sum of the context, by least squares over windows of all series.

Such maps, fitted in closed form, stand beside far larger networks where history is long (Zeng et al., Are transformers
effective for time series forecasting?, 2023; Toner and Darlow, An analysis of linear time series forecasting models,
2024). Each parameter has weights of its own, drawn towards those of all parameters together. Outlying windows count
less (iteratively reweighted least squares), as the absolute error that forecasts are judged by has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.scaling import AsinhScales, Scaling, daily_change, own_scale
from bts_assets.forecasting.windows import TrainingWindows, in_chunks, minimum_past, recent_context, recent_steps

#: The penalty, as a share of an input's mean square: it keeps neighbouring, similar steps from large opposite weights.
_RIDGE: Final = 0.01

#: What is added to that, divided by how many windows there are that do not overlap: of one day of history hardly more
#: than a level can be learned.
_SCARCE: Final = 100.0

#: Windows of all series that a parameter's own are joined by.
_BORROWED: Final = 500

#: How often windows are weighed anew by what the weights before missed, and the least miss that counts, in medians.
_ROUNDS: Final = 3
_LEAST_MISS: Final = 0.3

#: Scaled values beyond these are cut off, those of the context and those of the targets.
_CLIP: Final = 8.0
_CLIP_TARGET: Final = 20.0

_DRAWN_AT_ONCE: Final = 4096
_PREDICTED_AT_ONCE: Final = 512
#: Inputs that are summed at once: of more, OpenBLAS sums in another order on one thread than on two.
_SUMMED_AT_ONCE: Final = 256


@dataclass(frozen=True)
class LinearForecaster:
    """A fitted linear map. `weights` (1 + parameters, recent steps + 1, horizon_steps) float32 of scaled values, the
    last input 1; `reach` (1 + parameters, horizon_steps, levels) float32, the quantiles of what it missed. Row 0 is of
    all parameters together, and serves those that it was not fitted on; the others are those of `parameter_id`.
    scales: of what it was fitted on.
    """

    parameter_id: np.ndarray
    weights: np.ndarray
    reach: np.ndarray
    scales: AsinhScales = field(repr=False)
    name: str = "linear"

    def forecast(self, panel: Panel) -> np.ndarray:
        panel = recent_context(panel)
        scaling = Scaling.of(panel.values, self.scales.at(panel))
        missing = recent_steps(panel.grid) - panel.steps
        past = np.pad(scaling.apply(panel.values), [(0, 0), (missing, 0)], constant_values=np.nan)
        table = {int(p): k + 1 for k, p in enumerate(self.parameter_id)}
        rows = np.array([table.get(int(p), 0) for p in panel.parameter_id], dtype=np.int64)
        quantiles = np.empty((len(panel), panel.grid.horizon_steps, len(QUANTILES)))
        for own in np.unique(rows):
            mine = np.flatnonzero(rows == own)
            for part in in_chunks(len(mine), _PREDICTED_AT_ONCE):
                some = mine[part]
                inputs, centre, scale = _inputs(past[some], panel.grid.steps_per_day)
                # Every product has one shape, so that a series is served alone as it is in company, bit for bit.
                whole = np.pad(inputs, [(0, _PREDICTED_AT_ONCE - len(some)), (0, 0)])
                points = _product(whole, self.weights[own])[: len(some)]
                given = points[:, :, None] + self.reach[own]
                quantiles[some] = centre[:, :, None] + scale[:, :, None] * given
        quantiles = scaling.undo(quantiles)
        quantiles[np.isfinite(past).sum(axis=1) < minimum_past(panel.grid)] = np.nan
        return quantiles

    def arrays(self) -> dict[str, np.ndarray]:
        return {"parameter_id": self.parameter_id, "weights": self.weights, "reach": self.reach}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], scales: AsinhScales) -> "LinearForecaster":
        """Raises KeyError where one is missing."""
        return cls(arrays["parameter_id"], arrays["weights"], arrays["reach"], scales)


def fit_linear(
    panel: Panel, windows: TrainingWindows, cut: int, count: int, seed: int, scales: AsinhScales
) -> LinearForecaster:
    """Fit on `count` windows at most, drawn from `windows`, whose targets end before column `cut` of the panel.

    Raises:
        ValueError: if no window has all its targets observed.
    """
    drawn = _drawn(panel, windows, cut, count, np.random.default_rng(seed), scales)
    if not len(drawn.rows):
        raise ValueError("no window has all of its targets observed")
    ridge = _RIDGE + _SCARCE * panel.grid.horizon_steps / len(windows)
    weight = drawn.weight
    both = _moments(drawn, weight)
    overall = _solved(*both, ridge)
    for _ in range(_ROUNDS):
        missed = np.abs(drawn.targets - drawn.inputs @ overall).mean(axis=1)
        weight = drawn.weight / np.maximum(missed, max(_LEAST_MISS * float(np.median(missed)), 1e-9))
        both = _moments(drawn, weight)
        overall = _solved(*both, ridge)
    parameter = panel.parameter_id[drawn.rows]
    known = np.unique(parameter)
    weights, reach = [overall], [_missed(drawn, overall)]
    for one in known:
        mine = parameter == one
        some = drawn.take(mine)
        own = overall
        if len(known) > 1:
            borrowed = _BORROWED * weight[mine].mean() / weight.sum()
            squares, products = (a + borrowed * b for a, b in zip(_moments(some, weight[mine]), both, strict=True))
            own = _solved(squares, products, ridge)
        weights.append(own)
        reach.append(_missed(some, own))
    return LinearForecaster(known, np.stack(weights), np.stack(reach), scales)


@dataclass(frozen=True)
class _Drawn:
    """Windows as a least-squares problem: inputs (n, context + 1), targets (n, horizon), weight (n,), rows (n,)."""

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    rows: np.ndarray

    def take(self, which: np.ndarray) -> "_Drawn":
        return _Drawn(self.inputs[which], self.targets[which], self.weight[which], self.rows[which])


def _drawn(
    panel: Panel, windows: TrainingWindows, cut: int, count: int, rng: np.random.Generator, scales: AsinhScales
) -> _Drawn:
    grid, context = panel.grid, recent_steps(panel.grid)
    past = panel.values[:, :cut]
    scaling = Scaling.of(past, scales.at(panel))
    values = np.pad(scaling.apply(past).astype(np.float32), [(0, 0), (context, 0)], constant_values=np.nan)
    # As the LSTM has it: what is hard to foresee in its own scale counts by how much it moves from day to day.
    moves = np.maximum(daily_change(values[:, context:], grid.steps_per_day), 0.1)
    rows, origins = windows.distinct(rng, count)
    width = np.arange(context + grid.horizon_steps)
    parts = []
    for part in in_chunks(len(rows), _DRAWN_AT_ONCE):
        row = rows[part]
        window = values[row[:, None], origins[part, None] + width]
        inputs, centre, scale = _inputs(window[:, :context], grid.steps_per_day)
        targets = np.clip((window[:, context:] - centre) / scale, -_CLIP_TARGET, _CLIP_TARGET)
        whole = np.isfinite(targets).all(axis=1)
        weight = scale[:, 0] / moves[row]
        parts.append(_Drawn(inputs, targets.astype(np.float32), weight.astype(np.float32), row).take(whole))
    return _Drawn(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Drawn.__annotations__))


def _product(inputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """inputs @ weights, with the same bits whatever the number of threads."""
    parts = (inputs[:, part] @ weights[part] for part in in_chunks(len(weights), _SUMMED_AT_ONCE))
    return sum(parts, start=np.zeros((len(inputs), weights.shape[1]), np.float32))


def _inputs(past: np.ndarray, day: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Contexts (n, context) in units of their own and a 1 after each, float32; centre and scale (n, 1)."""
    centre, scale = own_scale(past, day)
    scaled = np.clip(np.nan_to_num((past - centre) / scale, nan=0.0), -_CLIP, _CLIP)
    return np.pad(scaled, [(0, 0), (0, 1)], constant_values=1.0).astype(np.float32), centre, scale


def _moments(drawn: _Drawn, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums of inputs times inputs, and of inputs times targets, float64."""
    size = drawn.inputs.shape[1]
    squares, products = np.zeros((size, size)), np.zeros((size, drawn.targets.shape[1]))
    for part in in_chunks(len(weight), _DRAWN_AT_ONCE):
        inputs = drawn.inputs[part]
        weighed = (inputs * weight[part, None]).T
        squares += weighed @ inputs
        products += weighed @ drawn.targets[part]
    return squares, products


def _solved(squares: np.ndarray, products: np.ndarray, ridge: float) -> np.ndarray:
    price = np.full(len(squares), ridge * np.trace(squares) / len(squares))
    price[-1] *= 1e-3  # the constant is no slope to be kept small
    weights: np.ndarray = np.linalg.solve(squares + np.diag(np.maximum(price, 1e-9)), products).astype(np.float32)
    return weights


def _missed(drawn: _Drawn, weights: np.ndarray) -> np.ndarray:
    """Quantiles of the error at every step ahead, (horizon, levels) float32; the point is left where it is."""
    some = slice(None, None, max(1, len(drawn.rows) // _DRAWN_AT_ONCE))
    errors = drawn.targets[some] - drawn.inputs[some] @ weights
    reach = np.quantile(errors, QUANTILES, axis=0).T
    reach[:, : MEDIAN + 1] = np.minimum(reach[:, : MEDIAN + 1], 0)
    reach[:, MEDIAN:] = np.maximum(reach[:, MEDIAN:], 0)
    reach[:, MEDIAN] = 0
    return reach.astype(np.float32)

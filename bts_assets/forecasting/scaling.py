"""Each series in units of its own, before the LSTM sees it, and back: so that one network can serve all of them.

A series that is never negative and varies widely about its level, as traffic does, is asinh-transformed first (inverse
hyperbolic sine): its small values at night then count as much as large ones by day, and no likely value is negative.
Quantiles pass through a monotone function unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.windows import in_chunks, trainable

#: A series is asinh-transformed if its mean deviation is more than this share of its mean.
_WIDE: Final = 0.3

#: The asinh scale as a share of the mean: well below it the transform is nearly linear, well above nearly a logarithm.
_ASINH_SHARE: Final = 0.05

_LARGEST: Final = 30.0

#: The range of values that counts as usual; what lies further outside than it is wide counts as its edge.
_USUAL: Final = (0.025, 0.975)
_OF_TYPICAL: Final = 10.0

#: Values of a series that are sorted for it, about; evenly thinned beyond.
_SORTED: Final = 1024

#: Series whose scales are taken at once; it bounds memory.
_CHUNK: Final = 1024


@dataclass(frozen=True)
class AsinhScales:
    """The asinh scale of each series that can be learned from, by (station_id, parameter_id), as `Scaling` has it.

    A network is served what it learned from: a context of calm days alone, or one without the negative values that the
    series also has, would be scaled otherwise than its history was.
    """

    by_series: Mapping[tuple[int, int], float] = field(default_factory=dict)

    @classmethod
    def of(cls, panel: Panel, cut: int) -> "AsinhScales":
        """From what precedes column `cut`, of series that are `trainable` there."""
        found: dict[tuple[int, int], float] = {}
        rows = np.flatnonzero(trainable(panel, cut))
        for part in in_chunks(len(rows), _CHUNK):
            some = rows[part]
            pairs = zip(panel.station_id[some].tolist(), panel.parameter_id[some].tolist(), strict=True)
            found |= zip(pairs, Scaling.of(panel.values[some, :cut]).asinh_scale.tolist(), strict=True)
        return cls(found)

    def at(self, panel: Panel) -> np.ndarray:
        """(series,) float64, NaN for a series that is not here: its own values have to do."""
        pairs = zip(panel.station_id.tolist(), panel.parameter_id.tolist(), strict=True)
        return np.array([self.by_series.get(pair, np.nan) for pair in pairs], dtype=np.float64)


@dataclass(frozen=True)
class Scaling:
    """Per series (series,), float64. `asinh_scale` is in the series' unit; 0: the series is not asinh-transformed.

    It also keeps single precision from losing a small change of a large number (a frequency of 50.01 Hz).
    """

    asinh_scale: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, asinh_scale: np.ndarray | None = None) -> "Scaling":
        """From what is known of each series: values (series, steps), NaN where it is not.

        asinh_scale (series,): is kept where it is given; NaN, or None: by the values.
        """
        values = np.where(np.isfinite(values), values, np.nan)
        level, width = centre_and_spread(values)
        given = np.full(len(values), np.nan) if asinh_scale is None else asinh_scale
        lowest = np.where(np.isfinite(values), values, np.inf).min(axis=1, initial=np.inf)
        highest = np.where(np.isfinite(values), values, -np.inf).max(axis=1, initial=-np.inf)
        # A series that hardly moves has its level for a width; it is not transformed.
        wide = (width > _WIDE * level) & (highest - lowest > _WIDE * level)
        to_be = (lowest >= 0) & (level > 0) & wide & np.isfinite(width)
        asinh_scale = np.where(np.isnan(given), np.where(to_be, _ASINH_SHARE * level, 0.0), given)
        transformed = asinh_scale > 0
        # What is not transformed is centred already.
        level[transformed], width[transformed] = centre_and_spread(
            _asinh(values[transformed], asinh_scale[transformed])
        )
        return cls(asinh_scale, level, width)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Values (series, steps) in units of each series."""
        with np.errstate(over="ignore", invalid="ignore"):
            return (_asinh(values, self.asinh_scale) - self.centre[:, None]) / self.spread[:, None]

    def undo(self, values: np.ndarray) -> np.ndarray:
        """Values (series, horizon, levels) in the series' unit again."""
        asinh_scale, centre, spread = (a[:, None, None] for a in (self.asinh_scale, self.centre, self.spread))
        inner = values * spread + centre
        return np.where(asinh_scale > 0, asinh_scale * np.sinh(np.clip(inner, -_LARGEST, _LARGEST)), inner)


def centre_and_spread(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean deviation of each series (series, steps), (series,), that single values cannot move.

    Values further outside the range of 95 % of them than that range is wide are taken for its edge. The deviation is
    never 0; of a series that mostly rests it is the typical deviation of the others by their share.
    """
    values = _winsorised(values)
    known = np.isfinite(values)
    with np.errstate(over="ignore", invalid="ignore"):
        count = np.maximum(known.sum(axis=1), 1)[:, None]
        centre = np.nansum(values / count, axis=1)
        width = np.nansum(np.abs(values - centre[:, None]) / count, axis=1)
    spread = np.where(np.isfinite(width) & (width > 1e-9 * np.abs(centre)), width, np.maximum(np.abs(centre), 1.0))
    return centre, spread


def _winsorised(values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    thin = values[:, :: max(1, values.shape[1] // _SORTED)]
    some = np.isfinite(thin).sum(axis=1)
    ordered = np.sort(np.where(np.isfinite(thin), thin, np.nan), axis=1)  # NaN last
    at = [np.clip(level * (some - 1), 0, None) for level in _USUAL]
    if not thin.shape[1]:
        return values
    low = np.take_along_axis(ordered, np.floor(at[0]).astype(np.int64)[:, None], axis=1)
    high = np.take_along_axis(ordered, np.ceil(at[1]).astype(np.int64)[:, None], axis=1)
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
        # What mostly rests has no such range; there what differs is held to some times what typically differs.
        rests = np.flatnonzero(width[:, 0] == 0)
        for row in rests:
            off = np.abs(values[row, known[row]] - low[row, 0])
            if off.any():
                width[row] = _OF_TYPICAL * np.median(off[off > 0])
        least, most = low - width, high + width
        return np.where(known, np.clip(values, least, most), values)


def own_scale(past: np.ndarray, day: int) -> tuple[np.ndarray, np.ndarray]:
    """Centre and scale of each window (windows, context), (windows, 1): as the LSTM takes them (`lstm_network`)."""
    known = np.isfinite(past)
    values, recent = np.where(known, past, 0.0), slice(-min(day, past.shape[1]), None)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    lean = min(day, past.shape[1]) / 8
    centre = values[:, recent].sum(axis=1, keepdims=True) + lean * values.sum(axis=1, keepdims=True) / count
    centre = centre / (known[:, recent].sum(axis=1, keepdims=True) + lean)
    deviation = np.where(known, np.abs(values - centre), 0.0).sum(axis=1, keepdims=True) / count
    return centre, np.maximum(deviation, 1e-6)


def daily_change(values: np.ndarray, day: int) -> np.ndarray:
    """Mean absolute change from day to day, or step to step in a shorter history: MASE's scale, (series,)."""
    lag = day if values.shape[1] > day else 1
    difference = _winsorised(np.abs(values[:, lag:] - values[:, :-lag]))
    known = np.isfinite(difference)
    return np.where(known, difference, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)


def _asinh(values: np.ndarray, asinh_scale: np.ndarray) -> np.ndarray:
    if not asinh_scale.any():
        return values
    transformed = asinh_scale > 0
    values = values.copy()
    values[transformed] = np.arcsinh(values[transformed] / asinh_scale[transformed, None])
    return values

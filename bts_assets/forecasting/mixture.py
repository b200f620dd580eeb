"""Which candidate serves which series, decided from backtest scores. It makes no forecast.

A series is judged by few origins, so its own evidence is shrunk towards that of its parameter, and that towards all
(James and Stein's idea, in logarithms so that one bad night cannot decide).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

#: The group's evidence weighs as much as this many origins of the series' own.
SHRINKAGE: Final = 3.0

#: A baseline must be better than the LSTM by this share of its error before it serves in its place.
INCUMBENT_MARGIN: Final = 0.02


@dataclass(frozen=True)
class Choice:
    """Candidate by series (station_id, parameter_id), by parameter for series not seen, else `default`."""

    default: str
    by_parameter: Mapping[int, str] = field(default_factory=dict)
    by_series: Mapping[tuple[int, int], str] = field(default_factory=dict)

    def of(self, station_id: np.ndarray, parameter_id: np.ndarray) -> np.ndarray:
        """The candidate's name per series, (series,) of str objects."""
        pairs = zip(station_id.tolist(), parameter_id.tolist(), strict=True)
        names = [self.by_series.get(p) or self.by_parameter.get(p[1], self.default) for p in pairs]
        return np.array(names, dtype=object)


def choose(scores: pd.DataFrame, incumbent: str, default: str) -> Choice:
    """The candidate of least error per series, by the mean logarithm of its MAE over origins, shrunk.

    `scores` is what `backtest` gives. A candidate is eligible for a series that it served at every origin at which any
    candidate did. `incumbent` keeps its place within a small margin; `default` serves where there are no scores.
    """
    if scores.empty:
        return Choice(default)
    series = ["station_id", "parameter_id"]
    mae = scores.pivot_table(index=[*series, "origin"], columns="candidate", values="mae", dropna=False, sort=True)
    mae = mae[mae.notna().any(axis=1)]
    # An error far below the typical one of that night is as good as none: it must not dominate through its logarithm.
    floor = 0.02 * mae.mean(axis=1) + 1e-12
    logs = np.log(mae.add(floor, axis=0))
    logs = logs.sub(logs.mean(axis=1), axis=0)
    if incumbent in logs:
        logs[incumbent] -= INCUMBENT_MARGIN
    own = logs.groupby(level=series).mean()
    complete = logs.notna().groupby(level=series).all()
    origins = logs.groupby(level=series).size()
    overall = own.mean()
    parameter = own.index.get_level_values("parameter_id")
    count = own.notna().groupby(parameter).sum()
    group = (own.groupby(parameter).mean() * count + overall * SHRINKAGE).div(count + SHRINKAGE)
    group = group.fillna(overall)
    own_weight = origins / (origins + SHRINKAGE)
    pooled = group.reindex(parameter).set_axis(own.index)
    shrunk = own.mul(own_weight, axis=0) + pooled.mul(1 - own_weight, axis=0)
    best = shrunk.where(complete).dropna(how="all").idxmin(axis=1)
    return Choice(
        default=str(overall.idxmin()),
        by_parameter={int(p): str(c) for p, c in group.idxmin(axis=1).items()},
        by_series={(int(s), int(p)): str(c) for (s, p), c in best.items()},
    )

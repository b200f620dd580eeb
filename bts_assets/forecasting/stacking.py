"""From evidence to weights and widths, each judged by origins that had no say in it. It trains no candidate."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.progress import OnProgress
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.calibration import Calibration, Spreads, calibrate, spreads
from bts_assets.forecasting.ensemble_weights import INCUMBENT_SHARE, LAST_VALUE, Energies, Weights, learn
from bts_assets.forecasting.forecasters import Forecaster
from bts_assets.forecasting.metrics import METRICS
from bts_assets.forecasting.out_of_sample import HoldoutForecasts, gather
from bts_assets.forecasting.pooling import pool

#: Parts of the origins that are left out in turn.
_FOLDS: Final = 4

#: What a network gains by learning from as much history again, in units of what a typical candidate is wrong by.
_LOSS_BONUS: Final = 0.3

_CHEAP_MIXTURE: Final = "mixture of the others"
#: Its share of the prior beside statistical candidates: it was weighed already, and they are tried at few origins.
_CHEAP_SHARE: Final = 0.7


@dataclass(frozen=True)
class Stacked:
    """What all origins say; scores of every candidate and of `served`; failures by candidate."""

    weights: Weights
    calibration: Calibration
    spreads: Spreads
    scores: pd.DataFrame
    failures: dict[str, str]


def stack(
    evidence: HoldoutForecasts,
    incumbent: str,
    refined: Collection[str],
    statistical: Sequence[Forecaster],
    statistical_max_series: int,
    statistical_max_fits: int,
    counters: Collection[int],
    on_progress: OnProgress | None = None,
) -> Stacked:
    """Learn weights, try statistical candidates where the mixture without them is worst, and calibrate what is served.

    `refined` names the networks that learn from the holdout window before they serve, unlike what evidence has of them.
    Statistical candidates are tried on `statistical_max_series` series, at as many origins as `statistical_max_fits`
    fits of each allow.
    `served` in the scores is mixed by weights, and its intervals set right by factors, of the other origins alone.
    """
    credit = np.array([[_loss_bonus(evidence) * (name in refined) for name in evidence.candidates]])
    weights, served = _mixed(evidence, incumbent, np.repeat(credit, len(evidence.panel), axis=0))
    scores = [evidence.scores(name, evidence.quantiles[k]) for k, name in enumerate(evidence.candidates)]
    failures: dict[str, str] = {}
    weights = _untried(weights, tuple(f.name for f in statistical))
    if statistical and statistical_max_series and evidence.origins:
        rows = _worst(evidence, served, statistical_max_series)
        origins = _spread(len(evidence.origins), max(2, statistical_max_fits // statistical_max_series))
        part = evidence.of_series(rows).of_origins(origins)
        tried, failures = gather(part.panel, statistical, part.origins, counters, on_progress)
        scores += [tried.scores(name, tried.quantiles[k]) for k, name in enumerate(tried.candidates)]
        weights = _joined(weights, refined, part, tried, served[rows][:, origins], served, rows, origins)
    calibration = calibrate(evidence, served)
    judged = np.full_like(served, np.nan)
    for fold in _folds(len(evidence.origins)):
        known = calibrate(evidence.of_origins(~fold), served[:, ~fold])
        for k in np.flatnonzero(fold):
            judged[:, k] = _calibrated(known, evidence, served[:, k])
    scores.append(evidence.scores("served", judged))
    columns = ["station_id", "parameter_id", "origin", "candidate", *METRICS]
    known_scores = [s for s in scores if len(s)]
    table = pd.concat(known_scores, ignore_index=True) if known_scores else pd.DataFrame(columns=columns)
    return Stacked(weights, calibration, spreads(evidence, served), table, failures)


def _mixed(
    evidence: HoldoutForecasts,
    incumbent: str,
    credit: np.ndarray,
    share: float = INCUMBENT_SHARE,
    beside_last: Energies | None = None,
) -> tuple[Weights, np.ndarray]:
    """Weights of all origins; and what each origin is served by the weights of the others."""
    served = np.full(evidence.quantiles.shape[1:], np.nan, dtype=np.float32)
    energies = Energies.of(evidence)
    weights = learn(evidence, incumbent, credit=credit, energies=energies, share=share, beside_last=beside_last)
    for fold in _folds(len(evidence.origins)):
        others = learn(evidence, incumbent, ~fold, credit, energies, share, beside_last)
        served[:, fold] = pool(evidence.quantiles[:, :, fold], others.of(evidence.station_id, evidence.parameter_id))
    return weights, served


def _joined(
    weights: Weights,
    refined: Collection[str],
    part: HoldoutForecasts,
    tried: HoldoutForecasts,
    cheap: np.ndarray,
    served: np.ndarray,
    rows: np.ndarray,
    origins: np.ndarray,
) -> Weights:
    """Let statistical candidates share with the mixture of the others the series that they were tried on.

    `served` is brought up to date in place: where they count, it knows their origins alone.
    """
    names = (_CHEAP_MIXTURE, *tried.candidates)
    both = replace(part, candidates=names, quantiles=np.concatenate([cheap[None], tried.quantiles]))
    cheaply = weights.of(part.station_id, part.parameter_id)
    credit = np.zeros((len(rows), len(names)))
    credit[:, 0] = _loss_bonus(part) * cheaply[:, [name in refined for name in weights.candidates]].sum(axis=1)
    last = part.quantiles[[part.candidates.index(LAST_VALUE)]]
    beside_last = Energies.of(replace(both, quantiles=np.concatenate([last, tried.quantiles])))
    found, mixed = _mixed(both, _CHEAP_MIXTURE, credit, _CHEAP_SHARE, beside_last)
    shares = found.of(part.station_id, part.parameter_id)
    columns = [weights.candidates.index(name) for name in tried.candidates]
    said = np.isfinite(tried.quantiles).any(axis=(2, 3, 4)).T
    by_series = dict(weights.by_series)
    each = zip(rows, cheaply * shares[:, :1], shares, said, part.station_id, part.parameter_id, strict=True)
    for row, own, share, heard, station, parameter in each:
        # What never had a forecast for this series is no worse than the others, but unknown.
        own[columns] = np.where(heard, share[1:], np.nan)
        by_series[int(station), int(parameter)] = np.round(own, 6)
        if share[0] < 1:
            served[row] = np.nan
            served[row, origins] = mixed[np.flatnonzero(rows == row)[0]]
    return replace(weights, by_series=by_series)


def _untried(weights: Weights, names: tuple[str, ...]) -> Weights:
    """The same weights with further candidates that were not tried on any series."""
    more = np.full(len(names), np.nan)
    return Weights(
        (*weights.candidates, *names),
        np.append(weights.default, more),
        {key: np.append(own, more) for key, own in weights.by_parameter.items()},
        {key: np.append(own, more) for key, own in weights.by_series.items()},
    )


def _loss_bonus(evidence: HoldoutForecasts) -> float:
    """The share by which a network's loss is reduced, because it is judged before it learns from the holdout window.

    Simple and statistical candidates are as good at night as they were judged. The bonus is proportional to the holdout
    window's share of the history, and less where the history is shorter than a week: from one more hour of a day,
    little is learned that holds at night.
    """
    steps = evidence.panel.steps
    holdout = steps - evidence.origins[0] if evidence.origins else 0
    weeks = steps / (7 * evidence.panel.grid.steps_per_day)
    return _LOSS_BONUS * holdout / max(steps, 1) * min(1.0, weeks)


def _worst(evidence: HoldoutForecasts, served: np.ndarray, count: int) -> np.ndarray:
    """Series (rows, ascending) that are forecast worst in units of their MASE scale."""
    error = np.abs(served[..., MEDIAN] - evidence.truth)
    known = np.isfinite(error)
    mean = np.where(known, error, 0).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    scaled = np.nan_to_num(mean / evidence.scale, nan=0.0, posinf=0.0)
    return np.sort(np.argsort(-scaled, kind="stable")[:count])


def _spread(origins: int, count: int) -> np.ndarray:
    """Which of the origins, at most `count` of them, evenly from the first to the last; bool (origins,)."""
    chosen = np.zeros(origins, dtype=bool)
    chosen[np.linspace(0, origins - 1, min(count, origins)).round().astype(int)] = True
    return chosen


def _folds(origins: int) -> list[np.ndarray]:
    """Neighbouring origins to be left out together, bool (origins,) each: their targets overlap."""
    parts = np.array_split(np.arange(origins), min(_FOLDS, origins)) if origins else []
    return [np.isin(np.arange(origins), part) for part in parts]


def _calibrated(calibration: Calibration, evidence: HoldoutForecasts, served: np.ndarray) -> np.ndarray:
    """One origin's forecasts (series, steps, levels) at the steps that evidence keeps."""
    full = np.full((len(served), evidence.panel.grid.horizon_steps, len(QUANTILES)), np.nan)
    full[:, evidence.steps] = served
    return calibration.apply(full, evidence.station_id, evidence.parameter_id)[:, evidence.steps]

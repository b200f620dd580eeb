"""When evidence asks for a challenger: drift, accuracy, age, new data; and when it is too early for another.

How old and how often: BTS_RETRAIN_AFTER and BTS_RETRAIN_COOLDOWN (settings.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

#: Share of the stations that must drift; a single one is looked at by a crew, not by a training.
_DRIFTING_STATIONS: Final = 0.1
#: Fewer targets than this say nothing about accuracy.
_LEAST_TARGETS: Final = 500
#: Growth of the data since the training, as a share of what it saw, from which on there is more to learn.
_GROWTH: Final = 0.5
#: Share of all series that the training did not know.
_NEW_SERIES: Final = 0.1


@dataclass(frozen=True)
class VersionEvidence:
    """What is known about the versions at an origin.

    age: of the newest version's data, also of one that was refused. trained: span of that data. drifting_parameters:
    names whose network median drifts; drifting_stations, of `stations`: with an alarm that no faulty sensor explains;
    both since the champion's training. mase, baseline_mase: the champion's over the last 7 scored days, and the better
    baseline's on the same targets; None: unknown. new_series, of `series`: first observed after the newest training.
    """

    age: timedelta
    trained: timedelta
    drifting_parameters: tuple[str, ...] = ()
    drifting_stations: int = 0
    stations: int = 0
    targets: int = 0
    mase: float | None = None
    baseline_mase: float | None = None
    new_series: int = 0
    series: int = 0


@dataclass(frozen=True)
class RetrainingBounds:
    """after: age at which a version is replaced by rule. cooldown: least time between trainings. skill: share by which
    the champion's MASE must be below the best baseline's."""

    after: timedelta
    cooldown: timedelta
    skill: float


def reasons_to_retrain(evidence: VersionEvidence, bounds: RetrainingBounds) -> list[str]:
    """Why a challenger is due, in words, the gravest first; empty: it is not, or the cool-down is not over."""
    if evidence.age < min(bounds.cooldown, bounds.after):
        return []
    return [*_drift(evidence), *_accuracy(evidence, bounds), *_new_data(evidence), *_age(evidence, bounds)]


def _drift(evidence: VersionEvidence) -> Iterator[str]:
    if evidence.drifting_parameters:
        yield f"drift of {', '.join(evidence.drifting_parameters)} over the network"
    if evidence.drifting_stations and evidence.drifting_stations >= _DRIFTING_STATIONS * evidence.stations:
        yield f"drift at {evidence.drifting_stations} of {evidence.stations} stations"


def _accuracy(evidence: VersionEvidence, bounds: RetrainingBounds) -> Iterator[str]:
    own, baseline = evidence.mase, evidence.baseline_mase
    if own is None or baseline is None or evidence.targets < _LEAST_TARGETS:
        return
    bound = (1 - bounds.skill) * baseline
    if own > bound:
        yield f"accuracy: MASE {own:.3f} over 7 scored days, and the best baseline's is {baseline:.3f}"


def _new_data(evidence: VersionEvidence) -> Iterator[str]:
    if evidence.trained and evidence.age >= _GROWTH * evidence.trained:
        yield f"new data: {_days(evidence.age)} beside the {_days(evidence.trained)} that it was trained on"
    if evidence.new_series and evidence.new_series >= _NEW_SERIES * evidence.series:
        yield f"new data: {evidence.new_series} of {evidence.series} series were not there in training"


def _age(evidence: VersionEvidence, bounds: RetrainingBounds) -> Iterator[str]:
    if evidence.age >= bounds.after:
        yield f"age: {_days(evidence.age)}"


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):.1f} days"

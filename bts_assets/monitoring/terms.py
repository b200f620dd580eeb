"""What breaches of a batch are computed with, beside its forecasts and its context: limits, and what counts."""

import hashlib
import json
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

import numpy as np

#: (station_id, parameter_id) -> (low, high), of stations that override their parameter's; None where that holds.
Limits = dict[tuple[int, int], tuple[float | None, float | None]]

#: parameter_id -> level share and root (as in `Dependence`) of its median series.
Typical = dict[int, tuple[float, float]]


@dataclass(frozen=True)
class BreachRule:
    """What counts as a breach: so many steps in a row beyond the limit.

    recovery: a breach is over once the series has come back past the limit by this share of the distance between
    limit and median, which keeps one that hovers from counting many times.
    """

    persistence: int = 1
    recovery: float = 0.0


#: A single step beyond the limit is a breach.
ONE_STEP: Final = BreachRule()


@dataclass(frozen=True)
class BreachTerms:
    """Limits of stations, the rule, and how the errors of each parameter's series typically hang together."""

    limits: Limits = field(default_factory=dict)
    rule: BreachRule = ONE_STEP
    typical: Typical = field(default_factory=dict)

    def stored(self) -> dict[str, Any]:
        """All but the limits, as JSON has it; `terms_of_stored` reads it back."""
        typical = {str(parameter): list(shape) for parameter, shape in self.typical.items()}
        return {"persistence": self.rule.persistence, "recovery": self.rule.recovery, "dependence": typical}


def terms_of_stored(stored: dict[str, Any], limits: Limits) -> BreachTerms:
    """What `BreachTerms.stored` gave, read back."""
    typical = {int(parameter): (float(level), float(root)) for parameter, (level, root) in stored["dependence"].items()}
    return BreachTerms(limits, BreachRule(int(stored["persistence"]), float(stored["recovery"])), typical)


def limit_rows(limits: Limits) -> list[list[Any]]:
    """What is stored of limits: station_id, parameter_id, low and high of each, in order."""
    return [[*pair, *map(_stored, limits[pair])] for pair in sorted(limits)]


def limits_of_rows(rows: list[list[Any]]) -> Limits:
    """What `limit_rows` gave, read back."""
    return {(int(row[0]), int(row[1])): (_read(row[2]), _read(row[3])) for row in rows}


def limits_digest(limits: Limits) -> str:
    """SHA-256 over every limit, in order of station and parameter."""
    return hashlib.sha256(json.dumps(limit_rows(limits)).encode()).hexdigest()


def began(past: np.ndarray, persistence: int) -> np.ndarray:
    """Whether a run of `persistence` steps past the limit begins at each step, (series or paths, steps)."""
    found = past.copy()
    for ahead in range(1, min(persistence, past.shape[1] + 1)):
        found[:, :-ahead] &= past[:, ahead:]
        found[:, -ahead:] = False
    return found


def _stored(limit: float | None) -> float | str | None:
    """An infinite limit, which lifts the parameter's own, is text in JSON."""
    return limit if limit is None else float(limit) if isfinite(limit) else str(limit)


def _read(limit: float | str | None) -> float | None:
    return None if limit is None else float(limit)

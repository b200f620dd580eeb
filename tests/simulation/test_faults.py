"""Faults planted in the simulated network change what they should, of their station, from their day on."""

import numpy as np
import pytest

from bts_assets.simulation.faults import FAULT_KINDS, Fault, FaultKind
from bts_assets.simulation.network import Network

#: Fault -> the parameters whose truth it changes.
CHANGED: dict[FaultKind, set[int]] = {
    "ageing_battery": {116, 122, 125, 141, 142, 143, 144, 145, 161},
    "dying_air_conditioner": {111, 112, 113, 116},
    "worn_generator": {125},
}


def truth(*faults: Fault, days: int = 12) -> dict[int, np.ndarray]:
    (chunk,) = Network(4, days * 1440, 29_000_000, seed=5, faults=faults).chunks(days * 1440)
    return chunk.signals


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_a_fault_changes_its_station_from_its_day_on_and_nothing_else(kind: FaultKind) -> None:
    sound, faulty = truth(), truth(Fault(kind, 0, 3))
    changed = {p: np.argwhere(np.asarray(sound[p]) != np.asarray(faulty[p])) for p in sound}
    touched = {p for p, places in changed.items() if len(places)}
    assert touched <= CHANGED.get(kind, set(sound))
    assert touched
    for places in changed.values():
        assert set(places[:, 0]) <= {0}
        assert not len(places) or places[:, 1].min() > 3 * 1440


def test_a_fault_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="a fault is one of ageing_battery, dying_air_conditioner"):
        Fault("gremlins", 0, 1)  # type: ignore[arg-type]

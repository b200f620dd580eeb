"""What asks for a challenger, and what keeps it waiting."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from bts_assets.contracts.grid import DAY
from bts_assets.monitoring.retraining import RetrainingBounds, VersionEvidence, reasons_to_retrain

BOUNDS: Final = RetrainingBounds(after=7 * DAY, cooldown=3 * DAY, skill=0.1)
QUIET: Final = VersionEvidence(
    age=4 * DAY, trained=56 * DAY, stations=20, targets=10_000, mase=0.6, baseline_mase=0.9, series=240
)


def reasons(bounds: RetrainingBounds = BOUNDS, **given: Any) -> list[str]:
    return reasons_to_retrain(replace(QUIET, **given), bounds)


def test_nothing_asks_for_a_challenger_of_a_sound_young_version() -> None:
    assert reasons() == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"drifting_parameters": ("room temperature", "load")}, "drift of room temperature, load over the network"),
        ({"drifting_stations": 2}, "drift at 2 of 20 stations"),
        ({"mase": 0.82}, "accuracy: MASE 0.820 over 7 scored days, and the best baseline's is 0.900"),
        ({"trained": 8 * DAY}, "new data: 4.0 days beside the 8.0 days that it was trained on"),
        ({"new_series": 24}, "new data: 24 of 240 series were not there in training"),
        ({"age": 7 * DAY}, "age: 7.0 days"),
    ],
)
def test_each_kind_of_evidence_asks_for_one_once_the_cool_down_is_over(given: dict[str, Any], said: str) -> None:
    assert reasons(**given) == [said]
    assert reasons(**given | {"age": 3 * DAY - timedelta(minutes=15)}) == []


@pytest.mark.parametrize(
    "given",
    [
        {"drifting_stations": 1},
        {"mase": 0.80},
        {"mase": 2.0, "targets": 499},
        {"mase": 2.0, "baseline_mase": None},
        {"mase": None},
        {"mase": 0.0, "baseline_mase": 0.0},
        {"trained": 8 * DAY + timedelta(hours=1)},
        {"new_series": 23},
        {"stations": 0, "series": 0},
    ],
)
def test_too_little_evidence_asks_for_none(given: dict[str, Any]) -> None:
    assert reasons(**given) == []


def test_several_reasons_are_all_told_and_an_age_below_the_cool_down_is_still_an_age() -> None:
    assert len(reasons(mase=1.0, drifting_stations=20, age=8 * DAY)) == 3
    assert reasons(replace(BOUNDS, after=DAY), age=DAY) == ["age: 1.0 days"]

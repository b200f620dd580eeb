"""What tells a clock that was set back from a station that is silent."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from bts_assets.monitoring.clocks import clocks_set_back

STEP = timedelta(minutes=15)
END = datetime(2026, 11, 20, 2, tzinfo=UTC)
PARAMETERS = range(5)


def told(quiet: int, doubled: int, rate: float, seed: int = 0) -> str:
    """The fault of a station that has been quiet for so many steps, after as many `doubled`, at so many readings a
    step: a week, five series.
    """
    random = np.random.default_rng(seed)
    counts = random.poisson(rate, (len(PARAMETERS), 7 * 96 - quiet)) if rate % 1 else np.full((5, 672 - quiet), rate)
    counts[:, counts.shape[1] - doubled :] *= 2
    at = [END - (672 - k) * STEP for k in range(counts.shape[1])]
    frames = [pd.DataFrame({"parameter_id": p, "observed_at": at, "readings": counts[p]}) for p in PARAMETERS]
    readings = pd.concat(frames).assign(station_id=7)
    silent = pd.DataFrame(
        {"station_id": [7], "fault": "silent_station", "since": [END - quiet * STEP], "figure": [0.0]}
    )
    return str(clocks_set_back(silent, readings[readings["readings"] > 0], END, STEP)["fault"].iloc[0])


@pytest.mark.parametrize("rate", [0.75, 1.5, 1, 4])
@pytest.mark.parametrize("quiet", [24, 48, 96, 192])
def test_what_is_silent_is_no_clock_however_unevenly_it_reports(quiet: int, rate: float) -> None:
    assert {told(quiet, 0, rate, seed) for seed in range(20)} == {"silent_station"}


@pytest.mark.parametrize("rate", [0.75, 1.5, 1, 4])
@pytest.mark.parametrize("quiet", [24, 48, 96])
def test_as_many_steps_of_two_times_as_it_is_silent_are_a_clock(quiet: int, rate: float) -> None:
    assert {told(quiet, quiet, rate, seed) for seed in range(20)} == {"clock_set_back"}

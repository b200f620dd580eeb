"""How well a simulated network could be forecast at best, for `benchmarks.accuracy`: two forecasts out of its truth.

The noise floor is the truth itself, without noise, dirt and gaps: what it still misses the observations by is the
sensors' noise, and when they looked. No forecaster reaches it, for the truth holds weather and outages to come. The
foreseeable forecast knows how the network works and what happened before the origin; of the weather after it only what
its past tells, and of events only those that have begun.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from unittest.mock import patch

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.simulation import network as simulated_network
from bts_assets.simulation.network import MINUTES_PER_DAY, Events, SimulatedNetwork
from bts_assets.simulation.readings import NetworkSpec
from bts_assets.simulation.simulate import _step_truth

NOISE_FLOOR: Final = "noise floor"
FORESEEABLE: Final = "foreseeable"

#: What a region's sensors together tell an hour's weather to, in its standard deviations.
WEATHER_NOISE: Final = 0.02
#: The weather's periods, in minutes: between these, log-uniform (`SimulatedNetwork`).
WEATHER_PERIODS: Final = (16 * 60, 10 * MINUTES_PER_DAY)

#: Minutes.
HOUR: Final = 60


def foreseeable_signal(spec: NetworkSpec, origin: datetime) -> pd.DataFrame:
    """As truth.parquet, but after the origin as it could have been foreseen there."""
    network = SimulatedNetwork(spec.stations, spec.hours * HOUR, int(spec.start.timestamp()) // 60, spec.seed)
    now = (origin - spec.start) // timedelta(minutes=1)
    for kind in ("outages", "visits", "smoke", "leaks", "resets"):
        setattr(network, kind, _begun(getattr(network, kind), now))
    past, ahead = np.arange(now % HOUR, now, HOUR), np.arange(now, network.minutes + HOUR, HOUR)
    regression = _regression(past, ahead)
    weather = simulated_network._field

    def foreseen(waves: tuple[np.ndarray, np.ndarray], minute: np.ndarray) -> np.ndarray:
        expected = weather(waves, past) @ regression
        drawn = np.stack([np.interp(minute, ahead, station) for station in expected])
        return np.where(minute < now, weather(waves, minute), drawn)

    with patch.object(simulated_network, "_field", foreseen):
        steps = [_step_truth(chunk, spec, network, load_catalogue()) for chunk in network.chunks(MINUTES_PER_DAY)]
    return pd.concat([table.to_pandas() for table in steps], ignore_index=True)


def _begun(events: Events, now: int) -> Events:
    begun = events.start < now
    return replace(events, row=events.row[begun], start=events.start[begun], end=events.end[begun])


def _regression(past: np.ndarray, ahead: np.ndarray) -> np.ndarray:
    """Weights (past, ahead) of the best linear forecast: kriging with the covariance that the waves have on average."""
    shortest, longest = np.log(WEATHER_PERIODS)
    periods = np.exp(shortest + (longest - shortest) * (np.arange(500) + 0.5) / 500)

    def covariance(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        apart = np.subtract.outer(first, second)
        return np.mean([np.cos(2 * np.pi * apart / period) for period in periods], axis=0)

    known = covariance(past, past) + WEATHER_NOISE**2 * np.eye(len(past))
    return np.linalg.solve(known, covariance(past, ahead))

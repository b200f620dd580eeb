"""Six nights in one home, with late files, corrections and a silent station between them; no tests are here."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from small_nights import LOAD, ORIGIN, fitted, observe_due, simple_bundle, write

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.origin import Origin
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.ensemble_weights import Weights
from bts_assets.services import champions
from bts_assets.services import training as versions
from bts_assets.services.home import Home
from bts_assets.services.ingest import ingest
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.observe import read_settled_panel
from bts_assets.storage.model_versions import ModelVersion

NIGHTS: Final = 6
#: A counter of the catalogue: it rises from reading to reading.
RUN_TIME: Final = 162


@dataclass(frozen=True)
class Walk:
    """What a walk left: the batch of each night, and the model version that was trained before the first."""

    home: Home
    landing: Path
    batches: tuple[int, ...]
    version: ModelVersion


def origin_of(night: int) -> datetime:
    """Two in the morning, so that a context begins in mid-day."""
    return ORIGIN + night * DAY + timedelta(hours=2)


def file_of(night: int, hour: int) -> str:
    """The landing file of an hour of the day before a night, counted from the origin before."""
    return f"{origin_of(night - 1) + timedelta(hours=hour):%Y-%m-%d/%H}.csv"


def mixed_bundle(seed: int = 1) -> Bundle:
    """A model version that mixes every cheap candidate: more arithmetic than the last value has.

    Most weight have those that a day of context is enough for, or its forecasts were fallbacks.
    """
    bundle = simple_bundle(seed)
    names = bundle.weights.candidates
    share = np.arange(len(names), 0, -1) / (len(names) * (len(names) + 1) / 2)
    return replace(bundle, weights=Weights(names, share))


def pooling_bundle(seed: int = 1) -> Bundle:
    """A model version that pools what can serve any series here, so that none falls back."""
    bundle = simple_bundle(seed)
    names = bundle.weights.candidates
    shares = {"last_value": 0.5, "window_median": 0.5}
    return replace(bundle, weights=Weights(names, np.array([shares.get(name, 0.0) for name in names])))


def readings(since: datetime, station: int, hours: range, shift: float = 0.0, parameter: int = LOAD) -> list[str]:
    """Three readings an hour of a series whose days and stations differ."""
    rows = []
    for hour in hours:
        for third in range(3):
            at = since + timedelta(hours=hour, minutes=7 + 19 * third)
            number = (since.toordinal() * 24 + hour) * 3 + third
            value = 40 + station + 6 * np.sin(hour / 4) + (number * 37 % 11) / 7 + shift
            if parameter == RUN_TIME:
                value = number / 10
            identity = number * 100 + station * 10 + parameter % 10
            rows.append(f"{identity},{value:.4f},{station},{parameter},{at:%Y-%m-%d %H:%M:%S}")
    return rows


def land(home: Home, landing: Path, now: datetime) -> None:
    ingest(home, landing, now=now)


def write_day(landing: Path, night: int) -> None:
    """The files of the day before a night: two stations whole, a third with the hours that came in time."""
    since = origin_of(night - 1)
    for hour in range(24):
        rows = [row for station in (1, 2) for row in readings(since, station, range(hour, hour + 1))]
        rows += readings(since, 1, range(hour, hour + 1), parameter=RUN_TIME)
        if hour < 20 and night != 3:
            rows += readings(since, 3, range(hour, hour + 1))
        write(landing, file_of(night, hour), *rows)


def disturb(landing: Path, night: int) -> None:
    """What comes in late, before the next night: hours of a station that had been missing, and a correction."""
    since = origin_of(night - 1)
    write(landing, f"late/{night}.csv", *readings(since, 3, range(20, 24)))
    corrected = readings(since, 1, range(5, 6), shift=3.0)
    write(landing, file_of(night, 5), *corrected, *readings(since, 2, range(5, 6)))


def walk(home: Home, landing: Path, bundle: Bundle | None = None) -> Walk:
    """Walk through the nights, by default with `mixed_bundle`.

    Stations 4 and 5 fall silent before the first: 4 in the very hour in which its context begins, 5 ten days earlier,
    until it is heard again in the hour after the origin of night 4, before that night begins. So is station 6 after the
    origin of night 2, for the first time.
    """
    write(landing, "old.csv", *readings(origin_of(-11), 4, range(3)), *readings(origin_of(-11), 5, range(3)))
    write(landing, "station4.csv", *readings(origin_of(-1) - timedelta(hours=2), 4, range(2)))
    write_day(landing, -1)
    land(home, landing, origin_of(0))
    version = enter(home, bundle or mixed_bundle(), origin_of(0) - DAY)
    batches = []
    for night in range(NIGHTS):
        write_day(landing, night)
        if night in (2, 4):
            station = {2: 6, 4: 5}[night]
            write(landing, f"station{station}.csv", *readings(origin_of(night), station, range(1)))
        land(home, landing, origin_of(night))
        batches.append(forecast_and_publish(home, Origin(origin_of(night), "live", "the walk"), version, None).batch_id)
        disturb(landing, night)
    land(home, landing, origin_of(NIGHTS))
    observe_due(home)
    return Walk(home, landing, tuple(batches), version)


def enter(home: Home, bundle: Bundle, end: datetime) -> ModelVersion:
    """Enter a version as trained on the day before `end`, as known now, and make it champion."""
    panel, seq = read_settled_panel(home, end, lambda _: end - DAY)
    home.models.keep(bundle)
    version = versions.enter(home, fitted(bundle), panel, None, seq, None)
    champions.decide(home, version, champions.Decision("promoted", "hand", "the test says so"))
    return version

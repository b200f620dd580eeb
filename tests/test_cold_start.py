"""A new station with one day of history, beside a network that the global model was trained on without it."""

import dataclasses
import shutil
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pytest
from nights import NIGHT, NightRunner, PublishedNight

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import STORED_QUANTILES
from bts_assets.forecasting import efforts, fit
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.windows import take_series
from bts_assets.simulation.network import TRAITS, SimulatedNetwork
from bts_assets.simulation.simulate import Dirt, NetworkSpec, simulate_network

pytestmark = pytest.mark.slow

HOUR: Final = timedelta(hours=1)
GRID: Final = Grid(HOUR, timedelta(days=7), timedelta(hours=24))
GAUGES: Final = (111, 114, 115, 121, 122)
STATIONS: Final = 13
#: The fourth station of a simulated network.
NEW_STATION: Final = 1161114004


def simulated(days: int) -> Panel:
    """Hourly means of every station's gauges, with a little noise, for the days before NIGHT and the one after."""
    minutes = (days + 1) * 1440
    network = SimulatedNetwork(STATIONS, minutes, int((NIGHT - days * DAY).timestamp()) // 60, seed=1)
    (chunk,) = network.chunks(minutes)
    noise = np.random.default_rng(1)
    hourly = [chunk.signals[p].reshape(STATIONS, -1, 60).mean(axis=2) for p in GAUGES]
    noisy = [v + noise.normal(0, TRAITS[p].noise / 5, v.shape) for p, v in zip(GAUGES, hourly, strict=True)]
    values = np.stack(noisy, axis=1).reshape(STATIONS * len(GAUGES), -1)
    parameters = np.tile(np.array(GAUGES, dtype=np.int32), STATIONS)
    return Panel(GRID, np.repeat(network.station_id, len(GAUGES)), parameters, NIGHT + DAY, values)


@pytest.fixture(scope="module")
def new_station() -> tuple[Batch, Panel, np.ndarray]:
    """The batch that has a station of one day, its panel, and the actuals (series, horizon)."""
    future = simulated(days=21)
    known = future.until(GRID.horizon_steps)
    new = known.station_id == known.station_id.max()
    with pytest.MonkeyPatch.context() as patch:
        work = dataclasses.replace(efforts.EFFORTS["quick"], steps=120, refine_steps=20)
        patch.setitem(efforts.EFFORTS, "quick", work)
        network = take_series(known, np.flatnonzero(~new))
        fitted = fit.fit_bundle(network, load_catalogue(), effort="quick", seed=1)
    values = known.values.copy()
    values[new, : -GRID.steps_per_day] = np.nan
    panel = dataclasses.replace(known, values=values)
    return make_batch(fitted.bundle, panel, load_catalogue()), panel, future.values[:, -GRID.horizon_steps :]


def share_of(row: dict[str, Any], *names: str) -> float:
    """The weight that some candidates have together in a forecast."""
    weights = row["components"] or {row["source"]: 1.0}
    return sum(weights.get(name) or 0.0 for name in names)


def is_learned(row: dict[str, Any]) -> bool:
    """Whether a model that learned from other series has a share in the forecast."""
    return share_of(row, "lstm", "linear", "pretrained") > 0


def test_a_station_of_one_day_is_forecast_by_the_global_model(new_station: tuple[Batch, Panel, np.ndarray]) -> None:
    batch, panel, _ = new_station
    ledger = batch.ledger[batch.ledger["station_id"] == panel.station_id.max()]
    assert set(ledger["status"]) == {"forecast"}
    assert set(ledger["history_steps"]) == set(ledger["context_steps"]) == {GRID.steps_per_day}
    assert all(share_of(row, "lstm") > 0.5 for row in ledger.to_dict("records"))
    assert len(batch.station_id) == len(panel)
    assert np.isfinite(batch.quantiles).all()


def test_its_forecast_is_better_than_its_last_value(new_station: tuple[Batch, Panel, np.ndarray]) -> None:
    batch, panel, truth = new_station
    new = panel.station_id == panel.station_id.max()
    median = batch.quantiles[:, :, STORED_QUANTILES.index(0.5)]
    error = np.abs(median - truth)[new].mean(axis=1)
    assert (error < np.abs(panel.values[:, -1:] - truth)[new].mean(axis=1)).all()


@pytest.fixture(scope="module")
def second_night(run_night: NightRunner, tmp_path_factory: pytest.TempPathFactory) -> PublishedNight:
    """Four stations, of which one begins to report on the day after the first night; the second night."""
    folder = tmp_path_factory.mktemp("growing")
    clean = Dirt(**dict.fromkeys((f.name for f in dataclasses.fields(Dirt)), 0.0))
    spec = NetworkSpec(4, 7, NIGHT + DAY, 7, parameters=(111, 122, 152), readings_per_hour=6, dirt=clean)
    files = sorted(simulate_network(spec, folder / "all").landing.iterdir())
    (folder / "landing").mkdir()
    for file in files[:-24]:
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if f",{NEW_STATION}," not in line]
        assert len(kept) < len(lines)
        (folder / "landing" / file.name).write_text("".join(kept), encoding="utf-8")
    grid = {"step": "1h", "context": "2d", "horizon": "12h"}
    first = run_night(folder / "landing", NIGHT, **grid, statistical_max_series="0")
    assert first.rows("SELECT 1 FROM bts.series WHERE station_id = :station", station=NEW_STATION) == []
    for file in files[-24:]:
        shutil.copy(file, folder / "landing")
    return run_night(folder / "landing", NIGHT + DAY, again=first)


def test_a_station_that_appears_is_served_on_its_second_night(second_night: PublishedNight) -> None:
    query = "SELECT * FROM bts.series_status WHERE station_id = :station ORDER BY parameter_id"
    temperature, load, door = second_night.rows(query, station=NEW_STATION)
    assert {row["history_steps"] for row in (temperature, load, door)} == {24}
    assert {row["context_steps"] for row in (temperature, load, door)} == {24}
    assert [row["status"] for row in (temperature, load)] == ["forecast", "forecast"]
    assert is_learned(temperature)
    assert is_learned(load)
    assert (door["status"], door["reason"]) == ("excluded", "the catalogue does not forecast this switch")
    forecast = second_night.rows("SELECT * FROM bts.latest_forecast WHERE station_id = :station", station=NEW_STATION)
    assert len(forecast) == 2 * 12
    assert {row["issued_at"] for row in forecast} == {NIGHT + DAY}


def test_the_model_version_that_serves_it_was_trained_before_it(second_night: PublishedNight) -> None:
    assert second_night.said["lstm_model"]["trained"] is False
    (version,) = second_night.rows("SELECT training_end FROM bts.model_version")
    assert version["training_end"] == NIGHT

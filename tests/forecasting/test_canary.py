"""The stations that a challenger is given, and the batch that two versions make together."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from small_panels import CATALOGUE, bundle, daily_values, make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import Batch, make_batch
from bts_assets.forecasting.canary import canary_stations, spliced

THOUSAND = np.arange(1161114001, 1161115001)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.5, 0.9])
def test_share_is_about_right_over_many_stations(share: float) -> None:
    for digest in ("a" * 64, "b" * 64, "c" * 64):
        # Four standard deviations of as many throws of a coin.
        given = len(canary_stations(THOUSAND, digest, share))
        assert abs(given - 1000 * share) < 4 * np.sqrt(1000 * share * (1 - share))


def test_stations_are_the_same_whenever_and_beside_whatever_others_they_are_asked_for() -> None:
    every = canary_stations(THOUSAND, "a" * 64, 0.3)
    assert every.tolist() == sorted(set(every))
    for asked in (THOUSAND[::-1], np.repeat(THOUSAND, 3), np.append(THOUSAND, [1, 2, 3])):
        assert np.intersect1d(canary_stations(asked, "a" * 64, 0.3), THOUSAND).tolist() == every.tolist()
    beside_one = [s for s in THOUSAND if s in canary_stations(np.array([s, every[0]]), "a" * 64, 0.3)]
    assert beside_one == every.tolist()


def test_they_are_known_on_every_machine() -> None:
    assert canary_stations(np.arange(1, 41), "a" * 64, 0.25).tolist() == [2, 3, 5, 6, 7, 8, 12, 24, 30, 36]


def test_larger_share_keeps_the_stations_and_another_version_gets_others() -> None:
    some, more, others = (
        set(canary_stations(THOUSAND, digest, share).tolist())
        for digest, share in (("a" * 64, 0.1), ("a" * 64, 0.4), ("b" * 64, 0.1))
    )
    assert some < more
    assert len(some & others) < len(some) / 2


@pytest.mark.parametrize("count", [1, 2, 5])
def test_small_network_has_one_canary_at_least(count: int) -> None:
    for first in range(1, 100):
        stations = np.arange(first, first + count)
        given = canary_stations(stations, "a" * 64, 0.01)
        assert len(given) >= 1
        assert set(given) <= set(stations)
    assert canary_stations(THOUSAND[:0], "a" * 64, 0.5).tolist() == []


@pytest.fixture
def panel() -> Panel:
    """Stations 1 to 4 with two series each; one of station 2 is a door, one of station 3 never reported."""
    values = daily_values(8, seed=5)
    values[5] = np.nan
    flat = make_panel(values, [1, 2, 1, 4, 1, 2, 1, 2])
    return replace(flat, station_id=np.repeat([1, 2, 3, 4], 2))


@pytest.fixture
def champions(panel: Panel) -> Batch:
    return make_batch(bundle(), panel, CATALOGUE)


@pytest.fixture
def challengers(panel: Panel) -> Batch:
    return make_batch(bundle("seasonal_naive_day"), panel, CATALOGUE)


def of_station(batch: Batch, station: int) -> pd.DataFrame:
    frame = batch.to_frame()
    return frame[frame["station_id"] == station].reset_index(drop=True)


@pytest.mark.parametrize("stations", [[], [1], [2, 3], [1, 2, 3, 4], [3, 77]])
def test_every_row_is_that_of_the_version_whose_station_it_is(
    champions: Batch, challengers: Batch, stations: list[int]
) -> None:
    batch = spliced(champions, challengers, np.array(stations, dtype=np.int64))
    for station in (1, 2, 3, 4):
        made_it, other = (challengers, champions) if station in stations else (champions, challengers)
        pd.testing.assert_frame_equal(of_station(batch, station), of_station(made_it, station))
        assert not of_station(made_it, station)["q50"].equals(of_station(other, station)["q50"])
        rows = batch.ledger["station_id"] == station
        pd.testing.assert_frame_equal(batch.ledger[rows], made_it.ledger[rows])
    keys = ["station_id", "parameter_id"]
    pd.testing.assert_frame_equal(batch.ledger[keys], champions.ledger[keys])
    series = pd.DataFrame({"station_id": batch.station_id, "parameter_id": batch.parameter_id})
    assert series.equals(series.sort_values(keys, ignore_index=True))
    assert batch.issued_at == champions.issued_at


def test_series_that_one_version_alone_can_serve_is_served_where_it_has_the_station(champions: Batch) -> None:
    fewer = replace(
        champions,
        station_id=champions.station_id[1:],
        parameter_id=champions.parameter_id[1:],
        quantiles=champions.quantiles[1:],
    )
    assert len(spliced(champions, fewer, np.array([1])).station_id) == len(champions.station_id) - 1
    assert len(spliced(fewer, champions, np.array([1])).station_id) == len(champions.station_id)
    assert len(spliced(champions, fewer, np.array([4])).station_id) == len(champions.station_id)


def test_batches_of_other_series_or_another_origin_are_refused(panel: Panel, champions: Batch) -> None:
    fewer = replace(
        panel, station_id=panel.station_id[:-1], parameter_id=panel.parameter_id[:-1], values=panel.values[:-1]
    )
    for other in (make_batch(bundle(), fewer, CATALOGUE), make_batch(bundle(), panel.until(1), CATALOGUE)):
        with pytest.raises(ValueError, match="not of the same series and origin"):
            spliced(champions, other, np.array([1]))

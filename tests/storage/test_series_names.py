"""Stations and parameters as people name them."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa
from handmade_night import handmade_night

from bts_assets.contracts.errors import UsageError
from bts_assets.storage.postgres import connect
from bts_assets.storage.series_names import series_meant


@pytest.fixture(scope="module")
def engine(server_url: str) -> Iterator[sa.Engine]:
    """Stations 1, North Hill, and two that are both called Twin."""
    with handmade_night(server_url) as night:
        made = connect(night.writer_url, timedelta(seconds=10))
        with made.begin() as connection:
            connection.exec_driver_sql("UPDATE bts.station SET name = 'Twin' WHERE station_id IN (2, 3)")
        yield made
        made.dispose()


def test_series_are_meant_by_number_or_by_name_in_any_case(engine: sa.Engine) -> None:
    assert series_meant(engine, "1", "111") == (1, 111)
    assert series_meant(engine, "-7", "-3") == (-7, -3)
    assert series_meant(engine, "north HILL", "room temperature") == (1, 111)


@pytest.mark.parametrize(
    ("station", "parameter", "told"),
    [
        ("North Hil", "111", "no station is called North Hil: did you mean North Hill?"),
        ("Atlantis", "111", "no station is called Atlantis: bts.station has the names and ids"),
        ("twin", "111", "several stations are called twin: give one of the ids 2, 3"),
        ("1", "Humidty", "no parameter is called Humidty: did you mean Humidity?"),
    ],
)
def test_name_of_nothing_or_of_several_is_one_line(engine: sa.Engine, station: str, parameter: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        series_meant(engine, station, parameter)
    assert str(refused.value) == told

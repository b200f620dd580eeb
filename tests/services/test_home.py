"""A home opened: stations listed, the grid claimed, and what is wrong with it said in one line."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from small_nights import SMALL, hourly, observe_due, rows_of, take_in, write

from bts_assets.contracts.errors import BtsError
from bts_assets.services.home import Home, StationFileError, open_home
from bts_assets.settings import load_settings
from bts_assets.storage.postgres import DatabaseError

STATIONS = """\
station_id,name,region,latitude,longitude,timezone,in_service_since
1161114002,"Hill, north",Lowland,10.5,106.25,Asia/Ho_Chi_Minh,2015-03-01
7,,,,,,
"""


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


def reopened(home: Home, **changed: Any) -> Home:
    opened = open_home(home.settings.model_copy(update=changed))
    opened.engine.dispose()
    return opened


def stations(home: Home) -> list[dict[str, Any]]:
    return rows_of(home, "SELECT * FROM bts.station ORDER BY station_id DESC")


def test_the_station_file_fills_the_table_and_later_ones_correct_it(home: Home, tmp_path: Path) -> None:
    write(tmp_path / "landing", "a.csv", *hourly([0], station=7), *hourly([0], station=8, first_id=2))
    take_in(home, tmp_path / "landing")
    file = tmp_path / "stations.csv"
    file.write_bytes(b"\xef\xbb\xbf" + STATIONS.replace("\n", "\r\n").encode())
    reopened(home, stations_file=file)
    hill, known, seven = stations(home)
    assert (hill["name"], hill["region"], hill["latitude"], hill["longitude"]) == (
        "Hill, north",
        "Lowland",
        10.5,
        106.25,
    )
    assert (hill["timezone"], str(hill["in_service_since"]), hill["listed"]) == ("Asia/Ho_Chi_Minh", "2015-03-01", True)
    assert (known["station_id"], known["listed"]) == (8, False)
    assert (seven["station_id"], seven["listed"], seven["name"]) == (7, True, None)
    file.write_text(STATIONS.replace('"Hill, north"', "'; DROP TABLE bts.station; --"), encoding="utf-8")
    for _ in range(2):
        reopened(home, stations_file=file)
    assert [row["name"] for row in stations(home)] == ["'; DROP TABLE bts.station; --", None, None]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"station_id\n1\nx17\n", r"line 3: .*station_id.*x17", id="id"),
        pytest.param(b"station_id\n1\n\n\n-1\n", r"line 5: .*-1", id="negative id after blank lines"),
        pytest.param(b"station_id\n99999999999999999999\n", r"line 2: .*99999999999999999999", id="id too large"),
        pytest.param(b"name\nHill\n", r"station_id is missing", id="column"),
        pytest.param(b"name,station_id\nHill\n", r"line 2: .*station_id", id="short row"),
        pytest.param(b"station_id,latitude\n1,north\n", r"line 2: .*latitude.*north", id="latitude"),
        pytest.param(b"station_id,longitude\n1,nan\n", r"line 2: .*longitude.*nan", id="longitude"),
        pytest.param(b"station_id,latitude\n1,91\n", r"line 2: .*latitude.*91", id="beyond the pole"),
        pytest.param(b"station_id,timezone\n1,Mars/Base\n", r"line 2: .*timezone.*Mars/Base", id="timezone"),
        pytest.param(b"station_id,in_service_since\n1,soon\n", r"line 2: .*in_service_since.*soon", id="date"),
        pytest.param(b"station_id,name\n1,a\n2,b\n1,c\n", r"line 4: .*station 1 .*twice", id="twice"),
        pytest.param(b"station_id,name\n1,a\0b\n", r"line 2: .*NUL", id="nul"),
        pytest.param(b"station_id,name\n1,\xff\n", r"UTF-8", id="not utf-8"),
    ],
)
def test_a_station_file_that_cannot_be_used_names_its_line(
    shared_home: Home, tmp_path: Path, data: bytes, message: str
) -> None:
    file = tmp_path / "stations.csv"
    file.write_bytes(data)
    with pytest.raises(StationFileError, match=message) as caught:
        reopened(shared_home, stations_file=file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert stations(shared_home) == [], "all of it or nothing"


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory, new_database: Any) -> Home:
    home = open_home(load_settings(home=tmp_path_factory.mktemp("home"), database_url=new_database(), **SMALL))
    home.engine.dispose()
    return home


def test_a_station_file_that_is_not_there_is_one_line(shared_home: Home, tmp_path: Path) -> None:
    for missing in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(StationFileError, match=r"BTS_STATIONS_FILE=.* cannot be read: \w+"):
            reopened(shared_home, stations_file=missing)


def test_another_step_is_refused_and_another_context_is_not(make_home: Any, tmp_path: Path) -> None:
    shared_home = make_home(step=timedelta(hours=1), context=timedelta(days=1), horizon=timedelta(hours=12))
    # A look at an empty home decides nothing.
    reopened(shared_home, step=timedelta(minutes=30))
    reopened(shared_home)
    write(tmp_path / "landing", "a.csv", *hourly([0]))
    take_in(shared_home, tmp_path / "landing")
    observe_due(shared_home)
    with pytest.raises(DatabaseError, match=r"BTS_STEP=30min, but .* grid of 1h: set BTS_STEP=1h, or another BTS_HOME"):
        reopened(shared_home, step=timedelta(minutes=30))
    reopened(shared_home, context=timedelta(days=2))


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("postgresql://someone:c4nary@127.0.0.1:9/none", id="nobody listens"),
        pytest.param(
            "postgresql://127.0.0.1:9/none?user=someone&password=c4nary",
            id="password as an option",
        ),
        pytest.param("postgresql://someone:c4nary@127.0.0.1:port/none", id="broken port"),
        pytest.param("host=127.0.0.1 password=c4nary", id="not a url"),
        pytest.param("mysql://someone:c4nary@127.0.0.1/none", id="another database"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line_without_the_password(tmp_path: Path, url: str) -> None:
    with pytest.raises(BtsError) as caught:
        open_home(load_settings(home=tmp_path, database_url=url))
    assert "\n" not in str(caught.value)
    assert "c4nary" not in str(caught.value)


def test_a_wrong_password_is_one_line_without_it(server_url: str, tmp_path: Path) -> None:
    place = server_url.rpartition("@")[2]
    user = server_url.split("://")[1].split(":")[0]
    with pytest.raises(DatabaseError, match="password authentication failed") as caught:
        open_home(load_settings(home=tmp_path, database_url=f"postgresql://{user}:c4nary@{place}"))
    assert "c4nary" not in str(caught.value)
    assert "\n" not in str(caught.value)

"""Readings of small landing files rest as rows beside the ledger: never without it, never as other readings; what is
made of them is what Parquet gives.
"""

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from small_nights import (
    NOW,
    SMALL,
    as_parquet,
    hourly,
    ledger,
    observations_digest,
    observe_due,
    rows_of,
    small_up_to,
    take_in,
    write,
)
from walked_nights import Walk, file_of, walk

from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import look_for_fresh_files
from bts_assets.services.lineage_rebuild import InputGone
from bts_assets.services.replay import replay
from bts_assets.services.verify import repair, verify
from bts_assets.settings import load_settings
from bts_assets.storage import ingest_ledger, small_readings
from bts_assets.storage.lineage import impact_of_file
from bts_assets.storage.readings import ReadingsMissing


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    for hour in range(5):
        write(tmp_path / "landing", f"{hour}.csv", *hourly([hour]), *hourly([hour], station=2, first_id=100))
    return tmp_path / "landing"


@pytest.fixture
def home(make_home: Any, landing: Path) -> Home:
    return make_home(landing_dir=landing, **SMALL)


def held(home: Home) -> set[str]:
    return {row["digest"] for row in rows_of(home, "SELECT digest FROM bts.landing_reading")}


def digests(home: Home) -> dict[str, str]:
    return {row["path"]: row["digest"] for row in ledger(home)}


def execute(home: Home, statement: str, **values: Any) -> None:
    with home.engine.begin() as connection:
        assert connection.execute(sa.text(statement), values).rowcount == 1


SPOIL = "UPDATE bts.landing_reading SET readings = set_byte(readings, 40, get_byte(readings, 40) # 1) WHERE digest = :d"


def readings_wrong(home: Home) -> tuple[str, ...]:
    (readings, *_) = verify(home)
    return readings.wrong


def test_small_files_leave_rows_and_large_ones_parquet_whatever_their_company(home: Home, landing: Path) -> None:
    few, many = small_readings.MOST_ROWS, small_readings.MOST_ROWS + 1
    for name, rows in (("few.csv", few), ("many.csv", many)):
        write(landing, name, *(f"{i},{i},1,122,2026-03-09 {i // 60:02}:{i % 60:02}:00" for i in range(rows)))
    take_in(home, landing)
    found = digests(home)
    assert held(home) == set(found.values()) - {found["many.csv"]}
    assert [file.stem for file in home.readings.root.rglob("*.parquet")] == [found["many.csv"]]
    assert [len(home.readings.read(found[name])) for name in ("few.csv", "many.csv")] == [few, many]


def test_rows_and_parquet_give_the_same_readings_and_observations(make_home: Any, landing: Path) -> None:
    write(landing, "odd.csv", ",1.5,1,122,2026-03-09 00:00:00.000001", "x,-0.0,1,122,2026-03-09 00:30", "1,n/a,1,1,1")
    one, other = make_home(**SMALL), make_home(**SMALL)
    take_in(one, landing)
    with as_parquet():
        take_in(other, landing)
    assert (len(held(one)), held(other)) == (6, set())
    for digest in digests(one).values():
        rows, parquet = one.readings.read(digest), other.readings.read(digest)
        assert rows.equals(parquet)
        assert rows.dtypes.equals(parquet.dtypes)
    observe_due(one), observe_due(other)
    assert observations_digest(one) == observations_digest(other)
    same = "SELECT day, digest, observations, readings FROM bts.observed_day ORDER BY 1"
    assert rows_of(one, same) == rows_of(other, same)


def test_readings_come_with_their_entry_or_not_at_all(
    home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ingest_ledger.small_readings, "keep", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            take_in(home, landing)
    assert (ledger(home), held(home)) == ([], set())
    assert take_in(home, landing).taken == 5
    assert held(home) == set(digests(home).values())


def test_a_home_with_parquet_of_small_files_goes_on_with_rows_and_writes_none_of_them_twice(
    home: Home, landing: Path
) -> None:
    with as_parquet():
        take_in(home, landing)
    observe_due(home)
    before = observations_digest(home)
    assert look_for_fresh_files(home, landing)[1] == []
    (landing / "copy.csv").write_bytes((landing / "0.csv").read_bytes())
    write(landing, "new.csv", *hourly([9]))
    assert take_in(home, landing).copies == 1
    assert held(home) == {digests(home)["new.csv"]}
    (landing / "new.csv").unlink()
    write(landing, "new.csv", *hourly([9], value=7))
    take_in(home, landing)
    observe_due(home)
    assert observations_digest(home) != before
    assert readings_wrong(home) == ()


def test_a_damaged_row_costs_its_day_is_found_and_mended_and_kept_where_it_cannot_be(home: Home, landing: Path) -> None:
    take_in(home, landing)
    observe_due(home)
    before, found = observations_digest(home), digests(home)
    for name in ("0.csv", "1.csv"):
        execute(home, SPOIL, d=found[name])
    spoiled = rows_of(home, "SELECT readings FROM bts.landing_reading WHERE digest = :d", d=found["1.csv"])
    with pytest.raises(ReadingsMissing, match=f"{found['0.csv'][:12]} are damaged.*verify --repair.*landing_reading"):
        home.readings.read(found["0.csv"])
    assert len(readings_wrong(home)) == 2
    write(landing, "late.csv", *hourly([4, 20]))
    take_in(home, landing)
    assert [str(day) for day in observe_due(home).failed] == ["2026-03-09"]
    (landing / "1.csv").unlink()
    assert repair(home, NOW) == (["0.csv"], ["1.csv"])
    assert len(readings_wrong(home)) == 1
    assert rows_of(home, "SELECT readings FROM bts.landing_reading WHERE digest = :d", d=found["1.csv"]) == spoiled
    execute(home, SPOIL, d=found["1.csv"])  # the same bit again: it is sound
    (landing / "late.csv").unlink()
    write(landing, "late.csv", *hourly([4]))  # says again what is known
    take_in(home, landing)
    assert (observe_due(home).failed, readings_wrong(home)) == ({}, ())
    assert observations_digest(home) == before


def test_a_row_never_passes_for_another_files(home: Home, landing: Path) -> None:
    take_in(home, landing)
    first, second, *_ = digests(home).values()
    execute(
        home,
        "UPDATE bts.landing_reading SET readings = (SELECT readings FROM bts.landing_reading WHERE digest = :b)"
        " WHERE digest = :a",
        a=first,
        b=second,
    )
    with pytest.raises(ReadingsMissing, match=first[:12]):
        home.readings.read(first)


def test_a_row_that_is_gone_is_brought_back_by_the_next_ingest(home: Home, landing: Path) -> None:
    take_in(home, landing)
    observe_due(home)
    before, rows = observations_digest(home), rows_of(home, "SELECT * FROM bts.landing_reading ORDER BY digest")
    execute(home, "DELETE FROM bts.landing_reading WHERE digest = :d", d=digests(home)["3.csv"])
    assert [file.path for file in look_for_fresh_files(home, landing)[1]] == ["3.csv"]
    take_in(home, landing)
    assert rows_of(home, "SELECT * FROM bts.landing_reading ORDER BY digest") == rows
    assert (len(ledger(home)), observe_due(home).days, observations_digest(home)) == (5, 0, before)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    folder = tmp_path_factory.mktemp("walked")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    yield walk(home, folder / "landing")
    home.engine.dispose()


def test_batches_are_replayed_from_rows_and_a_lost_row_is_named(walked: Walk) -> None:
    home, lost = walked.home, file_of(0, 7)
    shutil.rmtree(home.readings.root, ignore_errors=True)  # none of it is needed
    for batch in walked.batches:
        assert (replay(home, batch).differs, replay(home, batch).forecasts.differing) == (None, 0)
    (row,) = rows_of(home, "SELECT digest FROM bts.landing_file WHERE path = :path", path=lost)
    impact = impact_of_file(home.engine, home.readings, lost)
    assert (impact.gone, int(impact.series["readings"].sum())) == (None, 12)
    with home.engine.begin() as connection:
        taken = small_readings.take_out(connection, row["digest"])
    assert taken is not None
    with pytest.raises(InputGone, match=r"the readings of 1 of its .* landing files are gone"):
        replay(home, walked.batches[0])
    with home.engine.begin() as connection:
        small_readings.put(connection, {row["digest"]: taken})
    assert replay(home, walked.batches[0]).differs is None


def test_more_digests_than_one_statement_asks_for(home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_readings, "_AT_ONCE", 2)
    with small_up_to(2):
        take_in(home, landing)
    wanted = list(digests(home).values())
    assert home.readings.sizes(wanted).keys() == set(wanted)
    assert [len(readings) for readings in home.readings.each(wanted)] == [2] * 5
    assert home.readings.count_by_station(wanted) == {1: 5, 2: 5}

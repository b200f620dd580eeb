"""Bits that flip at rest never pass for other readings; `bts verify` finds and mends what it can. Readings that rest as
rows have their own tests (`test_small_readings.py`).
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from command_line import bts
from nights import HomeMaker
from small_nights import (
    NOW,
    SMALL,
    as_parquet,
    hourly,
    observations_digest,
    observe_due,
    publish_panel,
    rows_of,
    serving_version,
    simple_bundle,
    small_panel,
    take_in,
    write,
)

from bts_assets.services.home import Home
from bts_assets.services.verify import repair, verify
from bts_assets.storage import reading_file
from bts_assets.storage.readings import ReadingsMissing

FLIPS: Final = 100


@pytest.fixture(autouse=True)
def parquet() -> Iterator[None]:
    with as_parquet():
        yield


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "landing"
    for part in range(3):
        hours = range(part * 8, part * 8 + 8)
        write(folder, f"{part}.csv", *hourly(hours), *hourly(hours, station=2, value=part / 7, first_id=100))
    return folder


@pytest.fixture
def home(make_home: HomeMaker, landing: Path) -> Home:
    """Three files observed, a version kept, a batch published."""
    made = make_home(landing_dir=landing, **SMALL)
    take_in(made, landing)
    observe_due(made)
    version = serving_version(made, simple_bundle())
    publish_panel(made.engine, small_panel(), version.model_version_id)
    return made


def stored(home: Home) -> list[Path]:
    return sorted(home.readings.root.rglob("*.parquet"))


def flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)


def spoil(file: Path) -> None:
    """Flip a bit of the last value: in the small files of tests most others mean nothing."""
    column = pq.ParquetFile(file).metadata.row_group(0).column(4)
    flip(file, 8 * (column.data_page_offset + column.total_compressed_size - 2))


def wrong(home: Home) -> dict[str, int]:
    return {found.store: len(found.wrong) for found in verify(home)}


SOUND: Final = dict.fromkeys(("readings", "observations", "bundles", "mlflow artifacts", "forecasts"), 0)


def test_no_flipped_bit_gives_other_readings_and_each_damage_names_its_file(home: Home) -> None:
    store, drawn = home.readings, random.Random(20261125)  # noqa: S311 - a seed, so that it can be repeated
    known = {file: (file.read_bytes(), store.read(file.stem)) for file in stored(home)}
    assert len(known) == 3
    damaged = named = 0
    for _ in range(FLIPS):
        file = drawn.choice(list(known))
        data, readings = known[file]
        flip(file, drawn.randrange(8 * len(data)))
        try:
            pd.testing.assert_frame_equal(store.read(file.stem), readings, check_exact=True)
        except ReadingsMissing as error:
            named += str(file) in str(error)
            damaged += 1
        finally:
            file.write_bytes(data)
    assert named == damaged > FLIPS / 2


def test_damage_in_any_row_group_is_found_and_costs_only_the_stations_in_it(
    make_home: HomeMaker, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_file, "GROUP_ROWS", 4)  # of eight readings of each of two stations
    home = make_home(landing_dir=landing, **SMALL)
    take_in(home, landing)
    file = stored(home)[0]
    groups = pq.ParquetFile(file).metadata
    assert groups.num_row_groups == 4
    for number in range(4):
        column = groups.row_group(number).column(4)
        damage_at = column.data_page_offset + column.total_compressed_size - 3
        sound = file.read_bytes()
        flip(file, 8 * damage_at)
        assert wrong(home)["readings"] == 1
        station, other = (1, 2) if number < 2 else (2, 1)
        with pytest.raises(ReadingsMissing):
            list(home.readings.each([file.stem], (station, station)))
        assert [len(readings) for readings in home.readings.each([file.stem], (other, other))] == [8]
        file.write_bytes(sound)
    assert wrong(home)["readings"] == 0


def test_a_damaged_file_costs_its_days_and_no_other(home: Home, landing: Path) -> None:
    day_before = [line.replace("2026-03-09", "2026-03-08") for line in hourly(range(8), first_id=500)]
    write(landing, "3.csv", *day_before)
    take_in(home, landing)
    (entry,) = rows_of(home, "SELECT digest FROM bts.landing_file WHERE path = '3.csv'")
    file = home.readings.path(entry["digest"])
    spoil(file)
    write(landing, "4.csv", *hourly(range(8), station=9, first_id=900))
    take_in(home, landing)
    report = observe_due(home)
    assert [str(day) for day in report.failed] == ["2026-03-08"]
    assert str(file) in next(iter(report.failed.values()))
    assert rows_of(home, "SELECT count(*) AS n FROM bts.observation WHERE station_id = 9") == [{"n": 8}]


def test_damaged_readings_are_found_and_taken_in_again_where_their_landing_file_is(home: Home, landing: Path) -> None:
    assert wrong(home) == SOUND
    before, observed = {f: f.read_bytes() for f in stored(home)}, observations_digest(home)
    first, second, third = before
    spoil(first)
    second.unlink()
    spoil(third)
    assert wrong(home) == SOUND | {"readings": 3}
    (path,) = rows_of(home, f"SELECT path FROM bts.landing_file WHERE digest = '{third.stem}'")
    (landing / path["path"]).unlink()
    mended, left = repair(home, NOW)
    assert (len(mended), left) == (2, [path["path"]])
    assert wrong(home) == SOUND | {"readings": 1}
    assert {f: f.read_bytes() for f in (first, second)} == {f: before[f] for f in (first, second)}
    observe_due(home)
    assert observations_digest(home) == observed


def test_every_store_is_walked_and_the_command_ends_with_a_status(home: Home) -> None:
    environment = {"BTS_HOME": str(home.settings.home), "BTS_DATABASE_URL": home.url, "COLUMNS": "120"}
    environment |= {"BTS_STEP": "1h", "BTS_CONTEXT": "1d", "BTS_HORIZON": "6h"}
    sound = bts("verify", env=environment)
    assert (sound.returncode, sound.stderr) == (0, "")
    assert [line.split()[-1] for line in sound.stdout.splitlines()[1:]] == ["0"] * 5
    (bundle,) = home.models.cache.iterdir()
    flip(bundle / "bundle.json", 80)
    kept = home.models.artifacts / "1" / "models" / "m-1" / "artifacts" / "artifacts" / ("a" * 64)
    kept.mkdir(parents=True)
    (kept / "bundle.json").write_text("{}")
    with home.engine.begin() as connection:
        altered = "UPDATE bts.observation_block SET values[3] = values[3] + 1e-9 WHERE station_id = 1"
        connection.execute(sa.text(altered))
        connection.execute(sa.text("UPDATE bts.forecast_series SET q50[2] = q50[2] - 1e-9 WHERE station_id = 1"))
    spoil(stored(home)[0])
    damaged = bts("verify", env=environment)
    assert damaged.returncode == 1
    assert damaged.stderr == ""
    assert [line.split()[-1] for line in damaged.stdout.splitlines()[1:6]] == ["1"] * 5
    assert str(stored(home)[0]) in damaged.stdout
    assert str(bundle) in damaged.stdout


def test_files_of_older_code_are_read_and_counted_and_repair_gives_them_a_digest(home: Home, landing: Path) -> None:
    file = stored(home)[0]
    expected = home.readings.read(file.stem)
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)
    assert home.readings.read(file.stem).equals(expected)
    (readings, *_) = verify(home)
    assert (readings.unvouched, readings.wrong) == (1, ())
    assert repair(home, NOW)[1] == []
    (readings, *_) = verify(home)
    assert (readings.unvouched, readings.wrong) == (0, ())

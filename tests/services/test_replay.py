"""Replay: every night of a walk again, bit for bit, whatever came later; and each way in which it must not agree."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from small_nights import LOAD, SMALL, observe_due, rows_of, small_up_to
from walked_nights import NIGHTS, Walk, disturb, file_of, land, origin_of, walk, write_day

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.errors import UsageError
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.forecasting import efforts
from bts_assets.forecasting.comparison import TOLERANCE
from bts_assets.services import replay as replaying
from bts_assets.services import training as versions
from bts_assets.services.home import Home, open_home
from bts_assets.services.lineage_rebuild import InputGone
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.replay import Replayed, ReplayRefused, batch_served, replay, retrain
from bts_assets.settings import load_settings
from bts_assets.storage import tables
from bts_assets.storage.mlflow_registry import ModelStoreError
from bts_assets.storage.observations import read_panel
from bts_assets.storage.readings import ReadingsMissing

HOUR = timedelta(hours=1)
ONE_ROW = "batch_id = :batch AND station_id = 2 AND parameter_id = 122"


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    """The walk, for tests that leave it as it was; of most nights some readings rest as Parquet, others as rows."""
    folder = tmp_path_factory.mktemp("walked")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    with small_up_to(9):
        made = walk(home, folder / "landing")
    yield made
    home.engine.dispose()


@pytest.fixture
def undone(walked: Walk) -> Iterator[Callable[..., None]]:
    """Runs a statement on the walk's database; what it changed in forecasts and ledger is put back at the end."""
    kept = {name: rows_of(walked.home, f"SELECT * FROM bts.{name}") for name in ("forecast_series", "forecast_ledger")}

    def run(statement: str, **values: Any) -> None:
        with walked.home.engine.begin() as connection:
            assert connection.execute(sa.text(statement), values).rowcount > 0

    yield run
    with walked.home.engine.begin() as connection:
        for name, rows in kept.items():
            table = sa.Table(name, sa.MetaData(schema="bts"), autoload_with=connection)
            connection.execute(sa.delete(table))
            connection.execute(sa.insert(table), rows)


@pytest.fixture
def own_files(walked: Walk, tmp_path: Path) -> Home:
    """The walk's database with Parquet files and bundles of the test's own, to be spoiled."""
    for name in ("readings", "bundles"):
        shutil.copytree(walked.home.settings.home / name, tmp_path / name)
    return replace(walked.home, settings=walked.home.settings.model_copy(update={"home": tmp_path}))


def parquet_of(home: Home, path: str, entry: str = "min") -> Path:
    query = (
        f"SELECT digest FROM bts.landing_file WHERE path = :path ORDER BY ledger_seq {'' if entry == 'min' else 'DESC'}"
    )
    return home.readings.path(rows_of(home, query, path=path)[0]["digest"])


def agrees(replayed: Replayed) -> bool:
    return (replayed.differs, replayed.first, replayed.forecasts.differing, replayed.ledger_differing) == (
        None,
        None,
        0,
        0,
    )


# What came later does not count


def test_nights_replayed_in_shuffled_order_have_no_differing_number(walked: Walk) -> None:
    for batch in np.random.default_rng(4).permutation(walked.batches).tolist():
        replayed = replay(walked.home, batch)
        assert agrees(replayed)
        stored = rows_of(walked.home, "SELECT count(*) AS n FROM bts.forecast WHERE batch_id = :b", b=batch)[0]["n"]
        assert replayed.forecasts.numbers == 5 * stored > 0
        # Stations 4 and 5 are known from before; station 6 is from night 3 on.
        assert replayed.ledger_rows == 6 + (batch >= walked.batches[3])
        assert replayed.notes == ()


def test_later_files_would_change_every_night(walked: Walk) -> None:
    # Or the replays above would prove nothing.
    with walked.home.engine.connect() as connection:
        for night, batch in enumerate(walked.batches):
            made = rows_of(walked.home, "SELECT * FROM bts.batch WHERE batch_id = :b", b=batch)[0]
            now = read_panel(connection, walked.home.settings.grid, made["input_start"], origin_of(night))
            assert now.digest != made["observations_digest"]


def test_replay_writes_nothing(walked: Walk) -> None:
    options = "-c default_transaction_read_only=on -c timezone=UTC"
    engine = sa.create_engine(walked.home.engine.url, connect_args={"options": options})
    assert agrees(replay(replace(walked.home, engine=engine), walked.batches[2]))
    engine.dispose()


def test_silent_series_was_last_heard_when_it_was_then(walked: Walk) -> None:
    # Station 3 was silent the day before night 3, until a late file filled its evening.
    heard = {3: origin_of(2) - HOUR, 4: origin_of(-1) - HOUR, 5: origin_of(-11) + 2 * HOUR}
    query = (
        "SELECT station_id, last_observed_at AS at FROM bts.forecast_ledger WHERE batch_id = :b AND history_steps = 0"
    )
    stored = rows_of(walked.home, query, b=walked.batches[3])
    assert {row["station_id"]: row["at"] for row in stored} == heard
    query = "SELECT max(observed_at) AS at FROM bts.observation WHERE station_id = 3 AND observed_at < :origin"
    assert rows_of(walked.home, query, origin=origin_of(3)) == [{"at": origin_of(3) - HOUR}]
    entries = replay(walked.home, walked.batches[3]).batch.ledger.set_index(["station_id", "parameter_id"])
    assert {station: entries.loc[(station, LOAD), "last_observed_at"] for station in heard} == heard


def test_silence_that_cannot_be_proved_any_more_is_taken_on_trust(walked: Walk, own_files: Home) -> None:
    parquet_of(own_files, "old.csv").unlink()
    replayed = replay(own_files, walked.batches[3])
    assert agrees(replayed)
    (note,) = replayed.notes
    assert note.startswith("when 1 silent series were last heard of is taken on trust: the readings of landing file ")


# What must be found


def test_one_flipped_bit_is_found_and_named(walked: Walk, undone: Callable[..., None]) -> None:
    batch = walked.batches[1]
    key = {"batch": batch, "step": 4}
    was = rows_of(walked.home, f"SELECT q50 FROM bts.forecast WHERE {ONE_ROW} AND step_ahead = :step", **key)[0]["q50"]
    flipped = float(np.nextafter(was, np.inf))
    undone(f"UPDATE bts.forecast_series SET q50[:step] = :q50 WHERE {ONE_ROW}", q50=flipped, **key)
    replayed = replay(walked.home, batch)
    assert (replayed.differs, replayed.forecasts.differing, replayed.ledger_differing) == ("forecasts", 1, 0)
    assert replayed.first == (
        f"station 2, parameter 122, target 2026-03-11 05:00 UTC (step 4): q50 is stored as {flipped}, rebuilt as {was};"
        " the stored rows are not those that were published: their digest is another"
    )
    assert replay(walked.home, batch, (1, LOAD)).differs is None
    assert replay(walked.home, batch, (2, LOAD)).forecasts.differing == 1
    assert agrees(replay(walked.home, walked.batches[2]))


def test_one_series_is_replayed_without_the_others(walked: Walk, undone: Callable[..., None]) -> None:
    batch = walked.batches[-1]
    query = "SELECT station_id, parameter_id FROM bts.forecast_ledger WHERE batch_id = :batch"
    for row in rows_of(walked.home, query, batch=batch):
        replayed = replay(walked.home, batch, (row["station_id"], row["parameter_id"]))
        assert (replayed.differs, len(replayed.panel), replayed.ledger_rows) == (None, 1, 1)
    undone(
        "UPDATE bts.forecast_ledger SET input_digest = sha256('x') WHERE batch_id = :batch AND station_id = 1",
        batch=batch,
    )
    with pytest.raises(ReplayRefused, match=r"digests in the forecast ledger of batch \d+ were altered"):
        replay(walked.home, batch, (2, LOAD))


def test_row_that_is_gone_or_too_much_is_named(walked: Walk, undone: Callable[..., None]) -> None:
    batch = walked.batches[0]
    cut = ", ".join(f"{name} = trim_array({name}, 1)" for name in QUANTILE_COLUMNS)
    undone(f"UPDATE bts.forecast_series SET {cut} WHERE {ONE_ROW}", batch=batch)
    replayed = replay(walked.home, batch)
    assert replayed.forecasts.beyond == 5
    assert "target 2026-03-10 07:00 UTC (step 6) is rebuilt, but not stored; the stored rows are not" in replayed.first
    undone("UPDATE bts.forecast_series SET station_id = 0 WHERE batch_id = :batch AND station_id = 1", batch=batch)
    told = "station 0, parameter 122, target 2026-03-10 02:00 UTC (step 1) is stored, but not rebuilt"
    assert replay(walked.home, batch).first.startswith(told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("status = 'fallback'", "status is stored as 'fallback', rebuilt as 'forecast'"),
        ("components = '{}'", "components is stored as {}, rebuilt as {'last_value': 0.4"),
        ("last_observed_at = NULL", "last_observed_at is stored as None, rebuilt as Timestamp('2026-03-11 01:00"),
        ("station_id = 7", " is rebuilt, but not stored"),
    ],
)
def test_difference_in_the_ledger_is_named(walked: Walk, undone: Callable[..., None], change: str, told: str) -> None:
    undone(f"UPDATE bts.forecast_ledger SET {change} WHERE {ONE_ROW}", batch=walked.batches[1])
    replayed = replay(walked.home, walked.batches[1])
    assert (replayed.differs, replayed.forecasts.differing) == ("ledger", 0)
    assert replayed.ledger_differing == (2 if "station_id" in change else 1)
    assert replayed.first.startswith("the ledger of station 2, parameter 122")
    assert told in replayed.first


def test_batch_is_made_again_with_the_catalogue_of_then_whatever_holds_now(walked: Walk) -> None:
    for change in ({"valid_max": 42.0}, {"aggregation": "last"}, {"kind": "counter"}):
        other = tuple(replace(p, **change) if p.parameter_id == LOAD else p for p in walked.home.catalogue)
        replayed = replay(replace(walked.home, catalogue=Catalogue(other)), walked.batches[0])
        assert agrees(replayed)
        assert replayed.catalogue.digest == walked.home.catalogue.digest
        assert not any("catalogue" in note for note in replayed.notes)


def test_other_use_of_ids_now_changes_no_batch_of_then(walked: Walk) -> None:
    settings = walked.home.settings.model_copy(update={"reading_ids": "ignore"})
    assert agrees(replay(replace(walked.home, settings=settings), walked.batches[2]))


def test_catalogue_that_was_not_kept_is_said_and_its_consequences_named(walked: Walk) -> None:
    kept = rows_of(walked.home, "SELECT * FROM bts.catalogue")
    with walked.home.engine.begin() as connection:
        connection.execute(sa.delete(tables.catalogue))
    try:
        narrow = tuple(replace(p, valid_max=42.0) if p.parameter_id == LOAD else p for p in walked.home.catalogue)
        replayed = replay(replace(walked.home, catalogue=Catalogue(narrow)), walked.batches[0])
        assert replayed.notes[0].startswith("the catalogue is not that of then: ")
        assert replayed.differs == "forecasts"
        assert "the stored rows" not in replayed.first
        last = tuple(replace(p, aggregation="last") if p.parameter_id == LOAD else p for p in walked.home.catalogue)
        with pytest.raises(InputGone, match=r"its input differs: .*; the catalogue is not that of then: "):
            replay(replace(walked.home, catalogue=Catalogue(last)), walked.batches[0])
    finally:
        with walked.home.engine.begin() as connection:
            connection.execute(sa.insert(tables.catalogue), kept)


# Another kind of machine


def elsewhere(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    """Replays as a machine would whose arithmetic is off by a factor, and says that it is another."""
    here, make = replaying.machine(), replaying.make_batch

    def make_otherwise(*given: Any, **named: Any) -> Any:
        batch = make(*given, **named)
        return replace(batch, quantiles=batch.quantiles * factor)

    monkeypatch.setattr(replaying, "machine", lambda: here | {"processor": "another"})
    monkeypatch.setattr(replaying, "make_batch", make_otherwise)


def test_small_differences_agree_on_another_machine_only(walked: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    here = replaying.machine
    elsewhere(monkeypatch, 1 + 1e-9)
    replayed = replay(walked.home, walked.batches[0])
    assert (replayed.differs, replayed.forecasts.beyond) == (None, 0)
    assert replayed.forecasts.differing > 100
    assert 0 < replayed.forecasts.largest < TOLERANCE
    assert replayed.other_kind == f"processor {here()['processor']} then, another now"
    monkeypatch.setattr(replaying, "machine", here)
    replayed = replay(walked.home, walked.batches[0])
    assert (replayed.differs, replayed.other_kind) == ("forecasts", None)
    assert replayed.forecasts.beyond == replayed.forecasts.differing > 100


def test_large_differences_differ_on_another_machine_too(walked: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch, 1.01)
    replayed = replay(walked.home, walked.batches[0])
    assert replayed.differs == "forecasts"
    assert replayed.forecasts.beyond > 0


def test_altered_row_is_found_on_another_machine_by_its_digest(
    walked: Walk, undone: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    undone(f"UPDATE bts.forecast_series SET q50[1] = q50[1] + 1e-13 WHERE {ONE_ROW}", batch=walked.batches[0])
    elsewhere(monkeypatch, 1.0)
    replayed = replay(walked.home, walked.batches[0])
    assert (replayed.differs, replayed.forecasts.beyond) == ("forecasts", 0)
    assert replayed.first == "the stored rows are not those that were published: their digest is another"


# What cannot be replayed ends in one line


def test_changed_parquet_file_is_refused_by_its_day(walked: Walk, own_files: Home) -> None:
    file = parquet_of(own_files, file_of(0, 7))
    digest = file.stem
    (readings,) = own_files.readings.each([digest])
    readings.value[0] += 0.5
    own_files.readings.write(digest, [readings])
    with pytest.raises(InputGone) as refusal:
        replay(own_files, walked.batches[0])
    assert str(refusal.value).startswith(
        f"batch {walked.batches[0]} cannot be made again: its input differs: the readings of 2026-03-09 ("
    )
    assert "\n" not in str(refusal.value)
    assert agrees(replay(own_files, walked.batches[3]))


def test_readings_that_are_gone_or_damaged_are_refused_by_name(walked: Walk, own_files: Home) -> None:
    file = parquet_of(own_files, file_of(0, 7))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ReadingsMissing, match=rf"landing file {file.stem[:12]} are damaged: run bts verify"):
        replay(own_files, walked.batches[0])
    file.unlink()
    with pytest.raises(
        InputGone, match=r"the readings of 1 of its \d+ landing files are gone, among them 2026-03-09/09"
    ):
        replay(own_files, walked.batches[0])


def test_superseded_file_is_needed_by_the_batches_that_knew_it(walked: Walk, own_files: Home) -> None:
    parquet_of(own_files, file_of(0, 5), "min").unlink()
    with pytest.raises(InputGone, match="2026-03-09/07"):
        replay(own_files, walked.batches[0])
    assert agrees(replay(own_files, walked.batches[1]))


def test_changed_or_lost_bundle_is_refused(walked: Walk, own_files: Home) -> None:
    folder = own_files.models.cache / walked.version.bundle_digest
    (folder / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes() + b" ")
    with pytest.raises(ModelStoreError, match="its bytes have changed"):
        replay(own_files, walked.batches[0])
    shutil.rmtree(folder)
    with pytest.raises(ModelStoreError, match="is neither in"):
        replay(own_files, walked.batches[0])


def test_batch_that_is_not_there_or_no_longer_stored_is_refused(walked: Walk, undone: Callable[..., None]) -> None:
    with pytest.raises(UsageError, match="there is no batch 99"):
        replay(walked.home, 99)
    with pytest.raises(UsageError, match=rf"batch {walked.batches[0]} has no series of station 99, parameter 122"):
        replay(walked.home, walked.batches[0], (99, LOAD))
    undone("DELETE FROM bts.forecast_series WHERE batch_id = :batch", batch=walked.batches[0])
    with pytest.raises(ReplayRefused, match="no longer stored"):
        replay(walked.home, walked.batches[0])


# Which batch


def test_batch_is_that_which_served_then(walked: Walk) -> None:
    published = rows_of(walked.home, "SELECT batch_id, published_at FROM bts.publication ORDER BY publication_seq")
    assert [batch_served(walked.home, row["published_at"]) for row in published] == list(walked.batches)
    assert batch_served(walked.home) == walked.batches[NIGHTS - 1]
    with pytest.raises(ReplayRefused, match="nothing had been published by 2001-01-01"):
        batch_served(walked.home, datetime(2001, 1, 1, tzinfo=UTC))


def test_home_without_a_batch_says_so(make_home: Any) -> None:
    with pytest.raises(ReplayRefused, match="nothing was published yet"):
        batch_served(make_home(**SMALL))


# Training again


@pytest.fixture
def trained(make_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose champion was trained for real, though briefly, and forecast a night; then more files came."""
    monkeypatch.setitem(efforts.EFFORTS, "quick", efforts.Work(20, 20, 1, 1000))
    home = make_home(**SMALL, mlflow_tracking_uri="http://127.0.0.1:9")
    for night in range(-3, 1):
        write_day(tmp_path, night)
    land(home, tmp_path, origin_of(0))
    version = versions.train(home, origin_of(0), None).version
    forecast_and_publish(home, Origin(origin_of(0), "live", "the test says so"), version, None)
    for night in range(-3, 1):
        disturb(tmp_path, night)
    land(home, tmp_path, origin_of(1))
    observe_due(home)
    return home


@pytest.mark.slow
def test_training_again_gives_the_same_version_whatever_came_later(trained: Home) -> None:
    replayed = replay(trained, 1)
    assert agrees(replayed)
    assert rows_of(trained, "SELECT DISTINCT lstm_failure FROM bts.model_version") == [{"lstm_failure": None}]
    told: list[str] = []
    again = retrain(trained, replayed, lambda stage, done, total: told.append(stage))
    assert (again.same, again.agrees, again.forecasts.differing) == (True, True, 0)
    assert {"observing days", "training"} <= set(told)
    with trained.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE bts.model_version SET seed = seed + 1")
    again = retrain(trained, replayed)
    assert (again.same, again.agrees) == (False, False)
    assert again.forecasts.differing > 0
    with trained.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE bts.model_version SET truncated = true")
    with pytest.raises(ReplayRefused, match="cut short by the clock"):
        retrain(trained, replayed)

"""Retention: what goes and what never does, killed in the middle, and what is said of what went."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from small_nights import SMALL, as_parquet, observe_due, rows_of, write
from walked_nights import DAY, LOAD, NIGHTS, Walk, land, origin_of, readings, walk

from bts_assets.cli.render.lineage import show_lineage
from bts_assets.services import retention
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import look_for_fresh_files
from bts_assets.services.replay import ReplayRefused, replay
from bts_assets.services.retention import Past, find_past, prune
from bts_assets.settings import SettingsError, load_settings
from bts_assets.storage import retention as stored
from bts_assets.storage.lineage import lineage_of
from bts_assets.storage.locks import LOCK_INGEST, LOCK_PUBLISH, transaction
from bts_assets.storage.observations import due_days
from bts_assets.storage.postgres import DatabaseError, sqlalchemy_url
from bts_assets.storage.served_pages import Pages

STEPS: dict[str, tuple[Any, str]] = {
    "a batch pruned": (retention, "_prune_batch"),
    "a day pruned": (retention, "_prune_day"),
    "files about to be pruned": (retention, "_prune_files"),
    "files marked": (stored, "mark_readings_pruned"),
    "space about to be freed": (stored, "free_space"),
}


@pytest.fixture(scope="module", params=[nullcontext, as_parquet], ids=["rows", "Parquet"])
def origin(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], request: pytest.FixtureRequest
) -> Walk:
    """The walk through six nights, with no session left: what each test has a copy of. Readings rest in either way."""
    folder = tmp_path_factory.mktemp("walked")
    settings = load_settings(
        home=folder / "home",
        database_url=new_database(),
        file_stable_for=timedelta(0),
        training_span=DAY,
        lock_timeout=timedelta(seconds=2),
        **SMALL,
    )
    with request.param():
        walked = walk(open_home(settings), folder / "landing")
    walked.home.engine.dispose()
    return walked


@pytest.fixture
def walked(origin: Walk, tmp_path: Path, server_url: str) -> Iterator[Walk]:
    """A copy of the walk: its database, its Parquet files and bundles."""
    name, database = f"copy_{tmp_path.name}".lower().replace("-", "_")[:60], origin.home.url.rpartition("/")[2]
    admin = sa.create_engine(sqlalchemy_url(server_url), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE {database}')
    admin.dispose()
    shutil.copytree(origin.home.settings.home, tmp_path / "home")
    url = f"{origin.home.url.rpartition('/')[0]}/{name}"
    home = open_home(origin.home.settings.model_copy(update={"home": tmp_path / "home", "database_url": url}))
    yield replace(origin, home=home)
    home.engine.dispose()


def keeping(home: Home, forecasts: timedelta | None = 2 * DAY, observations: timedelta | None = 2 * DAY) -> Home:
    kept = {"forecast_retention": forecasts, "observation_retention": observations}
    return replace(home, settings=home.settings.model_copy(update=kept))


def what_rests(home: Home) -> dict[str, Any]:
    return {
        "batches": rows_of(home, "SELECT batch_id, pruned_at IS NULL AS kept FROM bts.batch ORDER BY 1"),
        "forecasts": rows_of(home, "SELECT batch_id, count(*) AS n FROM bts.forecast GROUP BY 1 ORDER BY 1"),
        "ledger": rows_of(home, "SELECT count(*) AS n FROM bts.forecast_ledger"),
        "observations": rows_of(home, "SELECT observed_at::date, count(*) FROM bts.observation GROUP BY 1 ORDER BY 1"),
        "stations": rows_of(home, "SELECT day, count(*) AS n FROM bts.observed_station GROUP BY 1 ORDER BY 1"),
        "pruned days": rows_of(home, "SELECT day, observations FROM bts.pruning ORDER BY 1"),
        "pruned files": rows_of(home, "SELECT path FROM bts.landing_file WHERE pruned_at IS NOT NULL ORDER BY 1"),
        "readings": sorted([*(f.stem for f in home.readings.root.rglob("*.parquet")),
                            *(row["digest"] for row in rows_of(home, "SELECT digest FROM bts.landing_reading"))]),
    }  # fmt: skip


def test_what_is_past_goes_and_all_that_is_kept_is_replayed(walked: Walk) -> None:
    home, before = keeping(walked.home), what_rests(walked.home)
    latest = rows_of(home, "SELECT * FROM bts.latest_forecast ORDER BY station_id, parameter_id, step_ahead")
    past = find_past(home)
    assert what_rests(home) == before, "looking deletes nothing"
    assert [batch.batch_id for batch in past.batches] == list(walked.batches[:-3])
    assert past.days[-1].day == (origin_of(NIGHTS - 1) - 2 * DAY).date() - DAY
    assert min(past.forecast_rows, past.observations, past.forecast_bytes, past.observation_bytes) > 0
    assert prune(home) == past
    after = what_rests(home)
    assert {row["batch_id"] for row in after["forecasts"]} == set(walked.batches[-3:])
    assert after["ledger"] == before["ledger"]
    assert after["stations"] == [row for row in before["stations"] if row["day"] > past.days[-1].day] != []
    assert rows_of(home, "SELECT * FROM bts.latest_forecast ORDER BY station_id, parameter_id, step_ahead") == latest
    assert set(before["readings"]) - set(after["readings"]) == set(past.files) != set()
    assert find_past(home) == Past()
    for batch in walked.batches[-3:]:
        replayed = replay(home, batch)
        assert (replayed.differs, replayed.forecasts.differing) == (None, 0)
    with pytest.raises(ReplayRefused, match=rf"batch {walked.batches[0]} were pruned on .*BTS_FORECAST_RETENTION"):
        replay(home, walked.batches[0])


def test_nothing_goes_where_nothing_is_set_or_nothing_serves(walked: Walk, make_home: Any) -> None:
    assert find_past(walked.home) == Past() == prune(walked.home)
    empty = keeping(make_home(training_span=DAY, **SMALL))
    assert prune(empty) == Past()


def test_what_serves_and_what_a_probation_needs_stays(walked: Walk) -> None:
    home = keeping(walked.home, timedelta(0), None)
    first, second, third = walked.batches[:3]
    with home.engine.begin() as connection:
        begun = (
            "INSERT INTO bts.probation (model_version_id, nights, share, reason) VALUES (:v, 2, 0, 'the test says so')"
            " RETURNING probation_id"
        )
        number = connection.execute(sa.text(begun), {"v": walked.version.model_version_id}).scalar_one()
        night = "INSERT INTO bts.probation_night (probation_id, batch_id, shadow_batch_id) VALUES (:p, :b, :s)"
        connection.execute(sa.text(night), {"p": number, "b": first, "s": second})
    assert [batch.batch_id for batch in prune(home).batches] == list(walked.batches[2:-1])
    with home.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE bts.probation SET ended_at = now(), outcome = 'ended'")
    assert [batch.batch_id for batch in prune(home).batches] == [first, second]
    assert rows_of(home, "SELECT DISTINCT batch_id FROM bts.forecast_series") == [{"batch_id": walked.batches[-1]}]
    assert third < walked.batches[-1]


def test_lineage_of_a_pruned_batch_still_answers(walked: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    home, first = keeping(walked.home), walked.batches[0]
    query = f"SELECT * FROM bts.forecast_lineage WHERE batch_id = {first} ORDER BY station_id, parameter_id"
    before = rows_of(home, query)
    prune(home)
    after = rows_of(home, query)
    assert all(row.pop("pruned_at") for row in after)
    assert after == [{k: v for k, v in row.items() if k != "pruned_at"} for row in before]
    found = lineage_of(home.engine, 1, LOAD, issued_at=origin_of(0))
    assert (found.forecast, found.made_by["batch_id"]) == (None, first)
    show_lineage(found, Pages())
    assert "pruned on " in capsys.readouterr().out


def test_pruned_days_are_not_due_again_and_pruned_files_not_taken_again(walked: Walk, tmp_path: Path) -> None:
    home = keeping(walked.home)
    days = [day.day for day in prune(home).days]
    landing = tmp_path / "landing"
    shutil.copytree(walked.landing, landing, copy_function=shutil.copy2)
    assert look_for_fresh_files(home, landing)[1] == []
    write(landing, "very-late.csv", *readings(origin_of(-1), 2, range(3, 5)))
    land(home, landing, origin_of(NIGHTS))
    with home.engine.connect() as connection:
        assert set(due_days(connection, home.observing_rule)).isdisjoint(days)
    observe_due(home)
    assert {row["day"] for row in rows_of(home, "SELECT day FROM bts.pruning")} == set(days)
    assert prune(home).days == ()
    (late,) = rows_of(home, "SELECT digest FROM bts.landing_file WHERE path = 'very-late.csv'")
    assert home.readings.sizes([late["digest"]]) == {}


def test_a_series_that_fell_silent_keeps_its_newest_observation(walked: Walk) -> None:
    home = keeping(walked.home)
    newest = "SELECT station_id, parameter_id, max(observed_at) AS at FROM bts.observation GROUP BY 1, 2 ORDER BY 1, 2"
    before = rows_of(home, newest)
    prune(home)
    assert rows_of(home, newest) == before


@pytest.mark.parametrize("step", STEPS)
def test_killed_in_the_middle_the_next_pruning_does_the_rest(
    walked: Walk, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    home = keeping(walked.home)
    before = what_rests(home)
    past = find_past(home)
    module, name = STEPS[step]
    original, calls = getattr(module, name), []

    def die(*given: Any) -> Any:
        calls.append(given)
        if len(calls) > 1 or name != "_prune_batch":
            original(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, name, die)
        with pytest.raises(KeyboardInterrupt):
            prune(home)
    prune(home)
    after = what_rests(home)
    assert find_past(home) == Past()
    assert [row["batch_id"] for row in after["batches"] if not row["kept"]] == [b.batch_id for b in past.batches]
    assert [row["day"] for row in after["pruned days"]] == [d.day for d in past.days]
    assert set(before["readings"]) - set(after["readings"]) == set(past.files)
    assert len(after["pruned files"]) >= len(past.files)


@pytest.mark.parametrize(("lock", "told"), [(LOCK_PUBLISH, "publishing"), (LOCK_INGEST, "taking in files")])
def test_a_pruning_waits_for_publishing_and_ingest_and_says_so(walked: Walk, lock: int, told: str) -> None:
    home = keeping(walked.home)
    with transaction(home.engine, lock), pytest.raises(DatabaseError, match=f"another process is {told}"):
        prune(home)


def test_a_retention_shorter_than_what_nights_read_is_refused() -> None:
    with pytest.raises(SettingsError, match="BTS_OBSERVATION_RETENTION=9d is shorter than BTS_TRAINING_SPAN=10d"):
        load_settings(observation_retention="9d", training_span="10d")
    with pytest.raises(SettingsError, match="BTS_OBSERVATION_RETENTION=48h is shorter than BTS_CONTEXT=7d"):
        load_settings(observation_retention="48h", training_span="24h")
    assert load_settings(observation_retention="9d").observation_retention == 9 * DAY
    assert not {"BTS_FORECAST_RETENTION", "BTS_OBSERVATION_RETENTION"} & set(load_settings().public())

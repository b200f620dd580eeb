"""Nights as partitions: which assets have them, when a night is on days of clock changes, backfills in one run."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from small_nights import (
    SMALL,
    found_by_settings,
    hourly,
    observe_due,
    rows_of,
    serving_version,
    simple_bundle,
    take_in,
    write,
)

from bts_assets.cli import run_job
from bts_assets.contracts.nights import night_of, origin_of
from bts_assets.contracts.origin import OriginError
from bts_assets.definitions import defs
from bts_assets.defs.partitions import NIGHTS, first_night, nights_from, partition_of
from bts_assets.defs.schedules import night_config
from bts_assets.settings import load_settings
from bts_assets.storage.first_day import keep_first_day

BY_NIGHT: Final = ("station_forecasts", "data_profile", "forecast_scores", "drift", "site_power")


def test_what_is_made_of_a_night_has_a_partition_for_it_and_is_backfilled_in_one_run() -> None:
    graph = defs.resolve_asset_graph()
    found = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert {name for name, node in found.items() if node.is_partitioned} == set(BY_NIGHT)
    assert {found[name].partitions_def for name in BY_NIGHT} == {NIGHTS}
    assert {found[name].backfill_policy for name in BY_NIGHT} == {dg.BackfillPolicy.single_run()}


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),  # two o'clock does not exist
        ("Europe/Berlin", date(2026, 10, 25), 25),  # and comes twice
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("Africa/Cairo", date(2026, 4, 24), 23),  # midnight does not exist
        ("Africa/Cairo", date(2026, 10, 30), 24),  # and the day before ends twice
        ("Asia/Ho_Chi_Minh", date(2026, 3, 29), 24),
    ],
)
def test_a_night_of_a_clock_change_is_one_partition_which_its_origin_lies_in(zone: str, day: date, hours: int) -> None:
    nights, key = nights_from(date(2026, 1, 1), ZoneInfo(zone)), day.isoformat()
    origin = origin_of(day, ZoneInfo(zone)).astimezone(UTC)
    assert night_of(origin, ZoneInfo(zone)) == day
    now = origin + timedelta(hours=1)
    with dg.partition_loading_context(effective_dt=now):
        assert nights.get_last_partition_key() == key  # tonight's is there tonight
        keys = nights.get_partition_keys()
    assert keys[-2] == (day - timedelta(days=1)).isoformat()
    assert len(set(keys)) == len(keys) == (day - date(2026, 1, 1)).days + 1
    window = nights.time_window_for_partition_key(key)
    assert window.start <= origin < window.end
    assert (window.end.timestamp() - window.start.timestamp()) / 3600 == hours


def test_a_night_before_the_first_is_refused() -> None:
    assert partition_of(datetime(2010, 1, 1, 2, tzinfo=UTC)) == "2010-01-01"
    with pytest.raises(OriginError, match="the night of 2009-12-31 lies before 2010-01-01, the first that can be made"):
        partition_of(datetime(2009, 12, 31, 23, 59, tzinfo=UTC))


def test_nights_begin_with_the_oldest_observation_of_the_home(
    make_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BTS_FIRST_NIGHT")
    made = make_home(**SMALL, timezone="Asia/Ho_Chi_Minh")
    assert first_night(made.settings) == date(2010, 1, 1)  # nothing was observed yet
    write(tmp_path / "landing", "a.csv", *hourly(range(24)))
    take_in(made, tmp_path / "landing")
    observe_due(made)
    (oldest,) = rows_of(made, "SELECT min(observed_at) AS at FROM bts.observation")
    assert first_night(made.settings) == oldest["at"].astimezone(ZoneInfo("Asia/Ho_Chi_Minh")).date()
    keep_first_day(made.settings.home, date(2026, 3, 20))
    assert first_night(made.settings) < date(2026, 3, 20)  # it only goes back
    keep_first_day(made.settings.home, date(2026, 1, 1))
    assert first_night(made.settings) == date(2026, 1, 1)
    # A night that is asked for by hand is listed by its own process: its readings may come with its run.
    run_job._list_nights_from(made.settings, datetime(2025, 12, 31, 2, tzinfo=UTC))
    assert first_night(load_settings(home=made.settings.home)) == date(2025, 12, 31)
    assert first_night(made.settings) == date(2026, 1, 1)
    set_to = made.settings.model_copy(update={"first_night": date(2026, 2, 2)})
    assert first_night(set_to) == date(2026, 2, 2)
    (made.settings.home / "first-day").write_text("soon", encoding="ascii")
    assert first_night(made.settings) == date(2010, 1, 1)


@pytest.fixture
def home(make_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A home whose champion was trained until 2026-03-10, with observations from two days before until the 13th."""
    made = make_home(**SMALL)
    found_by_settings(made, monkeypatch)
    serving_version(made, simple_bundle())
    for station in (1, 2):
        rows = hourly(range(-24, 84), station=station, first_id=1000 * station)
        write(tmp_path / "landing", f"{station}.csv", *rows)
    take_in(made, tmp_path / "landing")
    observe_due(made)
    return made


def backfill(instance: dg.DagsterInstance, first: str, last: str) -> dg.ExecuteInProcessResult:
    """As Dagster's daemon runs a backfill of the partitioned assets: one run, whose tags name the nights."""
    return defs.resolve_job_def("nightly").execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(name) for name in BY_NIGHT],
        tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last},
    )


def test_missing_nights_are_backfilled_in_one_run_and_stay_labelled_as_past_ones(home: Any) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert backfill(instance, "2026-03-12", "2026-03-12").success
        assert rows_of(home, "SELECT issued_at::date::text AS night FROM bts.latest_batch") == [{"night": "2026-03-12"}]
        assert backfill(instance, "2026-03-09", "2026-03-11").success
        again = backfill(instance, "2026-03-09", "2026-03-11")
        assert again.success
        assert instance.get_runs_count() == 3
        filled = {instance.get_materialized_partitions(dg.AssetKey(name)) == nights() for name in BY_NIGHT}
    assert filled == {True}
    made = rows_of(home, "SELECT batch_id, issued_at::text AS at, kind FROM bts.batch ORDER BY issued_at")
    assert [(row["at"][:16], row["kind"]) for row in made] == [
        ("2026-03-09 02:00", "in_sample"),
        *((f"2026-03-1{day} 02:00", "retrospective") for day in range(3)),
    ]
    assert rows_of(home, "SELECT issued_at::date::text AS night FROM bts.latest_batch") == [{"night": "2026-03-12"}]
    told = {m.partition: m.metadata for m in again.asset_materializations_for_node("station_forecasts")}
    assert [told[key]["batch_id"].value for key in sorted(told)] == [row["batch_id"] for row in made[:3]]
    assert [told[key]["new"].value for key in sorted(told)] == [False] * 3
    assert rows_of(home, "SELECT count(*) AS n FROM bts.drift_night") == [{"n": 4}]
    costs_are_told_apart(home)


def costs_are_told_apart(home: Any) -> None:
    """Three runs: one of a night, a backfill of three, and the same backfill again, which found what was there."""
    cost = rows_of(home, "SELECT * FROM bts.night_cost ORDER BY issued_at, stage")
    by_night = {"data_profile", "drift", "night", "site_power", "station_forecasts"}
    stages: dict[datetime, set[str]] = {}
    for row in cost:
        stages.setdefault(row["issued_at"], set()).add(row["stage"])
    # What is done once for all nights of a run is with the newest.
    assert list(stages.values()) == [by_night, by_night, by_night | {"forecast_scores"}, by_night | {"forecast_scores"}]
    assert len(cost) == sum(map(len, stages.values()))
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in rows_of(home, "SELECT * FROM bts.run_cost ORDER BY started_at"):
        runs.setdefault(row["run_id"], []).append(row)
    assert [len({row["issued_at"] for row in rows}) for rows in runs.values()] == [1, 3, 3]
    assert [len(rows) for rows in runs.values()] == [5, 13, 13]
    made = list(runs)[:2]
    assert {row["run_id"] for row in cost} == set(made)
    for run in made:
        told = sum(row["cpu_seconds"] for row in cost if row["run_id"] == run and row["stage"] == "night")
        assert told == pytest.approx(sum(row["cpu_seconds"] for row in runs[run]))
    for night in {row["issued_at"] for row in cost}:
        of_night = [row["started_at"] for row in cost if row["issued_at"] == night and row["stage"] == "drift"]
        assert len(of_night) == 1


def nights() -> set[str]:
    return {"2026-03-09", "2026-03-10", "2026-03-11", "2026-03-12"}


@pytest.mark.parametrize(
    ("first", "as_of", "said"),
    [
        ("2026-03-05", None, "the night of 2026-03-05, with its origin at 2026-03-05 02:00 UTC, lies before the first"),
        ("2026-03-09", "2026-03-10T02:00+00:00", "is of the night 2026-03-10, and the run makes 2026-03-09 to"),
    ],
)
def test_nights_that_cannot_be_made_are_refused_before_any_is(
    home: Any, first: str, as_of: str | None, said: str
) -> None:
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(OriginError, match=said):
        defs.resolve_job_def("nightly").execute_in_process(
            instance=instance,
            run_config=night_config(as_of=as_of),
            asset_selection=[dg.AssetKey("station_forecasts")],
            tags={"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": "2026-03-10"},
        )
    assert rows_of(home, "SELECT count(*) AS n FROM bts.batch") == [{"n": 0}]

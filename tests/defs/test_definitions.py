"""What Dagster is told: the asset graph, its checks, the jobs, the night's schedule and the sensor of landing files."""

import os
import subprocess
import sys
import textwrap
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster import AssetKey
from nights import HomeMaker

from bts_assets.contracts.schemas import Forecasts, Observations, Readings
from bts_assets.definitions import defs
from bts_assets.defs.nightly import every_night, every_week, new_landing_files, night_config

CHECKOUT = Path(__file__).parents[2]
ASSETS = [
    *("readings", "grouped_series", "lstm_model", "station_forecasts", "challenger_forecasts", "data_profile"),
    *("forecast_scores", "retention"),
]
EVERY = [*ASSETS, "challenger_model", "forecast_backtest"]
CHECKS = {
    "readings": {"readings_schema", "rows_add_up", "files_usable"},
    "grouped_series": {
        "observations_schema",
        "days_computed",
        "readings_keep_their_own",
        "nothing_ahead_of_now",
        "series_known",
    },
    "lstm_model": {"has_lstm", "as_good_as_best_candidate"},
    "station_forecasts": {"forecasts_schema", "every_series_accounted_for", "input_is_fresh", "forecasters_ran"},
    "challenger_forecasts": {"made_its_batch"},
    "challenger_model": {"passed_the_gate"},
    "data_profile": {"every_series_profiled"},
    "forecast_scores": {"no_worse_than_last_value", "intervals_cover"},
    "retention": {"nothing_past_is_left"},
    "forecast_backtest": {"as_good_as_best_candidate", "coverage_as_stated"},
}


def test_definitions_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)


def test_asset_graph_is_the_way_the_data_goes() -> None:
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == set(EVERY)
    parents = {name: {k.to_user_string() for k in graph.get(AssetKey(name)).parent_keys} for name in EVERY}
    assert parents == {
        "readings": set(),
        "grouped_series": {"readings"},
        "lstm_model": {"grouped_series"},
        "station_forecasts": {"lstm_model"},
        "challenger_forecasts": {"station_forecasts"},
        "challenger_model": {"grouped_series"},
        "data_profile": {"grouped_series"},
        "forecast_scores": {"station_forecasts"},
        "retention": {"challenger_forecasts"},
        "forecast_backtest": {"grouped_series"},
    }


def test_every_asset_has_its_checks() -> None:
    found: dict[str, set[str]] = {name: set() for name in EVERY}
    for key in defs.resolve_asset_graph().asset_check_keys:
        found[key.asset_key.to_user_string()].add(key.name)
    assert found == CHECKS


@pytest.mark.parametrize("name", EVERY)
def test_every_asset_describes_itself_and_its_columns(name: str) -> None:
    node = defs.resolve_asset_graph().get(AssetKey(name))
    assert node.description
    schema = node.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchema)
    guarded = {"readings": Readings, "grouped_series": Observations, "station_forecasts": Forecasts}
    if name in guarded:
        assert [c.name for c in schema.columns] == list(guarded[name].columns)
        assert all(c.description for c in schema.columns)
    elif name == "lstm_model":
        assert [c.name for c in schema.columns][:3] == ["candidate", "median_mase", "mase"]


@pytest.mark.parametrize(
    ("job", "assets"),
    [
        ("nightly", ASSETS),
        ("ingest", ASSETS[:2]),
        ("retrain", ["challenger_model"]),
        ("backtest", ["forecast_backtest"]),
    ],
)
def test_job_makes_its_assets_in_one_process(job: str, assets: list[str]) -> None:
    found = defs.resolve_job_def(job)
    assert {key.to_user_string() for key in found.asset_layer.selected_asset_keys} == set(assets)
    assert found.executor_def.name == dg.in_process_executor.name


def test_schedule_runs_the_night_by_itself_in_utc() -> None:
    assert every_night.job_name == "nightly"
    assert every_night.cron_schedule == "30 2 * * *"
    assert every_night.execution_timezone == "UTC"
    assert every_night.default_status == dg.DefaultScheduleStatus.RUNNING
    (request,) = requests(datetime(2026, 3, 10, 2, 30, tzinfo=ZoneInfo("UTC")))
    assert request.run_key == "2026-03-10"
    assert request.run_config == night_config(as_of="2026-03-10T02:00:00+00:00")


def requests(tick: datetime) -> list[dg.RunRequest]:
    evaluated = every_night.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=tick))
    return list(evaluated.run_requests or ())


def test_retraining_is_off_until_it_is_switched_on_and_comes_after_sundays_night() -> None:
    assert every_week.default_status == dg.DefaultScheduleStatus.STOPPED
    tick = datetime.fromisoformat("2026-03-15T04:00+00:00")
    assert tick.strftime("%A") == "Sunday"
    (request,) = every_week.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=tick)).run_requests or ()
    assert request.run_config == night_config(as_of="2026-03-15T02:00:00+00:00")
    assert every_week.job_name == "retrain"


#: Run where the zone is Europe/Berlin: every tick that Dagster would make around both changes of the clocks.
BERLIN = textwrap.dedent("""
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo
    import dagster as dg
    from dagster._utils.schedules import schedule_execution_time_iterator  # the daemon's own
    from bts_assets.definitions import defs
    schedule = defs.resolve_schedule_def("every_night")
    print(schedule.execution_timezone)
    for first, nights in (("2026-03-27", 4), ("2026-10-23", 4)):
        start = datetime.fromisoformat(first + "T12:00+01:00")
        ticks = schedule_execution_time_iterator(
            start.timestamp(), schedule.cron_schedule, schedule.execution_timezone)
        for _ in range(nights):
            tick = next(ticks)
            for zone in (ZoneInfo(schedule.execution_timezone), UTC):
                context = dg.build_schedule_context(scheduled_execution_time=tick.astimezone(zone))
                (request,) = schedule.evaluate_tick(context).run_requests
                as_of = request.run_config["resources"]["night"]["config"]["as_of"]
                print(request.run_key, datetime.fromisoformat(as_of).astimezone(UTC).isoformat()[:16],
                      datetime.fromisoformat(as_of) <= tick)
""")


class Night(NamedTuple):
    run_key: str
    origin_utc: str
    origin_not_after_tick: str


@pytest.fixture(scope="module")
def berlin() -> list[str]:
    environment = os.environ | {"BTS_TIMEZONE": "Europe/Berlin"}
    done = subprocess.run([sys.executable, "-c", BERLIN], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_schedule_keeps_the_zone_that_is_set(berlin: list[str]) -> None:
    assert berlin[0] == "Europe/Berlin"


def test_origin_is_two_in_the_morning_there_on_every_night(berlin: list[str]) -> None:
    nights = [Night(*line.split()) for line in berlin[1:]]
    assert nights[::2] == nights[1::2]  # told in that zone and told in UTC
    assert [(n.run_key, n.origin_utc) for n in nights[::2]] == [
        ("2026-03-28", "2026-03-28T01:00"),
        ("2026-03-29", "2026-03-29T01:00"),  # two does not exist: the instant when it would have been
        ("2026-03-30", "2026-03-30T00:00"),
        ("2026-03-31", "2026-03-31T00:00"),
        ("2026-10-24", "2026-10-24T00:00"),
        ("2026-10-25", "2026-10-25T01:00"),  # two comes twice: the night has 25 hours, and one origin
        ("2026-10-26", "2026-10-26T01:00"),
        ("2026-10-27", "2026-10-27T01:00"),
    ]
    assert {n.origin_not_after_tick for n in nights} == {"True"}


def tick() -> Any:
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        return new_landing_files.evaluate_tick(context)


@pytest.fixture
def landing(make_home: HomeMaker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The landing folder, not made yet, of a home that the sensor will find."""
    home = make_home()
    monkeypatch.setenv("BTS_HOME", str(home.settings.home))
    monkeypatch.setenv("BTS_DATABASE_URL", home.url)
    monkeypatch.setenv("BTS_LANDING_DIR", str(tmp_path / "landing"))
    monkeypatch.setenv("BTS_FILE_STABLE_FOR", "0s")
    return tmp_path / "landing"


def put(landing: Path, name: str, value: float) -> None:
    landing.mkdir(exist_ok=True)
    text = f"id,value,station_id,parameter_id,reading_time\n1,{value},7,122,2026-03-10 00:00:01\n"
    (landing / name).write_text(text, encoding="utf-8")


def test_sensor_asks_for_new_landing_files_once(landing: Path) -> None:
    assert "no landing folder" in (tick().skip_message or "")
    landing.mkdir()
    assert tick().skip_message == "no new landing files"
    put(landing, "one.csv", 1)
    (first,) = tick().run_requests
    (again,) = tick().run_requests
    assert first.run_key == again.run_key
    put(landing, "two.csv", 2)
    (more,) = tick().run_requests
    assert more.run_key != first.run_key
    put(landing, "one.csv", 10.5)
    (changed,) = tick().run_requests
    assert changed.run_key not in (first.run_key, more.run_key)


def test_sensor_is_quiet_about_what_was_taken_in(landing: Path) -> None:
    put(landing, "one.csv", 1)
    run = defs.resolve_job_def("ingest").execute_in_process(instance=dg.DagsterInstance.ephemeral())
    assert run.success
    assert tick().skip_message == "no new landing files"
    put(landing, "two.csv", 2)
    assert len(tick().run_requests) == 1


def test_sensor_starts_the_ingest_job() -> None:
    assert {target.job_name for target in new_landing_files.targets} == {"ingest"}
    assert new_landing_files.default_status == dg.DefaultSensorStatus.RUNNING


def test_dagster_finds_the_definitions_through_the_workspace_file(tmp_path: Path) -> None:
    dagster = Path(sys.executable).with_name("dagster")
    environment = os.environ | {"DAGSTER_HOME": str(tmp_path), "DAGSTER_DISABLE_TELEMETRY": "yes"}
    command = [str(dagster), "definitions", "validate", "-w", "workspace.yaml"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=90, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "bts" in said

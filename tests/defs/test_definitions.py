"""What Dagster is told: the asset graph, its checks, the jobs, the night's schedule and the sensor of landing files."""

import os
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
import yaml
from dagster import AssetKey
from nights import HomeMaker

from bts_assets.contracts.schemas import Forecasts, Observations, Readings
from bts_assets.definitions import defs
from bts_assets.defs import failed_runs
from bts_assets.defs.schedules import every_night, new_landing_files, night_config

CHECKOUT = Path(__file__).parents[2]
ASSETS = [
    *("readings", "grouped_series", "lstm_model", "station_forecasts", "challenger_forecasts", "data_profile"),
    *("forecast_scores", "drift", "site_power", "alerts", "retention"),
]
EVERY = [*ASSETS, "challenger_model", "forecast_backtest"]
CHECKS = {
    "readings": {"readings_schema", "rows_add_up", "files_usable", "corrections_whole"},
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
    "site_power": {"nothing_wears_out"},
    "alerts": {"everybody_was_told"},
    "drift": {"nothing_drifts", "sensors_report_rightly"},
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
        "site_power": {"station_forecasts"},
        "alerts": {"forecast_scores", "site_power", "drift"},
        "drift": {"forecast_scores", "data_profile"},
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
        assert [c.name for c in schema.columns][:3] == ["candidate", "series", "median_mase"]


def test_every_check_says_what_to_do_where_it_fails() -> None:
    graph = defs.resolve_asset_graph()
    told = {key: str(graph.get_check_spec(key).description) for key in graph.asset_check_keys}
    assert [key for key, description in told.items() if ". If not: " not in description] == []


def test_whatever_runs_by_itself_says_what_it_does() -> None:
    automations = [*(defs.schedules or ()), *(defs.sensors or ())]
    assert len(automations) == 7
    assert all(automation.description for automation in automations)


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


def test_a_group_is_what_one_materializes_together() -> None:
    graph = defs.resolve_asset_graph()
    groups: dict[str, set[str]] = {}
    for name in EVERY:
        groups.setdefault(str(graph.get(AssetKey(name)).group_name), set()).add(name)
    assert groups == {"nightly": set(ASSETS), "retraining": {"challenger_model"}, "evaluation": {"forecast_backtest"}}


def test_schedule_runs_the_night_by_itself_in_utc() -> None:
    assert every_night.job_name == "nightly"
    assert every_night.cron_schedule == ["30 2 * * *", "30 3 * * *"]
    assert every_night.execution_timezone == "UTC"
    assert every_night.default_status == dg.DefaultScheduleStatus.RUNNING
    (request,) = requests(datetime(2026, 3, 10, 2, 30, tzinfo=ZoneInfo("UTC")))
    assert request.run_key == "2026-03-10"
    assert request.tags["dagster/partition"] == "2026-03-10"
    assert request.run_config == night_config(as_of="2026-03-10T02:00:00+00:00")


def requests(tick: datetime) -> list[dg.RunRequest]:
    evaluated = every_night.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=tick))
    return list(evaluated.run_requests or ())


#: Run where a zone is set: every tick that Dagster's daemon would make around both changes of the clocks.
AROUND_CHANGES = textwrap.dedent("""
    import sys
    from datetime import UTC, datetime
    from zoneinfo import ZoneInfo
    import dagster as dg
    from dagster._utils.schedules import schedule_execution_time_iterator  # the daemon's own
    from bts_assets.definitions import defs
    schedule = defs.resolve_schedule_def("every_night")
    zone = schedule.execution_timezone
    print(zone)

    def utc(instant):
        return instant.astimezone(UTC).isoformat()[:16]

    for first in sys.argv[1:]:
        start = datetime.fromisoformat(first + "T12:00+00:00").timestamp()
        ticks = schedule_execution_time_iterator(start, schedule.cron_schedule, zone)
        for _ in range(6):
            tick = next(ticks)
            for told_in in (ZoneInfo(zone), UTC):
                context = dg.build_schedule_context(scheduled_execution_time=tick.astimezone(told_in))
                asked = schedule.evaluate_tick(context).run_requests
                origins = [datetime.fromisoformat(r.run_config["resources"]["night"]["config"]["as_of"]) for r in asked]
                assert [r.tags["dagster/partition"] for r in asked] == [r.run_key for r in asked]
                print(utc(tick), [r.run_key for r in asked] or "none", *map(utc, origins))
""")


def around_changes(zone: str, *days: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", AROUND_CHANGES, *days],
        env=os.environ | {"BTS_TIMEZONE": zone},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, *ticks = done.stdout.splitlines()
    assert said == zone
    assert ticks[::2] == ticks[1::2]  # told in that zone and told in UTC
    return ticks[::2]


def test_nights_of_clock_changes_start_half_an_hour_after_their_origin_in_berlin() -> None:
    assert around_changes("Europe/Berlin", "2026-03-27", "2026-10-23") == [
        "2026-03-28T01:30 ['2026-03-28'] 2026-03-28T01:00",
        "2026-03-28T02:30 ['2026-03-28'] 2026-03-28T01:00",  # the same run key: the night's run is there already
        "2026-03-29T01:00 none",  # half past two does not exist, and Dagster moves it to the origin itself
        "2026-03-29T01:30 ['2026-03-29'] 2026-03-29T01:00",
        "2026-03-30T00:30 ['2026-03-30'] 2026-03-30T00:00",
        "2026-03-30T01:30 ['2026-03-30'] 2026-03-30T00:00",
        "2026-10-24T00:30 ['2026-10-24'] 2026-10-24T00:00",
        "2026-10-24T01:30 ['2026-10-24'] 2026-10-24T00:00",
        "2026-10-25T01:30 ['2026-10-25'] 2026-10-25T01:00",  # two comes twice: 25 hours, and one origin
        "2026-10-25T02:30 ['2026-10-25'] 2026-10-25T01:00",
        "2026-10-26T01:30 ['2026-10-26'] 2026-10-26T01:00",
        "2026-10-26T02:30 ['2026-10-26'] 2026-10-26T01:00",
    ]


def test_nights_of_clock_changes_start_half_an_hour_after_their_origin_in_new_york() -> None:
    assert around_changes("America/New_York", "2026-03-07", "2026-10-31") == [
        "2026-03-08T07:00 none",
        "2026-03-08T07:30 ['2026-03-08'] 2026-03-08T07:00",
        "2026-03-09T06:30 ['2026-03-09'] 2026-03-09T06:00",
        "2026-03-09T07:30 ['2026-03-09'] 2026-03-09T06:00",
        "2026-03-10T06:30 ['2026-03-10'] 2026-03-10T06:00",
        "2026-03-10T07:30 ['2026-03-10'] 2026-03-10T06:00",
        "2026-11-01T07:30 ['2026-11-01'] 2026-11-01T07:00",  # one comes twice there, two but once
        "2026-11-01T08:30 ['2026-11-01'] 2026-11-01T07:00",
        "2026-11-02T07:30 ['2026-11-02'] 2026-11-02T07:00",
        "2026-11-02T08:30 ['2026-11-02'] 2026-11-02T07:00",
        "2026-11-03T07:30 ['2026-11-03'] 2026-11-03T07:00",
        "2026-11-03T08:30 ['2026-11-03'] 2026-11-03T07:00",
    ]


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


@pytest.mark.slow
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


def test_a_night_without_a_batch_is_late_by_the_time_that_is_set() -> None:
    policy = defs.resolve_asset_graph().get(AssetKey("station_forecasts")).freshness_policy
    assert policy == dg.FreshnessPolicy.cron("0 4 * * *", timedelta(hours=2), "UTC")
    config = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text(encoding="utf-8"))
    assert config["freshness"] == {"enabled": True}


def test_a_failed_run_is_told_to_every_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    @dg.asset
    def broken() -> None:
        raise ValueError("the disk is full\nand more")

    told: list[failed_runs.FailedRun] = []

    def hangs_up(_: failed_runs.FailedRun) -> None:
        raise OSError("no mail server")

    monkeypatch.setattr(failed_runs, "LISTENERS", [hangs_up, told.append])
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(assets=[broken], jobs=[dg.define_asset_job("night")]).resolve_job_def("night")
        run = job.execute_in_process(instance=instance, raise_on_error=False)
        context = dg.build_run_status_sensor_context(
            "failed_runs", run.get_run_failure_event(), instance, instance.get_run_by_id(run.run_id)
        ).for_run_failure()
        failed_runs.failed_runs(context)
    assert told == [failed_runs.FailedRun("night", run.run_id, None, "ValueError: the disk is full")]


def test_the_launchpad_describes_every_resource_and_field() -> None:
    for job in ("nightly", "ingest", "retrain", "backtest"):
        resources = defs.resolve_job_def(job).resource_defs
        assert set(resources) == {"night", "io_manager"}
        assert (resources["io_manager"].description or "").startswith("Takes nothing")
        fields = resources["night"].config_schema.config_type.fields  # type: ignore[union-attr,attr-defined]
        assert set(fields) == {"landing_dir", "as_of", "why"}
        assert all("for example" in (field.description or "") for field in fields.values())

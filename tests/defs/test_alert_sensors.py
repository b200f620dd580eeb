"""Between nights: what Dagster's sensors tell of, and that a job that failed at the command line is told of too."""

from collections.abc import Iterator

import dagster as dg
import pytest
from handmade_night import CHECKOUT
from nights import HomeMaker
from receivers import Receiver, http_receiver
from small_nights import rows_of

from bts_assets.cli.failed_job import tell_of_failure
from bts_assets.definitions import defs
from bts_assets.defs.alerts import alert_watch, succeeded_runs
from bts_assets.defs.failed_runs import FailedRun, tell
from bts_assets.services.home import Home
from bts_assets.settings import load_settings

ONE_NIGHT = (CHECKOUT / "tests" / "data" / "one_night.sql").read_text(encoding="utf-8")


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture
def home(make_home: HomeMaker, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> Home:
    made = make_home(alert_webhook=hook.url)
    monkeypatch.setenv("BTS_HOME", str(made.settings.home))
    monkeypatch.setenv("BTS_DATABASE_URL", str(made.settings.database_url))
    monkeypatch.setenv("BTS_ALERT_WEBHOOK", hook.url)
    return made


def test_the_watch_tells_between_nights(home: Home, hook: Receiver) -> None:
    with home.engine.begin() as connection:
        connection.exec_driver_sql(ONE_NIGHT.replace("%", "%%"))
        connection.exec_driver_sql("DELETE FROM bts.alert; UPDATE bts.batch SET successor_due_at = now()")
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        said = alert_watch.evaluate_tick(context).skip_message or ""
    assert said == "4 raised, 0 cleared, 4 messages sent, 0 failed"
    assert {message["kind"] for message in hook.received} == {"breach", "silent", "late", "drift"}


def test_a_channel_that_does_not_answer_warns_and_costs_no_night(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with home.engine.begin() as connection:
        connection.exec_driver_sql(ONE_NIGHT.replace("%", "%%"))
        connection.exec_driver_sql("DELETE FROM bts.alert")
    monkeypatch.setenv("BTS_ALERT_WEBHOOK", "http://127.0.0.1:1/nobody")
    with dg.DagsterInstance.ephemeral() as instance:
        run = defs.resolve_job_def("nightly").execute_in_process(
            instance=instance, asset_selection=[dg.AssetKey("alerts")]
        )
    assert run.success
    (told,) = [check for check in run.get_asset_check_evaluations() if check.check_name == "everybody_was_told"]
    assert (told.passed, told.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "nobody" not in str(told.metadata["failed"].value)  # an address may hold a password
    assert {row["state"] for row in rows_of(home, "SELECT state FROM bts.alert_status")} == {"open"}


def test_a_failed_run_is_told_once_and_so_is_the_success_after_it(home: Home, hook: Receiver) -> None:
    for run in ("one", "two"):  # the daemon starts it once more
        tell(FailedRun("nightly", run, "2026-03-10T02:00:00+00:00", "the disk is full"))
    (message,) = hook.received
    assert message["text"] == "critical: run of job nightly of 2026-03-10T02:00:00+00:00 failed: the disk is full"

    @dg.job(name="nightly")
    def works() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        run = works.execute_in_process(instance=instance)
        context = dg.build_run_status_sensor_context(
            "succeeded_runs", run.get_run_success_event(), instance, instance.get_run_by_id(run.run_id)
        )
        succeeded_runs(context)
    assert [row["state"] for row in rows_of(home, "SELECT state FROM bts.alert_status")] == ["cleared"]


def test_a_job_that_fails_at_the_command_line_is_told_of_even_without_a_database(home: Home, hook: Receiver) -> None:
    tell_of_failure(home.settings, "nightly", RuntimeError("one line\nand another"))
    gone = load_settings(
        home=home.settings.home, database_url="postgresql://u@127.0.0.1:1/nothing", alert_webhook=hook.url
    )
    tell_of_failure(gone, "nightly", RuntimeError("no Postgres answers"))
    assert [message["text"] for message in hook.received] == [
        "critical: run of job nightly failed: one line",
        "critical: run of job nightly failed: no Postgres answers",
    ]

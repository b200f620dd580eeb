"""A missing night is backfilled as Dagster's page asks for it: by its GraphQL, its daemon, its own code server."""

import logging
import time
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.test.utils import execute_dagster_graphql
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

BY_NIGHT: Final = ("station_forecasts", "data_profile", "forecast_scores", "drift", "site_power")
#: What the page sends when "Materialize" is confirmed.
LAUNCH: Final = """
    mutation LaunchPartitionBackfill($backfillParams: LaunchBackfillParams!) {
      launchPartitionBackfill(backfillParams: $backfillParams) {
        __typename
        ... on LaunchBackfillSuccess { backfillId }
        ... on PythonError { message }
      }
    }
"""
PATIENCE: Final = 180
#: Runs are launched at once: the queue, and the daemon that empties it, are not what is looked at.
AT_ONCE: Final = {"run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}}


@pytest.fixture
def home(make_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A home whose champion was trained until 2026-03-10, with observations until the 13th, found by its settings."""
    made = make_home(**SMALL)
    found_by_settings(made, monkeypatch)
    serving_version(made, simple_bundle())
    write(tmp_path / "landing", "a.csv", *hourly(range(-24, 84)))
    take_in(made, tmp_path / "landing")
    observe_due(made)
    return made


def ended(process: WorkspaceProcessContext, backfill_id: str) -> BulkActionStatus:
    """The daemon's loop until a backfill has ended; its status."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        errors = [error for error in execute_backfill_iteration(process, logging.getLogger("daemon")) if error]
        assert not errors, errors
        backfill = process.instance.get_backfill(backfill_id)
        assert backfill is not None
        if backfill.status != BulkActionStatus.REQUESTED:
            return backfill.status
        time.sleep(0.2)
    told = [(run.status, run.tags) for run in process.instance.get_runs()]
    raise AssertionError(f"the backfill did not end: {told}")


@pytest.mark.slow
def test_a_missing_night_that_the_page_asks_for_is_made_by_one_run_and_labelled_as_past(home: Any) -> None:
    target = ModuleTarget("bts_assets.definitions", attribute=None, working_directory=None, location_name="bts")
    params = {"partitionNames": ["2026-03-11"], "assetSelection": [{"path": [name]} for name in BY_NIGHT], "tags": []}
    with dg.instance_for_test(overrides=AT_ONCE) as instance, WorkspaceProcessContext(instance, target) as process:
        asked = execute_dagster_graphql(process.create_request_context(), LAUNCH, {"backfillParams": params})
        answer = asked.data["launchPartitionBackfill"]
        assert answer["__typename"] == "LaunchBackfillSuccess", answer
        assert ended(process, answer["backfillId"]) == BulkActionStatus.COMPLETED_SUCCESS
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.SUCCESS
        assert run.tags["dagster/backfill"] == answer["backfillId"]
        filled = {name: instance.get_materialized_partitions(dg.AssetKey(name)) for name in BY_NIGHT}
    assert list(filled.values()) == [{"2026-03-11"}] * len(BY_NIGHT)
    (batch,) = rows_of(home, "SELECT kind, issued_at::text AS at, dagster_run_id FROM bts.batch")
    assert (batch["kind"], batch["at"][:16], batch["dagster_run_id"]) == (
        "retrospective",
        "2026-03-11 02:00",
        run.run_id,
    )

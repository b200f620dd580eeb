"""The asset `alerts`, and the sensors that keep watch between nights: what they tell is decided in `services`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import dagster as dg

from bts_assets.defs.drift import drift
from bts_assets.defs.failed_runs import LISTENERS, FailedRun
from bts_assets.defs.forecast_scores import forecast_scores
from bts_assets.defs.measured import measured
from bts_assets.defs.night import Night
from bts_assets.defs.site_power import site_power
from bts_assets.defs.translate import check_spec, table_schema
from bts_assets.services import alerts as watching
from bts_assets.services.delivery import Delivered, deliver
from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage import alert_tables

log = logging.getLogger(__name__)


@dg.asset(
    deps=[forecast_scores, site_power, drift],
    group_name="nightly",
    kinds={"postgres"},
    op_tags={"dagster/priority": "-1"},
    metadata={"dagster/column_schema": table_schema(alert_tables.alert), "dagster/table_name": "bts.alert"},
    check_specs=[
        check_spec(
            "everybody_was_told",
            "alerts",
            "every channel took what it was sent",
            "bts alerts test says which channel fails and why; messages are sent again by themselves",
        )
    ],
)
@measured
def alerts(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """Breaches, silent stations, drift, late nights and failed runs that people are told of; read bts.alert_status."""
    home = night.home
    checked, delivered, error = watching.Checked(), Delivered(), None
    try:
        # That this asset is reached is what ends the failure of a night; whatever it meets itself costs none.
        watching.run_succeeded(home, context.job_name, night.now)
        checked = watching.check(home, night.now)
        delivered = deliver(home, night.now)
    except Exception as fault:
        error = f"{type(fault).__name__}: {fault}".splitlines()[0]
        context.log.warning("alerts could not be told: %s", error)
    failed = [*delivered.failed, *([error] if error else [])]
    return dg.MaterializeResult(
        metadata={
            "raised": checked.raised,
            "cleared": checked.cleared,
            "messages_sent": delivered.sent,
            "messages_waiting": delivered.waiting,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="everybody_was_told",
                passed=not failed,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"failed": "; ".join(failed)} if failed else {},
            )
        ],
    )


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="looks at all that people are alerted of, and sends what is new: bts alerts lists it",
)
def alert_watch() -> dg.SkipReason:
    """Every minute: is the night late, is a limit passed, is anybody still to be told?"""
    now = datetime.now(UTC)
    with _home() as home:
        checked = watching.check(home, now)
        delivered = deliver(home, now)
    return dg.SkipReason(
        f"{checked.raised} raised, {checked.cleared} cleared, {delivered.sent} messages sent,"
        f" {len(delivered.failed)} failed"
    )


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.SUCCESS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="ends the alert of a job's failure once a run of it succeeds",
)
def succeeded_runs(context: dg.RunStatusSensorContext) -> None:
    """Ends the alert of a job's failure once a run of it succeeds."""
    with _home() as home:
        watching.run_succeeded(home, context.dagster_run.job_name, datetime.now(UTC))


def _tell(failed: FailedRun) -> None:
    now = datetime.now(UTC)
    with _home() as home:
        watching.run_failed(home, failed.job, failed.reason, now, failed.as_of)
        deliver(home, now)


LISTENERS.append(_tell)


@contextmanager
def _home() -> Iterator[Home]:
    home = open_home(load_settings(), migrates=False)
    try:
        yield home
    finally:
        home.engine.dispose()

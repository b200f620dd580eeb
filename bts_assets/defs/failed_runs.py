"""What is told of a run that failed: by the log now, and by whoever listens. What to do is not decided here."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import dagster as dg

from bts_assets.defs.partitions import nights_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FailedRun:
    """A run that failed. as_of: the origin or nights that it was asked for, if any; reason: one line."""

    job: str
    run_id: str
    as_of: str | None
    reason: str


def _log(failed: FailedRun) -> None:
    of = f" of {failed.as_of}" if failed.as_of else ""
    log.error("run %s of job %s%s failed: %s", failed.run_id, failed.job, of, failed.reason)


#: Called with each failed run; that people are told of it is entered by `alerts`.
LISTENERS: Final[list[Callable[[FailedRun], None]]] = [_log]


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="tells of every run that failed, within a minute",
)
def failed_runs(context: dg.RunFailureSensorContext) -> None:
    """Tells of every run that failed, within a minute."""
    tell(failed_run(context))


def failed_run(context: dg.RunFailureSensorContext) -> FailedRun:
    run = context.dagster_run
    config: Any = run.run_config
    night = config.get("resources", {}).get("night", {}).get("config", {})
    as_of = night.get("as_of") or " to ".join(str(day) for day in _ends(nights_of(run.tags))) or None
    return FailedRun(run.job_name, run.run_id, as_of, _reason(context))


def _ends(nights: list[date]) -> list[date]:
    return sorted({nights[0], nights[-1]}) if nights else []


def tell(failed: FailedRun) -> None:
    """Tell every listener; one that fails keeps the others from nothing."""
    for listener in LISTENERS:
        try:
            listener(failed)
        except Exception:
            log.exception("a listener could not be told of run %s", failed.run_id)


def _reason(context: dg.RunFailureSensorContext) -> str:
    """The innermost cause, whose first line is the one that an operator would see on the terminal."""
    events = [context.failure_event, *context.get_step_failure_events()]
    error = next((e for event in events if (e := getattr(event.event_specific_data, "error", None))), None)
    while error is not None and error.cause is not None:
        error = error.cause
    text = error.message if error else context.failure_event.message or "no reason was recorded"
    return text.strip().splitlines()[0]

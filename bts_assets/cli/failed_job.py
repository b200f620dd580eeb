"""Telling people of a job that failed at the command line, whether or not `bts up` watches."""

import logging
from datetime import UTC, datetime

from bts_assets.contracts.alerts import Event
from bts_assets.contracts.errors import BtsError
from bts_assets.services.alerts import run_failed
from bts_assets.services.delivery import deliver, send_plain
from bts_assets.services.home import open_home
from bts_assets.settings import Settings
from bts_assets.storage.failures import first_line

#: Into logs/bts.log: on standard error stands the failure itself, in one line.
log = logging.getLogger("bts.alerts")


def tell_of_failure(settings: Settings, job: str, error: Exception) -> None:
    """Alert people of a job that failed. It raises nothing; where no database can keep the alert, it is sent alone."""
    reason, now = first_line(error), datetime.now(UTC)
    try:
        home = open_home(settings, migrates=False)
        try:
            run_failed(home, job, reason, now)
            deliver(home, now)
        finally:
            home.engine.dispose()
    except Exception as fault:
        log.warning("the failure could not be kept as an alert: %s", first_line(fault))
        _tell_without_database(settings, job, reason, now)


def _tell_without_database(settings: Settings, job: str, reason: str, now: datetime) -> None:
    event = Event("failure", job, "critical", f"run of job {job} failed: {reason}", details={"reason": reason})
    try:
        send_plain(settings, event, now)
    except BtsError as fault:
        logging.getLogger(__name__).warning("nobody could be told: %s", fault)

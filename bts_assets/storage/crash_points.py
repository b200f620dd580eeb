"""Points at which a process can be told to die, by name: so that it can be proved what the next run makes of it.

    BTS_CRASH_AT=publish.after_copy bts nightly       it ends there by SIGKILL, as if out of memory
    BTS_CRASH_AT=ingest.after_commit:3 bts nightly    the third time that it comes there

Without the variable a point costs one comparison. What is done with the points is `benchmarks.torture`'s.
"""

import os
import signal
from difflib import get_close_matches
from threading import Lock
from typing import Final

from bts_assets.contracts.errors import UsageError

VARIABLE: Final = "BTS_CRASH_AT"

#: Point -> what is done by then, and what is not.
POINTS: Final = {
    "landing.after_look": "the folder was listed, no file read",
    "landing.after_read": "a file's bytes were read and its mark stands",
    "landing.after_parse": "a group of files was parsed, nothing of it rests",
    "ingest.after_group": "the first rows of its Parquet file are written under a passing name, others are not",
    "ingest.after_partial": "its Parquet file is written under a passing name",
    "ingest.after_rename": "its Parquet file has its name, the ledger does not know of it",
    "ingest.after_entry": "the ledger rows of a group are entered, nothing committed",
    "ingest.before_commit": "all that belongs to a group of files is entered, nothing committed",
    "ingest.after_commit": "a group of files is committed, the next is not",
    "observe.after_read": "a part of the stations was computed from the days' files, nothing of it stored",
    "observe.after_remove": "the blocks that differ are deleted, the new ones not inserted",
    "observe.before_commit": "days are replaced and logged, nothing committed",
    "observe.after_commit": "a stretch of days is committed",
    "training.after_fit": "a version is fitted, nothing of it rests",
    "training.after_partial": "its bundle is written under a passing name",
    "training.after_keep": "its bundle has its name, no one knows of it",
    "registration.after_run": "MLflow has an empty run",
    "registration.after_log": "the run has its figures, no model",
    "registration.after_model": "the registry has the model, Postgres has no version",
    "training.after_entry": "the version is committed, no champion",
    "promotion.before_commit": "decision and champion are entered, nothing committed",
    "promotion.after_commit": "the champion is committed, MLflow's alias does not follow",
    "promotion.after_alias": "the alias follows, the runs are not told",
    "recalibration.after_update": "tonight's recalibration is computed, nothing stored",
    "publish.after_batch": "a batch's row is entered, no part of it made",
    "publish.after_check": "a part of it is made and checked, nothing of the part stored",
    "publish.after_ledger": "the part's forecast ledger is loaded, no forecast",
    "publish.after_copy": "the part's forecasts are loaded, nothing committed",
    "recalibration.after_keep": "its recalibration is stored, nothing committed",
    "publish.before_commit": "the pointer is moved, nothing committed",
    "publish.after_commit": "readers see the batch, nobody was told",
    "rollback.after_load": "the other version's batch is loaded, nobody serves it",
    "rollback.after_champion": "the champion is entered, the pointer not, nothing committed",
    "rollback.before_commit": "champion and pointer are moved, nothing committed",
    "rollback.after_commit": "the rollback is committed, MLflow does not know",
    "scoring.after_delete": "a batch's old scores are deleted, no new one stored",
    "scoring.after_score": "a part of its stations is scored, nothing of the part stored",
    "scoring.before_commit": "its scores are replaced, nothing committed",
    "scoring.after_commit": "its scores are committed",
    "retention.after_forecasts": "a batch's forecasts are deleted, its row does not say so",
    "retention.after_batch": "a batch's deletion is committed",
    "retention.after_blocks": "a day's observations are deleted, the log does not say so",
    "retention.after_day": "a day's deletion is committed",
    "retention.after_mark": "the ledger says that files are gone, and they are not",
    "retention.after_file": "one of them is gone",
}

_lock = Lock()
_due: str | None = None
_times = 1


def arm(where: str | None) -> None:
    """Have this process die at a point, `name` or `name:times`; None: at none.

    Raises:
        UsageError: if there is no such point: a process that does not die would prove nothing.
    """
    global _due, _times
    name, _, times = (where or "").partition(":")
    if name and name not in POINTS:
        near = get_close_matches(name, POINTS, n=1)
        hint = f"did you mean {near[0]}?" if near else "bts_assets/storage/crash_points.py lists them"
        raise UsageError(f"{VARIABLE}={where}: there is no point {name}; {hint}")
    if times and (not times.isdecimal() or int(times) < 1):
        raise UsageError(f"{VARIABLE}={where}: {times} is no number of times; write for example {name}:3")
    _due, _times = name or None, int(times or 1)


def crash_point(name: str) -> None:
    """End the process here, if it was told to."""
    if name == _due:
        _come_to(name)


def _come_to(name: str) -> None:
    global _times
    with _lock:
        _times -= 1
        if _times == 0:
            os.write(2, f"crash point {name}\n".encode())
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(VARIABLE))

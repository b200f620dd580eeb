"""The edge of the command line: what escapes a command ends here, in one line on standard error and an exit code."""

import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bts_assets.contracts.errors import DEFECT, BtsError, DiskError

#: Postgres makes room for its log in files of this size (a WAL segment).
_LEAST_FREE: Final = 16 << 20

#: Settings that a command line can give too, and by which option.
_OPTIONS: Final = {
    "BTS_STEP": "--step",
    "BTS_CONTEXT": "--context",
    "BTS_HORIZON": "--horizon",
    "BTS_TRAINING_EFFORT": "--effort",
    "BTS_LANDING_DIR": "--landing",
}

_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def run(command: Callable[[], object]) -> None:
    """Call a command; end the process with the exit code of what it met, if it met anything.

    What a user can act on is one line. Anything else is a defect: its traceback goes into a file, which the line names.
    """
    _tame_warnings()
    try:
        command()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except Exception as error:
        # Only now: a command that goes well need not wait for what explains failures.
        from bts_assets.contracts.catalogue import CatalogueError
        from bts_assets.storage.failures import explained, first_line

        told = explained(error)
        if told is None:
            _complain(f"this is a defect, not a mistake of yours: {type(error).__name__}: {first_line(error)};"
                      f" please report it with {_kept(error)}")  # fmt: skip
            sys.exit(DEFECT)
        told = _full_disk_behind(told) or told
        # A catalogue is told of all its mistakes at once, each in a line.
        for line in str(told).splitlines() if isinstance(told, CatalogueError) else [str(told)]:
            _complain(as_given(line, sys.argv[1:]))
        sys.exit(told.exit_code)


def as_given(told: str, arguments: Sequence[str]) -> str:
    """A message in the words of who reads it: `--step 7min` where that was typed, not the setting BTS_STEP."""
    names = {argument.split("=")[0] for argument in arguments}
    for setting, option in _OPTIONS.items():
        if option in names:
            told = re.sub(rf"\b{setting}\b", option, told.replace(f"{setting}=", f"{option} "))
    return told


def _full_disk_behind(told: BtsError) -> DiskError | None:
    """The full disk of an embedded server that is gone: it ends when it cannot write its log, and cannot say so."""
    from bts_assets.storage.embedded.host import EmbeddedPostgresError
    from bts_assets.storage.failures import ServerGone

    if not isinstance(told, ServerGone | EmbeddedPostgresError) or os.environ.get("BTS_DATABASE_URL"):
        return None
    home = logs_folder().parent
    free = shutil.disk_usage(home).free if home.is_dir() else _LEAST_FREE
    if free >= _LEAST_FREE:
        return None
    return DiskError(
        f"the disk of {home} is full (No space left on device: {free >> 20} MiB are free, and Postgres needs"
        f" {_LEAST_FREE >> 20}): make room, and run it again; {told}"
    )


def _complain(text: str) -> None:
    from rich.markup import escape

    from bts_assets.cli.render.terminal import err

    err.print(f"[red]bts:[/red] {escape(' '.join(text.split()))}")


def _kept(error: BaseException) -> Path:
    """The file that a traceback was written into."""
    name = f"defect-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.txt"
    text = "".join(traceback.format_exception(error))
    for folder in (logs_folder(), Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"bts {' '.join(sys.argv[1:])}\n\n{text}", encoding="utf-8", errors="replace")
        except OSError:
            continue
        return folder / name
    sys.stderr.write(text)
    return Path("the lines above")


def logs_folder() -> Path:
    """Where this home's logs are, whatever else is wrong with the settings."""
    return Path(os.environ.get("BTS_HOME") or ".bts").expanduser().absolute() / "logs"


def _tame_warnings() -> None:
    """What our own code warns of is one line on standard error; what libraries do, with their tracebacks, is in a file.

    A database that goes away makes the connection pool, Dagster and MLflow each tell their side of it.
    """
    root = logging.getLogger()
    root.addHandler(_OwnWarnings())
    root.addHandler(_LibraryWarnings())
    logging.raiseExceptions = False
    threading.excepthook = _of_thread


class _OwnWarnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(lambda record: record.name.startswith("bts_assets"))

    def emit(self, record: logging.LogRecord) -> None:
        from bts_assets.cli.render.terminal import err

        err.print(" ".join(record.getMessage().split()), markup=False)


class _LibraryWarnings(logging.Handler):
    """Appends to logs/bts.log; opened at its first record, for most commands have none."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter(_FORMAT))
        self.addFilter(lambda record: not record.name.startswith("bts_assets"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # A command that only looks makes no home.
            if (folder := logs_folder()).parent.is_dir():
                folder.mkdir(exist_ok=True)
                with (folder / "bts.log").open("a", encoding="utf-8", errors="replace") as log:
                    log.write(f"{self.format(record)}\n")
        except OSError:
            return


def _of_thread(hook: threading.ExceptHookArgs) -> None:
    logging.getLogger("threading").warning("a thread ended", exc_info=hook.exc_value)

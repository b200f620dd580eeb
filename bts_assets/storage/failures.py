"""What Postgres, its driver and the disk say of themselves, as one line that a user can act on: by code."""

import errno
import re
from collections.abc import Iterator
from typing import Final

import psycopg2
from sqlalchemy import exc

from bts_assets.contracts.errors import DATABASE, BtsError, DiskError, InputError


class DatabaseError(BtsError):
    """The database cannot be reached or used as it is."""

    exit_code = DATABASE


class ServerGone(DatabaseError):
    """No server answers, or it went away in the middle: what it said last, if anything, is in its log."""


_LOST: Final = "the connection to Postgres was lost: {said}; run it again: what was not committed is not there"
_DENIED: Final = (
    "the role may not do this: {said}; grant it, or let the owner of schema bts run bts migrate (docs/operations.md)"
)
_OTHER_SCHEMA: Final = "schema bts is not as this version of bts expects it: {said}; bts doctor says why"
_NOT_UTF8: Final = (
    "the database cannot hold this text: {said}; use a database with ENCODING 'UTF8' (bts doctor checks it)"
)
_BROKEN: Final = "Postgres cannot use its files: {said}; see its log and its disk"

#: SQLSTATE, or the beginning of it -> what it means here; the longest that fits counts. What is not listed is a defect
#: of ours: a constraint that we broke, a statement that we misspelt.
_MEANING: Final[dict[str, str]] = {
    "08": _LOST,
    "57P01": _LOST,
    "57P02": _LOST,
    "57P05": _LOST,
    "25P03": _LOST,
    "25P04": _LOST,
    "57P03": "Postgres is starting or stopping: {said}; try again in a moment",
    "57014": "Postgres ended a statement before it was done: {said}; raise statement_timeout, or ask for less",
    "53": "Postgres has too little of what it needs: {said}; end other sessions, or raise its limits",
    "53300": "Postgres has no connection left for this: {said}; end other sessions, or raise max_connections",
    "54": "a limit of Postgres was met: {said}",
    "55P03": "another session held a lock for longer than BTS_LOCK_TIMEOUT: {said}; try again when it is done",
    "40": "another session was in the way: {said}; run it again",
    "25006": "this database can only be read: {said}; a hot standby, or default_transaction_read_only: use the primary",
    "42501": _DENIED,
    "28": "Postgres does not let this user in: {said}; see user and password of the URL",
    "3D": "there is no such database: {said}; create it, or see the URL",
    "3F": _OTHER_SCHEMA,
    "42P01": _OTHER_SCHEMA,
    "42703": _OTHER_SCHEMA,
    "42883": _OTHER_SCHEMA,
    "22021": _NOT_UTF8,
    "22P05": _NOT_UTF8,
    "58": _BROKEN,
    "XX": _BROKEN,
    "F0": _BROKEN,
}
_FULL: Final = "the disk of Postgres is full: {said}; make room, and run it again: what was not committed is not there"
#: As Postgres says it of whatever file it could not make longer, where it has no code of its own for that.
_FULL_TEXT: Final = re.compile(r"No space left on device|File too large|Disk quota exceeded")

#: User and password within a URL, and a password in a connection string: not to be told.
_SECRETS: Final = (re.compile(r"(?<=://)[^/\s@]*@"), re.compile(r"(?<=password=)[^\s&]+"))
#: Their errors say by their context what happened; of anything else's, the context may be what it was handling.
_WRAPPERS: Final = ("dagster", "sqlalchemy", "mlflow", "alembic")


def explained(error: BaseException) -> BtsError | None:
    """The first cause of an error that a user can act on, in one line; None: it is a defect."""
    for cause in causes(error):
        if isinstance(cause, BtsError):
            return cause
        if isinstance(cause, psycopg2.Error):
            return _of_postgres(cause)
        if isinstance(cause, exc.PendingRollbackError):
            return DatabaseError(_LOST.format(said="a statement before this one found it gone"))
        if isinstance(cause, exc.TimeoutError):
            return DatabaseError(_MEANING["53300"].format(said=first_line(cause)))
        if isinstance(cause, OSError) and (told := _of_system(cause)):
            return told
    return None


def first_line(error: BaseException) -> str:
    """What an error says, in one line and without secrets."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    for secret in _SECRETS:
        said = secret.sub("", said)
    return said


def causes(error: BaseException, *, every_context: bool = False) -> Iterator[BaseException]:
    """The error, then what it wraps, outermost first.

    every_context: also what was being handled when it was raised, where `from None` keeps that off the terminal.
    """
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        cause = todo.pop(0)
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        wraps = type(cause).__module__.split(".")[0].startswith(_WRAPPERS)
        todo += [getattr(cause, "user_exception", None), getattr(cause, "orig", None), cause.__cause__]
        todo += [cause.__context__] if wraps or every_context else []


def _of_postgres(error: psycopg2.Error) -> BtsError | None:
    said, code = first_line(error), error.pgcode
    if code == "53100" or _FULL_TEXT.search(said):
        return DiskError(_FULL.format(said=said))
    if code is None:
        # The driver speaks, not the server: there is no server, or none any more. Of its other errors we are the cause.
        gone = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
        connecting = "connection to server" in said or "could not translate host name" in said
        meaning = "no Postgres answers: {said}" if connecting else _LOST
        return ServerGone(meaning.format(said=said)) if gone else None
    meaning = next((_MEANING[code[:n]] for n in (5, 3, 2) if code[:n] in _MEANING), "")
    kind = ServerGone if meaning == _LOST else DatabaseError
    return kind(meaning.format(said=said)) if meaning else None


def _of_system(error: OSError) -> BtsError | None:
    where = error.filename or "the disk"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskError(f"{where}: {error.strerror}; make room, and run it again")
    if error.filename is None:
        return None
    return InputError(f"{where}: {error.strerror}; check the path, its permissions and the space on its disk")

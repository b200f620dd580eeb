"""Which faults of the database can pass by themselves, so that trying again makes sense; not trying again."""

from collections.abc import Iterator
from typing import Final

import psycopg2

#: serialization_failure, deadlock_detected, lock_not_available, too_many_connections, and what a server says that
#: goes away or comes up: admin_shutdown, crash_shutdown, cannot_connect_now.
_STATES: Final = frozenset({"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"})
_CONNECTION_EXCEPTIONS: Final = "08"
#: What a server says while it goes away or comes up, where libpq hands on no SQLSTATE.
_IN_BETWEEN: Final = ("the database system is", "terminating connection", "too many clients")


def can_pass(error: BaseException) -> bool:
    """Whether a lock, a lost connection or a failed serialization is behind an error; not a defect, nor bad input."""
    return any(_passes(cause) for cause in _causes(error) if isinstance(cause, psycopg2.Error))


def _passes(error: psycopg2.Error) -> bool:
    state = error.pgcode
    if state is not None:
        return state in _STATES or state.startswith(_CONNECTION_EXCEPTIONS)
    if isinstance(error, psycopg2.InterfaceError):
        return "already closed" in str(error)
    # Without a SQLSTATE it is libpq's: nobody answers, or the connection is gone. A refusal (a wrong password, no such
    # database) is the server's own FATAL, and stays.
    told = str(error)
    return isinstance(error, psycopg2.OperationalError) and (
        "FATAL:" not in told or any(words in told for words in _IN_BETWEEN)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and all that it came from, also where `from None` keeps that off the terminal."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        cause = waiting.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        waiting += [cause.__cause__, cause.__context__, getattr(cause, "orig", None)]

"""Which faults of the database can pass by themselves, so that trying again makes sense; not trying again."""

from typing import Final

import psycopg2

from bts_assets.storage.failures import causes

#: serialization_failure, deadlock_detected, lock_not_available, too_many_connections, and what a server says that
#: goes away or comes up: admin_shutdown, crash_shutdown, cannot_connect_now.
_STATES: Final = frozenset({"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"})
_CONNECTION_EXCEPTIONS: Final = "08"
#: What a server says while it goes away or comes up, where libpq hands on no SQLSTATE.
_IN_BETWEEN: Final = ("the database system is", "terminating connection", "too many clients")


def can_pass(error: BaseException) -> bool:
    """Whether a lock, a lost connection or a failed serialization is behind an error; not a defect, nor bad input."""
    return any(_passes(cause) for cause in causes(error, every_context=True) if isinstance(cause, psycopg2.Error))


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

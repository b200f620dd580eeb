"""What holds in every transaction of an engine: its settings, and that it only reads. Nothing rests with a session.

A pool that lends its sessions by the transaction (PgBouncer in transaction mode) refuses settings at the start of a
session, or drops them, and gives the next transaction to another session. So each transaction begins with all that it
needs, on every server alike: one way for all is one that every test goes through, and nothing has to be found out about
what answers at a URL, which may change after the look. It costs one message to the server a transaction, 0.05 ms on
loopback; a small night has some twenty transactions.
"""

import re
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from bts_assets.storage.failures import DatabaseError

#: Their values are lists of names; in quotes as a whole, a list would be one name.
_LISTS: Final = ("search_path", "temp_tablespaces")
_SETTING: Final = re.compile(r"(?:-c|--)([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)


def hold_in_transactions(engine: sa.Engine, settings: Mapping[str, str], *, read_only: bool) -> None:
    """Let every transaction of the engine begin with these settings, and, if so asked, be unable to write.

    Not in statements outside of transactions (AUTOCOMMIT): they have what the server gives the role.
    """
    # SET, and no SELECT set_config(): after a query it is too late to take over another transaction's snapshot.
    begin = "; ".join([*(["SET TRANSACTION READ ONLY"] if read_only else []), *map(_set_local, settings.items())])
    statement = begin.replace("%", "%%")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if not statement or connection.connection.dbapi_connection.autocommit:  # type: ignore[union-attr]
            return
        try:
            connection.exec_driver_sql(statement)
        except BaseException:
            connection.close()  # SQLAlchemy would let it go on outside of transactions, and never commit
            raise


def asked_settings(options: str) -> dict[str, str]:
    """Name -> value of what `options` of a libpq URL set: `-c NAME=VALUE` or `--NAME=VALUE`; a backslash keeps a blank.

    Raises:
        DatabaseError: if anything else is among them.
    """
    words = [re.sub(r"\\(.)", r"\1", word) for word in re.findall(r"(?:\\.|[^\s\\])+", options)]
    # `-c` may stand apart.
    joined = re.sub(r"(?:^|\0)-c\0", "\0-c", "\0".join(words)).split("\0")
    asked: dict[str, str] = {}
    for word in filter(None, joined):
        found = _SETTING.fullmatch(word)
        if found is None:
            raise DatabaseError(
                f"options of BTS_DATABASE_URL has {word!r}: write settings, for example"
                " ?options=-c%20statement_timeout%3D60s"
            )
        asked[found[1].replace("-", "_")] = found[2]
    return asked


def _set_local(setting: tuple[str, str]) -> str:
    name, value = setting
    parts = [part.strip().strip('"') for part in value.split(",")] if name.lower() in _LISTS else [value]
    quoted = ", ".join("'" + part.replace("'", "''") + "'" for part in parts)
    quoted_name = ".".join(f'"{part}"' for part in name.split("."))
    return f"SET LOCAL {quoted_name} = {quoted}"

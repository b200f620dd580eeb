"""That no two batches are the same: `uq_batch_identity`, laid down by revisions, on servers that cannot say it too."""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

#: The first version with NULLS NOT DISTINCT.
_NULLS_ALIKE: Final = 150_000
#: Before it: what stands for a null of the columns that may have one, and is no value of theirs.
_STANDS_FOR_NULL: Final = {"canary_version_id": "-1", "canary_share": "-1", "recalibration_digest": "''"}


def identify_batches_by(connection: sa.Connection, columns: Sequence[str]) -> None:
    """Let these columns of `bts.batch` tell its rows apart, a null being like every other, in place of those before."""
    forget_identity_of_batches(connection)
    if _version(connection) >= _NULLS_ALIKE:
        rule = f"UNIQUE NULLS NOT DISTINCT ({', '.join(columns)})"
        connection.exec_driver_sql(f"ALTER TABLE bts.batch ADD CONSTRAINT uq_batch_identity {rule}")
    else:
        told = [f"coalesce({c}, {_STANDS_FOR_NULL[c]})" if c in _STANDS_FOR_NULL else c for c in columns]
        connection.exec_driver_sql(f"CREATE UNIQUE INDEX uq_batch_identity ON bts.batch ({', '.join(told)})")


def forget_identity_of_batches(connection: sa.Connection) -> None:
    """Whichever it is: a database may have moved here from an older server."""
    connection.exec_driver_sql("ALTER TABLE bts.batch DROP CONSTRAINT IF EXISTS uq_batch_identity")
    connection.exec_driver_sql("DROP INDEX IF EXISTS bts.uq_batch_identity")


def _version(connection: sa.Connection) -> int:
    return int(connection.exec_driver_sql("SELECT current_setting('server_version_num')").scalar_one())

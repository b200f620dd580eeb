"""The table of locks, which is there before the first revision; how it is used is in `postgres`."""

import sqlalchemy as sa

from bts_assets.storage.columns import column, metadata

lock = sa.Table(
    "lock",
    metadata,
    column("lock_id", sa.Integer, "number of the lock", primary_key=True, autoincrement=False),
    column("name", sa.Text, "what its holder is doing"),
    comment="what one process at a time may do: its row is locked (FOR UPDATE) as long as that lasts",
)

"""lock by rows that readers cannot lock

Revision ID: 0010
Revises: 0009
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_LOCKS = {
    0x42545301: "migrating",
    0x42545302: "taking in files",
    0x42545303: "publishing",
    0x42545304: "promoting a model",
}


def upgrade() -> None:
    # It may be there: who migrates holds one of its rows.
    op.execute("""
        CREATE TABLE IF NOT EXISTS bts.lock (
            lock_id integer NOT NULL, name text NOT NULL, CONSTRAINT pk_lock PRIMARY KEY (lock_id))
    """)
    op.execute(
        "COMMENT ON TABLE bts.lock IS"
        " 'what one process at a time may do: its row is locked (FOR UPDATE) as long as that lasts'"
    )
    op.execute("COMMENT ON COLUMN bts.lock.lock_id IS 'number of the lock'")
    op.execute("COMMENT ON COLUMN bts.lock.name IS 'what its holder is doing'")
    for number, name in _LOCKS.items():
        op.execute(f"INSERT INTO bts.lock VALUES ({number}, '{name}') ON CONFLICT DO NOTHING")


def downgrade() -> None:
    op.drop_table("lock", schema="bts")

"""say with each batch when its successor is due, so that a missed night shows by BTS_READY_BY

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COMMENT = "when the batch of the next night is due (BTS_READY_BY), UTC; null: its code did not say"


def upgrade() -> None:
    due = sa.Column("successor_due_at", sa.DateTime(timezone=True), nullable=True, comment=_COMMENT)
    op.add_column("batch", due, schema="bts")


def downgrade() -> None:
    op.drop_column("batch", "successor_due_at", schema="bts")

"""keep the readings of small landing files in a table: a Parquet file each costs more than the readings in it

Revision ID: 0024
Revises: 0023
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "landing_reading",
        sa.Column("digest", sa.CHAR(length=64), nullable=False, comment="SHA-256 of the landing file's bytes"),
        sa.Column(
            "readings",
            sa.LargeBinary(),
            nullable=False,
            comment="SHA-256 of the digest and what follows; then 36 bytes a reading, in order of series and time:"
            " id (int64, -1: none), station (int64), parameter (int32), time (int64, us since 1970), value (float64),"
            " little-endian",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_landing_reading")),
        schema="bts",
        comment="readings of landing files that have few; those of all others are Parquet files in the home",
    )


def downgrade() -> None:
    # Older code finds no readings of these landing files, and takes them in again where they still are.
    op.drop_table("landing_reading", schema="bts")

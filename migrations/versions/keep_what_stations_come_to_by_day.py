"""keep what each station comes to on each day: of a day that a late file changed, its stations alone are computed anew

Revision ID: 0025
Revises: 0024
"""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # It begins empty: days that were computed before are computed whole when a file changes them next.
    op.create_table(
        "observed_station",
        sa.Column("day", sa.Date(), nullable=False, comment="UTC day"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column(
            "digest", sa.LargeBinary(), nullable=False, comment="SHA-256 of the station's observations of the day"
        ),
        sa.Column("observations", sa.Integer(), nullable=False, comment="rows"),
        sa.Column("readings", sa.BigInteger(), nullable=False, comment="readings that made them"),
        *(
            sa.Column(name, sa.DateTime(timezone=True), nullable=False, comment=f"{which} of them, UTC")
            for name, which in (("first_observed_at", "earliest"), ("last_observed_at", "latest"))
        ),
        *(
            sa.Column(name, sa.BigInteger(), nullable=False, comment="as in observed_day")
            for name in ("repeated", "corrected", "contradicted", "ids_ignored")
        ),
        sa.PrimaryKeyConstraint("day", "station_id", name=op.f("pk_observed_station")),
        schema="bts",
        comment="what each station came to when a day was last computed; bts.observed_day has what all come to",
    )


def downgrade() -> None:
    op.drop_table("observed_station", schema="bts")

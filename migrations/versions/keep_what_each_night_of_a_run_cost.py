"""keep what each night of a run cost, so that a backfill of several tells them apart

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "night_part",
        sa.Column("run_id", sa.Text(), nullable=False, comment="the Dagster run"),
        sa.Column("stage", sa.Text(), nullable=False, comment="the asset"),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False, comment="origin of the night, UTC"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="when it began, UTC"),
        sa.Column("wall_seconds", sa.DOUBLE_PRECISION(), nullable=False, comment="time that it took, seconds"),
        sa.Column(
            "cpu_seconds",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="processor time of the process, its threads and ended children, seconds",
        ),
        sa.Column(
            "peak_bytes",
            sa.BigInteger(),
            nullable=False,
            comment="most memory that the process held since the stage began, bytes",
        ),
        sa.Column(
            "rows", sa.BigInteger(), nullable=True, comment="rows that it read, computed or stored; null: it has none"
        ),
        sa.Column("bytes", sa.BigInteger(), nullable=True, comment="bytes of them, where it is known"),
        sa.Column("failed", sa.Boolean(), nullable=False, comment="whether it ended with an error"),
        sa.PrimaryKeyConstraint("run_id", "stage", "issued_at", name=op.f("pk_night_part")),
        schema="bts",
        comment="what each night of a stage of a run cost, where a stage goes night by night; a few rows a night",
    )
    op.create_index(op.f("ix_night_part_issued_at"), "night_part", ["issued_at"], unique=False, schema="bts")


def downgrade() -> None:
    op.drop_index(op.f("ix_night_part_issued_at"), table_name="night_part", schema="bts")
    op.drop_table("night_part", schema="bts")

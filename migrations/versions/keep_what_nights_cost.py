"""keep what each stage of a night cost

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "night_stage",
        sa.Column("run_id", sa.Text(), nullable=False, comment="the Dagster run"),
        sa.Column("stage", sa.Text(), nullable=False, comment="the asset"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="when it began, UTC"),
        sa.Column("wall_seconds", sa.DOUBLE_PRECISION(), nullable=False, comment="time that it took, seconds"),
        sa.Column(
            "cpu_seconds",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="processor time of the process, its threads and ended children, seconds",
        ),
        sa.Column(
            "peak_bytes", sa.BigInteger(), nullable=False, comment="most memory that the process held meanwhile, bytes"
        ),
        sa.Column(
            "rows", sa.BigInteger(), nullable=True, comment="rows that it read, computed or stored; null: it has none"
        ),
        sa.Column("bytes", sa.BigInteger(), nullable=True, comment="bytes of them, where it is known"),
        sa.Column("failed", sa.Boolean(), nullable=False, comment="whether it ended with an error"),
        sa.PrimaryKeyConstraint("run_id", "stage", name=op.f("pk_night_stage")),
        schema="bts",
        comment="what each stage of each run cost; a dozen rows a night",
    )
    op.create_index(op.f("ix_night_stage_started_at"), "night_stage", ["started_at"], unique=False, schema="bts")


def downgrade() -> None:
    op.drop_index(op.f("ix_night_stage_started_at"), table_name="night_stage", schema="bts")
    op.drop_table("night_stage", schema="bts")

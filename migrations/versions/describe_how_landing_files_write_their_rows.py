"""describe how landing files write their rows, tell files without a usable row, and number what they name

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STATUS = "status in ('accepted', 'refused', 'copy', 'unusable')"
_OLD_STATUS = "status in ('accepted', 'refused', 'copy')"
_COMMENT = (
    "accepted, refused (nothing of it is used), copy (its bytes were known by another name)"
    " or unusable (no row of it could be used)"
)
_OLD_COMMENT = "accepted, refused (nothing of it is used) or copy (its bytes were known by another name)"
_REASON = "why it was refused or unusable, or what it copies"
_OLD_REASON = "why it was refused, or what it copies"


def upgrade() -> None:
    op.add_column(
        "landing_file",
        sa.Column(
            "dialect",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="how it writes its rows, and by what rules it was read; null: not kept",
        ),
        schema="bts",
    )
    _change(_STATUS, _COMMENT, _REASON)
    op.create_table(
        "landing_name",
        sa.Column("kind", sa.Text(), nullable=False, comment="station or parameter"),
        sa.Column("name", sa.Text(), nullable=False, comment="what landing files call it"),
        sa.Column(
            "number",
            sa.BigInteger(),
            nullable=False,
            comment="station_id or parameter_id that stands for it; below zero unless listed",
        ),
        sa.Column(
            "met_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was first met, UTC",
        ),
        sa.CheckConstraint("kind in ('station', 'parameter')", name=op.f("ck_landing_name_kind")),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_landing_name")),
        schema="bts",
        comment="stations and parameters that landing files name, and the numbers that stand for them",
    )
    op.create_index(
        "ix_landing_name_number",
        "landing_name",
        ["kind", "number"],
        unique=True,
        schema="bts",
        postgresql_where=sa.text("number < 0"),
    )


def downgrade() -> None:
    op.drop_table("landing_name", schema="bts")
    # As the schema before would have entered them.
    op.execute("UPDATE bts.landing_file SET status = 'accepted', reason = NULL WHERE status = 'unusable'")
    _change(_OLD_STATUS, _OLD_COMMENT, _OLD_REASON)
    op.drop_column("landing_file", "dialect", schema="bts")


def _change(status: str, comment: str, reason: str) -> None:
    op.drop_constraint(op.f("ck_landing_file_status"), "landing_file", schema="bts")
    op.create_check_constraint(op.f("ck_landing_file_status"), "landing_file", status, schema="bts")
    for name, text in (("status", comment), ("reason", reason)):
        op.execute(f"COMMENT ON COLUMN bts.landing_file.{name} IS '{text}'")

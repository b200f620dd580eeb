"""keep catalogues, and what became of readings under one id

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MERGED = {
    "repeated": "readings that say again what another says",
    "corrected": "readings that a newer file gives other content under the same id",
    "contradicted": "readings that their own file gives other content under the same id",
    "ids_ignored": "readings whose id was found to name nothing; they count by time and value",
}


def upgrade() -> None:
    op.create_table(
        "catalogue",
        sa.Column(
            "digest",
            sa.CHAR(length=64),
            nullable=False,
            comment="SHA-256 over every field of every parameter",
        ),
        sa.Column(
            "parameters",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="the rows: every column of the catalogue's CSV; null: an open end, or no limit",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was first used, UTC",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_catalogue")),
        schema="bts",
        comment="every catalogue that served, a batch or a model version was made with; a handful a year",
    )
    op.add_column(
        "observed_day",
        sa.Column(
            "rule",
            sa.CHAR(length=64),
            nullable=True,
            comment="SHA-256 of how readings make observations: use of ids, aggregations; null: older",
        ),
        schema="bts",
    )
    for name, comment in _MERGED.items():
        column = sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False, comment=comment)
        op.add_column("observed_day", column, schema="bts")


def downgrade() -> None:
    for name in ("rule", *_MERGED):
        op.drop_column("observed_day", name, schema="bts")
    op.drop_table("catalogue", schema="bts")

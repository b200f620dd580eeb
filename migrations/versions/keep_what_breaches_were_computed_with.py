"""keep with each batch the limits and the terms that its breaches were computed with, so that they can be replayed

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "limit_set",
        sa.Column("digest", sa.CHAR(64), nullable=False, comment="SHA-256 over them"),
        sa.Column(
            "limits",
            postgresql.JSONB(),
            nullable=False,
            comment="station_id, parameter_id, low and high limit of each; null: its parameter's holds",
        ),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when a batch first used them, UTC",
        ),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_limit_set")),
        schema="bts",
        comment="limits of stations as batches were made with them; a row for each change of bts.station_limit",
    )
    digest = sa.Column(
        "limits_digest",
        sa.CHAR(64),
        nullable=True,
        comment="the limits of stations that its breaches were computed with, in bts.limit_set; null: its code did not"
        " keep them",
    )
    terms = sa.Column(
        "breach_terms",
        postgresql.JSONB(),
        nullable=True,
        comment="what else they were computed with: persistence in steps, recovery, how the errors of each parameter"
        " hang together; null: its code did not keep it",
    )
    for column in (digest, terms):
        op.add_column("batch", column, schema="bts")


def downgrade() -> None:
    for column in ("breach_terms", "limits_digest"):
        op.drop_column("batch", column, schema="bts")
    op.drop_table("limit_set", schema="bts")

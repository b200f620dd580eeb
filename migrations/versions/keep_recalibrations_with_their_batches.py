"""keep with each batch the recalibration that was applied to it, and let it be part of its identity

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

from bts_assets.storage.batch_constraint import identify_batches_by

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_IDENTITY = [
    "issued_at",
    "observations_digest",
    "model_version_id",
    "catalogue_digest",
    "canary_version_id",
    "canary_share",
]
_COMMENT = "all forecasts of one origin, one input{} one model version{}; one a night"


def upgrade() -> None:
    digest = sa.Column(
        "recalibration_digest",
        sa.CHAR(64),
        nullable=True,
        comment="SHA-256 of what bts.recalibration has of it; null: intervals are as the model version states them",
    )
    op.add_column("batch", digest, schema="bts")
    identify_batches_by(op.get_bind(), [*_IDENTITY, "recalibration_digest"])
    op.create_table_comment("batch", _COMMENT.format(",", " and one recalibration"), schema="bts")
    op.create_table(
        "recalibration",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="batch"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column(
            "factors",
            sa.ARRAY(sa.REAL()),
            nullable=False,
            comment="what distances of q05, q10, q90, q95 from the median were multiplied by, for each quarter of the"
            " horizon",
        ),
        sa.Column(
            "nights",
            sa.ARRAY(sa.REAL()),
            nullable=False,
            comment="how many earlier nights speak for each, newer ones more",
        ),
        sa.Column(
            "asked",
            sa.ARRAY(sa.REAL()),
            nullable=False,
            comment="sum over these of the logarithms of the factors that they asked for",
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["bts.batch.batch_id"], name=op.f("fk_recalibration_batch_id")),
        sa.PrimaryKeyConstraint("batch_id", "station_id", "parameter_id", name=op.f("pk_recalibration")),
        schema="bts",
        comment="what earlier nights taught about the widths of intervals, as it was applied to a batch",
    )


def downgrade() -> None:
    op.drop_table("recalibration", schema="bts")
    identify_batches_by(op.get_bind(), _IDENTITY)
    op.create_table_comment("batch", _COMMENT.format(" and", ""), schema="bts")
    op.drop_column("batch", "recalibration_digest", schema="bts")

"""give every series of a batch its own digests, of which those of the batch are made

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "forecast_ledger",
        sa.Column(
            "input_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="SHA-256 of the series and its context, of which the batch's observations_digest is made; null:"
            " its code gave none",
        ),
        schema="bts",
    )
    op.add_column(
        "forecast_ledger",
        sa.Column(
            "forecast_digest",
            sa.LargeBinary(),
            nullable=True,
            comment="SHA-256 of the series and its forecast, of which the batch's forecasts_digest is made; null:"
            " excluded, or its code gave none",
        ),
        schema="bts",
    )
    op.add_column(
        "model_version",
        sa.Column(
            "training_series",
            sa.Integer(),
            nullable=True,
            comment="series that were drawn for the training; null: all that were known",
        ),
        schema="bts",
    )


def downgrade() -> None:
    op.drop_column("model_version", "training_series", schema="bts")
    op.drop_column("forecast_ledger", "forecast_digest", schema="bts")
    op.drop_column("forecast_ledger", "input_digest", schema="bts")

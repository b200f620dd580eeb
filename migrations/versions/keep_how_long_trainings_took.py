"""keep how long each version's training took: a run of MLflow that is registered late lasts as long

Revision ID: 0023
Revises: 0022
"""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "model_version",
        sa.Column(
            "training_seconds",
            sa.Double(),
            nullable=True,
            comment="how long its training took, seconds; null: not known",
        ),
        schema="bts",
    )


def downgrade() -> None:
    op.drop_column("model_version", "training_seconds", schema="bts")

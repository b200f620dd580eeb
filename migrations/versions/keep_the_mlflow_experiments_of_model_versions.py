"""keep the MLflow experiment of each version's run: MLflow's address of a run has both

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "model_version",
        sa.Column(
            "mlflow_experiment_id",
            sa.Text(),
            nullable=True,
            comment="MLflow experiment of that run; null: not known",
        ),
        schema="bts",
    )


def downgrade() -> None:
    op.drop_column("model_version", "mlflow_experiment_id", schema="bts")

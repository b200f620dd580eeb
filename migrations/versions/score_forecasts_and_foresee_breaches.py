"""score forecasts that have come true, and foresee breaches of limits

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "breach_forecast",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the batch"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column("side", sa.Text(), nullable=False, comment="high or low"),
        sa.Column(
            "limit_value",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="the limit as it stood then, in the parameter's unit",
        ),
        sa.Column(
            "probability_6h", sa.REAL(), nullable=False, comment="that a breach begins within 6 h of the origin, 0 to 1"
        ),
        sa.Column(
            "probability_24h",
            sa.REAL(),
            nullable=False,
            comment="that a breach begins within 24 h of the origin, 0 to 1",
        ),
        sa.Column(
            "probability_48h",
            sa.REAL(),
            nullable=False,
            comment="that a breach begins within 48 h of the origin, 0 to 1",
        ),
        sa.Column(
            "first_likely_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="from then on a breach is more likely than not, UTC",
        ),
        sa.Column(
            "expected_worst",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="mean over paths of the value farthest beyond the limit, in the unit",
        ),
        sa.Column(
            "expected_steps",
            sa.REAL(),
            nullable=False,
            comment="mean number of steps beyond the limit, on the paths with a breach",
        ),
        sa.CheckConstraint("side in ('high', 'low')", name=op.f("ck_breach_forecast_side")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["bts.batch.batch_id"], name=op.f("fk_breach_forecast_batch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "station_id", "parameter_id", "side", name=op.f("pk_breach_forecast")),
        schema="bts",
        comment="how likely each series with limits is to pass them, joint over the horizon; made with the batch",
    )
    op.create_table(
        "scored_batch",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the batch"),
        sa.Column(
            "ledger_seq",
            sa.BigInteger(),
            nullable=False,
            comment="newest ledger entry whose observations the scores know",
        ),
        sa.Column(
            "targets", sa.BigInteger(), nullable=False, comment="targets of the served forecasts that had come by then"
        ),
        sa.Column(
            "scored_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was scored last, UTC",
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["bts.batch.batch_id"], name=op.f("fk_scored_batch_batch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_scored_batch")),
        schema="bts",
        comment="batches that are scored, and from which observations; one whose days are computed anew is scored anew",
    )
    op.create_table(
        "forecast_score",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the batch whose origin it is"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column(
            "candidate", sa.Text(), nullable=False, comment="served: what the batch holds; else a baseline, recomputed"
        ),
        sa.Column("stretch", sa.SmallInteger(), nullable=False, comment="quarter of the horizon, from 1"),
        sa.Column("targets", sa.Integer(), nullable=False, comment="targets that have come"),
        sa.Column(
            "absolute_error",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="sum of absolute errors of the median, in the parameter's unit",
        ),
        sa.Column(
            "error", sa.DOUBLE_PRECISION(), nullable=False, comment="sum of median minus truth, in the parameter's unit"
        ),
        sa.Column(
            "pinball",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="sum of the quantile loss, mean over levels, in the parameter's unit",
        ),
        sa.Column(
            "crps",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="sum of the continuous ranked probability score, in the parameter's unit",
        ),
        sa.Column("inside80", sa.Integer(), nullable=False, comment="truths within the 80 % interval"),
        sa.Column("inside90", sa.Integer(), nullable=False, comment="truths within the 90 % interval"),
        sa.Column(
            "scale",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="MASE's denominator, of the context before the origin",
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["bts.scored_batch.batch_id"], name=op.f("fk_forecast_score_batch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "batch_id", "station_id", "parameter_id", "candidate", "stretch", name=op.f("pk_forecast_score")
        ),
        schema="bts",
        comment="what forecasts turned out to be worth: sums by series and quarter of the horizon",
    )


def downgrade() -> None:
    op.drop_table("forecast_score", schema="bts")
    op.drop_table("scored_batch", schema="bts")
    op.drop_table("breach_forecast", schema="bts")

"""sum scores by parameter and by hour of the day

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parameter_score",
        *_key("parameter_score"),
        sa.Column("stretch", sa.SmallInteger(), nullable=False, comment="quarter of the horizon, from 1"),
        sa.Column(
            "model_version_id",
            sa.BigInteger(),
            nullable=False,
            comment="version that served; of a baseline the batch's",
        ),
        sa.Column("series", sa.Integer(), nullable=False, comment="series of which targets have come"),
        *_sums(),
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
        sa.PrimaryKeyConstraint(
            "batch_id",
            "parameter_id",
            "candidate",
            "stretch",
            "model_version_id",
            name=op.f("pk_parameter_score"),
        ),
        schema="bts",
        comment="bts.forecast_score summed over series: a few hundred rows a batch, whatever the number of stations",
    )
    op.create_table(
        "hourly_score",
        *_key("hourly_score"),
        sa.Column("hour", sa.SmallInteger(), nullable=False, comment="hour of the day of the targets, UTC, 0 to 23"),
        *_sums(),
        sa.PrimaryKeyConstraint("batch_id", "parameter_id", "candidate", "hour", name=op.f("pk_hourly_score")),
        schema="bts",
        comment="what forecasts turned out to be worth: sums over series by hour of the day",
    )
    # By hour nothing can be said of them without their forecasts: the next rescoring does.
    op.execute("""
        INSERT INTO bts.parameter_score (batch_id, parameter_id, candidate, stretch, model_version_id, series, targets,
            absolute_error, error, scaled_error, scaled_targets, inside80, inside90, pinball, crps)
        SELECT s.batch_id, s.parameter_id, s.candidate, s.stretch,
               CASE WHEN s.candidate = 'served' THEN coalesce(l.model_version_id, b.model_version_id)
                    ELSE b.model_version_id END,
               count(*), sum(s.targets), sum(s.absolute_error), sum(s.error),
               coalesce(sum(s.absolute_error / s.scale) FILTER (WHERE s.scale > 0), 0),
               coalesce(sum(s.targets) FILTER (WHERE s.scale > 0), 0),
               sum(s.inside80), sum(s.inside90), sum(s.pinball), sum(s.crps)
        FROM bts.forecast_score AS s
        JOIN bts.batch AS b USING (batch_id)
        JOIN bts.forecast_ledger AS l USING (batch_id, station_id, parameter_id)
        GROUP BY 1, 2, 3, 4, 5
    """)


def downgrade() -> None:
    op.drop_table("hourly_score", schema="bts")
    op.drop_table("parameter_score", schema="bts")


def _key(table: str) -> list[sa.schema.SchemaItem]:
    """What both tables are about, before their own grouping."""
    return [
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the batch whose origin it is"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column(
            "candidate",
            sa.Text(),
            nullable=False,
            comment="served: what the batch holds; else a baseline, recomputed",
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"],
            ["bts.scored_batch.batch_id"],
            name=op.f(f"fk_{table}_batch_id"),
            ondelete="CASCADE",
        ),
    ]


def _sums() -> list[sa.Column[object]]:
    said = {
        "targets": "targets that have come",
        "absolute_error": "sum of absolute errors of the median, in the parameter's unit",
        "error": "sum of median minus truth, in the parameter's unit",
        "scaled_error": "sum of absolute errors, each divided by its series' scale",
        "scaled_targets": "targets of series that have a scale",
        "inside80": "truths within the 80 % interval",
        "inside90": "truths within the 90 % interval",
    }
    return [
        sa.Column(
            name, sa.DOUBLE_PRECISION() if name.endswith("error") else sa.BigInteger(), nullable=False, comment=comment
        )
        for name, comment in said.items()
    ]

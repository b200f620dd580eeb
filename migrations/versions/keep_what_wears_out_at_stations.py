"""keep how long batteries last, and what wears out at stations

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "station_battery",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the batch at whose origin it is"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column(
            "limit_value", sa.DOUBLE_PRECISION(), nullable=False, comment="low limit of the battery's voltage, V"
        ),
        sa.Column(
            "hours",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="hours until that limit if the grid failed at the origin",
        ),
        sa.Column("low_hours", sa.DOUBLE_PRECISION(), nullable=False, comment="lower end of their 80 % interval"),
        sa.Column("high_hours", sa.DOUBLE_PRECISION(), nullable=False, comment="upper end of their 80 % interval"),
        sa.Column("outages", sa.Integer(), nullable=False, comment="past outages that say so"),
        sa.Column(
            "falling_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="start of the outage since which it lasts less, UTC; null: no",
        ),
        sa.Column(
            "hours_before",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="hours that it lasted before that; null: it does not fall",
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["bts.batch.batch_id"], name=op.f("fk_station_battery_batch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "station_id", "parameter_id", name=op.f("pk_station_battery")),
        schema="bts",
        comment="how long each station's battery lasts, learnt from its own past outages",
    )
    op.create_table(
        "station_finding",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the batch at whose origin it was found"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column(
            "kind",
            sa.Text(),
            nullable=False,
            comment="battery, generator_load, generator_hours, generator_stood or cooling",
        ),
        sa.Column(
            "perceived_severity", sa.Text(), nullable=False, comment="ITU-T X.733: critical, major, minor or warning"
        ),
        sa.Column(
            "since", sa.DateTime(timezone=True), nullable=True, comment="since when, UTC; null: it cannot be told"
        ),
        sa.Column("what", sa.Text(), nullable=False, comment="what is unlike the station's own past"),
        sa.Column("what_to_check", sa.Text(), nullable=False, comment="what a crew should look at"),
        sa.CheckConstraint(
            "perceived_severity in ('critical', 'major', 'minor', 'warning')", name=op.f("ck_station_finding_severity")
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["bts.batch.batch_id"], name=op.f("fk_station_finding_batch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "station_id", "kind", name=op.f("pk_station_finding")),
        schema="bts",
        comment="what wears out at stations: batteries, generators, air conditioners unlike their own past",
    )


def downgrade() -> None:
    op.drop_table("station_finding", schema="bts")
    op.drop_table("station_battery", schema="bts")

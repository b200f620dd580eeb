"""keep alerts, what was told of them, silences and planned outages

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column(
            "alert_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="number of the alert, counting up",
        ),
        sa.Column("kind", sa.Text(), nullable=False, comment="breach, drift, failure, late or silent"),
        sa.Column(
            "key",
            sa.Text(),
            nullable=False,
            comment="what it is about, among alerts of its kind; one of a key is open at a time",
        ),
        sa.Column(
            "perceived_severity", sa.Text(), nullable=False, comment="ITU-T X.733: critical, major, minor or warning"
        ),
        sa.Column("station_id", sa.BigInteger(), nullable=True, comment="station; null: no station's"),
        sa.Column("parameter_id", sa.Integer(), nullable=True, comment="parameter; null: no parameter's"),
        sa.Column("summary", sa.Text(), nullable=False, comment="one line"),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="figures of its kind"),
        sa.Column(
            "expected_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it is expected, or happened, UTC; null: it says not when",
        ),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False, comment="when it was first seen, UTC"),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False, comment="when it was last seen to hold, UTC"),
        sa.Column(
            "cleared_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was found over, UTC; null: it is open",
        ),
        sa.Column(
            "acknowledged_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when somebody took it over, UTC; null: nobody did",
        ),
        sa.Column("acknowledgement", sa.Text(), nullable=True, comment="what they said"),
        sa.CheckConstraint("kind in ('breach', 'drift', 'failure', 'late', 'silent')", name=op.f("ck_alert_kind")),
        sa.CheckConstraint(
            "perceived_severity in ('critical', 'major', 'minor', 'warning')", name=op.f("ck_alert_severity")
        ),
        sa.PrimaryKeyConstraint("alert_id", name=op.f("pk_alert")),
        schema="bts",
        comment="what people are told of, from when until when it held; a handful a night",
    )
    op.create_index("ix_alert_cleared_at", "alert", ["cleared_at"], unique=False, schema="bts")
    op.create_index(
        "uq_alert_open",
        "alert",
        ["kind", "key"],
        unique=True,
        schema="bts",
        postgresql_where=sa.text("cleared_at is null"),
    )
    op.create_table(
        "planned_outage",
        sa.Column(
            "outage_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="number of the outage, counting up",
        ),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station"),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False, comment="its start, UTC"),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False, comment="its end, exclusive, UTC"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was entered, UTC",
        ),
        sa.CheckConstraint("ends_at > starts_at", name=op.f("ck_planned_outage_span")),
        sa.PrimaryKeyConstraint("outage_id", name=op.f("pk_planned_outage")),
        sa.UniqueConstraint(
            "station_id", "starts_at", "ends_at", name=op.f("uq_planned_outage_station_id_starts_at_ends_at")
        ),
        schema="bts",
        comment="work that is planned at stations: what is expected or happens then is not told of",
    )
    op.create_table(
        "silence",
        sa.Column(
            "silence_id",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="number of the silence, counting up",
        ),
        sa.Column("station_id", sa.BigInteger(), nullable=True, comment="station; null: every station"),
        sa.Column("parameter_id", sa.Integer(), nullable=True, comment="parameter; null: every parameter"),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False, comment="when it ends, UTC"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it began, UTC",
        ),
        sa.CheckConstraint("station_id is not null or parameter_id is not null", name=op.f("ck_silence_of_something")),
        sa.PrimaryKeyConstraint("silence_id", name=op.f("pk_silence")),
        schema="bts",
        comment="stations and parameters that nobody is told of for a while; their alerts are kept all the same",
    )
    op.create_table(
        "alert_delivery",
        sa.Column("alert_id", sa.BigInteger(), nullable=False, comment="the alert"),
        sa.Column(
            "cleared", sa.Boolean(), nullable=False, comment="false: that it was raised is told; true: that it is over"
        ),
        sa.Column("channel", sa.Text(), nullable=False, comment="scheme of the address and a digest of it"),
        sa.Column("state", sa.Text(), nullable=False, comment="sending, sent or failed (it is tried again)"),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="times that it was tried"),
        sa.Column(
            "message_id",
            sa.Text(),
            nullable=False,
            comment="the message that told, or was to tell, of it and of others",
        ),
        sa.Column("tried_at", sa.DateTime(timezone=True), nullable=False, comment="when it was tried last, UTC"),
        sa.Column("error", sa.Text(), nullable=True, comment="why it failed; null: it did not"),
        sa.CheckConstraint("state in ('sending', 'sent', 'failed')", name=op.f("ck_alert_delivery_state")),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["bts.alert.alert_id"], name=op.f("fk_alert_delivery_alert_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alert_id", "cleared", "channel", name=op.f("pk_alert_delivery")),
        schema="bts",
        comment="what became of telling each alert, by channel",
    )
    op.create_index("ix_alert_delivery_tried_at", "alert_delivery", ["tried_at"], unique=False, schema="bts")


def downgrade() -> None:
    op.drop_index("ix_alert_delivery_tried_at", table_name="alert_delivery", schema="bts")
    op.drop_table("alert_delivery", schema="bts")
    op.drop_table("silence", schema="bts")
    op.drop_table("planned_outage", schema="bts")
    op.drop_index("uq_alert_open", table_name="alert", schema="bts", postgresql_where=sa.text("cleared_at is null"))
    op.drop_index("ix_alert_cleared_at", table_name="alert", schema="bts")
    op.drop_table("alert", schema="bts")

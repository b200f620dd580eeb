"""The tables of what people are told: alerts, their deliveries, silences, and outages that are planned."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from bts_assets.storage.table_columns import NOW, UTC_TIME, column, metadata, number

alert = sa.Table(
    "alert",
    metadata,
    number("alert_id", "number of the alert, counting up"),
    column("kind", sa.Text, "breach, drift, failure, late or silent"),
    column("key", sa.Text, "what it is about, among alerts of its kind; one of a key is open at a time"),
    column("perceived_severity", sa.Text, "ITU-T X.733: critical, major, minor or warning"),
    column("station_id", sa.BigInteger, "station; null: no station's", nullable=True),
    column("parameter_id", sa.Integer, "parameter; null: no parameter's", nullable=True),
    column("summary", sa.Text, "one line"),
    column("details", JSONB, "figures of its kind"),
    column("expected_at", UTC_TIME, "when it is expected, or happened, UTC; null: it says not when", nullable=True),
    column("raised_at", UTC_TIME, "when it was first seen, UTC"),
    column("seen_at", UTC_TIME, "when it was last seen to hold, UTC"),
    column("cleared_at", UTC_TIME, "when it was found over, UTC; null: it is open", nullable=True),
    column("acknowledged_at", UTC_TIME, "when somebody took it over, UTC; null: nobody did", nullable=True),
    column("acknowledgement", sa.Text, "what they said", nullable=True),
    sa.CheckConstraint("kind in ('breach', 'drift', 'failure', 'late', 'silent')", name="kind"),
    sa.CheckConstraint("perceived_severity in ('critical', 'major', 'minor', 'warning')", name="severity"),
    sa.Index("uq_alert_open", "kind", "key", unique=True, postgresql_where=sa.text("cleared_at is null")),
    sa.Index("ix_alert_cleared_at", "cleared_at"),
    comment="what people are told of, from when until when it held; a handful a night",
)  # fmt: skip

alert_delivery = sa.Table(
    "alert_delivery",
    metadata,
    column("alert_id", sa.BigInteger, "the alert", sa.ForeignKey("bts.alert.alert_id", ondelete="CASCADE"),
           primary_key=True),
    column("cleared", sa.Boolean, "false: that it was raised is told; true: that it is over", primary_key=True),
    column("channel", sa.Text, "scheme of the address and a digest of it", primary_key=True),
    column("state", sa.Text, "sending, sent or failed (it is tried again)"),
    column("attempts", sa.Integer, "times that it was tried"),
    column("message_id", sa.Text, "the message that told, or was to tell, of it and of others"),
    column("tried_at", UTC_TIME, "when it was tried last, UTC"),
    column("error", sa.Text, "why it failed; null: it did not", nullable=True),
    sa.CheckConstraint("state in ('sending', 'sent', 'failed')", name="state"),
    sa.Index("ix_alert_delivery_tried_at", "tried_at"),
    comment="what became of telling each alert, by channel",
)  # fmt: skip

silence = sa.Table(
    "silence",
    metadata,
    number("silence_id", "number of the silence, counting up"),
    column("station_id", sa.BigInteger, "station; null: every station", nullable=True),
    column("parameter_id", sa.Integer, "parameter; null: every parameter", nullable=True),
    column("until", UTC_TIME, "when it ends, UTC"),
    column("reason", sa.Text, "why"),
    column("created_at", UTC_TIME, "when it began, UTC", server_default=NOW),
    sa.CheckConstraint("station_id is not null or parameter_id is not null", name="of_something"),
    comment="stations and parameters that nobody is told of for a while; their alerts are kept all the same",
)

planned_outage = sa.Table(
    "planned_outage",
    metadata,
    number("outage_id", "number of the outage, counting up"),
    column("station_id", sa.BigInteger, "station"),
    column("starts_at", UTC_TIME, "its start, UTC"),
    column("ends_at", UTC_TIME, "its end, exclusive, UTC"),
    column("reason", sa.Text, "why"),
    column("created_at", UTC_TIME, "when it was entered, UTC", server_default=NOW),
    sa.CheckConstraint("ends_at > starts_at", name="span"),
    sa.UniqueConstraint("station_id", "starts_at", "ends_at"),
    comment="work that is planned at stations: what is expected or happens then is not told of",
)

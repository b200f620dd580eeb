"""keep the operator's alarm logs, and what forecasts of breaches were worth

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarm_file",
        sa.Column(
            "alarm_seq",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="number of the entry, counting up",
        ),
        sa.Column("path", sa.Text(), nullable=False, comment="the file's name"),
        sa.Column("digest", sa.CHAR(length=64), nullable=False, comment="SHA-256 of the file's bytes"),
        sa.Column(
            "status",
            sa.Text(),
            nullable=False,
            comment="accepted, refused (nothing of it is used) or copy (its bytes have another name)",
        ),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it was refused, or what it copies"),
        sa.Column("bytes", sa.BigInteger(), nullable=False, comment="size, bytes"),
        sa.Column("rows", sa.BigInteger(), nullable=False, comment="data rows; accepted + rejected + duplicate"),
        sa.Column("accepted", sa.BigInteger(), nullable=False, comment="rows taken as alarms"),
        sa.Column("rejected", sa.BigInteger(), nullable=False, comment="rows rejected, each with a reason"),
        sa.Column(
            "duplicate",
            sa.BigInteger(),
            nullable=False,
            comment="rows whose like is in the file, or in the file it copies",
        ),
        sa.Column(
            "rejected_by_reason", postgresql.JSONB(astext_type=sa.Text()), nullable=False, comment="reason -> rows"
        ),
        sa.Column(
            "notes",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=False,
            comment="what is odd and was taken: a line each",
        ),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=True, comment="start of its earliest alarm, UTC"),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=True, comment="newest time that it knows, UTC"),
        sa.Column(
            "superseded_by", sa.BigInteger(), nullable=True, comment="entry of the corrected file of the same name"
        ),
        sa.Column(
            "taken_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was taken in, UTC",
        ),
        sa.Column("code_version", sa.Text(), nullable=False, comment="version of the code that read it"),
        sa.CheckConstraint("status in ('accepted', 'refused', 'copy')", name=op.f("ck_alarm_file_status")),
        sa.CheckConstraint("accepted + rejected + duplicate = rows", name=op.f("ck_alarm_file_rows_add_up")),
        sa.PrimaryKeyConstraint("alarm_seq", name=op.f("pk_alarm_file")),
        schema="bts",
        comment="the ledger of alarm logs: one row per file and content, as landing files have it",
    )
    op.create_index(op.f("ix_alarm_file_digest"), "alarm_file", ["digest"], unique=False, schema="bts")
    op.create_index(op.f("ix_alarm_file_path"), "alarm_file", ["path"], unique=False, schema="bts")
    op.create_table(
        "alarm",
        sa.Column("alarm_seq", sa.BigInteger(), nullable=False, comment="entry of the ledger"),
        sa.Column("line", sa.BigInteger(), nullable=False, comment="line of the file, from 1"),
        sa.Column(
            "reported_id", sa.BigInteger(), nullable=False, comment="the operator's number of the alarm; -1: none"
        ),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("alarm_kind", sa.Integer(), nullable=False, comment="the operator's number of the kind of alarm"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, comment="its start, UTC"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True, comment="its end, UTC; null: it had none yet"),
        sa.Column(
            "until",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="its end, or the newest time that the log knows, UTC",
        ),
        sa.Column("value", sa.DOUBLE_PRECISION(), nullable=True, comment="what was measured; null: nothing"),
        sa.Column("threshold", sa.DOUBLE_PRECISION(), nullable=True, comment="the limit that was passed; null: none"),
        sa.Column(
            "side", sa.Text(), nullable=True, comment="high or low, by value and threshold; null: no limit was passed"
        ),
        sa.CheckConstraint("side in ('high', 'low')", name=op.f("ck_alarm_side")),
        sa.CheckConstraint("until >= started_at", name=op.f("ck_alarm_span")),
        sa.ForeignKeyConstraint(["alarm_seq"], ["bts.alarm_file.alarm_seq"], name=op.f("fk_alarm_alarm_seq")),
        sa.PrimaryKeyConstraint("alarm_seq", "line", name=op.f("pk_alarm")),
        schema="bts",
        comment="alarms as the operator's logs have them; what counts is bts.operator_alarm",
    )
    op.create_index(
        op.f("ix_alarm_station_id_parameter_id_started_at"),
        "alarm",
        ["station_id", "parameter_id", "started_at"],
        unique=False,
        schema="bts",
    )
    op.create_table(
        "alarm_rejection",
        sa.Column("alarm_seq", sa.BigInteger(), nullable=False, comment="entry of the ledger"),
        sa.Column("line", sa.BigInteger(), nullable=False, comment="line of the file, from 1; the header is line 1"),
        sa.Column("raw", sa.Text(), nullable=False, comment="the line as it stood; unprintable bytes escaped"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why it was rejected"),
        sa.ForeignKeyConstraint(["alarm_seq"], ["bts.alarm_file.alarm_seq"], name=op.f("fk_alarm_rejection_alarm_seq")),
        sa.PrimaryKeyConstraint("alarm_seq", "line", name=op.f("pk_alarm_rejection")),
        schema="bts",
        comment="rejected rows of alarm logs with their text, the first BTS_REJECTED_KEPT of each file",
    )
    op.create_table(
        "breach_score",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="the batch"),
        sa.Column(
            "truth",
            sa.Text(),
            nullable=False,
            comment="observed: an observation beyond the limit; alarmed: an alarm of the operator's log",
        ),
        sa.Column("hours", sa.SmallInteger(), nullable=False, comment="window from the origin"),
        sa.Column(
            "bin",
            sa.SmallInteger(),
            nullable=False,
            comment="tenth that the probability lies in, from 0",
        ),
        sa.Column(
            "sides",
            sa.Integer(),
            nullable=False,
            comment="limits of series that were forecast so, and of which it is known what came",
        ),
        sa.Column("happened", sa.Integer(), nullable=False, comment="of those, how many were passed"),
        sa.Column("expected", sa.DOUBLE_PRECISION(), nullable=False, comment="sum of the probabilities"),
        sa.Column(
            "squared",
            sa.DOUBLE_PRECISION(),
            nullable=False,
            comment="sum of squared differences of probability and what happened",
        ),
        sa.CheckConstraint("truth in ('observed', 'alarmed')", name=op.f("ck_breach_score_truth")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["bts.scored_batch.batch_id"], name=op.f("fk_breach_score_batch_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("batch_id", "truth", "hours", "bin", name=op.f("pk_breach_score")),
        schema="bts",
        comment="what forecasts of breaches turned out to be worth: sums by tenth of the probability",
    )


def downgrade() -> None:
    op.drop_table("breach_score", schema="bts")
    op.drop_table("alarm_rejection", schema="bts")
    op.drop_index(op.f("ix_alarm_station_id_parameter_id_started_at"), table_name="alarm", schema="bts")
    op.drop_table("alarm", schema="bts")
    op.drop_index(op.f("ix_alarm_file_path"), table_name="alarm_file", schema="bts")
    op.drop_index(op.f("ix_alarm_file_digest"), table_name="alarm_file", schema="bts")
    op.drop_table("alarm_file", schema="bts")

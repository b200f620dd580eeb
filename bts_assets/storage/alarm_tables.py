"""The tables of an operator's alarm logs: their ledger, their rejected rows, and the alarms that were taken."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION, JSONB

from bts_assets.storage.table_columns import NOW, UTC_TIME, column, metadata, number, parameter_key, station_key

alarm_file = sa.Table(
    "alarm_file",
    metadata,
    number("alarm_seq", "number of the entry, counting up"),
    column("path", sa.Text, "the file's name"),
    column("digest", sa.CHAR(64), "SHA-256 of the file's bytes"),
    column("status", sa.Text, "accepted, refused (nothing of it is used) or copy (its bytes have another name)"),
    column("reason", sa.Text, "why it was refused, or what it copies", nullable=True),
    column("bytes", sa.BigInteger, "size, bytes"),
    column("rows", sa.BigInteger, "data rows; accepted + rejected + duplicate"),
    column("accepted", sa.BigInteger, "rows taken as alarms"),
    column("rejected", sa.BigInteger, "rows rejected, each with a reason"),
    column("duplicate", sa.BigInteger, "rows whose like is in the file, or in the file it copies"),
    column("rejected_by_reason", JSONB, "reason -> rows"),
    column("notes", JSONB, "what is odd and was taken: a line each"),
    column("first_at", UTC_TIME, "start of its earliest alarm, UTC", nullable=True),
    column("last_at", UTC_TIME, "newest time that it knows, UTC", nullable=True),
    column("superseded_by", sa.BigInteger, "entry of the corrected file of the same name", nullable=True),
    column("taken_at", UTC_TIME, "when it was taken in, UTC", server_default=NOW),
    column("code_version", sa.Text, "version of the code that read it"),
    sa.CheckConstraint("accepted + rejected + duplicate = rows", name="rows_add_up"),
    sa.CheckConstraint("status in ('accepted', 'refused', 'copy')", name="status"),
    sa.Index(None, "path"),
    sa.Index(None, "digest"),
    comment="the ledger of alarm logs: one row per file and content, as landing files have it",
)  # fmt: skip

alarm_rejection = sa.Table(
    "alarm_rejection",
    metadata,
    column("alarm_seq", sa.BigInteger, "entry of the ledger", sa.ForeignKey(alarm_file.c.alarm_seq)),
    column("line", sa.BigInteger, "line of the file, from 1; the header is line 1"),
    column("raw", sa.Text, "the line as it stood; unprintable bytes escaped"),
    column("reason", sa.Text, "why it was rejected"),
    sa.PrimaryKeyConstraint("alarm_seq", "line"),
    comment="rejected rows of alarm logs with their text, the first BTS_REJECTED_KEPT of each file",
)

alarm = sa.Table(
    "alarm",
    metadata,
    column("alarm_seq", sa.BigInteger, "entry of the ledger", sa.ForeignKey(alarm_file.c.alarm_seq), primary_key=True),
    column("line", sa.BigInteger, "line of the file, from 1", primary_key=True),
    column("reported_id", sa.BigInteger, "the operator's number of the alarm; -1: none"),
    station_key(primary_key=False),
    column("alarm_kind", sa.Integer, "the operator's number of the kind of alarm"),
    parameter_key(primary_key=False),
    column("started_at", UTC_TIME, "its start, UTC"),
    column("ended_at", UTC_TIME, "its end, UTC; null: it had none yet", nullable=True),
    column("until", UTC_TIME, "its end, or the newest time that the log knows, UTC"),
    column("value", DOUBLE_PRECISION, "what was measured; null: nothing", nullable=True),
    column("threshold", DOUBLE_PRECISION, "the limit that was passed; null: none", nullable=True),
    column("side", sa.Text, "high or low, by value and threshold; null: no limit was passed", nullable=True),
    sa.CheckConstraint("side in ('high', 'low')", name="side"),
    sa.CheckConstraint("until >= started_at", name="span"),
    sa.Index(None, "station_id", "parameter_id", "started_at"),
    comment="alarms as the operator's logs have them; what counts is bts.operator_alarm",
)

breach_score = sa.Table(
    "breach_score",
    metadata,
    column("batch_id", sa.BigInteger, "the batch", sa.ForeignKey("bts.scored_batch.batch_id", ondelete="CASCADE"),
           primary_key=True),
    column("truth", sa.Text, "observed: an observation beyond the limit; alarmed: an alarm of the operator's log",
           primary_key=True),
    column("hours", sa.SmallInteger, "window from the origin", primary_key=True),
    column("bin", sa.SmallInteger, "tenth that the probability lies in, from 0", primary_key=True),
    column("sides", sa.Integer, "limits of series that were forecast so, and of which it is known what came"),
    column("happened", sa.Integer, "of those, how many were passed"),
    column("expected", DOUBLE_PRECISION, "sum of the probabilities"),
    column("squared", DOUBLE_PRECISION, "sum of squared differences of probability and what happened"),
    sa.CheckConstraint("truth in ('observed', 'alarmed')", name="truth"),
    comment="what forecasts of breaches turned out to be worth: sums by tenth of the probability",
)  # fmt: skip

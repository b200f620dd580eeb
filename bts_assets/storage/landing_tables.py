"""The tables of ingest: landing files, the names in them, rejected rows, and the observations made of them."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

from bts_assets.storage.table_columns import NOW, UTC_TIME, column, metadata, number, parameter_key, qty, station_key

landing_file = sa.Table(
    "landing_file",
    metadata,
    number("ledger_seq", "number of the entry, counting up: a span and the highest number known are an input"),
    column("path", sa.Text, "path relative to the landing root; unprintable bytes escaped"),
    column("digest", sa.CHAR(64), "SHA-256 of the file's bytes"),
    column("status", sa.Text, "accepted, refused (nothing of it is used), copy (its bytes were known by another name)"
        " or unusable (no row of it could be used)"),
    column("reason", sa.Text, "why it was refused or unusable, or what it copies", nullable=True),
    column("bytes", sa.BigInteger, "size, bytes"),
    column("modified_ns", sa.BigInteger, "time of last change that the file system gave, ns since 1970"),
    column("rows", sa.BigInteger, "data rows; accepted + rejected + duplicate"),
    column("accepted", sa.BigInteger, "rows taken as readings"),
    column("rejected", sa.BigInteger, "rows rejected, each with a reason"),
    column("duplicate", sa.BigInteger, "rows whose like is in the file, or in the file it copies"),
    column("rejected_by_reason", JSONB, "reason -> rows"),
    column("first_reading_at", UTC_TIME, "earliest accepted reading, UTC", nullable=True),
    column("last_reading_at", UTC_TIME, "latest accepted reading, UTC", nullable=True),
    column("days", ARRAY(sa.Date), "UTC days that it has readings of"),
    column("superseded_by", sa.BigInteger, "entry of the corrected file of the same path", nullable=True),
    column("taken_at", UTC_TIME, "when it was taken in, UTC"),
    column("code_version", sa.Text, "version of the code that read it"),
    column("dagster_run_id", sa.Text, "the Dagster run that took it in", nullable=True),
    column("pruned_at", UTC_TIME, "when its readings were deleted, UTC; null: they are kept", nullable=True),
    column("dialect", JSONB, "how it writes its rows, and by what rules it was read; null: not kept", nullable=True),
    sa.CheckConstraint("accepted + rejected + duplicate = rows", name="rows_add_up"),
    sa.CheckConstraint("status in ('accepted', 'refused', 'copy', 'unusable')", name="status"),
    sa.Index(None, "path"),
    sa.Index(None, "digest"),
    sa.Index(None, "days", postgresql_using="gin"),
    comment="the ingest ledger: one row per landing file and content; about 24 rows a day",
)  # fmt: skip

landing_reading = sa.Table(
    "landing_reading",
    metadata,
    sa.Column("digest", sa.CHAR(64), primary_key=True, comment="SHA-256 of the landing file's bytes"),
    column("readings", sa.LargeBinary, "SHA-256 of the digest and what follows; then 36 bytes a reading, in order"
        " of series and time: id (int64, -1: none), station (int64), parameter (int32), time (int64, us since 1970),"
        " value (float64), little-endian"),
    comment="readings of landing files that have few; those of all others are Parquet files in the home",
)  # fmt: skip

landing_name = sa.Table(
    "landing_name",
    metadata,
    column("kind", sa.Text, "station or parameter"),
    column("name", sa.Text, "what landing files call it"),
    column("number", sa.BigInteger, "station_id or parameter_id that stands for it; below zero unless listed"),
    column("met_at", UTC_TIME, "when it was first met, UTC", server_default=NOW),
    sa.PrimaryKeyConstraint("kind", "name"),
    sa.CheckConstraint("kind in ('station', 'parameter')", name="kind"),
    sa.Index("ix_landing_name_number", "kind", "number", unique=True, postgresql_where=sa.text("number < 0")),
    comment="stations and parameters that landing files name, and the numbers that stand for them",
)  # fmt: skip

landing_rejection = sa.Table(
    "landing_rejection",
    metadata,
    column("ledger_seq", sa.BigInteger, "entry of the ingest ledger", sa.ForeignKey(landing_file.c.ledger_seq)),
    column("line", sa.BigInteger, "line of the file, from 1; the header is line 1"),
    column("raw", sa.Text, "the line as it stood; unprintable bytes escaped"),
    column("reason", sa.Text, "why it was rejected"),
    sa.PrimaryKeyConstraint("ledger_seq", "line"),
    comment="rejected rows with their text, the first BTS_REJECTED_KEPT of each file",
)

series = sa.Table(
    "series",
    metadata,
    station_key(),
    parameter_key(),
    column("first_ledger_seq", sa.BigInteger, "highest entry of the ingest ledger when it was first observed"),
    comment="every series that ever had an observation",
)

#: How the arrays rest (inline, uncompressed, without statistics) the migration says: SQLAlchemy has no words for it.
observation_block = sa.Table(
    "observation_block",
    metadata,
    station_key(),
    parameter_key(),
    column("starts_at", UTC_TIME, "start of the first step, UTC", primary_key=True),
    column("values", ARRAY(DOUBLE_PRECISION), "by step, in the parameter's unit; null where a step has no readings"),
    column(
        "readings",
        ARRAY(sa.Integer),
        "how many readings made each, by step; one number where it is that of every value",
    ),
    sa.Index("ix_observation_block_starts_at", "starts_at", postgresql_using="brin",
             postgresql_with={"pages_per_range": 16}),
    comment="observations, one row per series and block of steps (a day, of 288 steps at most);"
    " bts.observation shows them by step",
    postgresql_with={"toast_tuple_target": 8160},
)  # fmt: skip

observed_step = sa.Table(
    "observed_step",
    metadata,
    column("observed_at", UTC_TIME, "start of the step, UTC", primary_key=True),
    column("starts_at", UTC_TIME, "start of its block, UTC"),
    column("step", sa.SmallInteger, "its place in the block, from 1"),
    comment="every step of the blocks that are stored: by it, an instant finds its block; as many rows as a series",
)

observed_day = sa.Table(
    "observed_day",
    metadata,
    column("day", sa.Date, "UTC day that was computed"),
    column("ledger_seq", sa.BigInteger, "highest entry of the ingest ledger that it was computed from"),
    column("digest", sa.CHAR(64), "SHA-256 of the day's observations"),
    column("observations", sa.BigInteger, "rows"),
    column("first_observed_at", UTC_TIME, "earliest of them, UTC", nullable=True),
    column("last_observed_at", UTC_TIME, "latest of them, UTC", nullable=True),
    column("readings", sa.BigInteger, "readings that made them"),
    column("computed_at", UTC_TIME, "when, UTC", server_default=NOW),
    column("rule", sa.CHAR(64), "SHA-256 of how readings make observations: use of ids, aggregations; null: older",
           nullable=True),
    qty("repeated", "readings that say again what another says"),
    qty("corrected", "readings that a newer file gives other content under the same id"),
    qty("contradicted", "readings that their own file gives other content under the same id"),
    qty("ids_ignored", "readings whose id was found to name nothing; they count by time and value"),
    sa.PrimaryKeyConstraint("day", "ledger_seq"),
    comment="log of every computing of a day's observations",
)  # fmt: skip

observed_station = sa.Table(
    "observed_station",
    metadata,
    column("day", sa.Date, "UTC day", primary_key=True),
    station_key(),
    column("digest", sa.LargeBinary, "SHA-256 of the station's observations of the day"),
    column("observations", sa.Integer, "rows"),
    column("readings", sa.BigInteger, "readings that made them"),
    column("first_observed_at", UTC_TIME, "earliest of them, UTC"),
    column("last_observed_at", UTC_TIME, "latest of them, UTC"),
    column("repeated", sa.BigInteger, "as in observed_day"),
    column("corrected", sa.BigInteger, "as in observed_day"),
    column("contradicted", sa.BigInteger, "as in observed_day"),
    column("ids_ignored", sa.BigInteger, "as in observed_day"),
    comment="what each station came to when a day was last computed; bts.observed_day has what all come to",
)

pruning = sa.Table(
    "pruning",
    metadata,
    number("pruning_seq", "number of the entry, counting up"),
    column("day", sa.Date, "UTC day that was deleted; it and earlier ones are not computed again"),
    column("observations", sa.BigInteger, "observations that were deleted; the newest of a series stays"),
    column("pruned_at", UTC_TIME, "when, UTC", server_default=NOW),
    comment="log of days whose observations went past BTS_OBSERVATION_RETENTION",
)

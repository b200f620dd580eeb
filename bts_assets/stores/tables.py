"""The tables of schema `bts`, each column with its unit and meaning. Alembic's target; the views are in sql/."""

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

SCHEMA: Final = "bts"
metadata = sa.MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    },
)
_UTC: Final = sa.DateTime(timezone=True)
_NOW: Final = sa.text("clock_timestamp()")


def _column(name: str, kind: Any, comment: str, *args: Any, nullable: bool = False, **kwargs: Any) -> sa.Column:
    return sa.Column(name, kind, *args, nullable=nullable, comment=comment, **kwargs)


def _number(name: str, comment: str) -> sa.Column:
    """A key that counts up and is never given twice."""
    return _column(name, sa.BigInteger, comment, sa.Identity(always=True), primary_key=True)


def _station(primary_key: bool = True) -> sa.Column:
    return _column("station_id", sa.BigInteger, "station, the operator's number", primary_key=primary_key)


def _parameter(primary_key: bool = True) -> sa.Column:
    return _column("parameter_id", sa.Integer, "parameter, the catalogue's number", primary_key=primary_key)


def _made_by() -> list[sa.Column]:
    return [
        _column("code_version", sa.Text, "version of the package, and the commit where it ran from a checkout"),
        _column("dagster_run_id", sa.Text, "the Dagster run that made it", nullable=True),
        _column("settings", JSONB, "every setting that decides a result, as read then"),
    ]


installation = sa.Table(
    "installation",
    metadata,
    _column("only_row", sa.Boolean, "always true: there is one row", primary_key=True, server_default=sa.true()),
    _column("step_seconds", sa.Integer, "width of the grid that all observations stand on, seconds"),
    _column("created_at", _UTC, "when this database was first used, UTC", server_default=_NOW),
    sa.CheckConstraint("only_row", name="one_row"),
    comment="what cannot change within one database",
)

station = sa.Table(
    "station",
    metadata,
    _station(),
    _column("name", sa.Text, "what crews call it", nullable=True),
    _column("region", sa.Text, "the operator's region", nullable=True),
    _column("latitude", DOUBLE_PRECISION, "degrees north, WGS 84", nullable=True),
    _column("longitude", DOUBLE_PRECISION, "degrees east, WGS 84", nullable=True),
    _column("timezone", sa.Text, "IANA name of the zone that the station stands in", nullable=True),
    _column("in_service_since", sa.Date, "first day of service", nullable=True),
    _column("listed", sa.Boolean, "true: in the operator's station file; false: known from readings alone"),
    comment="stations, from the operator's CSV and from readings",
)

parameter = sa.Table(
    "parameter",
    metadata,
    _parameter(),
    _column("name", sa.Text, "what is measured"),
    _column("unit", sa.Text, "unit of its values; empty: none"),
    _column("kind", sa.Text, "gauge, counter or switch"),
    _column("aggregation", sa.Text, "how the readings of a step become its observation: mean, last, max or sum"),
    _column("valid_min", DOUBLE_PRECISION, "a smaller value is rejected; in unit", nullable=True),
    _column("valid_max", DOUBLE_PRECISION, "a larger value is rejected; in unit", nullable=True),
    _column("sentinels", ARRAY(DOUBLE_PRECISION), "codes that are no measurement, and are rejected"),
    _column("low_limit", DOUBLE_PRECISION, "a value below it is a breach; in unit", nullable=True),
    _column("high_limit", DOUBLE_PRECISION, "a value above it is a breach; in unit", nullable=True),
    _column("forecast", sa.Boolean, "whether its series are forecast"),
    _column("known", sa.Boolean, "false: met in readings, not in the catalogue"),
    comment="the catalogue as it last ran, and the parameters that it does not know",
)

station_limit = sa.Table(
    "station_limit",
    metadata,
    _station(),
    _parameter(),
    _column("low_limit", DOUBLE_PRECISION, "overrides the parameter's; in its unit", nullable=True),
    _column("high_limit", DOUBLE_PRECISION, "overrides the parameter's; in its unit", nullable=True),
    comment="limits of one station that differ from the catalogue's; kept by the operator",
)

landing_file = sa.Table(
    "landing_file",
    metadata,
    _number("ledger_seq", "number of the entry, counting up: a span and the highest number known are an input"),
    _column("path", sa.Text, "path relative to the landing root; unprintable bytes escaped"),
    _column("digest", sa.CHAR(64), "SHA-256 of the file's bytes"),
    _column(
        "status", sa.Text, "accepted, refused (nothing of it is used) or copy (its bytes were known by another name)"
    ),
    _column("reason", sa.Text, "why it was refused, or what it copies", nullable=True),
    _column("bytes", sa.BigInteger, "size, bytes"),
    _column("modified_ns", sa.BigInteger, "time of last change that the file system gave, ns since 1970"),
    _column("rows", sa.BigInteger, "data rows; accepted + rejected + duplicate"),
    _column("accepted", sa.BigInteger, "rows taken as readings"),
    _column("rejected", sa.BigInteger, "rows rejected, each with a reason"),
    _column("duplicate", sa.BigInteger, "rows whose like is in the file, or in the file it copies"),
    _column("rejected_by_reason", JSONB, "reason -> rows"),
    _column("first_reading_at", _UTC, "earliest accepted reading, UTC", nullable=True),
    _column("last_reading_at", _UTC, "latest accepted reading, UTC", nullable=True),
    _column("days", ARRAY(sa.Date), "UTC days that it has readings of"),
    _column("superseded_by", sa.BigInteger, "entry of the corrected file of the same path", nullable=True),
    _column("taken_at", _UTC, "when it was taken in, UTC"),
    _column("code_version", sa.Text, "version of the code that read it"),
    _column("dagster_run_id", sa.Text, "the Dagster run that took it in", nullable=True),
    sa.CheckConstraint("accepted + rejected + duplicate = rows", name="rows_add_up"),
    sa.CheckConstraint("status in ('accepted', 'refused', 'copy')", name="status"),
    sa.Index(None, "path"),
    sa.Index(None, "digest"),
    sa.Index(None, "days", postgresql_using="gin"),
    comment="the ingest ledger: one row per landing file and content; about 24 rows a day",
)

landing_rejection = sa.Table(
    "landing_rejection",
    metadata,
    _column("ledger_seq", sa.BigInteger, "entry of the ingest ledger", sa.ForeignKey(landing_file.c.ledger_seq)),
    _column("line", sa.BigInteger, "line of the file, from 1; the header is line 1"),
    _column("raw", sa.Text, "the line as it stood; unprintable bytes escaped"),
    _column("reason", sa.Text, "why it was rejected"),
    sa.PrimaryKeyConstraint("ledger_seq", "line"),
    comment="rejected rows with their text, the first BTS_REJECTED_KEPT of each file",
)

series = sa.Table(
    "series",
    metadata,
    _station(),
    _parameter(),
    _column("first_ledger_seq", sa.BigInteger, "highest entry of the ingest ledger when it was first observed"),
    comment="every series that ever had an observation",
)

observation = sa.Table(
    "observation",
    metadata,
    _station(),
    _parameter(),
    _column("observed_at", _UTC, "start of the interval [t, t + step), UTC", primary_key=True),
    _column("value", DOUBLE_PRECISION, "aggregated as the catalogue says; in the parameter's unit"),
    _column("readings", sa.Integer, "how many readings made it"),
    sa.Index("ix_observation_observed_at", "observed_at", postgresql_using="brin"),
    comment="one row per series and step that has readings; 96 rows a day and series at 15 minutes",
)

observed_day = sa.Table(
    "observed_day",
    metadata,
    _column("day", sa.Date, "UTC day that was computed"),
    _column("ledger_seq", sa.BigInteger, "highest entry of the ingest ledger that it was computed from"),
    _column("digest", sa.CHAR(64), "SHA-256 of the day's observations"),
    _column("observations", sa.BigInteger, "rows"),
    _column("first_observed_at", _UTC, "earliest of them, UTC", nullable=True),
    _column("last_observed_at", _UTC, "latest of them, UTC", nullable=True),
    _column("readings", sa.BigInteger, "readings that made them"),
    _column("computed_at", _UTC, "when, UTC", server_default=_NOW),
    sa.PrimaryKeyConstraint("day", "ledger_seq"),
    comment="log of every computing of a day's observations",
)

model_version = sa.Table(
    "model_version",
    metadata,
    _number("model_version_id", "number of the version, counting up"),
    _column("bundle_digest", sa.CHAR(64), "SHA-256 of the bundle", unique=True),
    _column("step_seconds", sa.Integer, "grid width, seconds"),
    _column("context_seconds", sa.Integer, "past that it reads, seconds"),
    _column("horizon_seconds", sa.Integer, "how far ahead it forecasts, seconds"),
    _column("effort", sa.Text, "quick, standard or thorough"),
    _column("seed", sa.BigInteger, "seed of everything random in training"),
    _column("lstm_failure", sa.Text, "why it has no LSTM; null: it has one", nullable=True),
    _column("truncated", sa.Boolean, "training met its wall-clock ceiling"),
    _column("training_start", _UTC, "start of the training data, UTC"),
    _column("training_end", _UTC, "end of the training data, exclusive, UTC"),
    _column("training_ledger_seq", sa.BigInteger, "highest entry of the ingest ledger known then"),
    _column("observations_digest", sa.CHAR(64), "SHA-256 of the training observations"),
    _column("catalogue_digest", sa.CHAR(64), "SHA-256 of the catalogue"),
    _column("metrics", JSONB, "backtest figures, overall and per parameter"),
    _column("mlflow_run_id", sa.Text, "MLflow run of the training; null while MLflow was down", nullable=True),
    _column("mlflow_model_uri", sa.Text, "where MLflow keeps the model", nullable=True),
    _column("registry_version", sa.Integer, "version in MLflow's registry of bts-forecaster", nullable=True),
    _column("packages", JSONB, "package -> version"),
    _column("machine", JSONB, "processor, cores, system"),
    *_made_by(),
    _column("created_at", _UTC, "when it was trained, UTC", server_default=_NOW),
    comment="immutable model versions; a handful a month",
)

champion = sa.Table(
    "champion",
    metadata,
    _number("champion_seq", "number of the entry, counting up: the last one for a grid serves"),
    _column("model_version_id", sa.BigInteger, "the version that serves from here on",
            sa.ForeignKey(model_version.c.model_version_id)),
    _column("reason", sa.Text, "why"),
    _column("promoted_at", _UTC, "when, UTC", server_default=_NOW),
    comment="append-only log of champions; Postgres decides, MLflow's alias mirrors it",
)  # fmt: skip

batch = sa.Table(
    "batch",
    metadata,
    _number("batch_id", "number of the batch, counting up"),
    _column("issued_at", _UTC, "forecast origin, UTC"),
    _column("kind", sa.Text, "nightly, or hindcast: made more than a horizon after its origin"),
    _column("model_version_id", sa.BigInteger, "the version that forecast it",
            sa.ForeignKey(model_version.c.model_version_id)),
    _column("step_seconds", sa.Integer, "grid width, seconds"),
    _column("horizon_steps", sa.Integer, "steps ahead, of each series"),
    _column("input_start", _UTC, "start of the observations it was made from, UTC; they end at issued_at"),
    _column("input_ledger_seq", sa.BigInteger, "highest entry of the ingest ledger known then"),
    _column("observations_digest", sa.CHAR(64), "SHA-256 of those observations"),
    _column("catalogue_digest", sa.CHAR(64), "SHA-256 of the catalogue that it was made with"),
    _column("forecasts_digest", sa.CHAR(64), "SHA-256 of the forecasts as stored"),
    _column("series", sa.Integer, "series in its forecast ledger"),
    _column("forecast", sa.Integer, "series served by their chosen forecaster"),
    _column("fallback", sa.Integer, "series served by another, because the chosen one could not run"),
    _column("excluded", sa.Integer, "series without a forecast"),
    *_made_by(),
    _column("created_at", _UTC, "when it was made, UTC", server_default=_NOW),
    sa.UniqueConstraint(
        "issued_at", "observations_digest", "model_version_id", "catalogue_digest", name="uq_batch_identity"
    ),
    sa.CheckConstraint("kind in ('nightly', 'hindcast')", name="kind"),
    comment="all forecasts of one origin, one input and one model version; one a night",
)  # fmt: skip

publication = sa.Table(
    "publication",
    metadata,
    _number("publication_seq", "number of the entry, counting up: the last one that serves is the pointer"),
    _column("batch_id", sa.BigInteger, "the batch that was published", sa.ForeignKey(batch.c.batch_id)),
    _column("serves_latest", sa.Boolean, "false: its origin was earlier than that of the batch already serving"),
    _column("reason", sa.Text, "why"),
    _column("published_at", _UTC, "when, UTC", server_default=_NOW),
    sa.Index("ix_publication_pointer", "publication_seq", postgresql_where=sa.text("serves_latest")),
    comment="append-only log of publications; its last entry that serves is the pointer of the views",
)

forecast_ledger = sa.Table(
    "forecast_ledger",
    metadata,
    _column("batch_id", sa.BigInteger, "batch", sa.ForeignKey(batch.c.batch_id), primary_key=True),
    _station(),
    _parameter(),
    _column("status", sa.Text, "forecast, fallback or excluded"),
    _column("source", sa.Text, "the candidate that served, or mixture; null: excluded", nullable=True),
    _column("reason", sa.Text, "why fallback or excluded", nullable=True),
    _column("last_observed_at", _UTC, "newest observation before the origin, UTC", nullable=True),
    _column("history_steps", sa.Integer, "observations in the context"),
    _column("context_steps", sa.Integer, "steps from the first of them to the origin"),
    _column("components", JSONB, "candidate -> weight, of a mixture", nullable=True),
    sa.CheckConstraint("status in ('forecast', 'fallback', 'excluded')", name="status"),
    sa.CheckConstraint("status = 'forecast' or reason is not null", name="reason_given"),
    comment="one row per series of every batch",
)

forecast = sa.Table(
    "forecast",
    metadata,
    _column("batch_id", sa.BigInteger, "batch; the key of the partition", primary_key=True),
    _station(),
    _parameter(),
    _column("step_ahead", sa.SmallInteger, "steps after the origin, from 1", primary_key=True),
    _column("issued_at", _UTC, "forecast origin, UTC"),
    _column("target_at", _UTC, "start of the interval that the row speaks of, UTC"),
    *[_column(f"q{q:02}", DOUBLE_PRECISION, f"{q} % quantile, in the parameter's unit") for q in (5, 10, 50, 90, 95)],
    postgresql_partition_by="LIST (batch_id)",
    comment="forecasts, one partition per batch; 192 rows a series and batch by default",
)

dataset = sa.Table(
    "dataset",
    metadata,
    _number("dataset_id", "number of the data set, counting up"),
    _column("name", sa.Text, "what the data is called"),
    _column("provider", sa.Text, "who it comes from; null: nobody was named", nullable=True),
    _column("observations_digest", sa.CHAR(64), "SHA-256 of the observations: the version of the data set"),
    _column("ledger_seq", sa.BigInteger, "highest entry of the ingest ledger known then"),
    _column("data_start", _UTC, "start of the observations, UTC"),
    _column("data_end", _UTC, "their end, exclusive: the origin of a night, or the end of training data, UTC"),
    _column("step_seconds", sa.Integer, "grid width, seconds"),
    _column("stations", sa.Integer, "stations that ever reported before data_end"),
    _column("parameters", sa.Integer, "parameters that were ever reported before data_end"),
    _column("series", sa.Integer, "series of them"),
    _column("silent_series", sa.Integer, "series without an observation in the span"),
    _column("observations", sa.BigInteger, "observations in the span"),
    _column("missing_share", DOUBLE_PRECISION, "share of series and steps without an observation, 0 to 1"),
    _column("readings", sa.BigInteger, "readings that made the observations"),
    _column("files", sa.Integer, "landing files with readings of the UTC days of the span, each content once"),
    _column("bytes", sa.BigInteger, "size of those files, bytes"),
    _column("rows", sa.BigInteger, "data rows of those files and their copies; accepted + rejected + duplicate"),
    _column("accepted", sa.BigInteger, "of those, rows taken as readings"),
    _column("rejected", sa.BigInteger, "of those, rows rejected"),
    _column("duplicate", sa.BigInteger, "of those, rows whose like is in the file, or in the file it copies"),
    _column("code_version", sa.Text, "version of the package, and the commit where it ran from a checkout"),
    _column("dagster_run_id", sa.Text, "the Dagster run that described it", nullable=True),
    _column("created_at", _UTC, "when it was described, UTC", server_default=_NOW),
    sa.UniqueConstraint("observations_digest", "ledger_seq"),
    sa.CheckConstraint("accepted + rejected + duplicate = rows", name="rows_add_up"),
    comment="what data was, as a night or a training found it; one a night, and one a training",
)

series_profile = sa.Table(
    "series_profile",
    metadata,
    _column("dataset_id", sa.BigInteger, "data set", sa.ForeignKey(dataset.c.dataset_id), primary_key=True),
    _station(),
    _parameter(),
    _column("readings", sa.BigInteger, "readings in the span"),
    _column("observations", sa.Integer, "steps that have readings"),
    _column("missing_share", DOUBLE_PRECISION, "share of steps without an observation, 0 to 1"),
    *[
        _column(name, DOUBLE_PRECISION, f"{about} of the observations, in the parameter's unit", nullable=True)
        for name, about in (
            ("minimum", "least"), ("q05", "5 % quantile"), ("q25", "25 % quantile"), ("median", "median"),
            ("q75", "75 % quantile"), ("q95", "95 % quantile"), ("maximum", "greatest"), ("mean", "mean"),
            ("sd", "standard deviation"),
        )
    ],
    _column("gaps", sa.Integer, "runs of missing steps, also those at either end of the span"),
    _column("longest_gap", sa.Integer, "the longest of them, steps"),
    _column("readings_per_step", DOUBLE_PRECISION, "mean readings of the steps that have any; 0: none has"),
    _column("most_readings", sa.Integer, "most readings of one step"),
    sa.CheckConstraint("missing_share between 0 and 1", name="share"),
    comment="figures of every series of a data set; null where it was silent; one row per series a night",
)  # fmt: skip

"""The tables of schema `bts`, each column with its unit and meaning. Alembic's target; the views are in sql/."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB

from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.storage import alarm_tables as alarm_tables  # that the metadata knows them
from bts_assets.storage import alert_tables as alert_tables
from bts_assets.storage import drift_tables as drift_tables
from bts_assets.storage import monitoring_tables as monitoring_tables
from bts_assets.storage.landing_tables import (  # noqa: F401 - every table is found here
    landing_file,
    landing_name,
    landing_reading,
    landing_rejection,
    observation_block,
    observed_day,
    observed_station,
    observed_step,
    pruning,
    series,
)
from bts_assets.storage.table_columns import (
    NOW,
    UTC_TIME,
    column,
    made_by,
    metadata,
    number,
    parameter_key,
    station_key,
)

catalogue = sa.Table(
    "catalogue",
    metadata,
    column("digest", sa.CHAR(64), "SHA-256 over every field of every parameter", primary_key=True),
    column("parameters", JSONB, "the rows: every column of the catalogue's CSV; null: an open end, or no limit"),
    column("created_at", UTC_TIME, "when it was first used, UTC", server_default=NOW),
    comment="every catalogue that served, a batch or a model version was made with; a handful a year",
)

installation = sa.Table(
    "installation",
    metadata,
    column("only_row", sa.Boolean, "always true: there is one row", primary_key=True, server_default=sa.true()),
    column("step_seconds", sa.Integer, "width of the grid that all observations stand on, seconds"),
    column("created_at", UTC_TIME, "when this database was first used, UTC", server_default=NOW),
    sa.CheckConstraint("only_row", name="one_row"),
    comment="what cannot change within one database",
)

station = sa.Table(
    "station",
    metadata,
    station_key(),
    column("name", sa.Text, "what crews call it", nullable=True),
    column("region", sa.Text, "the operator's region", nullable=True),
    column("latitude", DOUBLE_PRECISION, "degrees north, WGS 84", nullable=True),
    column("longitude", DOUBLE_PRECISION, "degrees east, WGS 84", nullable=True),
    column("timezone", sa.Text, "IANA name of the zone that the station stands in", nullable=True),
    column("in_service_since", sa.Date, "first day of service", nullable=True),
    column("listed", sa.Boolean, "true: in the operator's station file; false: known from readings alone"),
    comment="stations, from the operator's CSV and from readings",
)

parameter = sa.Table(
    "parameter",
    metadata,
    parameter_key(),
    column("name", sa.Text, "what is measured"),
    column("unit", sa.Text, "unit of its values; empty: none"),
    column("kind", sa.Text, "gauge, counter or switch"),
    column("aggregation", sa.Text, "how the readings of a step become its observation: mean, last, max or sum"),
    column("valid_min", DOUBLE_PRECISION, "a smaller value is rejected; in unit", nullable=True),
    column("valid_max", DOUBLE_PRECISION, "a larger value is rejected; in unit", nullable=True),
    column("sentinels", ARRAY(DOUBLE_PRECISION), "codes that are no measurement, and are rejected"),
    column("low_limit", DOUBLE_PRECISION, "a value below it is a breach; in unit", nullable=True),
    column("high_limit", DOUBLE_PRECISION, "a value above it is a breach; in unit", nullable=True),
    column("forecast", sa.Boolean, "whether its series are forecast"),
    column("known", sa.Boolean, "false: met in readings, not in the catalogue"),
    comment="the catalogue as it last ran, and the parameters that it does not know",
)

station_limit = sa.Table(
    "station_limit",
    metadata,
    station_key(),
    parameter_key(),
    column("low_limit", DOUBLE_PRECISION, "overrides the parameter's; in its unit", nullable=True),
    column("high_limit", DOUBLE_PRECISION, "overrides the parameter's; in its unit", nullable=True),
    comment="limits of one station that differ from the catalogue's; kept by the operator",
)

limit_set = sa.Table(
    "limit_set",
    metadata,
    column("digest", sa.CHAR(64), "SHA-256 over them", primary_key=True),
    column("limits", JSONB, "station_id, parameter_id, low and high limit of each; null: its parameter's holds"),
    column("created_at", UTC_TIME, "when a batch first used them, UTC", server_default=NOW),
    comment="limits of stations as batches were made with them; a row for each change of bts.station_limit",
)

model_version = sa.Table(
    "model_version",
    metadata,
    number("model_version_id", "number of the version, counting up"),
    column("bundle_digest", sa.CHAR(64), "SHA-256 of the bundle", unique=True),
    column("step_seconds", sa.Integer, "grid width, seconds"),
    column("context_seconds", sa.Integer, "past that it reads, seconds"),
    column("horizon_seconds", sa.Integer, "how far ahead it forecasts, seconds"),
    column("effort", sa.Text, "quick, standard or thorough"),
    column("seed", sa.BigInteger, "seed of everything random in training"),
    column("lstm_failure", sa.Text, "why it has no LSTM; null: it has one", nullable=True),
    column("truncated", sa.Boolean, "training met its wall-clock ceiling"),
    column("training_start", UTC_TIME, "start of the training data, UTC"),
    column("training_end", UTC_TIME, "end of the training data, exclusive, UTC"),
    column("training_ledger_seq", sa.BigInteger, "highest entry of the ingest ledger known then"),
    column("observations_digest", sa.CHAR(64), "SHA-256 of the training observations"),
    column("catalogue_digest", sa.CHAR(64), "SHA-256 of the catalogue"),
    column("metrics", JSONB, "backtest figures, overall and per parameter"),
    column("mlflow_run_id", sa.Text, "MLflow run of the training; null while MLflow was down", nullable=True),
    column("mlflow_model_uri", sa.Text, "where MLflow keeps the model", nullable=True),
    column("registry_version", sa.Integer, "version in MLflow's registry of bts-forecaster", nullable=True),
    column("packages", JSONB, "package -> version"),
    column("machine", JSONB, "processor, cores, system"),
    *made_by(),
    column("created_at", UTC_TIME, "when it was trained, UTC", server_default=NOW),
    column(
        "training_series",
        sa.Integer,
        "series that were drawn for the training; null: all that were known",
        nullable=True,
    ),
    column("mlflow_experiment_id", sa.Text, "MLflow experiment of that run; null: not known", nullable=True),
    column("training_seconds", sa.Double, "how long its training took, seconds; null: not known", nullable=True),
    comment="immutable model versions; a handful a month",
)

decision = sa.Table(
    "decision",
    metadata,
    number("decision_id", "number of the decision, counting up"),
    column("model_version_id", sa.BigInteger, "the version that was decided on",
            sa.ForeignKey(model_version.c.model_version_id)),
    column("champion_version_id", sa.BigInteger, "the champion before it; null: there was none",
            sa.ForeignKey(model_version.c.model_version_id), nullable=True),
    column("verdict", sa.Text, "promoted, refused, rolled back (it serves again), probation (it begins), or ended"),
    column("decided_by", sa.Text, "gate (by rule) or hand"),
    column("reason", sa.Text, "why, in words"),
    column("evidence", JSONB, "the rules that were asked, each with its figures"),
    column("code_version", sa.Text, "version of the package, and the commit where it ran from a checkout"),
    column("dagster_run_id", sa.Text, "the Dagster run that decided", nullable=True),
    column("decided_at", UTC_TIME, "when, UTC", server_default=NOW),
    sa.CheckConstraint("verdict in ('promoted', 'refused', 'rolled back', 'probation', 'ended')", name="verdict"),
    sa.CheckConstraint("decided_by in ('gate', 'hand')", name="decided_by"),
    comment="append-only log of what was decided about model versions, and why; a handful a month",
)  # fmt: skip

champion = sa.Table(
    "champion",
    metadata,
    number("champion_seq", "number of the entry, counting up: the last one for a grid serves"),
    column("model_version_id", sa.BigInteger, "the version that serves from here on",
            sa.ForeignKey(model_version.c.model_version_id)),
    column("reason", sa.Text, "why"),
    column("promoted_at", UTC_TIME, "when, UTC", server_default=NOW),
    column("decision_id", sa.BigInteger, "the decision that made it; null: before decisions were kept",
            sa.ForeignKey(decision.c.decision_id), nullable=True),
    comment="append-only log of champions; Postgres decides, MLflow's alias mirrors it",
)  # fmt: skip

probation = sa.Table(
    "probation",
    metadata,
    number("probation_id", "number of the probation, counting up"),
    column("model_version_id", sa.BigInteger, "the challenger", sa.ForeignKey(model_version.c.model_version_id)),
    column("nights", sa.Integer, "nights that it runs beside the champion before the gate asks again"),
    column("share", DOUBLE_PRECISION, "share of the stations that it serves (canary), 0 to 1; 0: it runs in shadow"),
    column("reason", sa.Text, "why it began"),
    column("began_at", UTC_TIME, "when, UTC", server_default=NOW),
    column("ended_at", UTC_TIME, "when it ended, UTC; null: it runs", nullable=True),
    column("outcome", sa.Text, "how it ended; null: it runs", nullable=True),
    sa.CheckConstraint("share >= 0 and share < 1 and nights > 0", name="plan"),
    sa.CheckConstraint("(ended_at is null) = (outcome is null)", name="outcome_given"),
    comment="challengers that run beside the champion for some nights: in shadow, or serving some stations",
)

batch = sa.Table(
    "batch",
    metadata,
    number("batch_id", "number of the batch, counting up"),
    column("issued_at", UTC_TIME, "forecast origin, UTC"),
    column("kind", sa.Text, "live; retrospective: made more than a horizon after its origin;"
        " in_sample: by a model that has seen the targets"),
    column("model_version_id", sa.BigInteger, "the version that forecast it",
            sa.ForeignKey(model_version.c.model_version_id)),
    column("step_seconds", sa.Integer, "grid width, seconds"),
    column("horizon_steps", sa.Integer, "steps ahead, of each series"),
    column("input_start", UTC_TIME, "start of the observations it was made from, UTC; they end at issued_at"),
    column("input_ledger_seq", sa.BigInteger, "highest entry of the ingest ledger known then"),
    column("observations_digest", sa.CHAR(64), "SHA-256 of those observations"),
    column("catalogue_digest", sa.CHAR(64), "SHA-256 of the catalogue that it was made with"),
    column("forecasts_digest", sa.CHAR(64), "SHA-256 of the forecasts as stored"),
    column("series", sa.Integer, "series in its forecast ledger"),
    column("forecast", sa.Integer, "series served by their chosen forecaster"),
    column("fallback", sa.Integer, "series served by another, because the chosen one could not run"),
    column("excluded", sa.Integer, "series without a forecast"),
    *made_by(),
    column("created_at", UTC_TIME, "when it was made, UTC", server_default=NOW),
    column("canary_version_id", sa.BigInteger, "the challenger that forecast some stations; null: none did",
            sa.ForeignKey(model_version.c.model_version_id), nullable=True),
    column("canary_share", DOUBLE_PRECISION, "share of the stations that it was given, 0 to 1", nullable=True),
    column("pruned_at", UTC_TIME, "when its forecasts were deleted, UTC; null: they are kept", nullable=True),
    column("successor_due_at", UTC_TIME, "when the batch of the next night is due (BTS_READY_BY), UTC; null: its code"
        " did not say", nullable=True),
    column("recalibration_digest", sa.CHAR(64), "SHA-256 of what bts.recalibration has of it; null: intervals are as"
        " the model version states them", nullable=True),
    column("limits_digest", sa.CHAR(64), "the limits of stations that its breaches were computed with, in"
        " bts.limit_set; null: its code did not keep them", nullable=True),
    column("breach_terms", JSONB, "what else they were computed with: persistence in steps, recovery, how the errors of"
        " each parameter hang together; null: its code did not keep it", nullable=True),
    sa.UniqueConstraint(
        "issued_at", "observations_digest", "model_version_id", "catalogue_digest", "canary_version_id", "canary_share",
        "recalibration_digest",
        name="uq_batch_identity", postgresql_nulls_not_distinct=True,
    ),
    sa.CheckConstraint("kind in ('live', 'retrospective', 'in_sample')", name="kind"),
    comment="all forecasts of one origin, one input, one model version and one recalibration; one a night",
)  # fmt: skip

probation_night = sa.Table(
    "probation_night",
    metadata,
    column("probation_id", sa.BigInteger, "probation", sa.ForeignKey(probation.c.probation_id), primary_key=True),
    column("batch_id", sa.BigInteger, "the batch that served that night", sa.ForeignKey(batch.c.batch_id),
            primary_key=True),
    column("shadow_batch_id", sa.BigInteger, "the challenger's batch of the same origin and input; null: it failed",
            sa.ForeignKey(batch.c.batch_id), nullable=True),
    column("failure", sa.Text, "why it made none; null: it made one", nullable=True),
    column("made_at", UTC_TIME, "when, UTC", server_default=NOW),
    sa.CheckConstraint("(shadow_batch_id is null) <> (failure is null)", name="batch_or_failure"),
    comment="the nights of a probation: what served, and the challenger's batch beside it",
)  # fmt: skip

publication = sa.Table(
    "publication",
    metadata,
    number("publication_seq", "number of the entry, counting up: the last one that serves is the pointer"),
    column("batch_id", sa.BigInteger, "the batch that was published", sa.ForeignKey(batch.c.batch_id)),
    column("serves_latest", sa.Boolean, "false: its origin was earlier than that of the batch already serving"),
    column("reason", sa.Text, "why"),
    column("published_at", UTC_TIME, "when, UTC", server_default=NOW),
    sa.Index("ix_publication_pointer", "publication_seq", postgresql_where=sa.text("serves_latest")),
    comment="append-only log of publications; its last entry that serves is the pointer of the views",
)

forecast_ledger = sa.Table(
    "forecast_ledger",
    metadata,
    column("batch_id", sa.BigInteger, "batch", sa.ForeignKey(batch.c.batch_id), primary_key=True),
    station_key(),
    parameter_key(),
    column("status", sa.Text, "forecast, fallback or excluded"),
    column("source", sa.Text, "the candidate that served, or mixture; null: excluded", nullable=True),
    column("reason", sa.Text, "why fallback or excluded", nullable=True),
    column("last_observed_at", UTC_TIME, "newest observation before the origin, UTC", nullable=True),
    column("history_steps", sa.Integer, "observations in the context"),
    column("context_steps", sa.Integer, "steps from the first of them to the origin"),
    column("components", JSONB, "candidate -> weight, of a mixture", nullable=True),
    column("model_version_id", sa.BigInteger,
           "the challenger, where it served this series; null: the batch's version", nullable=True),
    column("input_digest", sa.LargeBinary, "SHA-256 of the series and its context, of which the batch's"
           " observations_digest is made; null: its code gave none", nullable=True),
    column("forecast_digest", sa.LargeBinary, "SHA-256 of the series and its forecast, of which the batch's"
           " forecasts_digest is made; null: excluded, or its code gave none", nullable=True),
    sa.CheckConstraint("status in ('forecast', 'fallback', 'excluded')", name="status"),
    sa.CheckConstraint("status = 'forecast' or reason is not null", name="reason_given"),
    comment="one row per series of every batch",
)  # fmt: skip

#: The arrays q05 to q95 of 192 steps fill a page, uncompressed and inline; longer ones are moved out of line. The
#: migration says that, and that they have no statistics: SQLAlchemy cannot.
forecast_series = sa.Table(
    "forecast_series",
    metadata,
    column("batch_id", sa.BigInteger, "batch", primary_key=True),
    station_key(),
    parameter_key(),
    *[column(name, ARRAY(DOUBLE_PRECISION), f"{int(name[1:])} % quantiles by step ahead, in the parameter's unit")
      for name in QUANTILE_COLUMNS],
    sa.CheckConstraint(" and ".join(f"cardinality({name}) = cardinality(q50)" for name in QUANTILE_COLUMNS
                                    if name != "q50"), name="same_steps"),
    comment="forecasts, one row per series of every batch that is kept; bts.forecast shows them by step",
    postgresql_with={"toast_tuple_target": 8160},
)  # fmt: skip

recalibration = sa.Table(
    "recalibration",
    metadata,
    column("batch_id", sa.BigInteger, "batch", sa.ForeignKey(batch.c.batch_id), primary_key=True),
    station_key(),
    parameter_key(),
    column("factors", ARRAY(sa.REAL), "what distances of q05, q10, q90, q95 from the median were multiplied by, for"
        " each quarter of the horizon"),
    column("nights", ARRAY(sa.REAL), "how many earlier nights speak for each, newer ones more"),
    column("asked", ARRAY(sa.REAL), "sum over these of the logarithms of the factors that they asked for"),
    comment="what earlier nights taught about the widths of intervals, as it was applied to a batch",
)  # fmt: skip

dataset = sa.Table(
    "dataset",
    metadata,
    number("dataset_id", "number of the data set, counting up"),
    column("name", sa.Text, "what the data is called"),
    column("provider", sa.Text, "who it comes from; null: nobody was named", nullable=True),
    column("observations_digest", sa.CHAR(64), "SHA-256 of the observations: the version of the data set"),
    column("ledger_seq", sa.BigInteger, "highest entry of the ingest ledger known then"),
    column("data_start", UTC_TIME, "start of the observations, UTC"),
    column("data_end", UTC_TIME, "their end, exclusive: the origin of a night, or the end of training data, UTC"),
    column("step_seconds", sa.Integer, "grid width, seconds"),
    column("stations", sa.Integer, "stations that ever reported before data_end"),
    column("parameters", sa.Integer, "parameters that were ever reported before data_end"),
    column("series", sa.Integer, "series of them"),
    column("silent_series", sa.Integer, "series without an observation in the span"),
    column("observations", sa.BigInteger, "observations in the span"),
    column("missing_share", DOUBLE_PRECISION, "share of series and steps without an observation, 0 to 1"),
    column("readings", sa.BigInteger, "readings that made the observations"),
    column("files", sa.Integer, "landing files with readings of the UTC days of the span, each content once"),
    column("bytes", sa.BigInteger, "size of those files, bytes"),
    column("rows", sa.BigInteger, "data rows of those files and their copies; accepted + rejected + duplicate"),
    column("accepted", sa.BigInteger, "of those, rows taken as readings"),
    column("rejected", sa.BigInteger, "of those, rows rejected"),
    column("duplicate", sa.BigInteger, "of those, rows whose like is in the file, or in the file it copies"),
    column("code_version", sa.Text, "version of the package, and the commit where it ran from a checkout"),
    column("dagster_run_id", sa.Text, "the Dagster run that described it", nullable=True),
    column("created_at", UTC_TIME, "when it was described, UTC", server_default=NOW),
    sa.UniqueConstraint("observations_digest", "ledger_seq"),
    sa.CheckConstraint("accepted + rejected + duplicate = rows", name="rows_add_up"),
    comment="what data was, as a night or a training found it; one a night, and one a training",
)

series_profile = sa.Table(
    "series_profile",
    metadata,
    column("dataset_id", sa.BigInteger, "data set", sa.ForeignKey(dataset.c.dataset_id), primary_key=True),
    station_key(),
    parameter_key(),
    column("readings", sa.BigInteger, "readings in the span"),
    column("observations", sa.Integer, "steps that have readings"),
    column("missing_share", DOUBLE_PRECISION, "share of steps without an observation, 0 to 1"),
    *[
        column(name, DOUBLE_PRECISION, f"{about} of the observations, in the parameter's unit", nullable=True)
        for name, about in (
            ("minimum", "least"), ("q05", "5 % quantile"), ("q25", "25 % quantile"), ("median", "median"),
            ("q75", "75 % quantile"), ("q95", "95 % quantile"), ("maximum", "greatest"), ("mean", "mean"),
            ("sd", "standard deviation"),
        )
    ],
    column("gaps", sa.Integer, "runs of missing steps, also those at either end of the span"),
    column("longest_gap", sa.Integer, "the longest of them, steps"),
    column("readings_per_step", DOUBLE_PRECISION, "mean readings of the steps that have any; 0: none has"),
    column("most_readings", sa.Integer, "most readings of one step"),
    sa.CheckConstraint("missing_share between 0 and 1", name="share"),
    comment="figures of every series of a data set; null where it was silent; one row per series a night",
)  # fmt: skip

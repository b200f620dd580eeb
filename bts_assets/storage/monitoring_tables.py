"""The tables of what is watched: scores of forecasts that have come true, and breaches that are expected."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOUBLE_PRECISION

from bts_assets.storage.table_columns import NOW, UTC_TIME, column, metadata, parameter_key, station_key


def _sums() -> tuple[sa.Column[Any], ...]:
    """What scores of many series add up to; those with a scale of zero, or none, have no scaled error."""
    return (
        column("targets", sa.BigInteger, "targets that have come"),
        column("absolute_error", DOUBLE_PRECISION, "sum of absolute errors of the median, in the parameter's unit"),
        column("error", DOUBLE_PRECISION, "sum of median minus truth, in the parameter's unit"),
        column("scaled_error", DOUBLE_PRECISION, "sum of absolute errors, each divided by its series' scale"),
        column("scaled_targets", sa.BigInteger, "targets of series that have a scale"),
        column("inside80", sa.BigInteger, "truths within the 80 % interval"),
        column("inside90", sa.BigInteger, "truths within the 90 % interval"),
    )


def _quantile_losses() -> tuple[sa.Column[Any], ...]:
    return (
        column("pinball", DOUBLE_PRECISION, "sum of the quantile loss, mean over levels, in the parameter's unit"),
        column("crps", DOUBLE_PRECISION, "sum of the continuous ranked probability score, in the parameter's unit"),
    )


def _cost(peak: str = "most memory that the process held meanwhile, bytes") -> tuple[sa.Column[Any], ...]:
    return (
        column("started_at", UTC_TIME, "when it began, UTC"),
        column("wall_seconds", DOUBLE_PRECISION, "time that it took, seconds"),
        column(
            "cpu_seconds", DOUBLE_PRECISION, "processor time of the process, its threads and ended children, seconds"
        ),
        column("peak_bytes", sa.BigInteger, peak),
        column("rows", sa.BigInteger, "rows that it read, computed or stored; null: it has none", nullable=True),
        column("bytes", sa.BigInteger, "bytes of them, where it is known", nullable=True),
        column("failed", sa.Boolean, "whether it ended with an error"),
    )


def _scored_batch_key() -> sa.Column[Any]:
    of = sa.ForeignKey("bts.scored_batch.batch_id", ondelete="CASCADE")
    return column("batch_id", sa.BigInteger, "the batch whose origin it is", of, primary_key=True)


def _candidate_key() -> sa.Column[Any]:
    return column("candidate", sa.Text, "served: what the batch holds; else a baseline, recomputed", primary_key=True)


scored_batch = sa.Table(
    "scored_batch",
    metadata,
    column(
        "batch_id",
        sa.BigInteger,
        "the batch",
        sa.ForeignKey("bts.batch.batch_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    column("ledger_seq", sa.BigInteger, "newest ledger entry whose observations the scores know"),
    column("targets", sa.BigInteger, "targets of the served forecasts that had come by then"),
    column("scored_at", UTC_TIME, "when it was scored last, UTC", server_default=NOW),
    comment="batches that are scored, and from which observations; one whose days are computed anew is scored anew",
)

forecast_score = sa.Table(
    "forecast_score",
    metadata,
    _scored_batch_key(),
    station_key(),
    parameter_key(),
    _candidate_key(),
    column("stretch", sa.SmallInteger, "quarter of the horizon, from 1", primary_key=True),
    column("targets", sa.Integer, "targets that have come"),
    column("absolute_error", DOUBLE_PRECISION, "sum of absolute errors of the median, in the parameter's unit"),
    column("error", DOUBLE_PRECISION, "sum of median minus truth, in the parameter's unit"),
    *_quantile_losses(),
    column("inside80", sa.Integer, "truths within the 80 % interval"),
    column("inside90", sa.Integer, "truths within the 90 % interval"),
    column("scale", DOUBLE_PRECISION, "MASE's denominator, of the context before the origin", nullable=True),
    comment="what forecasts turned out to be worth: sums by series and quarter of the horizon",
)

parameter_score = sa.Table(
    "parameter_score",
    metadata,
    _scored_batch_key(),
    parameter_key(),
    _candidate_key(),
    column("stretch", sa.SmallInteger, "quarter of the horizon, from 1", primary_key=True),
    column("model_version_id", sa.BigInteger, "version that served; of a baseline the batch's", primary_key=True),
    column("series", sa.Integer, "series of which targets have come"),
    *_sums(),
    *_quantile_losses(),
    comment="bts.forecast_score summed over series: a few hundred rows a batch, whatever the number of stations",
)

hourly_score = sa.Table(
    "hourly_score",
    metadata,
    _scored_batch_key(),
    parameter_key(),
    _candidate_key(),
    column("hour", sa.SmallInteger, "hour of the day of the targets, UTC, 0 to 23", primary_key=True),
    *_sums(),
    comment="what forecasts turned out to be worth: sums over series by hour of the day",
)

breach_forecast = sa.Table(
    "breach_forecast",
    metadata,
    column(
        "batch_id",
        sa.BigInteger,
        "the batch",
        sa.ForeignKey("bts.batch.batch_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    station_key(),
    parameter_key(),
    column("side", sa.Text, "high or low", primary_key=True),
    column("limit_value", DOUBLE_PRECISION, "the limit as it stood then, in the parameter's unit"),
    column("probability_6h", sa.REAL, "that a breach begins within 6 h of the origin, 0 to 1"),
    column("probability_24h", sa.REAL, "that a breach begins within 24 h of the origin, 0 to 1"),
    column("probability_48h", sa.REAL, "that a breach begins within 48 h of the origin, 0 to 1"),
    column("first_likely_at", UTC_TIME, "from then on a breach is more likely than not, UTC", nullable=True),
    column("expected_worst", DOUBLE_PRECISION, "mean over paths of the value farthest beyond the limit, in the unit"),
    column("expected_steps", sa.REAL, "mean number of steps beyond the limit, on the paths with a breach"),
    sa.CheckConstraint("side in ('high', 'low')", name="side"),
    comment="how likely each series with limits is to pass them, joint over the horizon; made with the batch",
)

night_stage = sa.Table(
    "night_stage",
    metadata,
    column("run_id", sa.Text, "the Dagster run", primary_key=True),
    column("stage", sa.Text, "the asset", primary_key=True),
    *_cost(),
    sa.Index(None, "started_at"),
    comment="what each stage of each run cost; a dozen rows a night",
)

night_part = sa.Table(
    "night_part",
    metadata,
    column("run_id", sa.Text, "the Dagster run", primary_key=True),
    column("stage", sa.Text, "the asset", primary_key=True),
    column("issued_at", UTC_TIME, "origin of the night, UTC", primary_key=True),
    *_cost("most memory that the process held since the stage began, bytes"),
    sa.Index(None, "issued_at"),
    comment="what each night of a stage of a run cost, where a stage goes night by night; a few rows a night",
)

station_battery = sa.Table(
    "station_battery",
    metadata,
    column(
        "batch_id",
        sa.BigInteger,
        "the batch at whose origin it is",
        sa.ForeignKey("bts.batch.batch_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    station_key(),
    parameter_key(),
    column("limit_value", DOUBLE_PRECISION, "low limit of the battery's voltage, V"),
    column("hours", DOUBLE_PRECISION, "hours until that limit if the grid failed at the origin"),
    column("low_hours", DOUBLE_PRECISION, "lower end of their 80 % interval"),
    column("high_hours", DOUBLE_PRECISION, "upper end of their 80 % interval"),
    column("outages", sa.Integer, "past outages that say so"),
    column("falling_since", UTC_TIME, "start of the outage since which it lasts less, UTC; null: no", nullable=True),
    column("hours_before", DOUBLE_PRECISION, "hours that it lasted before that; null: it does not fall", nullable=True),
    comment="how long each station's battery lasts, learnt from its own past outages",
)

station_finding = sa.Table(
    "station_finding",
    metadata,
    column(
        "batch_id",
        sa.BigInteger,
        "the batch at whose origin it was found",
        sa.ForeignKey("bts.batch.batch_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    station_key(),
    column("kind", sa.Text, "battery, generator_load, generator_hours, generator_stood or cooling", primary_key=True),
    column("perceived_severity", sa.Text, "ITU-T X.733: critical, major, minor or warning"),
    column("since", UTC_TIME, "since when, UTC; null: it cannot be told", nullable=True),
    column("what", sa.Text, "what is unlike the station's own past"),
    column("what_to_check", sa.Text, "what a crew should look at"),
    sa.CheckConstraint("perceived_severity in ('critical', 'major', 'minor', 'warning')", name="severity"),
    comment="what wears out at stations: batteries, generators, air conditioners unlike their own past",
)

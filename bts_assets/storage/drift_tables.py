"""The tables of drift: what a version was trained on, kept small; each night's figures, evidence and faults."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION

from bts_assets.storage.table_columns import NOW, UTC_TIME, column, metadata, parameter_key, station_key

_NIGHT = "origin of the night, UTC"


def _night_key() -> sa.Column:
    night = sa.ForeignKey("bts.drift_night.issued_at", ondelete="CASCADE")
    return column("issued_at", UTC_TIME, _NIGHT, night, primary_key=True)


training_snapshot = sa.Table(
    "training_snapshot",
    metadata,
    column(
        "model_version_id",
        sa.BigInteger,
        "the version that was trained on it",
        sa.ForeignKey("bts.model_version.model_version_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    station_key(),
    parameter_key(),
    column(
        "sketch", ARRAY(DOUBLE_PRECISION), "quantiles from the least to the greatest value; of a meter, of its rises"
    ),
    column("profile", ARRAY(DOUBLE_PRECISION), "median of each part of the UTC day, in the parameter's unit"),
    column("level", ARRAY(DOUBLE_PRECISION), "each day's mean deviation from the profile, oldest first; NaN: unknown"),
    column("spread", ARRAY(DOUBLE_PRECISION), "log of each day's standard deviation about it, oldest first"),
    column("longest_run", sa.Integer, "most observations in a row of one value"),
    column("coverage", sa.REAL, "share of steps with an observation, 0 to 1"),
    comment="the last 56 days before the end of a training, per series: what drift is measured from",
)

drift_night = sa.Table(
    "drift_night",
    metadata,
    column("issued_at", UTC_TIME, _NIGHT, primary_key=True),
    column(
        "model_version_id",
        sa.BigInteger,
        "the version that served, whose training is compared with",
        sa.ForeignKey("bts.model_version.model_version_id", ondelete="CASCADE"),
    ),
    column("nights", sa.Integer, "nights since that training whose inputs are known"),
    column("reference_nights", sa.Integer, "days of the training that they are compared with"),
    column("scored_nights", sa.Integer, "nights since that training whose errors are known"),
    column("reference_scored_nights", sa.Integer, "scored nights that they are compared with"),
    column("computed_at", UTC_TIME, "when it was computed, UTC", server_default=NOW),
    comment="nights that were looked at for drift; one that is looked at again is replaced whole",
)

drift_figure = sa.Table(
    "drift_figure",
    metadata,
    _night_key(),
    station_key(),
    parameter_key(),
    column(
        "level", DOUBLE_PRECISION, "the day's mean deviation from the training's profile, in the unit", nullable=True
    ),
    column("spread", DOUBLE_PRECISION, "log of the day's standard deviation about it", nullable=True),
    column("ks", sa.REAL, "Kolmogorov-Smirnov distance of the context from the training, 0 to 1", nullable=True),
    column("psi", sa.REAL, "population stability index of the context, by the training's deciles", nullable=True),
    column("forecast_psi", sa.REAL, "the same of the forecast medians", nullable=True),
    comment="figures of each night and series, which evidence is gathered from over nights",
)

drift_evidence = sa.Table(
    "drift_evidence",
    metadata,
    _night_key(),
    column("scope", sa.Text, "series, station or parameter", primary_key=True),
    column("figure", sa.Text, "level, spread or error", primary_key=True),
    column("station_id", sa.BigInteger, "station; -1: a whole parameter", primary_key=True),
    column("parameter_id", sa.Integer, "parameter; -1: a whole station", primary_key=True),
    column("evidence", sa.REAL, "log10 of the Shiryaev-Roberts evidence for a change"),
    column("bound", sa.REAL, "log10 of the evidence that is an alarm"),
    column("deviation", sa.REAL, "the night's, in standard deviations of a night", nullable=True),
    column(
        "change", sa.REAL, "over three nights: of a level in standard deviations; else the ratio less 1", nullable=True
    ),
    column("alarm", sa.Boolean, "whether evidence has reached the bound"),
    column("nights", sa.Integer, "nights in a row, this one among them, for which it had"),
    column("kind", sa.Text, "covariate, concept or label drift, of an alarm", nullable=True),
    sa.CheckConstraint("scope in ('series', 'station', 'parameter')", name="scope"),
    sa.CheckConstraint("kind in ('covariate', 'concept', 'label')", name="kind"),
    comment="streams with an alarm, or half way to one, after each night",
)

found_fault = sa.Table(
    "found_fault",
    metadata,
    _night_key(),
    column("fault", sa.Text, "what is wrong: stuck, mis_scaled, silent_station, ...", primary_key=True),
    station_key(),
    column("parameter_id", sa.Integer, "parameter; -1: the station as a whole", primary_key=True),
    column("since", UTC_TIME, "from when on, UTC, where that can be told", nullable=True),
    column("figure", DOUBLE_PRECISION, "share observed, value, factor, or hours, by fault", nullable=True),
    comment="sensors and stations that measured or reported wrongly, by night",
)

"""keep what trainings looked like, and each night's evidence of drift

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "training_snapshot",
        sa.Column("model_version_id", sa.BigInteger(), nullable=False, comment="the version that was trained on it"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column(
            "sketch",
            postgresql.ARRAY(sa.DOUBLE_PRECISION()),
            nullable=False,
            comment="quantiles from the least to the greatest value; of a meter, of its rises",
        ),
        sa.Column(
            "profile",
            postgresql.ARRAY(sa.DOUBLE_PRECISION()),
            nullable=False,
            comment="median of each part of the UTC day, in the parameter's unit",
        ),
        sa.Column(
            "level",
            postgresql.ARRAY(sa.DOUBLE_PRECISION()),
            nullable=False,
            comment="each day's mean deviation from the profile, oldest first; NaN: unknown",
        ),
        sa.Column(
            "spread",
            postgresql.ARRAY(sa.DOUBLE_PRECISION()),
            nullable=False,
            comment="log of each day's standard deviation about it, oldest first",
        ),
        sa.Column("longest_run", sa.Integer(), nullable=False, comment="most observations in a row of one value"),
        sa.Column("coverage", sa.REAL(), nullable=False, comment="share of steps with an observation, 0 to 1"),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["bts.model_version.model_version_id"],
            name=op.f("fk_training_snapshot_model_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("model_version_id", "station_id", "parameter_id", name=op.f("pk_training_snapshot")),
        schema="bts",
        comment="the last 56 days before the end of a training, per series: what drift is measured from",
    )
    op.create_table(
        "drift_night",
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False, comment="origin of the night, UTC"),
        sa.Column(
            "model_version_id",
            sa.BigInteger(),
            nullable=False,
            comment="the version that served, whose training is compared with",
        ),
        sa.Column("nights", sa.Integer(), nullable=False, comment="nights since that training whose inputs are known"),
        sa.Column(
            "reference_nights", sa.Integer(), nullable=False, comment="days of the training that they are compared with"
        ),
        sa.Column(
            "scored_nights", sa.Integer(), nullable=False, comment="nights since that training whose errors are known"
        ),
        sa.Column(
            "reference_scored_nights", sa.Integer(), nullable=False, comment="scored nights that they are compared with"
        ),
        sa.Column(
            "computed_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when it was computed, UTC",
        ),
        sa.ForeignKeyConstraint(
            ["model_version_id"],
            ["bts.model_version.model_version_id"],
            name=op.f("fk_drift_night_model_version_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("issued_at", name=op.f("pk_drift_night")),
        schema="bts",
        comment="nights that were looked at for drift; one that is looked at again is replaced whole",
    )
    op.create_table(
        "drift_figure",
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False, comment="origin of the night, UTC"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column(
            "level",
            sa.DOUBLE_PRECISION(),
            nullable=True,
            comment="the day's mean deviation from the training's profile, in the unit",
        ),
        sa.Column(
            "spread", sa.DOUBLE_PRECISION(), nullable=True, comment="log of the day's standard deviation about it"
        ),
        sa.Column(
            "ks",
            sa.REAL(),
            nullable=True,
            comment="Kolmogorov-Smirnov distance of the context from the training, 0 to 1",
        ),
        sa.Column(
            "psi",
            sa.REAL(),
            nullable=True,
            comment="population stability index of the context, by the training's deciles",
        ),
        sa.Column("forecast_psi", sa.REAL(), nullable=True, comment="the same of the forecast medians"),
        sa.ForeignKeyConstraint(
            ["issued_at"], ["bts.drift_night.issued_at"], name=op.f("fk_drift_figure_issued_at"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("issued_at", "station_id", "parameter_id", name=op.f("pk_drift_figure")),
        schema="bts",
        comment="figures of each night and series, which evidence is gathered from over nights",
    )
    op.create_table(
        "drift_evidence",
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False, comment="origin of the night, UTC"),
        sa.Column("scope", sa.Text(), nullable=False, comment="series, station or parameter"),
        sa.Column("figure", sa.Text(), nullable=False, comment="level, spread or error"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station; -1: a whole parameter"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter; -1: a whole station"),
        sa.Column("evidence", sa.REAL(), nullable=False, comment="log10 of the Shiryaev-Roberts evidence for a change"),
        sa.Column("bound", sa.REAL(), nullable=False, comment="log10 of the evidence that is an alarm"),
        sa.Column("deviation", sa.REAL(), nullable=True, comment="the night's, in standard deviations of a night"),
        sa.Column(
            "change",
            sa.REAL(),
            nullable=True,
            comment="over three nights: of a level in standard deviations; else the ratio less 1",
        ),
        sa.Column("alarm", sa.Boolean(), nullable=False, comment="whether evidence has reached the bound"),
        sa.Column(
            "nights", sa.Integer(), nullable=False, comment="nights in a row, this one among them, for which it had"
        ),
        sa.Column("kind", sa.Text(), nullable=True, comment="covariate, concept or label drift, of an alarm"),
        sa.CheckConstraint("kind in ('covariate', 'concept', 'label')", name=op.f("ck_drift_evidence_kind")),
        sa.CheckConstraint("scope in ('series', 'station', 'parameter')", name=op.f("ck_drift_evidence_scope")),
        sa.ForeignKeyConstraint(
            ["issued_at"], ["bts.drift_night.issued_at"], name=op.f("fk_drift_evidence_issued_at"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "issued_at", "scope", "figure", "station_id", "parameter_id", name=op.f("pk_drift_evidence")
        ),
        schema="bts",
        comment="streams with an alarm, or half way to one, after each night",
    )
    op.create_table(
        "found_fault",
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False, comment="origin of the night, UTC"),
        sa.Column("fault", sa.Text(), nullable=False, comment="what is wrong: stuck, mis_scaled, silent_station, ..."),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter; -1: the station as a whole"),
        sa.Column(
            "since", sa.DateTime(timezone=True), nullable=True, comment="from when on, UTC, where that can be told"
        ),
        sa.Column(
            "figure", sa.DOUBLE_PRECISION(), nullable=True, comment="share observed, value, factor, or hours, by fault"
        ),
        sa.ForeignKeyConstraint(
            ["issued_at"], ["bts.drift_night.issued_at"], name=op.f("fk_found_fault_issued_at"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("issued_at", "fault", "station_id", "parameter_id", name=op.f("pk_found_fault")),
        schema="bts",
        comment="sensors and stations that measured or reported wrongly, by night",
    )


def downgrade() -> None:
    op.drop_table("found_fault", schema="bts")
    op.drop_table("drift_evidence", schema="bts")
    op.drop_table("drift_figure", schema="bts")
    op.drop_table("drift_night", schema="bts")
    op.drop_table("training_snapshot", schema="bts")

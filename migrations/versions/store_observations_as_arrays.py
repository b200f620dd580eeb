"""store observations as arrays, one row per series and block of steps; bts.observation becomes a view of them

Revision ID: 0011
Revises: 0010
"""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION

from bts_assets.storage.postgres import DatabaseError

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_DAY = 86400
_SECOND = timedelta(seconds=1)
#: Steps of a block at most: what fits a page.
_LONGEST = 288

_KEY = "station_id, parameter_id, starts_at"


def upgrade() -> None:
    connection = op.get_bind()
    _check_unused(connection)
    _create_blocks()
    _create_steps()
    step = connection.scalar(sa.text("SELECT step_seconds FROM bts.installation"))
    if step is not None:
        _lay_out(connection, step)
    elif connection.scalar(sa.text("SELECT EXISTS (SELECT FROM bts.observation)")):
        raise DatabaseError(
            "bts.installation does not say on which grid the observations stand: insert their step_seconds, and migrate"
            " again"
        )
    op.drop_table("observation", schema="bts")


def downgrade() -> None:
    op.create_table(
        "observation",
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column(
            "observed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="start of the interval [t, t + step), UTC",
        ),
        sa.Column(
            "value",
            DOUBLE_PRECISION(),
            nullable=False,
            comment="aggregated as the catalogue says; in the parameter's unit",
        ),
        sa.Column("readings", sa.Integer(), nullable=False, comment="how many readings made it"),
        sa.PrimaryKeyConstraint("station_id", "parameter_id", "observed_at", name=op.f("pk_observation")),
        schema="bts",
        comment="one row per series and step that has readings; 96 rows a day and series at 15 minutes",
    )
    op.create_index("ix_observation_observed_at", "observation", ["observed_at"], schema="bts", postgresql_using="brin")
    op.execute("""
        INSERT INTO bts.observation (station_id, parameter_id, observed_at, value, readings)
        SELECT station_id, parameter_id, observed_at, values[step], readings[least(step, cardinality(readings))]
        FROM bts.observation_block JOIN bts.observed_step USING (starts_at) WHERE values[step] IS NOT NULL
        ORDER BY starts_at, station_id, parameter_id, step
    """)
    op.drop_table("observed_step", schema="bts")
    op.drop_table("observation_block", schema="bts")


def _check_unused(connection: sa.Connection) -> None:
    """bts.observation is a view from here on: what others built on the table of that name cannot come along."""
    built = connection.exec_driver_sql("""
        SELECT DISTINCT ev_class::regclass::text FROM pg_depend JOIN pg_rewrite AS r ON r.oid = objid
        WHERE classid = 'pg_rewrite'::regclass AND refobjid = 'bts.observation'::regclass ORDER BY 1
    """)
    names = [name for (name,) in built]
    if names:
        raise DatabaseError(
            f"the schema is to be upgraded, but others built on the table bts.observation: {', '.join(names)}."
            " Drop those, upgrade, and create them again on the view of that name"
        )


def _create_blocks() -> None:
    op.create_table(
        "observation_block",
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False, comment="start of the first step, UTC"),
        sa.Column(
            "values",
            ARRAY(DOUBLE_PRECISION()),
            nullable=False,
            comment="by step, in the parameter's unit; null where a step has no readings",
        ),
        sa.Column(
            "readings",
            ARRAY(sa.Integer()),
            nullable=False,
            comment="how many readings made each, by step; one number where it is that of every value",
        ),
        sa.PrimaryKeyConstraint("station_id", "parameter_id", "starts_at", name=op.f("pk_observation_block")),
        schema="bts",
        comment="observations, one row per series and block of steps (a day, of 288 steps at most);"
        " bts.observation shows them by step",
        postgresql_with={"toast_tuple_target": 8160},
    )
    op.create_index(
        "ix_observation_block_starts_at",
        "observation_block",
        ["starts_at"],
        schema="bts",
        postgresql_using="brin",
        postgresql_with={"pages_per_range": 16},
    )
    # Digits of measurements do not compress, and no plan asks for the distribution of whole arrays.
    op.execute(
        "ALTER TABLE bts.observation_block ALTER values SET STORAGE EXTERNAL, ALTER values SET STATISTICS 0,"
        " ALTER readings SET STATISTICS 0"
    )


def _create_steps() -> None:
    op.create_table(
        "observed_step",
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False, comment="start of the step, UTC"),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False, comment="start of its block, UTC"),
        sa.Column("step", sa.SmallInteger(), nullable=False, comment="its place in the block, from 1"),
        sa.PrimaryKeyConstraint("observed_at", name=op.f("pk_observed_step")),
        schema="bts",
        comment="every step of the blocks that are stored: by it, an instant finds its block; as many rows as a series",
    )


def _lay_out(connection: sa.Connection, step: int) -> None:
    in_day = _DAY // step
    length = max(n for n in range(1, _LONGEST + 1) if in_day % n == 0)
    block = f"date_bin(make_interval(secs => {length * step}), observed_at, timestamptz '1970-01-01 00:00+00')"
    connection.exec_driver_sql(f"""
        INSERT INTO bts.observed_step (observed_at, starts_at, step)
        SELECT starts_at + (step - 1) * make_interval(secs => {step}), starts_at, step
        FROM (SELECT DISTINCT {block} AS starts_at FROM bts.observation) AS blocks, generate_series(1, {length}) AS step
        ORDER BY 1
    """)
    # Block by block, so that no sort holds everything, and the rows of a day lie together.
    for (start,) in connection.exec_driver_sql("SELECT DISTINCT starts_at FROM bts.observed_step ORDER BY 1").all():
        connection.execute(
            sa.text(f"""
                INSERT INTO bts.observation_block ({_KEY}, values, readings)
                SELECT station_id, parameter_id, starts_at, array_agg(o.value ORDER BY s.step),
                       CASE WHEN min(o.readings) = max(o.readings) THEN ARRAY[max(o.readings)]
                            ELSE array_agg(coalesce(o.readings, 0) ORDER BY s.step) END
                FROM (SELECT DISTINCT station_id, parameter_id FROM bts.observation
                      WHERE observed_at >= :start AND observed_at < :end) AS series
                CROSS JOIN (SELECT * FROM bts.observed_step WHERE starts_at = :start) AS s
                LEFT JOIN (SELECT * FROM bts.observation WHERE observed_at >= :start AND observed_at < :end) AS o
                    USING (station_id, parameter_id, observed_at)
                GROUP BY {_KEY} ORDER BY {_KEY}
            """),
            {"start": start, "end": start + length * step * _SECOND},
        )

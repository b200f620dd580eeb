"""store forecasts as arrays, one row per series and batch in one table, and keep a log of pruning

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION

from bts_assets.storage.postgres import DatabaseError

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_LEVELS = ("q05", "q10", "q50", "q90", "q95")
_PARTITIONS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'bts.forecast'::regclass ORDER BY inhrelid"
)

#: Partitions that one transaction drops: it takes some twenty locks for each.
_DROPPED_AT_ONCE = 20


def upgrade() -> None:
    _check_unused(op.get_bind())
    _create_series()
    arrays = ", ".join(f"array_agg({level} ORDER BY step_ahead)" for level in _LEVELS)
    connection = op.get_bind()
    partitions = list(connection.exec_driver_sql(_PARTITIONS).scalars())
    # Partition by partition, each in the order of its key: no sort of everything, and a batch's rows lie together.
    for partition in partitions:
        _check_whole(connection, partition)
        connection.exec_driver_sql(f"""
            INSERT INTO bts.forecast_series (batch_id, station_id, parameter_id, {", ".join(_LEVELS)})
            SELECT batch_id, station_id, parameter_id, {arrays} FROM {partition}
            GROUP BY batch_id, station_id, parameter_id ORDER BY batch_id, station_id, parameter_id
        """)
    if len(partitions) <= _DROPPED_AT_ONCE:
        op.drop_table("forecast", schema="bts")
    else:  # one transaction cannot hold the locks of all: `migrate` drops them one by one, once this is committed
        op.rename_table("forecast", "forecast_partitioned", schema="bts")
    for table, what in (("batch", "forecasts"), ("landing_file", "readings")):
        op.add_column(
            table,
            sa.Column(
                "pruned_at",
                sa.DateTime(timezone=True),
                nullable=True,
                comment=f"when its {what} were deleted, UTC; null: they are kept",
            ),
            schema="bts",
        )
    _create_pruning()


def downgrade() -> None:
    op.drop_table("pruning", schema="bts")
    op.drop_column("landing_file", "pruned_at", schema="bts")
    op.drop_column("batch", "pruned_at", schema="bts")
    _create_partitioned()
    connection = op.get_bind()
    values = ", ".join(f"{level}[step]" for level in _LEVELS)
    for (batch,) in connection.exec_driver_sql("SELECT DISTINCT batch_id FROM bts.forecast_series ORDER BY 1").all():
        connection.exec_driver_sql(
            f"CREATE TABLE bts.forecast_{batch} PARTITION OF bts.forecast FOR VALUES IN ({batch})"
        )
        connection.exec_driver_sql(f"""
            INSERT INTO bts.forecast
            SELECT s.batch_id, station_id, parameter_id, step, issued_at,
                   issued_at + (step - 1) * make_interval(secs => step_seconds), {values}
            FROM bts.forecast_series AS s JOIN bts.batch USING (batch_id), generate_series(1, cardinality(q50)) AS step
            WHERE s.batch_id = {batch}
        """)
    op.drop_table("forecast_series", schema="bts")


def _check_unused(connection: sa.Connection) -> None:
    """bts.forecast is a view from here on: what others built on the table of that name cannot come along."""
    built = connection.exec_driver_sql("""
        SELECT DISTINCT ev_class::regclass::text FROM pg_depend JOIN pg_rewrite AS r ON r.oid = objid
        WHERE classid = 'pg_rewrite'::regclass AND refobjid = 'bts.forecast'::regclass ORDER BY 1
    """)
    names = [name for (name,) in built]
    if names:
        raise DatabaseError(
            f"the schema is to be upgraded, but others built on the table bts.forecast: {', '.join(names)}."
            " Drop those, upgrade, and create them again on the view of that name"
        )


def _check_whole(connection: sa.Connection, partition: str) -> None:
    """An array knows a step by its place: a series that lacks one in between has none."""
    lacking = connection.exec_driver_sql(f"""
        SELECT batch_id, station_id, parameter_id FROM {partition} GROUP BY 1, 2, 3
        HAVING min(step_ahead) <> 1 OR max(step_ahead) <> count(*) ORDER BY 1, 2, 3 LIMIT 1
    """).first()
    if lacking is not None:
        batch, station, parameter = lacking
        raise DatabaseError(
            f"batch {batch} lacks steps of station {station}, parameter {parameter}, which publishing never leaves so:"
            f" restore {partition} from a backup, or delete those rows, and migrate again"
        )


def _create_series() -> None:
    op.create_table(
        "forecast_series",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="batch"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        *[
            sa.Column(
                level,
                ARRAY(DOUBLE_PRECISION()),
                nullable=False,
                comment=f"{int(level[1:])} % quantiles by step ahead, in the parameter's unit",
            )
            for level in _LEVELS
        ],
        sa.CheckConstraint(
            " and ".join(f"cardinality({level}) = cardinality(q50)" for level in _LEVELS if level != "q50"),
            name=op.f("ck_forecast_series_same_steps"),
        ),
        sa.PrimaryKeyConstraint("batch_id", "station_id", "parameter_id", name=op.f("pk_forecast_series")),
        schema="bts",
        comment="forecasts, one row per series of every batch that is kept; bts.forecast shows them by step",
        # 192 steps of five levels fill a page: they stay in it. Longer arrays are moved out of line.
        postgresql_with={"toast_tuple_target": 8160},
    )
    for level in _LEVELS:
        # Digits of forecasts do not compress, and no plan asks for the distribution of whole arrays.
        op.execute(
            f"ALTER TABLE bts.forecast_series ALTER {level} SET STORAGE EXTERNAL, ALTER {level} SET STATISTICS 0"
        )


def _create_pruning() -> None:
    op.create_table(
        "pruning",
        sa.Column(
            "pruning_seq",
            sa.BigInteger(),
            sa.Identity(always=True),
            nullable=False,
            comment="number of the entry, counting up",
        ),
        sa.Column(
            "day",
            sa.Date(),
            nullable=False,
            comment="UTC day that was deleted; it and earlier ones are not computed again",
        ),
        sa.Column(
            "observations",
            sa.BigInteger(),
            nullable=False,
            comment="observations that were deleted; the newest of a series stays",
        ),
        sa.Column(
            "pruned_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
            comment="when, UTC",
        ),
        sa.PrimaryKeyConstraint("pruning_seq", name=op.f("pk_pruning")),
        schema="bts",
        comment="log of days whose observations went past BTS_OBSERVATION_RETENTION",
    )


def _create_partitioned() -> None:
    op.create_table(
        "forecast",
        sa.Column("batch_id", sa.BigInteger(), nullable=False, comment="batch; the key of the partition"),
        sa.Column("station_id", sa.BigInteger(), nullable=False, comment="station, the operator's number"),
        sa.Column("parameter_id", sa.Integer(), nullable=False, comment="parameter, the catalogue's number"),
        sa.Column("step_ahead", sa.SmallInteger(), nullable=False, comment="steps after the origin, from 1"),
        sa.Column("issued_at", sa.DateTime(timezone=True), nullable=False, comment="forecast origin, UTC"),
        sa.Column(
            "target_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="start of the interval that the row speaks of, UTC",
        ),
        *[
            sa.Column(
                level,
                DOUBLE_PRECISION(),
                nullable=False,
                comment=f"{int(level[1:])} % quantile, in the parameter's unit",
            )
            for level in _LEVELS
        ],
        sa.PrimaryKeyConstraint("batch_id", "station_id", "parameter_id", "step_ahead", name=op.f("pk_forecast")),
        schema="bts",
        comment="forecasts, one partition per batch; 192 rows a series and batch by default",
        postgresql_partition_by="LIST (batch_id)",
    )

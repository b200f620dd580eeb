"""Scores of batches at rest: which batches are due, what a batch forecast, and its scores replaced whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.monitoring.scores import STRETCHES, Scores
from bts_assets.monitoring.terms import BreachRule, terms_of_stored
from bts_assets.storage import alarm_tables, alert_tables, monitoring_tables
from bts_assets.storage.binary_copy import copy_rows
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.observation_blocks import Stations, of_stations
from bts_assets.storage.series_arrays import KEYS, read_arrays

#: A batch is due if observations of its horizon were computed from files that its scores do not know. A batch that was
#: loaded and never published is scored only where a challenger made it beside the champion.
_DUE: Final = sa.text("""
    SELECT b.batch_id, b.issued_at, b.step_seconds, b.horizon_steps, v.context_seconds, newest.ledger_seq,
           b.breach_terms
    FROM bts.batch AS b
    JOIN bts.model_version AS v USING (model_version_id)
    JOIN bts.installation AS i ON i.step_seconds = b.step_seconds
    CROSS JOIN LATERAL (
        SELECT max(o.ledger_seq) AS ledger_seq FROM bts.observed_day AS o
        WHERE o.last_observed_at >= b.issued_at
          AND o.day BETWEEN (b.issued_at AT TIME ZONE 'UTC')::date
              AND ((b.issued_at + b.horizon_steps * make_interval(secs => b.step_seconds)) AT TIME ZONE 'UTC')::date
    ) AS newest
    LEFT JOIN bts.scored_batch AS s ON s.batch_id = b.batch_id
    WHERE newest.ledger_seq > coalesce(s.ledger_seq, -1) AND b.pruned_at IS NULL
      AND (b.batch_id IN (SELECT batch_id FROM bts.publication)
           OR b.batch_id IN (SELECT shadow_batch_id FROM bts.probation_night))
    ORDER BY b.batch_id
""")


@dataclass(frozen=True)
class DueBatch:
    """A batch of which something has come that its scores do not know yet. rule: what it counted as a breach."""

    batch_id: int
    issued_at: datetime
    grid: Grid
    ledger_seq: int
    rule: BreachRule = field(default_factory=BreachRule)


def due_batches(engine: sa.Engine) -> list[DueBatch]:
    """Batches to be scored, the oldest first."""
    with engine.connect() as connection:
        rows = connection.execute(_DUE).all()
    return [
        DueBatch(
            row.batch_id,
            row.issued_at,
            Grid(
                step := timedelta(seconds=row.step_seconds),
                timedelta(seconds=row.context_seconds),
                row.horizon_steps * step,
            ),
            row.ledger_seq,
            terms_of_stored(row.breach_terms, {}).rule if row.breach_terms else BreachRule(),
        )
        for row in rows
    ]


def read_quantiles(
    connection: sa.Connection, batch_id: int, horizon: int, stations: Stations
) -> tuple[pd.MultiIndex, np.ndarray]:
    """What a batch forecast of some stations: (station_id, parameter_id) in order, quantiles (series, horizon, 5)."""
    query = (
        f"SELECT {', '.join([*KEYS, *QUANTILE_COLUMNS])} FROM bts.forecast_series"
        f" WHERE batch_id = {int(batch_id)}{of_stations(stations)} ORDER BY station_id, parameter_id"
    )
    series, levels = read_arrays(connection, query, dict.fromkeys(QUANTILE_COLUMNS, ("float64", horizon)))
    return series, np.stack([levels[name] for name in QUANTILE_COLUMNS], axis=2)


def begin_scores(connection: sa.Connection, batch: DueBatch) -> None:
    """Delete the scores of a batch, those of its breaches among them; new ones are added until `end_scores`."""
    c = monitoring_tables.scored_batch.c
    connection.execute(sa.delete(monitoring_tables.scored_batch).where(c.batch_id == batch.batch_id))
    crash_point("scoring.after_delete")
    entry = {"batch_id": batch.batch_id, "ledger_seq": batch.ledger_seq, "targets": 0}
    connection.execute(sa.insert(monitoring_tables.scored_batch).values(entry))


def add_scores(
    connection: sa.Connection,
    batch: DueBatch,
    series: pd.MultiIndex,
    scale: np.ndarray,
    scored: Mapping[str, Scores],
) -> pd.DataFrame:
    """Add the scores of some series; the rows of `bts.forecast_score`.

    scale (series,): MASE's denominator, NaN where there is none. Stretches of which nothing has come have no row.
    """
    frames = [_rows(batch.batch_id, name, series, scale, scores) for name, scores in scored.items()]
    rows = pd.concat(frames, ignore_index=True)
    copy_rows(connection, "bts.forecast_score", rows)
    return rows


def end_scores(connection: sa.Connection, batch: DueBatch, targets: int, ledger_seq: int) -> None:
    """Say how many targets of a batch are scored, and up to which entry of the ledger all that it gave is known."""
    t = monitoring_tables.scored_batch
    known = sa.update(t).where(t.c.batch_id == batch.batch_id).values(targets=targets, ledger_seq=ledger_seq)
    connection.execute(known)


def foreseen(connection: sa.Connection, batch_id: int, stations: Stations) -> pd.DataFrame:
    """Breaches that a batch foresaw at some stations: station_id, parameter_id, side and a probability per window."""
    b = monitoring_tables.breach_forecast.c
    columns = (b.station_id, b.parameter_id, b.side, b.probability_6h, b.probability_24h, b.probability_48h)
    rows = (
        connection.execute(sa.select(*columns).where(b.batch_id == batch_id, b.station_id.between(*stations)))
        .mappings()
        .all()
    )
    return pd.DataFrame(rows, columns=[c.name for c in columns])


def replace_breach_scores(connection: sa.Connection, rows: list[dict[str, Any]]) -> int:
    """Enter what a batch's breaches were worth; what stood there went with its scores."""
    if rows:
        connection.execute(sa.insert(alarm_tables.breach_score), rows)
    return len(rows)


def planned_steps(connection: sa.Connection, station_id: np.ndarray, grid: Grid, start: datetime) -> np.ndarray:
    """Which steps (stations, horizon) after `start` lie, in part at least, in an outage that was planned."""
    found = np.zeros((len(station_id), grid.horizon_steps), bool)
    o = alert_tables.planned_outage.c
    overlapping = sa.select(o.station_id, o.starts_at, o.ends_at).where(
        o.starts_at < start + grid.horizon, o.ends_at > start
    )
    for station, starts_at, ends_at in connection.execute(overlapping):
        first, past = max((starts_at - start) // grid.step, 0), -((start - ends_at) // grid.step)
        found[station_id == station, first:past] = True
    return found


def accuracy_by_parameter(connection: sa.Connection) -> list[dict[str, Any]]:
    """The accuracy of served forecasts over 7 scored days, beside the baselines, for each parameter: parameter (name),
    mase, last_value, yesterday, last_week, day_median, coverage80, targets.
    """
    return [dict(row) for row in connection.execute(_BY_PARAMETER).mappings()]


def accuracy_by_candidate(connection: sa.Connection) -> dict[str, dict[str, Any]]:
    """The same by candidate (`served` among them), over all parameters: mase, coverage80, targets."""
    return {row["candidate"]: dict(row) for row in connection.execute(_BY_CANDIDATE).mappings()}


def count_scores(connection: sa.Connection) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(monitoring_tables.forecast_score)) or 0)


_BY_PARAMETER: Final = sa.text("""
    SELECT coalesce(parameter, parameter_id::text) AS parameter,
           max(mase) FILTER (WHERE candidate = 'served') AS mase,
           max(mase) FILTER (WHERE candidate = 'last_value') AS last_value,
           max(mase) FILTER (WHERE candidate = 'seasonal_naive_day') AS yesterday,
           max(mase) FILTER (WHERE candidate = 'seasonal_naive_week') AS last_week,
           max(mase) FILTER (WHERE candidate = 'window_median') AS day_median,
           max(coverage80) FILTER (WHERE candidate = 'served') AS coverage80,
           max(targets) FILTER (WHERE candidate = 'served') AS targets
    FROM (SELECT parameter_id, parameter, candidate, sum(targets) AS targets,
                 sum(mase * targets) / nullif(sum(targets) FILTER (WHERE mase IS NOT NULL), 0) AS mase,
                 sum(coverage80 * targets) / nullif(sum(targets), 0) AS coverage80
          FROM bts.forecast_accuracy JOIN bts.scored_kind USING (days, kind)
          WHERE days = 7 AND role = 'served' GROUP BY parameter_id, parameter, candidate) AS summed
    GROUP BY parameter_id, parameter ORDER BY parameter_id
""")
_BY_CANDIDATE: Final = sa.text("""
    SELECT candidate, sum(targets) AS targets,
           sum(mase * targets) / nullif(sum(targets) FILTER (WHERE mase IS NOT NULL), 0) AS mase,
           sum(coverage80 * targets) / nullif(sum(targets), 0) AS coverage80
    FROM bts.forecast_accuracy JOIN bts.scored_kind USING (days, kind)
    WHERE days = 7 AND role = 'served' GROUP BY candidate
""")


def score_again(connection: sa.Connection, start: datetime, end: datetime) -> None:
    """Have batches scored anew whose horizon overlaps a span of which something else is known now."""
    connection.execute(_AGAIN, {"start": start, "end": end})


_AGAIN: Final = sa.text("""
    UPDATE bts.scored_batch AS s SET ledger_seq = -1 FROM bts.batch AS b
    WHERE b.batch_id = s.batch_id AND b.pruned_at IS NULL AND b.issued_at < :end
      AND b.issued_at + b.horizon_steps * make_interval(secs => b.step_seconds) > :start
""")


def _rows(batch_id: int, candidate: str, series: pd.MultiIndex, scale: np.ndarray, scores: Scores) -> pd.DataFrame:
    sums = {name: values.ravel() for name, values in vars(scores).items()}
    counts = {name: sums.pop(name).astype(np.int64) for name in ("targets", "inside80", "inside90")}
    frame = pd.DataFrame(
        {
            "batch_id": batch_id,
            "station_id": np.repeat(series.get_level_values(0).to_numpy(), STRETCHES),
            "parameter_id": np.repeat(series.get_level_values(1).to_numpy(), STRETCHES),
            "candidate": candidate,
            "stretch": np.tile(np.arange(1, STRETCHES + 1), len(series)),
            **counts,
            **sums,
            "scale": np.repeat(scale, STRETCHES),
        }
    )
    return frame[frame["targets"] > 0]

"""Figures of a home for a monitoring system: read off the views at each look, one snapshot of them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from bts_assets.contracts.errors import BtsError
from bts_assets.services.home import open_home
from bts_assets.settings import Settings


@dataclass(frozen=True)
class Metric:
    """A family of figures: its name after Prometheus' rules, its labels, and label values -> figure."""

    name: str
    kind: Literal["gauge", "counter"]
    about: str
    labels: tuple[str, ...] = ()
    figures: Mapping[tuple[str, ...], float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Asked:
    name: str
    kind: Literal["gauge", "counter"]
    about: str
    labels: tuple[str, ...]
    query: str  # its columns are the labels, then the figure; a row whose figure is null is left out


#: Whether the figures could be read at all: what is not there is an alarm.
UP: Final = "bts_database_up"
_LATEST: Final = "SELECT {} FROM bts.latest_batch"
_WEEK: Final = """
    SELECT candidate, sum({0} * targets) / nullif(sum(targets) FILTER (WHERE {0} IS NOT NULL), 0)
    FROM bts.forecast_accuracy JOIN bts.scored_kind USING (days, kind)
    WHERE days = 7 AND role = 'served' {1} GROUP BY candidate
"""
_COST: Final = """
    SELECT stage, {} FROM bts.night_cost
    WHERE batch_id = (SELECT batch_id FROM bts.latest_batch)
"""
_ASKED: Final = (
    _Asked("bts_batch_origin_timestamp_seconds", "gauge", "origin of the batch that serves, seconds since 1970", (),
           _LATEST.format("extract(epoch FROM issued_at)")),
    _Asked("bts_batch_published_timestamp_seconds", "gauge", "when it was published, seconds since 1970", (),
           _LATEST.format("extract(epoch FROM published_at)")),
    _Asked("bts_batch_state", "gauge", "1 for the state of the batch that serves", ("state",),
           "SELECT name, coalesce((name = (SELECT state FROM bts.latest_batch))::int, 0)"
           " FROM unnest(ARRAY['current', 'stale', 'retrospective', 'in_sample']) AS name"),
    _Asked("bts_batch_series", "gauge", "series of the batch that serves, by what became of them", ("status",),
           "SELECT s.* FROM bts.latest_batch, LATERAL (VALUES ('forecast', forecast), ('fallback', fallback),"
           " ('excluded', excluded)) AS s"),
    _Asked("bts_newest_observation_timestamp_seconds", "gauge",
           "newest observation before that origin, seconds since 1970", (),
           _LATEST.format("extract(epoch FROM last_observed_at)")),
    _Asked("bts_landing_files_total", "counter", "landing files of the ledger, by what became of them", ("status",),
           "SELECT status, count(*) FROM bts.ingest_ledger GROUP BY status"),
    _Asked("bts_landing_rows_total", "counter", "rows of landing files, by what became of them", ("result",),
           "SELECT s.* FROM (SELECT sum(accepted) AS accepted, sum(rejected) AS rejected, sum(duplicate) AS duplicate"
           " FROM bts.ingest_ledger) AS l, LATERAL (VALUES ('accepted', accepted), ('rejected', rejected),"
           " ('duplicate', duplicate)) AS s"),
    _Asked("bts_breaches_expected", "gauge", "limits that are passed within 48 h, likely or possibly",
           ("perceived_severity", "how_sure"),
           "SELECT perceived_severity, how_sure, count(*) FROM bts.predicted_breach GROUP BY 1, 2"),
    _Asked("bts_breaches_now", "gauge", "series whose newest observation lies beyond a limit", (),
           "SELECT count(*) FROM bts.current_breach"),
    _Asked("bts_alerts", "gauge", "alerts that are not over", ("kind", "perceived_severity", "state"),
           "SELECT kind, perceived_severity, state, count(*) FROM bts.alert_status WHERE cleared_at IS NULL"
           " GROUP BY 1, 2, 3"),
    _Asked("bts_alerts_undelivered", "gauge", "open alerts that a channel did not take", (),
           "SELECT count(*) FROM bts.alert_status WHERE state = 'open' AND delivery_error IS NOT NULL"),
    _Asked("bts_forecast_mase", "gauge", "mean absolute scaled error over 7 scored days", ("candidate",),
           _WEEK.format("mase", "")),
    _Asked("bts_forecast_coverage80", "gauge", "share of actuals within the 80 % interval over 7 scored days",
           ("candidate",), _WEEK.format("coverage80", "AND candidate = 'served'")),
    _Asked("bts_night_wall_seconds", "gauge", "time that the batch that serves took, by stage; night: altogether",
           ("stage",), _COST.format("wall_seconds")),
    _Asked("bts_night_cpu_seconds", "gauge", "processor time that it took", ("stage",), _COST.format("cpu_seconds")),
    _Asked("bts_night_peak_bytes", "gauge", "most memory that it held", ("stage",), _COST.format("peak_bytes")),
    _Asked("bts_night_ready_in_time", "gauge", "1: it was published by BTS_READY_BY; 0: later", (),
           _COST.format("").replace("stage, ", "ready_in_time::int") + " AND stage = 'night'"),
)  # fmt: skip

NAMES: Final = (UP, *(asked.name for asked in _ASKED))


def read_metrics(settings: Settings) -> list[Metric]:
    """Every figure as it is now; without a database `bts_database_up` alone, which is 0."""
    try:
        engine = open_home(settings, to_read=True).engine
        try:
            with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                found = [_read(connection, asked) for asked in _ASKED]
        finally:
            engine.dispose()
    except (BtsError, DBAPIError):
        return [_up(0)]
    return [_up(1), *found]


def _up(figure: float) -> Metric:
    return Metric(UP, "gauge", "1: the figures below could be read; 0: no database answers", (), {(): figure})


def _read(connection: sa.Connection, asked: _Asked) -> Metric:
    rows: Iterable[Any] = connection.execute(sa.text(asked.query))
    return Metric(asked.name, asked.kind, asked.about, asked.labels, dict(_figures(rows)))


def _figures(rows: Iterable[Any]) -> Iterator[tuple[tuple[str, ...], float]]:
    for *labels, figure in rows:
        if figure is not None:
            yield tuple(map(str, labels)), float(figure)

"""Lineage read back, both ways: what made a forecast row, and what a landing file or a model version touched."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.errors import UsageError
from bts_assets.storage.readings import ReadingsMissing, ReadingStore

Row = Mapping[str, Any]

#: So many hexadecimal digits may stand for a digest.
_DIGEST_PREFIX: Final = re.compile(r"[0-9a-f]{4,64}")

#: Names that fit as well, told at most.
_TOLD: Final = 5


class LineageError(UsageError):
    """What was asked about is not there, or could be several."""


@dataclass(frozen=True)
class Lineage:
    """One series of one batch: its row of `bts.forecast_lineage`, and the row of `bts.forecast` that was asked for.

    `forecast` is None where the series was excluded from the batch, or the batch was pruned (`made_by["pruned_at"]`).
    """

    made_by: Row
    forecast: Row | None


@dataclass(frozen=True)
class Impact:
    """What was touched. Each row says what the columns of its query are called.

    Of a file: entries of the ingest ledger with its content; versions trained on it; batches, with `by_input`,
    `by_training`, the digests `used` in their input and `series_by_input`; series: station_id, parameter_id, their
    readings in the content, and how many batches had some in their input window; gone: why those could not be counted.
    Of a model version: it, the batches that it forecast, and the series that it served, with the number of batches.
    """

    entries: Sequence[Row]
    versions: Sequence[Row]
    batches: Sequence[Row]
    series: pd.DataFrame
    gone: str | None = None


def lineage_of(
    engine: sa.Engine,
    station: int,
    parameter: int,
    target_at: datetime | None = None,
    issued_at: datetime | None = None,
) -> Lineage:
    """What made a forecast: by default the first step of the batch that serves.

    `target_at` asks for the step that it falls into, of the newest origin that reaches it; `issued_at` for the batch
    published last for that origin.

    Raises:
        LineageError: if there is no such forecast.
    """
    key = {"station": station, "parameter": parameter, "target_at": target_at, "issued_at": issued_at}
    with engine.connect() as connection:
        batch_id = connection.scalar(_batch_query(target_at, issued_at), key)
        if batch_id is None:
            raise LineageError(_no_batch(target_at, issued_at))
        key["batch"] = batch_id
        made_by = connection.execute(_LINEAGE, key).mappings().first()
        if made_by is None:
            raise LineageError(
                f"batch {batch_id} has no series of station {station}, parameter {parameter};"
                " bts.series_status lists those of the latest batch"
            )
        ahead = (target_at or made_by["issued_at"]) - made_by["issued_at"]
        key["step"] = 1 + ahead // timedelta(seconds=made_by["step_seconds"])
        forecast = connection.execute(_FORECAST, key).mappings().first()
    if forecast is None and made_by["status"] != "excluded" and made_by["pruned_at"] is None:
        raise LineageError(
            f"batch {batch_id} of origin {made_by['issued_at']} keeps no forecast of station {station},"
            f" parameter {parameter} for {target_at or 'its first step'}"
        )
    return Lineage(dict(made_by), dict(forecast) if forecast else None)


def _batch_query(target_at: datetime | None, issued_at: datetime | None) -> sa.TextClause:
    if issued_at is not None:
        return _BATCH_OF_ORIGIN
    return _BATCH_SERVING if target_at is None else _BATCH_REACHING


_BATCH_SERVING: Final = sa.text("SELECT batch_id FROM bts.latest_batch")
_BATCH_OF_ORIGIN: Final = sa.text("""
    SELECT batch_id FROM bts.publication JOIN bts.batch USING (batch_id)
    WHERE issued_at = :issued_at ORDER BY publication_seq DESC LIMIT 1
""")
_BATCH_REACHING: Final = sa.text("""
    SELECT batch_id FROM bts.publication JOIN bts.batch USING (batch_id)
    WHERE issued_at <= :target_at AND :target_at < issued_at + horizon_steps * make_interval(secs => step_seconds)
    ORDER BY issued_at DESC, publication_seq DESC LIMIT 1
""")
_LINEAGE: Final = sa.text("""
    SELECT l.*, s.name AS station_name, p.name AS parameter_name, p.unit, b.step_seconds, b.horizon_steps
    FROM bts.forecast_lineage AS l
    JOIN bts.batch AS b USING (batch_id)
    LEFT JOIN bts.station AS s USING (station_id)
    LEFT JOIN bts.parameter AS p USING (parameter_id)
    WHERE l.batch_id = :batch AND l.station_id = :station AND l.parameter_id = :parameter
""")
_FORECAST: Final = sa.text("""
    SELECT * FROM bts.forecast
    WHERE batch_id = :batch AND station_id = :station AND parameter_id = :parameter AND step_ahead = :step
""")


def _no_batch(target_at: datetime | None, issued_at: datetime | None) -> str:
    if issued_at is not None:
        return f"no batch of origin {issued_at} was published; bts.batch lists the origins that were"
    if target_at is not None:
        return f"no published batch reaches {target_at}"
    return "nothing was published yet: run bts nightly"


def impact_of_file(engine: sa.Engine, store: ReadingStore, name: str) -> Impact:
    """What a landing file touched: batches by their input window, and by the training of their model version.

    `name` is a file name, a path below the landing root, or the beginning of a digest. What counts is the content: all
    that the name ever held, under whatever names it came. A global model hands on what it learned to every series.

    Raises:
        LineageError: if no file is called so, or several are.
    """
    with engine.connect() as connection:
        digests = _digests_of(connection, name)
        given: dict[str, list[Any]] = {"digests": digests}
        entries = [dict(row) for row in connection.execute(_ENTRIES, given).mappings()]
        given["versions"] = list(connection.execute(_TRAINED_ON, given).scalars())
        versions = [dict(row) for row in connection.execute(_VERSIONS, given).mappings()]
        batches = [dict(row) for row in connection.execute(_BATCHES, given).mappings()]
    used: dict[str, pd.DataFrame] = {}
    gone: str | None = None
    for digest in sorted({digest for batch in batches for digest in batch["used"]}):
        try:
            used[digest] = store.read(digest)
        except ReadingsMissing as error:
            gone = str(error)
    return Impact(entries, versions, batches, _count_series(used, batches), gone)


def _count_series(used: Mapping[str, pd.DataFrame], batches: list[dict[str, Any]]) -> pd.DataFrame:
    """The series of the content, and how many batches used their readings; each batch is told how many series."""
    columns = ["station_id", "parameter_id"]
    readings = pd.concat([frame.assign(digest=digest) for digest, frame in used.items()]) if used else None
    if readings is None:
        return pd.DataFrame(columns=[*columns, "readings", "batches"])
    numbers = readings.groupby(columns).ngroup().to_numpy()
    series = readings.groupby(columns).size().rename("readings").reset_index().assign(batches=0)
    time = readings["reading_time"]
    for batch in batches:
        within = (time >= batch["input_start"]) & (time < batch["issued_at"]) & readings["digest"].isin(batch["used"])
        mine = np.unique(numbers[within.to_numpy()])
        series.loc[mine, "batches"] += 1
        batch["series_by_input"] = len(mine)
    return series


def impact_of_model(engine: sa.Engine, model_version_id: int) -> Impact:
    """What a model version touched: the batches that it forecast, every series that it served in them.

    Raises:
        LineageError: if there is no such version.
    """
    with engine.connect() as connection:
        given = {"versions": [model_version_id], "digests": []}
        versions = [dict(row) for row in connection.execute(_VERSIONS, given).mappings()]
        if not versions:
            known = connection.execute(sa.text("SELECT max(model_version_id) FROM bts.model_version")).scalar()
            raise LineageError(
                f"there is no model version {model_version_id}; "
                + (f"the newest is {known}" if known else "none was trained yet: run bts nightly")
            )
        batches = [dict(row) for row in connection.execute(_BATCHES, given).mappings()]
        series = pd.read_sql(_SERIES_OF_VERSIONS, connection, params=given)
    return Impact([], versions, batches, series)


def _digests_of(connection: sa.Connection, name: str) -> list[str]:
    prefix = name if _DIGEST_PREFIX.fullmatch(name) else None
    found = [tuple(row) for row in connection.execute(_NAMED, {"name": name, "prefix": prefix})]
    exact = [row for row in found if row[0] == name]
    found = exact or found
    if not found:
        raise LineageError(
            f"no landing file is called {name}, and no digest begins with it; bts.ingest_ledger lists them all"
        )
    # A name may have held several contents; several names, or several digests that begin alike, need a longer one.
    several = sorted({digest if prefix else path for path, digest in found})
    if len(several) > 1:
        more = f" and {len(several) - _TOLD} more" if len(several) > _TOLD else ""
        raise LineageError(f"{name} could be any of {', '.join(several[:_TOLD])}{more}; name one of them")
    return sorted({digest for _, digest in found})


_NAMED: Final = sa.text("""
    SELECT DISTINCT path, digest::text FROM bts.landing_file
    WHERE path = :name OR right(path, length(:name) + 1) = '/' || :name OR starts_with(digest, CAST(:prefix AS text))
""")
_ENTRIES: Final = sa.text("""
    SELECT * FROM bts.ingest_ledger WHERE digest = ANY(CAST(:digests AS text[])) ORDER BY ledger_seq
""")
# By the very function of bts.forecast_lineage, so that both ways tell the same.
_TRAINED_ON: Final = sa.text("""
    SELECT model_version_id FROM bts.model_version
    WHERE bts.files_known(training_start, training_end, training_ledger_seq) && CAST(:digests AS text[])
""")
_VERSIONS: Final = sa.text("""
    SELECT v.*, (SELECT count(*) FROM bts.batch AS b
            WHERE v.model_version_id IN (b.model_version_id, b.canary_version_id)) AS batches
    FROM bts.model_version AS v WHERE v.model_version_id = ANY(CAST(:versions AS bigint[])) ORDER BY v.model_version_id
""")
_BATCHES: Final = sa.text("""
    SELECT b.*, used, used <> '{}' AS by_input,
           ARRAY[b.model_version_id, b.canary_version_id] && CAST(:versions AS bigint[]) AS by_training,
           EXISTS (SELECT FROM bts.publication AS p WHERE p.batch_id = b.batch_id) AS published,
           b.batch_id IS NOT DISTINCT FROM (SELECT batch_id FROM bts.latest_batch) AS serves
    FROM bts.batch AS b, LATERAL (
        SELECT coalesce(array_agg(digest), '{}') AS used
        FROM unnest(bts.files_known(b.input_start, b.issued_at, b.input_ledger_seq)) AS digest
        WHERE digest = ANY(CAST(:digests AS text[]))
    ) AS input
    WHERE used <> '{}' OR ARRAY[b.model_version_id, b.canary_version_id] && CAST(:versions AS bigint[])
    ORDER BY b.issued_at DESC, b.batch_id DESC
""")
_SERIES_OF_VERSIONS: Final = sa.text("""
    SELECT station_id, parameter_id, count(*) AS batches
    FROM bts.forecast_ledger AS l JOIN bts.batch AS b USING (batch_id)
    WHERE coalesce(l.model_version_id, b.model_version_id) = ANY(CAST(:versions AS bigint[])) AND status <> 'excluded'
    GROUP BY station_id, parameter_id ORDER BY station_id, parameter_id
""")

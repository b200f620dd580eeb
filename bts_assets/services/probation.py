"""Challengers that run beside the champion for some nights: when one begins, what each night left, and when it ends."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.errors import BtsError
from bts_assets.forecasting.promotion_rules import SERIES, apart
from bts_assets.services.champions import check_champion, mirror
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import Given
from bts_assets.services.nightly import CanaryShare, forecast_beside
from bts_assets.storage import tables
from bts_assets.storage.decisions import Decision, end_probations, record
from bts_assets.storage.locks import LOCK_PROMOTE, transaction
from bts_assets.storage.model_versions import ModelVersion, champion_for, find_version, fits

log = logging.getLogger(__name__)


class ProbationError(BtsError):
    """A version cannot run beside the champion, or none does."""


@dataclass(frozen=True)
class Probation:
    """A challenger that runs beside the champion. share: of the stations that it serves; 0: in shadow."""

    probation_id: int
    challenger: ModelVersion
    nights: int
    share: float
    began_at: datetime

    @property
    def canary(self) -> CanaryShare | None:
        return CanaryShare(self.challenger, self.share) if self.share else None


def running(home: Home) -> Probation | None:
    """The probation that runs on this grid, if one does."""
    p = tables.probation.c
    query = sa.select(p.probation_id, p.model_version_id, p.nights, p.share, p.began_at).where(p.ended_at.is_(None))
    with home.engine.connect() as connection:
        rows = connection.execute(query.order_by(p.probation_id.desc())).all()
    for number, version_id, nights, share, began_at in rows:
        version = find_version(home.engine, version_id)
        if version is not None and fits(version, home.settings.grid):
            return Probation(number, version, nights, share, began_at)
    return None


def begin(home: Home, version: ModelVersion, nights: int, share: float, decision: Decision) -> Probation:
    """Let a version run beside the champion from the next night on. One that runs already ends.

    Raises:
        ProbationError: if it is for another grid or the champion, or there is none that it could run beside.
        ModelStoreError: if its bundle is gone or altered.
    """
    grid = home.settings.grid
    champion, why = champion_for(home.engine, grid), None
    if not fits(version, grid):
        why = "it is for another grid"
    elif champion is None:
        why = "there is no champion that it could run beside"
    elif champion.model_version_id == version.model_version_id:
        why = "it is champion"
    if why:
        raise ProbationError(f"model version {version.model_version_id} cannot run on probation: {why}")
    home.models.load(version.bundle_digest, version.mlflow_model_uri)
    with transaction(home.engine, LOCK_PROMOTE) as connection:
        check_champion(home, champion)
        end_probations(connection, grid, f"model version {version.model_version_id} took its place")
        row = {
            "model_version_id": version.model_version_id,
            "nights": nights,
            "share": share,
            "reason": decision.reason,
        }
        connection.execute(sa.insert(tables.probation).values(row))
        record(connection, grid, version, decision)
    mirror(home, version, decision)
    begun = running(home)
    assert begun is not None  # noqa: S101 - it was entered a moment ago
    return begun


def end(home: Home, probation: Probation, decision: Decision, beside: ModelVersion | None = None) -> None:
    """End a probation with what was decided of its challenger: one commit.

    Raises:
        ProbationError: if another process ended it meanwhile; nothing is decided then.
        ChampionError: if the champion that it was compared with, `beside`, serves no more.
    """
    p, number = tables.probation.c, probation.challenger.model_version_id
    outcome = f"{decision.verdict}: {decision.reason}"
    with transaction(home.engine, LOCK_PROMOTE) as connection:
        check_champion(home, beside)
        ended = sa.update(tables.probation).where(p.probation_id == probation.probation_id, p.ended_at.is_(None))
        if not connection.execute(ended.values(ended_at=sa.func.clock_timestamp(), outcome=outcome)).rowcount:
            raise ProbationError(f"the probation of model version {number} is over already; `bts versions` says why")
        record(connection, home.settings.grid, probation.challenger, decision)
    mirror(home, probation.challenger, decision)


def run_beside(home: Home, probation: Probation, given: Given, batch_id: int, run_id: str | None) -> int | None:
    """The challenger's batch of a night, loaded and not served; None if it failed, which no night minds.

    It is entered beside the batch that serves; the same night again finds what is there.
    """
    shadow, failure = None, None
    try:
        shadow = forecast_beside(home, given, probation.challenger, run_id)
    except Exception as error:
        failure = f"{type(error).__name__}: {error}".splitlines()[0]
        log.warning("model version %s made no batch: %s", probation.challenger.model_version_id, failure)
    row = {
        "probation_id": probation.probation_id,
        "batch_id": batch_id,
        "shadow_batch_id": shadow,
        "failure": failure,
    }
    statement = insert(tables.probation_night).values(row)
    newer = {"shadow_batch_id": shadow, "failure": failure}
    with home.engine.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["probation_id", "batch_id"], set_=newer))
    return shadow


def apart_of(home: Home, batch_id: int, shadow_batch_id: int) -> pd.DataFrame:
    """As `promotion_rules.apart`, of a night's two batches; of a canary's stations, which both have alike, nothing."""
    with home.engine.connect() as connection:
        found = connection.execute(_APART, {"batch": batch_id, "shadow": shadow_batch_id})
        means = pd.DataFrame(found.mappings().all(), columns=[*found.keys()])
    return apart(means.set_index(SERIES))


def batch_beside(home: Home, issued_at: datetime) -> int:
    """The batch that a night published last for its origin.

    Raises:
        ProbationError: if it published none.
    """
    with home.engine.connect() as connection:
        number: int | None = connection.scalar(_PUBLISHED, {"issued_at": issued_at})
    if number is None:
        raise ProbationError(f"nothing was published for {issued_at} that a challenger could be compared with")
    return number


def nights_of(home: Home, probation: Probation) -> pd.DataFrame:
    """One row per night that counts, of its newest batch: issued_at, ends_at, batch_id, shadow_batch_id, failure.

    An origin that the challenger was trained past does not count: it would be scored on what it has seen. Nor does a
    night on which it was given later readings than the champion.
    """
    with home.engine.connect() as connection:
        rows = connection.execute(_NIGHTS, {"probation": probation.probation_id}).mappings().all()
    # As objects, so that no failure is None and no number that is none becomes one with a fraction.
    columns = ["issued_at", "ends_at", "batch_id", "shadow_batch_id", "failure"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def errors_of(home: Home, probation: Probation, batches: list[int]) -> pd.DataFrame:
    """As `promotion_rules.paired_errors`, from the actuals of the nights of these batches.

    Switches are left out, whose probability of being on no version learns; so are nights on which a counter was reset.
    """
    with home.engine.connect() as connection:
        found = connection.execute(_ERRORS, {"probation": probation.probation_id, "batches": batches})
        return pd.DataFrame(found.mappings().all(), columns=[*found.keys()])


_APART: Final = sa.text("""
    SELECT station_id, parameter_id, avg(abs(s.q50 - f.q50)) AS apart, avg(s.q50 - f.q50) AS shift,
           avg(s.q90 - s.q10) AS width, avg(f.q90 - f.q10) AS was, avg(abs(f.q50)) AS level,
           coalesce(stddev_pop(f.q50), 0) AS swing
    FROM bts.forecast AS f JOIN bts.forecast AS s USING (station_id, parameter_id, step_ahead)
    JOIN bts.forecast_ledger AS l USING (station_id, parameter_id)
    WHERE f.batch_id = :batch AND s.batch_id = :shadow AND l.batch_id = :batch AND l.model_version_id IS NULL
    GROUP BY station_id, parameter_id
""")
_PUBLISHED: Final = sa.text("""
    SELECT batch_id FROM bts.publication JOIN bts.batch USING (batch_id)
    WHERE issued_at = :issued_at ORDER BY publication_seq DESC LIMIT 1
""")
_NIGHTS: Final = sa.text("""
    SELECT DISTINCT ON (b.issued_at) b.issued_at,
           b.issued_at + b.horizon_steps * make_interval(secs => b.step_seconds) AS ends_at,
           n.batch_id, n.shadow_batch_id, n.failure
    FROM bts.probation_night AS n
    JOIN bts.batch AS b USING (batch_id)
    JOIN bts.probation AS p USING (probation_id)
    JOIN bts.model_version AS v ON v.model_version_id = p.model_version_id AND v.training_end <= b.issued_at
    LEFT JOIN bts.batch AS s ON s.batch_id = n.shadow_batch_id
    WHERE n.probation_id = :probation AND (s.batch_id IS NULL OR s.observations_digest = b.observations_digest)
    ORDER BY b.issued_at, n.batch_id DESC
""")
_ERRORS: Final = sa.text("""
    SELECT station_id, parameter_id, avg(mae) AS challenger, avg(champion_mae) AS champion, avg(spread) AS scale,
           avg(coverage80)::float AS coverage80, avg(champion_coverage80)::float AS champion_coverage80,
           count(*) AS nights
    FROM bts.probation_score JOIN bts.parameter AS k USING (parameter_id)
    WHERE probation_id = :probation AND batch_id = ANY(:batches) AND spread > 0
      AND k.kind <> 'switch' AND NOT (k.kind = 'counter' AND fell)
    GROUP BY station_id, parameter_id ORDER BY station_id, parameter_id
""")

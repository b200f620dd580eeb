"""Which version serves: the log of champions and of every decision. Postgres decides, MLflow mirrors it."""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from bts_assets.contracts.errors import BtsError, UsageError
from bts_assets.contracts.grid import format_duration
from bts_assets.contracts.origin import choose_origin
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.mlflow_sync import tell_served
from bts_assets.services.nightly import forecast_beside
from bts_assets.services.training import register_late
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.decisions import Decision, champion_before, record
from bts_assets.storage.forecasts import point
from bts_assets.storage.locks import LOCK_PROMOTE, LOCK_PUBLISH, transaction
from bts_assets.storage.mlflow_registry import CHALLENGER, CHAMPION, ModelStoreError
from bts_assets.storage.model_versions import ModelVersion, champion_for, find_version, fits
from bts_assets.storage.observations import observed_span

log = logging.getLogger(__name__)


class ChampionError(BtsError):
    """A version cannot be made champion, or there is none to go back to."""


def decide(home: Home, version: ModelVersion, decision: Decision, beside: ModelVersion | None = None) -> int:
    """Keep a decision; a version that is promoted is champion from its commit on. Its number.

    The alias in MLflow, and what its run says, follow; MLflow being down undoes nothing.

    Raises:
        ChampionError: if the champion that it was compared with, `beside`, serves no more.
    """
    with transaction(home.engine, LOCK_PROMOTE) as connection:
        check_champion(home, beside)
        decision_id = record(connection, home.settings.grid, version, decision)
        crash_point("promotion.before_commit")
    crash_point("promotion.after_commit")
    mirror(home, version, decision)
    return decision_id


def check_champion(home: Home, beside: ModelVersion | None) -> None:
    """See that a decision rests on the champion that serves still. The caller holds `LOCK_PROMOTE`.

    Raises:
        ChampionError: if another version became champion meanwhile.
    """
    if beside is not None and not _serves(home, beside):
        raise ChampionError(
            f"model version {beside.model_version_id}, which it was compared with, is superseded: run it again"
        )


def _serves(home: Home, version: ModelVersion) -> bool:
    # By its number: it may have been registered meanwhile, which makes another row of the same version.
    champion = champion_for(home.engine, home.settings.grid)
    return champion is not None and champion.model_version_id == version.model_version_id


def mirror(home: Home, version: ModelVersion, decision: Decision) -> None:
    """Let MLflow know what Postgres decided: its alias, and what the runs say."""
    if decision.verdict in ("promoted", "rolled back"):
        if version.registry_version is None:
            _take_alias_off(home)
        elif not _point(home, version.registry_version):
            return  # nobody waits for MLflow twice: a later night tells it
    crash_point("promotion.after_alias")
    if version.registry_version is not None and not _describe(home, version.registry_version, decision):
        return
    tell_served(home)


def _describe(home: Home, registry_version: int, decision: Decision) -> bool:
    """The registered version says what was decided about it; one that asks no more is no challenger. Whether MLflow
    answered.
    """
    told = f"{decision.verdict} by {decision.decided_by}: {decision.reason}"
    told += "\n\nThe alias follows what Postgres decided: `bts promote` and `bts rollback` change it, not this page."
    try:
        home.models.describe(registry_version, {"decision": decision.verdict, "decided_by": decision.decided_by}, told)
        if decision.verdict != "probation":
            home.models.unpoint(CHALLENGER, registry_version)
    except ModelStoreError as error:
        log.warning("%s; the decision stands in bts.model_decision", error)
        return False
    return True


def mend_alias(home: Home, champion: ModelVersion) -> ModelVersion:
    """Let MLflow's alias follow the champion again, where it was left behind. MLflow being down stops no night.

    A champion that was trained while MLflow was down is registered now; it is given back as it stands then.
    """
    try:
        pointed = home.models.pointed(CHAMPION)
        if champion.registry_version is None:
            champion = register_late(home, champion)
    except ModelStoreError as error:
        log.warning("%s; the alias will be mended by a later night", error)
        return champion
    if champion.registry_version is not None and pointed != champion.registry_version:
        _point(home, champion.registry_version)
    _mend_challenger(home)
    return champion


def _mend_challenger(home: Home) -> None:
    """Take the challenger's alias off a version that was decided about while MLflow did not answer."""
    try:
        pointed = home.models.pointed(CHALLENGER)
    except ModelStoreError as error:
        log.warning("%s; the alias will be mended by a later night", error)
        return
    with home.engine.connect() as connection:
        row = connection.execute(_LAST_DECISION, {"registered": pointed}).first()
    if pointed is not None and row is not None and row.verdict != "probation":
        _describe(home, pointed, Decision(row.verdict, row.decided_by, row.reason))


def _point(home: Home, registry_version: int) -> bool:
    """Let the alias name a version; whether MLflow answered."""
    try:
        home.models.point(CHAMPION, registry_version)
        home.models.unpoint(CHALLENGER, registry_version)
    except ModelStoreError as error:
        log.warning("%s; the alias will be mended by a later night", error)
        return False
    return True


def _take_alias_off(home: Home) -> None:
    """Remove the alias of a champion that is not in the registry: better none than one that names another version."""
    with home.engine.connect() as connection:
        if not connection.scalar(_ANY_REGISTERED):
            return
    try:
        pointed = home.models.pointed(CHAMPION)
        if pointed is not None:
            home.models.unpoint(CHAMPION, pointed)
    except ModelStoreError as error:
        log.warning("%s; the alias will be mended by a later night", error)


def promote(home: Home, number: int, reason: str) -> ModelVersion:
    """Make a version champion by hand, from the next batch on.

    Raises:
        UsageError: if there is no such version.
        ChampionError: if it is for another grid, or it serves already.
        ModelStoreError: if its bundle is gone or altered.
    """
    grid = home.settings.grid
    version = find_version(home.engine, number)
    if version is None:
        raise UsageError(f"there is no model version {number}; `bts versions` lists them all")
    if not fits(version, grid):
        raise ChampionError(
            f"model version {number} is for another grid than BTS_STEP={format_duration(grid.step)},"
            f" BTS_CONTEXT={format_duration(grid.context)} and BTS_HORIZON={format_duration(grid.horizon)}"
        )
    champion = champion_for(home.engine, grid)
    if champion is not None and champion.model_version_id == number:
        raise ChampionError(f"model version {number} is champion already")
    home.models.load(version.bundle_digest, version.mlflow_model_uri)
    decide(home, version, Decision("promoted", "hand", reason))
    return version


@dataclass(frozen=True)
class RolledBack:
    """The version that serves again, and its batch of the current origin; None: nothing was published yet."""

    version: ModelVersion
    instead_of: ModelVersion
    batch_id: int | None
    issued_at: datetime | None


def rollback(home: Home, reason: str, now: datetime) -> RolledBack:
    """Let the champion before this one serve again, and its batch of the origin that serves: one commit for both.

    The batch is made anew where there is none of the present observations; readers see the one before until the commit.

    Raises:
        ChampionError: if there is no champion to go back to, or another process changed what serves meanwhile.
        ModelStoreError: if its bundle is gone or altered; nothing changes.
        PublishRefused: if its batch fails its checks; nothing changes.
    """
    grid = home.settings.grid
    champion, before = champion_for(home.engine, grid), champion_before(home.engine, grid)
    if champion is None or before is None:
        none = f"model version {champion.model_version_id} is the first" if champion else "there is none yet"
        raise ChampionError(f"there is no champion to go back to: {none}")
    with home.engine.connect() as connection:
        serving = connection.execute(_SERVING).first()
        span = observed_span(connection, grid)
    batch_id = None
    if serving is not None:
        origin = choose_origin(grid, now, serving.issued_at, span.end if span else None)
        with what_is_given(home, origin) as given:
            batch_id = forecast_beside(home, given, before, None)
        crash_point("rollback.after_load")
    decision = Decision("rolled back", "hand", reason)
    with transaction(home.engine, LOCK_PROMOTE, LOCK_PUBLISH) as connection:
        if connection.execute(_SERVING).first() != serving or not _serves(home, champion):
            raise ChampionError("another process changed what serves meanwhile; look, and roll back again")
        record(connection, grid, before, decision)
        crash_point("rollback.after_champion")
        if batch_id is not None:
            point(connection, batch_id, f"rollback to model version {before.model_version_id}: {reason}")
        crash_point("rollback.before_commit")
    crash_point("rollback.after_commit")
    mirror(home, before, decision)
    return RolledBack(before, champion, batch_id, serving.issued_at if serving else None)


_ANY_REGISTERED: Final = sa.text("SELECT EXISTS (SELECT FROM bts.model_version WHERE registry_version IS NOT NULL)")
_LAST_DECISION: Final = sa.text("""
    SELECT d.verdict, d.decided_by, d.reason
    FROM bts.decision AS d JOIN bts.model_version AS v USING (model_version_id)
    WHERE v.registry_version = :registered ORDER BY d.decision_id DESC LIMIT 1
""")
_SERVING: Final = sa.text("SELECT batch_id, issued_at FROM bts.latest_batch")

"""The SQL half of decisions: the append-only log of champions, of every decision, and of what ends with one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from bts_assets.contracts.grid import Grid
from bts_assets.forecasting.promotion_rules import Rule
from bts_assets.storage import tables
from bts_assets.storage.model_versions import ModelVersion, find_version, on_grid
from bts_assets.storage.provenance import code_version

Verdict = Literal["promoted", "refused", "rolled back", "probation", "ended"]


@dataclass(frozen=True)
class Decision:
    """What was decided about a version, by the gate or by hand, and why. rules: what was asked, where rules were."""

    verdict: Verdict
    decided_by: Literal["gate", "hand"]
    reason: str
    rules: Sequence[Rule] = field(default=())
    run_id: str | None = None


def champion_before(engine: sa.Engine, grid: Grid) -> ModelVersion | None:
    """The version that a rollback goes back to: a promotion puts one on top of the pile, a rollback takes it off."""
    c, d = tables.champion.c, tables.decision.c
    query = on_grid(
        sa.select(c.model_version_id, d.verdict)
        .join(tables.model_version, tables.model_version.c.model_version_id == c.model_version_id)
        .join(tables.decision, d.decision_id == c.decision_id, isouter=True),
        grid,
    ).order_by(c.champion_seq)
    pile: list[int] = []
    with engine.connect() as connection:
        for number, verdict in connection.execute(query):
            if verdict == "rolled back":
                while pile and pile[-1] != number:
                    pile.pop()
                pile = pile or [number]
            elif pile[-1:] != [number]:
                pile.append(number)
    return find_version(engine, pile[-2]) if len(pile) > 1 else None


def record(connection: sa.Connection, grid: Grid, version: ModelVersion, decision: Decision) -> int:
    """Enter a decision and, if the version is to serve from here on, the champion. The caller holds `LOCK_PROMOTE`."""
    c, m = tables.champion.c, tables.model_version.c
    of_grid = on_grid(
        sa.select(c.model_version_id).join(tables.model_version, m.model_version_id == c.model_version_id), grid
    )
    before = connection.scalar(of_grid.order_by(c.champion_seq.desc()).limit(1))
    row: dict[str, Any] = {
        "model_version_id": version.model_version_id,
        "champion_version_id": before,
        "verdict": decision.verdict,
        "decided_by": decision.decided_by,
        "reason": decision.reason,
        "evidence": [rule.to_dict() for rule in decision.rules],
        "code_version": code_version(),
        "dagster_run_id": decision.run_id,
    }
    decision_id: int = connection.execute(
        sa.insert(tables.decision).values(row).returning(tables.decision.c.decision_id)
    ).scalar_one()
    if decision.verdict in ("promoted", "rolled back") and before != version.model_version_id:
        entry = {"model_version_id": version.model_version_id, "reason": decision.reason, "decision_id": decision_id}
        connection.execute(sa.insert(tables.champion).values(entry))
        end_probations(connection, grid, f"model version {version.model_version_id} was {decision.verdict}")
    return decision_id


def end_probations(connection: sa.Connection, grid: Grid, outcome: str) -> None:
    """End whatever probation runs on a grid. The caller holds `LOCK_PROMOTE`."""
    p, m = tables.probation.c, tables.model_version.c
    here = on_grid(sa.select(m.model_version_id), grid)
    ended = sa.update(tables.probation).where(p.ended_at.is_(None), p.model_version_id.in_(here))
    connection.execute(ended.values(ended_at=sa.func.clock_timestamp(), outcome=outcome))

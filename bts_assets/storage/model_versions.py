"""The SQL half of model versions: entered once, found by number, digest or grid. What serves is decided elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from bts_assets.contracts.grid import Grid
from bts_assets.storage import tables


@dataclass(frozen=True)
class ModelVersion:
    """A row of `bts.model_version`, as far as a night needs it."""

    model_version_id: int
    bundle_digest: str
    lstm_failure: str | None
    mlflow_run_id: str | None
    mlflow_experiment_id: str | None
    mlflow_model_uri: str | None
    registry_version: int | None
    training_end: datetime
    truncated: bool
    step_seconds: int
    context_seconds: int
    horizon_seconds: int
    metrics: Mapping[str, Mapping[str, float]]  # candidate -> figure -> value, of its backtest


def find_version(engine: sa.Engine, number: int) -> ModelVersion | None:
    """The model version of a number."""
    with engine.connect() as connection:
        row = connection.execute(_columns().where(tables.model_version.c.model_version_id == number)).mappings()
        found = row.first()
    return ModelVersion(**found) if found else None


def find_by_digest(engine: sa.Engine, bundle_digest: str) -> ModelVersion | None:
    """The model version of a bundle."""
    query = _columns().where(tables.model_version.c.bundle_digest == bundle_digest)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
    return ModelVersion(**row) if row else None


def enter_version(engine: sa.Engine, row: Mapping[str, Any]) -> ModelVersion:
    """Enter a row into `bts.model_version`, or find its bundle there.

    Two nights that train on the same data make the same version: the first to enter it stands.
    """
    with engine.begin() as connection:
        connection.execute(insert(tables.model_version).values(dict(row)).on_conflict_do_nothing())
    entered = find_by_digest(engine, row["bundle_digest"])
    assert entered is not None  # noqa: S101 - it was entered a moment ago
    return entered


def name_in_registry(engine: sa.Engine, number: int, named: Mapping[str, Any]) -> ModelVersion | None:
    """Say under which run, URI and registry version MLflow knows a version that it did not know yet."""
    v = tables.model_version.c
    late = sa.update(tables.model_version).where(v.model_version_id == number, v.registry_version.is_(None))
    with engine.begin() as connection:
        connection.execute(late.values(dict(named)))
    return find_version(engine, number)


def version_row(engine: sa.Engine, number: int) -> Mapping[Any, Any]:
    """The whole row of `bts.model_version`."""
    query = sa.select(tables.model_version).where(tables.model_version.c.model_version_id == number)
    with engine.connect() as connection:
        return connection.execute(query).mappings().one()


def champion_for(engine: sa.Engine, grid: Grid) -> ModelVersion | None:
    """The champion for a step, context and horizon, if there is one."""
    c = tables.champion.c
    of_champions = _columns().join(tables.champion, c.model_version_id == tables.model_version.c.model_version_id)
    with engine.connect() as connection:
        query = on_grid(of_champions, grid).order_by(c.champion_seq.desc()).limit(1)
        row = connection.execute(query).mappings().first()
    return ModelVersion(**row) if row else None


def newest_for(engine: sa.Engine, grid: Grid) -> ModelVersion | None:
    """The version for a step, context and horizon that knows the newest data, whatever was decided about it."""
    v = tables.model_version.c
    with engine.connect() as connection:
        query = on_grid(_columns(), grid).order_by(v.training_end.desc(), v.model_version_id.desc()).limit(1)
        row = connection.execute(query).mappings().first()
    return ModelVersion(**row) if row else None


def fits(version: ModelVersion, grid: Grid) -> bool:
    """Whether a version is for a step, context and horizon."""
    own = (version.step_seconds, version.context_seconds, version.horizon_seconds)
    return own == tuple(int(length.total_seconds()) for length in (grid.step, grid.context, grid.horizon))


def on_grid(query: sa.Select[Any], grid: Grid) -> sa.Select[Any]:
    """A query of model versions, of those for a step, context and horizon."""
    v = tables.model_version.c
    return query.where(
        v.step_seconds == grid.step.total_seconds(),
        v.context_seconds == grid.context.total_seconds(),
        v.horizon_seconds == grid.horizon.total_seconds(),
    )


def _columns() -> sa.Select[Any]:
    v = tables.model_version.c
    return sa.select(*(v[field.name] for field in fields(ModelVersion))).select_from(tables.model_version)

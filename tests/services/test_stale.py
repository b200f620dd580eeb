"""When the batch that serves is called stale."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import sqlalchemy as sa
from nights import HomeMaker
from small_nights import lineage, publish_whole, serving_version, simple_bundle, small_batch

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel


@pytest.mark.parametrize(
    ("issued_ago", "due_in", "state"),
    [(1, 1, "current"), (1, -1, "stale"), (30, None, "current"), (37, None, "stale"), (49, 100, "stale")],
    ids=["in_time", "a_night_was_missed", "of_older_code", "of_older_code_and_missed", "past_its_horizon"],
)
def test_the_latest_batch_turns_stale_when_its_successor_is_due(
    make_home: HomeMaker, issued_ago: int, due_in: int | None, state: str
) -> None:
    grid = Grid(timedelta(hours=1), timedelta(days=1), timedelta(hours=48))
    home = make_home(step=grid.step, context=grid.context, horizon=grid.horizon)
    version = serving_version(home, simple_bundle(grid=grid))
    now = datetime.now(UTC)
    end = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=issued_ago)
    values = np.full((1, grid.context_steps), 5.0)
    panel = Panel(grid, np.array([1]), np.array([122], np.int32), end, values)
    made = replace(
        lineage(panel, version.model_version_id),
        kind="live",
        successor_due_at=None if due_in is None else now + timedelta(hours=due_in),
    )
    publish_whole(home.engine, small_batch(panel, simple_bundle(grid=grid)), made, grid)
    with home.engine.connect() as connection:
        connection.exec_driver_sql("SET timezone = 'America/New_York'")
        assert connection.scalar(sa.text("SELECT state FROM bts.latest_batch")) == state

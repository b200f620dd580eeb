"""Publishing as the store does it: which batch serves, what is found of one, and whether it is as it was published."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from nights import HomeMaker
from small_nights import (
    GRID,
    LOAD,
    ORIGIN,
    SMALL,
    lineage,
    publish_panel,
    rows_of,
    serving_version,
    simple_bundle,
    small_batch,
    small_panel,
)
from sqlalchemy.exc import OperationalError

from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.services.home import Home
from bts_assets.storage.forecasts import (
    Published,
    find_batch,
    is_as_published,
    load,
    point,
    publish,
    read_batch,
    serve_again,
    some_forecasts,
    stored_batch,
)
from bts_assets.storage.loading import BatchPart
from bts_assets.storage.locks import LOCK_PUBLISH, transaction

EARLIER = ORIGIN - timedelta(days=2)


@pytest.fixture
def home(make_home: HomeMaker) -> Home:
    return make_home(**SMALL)


@pytest.fixture
def version(home: Home) -> int:
    return serving_version(home, simple_bundle()).model_version_id


def served(home: Home) -> int | None:
    rows = rows_of(home, "SELECT DISTINCT batch_id FROM bts.latest_forecast")
    return rows[0]["batch_id"] if rows else None


def reasons(home: Home) -> list[str]:
    return [row["reason"] for row in rows_of(home, "SELECT reason FROM bts.publication ORDER BY publication_seq")]


def as_champion(home: Home, level: float, version: int) -> Published:
    panel = small_panel(level)
    return publish(
        home.engine, [BatchPart(small_batch(panel))], ORIGIN, lineage(panel, version), GRID, as_champion=True
    )


def mixed_panel() -> Panel:
    """Three parameters: one of stations 1 and 2, one of station 2, one of station 3, which was never heard."""
    series = np.array([(1, LOAD), (2, 111), (2, LOAD), (3, 151)])
    values = np.repeat(np.arange(10.0, 14.0)[:, None], GRID.context_steps, axis=1)
    values[3] = np.nan
    return Panel(GRID, series[:, 0], series[:, 1].astype(np.int32), ORIGIN, values)


# Which batch serves


def test_a_batch_of_a_version_that_another_superseded_on_its_grid_does_not_serve(home: Home) -> None:
    old, new = (serving_version(home, simple_bundle(seed)).model_version_id for seed in (1, 2))
    # Whose champion has another grid is in nobody's way.
    settings = home.settings.model_copy(update={"horizon": 2 * GRID.horizon})
    assert settings.grid != GRID
    serving_version(replace(home, settings=settings), simple_bundle(3, grid=settings.grid))
    first = as_champion(home, 1, new)
    assert first.serves_latest
    late = as_champion(home, 2, old)
    assert (late.new, late.serves_latest, served(home)) == (True, False, first.batch_id)
    assert not serve_again(home.engine, late.batch_id, ORIGIN, as_champion=True)
    assert reasons(home) == ["newest origin", "its model version was superseded"]
    # Where nobody asks for the champion's, it does.
    assert serve_again(home.engine, late.batch_id, ORIGIN)
    assert publish_panel(home.engine, small_panel(3), old).serves_latest
    assert serve_again(home.engine, first.batch_id, ORIGIN, as_champion=True)
    assert served(home) == first.batch_id


def test_a_batch_serves_again_if_another_of_its_origin_does_and_never_one_of_an_earlier_origin(
    home: Home, version: int
) -> None:
    first, second = (publish_panel(home.engine, small_panel(level), version) for level in (1, 2))
    earlier = publish_panel(home.engine, small_panel(end=EARLIER), version)
    assert served(home) == second.batch_id
    for _ in range(2):  # once is enough
        assert serve_again(home.engine, first.batch_id, ORIGIN)
        assert served(home) == first.batch_id
    assert not serve_again(home.engine, earlier.batch_id, EARLIER)
    assert publish_panel(home.engine, small_panel(2), version) == replace(second, new=False, serves_latest=False)
    kept = ["newest origin", "newest origin", f"its origin is earlier than {ORIGIN}, which serves"]
    assert reasons(home) == [*kept, "the same input and model version again"]


def test_a_loaded_batch_is_seen_by_nobody_until_the_pointer_moves(home: Home, version: int) -> None:
    panel = small_panel()
    origin = lineage(panel, version)
    numbers = [load(home.engine, [BatchPart(small_batch(panel))], ORIGIN, origin, GRID) for _ in range(2)]
    assert numbers == [find_batch(home.engine, ORIGIN, origin, loaded=True)] * 2
    assert find_batch(home.engine, EARLIER, origin, loaded=True) is None
    assert (find_batch(home.engine, ORIGIN, origin), served(home)) == (None, None)
    with transaction(home.engine, LOCK_PUBLISH) as connection:
        point(connection, numbers[0], "the test says so")
    assert served(home) == find_batch(home.engine, ORIGIN, origin) == numbers[0]
    assert reasons(home) == ["the test says so"]


def test_what_ends_a_publish_and_is_no_lock_stays_what_it_is(home: Home, version: int) -> None:
    def parts() -> Iterator[BatchPart]:
        raise OperationalError("", {}, SimpleNamespace(pgcode="57014"))  # type: ignore[arg-type]
        yield

    with pytest.raises(OperationalError):
        publish(home.engine, parts(), ORIGIN, lineage(small_panel(), version), GRID)
    assert rows_of(home, "SELECT * FROM bts.batch") == []


# What is found of a batch


def test_what_is_told_of_a_batch_is_of_that_batch(home: Home, version: int) -> None:
    publish_panel(home.engine, small_panel(), version)
    panel = mixed_panel()
    batch = publish_panel(home.engine, panel, version).batch_id
    with home.engine.connect() as connection:
        told = stored_batch(connection, batch)
        whole = read_batch(connection, batch)
        one = read_batch(connection, batch, (2, LOAD))
        drawn = [some_forecasts(connection, batch, count) for count in (9, 2, 1)]
        of_none = stored_batch(connection, batch - 1)
    assert (told.row["batch_id"], told.row["series"], told.row["excluded"]) == (batch, 4, 1)
    assert list(told.sources.items()) == [("last_value", 3), ("excluded", 1)]
    assert told.forecasts == len(whole) == 3 * GRID.horizon_steps
    assert told.newest_observed == ORIGIN - GRID.step
    assert of_none.forecasts == 3 * GRID.horizon_steps
    mine = whole[(whole["station_id"] == 2) & (whole["parameter_id"] == LOAD)]
    pd.testing.assert_frame_equal(one.reset_index(drop=True), mine.reset_index(drop=True))
    # One of each parameter, by the first station that has it; none that was excluded.
    assert [(f.station_id, f.parameter_id, f.source) for f in drawn[0]] == [
        (1, LOAD, "last_value"), (2, 111, "last_value"),
    ]  # fmt: skip
    assert [len(some) for some in drawn] == [2, 2, 1]
    for found in drawn[0]:
        rows = whole[(whole["station_id"] == found.station_id) & (whole["parameter_id"] == found.parameter_id)]
        assert np.array_equal(found.quantiles, rows.sort_values("step_ahead")[list(QUANTILE_COLUMNS)].to_numpy())


def digest_of_format_1(batch: Any, issued_at: datetime) -> str:
    digest = hashlib.sha256(issued_at.isoformat().encode())
    for numbers in (batch.station_id.astype("<i8"), batch.parameter_id.astype("<i4"), batch.quantiles.astype("<f8")):
        digest.update(np.ascontiguousarray(numbers).tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ("change", "as_published"),
    [
        ("SELECT :b", True),
        ("UPDATE bts.forecast_series SET q50[3] = q50[3] + 1e-12 WHERE parameter_id = 111 AND batch_id = :b", False),
        ("UPDATE bts.forecast_series SET station_id = 9 WHERE station_id = 1 AND batch_id = :b", False),
        ("DELETE FROM bts.forecast_series WHERE station_id = 1 AND batch_id = :b", False),
        ("DELETE FROM bts.forecast_series WHERE batch_id = :b", False),
        (f"UPDATE bts.forecast_series SET {', '.join(f'{q} = {q}[2:]' for q in QUANTILE_COLUMNS)}", False),
    ],
    ids=["as it is", "a bit", "a station", "a series less", "none", "a step less"],
)
def test_a_batch_is_as_published_if_no_bit_of_it_changed(
    home: Home, version: int, change: str, as_published: bool
) -> None:
    panel = mixed_panel()
    number = publish_panel(home.engine, panel, version).batch_id
    publish_panel(home.engine, small_panel(), version)
    (row,) = rows_of(home, "SELECT forecasts_digest FROM bts.batch WHERE batch_id = :b", b=number)
    of_format_1 = digest_of_format_1(small_batch(panel), ORIGIN)
    with home.engine.connect() as connection:
        connection.execute(sa.text(change), {"b": number})
        for digest, same in ((row["forecasts_digest"], True), (of_format_1, True), ("0", False)):
            found = is_as_published(connection, number, ORIGIN, GRID.horizon_steps, digest)
            assert found is (same and as_published)

"""Recalibration night by night in a home: what it knows, what it must not know, and that it rests with its batch."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from small_nights import LOAD, SMALL, rows_of, serving_version, write
from walked_nights import (
    NIGHTS,
    RUN_TIME,
    Walk,
    enter,
    file_of,
    land,
    origin_of,
    pooling_bundle,
    readings,
    walk,
    write_day,
)

from bts_assets.cli.render.lineage import show_lineage
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.recalibration import Recalibration
from bts_assets.services.home import Home, open_home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.nightly import NightResult, forecast_and_publish
from bts_assets.services.recalibration import Recalibrating
from bts_assets.services.replay import ReplayRefused, replay
from bts_assets.services.verify import verify
from bts_assets.settings import load_settings
from bts_assets.storage.lineage import lineage_of
from bts_assets.storage.model_versions import ModelVersion
from bts_assets.storage.observation_blocks import read_panel
from bts_assets.storage.recalibrations import read_recalibration
from bts_assets.storage.served_pages import Pages

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    """Six nights, with late files and corrections between them; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("recalibrated")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    yield walk(home, folder / "landing", pooling_bundle())
    home.engine.dispose()


def applied_to(home: Home, batch: int) -> Recalibration | None:
    with home.engine.connect() as connection:
        return read_recalibration(connection, batch)


def state_at(home: Home, origin: datetime) -> Recalibration | None:
    with what_is_given(home, Origin(origin, "live", "the test says so")) as given:
        return given.recalibration


def panel_at(home: Home, origin: datetime) -> Panel:
    grid = home.settings.grid
    with home.engine.connect() as connection:
        return read_panel(connection, grid, origin - grid.context, origin)


def night(home: Home, version: ModelVersion, origin: datetime) -> NightResult:
    return forecast_and_publish(home, Origin(origin, "live", "the test says so"), version, None)


# What nights are given


def test_first_night_is_as_the_version_states_it(walked: Walk) -> None:
    (first,) = rows_of(walked.home, "SELECT * FROM bts.batch WHERE batch_id = :b", b=walked.batches[0])
    assert first["recalibration_digest"] is None
    assert applied_to(walked.home, walked.batches[0]) is None


def test_later_nights_are_mended_and_say_by_what(walked: Walk) -> None:
    for number, batch in enumerate(walked.batches[1:], start=1):
        applied = applied_to(walked.home, batch)
        assert applied is not None
        (made,) = rows_of(walked.home, "SELECT recalibration_digest FROM bts.batch WHERE batch_id = :b", b=batch)
        assert made["recalibration_digest"] == applied.digest
        assert (applied.factors != 1).any()
        whole = applied.nights[applied.series.get_loc((1, LOAD))]
        assert 0.8 * number < whole.max() <= number
        lineage = "SELECT * FROM bts.forecast_lineage WHERE batch_id = :b AND station_id = 1 AND parameter_id = :p"
        (row,) = rows_of(walked.home, lineage, b=batch, p=LOAD)
        factors = applied.factors[applied.series.get_loc((1, LOAD))].ravel()
        assert row["recalibration_factors"] == pytest.approx(factors, rel=1e-6)


def test_lineage_tells_by_what_a_step_was_mended(walked: Walk, capsys: pytest.CaptureFixture[str]) -> None:
    batch = walked.batches[-1]
    applied = applied_to(walked.home, batch)
    assert applied is not None
    origin = origin_of(NIGHTS - 1)
    show_lineage(lineage_of(walked.home.engine, 1, LOAD, target_at=origin + 5 * HOUR, issued_at=origin), Pages())
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    last = applied.factors[applied.series.get_loc((1, LOAD))][-1]
    assert "recalibrated from " in shown
    assert f"q05 x {last[0]:.3g}, q10 x {last[1]:.3g}, q90 x {last[2]:.3g}, q95 x {last[3]:.3g}" in shown
    assert f"recalibration {applied.digest[:12]}" in shown


def test_what_is_served_is_what_the_version_states_moved_by_the_factors(walked: Walk) -> None:
    applied = state_at(walked.home, origin_of(NIGHTS - 1))
    assert applied is not None
    panel = panel_at(walked.home, origin_of(NIGHTS - 1))
    bundle = walked.home.models.load(walked.version.bundle_digest, None)
    plain = make_batch(bundle, panel, walked.home.catalogue)
    mended = make_batch(bundle, panel, walked.home.catalogue, recalibration=applied)
    row = plain.station_id.tolist().index(2)
    factors = applied.factors[applied.series.get_loc((2, LOAD))].astype(float)
    for step, stretch in ((0, 0), (5, 3)):
        stated, served = plain.quantiles[row, step], mended.quantiles[row, step]
        expected = stated[2] + (stated[[0, 1, 3, 4]] - stated[2]) * factors[stretch]
        assert served[[0, 1, 3, 4]] == pytest.approx(np.sort(expected), rel=1e-6)
        assert served[2] == stated[2]
    # A counter neither falls nor goes below where it stands.
    counter = mended.quantiles[mended.parameter_id == RUN_TIME][0]
    assert (np.diff(counter, axis=0) >= 0).all()
    assert (counter >= np.nanmax(panel.values[panel.parameter_id == RUN_TIME])).all()


def test_silent_and_vanished_series_do_no_harm(walked: Walk) -> None:
    applied = applied_to(walked.home, walked.batches[-1])
    assert applied is not None
    assert (4, LOAD) in applied.series  # silent since before the first night
    assert (applied.nights[applied.series.get_loc((4, LOAD))] == 0).all()
    assert np.isfinite(applied.factors).all()


# What is known at an origin, and no more


def test_earlier_origin_is_given_the_same_whatever_was_published_since(walked: Walk) -> None:
    # Late files came meanwhile, so that it is not what was applied then; but no later night has a say.
    again = state_at(walked.home, origin_of(3))
    assert again is not None
    with walked.home.engine.begin() as connection:
        later = list(walked.batches[3:])
        query = sa.text("DELETE FROM bts.publication WHERE batch_id = ANY(:later) RETURNING batch_id, serves_latest")
        assert len(connection.execute(query, {"later": later}).all()) == len(later)
        panel = panel_at(walked.home, origin_of(3))  # another connection, which still sees them
        recalibrating = Recalibrating(connection, walked.home.catalogue, panel.grid, panel.end)
        asked = recalibrating.asked(panel, (0, 1 << 62))
        alone = recalibrating.state(pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id]), [asked])
        connection.rollback()
    assert alone is not None
    assert alone.digest == again.digest


def test_nothing_is_known_before_the_first_night(walked: Walk) -> None:
    assert state_at(walked.home, origin_of(0)) is None
    assert state_at(walked.home, origin_of(0) - HOUR) is None


def test_same_night_twice_is_one_batch(make_home: Callable[..., Home], tmp_path: Path) -> None:
    home = make_home(**SMALL)
    landing = tmp_path / "landing"
    version = serving_version(home, pooling_bundle())
    for number in range(2):
        write_day(landing, number)
        land(home, landing, origin_of(number))
        made = night(home, version, origin_of(number))
    again = night(home, version, origin_of(1))
    assert (again.batch_id, again.new) == (made.batch_id, False)
    assert applied_to(home, made.batch_id) is not None


# Replay, and what comes later


def test_corrected_observations_change_the_next_night_and_no_earlier_one(
    make_home: Callable[..., Home], tmp_path: Path
) -> None:
    home = make_home(**SMALL)
    landing = tmp_path / "landing"
    version = serving_version(home, pooling_bundle())
    batches = []
    for number in range(3):
        write_day(landing, number)
        land(home, landing, origin_of(number))
        batches.append(night(home, version, origin_of(number)).batch_id)
    was = state_at(home, origin_of(2))
    write(landing, file_of(2, 3), *readings(origin_of(1), 1, range(3, 4), shift=500.0))
    land(home, landing, origin_of(2))
    now = state_at(home, origin_of(2))
    assert was is not None
    assert now is not None
    assert now.digest != was.digest
    for batch in batches:
        replayed = replay(home, batch)
        assert (replayed.differs, replayed.forecasts.differing) == (None, 0)
    # The corrected night is another batch of the same origin, and the next one goes on from it.
    corrected = night(home, version, origin_of(2)).batch_id
    assert corrected not in batches
    assert applied_to(home, corrected).digest == now.digest


def test_lost_or_altered_recalibration_is_refused_in_one_line(walked: Walk) -> None:
    batch = walked.batches[2]
    for change in ("DELETE FROM bts.recalibration", "UPDATE bts.recalibration SET factors = asked"):
        with walked.home.engine.connect() as connection, connection.begin() as transaction:
            kept = connection.execute(
                sa.text("SELECT * FROM bts.recalibration WHERE batch_id = :b"), {"b": batch}
            ).all()
            connection.execute(sa.text(f"{change} WHERE batch_id = :b"), {"b": batch})
            transaction.commit()
        try:
            with pytest.raises(ReplayRefused, match=rf"the recalibration of batch {batch} was deleted or altered"):
                replay(walked.home, batch)
            (forecasts,) = (found for found in verify(walked.home) if found.store == "forecasts")
            assert [line.rpartition(": ")[2] for line in forecasts.wrong] == [
                "its recalibration is not the one that was applied"
            ]
        finally:
            with walked.home.engine.begin() as connection:
                connection.execute(sa.text("DELETE FROM bts.recalibration WHERE batch_id = :b"), {"b": batch})
                table = sa.Table("recalibration", sa.MetaData(schema="bts"), autoload_with=connection)
                connection.execute(sa.insert(table), [row._asdict() for row in kept])
    assert replay(walked.home, batch).differs is None


def test_batches_from_before_there_was_any_are_replayed_and_learned_from(
    make_home: Callable[..., Home], tmp_path: Path
) -> None:
    home = make_home(**SMALL)
    landing = tmp_path / "landing"
    version = serving_version(home, pooling_bundle())
    for number in range(2):
        write_day(landing, number)
        land(home, landing, origin_of(number))
        # As earlier code published them: without a recalibration.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recalibrating, "state", lambda *_: None)
            batch = night(home, version, origin_of(number)).batch_id
        assert replay(home, batch).differs is None
    write_day(landing, 2)
    land(home, landing, origin_of(2))
    given = state_at(home, origin_of(2))
    assert given is not None
    assert given.nights.max() == pytest.approx(1.0, abs=0.01)


# Gaps, and other versions


def test_gap_of_nights_is_bridged_by_the_last_batch_before_it(make_home: Callable[..., Home], tmp_path: Path) -> None:
    home = make_home(**SMALL)
    landing = tmp_path / "landing"
    version = serving_version(home, pooling_bundle())
    for number in range(4):
        write_day(landing, number)
    land(home, landing, origin_of(3))
    for number in (0, 1):
        night(home, version, origin_of(number))
    # The panel's context of a day begins after all that had been forecast.
    assert origin_of(3) - home.settings.grid.context > origin_of(1) + home.settings.grid.horizon
    state = state_at(home, origin_of(3))
    assert state is not None
    nights = state.nights[state.series.get_loc((1, LOAD))]
    assert 1.5 < nights.max() < 2


def test_new_version_inherits_what_the_old_one_missed(walked: Walk) -> None:
    before = state_at(walked.home, origin_of(NIGHTS))
    enter(walked.home, replace(pooling_bundle(), seed=77), origin_of(NIGHTS))
    after = state_at(walked.home, origin_of(NIGHTS))
    assert before is not None
    assert after is not None
    assert after.digest == before.digest


def test_version_that_had_seen_the_targets_teaches_nothing(make_home: Callable[..., Home], tmp_path: Path) -> None:
    home = make_home(**SMALL)
    landing = tmp_path / "landing"
    for number in range(3):
        write_day(landing, number)
    land(home, landing, origin_of(2))
    trained_late = enter(home, pooling_bundle(), origin_of(2))
    night(home, trained_late, origin_of(1))
    (kind,) = rows_of(home, "SELECT kind FROM bts.batch")
    assert kind["kind"] == "in_sample"
    assert state_at(home, origin_of(2)) is None

import numpy as np
import pytest

from bts_assets.pretraining import processes
from bts_assets.pretraining.processes import Clock
from bts_assets.pretraining.telemetry import FAMILIES, STEPS, Telemetry, synthesise


@pytest.fixture(scope="module")
def telemetry() -> Telemetry:
    return synthesise(seed=5, count=512, steps=600)


def clock(count: int, steps: int = 2000, day: int = 96) -> Clock:
    return Clock(np.full(count, day), np.zeros(count, np.int64), steps)


def test_a_seed_decides_every_bit(telemetry: Telemetry) -> None:
    again, other = synthesise(5, 512, 600), synthesise(6, 512, 600)
    np.testing.assert_array_equal(again.values, telemetry.values)
    np.testing.assert_array_equal(again.clock.day, telemetry.clock.day)
    assert (other.values != telemetry.values).mean() > 0.9


def test_values_are_finite_or_missing(telemetry: Telemetry) -> None:
    missing = np.isnan(telemetry.values)
    assert np.isfinite(telemetry.values[~missing]).all()
    assert 0.01 < missing.mean() < 0.1
    assert 0.2 < missing.any(axis=1).mean() < 0.5


def test_every_family_is_there_at_about_its_rate(telemetry: Telemetry) -> None:
    for name, (share, _) in FAMILIES.items():
        assert (telemetry.kind == name).mean() == pytest.approx(share / 100, abs=0.06)


def test_every_step_from_a_minute_to_a_day_is_there(telemetry: Telemetry) -> None:
    assert set(telemetry.clock.day) == {1440 // minutes for minutes in STEPS}
    assert {1, 24, 96, 288, 1440} <= set(telemetry.clock.day)


def test_some_are_rounded_some_held_some_negative_and_scales_differ(telemetry: Telemetry) -> None:
    values = telemetry.values
    held = (np.diff(values, axis=1) == 0).mean(axis=1)
    assert 0.05 < (held > 0.3).mean() < 0.5
    assert 0.05 < (np.nanmedian(values, axis=1) < 0).mean() < 0.6
    size = np.log10(np.nanstd(values, axis=1) + 1e-12)
    assert np.ptp(size) > 5


def test_daily_profile_repeats() -> None:
    made = processes.daily(np.random.default_rng(1), clock(200))
    by_day = made[:, : 96 * 20].reshape(200, 20, 96)
    explained = by_day.mean(axis=1).var(axis=1) / by_day.reshape(200, -1).var(axis=1)
    assert np.median(explained) > 0.5


def test_weekends_are_as_other_days_in_some_series_and_have_a_shape_of_their_own_in_others() -> None:
    weeks = processes.daily(np.random.default_rng(1), clock(300, 96 * 28)).reshape(300, 4, 7, 96).mean(axis=1)
    working, weekend = weeks[:, :5].mean(axis=1), weeks[:, 5:].mean(axis=1)
    alike = np.array([np.corrcoef(pair)[0, 1] for pair in zip(working, weekend, strict=True)])
    assert 0.3 < (alike > 0.99).mean() < 0.8
    assert 0.15 < (alike < 0.9).mean() < 0.5


def test_switch_holds_its_states() -> None:
    made = processes.on_off(np.random.default_rng(1), clock(200))
    assert 0.02 < (made > 0).mean() < 0.7
    assert (np.diff(made > 0, axis=1) != 0).mean() < 0.2


def test_events_make_more_events() -> None:
    made = processes.self_exciting(np.random.default_rng(1), clock(200))
    assert (made == np.round(made)).all()
    dispersion = made.var(axis=1) / np.maximum(made.mean(axis=1), 1e-3)
    assert np.median(dispersion) > 1.1  # 1 for Poisson


def test_tank_is_never_beyond_empty_and_full() -> None:
    made = processes.tank(np.random.default_rng(1), clock(100))
    assert made.min() >= 0
    assert made.max() <= 1
    falling = np.diff(made, axis=1) < 0
    assert 0.4 < falling.mean() < 0.99


def test_spikes_are_rare_and_heavy_tailed() -> None:
    made = processes.spikes(np.random.default_rng(1), clock(300))
    assert np.median(made.max(axis=1) / (made.mean(axis=1) + 1e-9)) > 8


@pytest.mark.parametrize("day", [1, 6, 1440])
def test_any_step_makes_finite_series(day: int) -> None:
    for name, (_, process) in FAMILIES.items():
        assert np.isfinite(process(np.random.default_rng(2), clock(6, 300, day))).all(), name

"""Recalibration as arrays: what nights ask for, who leans on whom, and that nothing changes where nothing is known."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from small_panels import NORMAL

from bts_assets.contracts.grid import DAY
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.forecasting.metrics import inside
from bts_assets.forecasting.recalibration import (
    LEAST,
    MOST,
    SIDES,
    STRETCHES,
    Matured,
    Recalibration,
    asked_of,
    carried_on,
)

HORIZON = 24
STORED = [QUANTILES.index(q) for q in STORED_QUANTILES]
SHAPE = (STRETCHES, len(SIDES))


def known(*pairs: tuple[int, int]) -> pd.MultiIndex:
    return pd.MultiIndex.from_tuples(pairs, names=["station_id", "parameter_id"])


def stations(count: int, parameter: int = 9) -> pd.MultiIndex:
    return known(*[(station, parameter) for station in range(1, count + 1)])


def stated(count: int, below: float = 1.0, above: float = 1.0) -> np.ndarray:
    """Quantiles (series, horizon, levels) around 0 of so many standard deviations."""
    sides = np.where(NORMAL < 0, below * NORMAL, above * NORMAL)
    return np.broadcast_to(sides, (count, HORIZON, len(QUANTILES)))


def ones(count: int) -> np.ndarray:
    return np.ones((count, *SHAPE), dtype=np.float32)


def carry(
    before: Recalibration | None, series: pd.MultiIndex, quantiles: np.ndarray, truth: np.ndarray, days: float = 1.0
) -> Recalibration | None:
    """On by one batch of a day's horizon, all of which has come."""
    used = ones(len(series)) if before is None else before.factors_of(series)
    matured = [Matured(series, quantiles[:, :, STORED], truth, used)]
    return carried_on(before, [asked_of(matured, series)], series, timedelta(days=days), DAY)


def apply(state: Recalibration | None, series: pd.MultiIndex, quantiles: np.ndarray) -> np.ndarray:
    if state is None:
        return quantiles
    return state.apply(quantiles, series.get_level_values(0).to_numpy(), series.get_level_values(1).to_numpy())


def walked(
    series: pd.MultiIndex, quantiles: np.ndarray, truths: np.ndarray
) -> tuple[Recalibration | None, list[np.ndarray]]:
    """Night after night, each served with what the ones before taught: the last state, and what was served."""
    state: Recalibration | None = None
    served = []
    for truth in truths:
        served.append(apply(state, series, quantiles))
        state = carry(state, series, served[-1], truth)
    return state, served


@pytest.mark.parametrize(
    ("below", "above"), [(0.7, 0.7), (1.4, 1.4), (0.7, 1.4), (1.0, 1.0)], ids=["narrow", "wide", "lopsided", "right"]
)
def test_intervals_come_to_hold_what_they_state(below: float, above: float) -> None:
    series, nights = stations(12), 60
    truths = np.random.default_rng(1).normal(size=(nights, len(series), HORIZON))
    _, served = walked(series, stated(len(series), below, above), truths)
    for share in (80, 90):
        late = [inside(served[n], truths[n], share).mean() for n in range(15, nights)]
        assert np.mean(late) == pytest.approx(share / 100, abs=0.03)
    late_below = [(truths[n] < served[n][:, :, 2]).mean() for n in range(15, nights)]
    assert np.mean(late_below) == pytest.approx(0.1, abs=0.015)


@pytest.mark.parametrize("growth", [2.0, 0.5])
def test_drift_that_never_stops_is_followed(growth: float) -> None:
    series, nights = stations(8), 60
    truths = np.random.default_rng(7).normal(size=(nights, len(series), HORIZON))
    truths *= growth ** (np.arange(nights) / nights)[:, None, None]
    plain = stated(len(series))
    _, served = walked(series, plain, truths)
    for share in (80, 90):
        drifted = np.mean([inside(plain, truth, share).mean() for truth in truths])
        followed = np.mean([inside(*night, share).mean() for night in zip(served, truths, strict=True)])
        assert abs(drifted - share / 100) > 0.05
        assert abs(followed - share / 100) < 0.7 * abs(drifted - share / 100)


def test_stretch_that_misses_is_widened_and_no_other() -> None:
    series = stations(6)
    truths = np.random.default_rng(2).normal(size=(40, len(series), HORIZON))
    truths[:, :, HORIZON // 2 : 3 * HORIZON // 4] *= 2
    state, _ = walked(series, stated(len(series)), truths)
    assert state is not None
    assert state.factors[:, 2].mean() == pytest.approx(2.0, rel=0.15)
    assert np.abs(state.factors[:, [0, 1, 3]].mean(axis=(0, 2)) - 1).max() < 0.1


def test_nothing_known_is_no_recalibration() -> None:
    series = stations(3)
    nothing = np.full((3, HORIZON), np.nan)
    assert carried_on(None, [], series, DAY, DAY) is None
    assert carry(None, series, stated(3), nothing) is None


def test_one_night_moves_little_and_towards_what_it_missed() -> None:
    series = stations(4)
    # The worst that there is: every truth of every series beyond the upper end.
    state = carry(None, series, stated(4), np.full((4, HORIZON), 5.0))
    assert state is not None
    above, below = state.factors[:, :, 2:], state.factors[:, :, :2]
    assert (above > 1.5).all()
    assert (above < 3).all()
    assert ((below < 1) & (below > 0.85)).all()


def test_series_leans_on_its_parameter_and_an_unheard_one_is_given_the_parents() -> None:
    series = known(*[(s, p) for s in range(1, 6) for p in (7, 8)])
    narrow = series.get_level_values(1) == 7
    rng = np.random.default_rng(3)
    state: Recalibration | None = None
    for _ in range(30):
        truth = rng.normal(size=(len(series), HORIZON)) * np.where(narrow, 2.0, 1.0)[:, None]
        state = carry(state, series, apply(state, series, stated(len(series))), truth)
    joined = known((99, 7), (99, 8), (99, 5))
    fresh = carried_on(state, [], series.union(joined), DAY, DAY)
    assert fresh is not None
    of_seven, of_eight, of_none = (fresh.factors_of(joined)[k].mean() for k in range(3))
    assert of_seven > 1.6
    assert of_eight == pytest.approx(1.0, abs=0.1)
    assert of_eight < of_none < of_seven


def test_factors_never_cross_quantiles_and_leave_others_as_they_are() -> None:
    series = stations(2)
    factors = ones(2)
    factors[0, :, 0], factors[0, :, 1] = 0.5, 4.0  # q05 nearer to the median than q10
    state = Recalibration(series, factors, ones(2), ones(2))
    quantiles = np.sort(np.random.default_rng(9).normal(1 / 3, 100, stated(2).shape), axis=2)
    mended = apply(state, series, quantiles)
    assert (np.diff(mended[0], axis=1) >= 0).all()
    assert (mended[0] != quantiles[0]).any()
    assert np.array_equal(mended[1].view(np.int64), quantiles[1].view(np.int64))


@pytest.mark.parametrize("level", [0.0, 7.0])
def test_series_that_never_moves_asks_for_nothing(level: float) -> None:
    series, flat = stations(2), np.full((2, HORIZON, len(QUANTILES)), level)
    state, served = walked(series, flat, np.full((5, 2, HORIZON), level))
    assert state is not None
    assert (state.factors == 1).all()
    assert (served[-1] == level).all()
    # Where it moves after all, no factor would have helped.
    moved = carry(state, series, flat, np.full((2, HORIZON), level + 1))
    assert moved is not None
    assert (moved.factors == 1).all()


def test_factors_stay_within_their_bounds_whatever_comes() -> None:
    series = stations(1)
    state, _ = walked(series, stated(1, 0.01, 100.0), np.random.default_rng(4).normal(size=(120, 1, HORIZON)))
    assert state is not None
    assert (state.factors[:, :, :2] == MOST).all()
    assert (state.factors[:, :, 2] == LEAST).all()
    assert (LEAST, MOST) == (1 / 4, 4)
    assert np.isfinite(state.asked).all()


def test_factors_are_of_distances_from_the_median_wherever_that_lies() -> None:
    series, factors = stations(2), np.random.default_rng(8).uniform(LEAST, MOST, (2, *SHAPE)).astype(np.float32)
    state = Recalibration(series, factors, ones(2), ones(2))
    moved = apply(state, series, np.array(stated(2)) + 7)
    assert moved == pytest.approx(apply(state, series, stated(2)) + 7)


def test_series_alike_ask_for_the_same_however_many_and_however_long_the_horizon() -> None:
    def given(count: int, horizon: int) -> np.ndarray:
        series = stations(count)
        state = carry(None, series, stated(count)[:, :horizon], np.full((count, horizon), 5.0))
        assert state is not None
        return np.unique(state.factors, axis=0)

    # A single step in each stretch, a single series: as much as many.
    assert np.array_equal(given(1, STRETCHES), given(5, HORIZON))
    assert (np.round(given(3, HORIZON).astype(np.float64), 4).astype(np.float32) == given(3, HORIZON)).all()


def test_what_has_not_come_asks_for_nothing_and_what_came_twice_is_one_night() -> None:
    series, quantiles, truth = stations(1), stated(1)[:, :, STORED], np.full((1, HORIZON), 5.0)
    half = np.where(np.arange(HORIZON) % 2, truth, np.nan)
    whole, part, twice, none = (
        asked_of([Matured(series, quantiles, come, ones(1)) for come in batches], series)
        for batches in ([truth], [half], [truth, truth], [])
    )
    for asked, share in ((whole, 1), (part, 0.5), (twice, 1), (none, 0)):
        assert (asked.come == share).all()
        assert asked.wanted == pytest.approx(whole.wanted if share else 0 * whole.wanted)


def test_series_that_are_asked_of_are_given_as_far_as_they_are_known() -> None:
    factors = np.arange(2, 2 + ones(3).size, dtype=np.float32).reshape(3, *SHAPE)
    state = Recalibration(stations(3), factors, 10 * factors, 100 * factors)
    some = state.of(known((3, 9), (8, 9), (1, 9)))
    assert some.series.tolist() == [(3, 9), (1, 9)]
    for given, of_all in ((some.factors, factors), (some.nights, 10 * factors), (some.asked, 100 * factors)):
        assert np.array_equal(given, of_all[[2, 0]])
    # One that is not known has factors of 1, also where none is known.
    assert np.array_equal(some.factors_of(known((1, 9), (8, 9))), np.stack([factors[0], ones(1)[0]]))
    assert np.array_equal(state.of(known((8, 9))).factors_of(stations(2)), ones(2))


@pytest.mark.parametrize(("horizon", "elapsed", "share"), [(2, 2, 1), (2, 1, 1), (0.5, 0.5, 1), (0.5, 0.25, 0.5)])
def test_night_is_counted_once_by_the_shorter_of_a_day_and_the_horizon(
    horizon: float, elapsed: float, share: float
) -> None:
    asked = asked_of([Matured(stations(1), stated(1)[:, :, STORED], np.full((1, HORIZON), 5.0), ones(1))], stations(1))
    state = carried_on(None, [asked], stations(1), elapsed * DAY, horizon * DAY)
    assert state is not None
    assert (state.nights == share).all()


def test_night_counts_half_after_a_fortnight_and_is_forgotten_below_a_hundredth() -> None:
    series, nights = stations(2), np.zeros((2, *SHAPE), dtype=np.float32)
    # Of one stretch and side alone.
    nights[0, 1, 2], nights[1, 1, 2] = 0.01, 0.0099
    state = Recalibration(series, ones(2), nights, nights)
    kept = carried_on(state, [], series[:0], timedelta(0), DAY)
    assert kept is not None
    assert kept.series.tolist() == series[:1].tolist()
    faded = carried_on(Recalibration(series, ones(2), ones(2), ones(2)), [], series, timedelta(days=14), DAY)
    assert faded is not None
    assert (faded.nights == 0.5).all()
    assert (faded.asked == 0.5).all()


def test_vanished_series_fades_and_is_forgotten() -> None:
    series, truth = stations(2), np.full((2, HORIZON), 5.0)
    state = carry(None, series, stated(2), truth)
    stayed = series[:1]
    soon = carried_on(state, [], stayed, DAY, DAY)
    assert soon is not None
    assert len(soon.series) == 2
    assert (soon.nights < state.nights).all()
    late = carried_on(state, [], stayed, 120 * DAY, DAY)
    assert late is not None
    assert late.series.tolist() == stayed.tolist()


def test_one_bad_night_of_a_whole_network_is_lived_down() -> None:
    series = stations(50)
    truths = np.random.default_rng(6).normal(size=(15, 50, HORIZON))
    truths[0] = 6.0
    state, served = walked(series, stated(50), truths)
    assert state is not None
    widths = [s[:, :, 6].mean() / stated(50)[:, :, 6].mean() for s in served]
    assert 2 < widths[1] < 3
    assert widths[8] < 2
    assert state.factors[:, :, 2].mean() < 1.5


def test_gap_of_nights_fades_what_was_known() -> None:
    series = stations(3)
    state, _ = walked(series, stated(3, 0.5, 0.5), np.random.default_rng(5).normal(size=(20, 3, HORIZON)))
    assert state is not None
    gone = carried_on(state, [], series, 140 * DAY, DAY)
    assert gone is not None
    assert (np.abs(gone.factors - 1) < 0.05).all()
    assert (state.factors > 1.4).all()


def test_origins_in_quick_succession_are_no_more_evidence_than_nights() -> None:
    series, truth = stations(3), np.full((3, HORIZON), 5.0)
    hourly = carry(None, series, stated(3), truth, days=1 / 24)
    nightly = carry(None, series, stated(3), truth, days=1)
    assert hourly is not None
    assert nightly is not None
    assert hourly.nights.max() == pytest.approx(nightly.nights.max() / 24)


def test_digest_tells_factors_evidence_and_series_apart() -> None:
    series = stations(2)
    state = Recalibration(series, ones(2), ones(2), ones(2))
    others = [
        Recalibration(series, 2 * ones(2), ones(2), ones(2)),
        Recalibration(series, ones(2), 2 * ones(2), ones(2)),
        Recalibration(series, ones(2), ones(2), 2 * ones(2)),
        Recalibration(stations(2, 8), ones(2), ones(2), ones(2)),
        Recalibration(stations(3)[1:], ones(2), ones(2), ones(2)),
    ]
    assert len({state.digest, *(other.digest for other in others)}) == 6
    assert state.digest == Recalibration(stations(2), ones(2), ones(2), ones(2)).digest

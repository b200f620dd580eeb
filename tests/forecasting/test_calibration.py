"""Intervals that were too narrow, too wide or lopsided hold what they state on later origins."""

import dataclasses
import warnings

import numpy as np
import pytest
from small_panels import NORMAL, make_evidence

from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.calibration import STRETCHES, Calibration, calibrate, stretches
from bts_assets.forecasting.metrics import inside
from bts_assets.forecasting.out_of_sample import HoldoutForecasts

HORIZON = 24
EARLIER, LATER = 12, 12

#: Series of a network that has enough of them to tell what is wrong with its intervals from chance.
MANY = 160

#: Standard normal quantiles below and above the median, each side to be widened by itself.
BELOW, ABOVE = np.minimum(NORMAL, 0), np.maximum(NORMAL, 0)


def errors(series: int, origins: int = EARLIER + LATER, seed: int = 0) -> np.ndarray:
    """Errors of one standard deviation (series, origins, horizon); those of one night are alike."""
    rng = np.random.default_rng(seed)
    night = rng.normal(size=(series, origins, 1))
    return 0.5 * night + np.sqrt(0.75) * rng.normal(size=(series, origins, HORIZON))


def served_with(below: object, above: object, truth: np.ndarray) -> np.ndarray:
    """Quantiles around 0 that state `below` and `above` standard deviations where one would be right."""
    sides = np.asarray(below)[..., None] * BELOW + np.asarray(above)[..., None] * ABOVE
    return np.broadcast_to(sides, (*truth.shape, len(QUANTILES)))


def evidence_of(truth: np.ndarray, served: np.ndarray, parameter_id: list[int] | None = None) -> HoldoutForecasts:
    return make_evidence(truth, {"served": served}, parameter_id)


def learned(truth: np.ndarray, served: np.ndarray, parameter_id: list[int] | None = None) -> Calibration:
    """From the earlier origins."""
    return calibrate(evidence_of(truth[:, :EARLIER], served[:, :EARLIER], parameter_id), served[:, :EARLIER])


def covered(
    calibration: Calibration, evidence: HoldoutForecasts, truth: np.ndarray, served: np.ndarray
) -> dict[int, float]:
    """Share of the truths of the later origins within the intervals of so many per cent."""
    shares: dict[int, list[float]] = {80: [], 90: []}
    for k in range(EARLIER, truth.shape[1]):
        quantiles = calibration.apply(served[:, k], evidence.station_id, evidence.parameter_id)
        for share, found in shares.items():
            found.append(inside(quantiles, truth[:, k], share).mean())
    return {share: float(np.mean(found)) for share, found in shares.items()}


@pytest.mark.parametrize(
    ("below", "above", "unharmed"),
    [
        pytest.param(1.0, 1.0, True, id="right"),
        pytest.param(0.5, 0.5, False, id="too-narrow"),
        pytest.param(2.0, 2.0, False, id="too-wide"),
        pytest.param(0.5, 2.0, False, id="lopsided"),
        pytest.param(1.0, np.linspace(1.5, 0.4, HORIZON), False, id="ever-too-narrow-further-ahead"),
        pytest.param(np.linspace(0.3, 1.2, MANY)[:, None, None], 1.0, False, id="each-series-otherwise"),
    ],
)
def test_stated_coverage_holds_on_later_origins(below: object, above: object, unharmed: bool) -> None:
    truth = errors(MANY)
    served = served_with(below, above, truth)
    evidence = evidence_of(truth, served)
    found = covered(learned(truth, served), evidence, truth, served)
    assert found[80] == pytest.approx(0.8, abs=0.03)
    assert found[90] == pytest.approx(0.9, abs=0.03)
    before = covered(Calibration(), evidence, truth, served)
    assert unharmed or max(abs(before[share] - share / 100) for share in before) > 0.03


@pytest.mark.parametrize("nights", [3, 12])
def test_few_nights_of_two_series_do_not_undercover(nights: int) -> None:
    found = []
    for seed in range(60):
        truth = errors(2, nights + LATER, seed)
        served = served_with(1.0, 1.0, truth)
        calibration = calibrate(evidence_of(truth[:, :nights], served[:, :nights]), served[:, :nights])
        later = truth[:, -LATER:].swapaxes(0, 1)
        given = [calibration.apply(served[:, k], np.array([1, 2]), np.array([9, 9])) for k in range(-LATER, 0)]
        found.append([np.mean([inside(q, t, s) for q, t in zip(given, later, strict=True)]) for s in (80, 90)])
    # Mended by the quantiles of what was missed alone, 75 % and 87 % are covered after three nights.
    assert np.mean(found, axis=0) == pytest.approx([0.8, 0.9], abs=0.02)


def test_a_side_that_is_off_is_mended_less_than_both_and_all_the_same() -> None:
    truth = errors(40)
    served = served_with(0.5, 2.0, truth)
    evidence, later = evidence_of(truth, served), truth[:, EARLIER:]
    low, high = QUANTILES.index(0.1), QUANTILES.index(0.9)
    beyond = []
    for calibration in (Calibration(), learned(truth, served)):
        nights = [served[:, k] for k in range(EARLIER, truth.shape[1])]
        given = np.stack([calibration.apply(n, evidence.station_id, evidence.parameter_id) for n in nights], axis=1)
        beyond.append([(later < given[..., low]).mean(), (later > given[..., high]).mean()])
    before, after = np.abs(np.array(beyond) - 0.1)
    assert (after < 0.6 * before).all()


def test_what_chance_explains_is_left_alone() -> None:
    truth = errors(6)
    served = served_with(1.0, 1.0, truth)
    right, lopsided = (
        np.log(learned(truth, given).by_parameter[9]) for given in (served, served_with(0.8, 1.25, truth))
    )
    assert np.abs(right).mean() < 0.03
    # A quarter more on one side and less on the other is what nights differ by.
    assert np.abs(lopsided).mean() < 0.25 * np.log(1.25)
    tails = [QUANTILES.index(q) for q in (0.05, 0.1, 0.9, 0.95)]
    narrow = np.log(learned(truth, served_with(0.4, 0.4, truth)).by_parameter[9])
    assert narrow[:, tails].min() > 0.5


def test_each_parameter_has_factors_of_its_own_and_the_others_have_those_of_all() -> None:
    truth = errors(40)
    width = np.repeat([0.5, 2.0], 20)[:, None, None]
    served = served_with(width, width, truth)
    calibration = learned(truth, served, [1] * 20 + [2] * 20)
    narrow, wide, other = calibration.apply(served[[0, 20, 0], 0], np.array([98, 99, 99]), np.array([1, 2, 3]))
    level = QUANTILES.index(0.9)
    stated = np.array([0.5, 2.0, 0.5]) * NORMAL[level]
    factor = [given[:, level].mean() / was for given, was in zip((narrow, wide, other), stated, strict=True)]
    assert factor[0] == pytest.approx(2, rel=0.2)
    assert factor[1] == pytest.approx(0.5, rel=0.35)
    assert factor[0] > 1.1 * factor[2] > 1.1 * 1.1 * factor[1]


def test_a_series_of_few_nights_leans_on_its_parameter() -> None:
    truth = errors(40)
    served = served_with(1.0, 1.0, truth)
    truth[0] *= 3
    of_many = learned(truth, served).by_series[1, 9]
    truth[0, : EARLIER - 1] = np.nan
    of_one = learned(truth, served).by_series[1, 9]
    tails = [QUANTILES.index(q) for q in (0.05, 0.1, 0.9, 0.95)]
    assert (of_many[tails] > 1.4).all()
    assert (of_one[tails] < 1.25).all()


def test_a_series_that_errs_more_than_its_parameter_has_wider_intervals_of_its_own() -> None:
    truth = errors(40)
    truth[0] *= 3
    served = served_with(1.0, 1.0, truth)
    calibration = learned(truth, served)
    shares = []
    for station in (1, 99):
        given = calibration.apply(served[0, EARLIER:], np.full(LATER, station), np.full(LATER, 9))
        shares.append(inside(given, truth[0, EARLIER:], 80).mean())
    assert shares[0] > shares[1] + 0.1


def test_the_rarer_what_a_level_speaks_of_the_less_few_nights_say_of_it() -> None:
    truth = errors(1, 4, seed=3) * 1.6
    served = served_with(1.0, 1.0, truth)
    logs = np.log(calibrate(evidence_of(truth, served), served).by_parameter[9].mean(axis=0))
    assert logs[QUANTILES.index(0.75)] > logs[QUANTILES.index(0.9)] > logs[QUANTILES.index(0.975)] > 0
    # Were a truth beyond each as rare as another, the tail would keep two fifths of what the middle keeps.
    assert logs[QUANTILES.index(0.75)] > 5 * logs[QUANTILES.index(0.975)]


def test_constants_and_intervals_without_width_give_finite_factors() -> None:
    truth = np.zeros((3, EARLIER, HORIZON))
    truth[1] = errors(1, EARLIER)
    served = np.zeros((*truth.shape, len(QUANTILES)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibration = calibrate(evidence_of(truth, served), served)
        given = calibration.apply(served[:, 0], np.arange(1, 4), np.full(3, 9))
    factors = [calibration.default, *calibration.by_parameter.values(), *calibration.by_series.values()]
    assert all(np.isfinite(f).all() and (f > 0).all() for f in factors)
    np.testing.assert_array_equal(given, served[:, 0])


def test_a_parameter_that_differs_from_all_stays_within_the_bounds_too() -> None:
    truth = errors(130)
    below, above = np.full((130, 1, 1), 0.2), np.repeat([1.0, 0.2], [100, 30])[:, None, None]
    served = served_with(below, above, truth)
    assert learned(truth, served, [1] * 100 + [2] * 30).by_parameter[2].max() == 4


@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_no_factor_goes_beyond_its_bounds(size: float) -> None:
    truth = errors(20) * size
    served = served_with(1.0, 1.0, truth)
    calibration = learned(truth, served)
    for factors in (calibration.default, *calibration.by_parameter.values(), *calibration.by_series.values()):
        assert factors.min() >= 0.25
        assert factors.max() <= 4
    assert np.abs(np.log(calibration.default[:, 0])).min() > np.log(2)


def test_calibrated_quantiles_ascend_and_keep_their_median() -> None:
    rng = np.random.default_rng(0)
    truth = errors(20) * rng.gamma(1, 1, (20, 1, 1))
    served = np.sort(rng.normal(size=(*truth.shape, len(QUANTILES))) * rng.gamma(1, 1, (*truth.shape, 1)), axis=3)
    given = learned(truth, served).apply(served[:, -1], np.arange(1, 21), np.full(20, 9))
    assert (np.diff(given, axis=2) >= 0).all()
    np.testing.assert_array_equal(given[:, :, MEDIAN], served[:, -1, :, MEDIAN])


def test_factors_that_would_let_quantiles_cross_do_not() -> None:
    served = served_with(1.0, 1.0, np.zeros((1, 1, HORIZON)))[:, 0]
    factors = np.where(np.arange(len(QUANTILES)) % 2, 4.0, 0.25)
    given = Calibration(by_series={(1, 9): factors}).apply(served, np.array([1]), np.array([9]))
    assert (np.diff(given, axis=2) >= 0).all()
    np.testing.assert_allclose(np.sort(served * factors, axis=2), given)


def test_what_was_not_served_or_did_not_come_does_not_count() -> None:
    truth = errors(10)
    served = served_with(0.5, 0.5, truth).copy()
    part = calibrate(evidence_of(truth[:, :6], served[:, :6]), served[:, :6])
    served[:, 6:9], truth[:, 9:] = np.nan, np.nan
    whole = calibrate(evidence_of(truth, served), served)
    np.testing.assert_array_equal(whole.default, part.default)
    np.testing.assert_array_equal(whole.by_series[3, 9], part.by_series[3, 9])


def test_without_anything_known_nothing_is_changed() -> None:
    truth = np.full((2, 3, HORIZON), np.nan)
    served = served_with(1.0, 1.0, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for origins in (0, 3):
            evidence = evidence_of(truth, served).of_origins(np.arange(3) < origins)
            calibration = calibrate(evidence, served[:, :origins])
            given = calibration.apply(served[:, 0], np.array([1, 2]), np.array([9, 9]))
            np.testing.assert_array_equal(given, served[:, 0])
    assert calibration.apply(served[:0, 0], np.array([]), np.array([])).shape == (0, HORIZON, len(QUANTILES))


def test_steps_that_were_left_out_of_evidence_belong_to_the_stretch_that_they_lie_in() -> None:
    assert stretches(np.arange(24), 24).tolist() == list(np.repeat(np.arange(STRETCHES), 4))
    assert stretches(np.arange(2), 2).max() < STRETCHES
    truth = errors(30)
    width = np.where(np.arange(HORIZON) < 12, 1.0, 0.5)
    served = served_with(width, width, truth)
    kept = np.arange(0, HORIZON, 3)
    thinned = dataclasses.replace(evidence_of(truth[:, :, kept], served[:, :, kept]), steps=kept)
    grid = dataclasses.replace(thinned.panel.grid, horizon=HORIZON * thinned.panel.grid.step)
    thinned = dataclasses.replace(thinned, panel=dataclasses.replace(thinned.panel, grid=grid))
    factor = calibrate(thinned, served[:, :, kept]).by_parameter[9][:, QUANTILES.index(0.9)]
    np.testing.assert_allclose(factor, np.repeat([1.0, 2.0], 3), rtol=0.2)

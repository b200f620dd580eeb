"""Weights of candidates: learned from holdout origins, shrunk, and worth having on origins that had no say."""

import warnings
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
from scipy.optimize import minimize
from small_panels import NORMAL, make_evidence, make_panel

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.quantiles import MEDIAN, QUANTILES
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.ensemble_weights import (
    ENTROPY_PRICE,
    INCUMBENT_SHARE,
    LEAST_WEIGHT,
    learn,
    one_candidate,
)
from bts_assets.forecasting.out_of_sample import HoldoutForecasts, gather
from bts_assets.forecasting.pooling import pool

HORIZON = 12
NIGHTS = 3

#: Mean absolute errors by origin, of each candidate.
Errors = dict[str, list[float]]

EVEN: Errors = {"lstm": [1.0] * 6, "last_value": [2.0] * 6}
#: The levels that weights are fitted on, and the mass that each stands for.
LEVELS = [QUANTILES.index(q) for q in (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)]
MASS = np.diff([0, 0.0625, 0.175, 0.375, 0.625, 0.825, 0.9375, 1])

ODD: Errors = {"lstm": [3.0] * 6, "last_value": [1.0] * 6}


def evidence(series: list[Errors], parameter_id: list[int] | None = None, seed: int = 0) -> HoldoutForecasts:
    """Candidates that err alike but for the size of their errors, so that mixing them gains nothing by itself."""
    shape = (len(series), len(next(iter(series[0].values()))), HORIZON)
    error = np.random.default_rng(seed).normal(size=shape)
    sizes = {name: np.array([each[name] for each in series])[:, :, None] for name in series[0]}
    widths = {name: (np.abs(size) * np.ones(shape))[..., None] * NORMAL for name, size in sizes.items()}
    forecasts = {name: (size * error)[..., None] + widths[name] for name, size in sizes.items()}
    return make_evidence(np.zeros(shape), forecasts, parameter_id)


def weights_of(
    evidence: HoldoutForecasts, station: int = 1, parameter: int = 9, incumbent: str = "lstm"
) -> dict[str, float]:
    weights = learn(evidence, incumbent)
    (row,) = weights.of(np.array([station]), np.array([parameter]))
    return dict(zip(weights.candidates, row.tolist(), strict=True))


def test_a_series_is_served_mostly_by_the_candidate_that_wins_there() -> None:
    given = evidence([EVEN, EVEN, ODD])
    assert weights_of(given, 1)["lstm"] > 0.8
    assert weights_of(given, 2)["lstm"] > 0.8
    assert weights_of(given, 3)["last_value"] > 0.8


def test_one_bad_night_does_not_dethrone_the_better_candidate() -> None:
    nights = {"lstm": [1.0, 1.0, 1.0, 1.0, 1.0, 5.0], "last_value": [2.0] * 6, "window_median": [2.2] * 6}
    assert weights_of(evidence([nights]))["lstm"] > 0.6


def test_a_night_that_was_bad_for_all_does_not_decide_even_if_it_was_worst_for_the_best() -> None:
    storm = {"lstm": [1.0] * 5 + [50.0], "last_value": [2.0] * 5 + [40.0]}
    assert np.mean(storm["lstm"]) > np.mean(storm["last_value"])
    assert weights_of(evidence([storm]))["lstm"] > 0.8


def test_one_origin_counts_less_than_what_its_parameter_shows() -> None:
    known = {"lstm": [1.0] * 6, "last_value": [1.6] * 6}
    lone = {"lstm": [np.nan] * 5 + [1.2], "last_value": [np.nan] * 5 + [1.0]}
    given = evidence([lone] + [known] * 18)
    given.truth[0, :5] = np.nan
    assert weights_of(given)["lstm"] > 0.5


def test_what_one_origin_says_is_heard_where_the_parameter_says_nothing() -> None:
    lone = {"lstm": [1.5], "last_value": [1.0]}
    assert weights_of(evidence([lone]))["last_value"] > 1 - INCUMBENT_SHARE


def test_more_nights_that_agree_say_more() -> None:
    shares = [weights_of(evidence([{"lstm": [1.1] * n, "last_value": [1.0] * n}]))["last_value"] for n in (1, 3, 9)]
    assert shares == sorted(shares)
    assert shares[2] > shares[0] + 0.1


def test_nights_that_overlap_are_not_nights_that_agree() -> None:
    apart = evidence([{"lstm": [1.1] * 6, "last_value": [1.0] * 6}])
    close = apart.__class__(**{**vars(apart), "origins": tuple(apart.origins[0] + k for k in range(6))})
    assert weights_of(close)["last_value"] < weights_of(apart)["last_value"]


def test_candidates_that_are_alike_keep_the_weights_of_the_prior() -> None:
    tie = {"last_value": [1.0] * 4, "lstm": [1.0] * 4, "another": [1.0] * 4}
    expected = {"last_value": (1 - INCUMBENT_SHARE) / 2, "lstm": INCUMBENT_SHARE, "another": (1 - INCUMBENT_SHARE) / 2}
    assert weights_of(evidence([tie])) == pytest.approx(expected, abs=1e-3)


def test_a_series_not_seen_is_served_as_its_parameter_is_else_as_all_are() -> None:
    good, bad = {"lstm": [1.0] * 4, "last_value": [3.0] * 4}, {"lstm": [2.0] * 4, "last_value": [1.0] * 4}
    given = evidence([good] * 20 + [bad] * 5, [1] * 20 + [2] * 5)
    weights = learn(given, "lstm")
    assert weights_of(given, 99, 1)["lstm"] > 0.8
    assert weights_of(given, 99, 2)["last_value"] > 0.6
    assert weights.of(np.array([99]), np.array([3])).tolist() == [weights.default.tolist()]
    assert weights.default[0] > 0.5


def test_a_candidate_that_missed_an_origin_of_a_series_does_not_serve_it() -> None:
    given = evidence([{"lstm": [1.0] * 3, "last_value": [0.1] * 3}] * 2)
    given.quantiles[1, 0, 1] = np.nan
    assert weights_of(given, 1) == {"lstm": 1.0, "last_value": 0.0}
    assert weights_of(given, 2)["last_value"] > 0.5


def test_an_origin_without_forecasts_or_actuals_affects_no_weight() -> None:
    given = evidence([EVEN, ODD])
    given.quantiles[:, 0, 0] = np.nan
    given.truth[0, 1] = np.nan
    given.quantiles[0, 0, 1] = np.nan
    assert weights_of(given, 1)["lstm"] > 0.8
    assert weights_of(given, 2)["last_value"] > 0.8
    assert sum(weights_of(given, 99).values()) == pytest.approx(1)


def test_a_series_that_begins_after_the_first_origins_is_judged_by_the_others() -> None:
    given = evidence([EVEN, ODD])
    given.quantiles[:, 0, :4] = np.nan
    given.truth[0, :3] = np.nan
    assert weights_of(given, 1)["lstm"] > 0.5
    assert weights_of(given, 2)["last_value"] > 0.8


def test_perfect_forecasts_of_a_constant_are_no_division_by_zero() -> None:
    perfect = {"lstm": [0.0] * 6, "last_value": [0.0] * 6}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        alone = weights_of(evidence([perfect]))
        beside = evidence([perfect, ODD])
        weights = weights_of(beside, 1), weights_of(beside, 99)
    assert alone == pytest.approx({"lstm": INCUMBENT_SHARE, "last_value": 1 - INCUMBENT_SHARE})
    # It tells the candidates not apart, so it is served as its parameter is.
    assert weights[0] == weights[1]


@pytest.mark.parametrize("incumbent", ["lstm", "gone"])
def test_without_evidence_the_prior_serves(incumbent: str) -> None:
    given = evidence([EVEN])
    given.truth[:] = np.nan
    shares = {"lstm": INCUMBENT_SHARE, "last_value": 1 - INCUMBENT_SHARE} if incumbent == "lstm" else None
    assert weights_of(given, incumbent=incumbent) == pytest.approx(shares or {"lstm": 0.5, "last_value": 0.5})
    none = learn(evidence([EVEN]), incumbent, np.zeros(6, dtype=bool))
    assert none.by_series == {}
    if incumbent == "lstm":
        weighed = learn(evidence([EVEN]), incumbent, np.zeros(6, dtype=bool), share=0.7)
        assert weighed.default[weighed.candidates.index("lstm")] == pytest.approx(0.7)
    assert none.default.sum() == pytest.approx(1)


def test_weights_sum_to_one_and_tiny_ones_are_dropped() -> None:
    rng = np.random.default_rng(1)
    names = ("lstm", "last_value", "a", "b", "c", "d")
    series = [{name: [float(s) for s in rng.gamma(2, 1, 5)] for name in names} for _ in range(40)]
    weights = learn(evidence(series, [1, 2] * 20), "lstm")
    rows = np.array([weights.default, *weights.by_parameter.values(), *weights.by_series.values()])
    assert len(rows) == 43
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert ((rows == 0) | (rows >= LEAST_WEIGHT - 1e-6)).all()
    assert (rows == 0).any()


def solved(loss: Callable[[np.ndarray], float], parent: np.ndarray, nights: float) -> tuple[np.ndarray, float]:
    """Least loss and price of entropy over the simplex, by a general solver."""

    def objective(logits: np.ndarray) -> float:
        weights = np.exp(np.append(logits, 0.0) - np.logaddexp.reduce(np.append(logits, 0.0)))
        return loss(weights) + ENTROPY_PRICE / nights * float((weights * np.log(weights / parent)).sum())

    start = np.log(parent[:-1] / parent[-1])
    found = minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10, "maxiter": 5000})
    weights = np.append(np.exp(found.x), 1.0)
    return weights / weights.sum(), float(found.fun)


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_the_descent_finds_what_a_general_solver_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(1, NIGHTS, HORIZON))
    errors = rng.normal(size=(3, 1, NIGHTS, HORIZON)) * np.array([1.0, 1.3, 0.7])[:, None, None, None]
    quantiles = errors[..., None] + 0.8 * NORMAL
    names = ("lstm", "b", "c")
    weights = learn(make_evidence(truth, dict(zip(names, quantiles, strict=True))), "lstm")
    # Half of a night's own measure, half of the usual night's: what the median candidate was wrong by.
    night = np.median(np.abs(truth - quantiles[..., MEDIAN]).mean(axis=3), axis=0)[0]
    unit = (0.5 * night + 0.5 * np.median(night))[:, None]

    def loss(mixed: np.ndarray) -> float:
        points = np.concatenate(list(quantiles[:, 0][..., LEVELS]), axis=-1)
        share = np.concatenate([w * MASS for w in mixed])
        apart = np.abs(points[..., :, None] - points[..., None, :]) @ share @ share
        score = np.abs(points - truth[0][..., None]) @ share - 0.5 * apart
        return float((score / unit).mean())

    expected = np.array([INCUMBENT_SHARE, (1 - INCUMBENT_SHARE) / 2, (1 - INCUMBENT_SHARE) / 2])
    for _ in ("all series", "the parameter", "the series"):
        parent = expected
        expected, least = solved(loss, parent, NIGHTS)
    (row,) = weights.of(np.array([1]), np.array([9]))
    price = ENTROPY_PRICE / NIGHTS * float((row * np.log(np.maximum(row, 1e-9) / parent)).sum())
    assert loss(row) + price == pytest.approx(least, abs=1e-4)
    np.testing.assert_allclose(row, expected, atol=0.01)


def test_one_wild_night_counts_as_two_nights_at_most_however_wild() -> None:
    nights = {"lstm": [1.0] * 8 + [130.0], "last_value": [1.4] * 8 + [100.0], "window_median": [1.4] * 8 + [110.0]}
    wilder = {name: [*errors[:-1], 1e3 * errors[-1]] for name, errors in nights.items()}
    given, more = weights_of(evidence([nights])), weights_of(evidence([wilder]))
    assert given["lstm"] > 0.6
    assert more == pytest.approx(given, abs=0.02)


def test_what_is_worse_than_the_last_value_by_a_margin_has_no_weight() -> None:
    alike = {"lstm": [1.4] * 6, "last_value": [1.0] * 6, "window_median": [1.1] * 6}
    assert weights_of(evidence([alike] * 8))["lstm"] == 0
    for night in (1, 6):
        close = {name: [errors[0] if name != "lstm" else 1.02] * night for name, errors in alike.items()}
        assert weights_of(evidence([close] * 8))["lstm"] > 0


def test_what_is_sure_and_wrong_has_no_weight() -> None:
    given = evidence([{"lstm": [1.0] * 6, "last_value": [1.0] * 6, "window_median": [1.0] * 6}] * 8)
    given.quantiles[0] = given.quantiles[0, ..., [MEDIAN]].transpose(1, 2, 3, 0) + 0.1 * NORMAL.astype(np.float32)
    assert weights_of(given)["lstm"] == 0


def test_the_last_value_serves_where_nothing_else_can_be_trusted() -> None:
    nothing = {"lstm": [4.0] * 6, "last_value": [1.0] * 6, "another": [3.0] * 6}
    assert weights_of(evidence([nothing] * 3)) == {"lstm": 0.0, "last_value": 1.0, "another": 0.0}


def test_one_candidate_serves_every_series() -> None:
    weights = one_candidate(("lstm", "last_value"), "last_value")
    assert weights.of(np.array([1, 2]), np.array([3, 4])).tolist() == [[0.0, 1.0]] * 2
    assert weights.of(np.array([]), np.array([])).shape == (0, 2)


# Worth having: hourly steps, a week of context, a day ahead, and no LSTM.

WEEK = Grid(timedelta(hours=1), timedelta(days=7), timedelta(hours=24))


def bursty(series: int, days: int, rng: np.random.Generator) -> np.ndarray:
    """A level that jumps now and then, and bursts above it, as of a server: no hour is like another day's."""
    steps = 24 * days
    jumps = np.where(rng.random((series, steps)) < 1 / 60, rng.normal(size=(series, steps)), 0.0)
    bursts = np.where(rng.random((series, steps)) < 0.06, rng.gamma(2, 3, (series, steps)), 0.0)
    return 50 + 3 * np.cumsum(jumps, axis=1) + bursts + 0.3 * rng.normal(size=(series, steps))


def seasonal(series: int, days: int, rng: np.random.Generator) -> np.ndarray:
    """A third each: a daily rhythm, a rhythm that weekends break, and a walk without any."""
    hour = np.arange(24 * days)
    daily = 8 * np.sin(2 * np.pi * hour / 24 + rng.uniform(0, 6, (series, 1)))
    workdays = np.where(hour // 24 % 7 < 5, 1.5, 0.2)
    walk = np.cumsum(rng.normal(size=(series, len(hour))), axis=1)
    kind = np.arange(series)[:, None] % 3
    return 40 + np.where(kind == 0, daily, np.where(kind == 1, daily * workdays, walk)) + rng.normal(size=daily.shape)


def mase_on_later_origins(values: np.ndarray) -> tuple[float, dict[str, float]]:
    """Mean MASE, over series and the later half of the origins, of the mixture learned on the earlier half, and of
    each candidate.
    """
    panel = make_panel(values, [1 + k % 2 for k in range(len(values))], WEEK)
    origins = range(panel.steps - 16 * 24, panel.steps - 23, 24)
    given, failures = gather(panel, CHEAP, origins)
    assert failures == {}
    earlier = np.arange(len(origins)) < 8
    weights = learn(given, "seasonal_naive_day", earlier)
    mixed = pool(given.quantiles, weights.of(given.station_id, given.parameter_id))
    later = given.of_origins(~earlier)
    scores = {n: later.scores(n, later.quantiles[k])["mase"].mean() for k, n in enumerate(given.candidates)}
    return later.scores("served", mixed[:, ~earlier])["mase"].mean(), scores


@pytest.mark.parametrize("seed", [0, 1])
def test_bursty_series_are_served_no_worse_than_by_the_best_candidate(seed: int) -> None:
    served, alone = mase_on_later_origins(bursty(40, 35, np.random.default_rng(seed)))
    assert served <= 1.05 * min(alone.values())


@pytest.mark.parametrize("seed", [0, 1])
def test_where_series_have_different_best_candidates_the_mixture_beats_each(seed: int) -> None:
    served, alone = mase_on_later_origins(seasonal(42, 35, np.random.default_rng(seed)))
    assert served < 0.95 * min(alone.values())

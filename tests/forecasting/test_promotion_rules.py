"""A challenger beside the champion: each rule where it passes and where it fails, by figures worked out by hand."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_panels import CATALOGUE, END, GRID, bundle, daily_values, make_panel

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.backtest import SERVED, rolling_backtest
from bts_assets.forecasting.batch import Batch
from bts_assets.forecasting.candidates import LastValue
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.metrics import KEYS, METRICS
from bts_assets.forecasting.out_of_sample import gather
from bts_assets.forecasting.promotion_rules import (
    Rule,
    apart,
    forecast_divergence,
    interval_coverage,
    lower_error,
    means_apart,
    no_new_fallbacks,
    no_parameter_worse,
    paired_errors,
    ratios,
    scored_again,
    summed_up,
)

MARGIN = 0.01
HOUR = timedelta(hours=1)


def differences(batch: Batch, champions: Batch) -> pd.DataFrame:
    return apart(means_apart(batch, champions))


def errors(ratio: Sequence[float], parameter_id: int | Sequence[int] = 1, unit: float = 1.0) -> pd.DataFrame:
    """Series whose champion is 0.95 of their scale off, and whose challenger so much that the ratio is as given.

    A twentieth of the scale goes to either, so that the champion counts as 1 of the scale, and the ratio can be read.
    """
    count = len(ratio)
    return pd.DataFrame(
        {
            "station_id": np.arange(1, count + 1),
            "parameter_id": np.broadcast_to(parameter_id, count),
            "challenger": (np.array(ratio) - 0.05) * unit,
            "champion": 0.95 * unit,
            "scale": unit,
            "coverage80": 0.8,
            "champion_coverage80": 0.8,
            "nights": 1,
        }
    )


def scores(rows: Sequence[tuple[int, int, float, float, float]]) -> pd.DataFrame:
    """Errors by station, night, mae, mase and coverage80, as `backtest.score` gives them; the parameter is 1."""
    frame = pd.DataFrame(rows, columns=["station_id", "night", "mae", "mase", "coverage80"])
    frame["origin"] = pd.Timestamp(END).as_unit("us") + pd.to_timedelta(frame.pop("night"), unit="D")
    return frame.assign(parameter_id=1, candidate=SERVED)


def can_be_kept(rule: Rule) -> bool:
    """Whether Postgres takes it: its JSON has no NaN."""
    return bool(json.dumps(rule.to_dict(), allow_nan=False))


# Paired errors


def test_only_nights_and_series_of_both_are_compared() -> None:
    challenger = scores([(1, 0, 2.0, 1.0, 0.5), (1, 1, 4.0, 1.0, 0.7), (1, 2, 90.0, 1.0, 0.9), (2, 0, 1.0, 1.0, 1.0)])
    champion = scores([(1, 0, 3.0, 1.5, 0.9), (1, 1, 5.0, 1.25, 1.0), (3, 0, 1.0, 1.0, 1.0)])
    (found,) = paired_errors(challenger, champion).to_dict("records")
    # MASE's denominator was 2 on the first night and 4 on the second.
    assert found == {
        "station_id": 1, "parameter_id": 1, "challenger": 3.0, "champion": 4.0, "scale": 3.0,
        "coverage80": pytest.approx(0.6), "champion_coverage80": pytest.approx(0.95), "nights": 2,
    }  # fmt: skip


def test_series_that_never_moved_does_not_decide() -> None:
    still = (2, 0, 0.3, np.nan, 1.0)
    pairs = paired_errors(scores([(1, 0, 2.0, 1.0, 0.5), still]), scores([(1, 0, 3.0, 1.5, 0.9), still]))
    assert pairs["station_id"].tolist() == [1]


def test_scale_is_known_from_the_champion_where_the_challenger_has_no_error() -> None:
    (found,) = paired_errors(scores([(1, 0, 0.0, 0.0, 1.0)]), scores([(1, 0, 3.0, 1.5, 0.9)])).to_dict("records")
    assert found["scale"] == 2.0
    assert ratios(pd.DataFrame([found])).tolist() == [1 / 5]  # 0.1 to 3.1 is less than a fifth


def test_nothing_scored_is_no_pair_and_no_verdict_in_favour() -> None:
    nothing = pd.DataFrame(columns=[*KEYS, *METRICS])
    for pairs in (paired_errors(nothing, nothing), paired_errors(nothing, scores([(1, 0, 2.0, 1.0, 0.5)]))):
        assert len(pairs) == 0
        rules = [lower_error(pairs, MARGIN), no_parameter_worse(pairs, CATALOGUE), interval_coverage(pairs)]
        assert not rules[0].passed
        assert all(can_be_kept(rule) for rule in rules)


# better


@pytest.mark.parametrize(
    ("ratio", "margin", "passed"),
    [
        pytest.param([0.9] * 6, 0.01, True, id="all ten per cent better"),
        pytest.param([0.9] * 5, 0.01, False, id="too few"),
        pytest.param([0.995] * 20, 0.01, False, id="less than the margin"),
        pytest.param([0.995] * 20, 0.0, True, id="no margin asked"),
        pytest.param([0.9] * 20, 0.2, False, id="a larger margin asked"),
        pytest.param([1.1] * 20, 0.01, False, id="worse"),
        pytest.param([1.02] * 9 + [0.2], 0.01, False, id="one lucky series"),
        pytest.param([0.98] * 14 + [3.0], 0.01, False, id="one unlucky series, so that the mean is worse"),
        pytest.param([0.8] * 6 + [1.2] * 6, 0.01, False, id="as many lose as win"),
        pytest.param([0.8] * 15 + [1.05] * 3, 0.01, True, id="most win by much, few lose by little"),
    ],
)
def test_better_by_a_margin_on_most_series(ratio: list[float], margin: float, passed: bool) -> None:
    rule = lower_error(errors(ratio), margin)
    assert rule.passed is passed, rule.words
    assert can_be_kept(rule)


def test_better_says_ratio_wins_and_chance() -> None:
    rule = lower_error(errors([0.5, 0.5, 0.5, 0.5, 0.5, 2.0, 0.5, 0.5]), MARGIN)
    # Six halvings are left once one doubling is taken off: 2 ** (-6 / 8).
    assert rule.figures["ratio"] == pytest.approx(2**-0.75)
    assert rule.figures["share_better"] == 7 / 8
    assert "0.595 times the champion's (mean over 8 series), less on 88 % of them; needed: 0.990 or less" in rule.words


def test_chance_is_that_of_wilcoxons_test() -> None:
    # Of six different ranks, all on one side: one of 64 arrangements.
    rule = lower_error(errors([0.9, 0.88, 0.86, 0.84, 0.82, 0.8]), MARGIN)
    assert rule.figures["p"] == pytest.approx(1 / 64)
    # The least of the ranks on the other side: two of 64.
    assert lower_error(errors([1.0, 0.88, 0.86, 0.84, 0.82, 0.8]), MARGIN).figures["p"] == pytest.approx(2 / 64)
    # The ranks 1 and 3 there: the sets {}, {1}, {2}, {3}, {1, 2}, {4}, {1, 3} are as rare, 7 of 64.
    assert not (rule := lower_error(errors([1.0, 0.9, 1.2, 0.78, 0.7, 0.6]), MARGIN)).passed
    assert rule.figures["p"] == pytest.approx(7 / 64)


def test_lucky_series_is_better_in_the_mean_and_refused() -> None:
    rule = lower_error(errors([1.02] * 9 + [0.05]), MARGIN)
    assert rule.figures["ratio"] == pytest.approx((1.02**9 / 5) ** 0.1)  # counts a fifth, however little it is
    assert float(rule.figures["ratio"]) < 1 - MARGIN
    assert not rule.passed


def test_versions_that_forecast_alike_are_no_better() -> None:
    for margin in (0.0, MARGIN):
        rule = lower_error(errors([1.0] * 60), margin)
        assert not rule.passed
        assert can_be_kept(rule)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_unit_of_a_series_does_not_matter(unit: float) -> None:
    mixed = errors([0.9, 0.8, 0.95, 1.1, 0.7, 0.85])
    mixed.loc[::2, ["challenger", "champion", "scale"]] *= unit
    plain = lower_error(errors([0.9, 0.8, 0.95, 1.1, 0.7, 0.85]), MARGIN)
    assert lower_error(mixed, MARGIN).figures == pytest.approx(dict(plain.figures))


def test_next_to_nothing_is_as_good_as_nothing() -> None:
    pairs = errors([1.0, 1.0])
    pairs["challenger"], pairs["champion"] = [0.001, 0.0], [0.0, 0.0]
    assert ratios(pairs).tolist() == pytest.approx([1.02, 1.0])


# The other rules


def test_no_parameter_may_pay_for_the_others() -> None:
    pairs = pd.concat([errors([0.6] * 40, 1), errors([1.4] * 5, 2), errors([1.06] * 6, 3), errors([1.04] * 5, 4)])
    assert lower_error(pairs, MARGIN).passed
    rule = no_parameter_worse(pairs, CATALOGUE)
    assert not rule.passed
    assert rule.words == "parameters become worse, by the ratio of their errors: Humidity (1.40), Run Time (1.06)"
    assert rule.figures == {"parameters": 4, "worst_ratio": pytest.approx(1.4)}


def test_parameter_of_few_series_stops_nothing() -> None:
    rule = no_parameter_worse(pd.concat([errors([0.6] * 5, 1), errors([4.0] * 4, 2)]), CATALOGUE)
    assert rule.passed
    assert rule.figures == {"parameters": 1, "worst_ratio": pytest.approx(0.6)}
    assert no_parameter_worse(errors([4.0]), CATALOGUE).passed


@pytest.mark.parametrize(
    ("own", "champions", "passed"),
    [
        pytest.param(0.8, 0.8, True, id="as stated"),
        pytest.param(0.775, 0.8, True, id="a little narrow"),
        pytest.param(0.76, 0.8, False, id="too narrow"),
        pytest.param(0.84, 0.8, False, id="too wide"),
        pytest.param(0.6, 0.58, True, id="narrow, as the champion is"),
        pytest.param(1.0, 0.61, True, id="as far off as the champion on the other side"),
        pytest.param(0.5, 0.6, False, id="narrower than a narrow champion"),
    ],
)
def test_intervals_hold_about_what_they_say(own: float, champions: float, passed: bool) -> None:
    rule = interval_coverage(errors([1.0] * 4).assign(coverage80=own, champion_coverage80=champions))
    assert rule.passed is passed
    assert rule.figures == {"coverage80": pytest.approx(own), "champion_coverage80": pytest.approx(champions)}


def statuses(**counts: int) -> pd.DataFrame:
    return pd.DataFrame({"status": [status for status, count in counts.items() for _ in range(count)]})


@pytest.mark.parametrize(
    ("own", "passed"),
    [
        ({"forecast": 7, "fallback": 2, "excluded": 1}, True),
        ({"forecast": 10}, True),
        ({"forecast": 6, "fallback": 3, "excluded": 1}, False),
        ({"forecast": 6, "fallback": 2, "excluded": 2}, False),
        ({"forecast": 7, "fallback": 1, "excluded": 1}, False),
    ],
)
def test_no_more_series_fall_back_or_are_left_out(own: dict[str, int], passed: bool) -> None:
    rule = no_new_fallbacks(statuses(**own), statuses(forecast=7, fallback=2, excluded=1))
    assert rule.passed is passed
    assert rule.figures == {"fallback": own.get("fallback", 0), "excluded": own.get("excluded", 0)}


# How far forecasts differ


def night(medians: dict[tuple[int, int], list[float]], width: float | dict[int, float] = 2.0) -> Batch:
    """Forecasts by (station, parameter), a median per step; the 80 % interval about it is `width` (of a parameter)."""
    series = np.array(list(medians))
    wide = np.array([width[p] if isinstance(width, dict) else width for p in series[:, 1]])
    away = wide[:, None, None] / 2 * np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    quantiles = np.array(list(medians.values()))[:, :, None] + away
    return Batch(GRID, END, series[:, 0], series[:, 1], quantiles, pd.DataFrame())


def test_differences_are_in_widths_of_the_champions_interval() -> None:
    champion = night({(1, 1): [10.0, 12.0], (2, 1): [5.0, 5.0], (3, 7): [1.0, 1.0]}, {1: 4.0, 7: 0.5})
    challenger = night({(1, 1): [11.0, 9.0], (2, 1): [5.0, 7.0], (3, 7): [2.0, 2.0], (9, 9): [0.0, 0.0]}, 2.0)
    found = differences(challenger, champion)
    assert found.to_dict("list") == {
        "station_id": [3, 1, 2],
        "parameter_id": [7, 1, 1],
        # 1 of half the challenger's width; the mean of 1 and 3 of 4; that of 0 and 2 of 4
        "distance": [1.0, 0.5, 0.25],
        "shift": [1.0, -1.0, 1.0],
        "width": [2.0, 0.5, 0.5],
    }
    assert summed_up(found, "parameter_id").to_dict("index") == {
        7: {"series": 1, "median": 1.0, "greatest": 1.0}, 1: {"series": 2, "median": 0.375, "greatest": 0.5},
    }  # fmt: skip
    assert summed_up(found, "station_id").index.tolist() == [3, 1, 2]


def test_interval_of_next_to_nothing_makes_no_difference_of_next_to_nothing_far() -> None:
    stations = {(station, 1): [40.0] for station in range(1, 6)}
    champion = night(stations, 2.0)
    champion.quantiles[0] = 40.0  # station 1 is sure
    challenger = night({**stations, (1, 1): [40.05]}, 2.0)
    challenger.quantiles[0] = 40.05
    # A twentieth of what is usual for the parameter, 2.
    assert differences(challenger, champion)["distance"].tolist() == pytest.approx([0.5, 0, 0, 0, 0])


def test_a_champion_that_is_too_sure_makes_no_better_version_far() -> None:
    rhythm = (50 + 10 * np.sin(np.arange(24) / 4)).tolist()
    better = [value + 0.5 for value in rhythm]
    sure, honest = night({(1, 1): rhythm}, 0.01), night({(1, 1): better}, 2.0)
    assert forecast_divergence(differences(honest, sure), 1.0, CATALOGUE).passed
    # By the series' own swing, too, where both are sure.
    assert forecast_divergence(differences(night({(1, 1): better}, 0.01), sure), 1.0, CATALOGUE).passed
    elsewhere = night({(1, 1): [value + 5 for value in rhythm]}, 2.0)
    assert not forecast_divergence(differences(elsewhere, sure), 1.0, CATALOGUE).passed


def test_nothing_in_common_is_no_difference() -> None:
    found = differences(night({(1, 1): [10.0]}), night({(2, 1): [10.0]}))
    assert len(found) == 0
    assert forecast_divergence(found, 1.0, CATALOGUE).passed


def test_where_no_interval_is_known_the_level_or_the_unit_stands_in() -> None:
    champion, challenger = night({(1, 1): [200.0], (2, 2): [0.0]}, 0.0), night({(1, 1): [203.0], (2, 2): [0.5]}, 0.0)
    assert differences(challenger, champion)["distance"].tolist() == [1.5, 0.5]


@pytest.mark.parametrize(
    ("distances", "passed"),
    [
        pytest.param({1: [0.2] * 18 + [3.0] * 2}, True, id="one in ten far"),
        pytest.param({1: [0.2] * 17 + [3.0] * 3}, False, id="more than one in ten far"),
        pytest.param({1: [0.2] * 97, 2: [1.5, 1.5, 0.1]}, False, id="a parameter as a whole"),
        pytest.param({1: [1.0] * 20}, True, id="at the bound"),
        pytest.param({}, True, id="nothing to compare"),
    ],
)
def test_few_series_and_no_parameter_may_differ_by_more_than_the_bound(
    distances: dict[int, list[float]], passed: bool
) -> None:
    rows = [(p, d) for p, of_parameter in distances.items() for d in of_parameter]
    apart = pd.DataFrame(rows, columns=["parameter_id", "distance"]).astype({"distance": float})
    rule = forecast_divergence(apart, 1.0, CATALOGUE)
    assert rule.passed is passed, rule.words
    assert can_be_kept(rule)
    assert ("Humidity as a whole is 1.50 apart" in rule.words) == (2 in distances)
    assert forecast_divergence(apart, 5.0, CATALOGUE).passed


# Scored again


@pytest.fixture
def with_reset() -> Panel:
    """Gauges, one of which is first heard of late, and a counter that starts anew in the last horizon but one."""
    values = daily_values(4, seed=3)
    values[1, :-30] = np.nan
    values[2] = np.cumsum(np.random.default_rng(1).integers(0, 2, values.shape[1]))
    values[2, -18:] -= values[2, -18]
    values[3] = 5.0  # never moves
    return make_panel(values, [1, 2, 3, 1])


def origins(panel: Panel, steps_back: Sequence[int]) -> list[Any]:
    return [panel.end - back * HOUR for back in steps_back]


def test_scored_again_is_as_a_backtest_scores(with_reset: Panel) -> None:
    past = origins(with_reset, (36, 24, 12))
    fitted = FittedBundle(bundle("seasonal_naive_day"), pd.DataFrame(), pd.DataFrame(), {}, {}, truncated=False)
    expected = rolling_backtest(with_reset, CATALOGUE, past, lambda *_: fitted).scores
    expected = expected[expected["candidate"] == SERVED].sort_values([*KEYS], ignore_index=True)
    found = scored_again(fitted.bundle, with_reset, CATALOGUE, [pd.Timestamp(p) for p in past])
    pd.testing.assert_frame_equal(found.sort_values([*KEYS], ignore_index=True), expected)
    # Series 2 was not known at the first; of the counter something came before its reset, and nothing after counts.
    assert len(found) == 11
    of_counter = found[found["parameter_id"] == 3].set_index("origin")["mae"]
    assert of_counter.max() < 12


def test_scored_again_is_as_a_training_scores(with_reset: Panel) -> None:
    columns = [with_reset.steps - back for back in (36, 24, 12)]
    evidence, failures = gather(with_reset, [LastValue()], columns, {3})
    assert not failures
    expected = evidence.scores(SERVED, evidence.quantiles[0])
    past = [pd.Timestamp(o) for o in origins(with_reset, (36, 24, 12))]
    both = scored_again(bundle(), with_reset, CATALOGUE, past).merge(
        expected, on=["station_id", "parameter_id", "origin"], suffixes=("", "_training")
    )
    gauges = both[both["parameter_id"] != 3]  # that of a counter is shown as increments
    assert len(gauges) == 8
    assert gauges["mae"].to_numpy() == pytest.approx(gauges["mae_training"].to_numpy(), rel=1e-5, abs=1e-5)

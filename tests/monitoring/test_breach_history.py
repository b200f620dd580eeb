"""How often a series passed a limit lately, and what of it goes into a probability."""

import numpy as np
import pytest

from bts_assets.contracts.quantiles import STORED_QUANTILES
from bts_assets.monitoring.breach import Dependence, breaches
from bts_assets.monitoring.breach_history import Record, record_of
from bts_assets.monitoring.breach_scores import passed
from bts_assets.monitoring.terms import BreachRule

DAY = 4


def days(*passed: int, side: int = 1) -> np.ndarray:
    """A week of a series, a row; beyond its limit, 0, at noon of the days that are named."""
    values = np.full((7, DAY), -1.0)
    values[list(passed), 2] = 1.0
    return side * values.reshape(1, -1)


def pooled(record: Record, probability: float) -> float:
    return float(record.pooled(np.full((1, 1), probability))[0, 0])


@pytest.mark.parametrize("side", [1, -1], ids=["high", "low"])
def test_windows_of_the_past_begin_at_the_origins_time_of_day(side: int) -> None:
    record = record_of(days(0, 6, side=side), np.zeros(1), side, (2, 4, 8), DAY)
    # By noon never; two days of seven; four windows of two days of six hold one of those days' noons: 0-1 and 5-6.
    assert np.exp(record.odds[0]).tolist() == pytest.approx([0.5 / 7.5, 2.5 / 5.5, 2.5 / 4.5])


def test_the_past_and_what_came_count_as_many_steps_in_a_row_as_a_breach_has() -> None:
    noons, evenings = days(0, 1, 6), days(0, 6)
    evenings[0, [3, 27]] = 1.0  # the hour after noon too, of the first and the last day
    for values, rule, breached in ((noons, BreachRule(1), 3), (noons, BreachRule(2), 0), (evenings, BreachRule(2), 2)):
        record = record_of(values, np.zeros(1), 1, (4,), DAY, rule)
        assert np.exp(record.odds[0]).tolist() == pytest.approx([(breached + 0.5) / (7.5 - breached)])
    side = np.ones(1)
    # A run counts in the window in which it begins, however long that is.
    for window, rule, came in ((3, BreachRule(2), True), (2, BreachRule(2), False), (3, BreachRule(3), False)):
        assert passed(evenings, np.zeros(1), side, window, rule) == ([came], [True])


def test_a_record_draws_a_probability_towards_itself_and_its_half_is_where_both_come_to_one_half() -> None:
    never, always = (record_of(days(*range(n)), np.zeros(1), 1, (4,), DAY) for n in (0, 7))
    assert pooled(never, 0.6) < 0.5 < 0.6 < pooled(always, 0.6)
    for record in (never, always):
        assert pooled(record, float(record.even()[0, 0])) == pytest.approx(0.5)


def test_what_cannot_be_reached_stays_so_and_a_short_or_silent_past_says_nothing() -> None:
    assert pooled(record_of(days(*range(7)), np.zeros(1), 1, (4,), DAY), 0.0) == 0
    for past in (days(*range(7))[:, :8], np.full((1, 7 * DAY), np.nan), np.empty((1, 0))):
        assert pooled(record_of(past, np.zeros(1), 1, (4,), DAY), 0.6) == 0.6
    nowhere = record_of(days(1), np.full(1, np.nan), 1, (4,), DAY)
    assert np.isnan(pooled(nowhere, np.nan))


def test_a_breach_is_likely_from_the_step_on_at_which_forecast_and_record_together_say_so() -> None:
    from statistics import NormalDist

    normal = np.array([NormalDist().inv_cdf(q) for q in STORED_QUANTILES])
    rising = np.linspace(-3, 5, 16)[None, :, None] + normal
    dependence = Dependence(np.zeros(1), np.full(1, 0.5))
    given = {"quantiles": rising, "limit": np.zeros(1), "side": 1, "dependence": dependence, "windows": (8,)}
    plain, never = (
        breaches(**given, record=record)  # type: ignore[arg-type]
        for record in (None, record_of(days(), np.zeros(1), 1, (8,), DAY))
    )
    assert never.probability[0, 0] < plain.probability[0, 0]
    assert never.first_likely[0] > plain.first_likely[0] >= 0


def test_a_series_that_passes_every_noon_is_likely_to_at_noon_and_not_at_once() -> None:
    from statistics import NormalDist

    normal = np.array([NormalDist().inv_cdf(q) for q in STORED_QUANTILES])
    course = np.array([-1.5, -1.5, 0.5, -1.5, -1.5, -1.5, 0.5, -1.5])  # before noon a breach of one in fifteen
    given = {"quantiles": course[None, :, None] + normal, "limit": np.zeros(1), "side": 1, "windows": (1, 4, 8)}
    record = record_of(days(*range(7)), np.zeros(1), 1, (1, 4, 8), DAY)
    found = breaches(**given, dependence=Dependence(np.zeros(1), np.zeros(1)), record=record)  # type: ignore[arg-type]
    assert found.first_likely[0] == 2

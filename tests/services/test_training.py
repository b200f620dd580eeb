"""How far back a training reads."""

from datetime import timedelta

from small_nights import ORIGIN

from bts_assets.contracts.grid import DAY
from bts_assets.services.training import MOST_NUMBERS, training_start
from bts_assets.settings import load_settings

YEAR = 365 * DAY


def test_training_reads_all_that_is_stored_as_far_as_memory_is_bounded() -> None:
    hourly = load_settings(step="1h", context="7d", horizon="48h")
    assert training_start(hourly, ORIGIN - 9 * YEAR, ORIGIN, 200) == ORIGIN - 9 * YEAR
    many = training_start(hourly, ORIGIN - 9 * YEAR, ORIGIN, 10_000)
    assert (ORIGIN - many) % DAY == timedelta(0)
    assert 0.98 * MOST_NUMBERS < 10_000 * ((ORIGIN - many) / hourly.step) <= MOST_NUMBERS
    least = training_start(hourly, ORIGIN - 9 * YEAR, ORIGIN, 10**7)
    assert ORIGIN - least == 6 * (hourly.context + hourly.horizon)
    assert training_start(hourly, ORIGIN - DAY, ORIGIN, 10**7) == ORIGIN - hourly.context


def test_a_span_that_is_set_is_what_is_read() -> None:
    set_to = load_settings(step="1h", context="7d", horizon="48h", training_span="30d")
    assert training_start(set_to, ORIGIN - YEAR, ORIGIN, 10**7) == ORIGIN - 30 * DAY
    assert training_start(set_to, ORIGIN - 9 * DAY, ORIGIN, 1) == ORIGIN - 9 * DAY

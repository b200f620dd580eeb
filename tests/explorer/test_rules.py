"""Rules that pages go by, each without a database: what an axis shows, what is worse than its baselines, words."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bts_assets.explorer import app, picture
from bts_assets.explorer.chart import Chart
from bts_assets.explorer.marks import Mark, told_here
from bts_assets.explorer.pages.accuracy import beside_baselines

MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
STEP = timedelta(minutes=15)
HANOI = ZoneInfo("Asia/Ho_Chi_Minh")


@pytest.mark.parametrize(
    ("served", "baselines", "worse"),
    [
        (1.03, {"seasonal_naive_day": 1.27, "last_value": 2.5}, False),  # above 1, as are all of them
        (0.95, {"seasonal_naive_day": 1.2, "window_median": 0.9}, True),
        (0.9049, {"last_value": 0.901}, False),  # the page shows 0.90 of both
        (0.9, {"last_value": None}, False),
        (None, {"last_value": 1.0}, False),
    ],
)
def test_a_forecast_is_worse_than_the_best_baseline_and_not_than_1(
    served: float | None, baselines: dict[str, float | None], worse: bool
) -> None:
    rows = [{"hour": 3, "candidate": name, "mase": mase} for name, mase in {"served": served, **baselines}.items()]
    (line,) = beside_baselines(rows, "hour")
    assert line["worse"] is worse


def chart(
    observed: Sequence[float | None], forecast: Sequence[float] = (), width: float = 0.1, **more: float | Sequence[Mark]
) -> Chart:
    """Of a series with a forecast behind it, whose 90 % interval is as wide as that."""
    times = [MIDNIGHT + n * STEP for n in range(len(observed) + len(forecast))]
    lines = {"observed": [*observed, *(None for _ in forecast)]}
    for name, share in (("q05", -0.5), ("q10", -0.4), ("q50", 0.0), ("q90", 0.4), ("q95", 0.5)):
        if forecast:
            lines[name] = [*(None for _ in observed), *(v + share * width for v in forecast)]
    return Chart("c", "Load", "", "A", HANOI, times, lines, **more)  # type: ignore[arg-type]


def test_runs_of_a_generator_are_shown() -> None:
    run = [0.0] * 60 + [11.0, 13.1, 12.0]
    axis = chart(run * 5, [0.0] * 96).axis
    assert axis.low < 0 < 13.1 < axis.high < 15
    assert axis.far == []


def test_what_happened_once_is_named_where_it_was() -> None:
    ordinary = [20.0 + n % 5 for n in range(300)]
    ordinary[40] = -9000.0
    axis = chart(ordinary, [22.0] * 96).axis
    assert 19 < axis.low < 20 < 24 < axis.high < 25
    assert axis.far == [(MIDNIGHT + 40 * STEP, -9000.0)]


def test_moments_that_come_again_squeeze_nothing_either() -> None:
    ordinary = [20.0 + n % 5 for n in range(900)]
    ordinary[40] = ordinary[500] = 900.0  # two steps of nine hundred: a sensor, not what it measures
    assert chart(ordinary, [22.0] * 96).axis.high < 25


def test_zeros_of_outages_squeeze_nothing_however_often_they_come() -> None:
    ordinary = [220.0 + n % 5 for n in range(300)]
    for outage in (30, 100, 200):
        ordinary[outage : outage + 6] = [0.0] * 6
    axis = chart(ordinary, [222.0] * 96).axis
    assert axis.low > 218
    assert axis.far == [(MIDNIGHT + 30 * STEP, 0.0)]


def test_an_axis_without_a_value_or_with_one_alone_has_a_length() -> None:
    for values in ([None, None], [0.0, 0.0], [230.0]):
        axis = chart(values).axis
        assert axis.high > axis.low


def test_a_limit_is_drawn_where_it_is_near() -> None:
    ordinary = [20.0 + n % 5 for n in range(300)]
    assert chart(ordinary, low=5.0, high=26.0).limits == [26.0]


def test_decimals_tell_the_edges_of_an_interval_apart() -> None:
    assert chart([50.0] * 9, [50.0] * 9, width=0.04).decimals == 3
    assert chart([50.0] * 9, [50.0] * 9, width=3.0).decimals == 1
    assert chart([50.0] * 9, [50.0] * 9, width=0.0).decimals == 2
    assert '"q10":[null,49.984]' in chart([50.0], [50.0], width=0.04).data()


def test_an_alert_on_the_page_of_its_station_goes_without_its_name_and_in_the_pages_zone() -> None:
    station = {"station_id": 7, "name": "Hanoi 7 (roof)"}
    told = [
        ("Hanoi 7 (roof) (7): Humidity above 90 % within 48 h, chance 61 %, likely from 2026-03-10 18:00 UTC;",
         "Humidity above 90 % within 48 h, chance 61 %, likely from"),
        ("Hanoi 7 (roof) (7) is silent since 2026-03-10 18:00 UTC: none reports", "silent since"),
        ("Load of Hanoi 7 (roof): level has changed", "Load: level has changed"),
    ]  # fmt: skip
    for what, begins in told:
        here = told_here(what, station, HANOI)
        assert here.startswith(begins)
        assert "UTC" not in here
        assert "01:00" in here or "changed" in here
    assert told_here("station 7: smoke", {"station_id": 7, "name": None}, HANOI) == "smoke"


def test_pictures_have_the_colours_of_the_pages() -> None:
    css = (Path(app.__file__).parent / "static" / "explorer.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--([\w-]+): ([^;]+);", css.partition("@media")[0]))
    assert tuple(light[name] for name in ("ink", "quiet", "forecast", "limit")) == (
        picture.INK,
        picture.QUIET,
        picture.FORECAST,
        picture.LIMIT,
    )

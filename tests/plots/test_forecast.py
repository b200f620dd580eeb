"""The picture of a forecast: what the axis shows, what is said of what lies outside it, and how wide it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import pytest
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from PIL import Image

from bts_assets.cli.render import terminal
from bts_assets.plots import forecast as forecast_plots
from bts_assets.plots import style
from bts_assets.plots.forecast import Forecast, value_range

DAY, STEPS = 96, 192


def drawn(history: np.ndarray, **limits: float) -> Forecast:
    middle = 220 + 5 * np.sin(np.arange(STEPS) / DAY * 2 * np.pi)
    return Forecast(
        title="Voltage of Power Grid, station 1",
        unit="V",
        step=timedelta(minutes=15),
        issued_at=datetime(2026, 3, 10, tzinfo=UTC),
        history=history,
        quantiles=middle[:, None] + np.array([-2, -1.5, 0, 1.5, 2]),
        **limits,
    )


def ordinary() -> np.ndarray:
    return 220 + 5 * np.sin(np.arange(7 * DAY) / DAY * 2 * np.pi)


def test_an_outage_does_not_squash_a_week_of_ordinary_values() -> None:
    outage = ordinary()
    outage[200:240] = 0
    outage[300] = -9000
    low, high = value_range(drawn(outage))
    assert low == pytest.approx(213)
    assert high == pytest.approx(227)


def test_of_a_long_context_the_newest_two_weeks_are_drawn_from_the_first_known_value_on() -> None:
    weeks = np.tile(ordinary(), 6)
    assert len(drawn(weeks).history) == 14 * DAY
    weeks[: -3 * DAY] = np.nan
    short = drawn(weeks)
    assert len(short.history) == 3 * DAY
    assert short.history_times()[0] == short.issued_at - timedelta(days=3)


@pytest.mark.parametrize("extreme", [211.0, 229.0])
def test_what_lies_just_outside_is_shown(extreme: float) -> None:
    history = ordinary()
    history[10] = extreme
    low, high = value_range(drawn(history))
    assert low <= extreme <= high


@pytest.mark.parametrize("history", [np.full(4, np.nan), np.zeros(4), np.array([220.0])])
def test_the_whole_forecast_is_shown_whatever_the_history(history: np.ndarray) -> None:
    low, high = value_range(drawn(history))
    assert low <= 213 + 1e-9
    assert high >= 227 - 1e-9


def test_limits_are_named_where_they_are_in_the_picture_and_where_they_are_not() -> None:
    axes = Figure().add_subplot()
    forecast_plots._draw(axes, drawn(ordinary(), low_limit=180, high_limit=226), legend=True)
    assert "high limit 226" in [text.get_text() for text in axes.texts]
    assert axes.get_title(loc="right") == "low limit 180, below the picture"


def test_an_outage_does_not_squash_a_panel_at_a_glance() -> None:
    outage = ordinary()
    outage[200:240] = 0
    low, high = forecast_plots._ordinary(outage)
    assert (low, high) == (pytest.approx(215, abs=0.1), pytest.approx(225, abs=0.1))


def test_spans_are_marked_within_the_picture_and_named_once() -> None:
    made = drawn(ordinary())
    hours = timedelta(hours=6)
    spans = [("outage", -1, 1), ("outage", 2, 3), ("alert", 1, 999), ("alarm", -999, -998)]
    at = [(kind, made.issued_at + begin * hours, made.issued_at + end * hours) for kind, begin, end in spans]
    shown = replace(made, spans=at)
    axes = Figure().add_subplot()
    forecast_plots._draw(axes, shown, legend=True, kinds=["outage", "alert"])
    assert len(axes.patches) == 3  # what lies outside is not there
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert named[-2:] == ["planned outage", "alert"]
    assert axes.get_xlim()[1] == date2num(shown.target_times()[-1])


def test_pictures_are_as_wide_as_dagster_shows_whole() -> None:
    for count in (1, 6):
        png = forecast_plots.forecasts([drawn(ordinary())] * count, "batch 1")
        assert Image.open(BytesIO(png)).width <= 900


@pytest.mark.parametrize(
    ("value", "said"), [(46_334.0, "46,334"), (0.12344, "0.1234"), (1e7, "10,000,000"), (0.0, "0")]
)
def test_numbers_are_written_without_powers_of_ten(value: float, said: str) -> None:
    assert style.number(value) == said


def test_an_event_does_not_squash_the_terminals_chart_and_is_named_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    outage = ordinary()
    outage[-50:-47] = 0
    terminal.draw(drawn(outage))
    chart = capsys.readouterr().out
    assert "(off the chart: 0)" in chart
    ticks = [float(line.split("┤")[0]) for line in chart.splitlines() if "┤" in line]
    assert min(ticks) > 200
    terminal.draw(drawn(ordinary()))
    assert "off the chart" not in capsys.readouterr().out


@pytest.mark.parametrize("extreme", [1.7e308, -1.7e308, 3.4e38])
@pytest.mark.filterwarnings("error")
def test_a_number_at_the_end_of_what_a_float_holds_is_drawn_and_told_in_few_digits(extreme: float) -> None:
    history = ordinary()
    history[[10, 200, 300]] = extreme
    quantiles = drawn(history).quantiles.copy()
    quantiles[5:90, 4] = abs(extreme)
    wild = replace(drawn(history), quantiles=quantiles)
    assert Image.open(BytesIO(forecast_plots.forecasts([wild]))).width == 900
    assert len(style.number(extreme)) < 12


def test_the_terminal_draws_a_series_that_was_not_heard_of_lately(capsys: pytest.CaptureFixture[str]) -> None:
    history = ordinary()
    history[-5 * DAY :] = np.nan
    terminal.draw(drawn(history))
    assert "forecast (q50)" in capsys.readouterr().out


def test_a_picture_that_cannot_be_drawn_is_none_and_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr(style.log, "warning", lambda text, *of: logged.append(text % of))
    assert style.attempted(lambda text: text.encode(), "png") == b"png"
    assert logged == []
    assert style.attempted(lambda: 1 / 0) is None  # type: ignore[arg-type, return-value]
    assert logged == ["a picture could not be drawn, and is left out: ZeroDivisionError: division by zero"]

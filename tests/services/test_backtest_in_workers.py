"""A backtest whose trainings are done by other processes: the same tables, and one line where they fail."""

import multiprocessing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from nights import HomeMaker
from parts_of_work import NoSuchPart, assert_same, training_dies, training_fails, who
from small_nights import HEADER, ORIGIN, SMALL, take_in
from small_panels import CATALOGUE, GRID, daily_values, make_panel

from bts_assets.contracts.grid import DAY
from bts_assets.forecasting.backtest import SERVED, Fit, RollingScores, past_origins, rolling_backtest
from bts_assets.forecasting.efforts import EFFORTS
from bts_assets.services import backtest as experiments
from bts_assets.services.backtest import run_backtest
from bts_assets.services.engine import engine
from bts_assets.services.home import Home
from bts_assets.services.work_part import EngineError
from bts_assets.settings import load_settings

pytestmark = pytest.mark.slow


def at(hour: int) -> str:
    return f"{ORIGIN + timedelta(hours=hour) - 3 * DAY:%Y-%m-%d %H:%M:%S}"


def land(folder: Path) -> Path:
    """A gauge and a load at two stations, hourly for three days without the first hour, when a door is heard of."""
    values = daily_values(4, 3)
    folder.mkdir()
    rows = [f"9999,0,1,152,{at(0)}"]
    rows += [
        f"{1000 * row + hour},{values[row, hour]:.3f},{1 + row // 2},{(111, 122)[row % 2]},{at(hour)}"
        for row in range(len(values))
        for hour in range(1, values.shape[1])
    ]
    (folder / "readings.csv").write_text("\n".join([HEADER, *rows]) + "\n", encoding="utf-8")
    return folder


#: As it ships, taken before any test of the session changes it: a worker knows no other.
QUICK: Final = EFFORTS["quick"]


@pytest.fixture(autouse=True)
def shipped_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EFFORTS, "quick", QUICK)


@pytest.fixture
def home(make_home: HomeMaker, tmp_path: Path) -> Home:
    home = make_home(**SMALL, lstm_width=8)
    take_in(home, land(tmp_path / "landing"))
    return home


def with_two(home: Home) -> Home:
    return replace(home, settings=home.settings.model_copy(update={"workers": 2}))


def test_scores_coverage_and_failures_are_those_of_one_process(home: Home) -> None:
    told: set[str] = set()
    here = run_backtest(home, 3, DAY)
    there = run_backtest(with_two(home), 3, DAY, on_progress=lambda stage, *_: told.add(stage))
    # Before the first origin is too little to learn from.
    assert set(here.replayed.failures["candidate"]) == {"lstm", "linear"}
    assert {SERVED, "lstm", "linear", "auto_ets"} <= set(here.summary.index)
    assert_same(here.replayed, there.replayed)
    assert here.digest == there.digest
    assert told == {"origins"}  # what is told within a training is not told here
    assert multiprocessing.active_children() == []


class Asked(Exception):
    """How a backtest was to be made; nothing more is wanted of it."""


def asks(*given: Any, **options: Any) -> RollingScores:
    raise Asked(given[3].spread, options["spread"])


def test_workers_have_as_many_threads_as_this_process(home: Home) -> None:
    # Of larger networks than these no bit would be the same with fewer.
    with engine(with_two(home).settings, trains=True) as spread:
        assert {threads for _, threads in spread(who, range(2))} == {who(0)[1]}


def test_one_training_is_done_here_and_its_statistical_models_by_workers(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(experiments, "rolling_backtest", asks)
    asked = []
    for refit_every in (3, 2):
        with pytest.raises(Asked) as caught:
            run_backtest(with_two(home), 3, DAY, refit_every)
        asked.append(caught.value.args)
    assert asked[0][0] is not map
    assert asked[0][1] is None
    assert asked[1][0] is map
    assert asked[1][1] is not None


@pytest.mark.parametrize(
    ("fit", "error", "says"),
    [
        (training_fails, NoSuchPart, "^there is no training"),
        (training_dies, EngineError, r"^3 workers died of the same part \(exit code -9\), so nothing was made; .*$"),
    ],
)
def test_a_training_that_fails_there_ends_the_backtest_in_one_line(
    tmp_path: Path, fit: Fit, error: type[Exception], says: str
) -> None:
    panel = make_panel(daily_values(2), [1, 2])
    origins = past_origins(GRID, panel.start, panel.end, 3, DAY)
    with engine(load_settings(home=tmp_path, workers=2)) as spread, pytest.raises(error, match=says):
        rolling_backtest(panel, CATALOGUE, origins, fit, spread=spread)
    assert multiprocessing.active_children() == []

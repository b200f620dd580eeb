"""The framework of `benchmarks.stages` and `benchmarks.scale`, and the smallest amount of work of cheap stages."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from benchmarks import race, records, scale_report, stage_report, stages
from benchmarks.bar import drawn
from benchmarks.stage_figures import Figures
from benchmarks.watch import disk_bytes


@pytest.mark.parametrize("stage", stages.STAGES)
def test_every_stage_has_a_way_that_can_be_called(stage: str) -> None:
    module, name = stages.STAGES[stage].way.split(".")
    assert callable(getattr(import_module(f"benchmarks.{module}"), name))


def test_a_way_that_would_take_too_long_is_left_out_and_shown_as_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def measured(stage: str, role: str, growth: int) -> Figures:
        asked.append((role, growth))
        seconds = {"ours": 0.1, "instead": 20.0, "limit": 0.05}[role] * growth
        return {"work": 6.0 * growth, "seconds": seconds, "peak_mib": 200.0}

    monkeypatch.setattr(stages, "measured_apart", measured)
    rows = stages.measured(["statistical"], [1, 10, 100])
    assert ("instead", 10) in asked
    assert ("instead", 100) not in asked
    assert rows[2]["instead"] is None
    table = stage_report.as_table(rows).splitlines()
    assert table[2] == "| statistical | 6 series | 60 | 0.3 | 200.0 | 120 | 50% | 200 MiB |"
    assert table[4] == "| statistical | 600 series | 60 | - | - | 120 | 50% | 200 MiB |"


def test_stages_measured_apart_on_one_commit_are_one_entry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stage_report, "RECORD", tmp_path / "performance.json")
    monkeypatch.setattr(stage_report, "draw", lambda *_: None)
    for stage, seconds in (("reading", 2.0), ("landing", 1.0), ("reading", 3.0)):
        figures = {"work": 10.0, "seconds": seconds, "peak_mib": 1.0}
        row: dict[str, Any] = {"stage": stage, "growth": 1, "unit": "rows", "ours": figures}
        stages.record([row | {"instead": figures, "limit": None}])
    [entry] = records.read(stage_report.RECORD)
    assert [(row["stage"], row["ours"]["seconds"]) for row in entry["stages"]] == [("landing", 1.0), ("reading", 3.0)]


def test_all_that_is_recorded_is_drawn(tmp_path: Path) -> None:
    stage_report.draw(records.read(stage_report.RECORD), list(stages.STAGES), tmp_path / "performance.png")
    assert (tmp_path / "performance.png").stat().st_size > 10_000
    scale_report.draw(records.read(scale_report.RECORD), tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 10_000


def test_the_statistical_models_are_those_of_a_night() -> None:
    from benchmarks.stage_statistical import statistical

    assert statistical("ours", 1)["work"] == 6


@pytest.mark.slow
def test_scoring_finds_the_errors_that_pandas_finds() -> None:
    from benchmarks.stage_scoring import SERIES, scoring

    assert scoring("ours", 1)["work"] == SERIES * 192  # raises where they differ


def test_the_journal_of_postgres_is_not_counted_as_added(tmp_path: Path) -> None:
    for name, size in (("postgres/data/base/5/1", 10), ("postgres/data/pg_wal/1", 100), ("readings/a.parquet", 1000)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(size))
    assert disk_bytes(tmp_path) == (10, 1000)


def test_a_bar_says_how_far_it_is() -> None:
    assert drawn("night", 3, 12, 62.0, "drift") == f"night [{'#' * 8}{' ' * 22}] 3 of 12, 1:02  drift"


def test_a_race_is_won_by_who_reaches_the_others_best_first() -> None:
    mine, other = [(2.0, 1.4), (4.0, 1.0)], [(10.0, 1.5), (40.0, 1.1), (60.0, 1.2)]
    assert "ours reaches 1.100 after 4.0 s: 10.0 times as fast" in race.summary(mine, other)
    assert "never" in race.summary(mine, [(1.0, 0.5)])
    assert "still improving" in race.summary(mine, other[:2])

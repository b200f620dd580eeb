"""Scores of nights that came true: what they add up to, and what late observations do to them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from small_nights import LOAD, SMALL, observe_due, rows_of, write
from walked_nights import NIGHTS, Walk, land, origin_of, readings, walk

from bts_assets.services.home import Home, open_home
from bts_assets.services.scoring import BASELINES, ScoringReport, score_matured
from bts_assets.settings import load_settings

#: What the sums must come to, asked of forecasts and observations row by row.
BY_HAND = """
    SELECT f.batch_id, f.station_id, f.parameter_id, count(*) AS targets, sum(abs(f.q50 - o.value)) AS absolute_error,
           sum(f.q50 - o.value) AS error, sum((o.value BETWEEN f.q10 AND f.q90)::int) AS inside80,
           sum((o.value BETWEEN f.q05 AND f.q95)::int) AS inside90
    FROM bts.forecast AS f
    JOIN bts.observation AS o
        ON (o.station_id, o.parameter_id, o.observed_at) = (f.station_id, f.parameter_id, f.target_at)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
SUMMED = """
    SELECT batch_id, station_id, parameter_id, sum(targets) AS targets, sum(absolute_error) AS absolute_error,
           sum(error) AS error, sum(inside80) AS inside80, sum(inside90) AS inside90
    FROM bts.forecast_score WHERE candidate = 'served' GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


#: The sums over series, and the same of the rows of series; by hour only what both sides have.
TOTALS = """
    SELECT batch_id, parameter_id, candidate, stretch, sum(series) AS series, sum(targets) AS targets,
           sum(absolute_error) AS absolute_error, sum(scaled_error) AS scaled_error, sum(inside80) AS inside80
    FROM bts.parameter_score GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
OF_SERIES = """
    SELECT batch_id, parameter_id, candidate, stretch, count(*) AS series, sum(targets) AS targets,
           sum(absolute_error) AS absolute_error,
           coalesce(sum(absolute_error / scale) FILTER (WHERE scale > 0), 0) AS scaled_error, sum(inside80) AS inside80
    FROM bts.forecast_score GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
HOURS = """
    SELECT batch_id, parameter_id, hour, targets, absolute_error, error, inside80, inside90
    FROM bts.hourly_score WHERE candidate = 'served' ORDER BY 1, 2, 3
"""
HOURS_BY_HAND = """
    SELECT f.batch_id, f.parameter_id, extract(hour FROM f.target_at AT TIME ZONE 'UTC')::int AS hour,
           count(*) AS targets, sum(abs(f.q50 - o.value)) AS absolute_error, sum(f.q50 - o.value) AS error,
           sum((o.value BETWEEN f.q10 AND f.q90)::int) AS inside80,
           sum((o.value BETWEEN f.q05 AND f.q95)::int) AS inside90
    FROM bts.forecast AS f
    JOIN bts.observation AS o
        ON (o.station_id, o.parameter_id, o.observed_at) = (f.station_id, f.parameter_id, f.target_at)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


@pytest.fixture(scope="module")
def scored(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]
) -> Iterator[tuple[Walk, ScoringReport]]:
    """Six nights walked through, and scored once."""
    folder = tmp_path_factory.mktemp("scored")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    walked = walk(home, folder / "landing")
    yield walked, score_matured(home)
    home.engine.dispose()


def nearly(rows: list[dict[str, Any]]) -> list[Any]:
    return [pytest.approx({k: float(v) for k, v in row.items()}, rel=1e-9, abs=1e-9) for row in rows]


def test_scores_are_what_forecasts_and_observations_give_row_by_row(scored: tuple[Walk, ScoringReport]) -> None:
    walked, report = scored
    assert report.batches == walked.batches[: len(report.batches)]
    assert len(report.batches) >= NIGHTS - 1
    by_hand = rows_of(walked.home, BY_HAND)
    assert [{k: float(v) for k, v in row.items()} for row in rows_of(walked.home, SUMMED)] == nearly(by_hand)
    assert by_hand


def test_baselines_are_scored_on_the_same_targets(scored: tuple[Walk, ScoringReport]) -> None:
    walked, _ = scored
    targets = rows_of(
        walked.home, "SELECT candidate, sum(targets) AS targets FROM bts.forecast_score GROUP BY 1 ORDER BY 1"
    )
    by_candidate = {row["candidate"]: row["targets"] for row in targets}
    # A context of a day knows no week before.
    assert by_candidate.keys() == {"served", *BASELINES} - {"seasonal_naive_week"}
    assert by_candidate["last_value"] == by_candidate["served"]
    assert by_candidate["seasonal_naive_day"] > 0


@pytest.mark.parametrize(("totals", "by_hand"), [(TOTALS, OF_SERIES), (HOURS, HOURS_BY_HAND)])
def test_totals_are_what_the_rows_of_series_add_up_to(
    scored: tuple[Walk, ScoringReport], totals: str, by_hand: str
) -> None:
    home = scored[0].home
    rows = rows_of(home, totals)
    assert rows
    text = [{k: v for k, v in row.items() if isinstance(v, str)} for row in rows]
    expected = rows_of(home, by_hand)
    assert text == [{k: v for k, v in row.items() if isinstance(v, str)} for row in expected]
    assert [{k: float(v) for k, v in row.items() if not isinstance(v, str)} for row in rows] == nearly(
        [{k: v for k, v in row.items() if not isinstance(v, str)} for row in expected]
    )


def test_scoring_again_finds_nothing_to_do(scored: tuple[Walk, ScoringReport]) -> None:
    walked, _ = scored
    assert score_matured(walked.home) == ScoringReport()


def test_no_score_depends_on_who_scores_nor_on_how_much_is_held_at_once(scored: tuple[Walk, ScoringReport]) -> None:
    home = scored[0].home
    tables = {
        "forecast_score": "batch_id, station_id, parameter_id, candidate, stretch",
        "parameter_score": "batch_id, parameter_id, candidate, stretch, model_version_id",
        "hourly_score": "batch_id, parameter_id, candidate, hour",
        "breach_score": "batch_id, truth, hours, bin",
    }

    def kept() -> dict[str, list[dict[str, Any]]]:
        return {name: rows_of(home, f"SELECT * FROM bts.{name} ORDER BY {key}") for name, key in tables.items()}

    before = kept()
    with home.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bts.scored_batch")
    assert not any(kept().values())
    two = replace(home, settings=home.settings.model_copy(update={"workers": 2}))
    score_matured(two, at_once=1)
    for name, rows in kept().items():
        assert [text_of(row) for row in rows] == [text_of(row) for row in before[name]]
        assert [numbers_of(row) for row in rows] == nearly([numbers_of(row) for row in before[name]])
    assert all(before.values())


def numbers_of(row: dict[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in row.items() if isinstance(v, int | float | Decimal)}


def text_of(row: dict[str, Any]) -> dict[str, str]:
    return {name: str(v) for name, v in row.items() if not isinstance(v, int | float | Decimal)}


def test_views_say_what_served_and_what_last_value_would_have_been_worth(scored: tuple[Walk, ScoringReport]) -> None:
    walked, _ = scored
    accuracy = rows_of(
        walked.home,
        f"SELECT candidate, nights, series, mae, mase, coverage80 FROM bts.forecast_accuracy"
        f" WHERE days = 28 AND parameter_id = {LOAD} ORDER BY candidate",
    )
    assert [row["candidate"] for row in accuracy] == ["last_value", "seasonal_naive_day", "served", "window_median"]
    assert all(row["mase"] > 0 and 0 <= row["coverage80"] <= 1 for row in accuracy)
    worst = rows_of(walked.home, "SELECT * FROM bts.worst_series")
    ratios = [row["ratio_to_best_baseline"] for row in worst]
    assert ratios == sorted(ratios, reverse=True)
    # The best of several is no worse than the last value, which is one of them.
    assert all(row["ratio_to_best_baseline"] >= row["ratio_to_last_value"] > 0 for row in worst)
    assert all(row["best_baseline_mae"] * row["ratio_to_best_baseline"] == pytest.approx(row["mae"]) for row in worst)
    coverage = rows_of(walked.home, f"SELECT * FROM bts.interval_coverage WHERE days = 7 AND parameter_id = {LOAD}")
    assert {row["stretch"] for row in coverage} == {1, 2, 3, 4}


def test_past_and_in_sample_batches_are_never_mixed_with_live_ones(scored: tuple[Walk, ScoringReport]) -> None:
    walked, _ = scored
    figures = sa.text(
        "SELECT (SELECT kind FROM bts.scored_kind WHERE days = 7) AS shown,"
        " (SELECT sum(targets) FROM bts.worst_series) AS of_worst, (SELECT min(kind) FROM bts.worst_series) AS worst,"
        " array_agg(DISTINCT c.kind) AS kinds, sum(c.targets) AS targets,"
        " sum(c.targets) FILTER (WHERE c.kind = :kind) AS of_kind"
        " FROM bts.interval_coverage AS c WHERE c.days = 7"
    )
    of_batch = sa.text(
        "SELECT sum(targets) FROM bts.scored_forecast WHERE candidate = 'served' AND batch_id = :batch_id"
    )
    label = sa.text("UPDATE bts.batch SET kind = :kind WHERE batch_id = :batch_id OR :batch_id = 0")
    with walked.home.engine.connect() as connection:
        whole = connection.execute(figures, {"kind": "live"}).one()
        (batch_id,) = walked.batches[3:4]
        own = connection.scalar(of_batch, {"batch_id": batch_id})
        assert 0 < own < whole.targets
        for others, kind in (("in_sample", "retrospective"), ("retrospective", "live"), ("in_sample", "live")):
            connection.execute(label, {"kind": others, "batch_id": 0})
            connection.execute(label, {"kind": kind, "batch_id": batch_id})
            found = connection.execute(figures, {"kind": kind}).one()
            assert (found.shown, found.worst, found.of_worst, found.of_kind) == (kind, kind, own, own)
            assert found.kinds == sorted([others, kind])
            assert found.targets == whole.targets
        connection.rollback()


def test_late_observations_rescore_the_batches_that_they_touch_and_no_other(
    scored: tuple[Walk, ScoringReport],
) -> None:
    walked, _ = scored
    home = walked.home
    before = rows_of(home, "SELECT batch_id, targets FROM bts.scored_batch ORDER BY 1")
    # Another file of the day that the third origin falls into: two batches forecast it.
    write(walked.landing, "very_late.csv", *readings(origin_of(2), 3, range(20, 24)))
    land(home, walked.landing, origin_of(NIGHTS))
    observe_due(home)
    report = score_matured(home)
    assert set(report.batches) <= set(walked.batches[2:4])
    assert report.batches
    after = rows_of(home, "SELECT batch_id, targets FROM bts.scored_batch ORDER BY 1")
    assert sum(row["targets"] for row in after) >= sum(row["targets"] for row in before)
    by_hand = rows_of(home, BY_HAND)
    assert [{k: float(v) for k, v in row.items()} for row in rows_of(home, SUMMED)] == nearly(by_hand)
    hours = rows_of(home, HOURS_BY_HAND)
    assert [{k: float(v) for k, v in row.items()} for row in rows_of(home, HOURS)] == nearly(hours)


def test_an_observation_that_is_corrected_after_scoring_is_scored_anew(scored: tuple[Walk, ScoringReport]) -> None:
    walked, _ = scored
    home = walked.home
    before = rows_of(home, SUMMED)
    for shift in (2.0, 5.0):
        write(walked.landing, "corrected.csv", *readings(origin_of(3), 1, range(2, 5), shift))
        land(home, walked.landing, origin_of(NIGHTS))
        observe_due(home)
        assert score_matured(home).batches
        assert [{k: float(v) for k, v in row.items()} for row in rows_of(home, SUMMED)] == nearly(
            rows_of(home, BY_HAND)
        )
        assert rows_of(home, SUMMED) != before
        before = rows_of(home, SUMMED)


def test_observations_of_a_time_that_has_not_come_are_scored_once_it_has(scored: tuple[Walk, ScoringReport]) -> None:
    walked, _ = scored
    home, now = walked.home, origin_of(NIGHTS - 2) + timedelta(hours=5)
    every = score_anew(home, now)
    until_now = BY_HAND.replace("GROUP BY", f"WHERE o.observed_at < '{now.isoformat()}' GROUP BY")
    assert [{k: float(v) for k, v in row.items()} for row in rows_of(home, SUMMED)] == nearly(rows_of(home, until_now))
    unfinished = score_matured(home, now=now).batches
    assert 0 < len(unfinished) < len(every)
    assert score_matured(home).batches == unfinished
    assert score_matured(home) == ScoringReport()
    assert [{k: float(v) for k, v in row.items()} for row in rows_of(home, SUMMED)] == nearly(rows_of(home, BY_HAND))


def score_anew(home: Home, now: datetime) -> tuple[int, ...]:
    with home.engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM bts.scored_batch"))
    return score_matured(home, now=now).batches

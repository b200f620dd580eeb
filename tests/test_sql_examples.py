"""The example queries that users read first: each runs as it stands, as the reader, and answers its question."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa
from handmade_night import CHECKOUT, HandmadeNight, handmade_night, rows_of

EXAMPLES = sorted((CHECKOUT / "sql" / "examples").glob("*.sql"))
#: On a first night that went well these have nothing to say yet; on the handmade night all have.
MAY_BE_EMPTY = {
    "forecast_against_actuals",
    "how_good_were_the_last_two_weeks",
    "series_without_a_forecast",
    "what_did_we_believe_yesterday",
    "which_sites_will_breach_a_limit",
    "which_stations_fell_silent",
}
each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def night(server_url: str) -> Iterator[HandmadeNight]:
    with handmade_night(server_url) as made:
        yield made


def answer(night: HandmadeNight, name: str) -> list[dict]:
    return rows_of(night.reader_url, (CHECKOUT / "sql" / "examples" / f"{name}.sql").read_text(encoding="utf-8"))


def midnight() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@each_example
def test_example_answers_on_a_published_night(published_night: sa.Engine, example: Path) -> None:
    url = published_night.url.set(drivername="postgresql").render_as_string(hide_password=False)
    assert rows_of(url, example.read_text(encoding="utf-8")) or example.stem in MAY_BE_EMPTY


@each_example
def test_example_has_an_answer_for_the_reader(night: HandmadeNight, example: Path) -> None:
    assert answer(night, example.stem)


@each_example
def test_example_begins_with_its_question_and_is_one_statement(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    assert text.startswith("-- ")
    assert "?" in text.splitlines()[0]
    code = "\n".join(line.partition("--")[0] for line in text.splitlines())
    assert code.strip().endswith(";")
    assert code.count(";") == 1


def test_exceptions_are_examples_that_exist() -> None:
    assert {example.stem for example in EXAMPLES} >= MAY_BE_EMPTY


def test_breach_names_the_first_step_beyond_and_heeds_the_limit_of_a_station(night: HandmadeNight) -> None:
    found = {(row["station_id"], row["parameter"]): row for row in answer(night, "which_sites_will_breach_a_limit")}
    warm, surge, own_limit = (
        found.pop(key) for key in [(1, "Room Temperature"), (1, "Voltage of Power Grid"), (2, "Voltage of Power Grid")]
    )
    assert not found
    assert (warm["beyond"], warm["the_limit"], warm["median_from"]) == ("median", 35, midnight() + timedelta(hours=36))
    assert warm["interval_from"] < warm["median_from"]
    assert (surge["beyond"], surge["median_from"], surge["worst"]) == ("interval", None, Decimal("241.00"))
    assert (own_limit["beyond"], own_limit["the_limit"]) == ("median", 232)


def test_next_day_is_one_series_and_no_more_than_a_day(night: HandmadeNight) -> None:
    rows = answer(night, "next_day_of_one_series")
    assert [row["target_at"] for row in rows] == [midnight() + n * timedelta(minutes=15) for n in range(96)]
    assert {(row["station"], row["parameter"]) for row in rows} == {("North Hill", "Room Temperature")}


def test_lineage_reaches_files_and_run(night: HandmadeNight) -> None:
    (row,) = answer(night, "what_made_this_row")
    assert (row["batch_id"], row["mlflow_run_id"], row["dagster_run_id"]) == (2, "run-1", "dagster-2")
    assert row["training_files"] == ["a" * 64] == row["input_files"]


def test_rejected_rows_are_counted_by_reason_with_an_example(night: HandmadeNight) -> None:
    most, least = answer(night, "what_was_rejected_and_why")
    assert (most["reason"], most["rows"], most["example_line"]) == ("sentinel", 3, 17)
    assert (least["reason"], least["rows"], least["example"]) == ("value out of range", 1, None)


def test_belief_of_yesterday_is_that_of_the_batch_that_served_then(night: HandmadeNight) -> None:
    rows = answer(night, "what_did_we_believe_yesterday")
    assert {(row["station_id"], row["parameter_id"]) for row in rows} == {(1, 111)}
    assert {row["issued_then"] for row in rows} == {midnight() - timedelta(days=1)}
    assert {row["change"] for row in rows} == {Decimal("-3.34")}  # 96 steps of 5/143.5


def test_series_that_are_not_forecast_are_all_named(night: HandmadeNight) -> None:
    rows = answer(night, "series_without_a_forecast")
    assert [(row["status"], row["station_id"]) for row in rows] == [("excluded", 3), ("fallback", 1)]
    assert [row["station_id"] for row in answer(night, "which_stations_fell_silent")] == [3]


def test_actuals_are_compared_with_the_forecast_of_the_same_interval(night: HandmadeNight) -> None:
    rows = answer(night, "forecast_against_actuals")
    newest = [row for row in rows if (row["parameter_id"], row["issued_at"]) == (111, midnight())]
    assert [(row["step_ahead"], row["actual"]) for row in newest] == [(1, 30), (2, 31), (3, 32), (4, 33)]
    assert [row["within_80"] for row in newest] == [True, False, False, False]
    steps = {row["parameter"]: row["steps"] for row in answer(night, "how_good_were_the_last_two_weeks")}
    assert steps == {"Room Temperature": 96 + 4, "Voltage of Power Grid": 2 * (96 + 4)}

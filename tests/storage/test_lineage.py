"""Lineage both ways: from a forecast row to all that made it, and from a file or a model version to what it touched."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from small_nights import LOAD, ORIGIN, SMALL, publish_panel, rows_of, serving_version, simple_bundle, small_panel, write
from walked_nights import NIGHTS, RUN_TIME, Walk, file_of, land, origin_of, walk

from bts_assets.contracts.grid import DAY
from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage import lineage as lines
from bts_assets.storage import small_readings, tables
from bts_assets.storage.lineage import Impact, LineageError, impact_of_file, impact_of_model, lineage_of

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Walk]:
    """The walk, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("walked")
    settings = load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    home = open_home(settings)
    yield walk(home, folder / "landing")
    home.engine.dispose()


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


def impact(home: Home, name: str) -> Impact:
    return impact_of_file(home.engine, home.readings, name)


def entries(walked: Walk, path: str) -> list[dict[str, Any]]:
    return rows_of(walked.home, "SELECT * FROM bts.ingest_ledger WHERE path = :path ORDER BY ledger_seq", path=path)


# From a row


def test_row_leads_to_all_that_made_it(walked: Walk) -> None:
    found = lineage_of(walked.home.engine, 2, LOAD)
    row, forecast = found.made_by, found.forecast
    assert forecast is not None
    assert (row["batch_id"], forecast["batch_id"], forecast["step_ahead"]) == (walked.batches[-1],) * 2 + (1,)
    assert row["issued_at"] == forecast["target_at"] == origin_of(NIGHTS - 1)
    batch = rows_of(walked.home, "SELECT * FROM bts.batch ORDER BY batch_id DESC LIMIT 1")[0]
    version = rows_of(walked.home, "SELECT * FROM bts.model_version")[0]
    shared = ("observations_digest", "forecasts_digest", "catalogue_digest", "settings", "code_version")
    assert {name: row[name] for name in shared} == {name: batch[name] for name in shared}
    of_version = ("bundle_digest", "packages", "machine", "seed", "training_start", "training_end")
    assert {name: row[name] for name in of_version} == {name: version[name] for name in of_version}
    assert sum(row["components"].values()) == pytest.approx(1)


def test_files_are_named_as_they_were_known_then(walked: Walk) -> None:
    first, corrected = (entry["digest"] for entry in entries(walked, file_of(0, 5)))
    row = lineage_of(walked.home.engine, 2, LOAD, issued_at=origin_of(0)).made_by
    names = dict(zip(row["input_files"], row["input_file_names"], strict=True))
    # The context is a day: its 24 files, no late ones, and the earlier content of one that was corrected since.
    assert sorted(names.values()) == [file_of(0, hour) for hour in range(24)]
    assert names[first] == file_of(0, 5)
    assert corrected not in names
    trained_on = dict(zip(row["training_files"], row["training_file_names"], strict=True))
    assert sorted(trained_on.values()) == [*(file_of(-1, hour) for hour in range(24)), "station4.csv"]
    assert {row["digest"]: row["path"] for row in entries(walked, "station4.csv")}.items() <= trained_on.items()


@pytest.mark.parametrize(
    ("asked", "night", "step"),
    [
        ({}, NIGHTS - 1, 1),
        ({"target_at": origin_of(2) + 3 * HOUR + timedelta(minutes=59)}, 2, 4),
        ({"target_at": origin_of(2)}, 2, 1),
        ({"issued_at": origin_of(1)}, 1, 1),
        ({"issued_at": origin_of(1), "target_at": origin_of(1) + 5 * HOUR}, 1, 6),
    ],
)
def test_row_is_that_which_was_asked_for(walked: Walk, asked: dict[str, datetime], night: int, step: int) -> None:
    found = lineage_of(walked.home.engine, 1, RUN_TIME, **asked)
    assert found.made_by["batch_id"] == walked.batches[night]
    assert found.forecast is not None
    assert (found.forecast["step_ahead"], found.forecast["parameter_id"]) == (step, RUN_TIME)


def test_excluded_series_has_a_lineage_and_no_forecast(walked: Walk) -> None:
    found = lineage_of(walked.home.engine, 4, LOAD)
    assert (found.forecast, found.made_by["status"], found.made_by["reason"]) == (
        None,
        "excluded",
        "no observation in the context",
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"station": 99}, "batch 6 has no series of station 99, parameter 122; bts.series_status lists"),
        ({"issued_at": origin_of(0) + HOUR}, "no batch of origin 2026-03-10 03:00:00+00:00 was published; bts.batch"),
        ({"target_at": origin_of(NIGHTS)}, "no published batch reaches 2026-03-16 02:00:00+00:00"),
        (
            {"issued_at": origin_of(0), "target_at": origin_of(3)},
            "batch 1 of origin 2026-03-10 02:00:00+00:00 keeps no",
        ),
    ],
)
def test_what_is_not_there_ends_in_one_line(walked: Walk, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(LineageError) as refusal:
        lineage_of(walked.home.engine, **{"station": 1, "parameter": LOAD, **asked})
    assert str(refusal.value).startswith(told)
    assert "\n" not in str(refusal.value)


def test_the_last_publication_of_the_newest_origin_is_the_one_shown(home: Home) -> None:
    first, second = (serving_version(home, simple_bundle(seed)).model_version_id for seed in (1, 2))
    later = publish_panel(home.engine, small_panel(end=ORIGIN + 3 * HOUR), first).batch_id
    for version in (first, second):
        publish_panel(home.engine, small_panel(), version)
    at = {"station": 1, "parameter": LOAD}
    assert lineage_of(home.engine, **at, target_at=ORIGIN + 4 * HOUR).made_by["batch_id"] == later
    assert lineage_of(home.engine, **at, target_at=ORIGIN).made_by["model_version_id"] == second
    assert lineage_of(home.engine, **at, issued_at=ORIGIN).made_by["model_version_id"] == second
    assert lineage_of(home.engine, **at).made_by["batch_id"] == later


def test_home_without_a_batch_says_so(home: Home) -> None:
    with pytest.raises(LineageError, match="nothing was published yet"):
        lineage_of(home.engine, 1, LOAD)


def test_commit_and_dirt_are_told_apart(walked: Walk) -> None:
    said = {
        "0.1.0": (None, None),
        "0.1.0+g0123456789ab": ("0123456789ab", False),
        "0.1.0+g0123456789ab.dirty": ("0123456789ab", True),
    }
    with walked.home.engine.connect() as connection:
        for version, expected in said.items():
            connection.execute(sa.update(tables.batch).values(code_version=version))
            connection.execute(sa.update(tables.model_version).values(code_version=version))
            query = (
                "SELECT code_commit, code_dirty, training_code_commit, training_code_dirty FROM bts.forecast_lineage"
            )
            assert {tuple(row) for row in connection.execute(sa.text(query))} == {expected * 2}
        connection.rollback()


# Which files are behind a span


def test_files_known_are_those_of_their_definition(home: Home) -> None:
    rng = np.random.default_rng(3)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    rows = [_entry(rng, number, start) for number in range(1, 301)]
    with home.engine.begin() as connection:
        connection.execute(sa.insert(tables.landing_file), rows)
    for _ in range(60):
        since = start + timedelta(minutes=int(rng.integers(0, 14 * 24 * 60)))
        until = since + timedelta(minutes=int(rng.choice([1, 60, 24 * 60, 10 * 24 * 60])))
        if rng.random() < 0.5:
            since, until = (instant.replace(hour=0, minute=0) for instant in (since, until + DAY))
        known = int(rng.integers(1, 320))
        span = {"start": since, "end": until, "known": known}
        found = rows_of(home, "SELECT * FROM bts.landing_files_known(:start, :end, :known)", **span)[0]
        expected: dict[str, str] = {}
        for number, row in enumerate(rows, start=1):
            if _counts(row, number, since, until, known):
                expected[row["digest"]] = min(row["path"], expected.get(row["digest"], row["path"]))
        assert dict(zip(found["digests"], found["names"], strict=True)) == expected
        digests = rows_of(home, "SELECT bts.files_known(:start, :end, :known) AS found", **span)[0]["found"]
        assert digests == sorted(expected)


def _entry(rng: np.random.Generator, number: int, start: datetime) -> dict[str, Any]:
    """An entry with readings of some days, not always neighbours; some are copies, corrections or refused."""
    first = start + timedelta(minutes=int(rng.integers(0, 14 * 24 * 60)))
    last = first + timedelta(minutes=int(rng.choice([0, 50, 600, 4000])))
    between = [first.date() + timedelta(days=k) for k in range((last.date() - first.date()).days + 1)]
    days = [day for k, day in enumerate(between) if k in (0, len(between) - 1) or rng.random() < 0.5]
    return {
        **dict.fromkeys(("bytes", "modified_ns", "rows", "accepted", "rejected", "duplicate"), 0),
        "path": f"{int(rng.integers(0, 40)):02}/{number:03}.csv",
        "digest": f"{int(rng.integers(0, 200)):064x}",
        "status": str(rng.choice(["accepted", "copy", "refused"], p=[0.8, 0.1, 0.1])),
        "rejected_by_reason": {},
        "first_reading_at": first,
        "last_reading_at": last,
        "days": days,
        "superseded_by": number + int(rng.integers(1, 100)) if rng.random() < 0.3 else None,
        "taken_at": start,
        "code_version": "test",
    }


def _counts(row: dict[str, Any], number: int, since: datetime, until: datetime, known: int) -> bool:
    def of_span(day: date) -> bool:
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
        return midnight < until and midnight + DAY > since

    return (
        row["status"] != "refused"
        and row["first_reading_at"] < until
        and row["last_reading_at"] >= since
        and any(of_span(day) for day in row["days"])
        and number <= known
        and (row["superseded_by"] is None or row["superseded_by"] > known)
    )


def test_one_row_reads_one_series_and_no_file_that_was_not_asked_for(walked: Walk) -> None:
    def plan(query: sa.TextClause, **values: Any) -> str:
        with walked.home.engine.connect() as connection:
            return "\n".join(connection.execute(sa.text(f"EXPLAIN VERBOSE {query.text}"), values).scalars())

    key = {"batch": walked.batches[2], "station": 1, "parameter": LOAD}
    forecast = plan(lines._FORECAST, **key, step=3)
    assert " using pk_forecast_series on bts.forecast_series " in forecast
    one = "FROM bts.forecast_lineage WHERE batch_id = :batch AND station_id = :station AND parameter_id = :parameter"
    assert "landing_files_known" not in plan(sa.text(f"SELECT mlflow_run_id, code_commit, dagster_run_id {one}"), **key)
    assert "landing_files_known" in plan(sa.text(f"SELECT input_file_names {one}"), **key)


# From a file


def test_poisoned_file_is_found_by_name_path_and_digest(walked: Walk) -> None:
    (entry,) = entries(walked, file_of(1, 11))
    by_path = impact(walked.home, file_of(1, 11))
    (batch,) = by_path.batches
    assert (batch["batch_id"], batch["by_input"], batch["by_training"]) == (walked.batches[1], True, False)
    assert batch["series_by_input"] == 4
    series = by_path.series[["station_id", "parameter_id", "readings", "batches"]].to_numpy().tolist()
    assert series == [[1, LOAD, 3, 1], [1, RUN_TIME, 3, 1], [2, LOAD, 3, 1], [3, LOAD, 3, 1]]
    for name in (entry["digest"], entry["digest"][:9]):
        assert [row["batch_id"] for row in impact(walked.home, name).batches] == [walked.batches[1]]
    assert impact(walked.home, "1.csv").batches == []  # late/1.csv came after the night that it is of


def test_training_hands_a_file_on_to_every_batch_of_the_version(walked: Walk) -> None:
    found = impact(walked.home, file_of(-1, 11))
    assert [version["model_version_id"] for version in found.versions] == [walked.version.model_version_id]
    assert [batch["batch_id"] for batch in found.batches] == sorted(walked.batches, reverse=True)
    assert {(batch["by_training"], batch["by_input"]) for batch in found.batches} == {(True, False)}
    assert found.series.empty


def test_superseded_content_counts_where_it_was_known(walked: Walk) -> None:
    first, second = entries(walked, file_of(0, 5))
    assert first["superseded_by"] == second["ledger_seq"]
    found = impact(walked.home, file_of(0, 5))
    assert [row["ledger_seq"] for row in found.entries] == [first["ledger_seq"], second["ledger_seq"]]
    assert [row["batch_id"] for row in found.batches] == [walked.batches[0]]
    assert impact(walked.home, second["digest"]).batches == []


def test_both_ways_tell_the_same(walked: Walk) -> None:
    behind: dict[str, set[int]] = {}
    for row in rows_of(walked.home, "SELECT DISTINCT batch_id, input_files, training_files FROM bts.forecast_lineage"):
        for digest in row["input_files"] + row["training_files"]:
            behind.setdefault(digest, set()).add(row["batch_id"])
    contents = {row["digest"] for row in rows_of(walked.home, "SELECT digest FROM bts.ingest_ledger")}
    assert len(contents) > 150
    for digest in sorted(contents)[::5]:
        assert {batch["batch_id"] for batch in impact(walked.home, digest).batches} == behind.get(digest, set())


def test_copy_counts_as_what_it_copies(home: Home, tmp_path: Path) -> None:
    rows = [f"1,5,1,122,{origin_of(0) - HOUR:%Y-%m-%d %H:%M:%S}"]
    write(tmp_path, "a.csv", *rows)
    write(tmp_path, "copies/b.csv", *rows)
    land(home, tmp_path, origin_of(0))
    assert [(row["path"], row["status"]) for row in impact(home, "b.csv").entries] == [
        ("a.csv", "accepted"),
        ("copies/b.csv", "copy"),
    ]


def test_whole_path_is_meant_where_there_is_one(home: Home, tmp_path: Path) -> None:
    for name, value in (("a.csv", 5), ("other/a.csv", 6)):
        write(tmp_path, name, f"1,{value},1,122,{origin_of(0) - HOUR:%Y-%m-%d %H:%M:%S}")
    land(home, tmp_path, origin_of(0))
    for name in ("a.csv", "other/a.csv"):
        assert [row["path"] for row in impact(home, name).entries] == [name]


def test_refused_file_touched_nothing(home: Home, tmp_path: Path) -> None:
    (tmp_path / "broken.csv").write_text("no,header\n1,2\n")
    land(home, tmp_path, origin_of(0))
    found = impact(home, "broken.csv")
    assert ([row["status"] for row in found.entries], found.batches, found.versions) == (["refused"], [], [])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("11.csv", "11.csv could be any of 2026-03-08/11.csv, 2026-03-09/11.csv"),
        ("7.csv", "no landing file is called 7.csv, and no digest begins with it; bts.ingest_ledger lists them all"),
        ("%", "no landing file is called %,"),
        ("abcdef0123456789", "no landing file is called abcdef0123456789,"),
    ],
)
def test_name_that_is_unknown_or_of_several_ends_in_one_line(walked: Walk, name: str, told: str) -> None:
    with pytest.raises(LineageError) as refusal:
        impact(walked.home, name)
    assert str(refusal.value).startswith(told)
    assert "\n" not in str(refusal.value)


def test_digests_that_begin_alike_are_told_apart(home: Home) -> None:
    rng = np.random.default_rng(1)
    rows = [_entry(rng, number, origin_of(0)) | {"digest": f"abcd{number:060}"} for number in (1, 2)]
    with home.engine.begin() as connection:
        connection.execute(sa.insert(tables.landing_file), rows)
    with pytest.raises(LineageError, match=f"abcd could be any of abcd{1:060}, abcd{2:060}; name one of them"):
        impact(home, "abcd")
    assert [row["digest"][-1] for row in impact(home, f"abcd{2:060}").entries] == ["2"]


def test_series_of_readings_that_are_gone_are_not_counted_and_it_is_said(
    walked: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_readings, "read", lambda *_: {})
    found = impact(walked.home, file_of(1, 11))
    assert [batch["batch_id"] for batch in found.batches] == [walked.batches[1]]
    assert found.gone is not None
    assert "are gone: run bts verify --repair, or restore" in found.gone
    assert found.series.empty


# From a model version


def test_model_touches_the_batches_that_it_forecast(walked: Walk) -> None:
    found = impact_of_model(walked.home.engine, walked.version.model_version_id)
    assert [batch["batch_id"] for batch in found.batches] == sorted(walked.batches, reverse=True)
    assert [batch["serves"] for batch in found.batches] == [True] + [False] * (NIGHTS - 1)
    series = {(row.station_id, row.parameter_id): row.batches for row in found.series.itertuples()}
    # Station 3 fell silent for a night, 4 for ever; 5 and 6 were heard of in one hour each.
    always = dict.fromkeys([(1, LOAD), (1, RUN_TIME), (2, LOAD)], NIGHTS)
    assert series == always | {(3, LOAD): NIGHTS - 1, (5, LOAD): 1, (6, LOAD): 1}


def test_unknown_version_ends_in_one_line(walked: Walk, home: Home) -> None:
    with pytest.raises(LineageError, match=r"there is no model version 77; the newest is \d+"):
        impact_of_model(walked.home.engine, 77)
    with pytest.raises(LineageError, match="none was trained yet"):
        impact_of_model(home.engine, 1)

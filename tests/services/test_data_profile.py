"""What data looked like, kept in a real Postgres and told to a real MLflow: once, and of what was known then."""

import json
import logging
from datetime import timedelta
from io import StringIO
from pathlib import Path

import pandas as pd
import psycopg2
import pytest
from handmade_night import handmade_night
from handmade_night import rows_of as rows_at
from nights import HomeMaker
from small_nights import (
    GRID,
    LOAD,
    ORIGIN,
    SMALL,
    fitted,
    hourly,
    observe_due,
    rows_of,
    serving_version,
    simple_bundle,
    take_in,
    write,
)

from bts_assets.contracts.origin import Origin
from bts_assets.services import training as versions
from bts_assets.services.data_profile import DATASET_NAME, describe, describe_trainings, find_kept, keep
from bts_assets.services.home import Home
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.training import train
from bts_assets.storage.model_versions import ModelVersion

START = ORIGIN - GRID.context


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """A day of station 1 with a broken row, half a day of station 2, station 3 of long ago, and a copy of a file."""
    landing = tmp_path / "landing"
    write(landing, "one.csv", *hourly(range(24)), "99,nonsense,1,122,2026-03-09 05:00:00")
    write(landing, "two.csv", *hourly(range(12), station=2, first_id=100), *hourly(range(3), station=2, first_id=200))
    write(landing, "copy.csv", *hourly(range(12), station=2, first_id=100), *hourly(range(3), station=2, first_id=200))
    write(landing, "old.csv", f"300,5,3,{LOAD},2026-03-01 00:00:00")
    return landing


@pytest.fixture
def home(make_home: HomeMaker, landing: Path) -> Home:
    home = make_home(**SMALL, landing_dir=landing)
    take_in(home, landing)
    observe_due(home)
    return home


def night(home: Home) -> tuple[int, bool]:
    return keep(home, describe(home, START, ORIGIN, "a run"))


def test_a_night_is_described_by_its_files_its_series_and_its_span(home: Home) -> None:
    night(home)
    (row,) = rows_of(home, "SELECT * FROM bts.dataset")
    told = {k: row[k] for k in ("stations", "parameters", "series", "silent_series", "observations", "readings")}
    assert told == {
        "stations": 3, "parameters": 1, "series": 3, "silent_series": 1, "observations": 36, "readings": 39,
    }  # fmt: skip
    assert row["missing_share"] == pytest.approx(1 - 36 / 72)
    # Of the two files with readings of the span, one lies there twice; the old file has none.
    files = {k: row[k] for k in ("files", "rows", "accepted", "rejected", "duplicate")}
    assert files == {"files": 2, "rows": 55, "accepted": 39, "rejected": 1, "duplicate": 15}
    ledger = rows_of(home, "SELECT sum(bytes) AS bytes FROM bts.ingest_ledger WHERE path IN ('one.csv', 'two.csv')")
    assert row["bytes"] == ledger[0]["bytes"]
    assert (row["data_start"], row["data_end"], row["step_seconds"]) == (START, ORIGIN, 3600)
    assert (row["name"], row["provider"], row["dagster_run_id"]) == (DATASET_NAME, None, "a run")


def test_every_series_has_its_figures_and_a_silent_one_no_values(home: Home) -> None:
    night(home)
    one, two, three = rows_of(home, "SELECT * FROM bts.data_profile ORDER BY station_id")
    assert (one["readings"], one["observations"], one["missing_share"], one["gaps"]) == (24, 24, 0, 0)
    assert (one["minimum"], one["median"], one["maximum"]) == (10, 21.5, 33)
    assert (two["readings"], two["observations"], two["most_readings"], two["longest_gap"]) == (15, 12, 2, 12)
    assert two["readings_per_step"] == pytest.approx(15 / 12)
    assert (three["readings"], three["missing_share"], three["longest_gap"]) == (0, 1, 24)
    assert {three[k] for k in ("minimum", "q05", "median", "q95", "maximum", "mean", "sd")} == {None}
    assert (one["parameter"], one["unit"]) == ("Load of Power Grid", "A")


def test_the_same_night_again_adds_nothing_and_a_late_file_another_data_set(home: Home, landing: Path) -> None:
    first, new = night(home)
    assert new
    before = rows_of(home, "SELECT * FROM bts.data_profile ORDER BY station_id")
    assert night(home) == (first, False)
    assert rows_of(home, "SELECT * FROM bts.data_profile ORDER BY station_id") == before
    write(landing, "late.csv", *hourly(range(12, 24), station=2, first_id=500))
    take_in(home, landing)
    observe_due(home)
    second, new = night(home)
    assert new
    kept = rows_of(home, "SELECT * FROM bts.data_profile WHERE dataset_id = :d ORDER BY station_id", d=first)
    assert kept == before
    (later,) = rows_of(home, "SELECT * FROM bts.data_profile WHERE dataset_id = :d AND station_id = 2", d=second)
    assert (later["observations"], later["gaps"]) == (24, 0)


def test_a_data_set_is_found_again_while_no_file_or_day_is_new(home: Home, landing: Path) -> None:
    assert find_kept(home, START, ORIGIN) is None
    first, _ = night(home)
    assert find_kept(home, START, ORIGIN) == first
    assert find_kept(home, START + GRID.step, ORIGIN) is None
    assert find_kept(home, START, ORIGIN - GRID.step) is None
    write(landing, "late.csv", *hourly(range(12, 24), station=2, first_id=500))
    take_in(home, landing)
    assert find_kept(home, START, ORIGIN) is None
    second, new = night(home)
    assert (new, find_kept(home, START, ORIGIN)) == (True, second)
    # A day whose readings had been gone is computed later, from no newer entry.
    with home.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE bts.observed_day SET computed_at = clock_timestamp() WHERE day = '2026-03-09'"
        )
    assert find_kept(home, START, ORIGIN) is None


def test_a_corrected_file_counts_as_it_is_now(home: Home, landing: Path) -> None:
    write(landing, "one.csv", *hourly(range(20)))
    write(landing, "two.csv", *hourly(range(12), station=2, first_id=100))
    take_in(home, landing)
    observe_due(home)
    night(home)
    (row,) = rows_of(home, "SELECT * FROM bts.dataset")
    # The copy of what two.csv was still counts; what one.csv and two.csv were does not.
    assert (row["files"], row["rows"], row["rejected"], row["readings"]) == (3, 20 + 12 + 15, 0, 35)


def test_a_batch_finds_its_data_set_by_digest(home: Home) -> None:
    number, _ = night(home)
    version = serving_version(home, simple_bundle())
    forecast_and_publish(home, Origin(ORIGIN, "retrospective", "asked"), version, None)
    found = rows_of(
        home,
        "SELECT d.dataset_id FROM bts.batch AS b JOIN bts.dataset AS d"
        " ON (d.observations_digest, d.ledger_seq) = (b.observations_digest, b.input_ledger_seq)",
    )
    assert found == [{"dataset_id": number}]


def test_the_simulated_network_is_named_as_such(make_home: HomeMaker) -> None:
    home = make_home(**SMALL)
    write(home.landing, "a.csv", *hourly(range(24)))
    take_in(home, home.landing)
    observe_due(home)
    assert describe(home, START, ORIGIN, None).row["provider"] == "bts simulate"


def test_readers_may_read_it(server_url: str) -> None:
    with handmade_night(server_url) as made:
        assert rows_at(made.reader_url, "SELECT * FROM bts.data_profile, bts.dataset") == []
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            rows_at(made.reader_url, "SELECT * FROM bts.series_profile")


# What a version was trained on


def trained(home: Home, patch: pytest.MonkeyPatch) -> ModelVersion:
    patch.setattr(versions, "fit_bundle", lambda *_, **__: fitted(simple_bundle(seed=5)))
    return train(home, ORIGIN, "training-run").version


def test_a_training_says_in_mlflow_what_data_it_had(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    version = trained(home, monkeypatch)
    assert describe_trainings(home, "another run") == []
    (told,) = describe_trainings(home, "training-run")
    assert told["model_version_id"] == version.model_version_id
    client = mlflow.MlflowClient(home.mlflow_tracking_uri)
    inputs = {used.dataset.name: used for used in client.get_run(version.mlflow_run_id).inputs.dataset_inputs}
    mine = inputs[DATASET_NAME]
    assert [(tag.key, tag.value) for tag in mine.tags] == [("mlflow.data.context", "training")]
    about = json.loads(mine.dataset.profile)
    (row,) = rows_of(home, "SELECT * FROM bts.dataset")
    (known,) = rows_of(home, "SELECT observations_digest, training_start FROM bts.model_version")
    assert about["observations_digest"] == row["observations_digest"] == known["observations_digest"]
    assert about["observations_digest"].startswith(mine.dataset.digest)
    assert (about["data_start"], about["rejected"], about["series"]) == (str(known["training_start"]), 1, 3)
    assert json.loads(mine.dataset.source)["uri"].startswith("file://")
    table = mlflow.artifacts.load_text(f"runs:/{version.mlflow_run_id}/data_profile.csv")
    assert pd.read_csv(StringIO(table))["readings"].sum() == row["readings"]


def test_a_training_whose_data_changed_since_is_left_out(
    home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained(home, monkeypatch)
    write(landing, "late.csv", *hourly(range(12, 24), station=2, first_id=500))
    take_in(home, landing)
    with caplog.at_level(logging.WARNING):
        assert describe_trainings(home, "training-run") == []
    assert "has changed since" in caplog.text
    assert rows_of(home, "SELECT * FROM bts.dataset") == []


def test_without_mlflow_a_training_is_described_in_postgres(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained(home, monkeypatch)
    monkeypatch.setattr(home.models, "tracking_uri", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING):
        told = describe_trainings(home, "training-run")
    assert len(told) == len(rows_of(home, "SELECT * FROM bts.dataset")) == 1
    assert "MLflow at http://127.0.0.1:9 failed" in caplog.text


def test_a_span_before_all_data_has_no_series(home: Home) -> None:
    early = ORIGIN - timedelta(days=60)
    number, _ = keep(home, describe(home, early - GRID.context, early, None))
    (row,) = rows_of(home, "SELECT * FROM bts.dataset WHERE dataset_id = :d", d=number)
    assert (row["series"], row["observations"], row["files"], row["missing_share"]) == (0, 0, 0, 0)

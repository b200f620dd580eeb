"""Which batches a version served, told to a real MLflow: all of them, once, and what it missed while it was down."""

import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from nights import HomeMaker
from small_nights import ORIGIN, SMALL, fitted, hourly, observe_due, rows_of, simple_bundle, take_in, write

from bts_assets.contracts.origin import Origin
from bts_assets.services import training as versions
from bts_assets.services.home import Home
from bts_assets.services.mlflow_sync import tell_served
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.training import train
from bts_assets.storage.mlflow_pages import run_page, version_page
from bts_assets.storage.mlflow_registry import ModelStoreError
from bts_assets.storage.model_versions import ModelVersion
from bts_assets.storage.served_pages import Pages, keep_pages, pages_of

HOUR = timedelta(hours=1)


@pytest.fixture
def home(make_home: HomeMaker, tmp_path: Path) -> Home:
    home = make_home(**SMALL)
    write(tmp_path / "landing", "a.csv", *hourly(range(24)))
    take_in(home, tmp_path / "landing")
    observe_due(home)
    return home


def trained(home: Home, patch: pytest.MonkeyPatch, seed: int = 7) -> ModelVersion:
    """A version that is registered for real, though nothing was fitted."""
    patch.setattr(versions, "fit_bundle", lambda *_, **__: fitted(simple_bundle(seed=seed)))
    return train(home, ORIGIN, "a run").version


def publish_night(home: Home, version: ModelVersion, hour: int) -> int:
    origin = Origin(ORIGIN - hour * HOUR, "live", "the test says so")
    return forecast_and_publish(home, origin, version, "a run").batch_id


def told(home: Home, version: ModelVersion) -> dict[str, str]:
    import mlflow

    tags = mlflow.MlflowClient(home.mlflow_tracking_uri).get_run(version.mlflow_run_id).data.tags
    return {name: value for name, value in tags.items() if name.startswith("batch.")}


def test_each_version_is_told_its_own_batches_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trained(home, monkeypatch), trained(home, monkeypatch, seed=8)
    assert tell_served(home) == 0
    batches = [publish_night(home, version, hour) for version, hour in ((first, 2), (first, 1), (second, 0))]
    assert tell_served(home) == 3
    assert told(home, first) == {
        f"batch.{batches[0]}": "2026-03-09T22:00:00+00:00", f"batch.{batches[1]}": "2026-03-09T23:00:00+00:00",
    }  # fmt: skip
    assert told(home, second) == {f"batch.{batches[2]}": "2026-03-10T00:00:00+00:00"}
    assert tell_served(home) == 0


def test_a_challenger_is_told_the_batches_that_it_had_a_share_in(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    champion, challenger = trained(home, monkeypatch), trained(home, monkeypatch, seed=8)
    batch = publish_night(home, champion, 0)
    with home.engine.begin() as connection:
        given = {"version": challenger.model_version_id}
        connection.execute(sa.text("UPDATE bts.batch SET canary_version_id = :version, canary_share = 0.2"), given)
    assert tell_served(home) == 2
    assert told(home, challenger) == told(home, champion) == {f"batch.{batch}": ORIGIN.isoformat()}


def test_a_batch_that_is_loaded_but_not_published_has_served_nobody(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = trained(home, monkeypatch)
    publish_night(home, version, 0)
    with home.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM bts.publication")
    assert tell_served(home) == 0
    assert told(home, version) == {}


def test_what_mlflow_missed_while_it_was_down_is_mended(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = trained(home, monkeypatch), trained(home, monkeypatch, seed=8)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(home.models, "tracking_uri", "http://127.0.0.1:9")
        missed = [publish_night(home, version, hour) for version, hour in ((first, 1), (second, 0))]
        assert tell_served(home) == 0
    assert "MLflow at http://127.0.0.1:9 failed" in caplog.text
    assert "a later night tells it which batches were published" in caplog.text
    assert tell_served(home) == 2
    assert [*told(home, first), *told(home, second)] == [f"batch.{batch}" for batch in missed]


def test_a_version_that_mlflow_never_saw_is_left_out(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(versions, "_register", lambda *_: None)
        version = trained(home, patch)
    publish_night(home, version, 0)
    assert rows_of(home, "SELECT mlflow_run_id FROM bts.model_version") == [{"mlflow_run_id": None}]
    assert tell_served(home) == 0


def test_years_of_batches_are_no_longer_than_mlflow_takes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    # It takes 100 tags at once, and 8,000 characters in one.
    version = trained(home, monkeypatch)
    many = {f"batch.{number}": ORIGIN.isoformat() for number in range(1000)}
    assert version.mlflow_run_id is not None
    assert home.models.add_tags(version.mlflow_run_id, many) == 1000
    assert told(home, version) == many
    assert home.models.add_tags(version.mlflow_run_id, many | {"batch.7": "otherwise"}) == 1


def test_a_run_that_is_gone_is_said_in_one_line(home: Home) -> None:
    with pytest.raises(ModelStoreError, match=r"^MLflow at the database failed: .*\bnone-such\b"):
        home.models.add_tags("none-such", {"batch.1": "now"})


@pytest.mark.parametrize(
    ("tracking_uri", "pages"),
    [
        (None, "http://127.0.0.1:5000"),
        ("postgresql+psycopg2://bts:secret@127.0.0.1/bts", "http://127.0.0.1:5000"),
        ("https://mlflow.example/", "https://mlflow.example"),
        ("http://me:secret@mlflow.example:8080", "http://mlflow.example:8080"),
    ],
)
def test_pages_are_where_mlflow_serves_and_tell_no_secret(tracking_uri: Any, pages: str, tmp_path: Path) -> None:
    server, view = pages_of(tmp_path, tracking_uri).mlflow, "?workflowType=machine_learning"
    assert run_page(server, "abc", "1") == f"{pages}/#/experiments/1/runs/abc{view}"
    assert run_page(server, "abc", None) == f"{pages}/#/runs/abc{view}"
    assert version_page(server, 3) == f"{pages}/#/models/bts-forecaster/versions/3{view}"


def test_pages_are_where_bts_up_last_served_and_a_broken_note_is_none(tmp_path: Path) -> None:
    there = Pages("http://127.0.0.1:3100", "http://127.0.0.1:5100")
    keep_pages(tmp_path, there)
    assert pages_of(tmp_path) == there
    assert pages_of(tmp_path, "https://mlflow.example/") == Pages(there.dagster, "https://mlflow.example")
    for broken in ("{", "[]", '{"dagster": 1}'):
        (tmp_path / "pages.json").write_text(broken)
        assert pages_of(tmp_path) == Pages()

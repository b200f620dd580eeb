"""Model versions at rest: MLflow is the record, the cache is what nights live on, neither is trusted unchecked."""

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
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
    small_panel,
    take_in,
    write,
)

from bts_assets.contracts.origin import Origin
from bts_assets.contracts.schemas import Forecasts, validate
from bts_assets.forecasting import bundle as bundles
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.services import training as versions
from bts_assets.services.champions import check_champion, mend_alias
from bts_assets.services.home import Home, open_home
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.services.promotion import first_champion, outdated
from bts_assets.settings import load_settings
from bts_assets.storage.mlflow_registry import CHAMPION, ModelStore, ModelStoreError
from bts_assets.storage.model_versions import ModelVersion, champion_for

DOWN: Final = "http://127.0.0.1:9"


def trains(bundle: Bundle, patch: pytest.MonkeyPatch) -> None:
    """Let training give this bundle, so that only what becomes of it is tested."""
    patch.setattr(versions, "fit_bundle", lambda *_, **__: fitted(bundle))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> Iterator[Home]:
    """A home with a day of observations; MLflow keeps its tables beside them."""
    folder = tmp_path_factory.mktemp("models")
    home = open_home(
        load_settings(home=folder / "home", database_url=new_database(), file_stable_for=timedelta(0), **SMALL)
    )
    write(folder / "landing", "a.csv", *hourly(range(24)), *hourly(range(24), station=2, first_id=100))
    take_in(home, folder / "landing")
    observe_due(home)
    yield home
    home.engine.dispose()


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return simple_bundle(seed=7)


@pytest.fixture(scope="module")
def version(home: Home, bundle: Bundle) -> ModelVersion:
    """Trained, registered with a real MLflow, and champion."""
    with pytest.MonkeyPatch.context() as patch:
        trains(bundle, patch)
        return first_champion(home, ORIGIN, "dagster-run").version


@pytest.fixture
def client(home: Home, version: ModelVersion) -> Any:
    import mlflow

    return mlflow.MlflowClient(home.mlflow_tracking_uri)


def model_files(home: Home, digest: str) -> Path:
    """Where MLflow keeps the bundle."""
    (folder,) = (f for f in home.models.artifacts.rglob(digest) if f.is_dir())
    return folder


def flip_a_byte(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))


# What MLflow keeps


def test_a_training_is_one_run_that_says_what_made_it(home: Home, version: ModelVersion, client: Any) -> None:
    run = client.get_run(version.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["BTS_STEP"] == "1h"
    assert all(name.startswith("BTS_") for name in run.data.params)  # what changes a model, not what came of it
    assert run.data.tags["training.windows_trained"] == "80"
    assert (run.info.end_time - run.info.start_time) / 1000 == pytest.approx(
        run.data.metrics["training/seconds"], abs=0.01
    )
    assert run.data.tags["bundle_digest"] == version.bundle_digest
    assert run.data.tags["dagster_run_id"] == "dagster-run"
    assert {"code_version", "observations_digest", "machine.cores", "package.tensorflow"} <= set(run.data.tags)
    assert run.data.metrics["training/seconds"] > 0
    curve = [(m.step, m.value) for m in client.get_metric_history(version.mlflow_run_id, "training/validation_loss")]
    assert sorted(curve) == [(40, 0.6), (80, 0.5)]
    assert all(run.data.tags.values())
    assert "series" in run.data.tags["mlflow.note.content"]
    assert not [name for name in run.data.params if name in ("BTS_LOCK_TIMEOUT", "BTS_REJECTED_KEPT")]
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    names = {file.path for file in client.list_artifacts(version.mlflow_run_id)}
    assert {"scores.csv", "summary.csv", "training_curve.png"} <= names


def test_the_version_is_registered_and_carries_the_alias(home: Home, version: ModelVersion, client: Any) -> None:
    registered = client.get_model_version_by_alias("bts-forecaster", "champion")
    assert int(registered.version) == version.registry_version
    assert home.models.pointed(CHAMPION) == version.registry_version
    assert champion_for(home.engine, GRID) == version
    (row,) = rows_of(home, "SELECT * FROM bts.model_version WHERE bundle_digest = :d", d=version.bundle_digest)
    assert (row["mlflow_run_id"], row["mlflow_model_uri"]) == (version.mlflow_run_id, version.mlflow_model_uri)


def test_the_same_training_again_registers_nothing_anew(
    home: Home, version: ModelVersion, bundle: Bundle, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trains(bundle, monkeypatch)
    assert first_champion(home, ORIGIN, None).version == version
    assert len(client.search_model_versions("name = 'bts-forecaster'")) == 1
    assert len(rows_of(home, "SELECT FROM bts.champion")) == 1


def test_nothing_that_is_kept_holds_the_password(home: Home, version: ModelVersion, client: Any) -> None:
    password = home.url.split("://")[1].split("@")[0].partition(":")[2]
    run = client.get_run(version.mlflow_run_id)
    text = f"{run.data} {run.inputs} {run.info}"
    kept = [f for f in home.settings.home.rglob("*") if f.is_file()]
    assert password
    assert password not in text
    assert [f for f in kept if password.encode() in f.read_bytes()] == []


# From the cache, else from MLflow, never unchecked


def test_a_version_is_loaded_from_the_cache_and_else_from_mlflow(
    home: Home, version: ModelVersion, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ModelStore, "_fetch", lambda *_: pytest.fail("what is cached was fetched"))
        assert home.models.load(version.bundle_digest, version.mlflow_model_uri).files() == bundle.files()
    shutil.rmtree(home.models.cache / version.bundle_digest)
    fetched = home.models.load(version.bundle_digest, version.mlflow_model_uri)
    assert fetched.files() == bundle.files()
    assert (home.models.cache / version.bundle_digest).is_dir()
    assert [f for f in home.models.cache.iterdir() if f.name.startswith(".part")] == []


def test_a_flipped_byte_in_the_cache_is_refused(home: Home, version: ModelVersion) -> None:
    folder = home.models.cache / version.bundle_digest
    try:
        flip_a_byte(folder / "bundle.json")
        with pytest.raises(ModelStoreError, match=r"bytes have changed; delete the folder") as caught:
            home.models.load(version.bundle_digest, version.mlflow_model_uri)
        assert "\n" not in str(caught.value)
    finally:
        shutil.rmtree(folder)
    assert home.models.load(version.bundle_digest, version.mlflow_model_uri).digest == version.bundle_digest


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("flipped", "bytes have changed"),
        ("gone", "MLflow at the database failed"),
        ("pickle added", "bytes have changed"),
        ("another sound version", "bytes have changed"),
    ],
)
def test_what_mlflow_holds_is_refused_unless_it_is_what_was_trained(
    home: Home, version: ModelVersion, tmp_path: Path, fault: str, message: str
) -> None:
    empty = ModelStore(tmp_path, home.mlflow_tracking_uri)
    folder = model_files(home, version.bundle_digest)
    saved = shutil.copytree(folder, tmp_path / "saved")
    try:
        if fault == "flipped":
            flip_a_byte(folder / "weights.safetensors")
        elif fault == "gone":
            shutil.rmtree(folder)
        elif fault == "another sound version":
            for name, data in simple_bundle(seed=8).files().items():
                (folder / name).write_bytes(data)
        else:
            (folder / "extra.pkl").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
        with pytest.raises(ModelStoreError, match=message) as caught:
            empty.load(version.bundle_digest, version.mlflow_model_uri)
        assert "\n" not in str(caught.value)
        assert not (empty.cache / version.bundle_digest).exists()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(saved, folder)


def test_a_version_that_rests_nowhere_is_one_line(home: Home) -> None:
    with pytest.raises(ModelStoreError, match=r"neither in .* nor in MLflow; train a new one"):
        home.models.load("0" * 64, None)


# MLflow down


@pytest.fixture
def cut_off(make_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with observations whose MLflow does not answer."""
    home = make_home(**SMALL, mlflow_tracking_uri=DOWN)
    write(tmp_path / "landing", "a.csv", *hourly(range(24)))
    take_in(home, tmp_path / "landing")
    observe_due(home)
    return home


def test_a_night_goes_on_without_mlflow(
    cut_off: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trains(simple_bundle(), monkeypatch)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING):
        version = first_champion(cut_off, ORIGIN, None).version
        mend_alias(cut_off, version)
    night = forecast_and_publish(cut_off, Origin(ORIGIN, "retrospective", "asked"), version, None)
    assert time.monotonic() - begun < 20
    assert night.serves_latest
    assert (version.mlflow_run_id, version.mlflow_model_uri, version.registry_version) == (None, None, None)
    told = [r.getMessage() for r in caplog.records if r.name.startswith("bts_assets")]
    assert len(told) == 2  # of the training, and of the alias
    assert all(f"MLflow at {DOWN} failed" in said and "\n" not in said for said in told)
    assert champion_for(cut_off.engine, GRID) == version


def test_credentials_in_the_address_of_mlflow_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store = ModelStore(tmp_path, "http://someone:c4nary@127.0.0.1:9")
    with pytest.raises(ModelStoreError, match=r"MLflow at http://.*127\.0\.0\.1:9 failed") as caught:
        store.pointed(CHAMPION)
    assert "c4nary" not in str(caught.value)


def test_a_later_night_mends_the_alias(home: Home, version: ModelVersion, client: Any) -> None:
    client.delete_registered_model_alias("bts-forecaster", "champion")
    assert home.models.pointed(CHAMPION) is None
    mend_alias(home, version)
    assert home.models.pointed(CHAMPION) == version.registry_version


def test_a_later_night_registers_what_was_trained_while_mlflow_was_down(
    make_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(**SMALL)
    write(tmp_path / "landing", "a.csv", *hourly(range(24)))
    take_in(home, tmp_path / "landing")
    observe_due(home)
    with monkeypatch.context() as down:
        down.setattr(versions, "_register", lambda *_: None)
        trains(simple_bundle(seed=3), down)
        version = first_champion(home, ORIGIN, "the run that trained it").version
    assert (version.registry_version, home.models.pointed(CHAMPION)) == (None, None)
    mended = mend_alias(home, version)
    assert mended == champion_for(home.engine, GRID)
    assert mended.registry_version == home.models.pointed(CHAMPION)
    run = home.models.client().get_run(mended.mlflow_run_id)
    assert run.data.tags["bundle_digest"] == version.bundle_digest
    assert run.data.tags["dagster_run_id"] == "the run that trained it"
    (row,) = rows_of(home, "SELECT training_seconds, created_at FROM bts.model_version")
    assert (run.info.end_time - run.info.start_time) / 1000 == pytest.approx(row["training_seconds"], abs=0.01)
    assert run.info.end_time / 1000 == pytest.approx(row["created_at"].timestamp(), abs=0.01)
    assert run.data.metrics["training/seconds"] == pytest.approx(row["training_seconds"], abs=1e-4)
    shutil.rmtree(home.models.cache)
    assert home.models.load(mended.bundle_digest, mended.mlflow_model_uri).seed == 3
    assert mend_alias(home, mended) == mended  # once
    check_champion(home, version)  # it is the same version, though MLflow knows of it now


def test_a_truncated_training_does_not_replace_a_champion(make_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(**SMALL)
    monkeypatch.setattr(versions, "_register", lambda *_: None)
    champion = serving_version(home, simple_bundle())
    cut = replace(fitted(simple_bundle(seed=2)), truncated=True)
    monkeypatch.setattr(versions, "fit_bundle", lambda *_, **__: cut)
    trained = first_champion(home, ORIGIN, None)
    assert trained.version != champion
    assert champion_for(home.engine, GRID) == champion


def test_a_champion_that_older_code_wrote_is_replaced(make_home: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home(**SMALL)
    monkeypatch.setattr(versions, "_register", lambda *_: None)
    with monkeypatch.context() as older:
        older.setattr(bundles, "VERSION", 1)
        champion = serving_version(home, simple_bundle())
        assert not outdated(home, champion)
    assert outdated(home, champion)
    with pytest.raises(ModelStoreError, match=r"version 1; this code reads .+; train a new one"):
        home.models.load(champion.bundle_digest, None)
    monkeypatch.setattr(versions, "fit_bundle", lambda *_, **__: fitted(simple_bundle(seed=2)))
    trained = first_champion(home, ORIGIN, None)
    assert champion_for(home.engine, GRID) == trained.version != champion
    (decided,) = rows_of(home, "SELECT reason FROM bts.model_decision WHERE decided_by = 'gate'")
    assert "format" in decided["reason"]


def test_the_same_version_entered_by_two_at_once_is_one(home: Home) -> None:
    bundle = simple_bundle(seed=99)
    first, second = (versions.enter(home, fitted(bundle), small_panel(), None, 0, None) for _ in range(2))
    assert first == second


# The registered model, as MLflow serves it


def test_the_registered_model_forecasts_from_raw_rows(
    home: Home, version: ModelVersion, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setattr(sys, "path", sys.path.copy())  # MLflow puts the model's own code first
    mlflow.set_tracking_uri(home.mlflow_tracking_uri)
    model = mlflow.pyfunc.load_model(version.mlflow_model_uri)
    assert model.metadata.metadata["bundle_digest"] == version.bundle_digest
    times = [f"{ORIGIN - timedelta(hours=24 - h):%Y-%m-%dT%H:%M:%SZ}" for h in range(24)]
    rows = pd.DataFrame(
        {
            "station_id": np.repeat([1, 2, 3], 24),
            "parameter_id": LOAD,
            "reading_time": times * 3,
            "value": np.repeat([10.0, 10.125, 10.25], 24),
        }
    )
    answer = model.predict(rows.astype(object))
    assert set(answer["rejected"]) == {""}
    given = validate(Forecasts, answer.drop(columns="rejected"))
    pd.testing.assert_frame_equal(given, make_batch(bundle, small_panel(), home.catalogue).to_frame())
    assert given["issued_at"].iloc[0] == ORIGIN

"""The circle on a night that was run for real: row, MLflow run, materializations, row; and what Dagster calls new."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import pytest
import sqlalchemy as sa
from nights import NIGHT, NightRunner, PublishedNight

from benchmarks.month import ROWS_RESOLVED
from bts_assets.cli.run_job import environment
from bts_assets.forecasting import efforts

ASSETS = ("readings", "grouped_series", "lstm_model", "station_forecasts", "data_profile")


@pytest.fixture
def instance(published: PublishedNight, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """The published night's own, whichever home a job ran in last."""
    for name, value in environment(published.home).items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as opened:
        yield opened


@pytest.fixture
def environment_as_it_was() -> Iterator[None]:
    """A job leaves in the environment where Dagster and MLflow find its home; other tests are not to meet it there."""
    with patch.dict(os.environ):
        yield


def materializations(instance: dg.DagsterInstance, asset: str) -> list[dict[str, Any]]:
    """What each said, the newest first, with `run` and `version`, its data version."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=100).records
    return [
        {name: value.value for name, value in made.metadata.items()}
        | {"run": record.run_id, "version": (made.tags or {})["dagster/data_version"]}
        for record in records
        for made in [record.asset_materialization]
        if made is not None
    ]


def data_versions(instance: dg.DagsterInstance) -> dict[str, str]:
    return {asset: materializations(instance, asset)[0]["version"] for asset in ASSETS}


def write_hours(file: Path, station: int, since: int, until: int) -> None:
    """A reading of one parameter in each hour, counted from the night's origin."""
    rows = [
        f"{station * 1000 + hour},{20 + hour % 5},{station},122,{at:%Y-%m-%d %H:%M:%S}"
        for hour in range(since, until)
        for at in [NIGHT + timedelta(hours=hour, minutes=7)]
    ]
    file.write_text("\n".join(["id,value,station_id,parameter_id,reading_time", *rows]) + "\n")


def test_a_row_leads_to_its_run_its_materializations_and_back(
    published: PublishedNight, instance: dg.DagsterInstance
) -> None:
    import mlflow

    key = "batch_id = :batch_id AND station_id = :station_id AND parameter_id = :parameter_id"
    (row,) = published.rows(
        "SELECT * FROM bts.forecast JOIN bts.batch USING (batch_id, issued_at) WHERE issued_at = :at"
        " ORDER BY batch_id, station_id, parameter_id, step_ahead LIMIT 1", at=NIGHT,
    )  # fmt: skip
    row = {name: row[name] for name in row if not name.endswith("_digest")}
    # Row -> MLflow run
    (lineage,) = published.rows(f"SELECT * FROM bts.forecast_lineage WHERE {key}", **row)
    run = mlflow.MlflowClient(published.home.mlflow_tracking_uri).get_run(lineage["mlflow_run_id"])
    assert run.data.tags["code_version"] == lineage["training_code_version"]
    digests = {used.dataset.digest for used in run.inputs.dataset_inputs}
    assert digests == {lineage["training_observations_digest"][:36]}
    # MLflow run -> the materialization of the model, by the Dagster run that it names
    (trained,) = [m for m in materializations(instance, "lstm_model") if m["run"] == run.data.tags["dagster_run_id"]]
    assert trained["trained"] is True
    assert trained["mlflow_run_id"] == run.info.run_id
    page = f"/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}?workflowType=machine_learning"
    assert trained["mlflow_run"] == f"http://127.0.0.1:5000{page}"
    assert trained["version"] == run.data.tags["bundle_digest"]
    # MLflow run -> the materialization of the forecasts, by the batches that it names
    served = {name.removeprefix("batch."): at for name, at in run.data.tags.items() if name.startswith("batch.")}
    made = [
        m for m in materializations(instance, "station_forecasts") if served.get(str(m["batch_id"])) == m["issued_at"]
    ]
    first = made[-1]
    assert first["issued_at"] == NIGHT.isoformat()
    assert (first["mlflow_run_id"], first["mlflow_run"]) == (run.info.run_id, trained["mlflow_run"])
    # Materialization -> row
    assert first["run"] == lineage["dagster_run_id"]
    back = published.rows(
        f"SELECT * FROM bts.forecast WHERE {key} AND step_ahead = :step_ahead", **row | {"batch_id": first["batch_id"]}
    )
    assert back == [{name: row[name] for name in back[0]}]


def test_every_row_resolves_to_runs_files_and_code(published: PublishedNight) -> None:
    (stored,) = published.rows("SELECT count(*) AS n FROM bts.forecast")
    with published.engine.connect() as connection, connection.begin() as transaction:
        assert connection.execute(ROWS_RESOLVED).one() == (stored["n"], stored["n"])
        connection.execute(sa.text("UPDATE bts.model_version SET mlflow_run_id = NULL"))
        assert connection.execute(ROWS_RESOLVED).one() == (stored["n"], 0)
        transaction.rollback()
    assert stored["n"] > 0


def test_the_run_of_a_version_names_every_batch_that_it_served(published: PublishedNight) -> None:
    import mlflow

    (version,) = published.rows("SELECT mlflow_run_id FROM bts.model_version")
    tags = mlflow.MlflowClient(published.home.mlflow_tracking_uri).get_run(version["mlflow_run_id"]).data.tags
    served = published.rows(
        "SELECT batch_id, issued_at FROM bts.batch WHERE batch_id IN (SELECT batch_id FROM bts.publication)"
    )
    assert {n: at for n, at in tags.items() if n.startswith("batch.")} == {
        f"batch.{batch['batch_id']}": batch["issued_at"].isoformat() for batch in served
    }


def test_unchanged_data_shows_as_unchanged_and_changed_data_as_changed(
    run_night: NightRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment_as_it_was: None
) -> None:
    monkeypatch.setitem(efforts.EFFORTS, "quick", efforts.Work(20, 20, 1, 1000))
    write_hours(tmp_path / "one.csv", 1, -96, 0)
    write_hours(tmp_path / "two.csv", 2, -96, -4)
    night = run_night(tmp_path, NIGHT, step="1h", context="24h", horizon="6h")
    with dg.DagsterInstance.get() as instance:
        first = data_versions(instance)
        assert all(len(version) == 64 for version in first.values())
        run_night(tmp_path, NIGHT, again=night)
        # What is new of it is that it ran.
        assert data_versions(instance) == first
        assert all(len(materializations(instance, asset)) == 2 for asset in ASSETS)
        # The same content once more, under another name, is the same data.
        (tmp_path / "copy.csv").write_bytes((tmp_path / "one.csv").read_bytes())
        run_night(tmp_path, NIGHT, again=night)
        assert data_versions(instance) == first
        write_hours(tmp_path / "late.csv", 2, -4, 0)
        run_night(tmp_path, NIGHT, again=night)
        now = data_versions(instance)
    assert {asset for asset in ASSETS if now[asset] != first[asset]} == set(ASSETS) - {"lstm_model"}

"""The asset `data_profile` within a night that was run for real: what it says, and that no forecast waits for it."""

from datetime import timedelta
from io import BytesIO
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from matplotlib import image
from nights import NIGHT, NightRunner, PublishedNight

from bts_assets.defs import data_profile as module
from bts_assets.plots.profile import data_at_a_glance
from bts_assets.services.data_profile import DATASET_NAME, describe


@pytest.fixture(scope="module")
def said(published: PublishedNight) -> dict[str, Any]:
    return published.said["data_profile"]


def test_a_night_describes_the_data_that_its_batch_was_made_from(
    published: PublishedNight, said: dict[str, Any]
) -> None:
    (batch,) = published.rows(
        "SELECT b.* FROM bts.batch AS b JOIN bts.latest_batch USING (batch_id) WHERE b.issued_at = :at", at=NIGHT
    )
    assert (said["digest"], said["ledger_seq"]) == (batch["observations_digest"], batch["input_ledger_seq"])
    assert (said["data_start"], said["data_end"]) == ((NIGHT - timedelta(days=2)).isoformat(), NIGHT.isoformat())
    rows = published.rows("SELECT * FROM bts.data_profile WHERE dataset_id = :d", d=said["dataset_id"])
    assert len(rows) == said["dagster/row_count"] == said["series"] == batch["series"]
    counted = published.rows(
        "SELECT count(*) AS observations, sum(readings) AS readings FROM bts.observation"
        " WHERE observed_at >= :start AND observed_at < :end", start=NIGHT - timedelta(days=2), end=NIGHT,
    )  # fmt: skip
    assert counted == [{"observations": said["observations"], "readings": said["readings"]}]
    assert sum(said[f"{kind}_share"] for kind in ("accepted", "rejected", "duplicate")) == pytest.approx(1)
    assert (said["stations"], said["parameters"], said["name"]) == (3, 15, DATASET_NAME)
    assert said["missing_share"] == pytest.approx(1 - said["observations"] / (45 * 48), abs=1e-4)


def test_its_table_has_a_row_per_parameter(said: dict[str, Any]) -> None:
    rows = [record.data for record in said["by_parameter"].records]
    assert len(rows) == 15
    load = next(row for row in rows if row["parameter"] == "Load of Power Grid")
    assert load["series"] == 3
    assert load["minimum"] < load["mean"] < load["maximum"]
    assert sum(row["readings"] for row in rows) == said["readings"]


def test_the_training_of_that_night_has_its_data_set_in_mlflow(published: PublishedNight, said: dict[str, Any]) -> None:
    import mlflow

    (version,) = published.rows("SELECT * FROM bts.model_version")
    assert said["trainings_described"] == [version["model_version_id"]]
    run = mlflow.MlflowClient(published.home.mlflow_tracking_uri).get_run(version["mlflow_run_id"])
    names = {used.dataset.name: used.dataset.digest for used in run.inputs.dataset_inputs}
    assert names[DATASET_NAME] == version["observations_digest"][:36]
    (row,) = published.rows(
        "SELECT * FROM bts.dataset WHERE observations_digest = :d", d=version["observations_digest"]
    )
    assert (row["data_start"], row["data_end"]) == (version["training_start"], version["training_end"])


def test_the_same_night_again_adds_no_row(
    published: PublishedNight,
    said: dict[str, Any],
    run_night: NightRunner,
    small_network: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = "SELECT count(*) FROM bts.dataset UNION ALL SELECT count(*) FROM bts.series_profile"
    before = published.rows(counts)
    described = []
    monkeypatch.setattr(module, "describe", lambda *given: described.append(given) or describe(*given))
    # What another night said last is not repeated; what this one said is, and nothing is measured again.
    nights = [run_night(small_network.landing, NIGHT, again=published).said["data_profile"] for _ in range(2)]
    assert len(described) <= 1
    for again in nights:
        assert (again["new"], again["trainings_described"]) == (False, [])
        other = {name for name in again if again[name] != said[name]}
        assert other <= {"new", "trainings_described", "dagster_run_id"}
    assert published.rows(counts) == before


def test_a_description_that_fails_comes_after_the_forecasts(
    published: PublishedNight, run_night: NightRunner, small_network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no figures today")

    monkeypatch.setattr(module, "find_kept", fail)
    with pytest.raises(Exception, match="no figures today"):
        run_night(small_network.landing, NIGHT, again=published)
    for name, value in published.environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as instance:
        (run,) = instance.get_runs(limit=1)
        steps = {step.step_key: str(step.status) for step in instance.get_run_step_stats(run.run_id)}
    assert steps["data_profile"].endswith("FAILURE")
    assert steps["station_forecasts"].endswith("SUCCESS")


# Its picture


def drawn(missing: pd.DataFrame, values: dict[str, np.ndarray]) -> np.ndarray:
    return image.imread(BytesIO(data_at_a_glance(missing, values)))


def test_what_is_missing_and_how_it_spreads_can_be_seen() -> None:
    index = ["Load, A", "Door"]
    values = {"Load, A": np.array([1.0, 2, 2, np.nan]), "Door": np.array([np.nan])}
    little = pd.DataFrame([[0.0, 0.01], [0.5, np.nan]], index=index, columns=[1, 2])
    first = drawn(little, values)
    assert first.shape[1] > first.shape[0]
    assert not np.array_equal(first, drawn(little.replace(0.01, 0.02), values))
    assert not np.array_equal(first, drawn(little, values | {"Load, A": np.array([1.0, 1, 2])}))


@pytest.mark.parametrize(("parameters", "stations"), [(1, 1), (70, 1000)])
def test_any_size_can_be_drawn(parameters: int, stations: int) -> None:
    titles = [f"parameter {n}" for n in range(parameters)]
    missing = pd.DataFrame(np.full((parameters, stations), 0.1), index=titles)
    height, width, _ = drawn(missing, dict.fromkeys(titles, np.arange(5.0))).shape
    assert height < 1800
    assert width < 1800

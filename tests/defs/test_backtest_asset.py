"""The backtest job over a real home: what rests after it, what it says, and what it leaves alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from nights import NIGHT

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.definitions import defs
from bts_assets.defs import backtest
from bts_assets.forecasting.efforts import EFFORTS, Work
from bts_assets.forecasting.metrics import METRICS
from bts_assets.forecasting.windows import take_series
from bts_assets.services import backtest as experiments
from bts_assets.services import training as versions
from bts_assets.services.backtest import Backtest, pictures_of
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import ingest
from bts_assets.settings import load_settings
from bts_assets.storage.mlflow_experiments import BACKTESTS

pytestmark = pytest.mark.slow

ORIGINS = 2


class Ran:
    """A run of the job, its home, and the backtest that it made."""

    def __init__(self, home: Home, result: dg.ExecuteInProcessResult, tested: Backtest) -> None:
        self.home, self.result, self.tested = home, result, tested
        self.said = said(result)


def said(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    metadata = event.step_materialization_data.materialization.metadata
    return {key: value.value for key, value in metadata.items()}


def run(**config: Any) -> dg.ExecuteInProcessResult:
    given = {"ops": {"forecast_backtest": {"config": config}}} if config else {}
    with dg.DagsterInstance.ephemeral() as instance:
        return defs.resolve_job_def("backtest").execute_in_process(instance=instance, run_config=given)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], small_network: Any) -> Iterator[Ran]:
    environment = {
        "BTS_HOME": str(tmp_path_factory.mktemp("backtest") / "home"),
        "BTS_DATABASE_URL": new_database(),
        "BTS_STEP": "1h",
        "BTS_CONTEXT": "1d",
        "BTS_HORIZON": "12h",
        "BTS_FILE_STABLE_FOR": "0s",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setitem(EFFORTS, "quick", Work(20, 20, 1, 1000))
        made: list[Backtest] = []
        patch.setattr(backtest, "run_backtest", noting(backtest.run_backtest, made))
        home = open_home(load_settings())
        ingest(home, small_network.landing, now=NIGHT)
        result = run(origins=ORIGINS, apart="24h", refit_every=2)
        yield Ran(home, result, made[0])
        home.engine.dispose()


def noting(made_by: Callable[..., Backtest], made: list[Backtest]) -> Callable[..., Backtest]:
    def noted(*arguments: Any) -> Backtest:
        made.append(made_by(*arguments))
        return made[-1]

    return noted


def count(home: Home, table: str) -> int:
    with home.engine.connect() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM bts.{table}").scalar() or 0)


def test_it_is_a_job_of_its_own() -> None:
    selected = defs.resolve_job_def("backtest").asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == {"forecast_backtest"}
    nightly = defs.resolve_job_def("nightly").asset_layer.selected_asset_keys
    assert "forecast_backtest" not in {key.to_user_string() for key in nightly}
    node = defs.resolve_asset_graph().get(dg.AssetKey("forecast_backtest"))
    assert {key.to_user_string() for key in node.parent_keys} == {"grouped_series"}
    assert node.description


def test_the_scores_rest_as_parquet_named_by_origin_and_digest(ran: Ran) -> None:
    (kept,) = (ran.home.settings.home / "backtests").iterdir()
    assert kept.name == f"20260309T120000Z-{ran.said['digest'][:12]}.parquet"
    assert ran.said["file"] == str(kept)
    rows = pd.read_parquet(kept)
    schema = defs.resolve_asset_graph().get(dg.AssetKey("forecast_backtest")).metadata["dagster/column_schema"]
    assert list(rows.columns) == [column.name for column in schema.columns]
    assert len(rows) == ran.said["dagster/row_count"]
    assert set(rows["metric"]) == set(METRICS)
    assert rows["origin"].nunique() == ORIGINS
    assert {"served", "lstm", "last_value", "seasonal_naive_day"} <= set(rows["candidate"])
    # Doors and the like are observed, and not forecast.
    assert rows.groupby(["station_id", "parameter_id"]).ngroups < ran.said["series"]


def test_dagster_shows_a_comparison_and_pictures(ran: Ran) -> None:
    records = [record.data for record in ran.said["comparison"].records]
    assert [r["candidate"] for r in records] == ran.tested.summary.index.tolist()
    served = next(r for r in records if r["candidate"] == "served")
    assert served["mase"] == pytest.approx(ran.tested.summary.loc["served", "mase"], abs=1e-4)
    assert {r.data["parameter_id"] for r in ran.said["coverage_by_parameter"].records} >= {111, 122}
    for name in ("mase_by_candidate", "coverage_by_candidate", "coverage_by_step"):
        assert ran.said[name].startswith("![picture](data:image/png;base64,")
    checks = {e.check_name for e in ran.result.get_asset_check_evaluations()}
    assert checks == {"as_good_as_best_candidate", "coverage_as_stated"}


def test_mlflow_has_a_run_for_each_candidate_below_that_of_the_backtest(ran: Ran) -> None:
    import mlflow

    client = mlflow.MlflowClient(ran.home.mlflow_tracking_uri)
    experiment = client.get_experiment_by_name(BACKTESTS)
    parent = client.get_run(ran.said["mlflow_run_id"])
    assert experiment is not None
    assert parent.info.experiment_id == experiment.experiment_id
    assert parent.data.params["origins"] == str(ORIGINS)
    assert parent.data.params["apart"] == "24h"
    assert parent.data.params["BTS_STEP"] == "1h"
    assert parent.data.tags["observations_digest"] == ran.tested.observations_digest
    assert parent.data.tags["code_version"].startswith("0.1.0")
    names = {artifact.path for artifact in client.list_artifacts(parent.info.run_id)}
    assert {
        "scores.parquet",
        "mase_by_candidate.png",
        "coverage_by_candidate.png",
        "coverage_by_step.png",
        "coverage.csv",
    } <= names
    nested = client.search_runs(
        [experiment.experiment_id], filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    )
    by_candidate = {run.data.params["candidate"]: run for run in nested}
    assert set(by_candidate) == set(ran.tested.summary.index)
    for candidate, row in ran.tested.summary.iterrows():
        found = by_candidate[candidate].data
        assert found.metrics["mase"] == pytest.approx(row["mase"])
        assert found.metrics["median_msis"] == pytest.approx(row["median_msis"])
        assert found.params["BTS_HORIZON"] == "12h"
    assert {run.info.status for run in [parent, *nested]} == {"FINISHED"}


def test_nothing_is_published_and_no_champion_made(ran: Ran) -> None:
    assert count(ran.home, "observation") > 0
    assert {table: count(ran.home, table) for table in ("model_version", "champion", "batch", "publication")} == {
        "model_version": 0,
        "champion": 0,
        "batch": 0,
        "publication": 0,
    }
    assert not (ran.home.settings.home / "bundles").exists()


def test_pictures_leave_out_what_has_no_figure(ran: Ran) -> None:
    replayed, catalogue = ran.tested.replayed, ran.home.catalogue
    unknown = replayed.scores.assign(candidate="event_rate", coverage50=np.nan, mase=np.nan)
    more = replace(replayed, scores=pd.concat([replayed.scores, unknown]))
    assert pictures_of(replace(ran.tested, replayed=more), catalogue) == pictures_of(ran.tested, catalogue)
    nothing = replace(replayed, scores=unknown, coverage=replayed.coverage.iloc[:0])
    assert pictures_of(replace(ran.tested, replayed=nothing), catalogue) == {}


class Shown(Exception):
    """What training was given; nothing more is wanted of it."""


def shows(panel: Panel, catalogue: Catalogue, **given: Any) -> Any:
    heard = np.isfinite(panel.values).any(axis=1)
    kept = {name: value for name, value in given.items() if name not in ("on_progress", "clock")}
    raise Shown(panel.end, panel.steps, take_series(panel, np.flatnonzero(heard)).digest, catalogue.digest, kept)


def newest_alone(panel: Panel, catalogue: Catalogue, origins: Any, fit: Any, **_: Any) -> Any:
    """In place of the replay: the training of the newest origin, for which the panel reaches back too far."""
    fit(panel.until((panel.end - origins[-1]) // panel.grid.step), None)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="all_history"),
        pytest.param({"training_span": "2d"}, id="shorter_span"),
        pytest.param({"context": "8d"}, id="context_longer_than_history"),
        pytest.param(
            {"timezone": "Asia/Ho_Chi_Minh", "statistical_max_series": 3, "lstm_width": 32}, id="other_settings"
        ),
    ],
)
def test_training_is_given_what_a_night_would_give_it(
    ran: Ran, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr(versions, "fit_bundle", shows)
    monkeypatch.setattr(experiments, "rolling_backtest", newest_alone)
    home = open_home(load_settings(**settings))
    try:
        with pytest.raises(Shown) as tested:
            experiments.run_backtest(home, 2, timedelta(days=1))
        with pytest.raises(Shown) as night:
            versions.train(home, tested.value.args[0], None)
    finally:
        home.engine.dispose()
    assert tested.value.args == night.value.args


def test_mlflow_being_down_does_not_lose_the_backtest(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    (kept,) = (ran.home.settings.home / "backtests").iterdir()
    kept.unlink()
    monkeypatch.setenv("BTS_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(backtest, "run_backtest", lambda *_: ran.tested)
    result = run()
    assert result.success
    assert "mlflow_run_id" not in said(result)
    assert Path(said(result)["file"]).read_bytes() == ran.tested.parquet

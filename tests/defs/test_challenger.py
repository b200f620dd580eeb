"""The job `retrain` and a challenger's nights over a real home: what the two assets say. Only training is left out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
import pytest
from nights import NIGHT

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.definitions import defs
from bts_assets.defs.schedules import night_config
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.ensemble_weights import one_candidate
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.metrics import METRICS
from bts_assets.services import probation as probations
from bts_assets.services import training as versions
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import ingest
from bts_assets.services.observe import compute_due_days
from bts_assets.settings import load_settings
from bts_assets.storage.decisions import Decision
from bts_assets.storage.model_versions import champion_for, find_version

#: Half a day before the readings end, so that what is forecast has come.
AT = NIGHT - timedelta(hours=12)


@dataclass(frozen=True)
class Ran:
    """What an asset said in a run of its job, and which of its checks passed."""

    run_id: str
    said: dict[str, Any]
    checks: dict[str, tuple[bool, dg.AssetCheckSeverity]]
    version: str
    tags: dict[str, str]


def run(job: str, asset: str) -> Ran:
    with dg.DagsterInstance.ephemeral() as instance:
        result = defs.resolve_job_def(job).execute_in_process(
            instance=instance,
            run_config=night_config(as_of=AT.isoformat()),
            partition_key=f"{AT:%Y-%m-%d}" if job == "nightly" else None,
        )
        tags = dict(instance.get_runs()[0].tags)
    (made,) = (
        e.step_materialization_data.materialization
        for e in result.get_asset_materialization_events()
        if e.asset_key == dg.AssetKey(asset)
    )
    checks = {
        c.check_name: (c.passed, c.severity)
        for c in result.get_asset_check_evaluations()
        if c.asset_key == dg.AssetKey(asset)
    }
    said = {name: value.value for name, value in made.metadata.items()}
    return Ran(result.run_id, said, checks, (made.tags or {})["dagster/data_version"], tags)


def fitted(home: Home, default: str, seed: int) -> FittedBundle:
    """What a training might give whose LSTM is of no use; it scored nothing."""
    weights = one_candidate(tuple(f.name for f in CHEAP), default)
    catalogue = load_catalogue()
    bundle = Bundle(home.settings.grid, ZoneInfo("UTC"), "quick", seed, catalogue=catalogue, weights=weights)
    scores = pd.DataFrame(columns=["candidate", "station_id", "parameter_id", "origin", *METRICS])
    curve = pd.DataFrame({"seed": [0], "step": [40], "loss": [0.5], "validation_loss": [0.6]})
    return FittedBundle(bundle, scores, curve, {"windows_trained": 40, "steps": 40}, {}, truncated=False)


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str], small_network: Any
) -> Iterator[Home]:
    environment = {
        "BTS_HOME": str(tmp_path_factory.mktemp("challenger") / "home"),
        "BTS_DATABASE_URL": new_database(),
        "BTS_LANDING_DIR": str(small_network.landing),
        "BTS_STEP": "1h",
        "BTS_CONTEXT": "1d",
        "BTS_HORIZON": "6h",
        "BTS_FILE_STABLE_FOR": "0s",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(versions, "_register", lambda *_: None)
        home = open_home(load_settings())
        ingest(home, small_network.landing, now=NIGHT)
        compute_due_days(home)
        yield home
        home.engine.dispose()


def retrained(home: Home, default: str, seed: int) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "fit_bundle", lambda *_, **__: fitted(home, default, seed))
        return run("retrain", "challenger_model")


@pytest.fixture(scope="module")
def first(home: Home) -> Ran:
    return retrained(home, "seasonal_naive_day", 1)


@pytest.fixture(scope="module")
def second(home: Home, first: Ran) -> Ran:
    return retrained(home, "last_value", 2)


@pytest.fixture(scope="module")
def quiet_night(home: Home, second: Ran) -> Ran:
    return run("nightly", "challenger_forecasts")


@pytest.fixture(scope="module")
def last_night(home: Home, quiet_night: Ran) -> Ran:
    """The only night of a probation, which has come true by the time that it is over."""
    challenger = find_version(home.engine, 2)
    assert challenger is not None
    probations.begin(home, challenger, 1, 0.0, Decision("probation", "hand", "a test"))
    return run("nightly", "challenger_forecasts")


def test_first_training_serves_at_once(first: Ran) -> None:
    assert (first.said["model_version_id"], first.said["decision"]) == (1, "promoted")
    assert (first.tags["bts/model_version"], first.tags["bts/verdict"]) == ("1", "promoted")
    assert first.said["rules"].records == []
    assert "champion_version_id" not in first.said
    assert first.checks == {"passed_the_gate": (True, dg.AssetCheckSeverity.WARN)}


def test_retrain_says_what_was_decided_and_by_which_rules(home: Home, second: Ran) -> None:
    said = second.said
    assert (said["model_version_id"], said["champion_version_id"], said["decision"]) == (2, 1, "refused")
    with home.engine.connect() as connection:
        query = "SELECT * FROM bts.model_decision ORDER BY decision_id DESC LIMIT 1"
        decision = connection.exec_driver_sql(query).mappings().one()
        digest = connection.exec_driver_sql("SELECT bundle_digest FROM bts.model_version WHERE model_version_id = 2")
        assert second.version == digest.scalar_one()
    assert (said["reason"], second.run_id) == (decision["reason"], decision["dagster_run_id"])
    rules = [record.data for record in said["rules"].records]
    assert rules == [{name: rule[name] for name in ("rule", "passed", "words")} for rule in decision["evidence"]]
    assert second.checks == {"passed_the_gate": (False, dg.AssetCheckSeverity.WARN)}


def test_retrain_shows_how_far_the_forecasts_differ(second: Ran) -> None:
    by_parameter = [record.data for record in second.said["differences_by_parameter"].records]
    by_station = [record.data for record in second.said["differences_by_station"].records]
    assert len({row["station"] for row in by_station}) == 3
    assert all(row["station"].startswith("station ") for row in by_station)  # they have no names here
    assert "Room Temperature" in {row["parameter"] for row in by_parameter}
    assert sum(row["series"] for row in by_parameter) == sum(row["series"] for row in by_station) > 20
    assert [row["median"] for row in by_parameter] == sorted((row["median"] for row in by_parameter), reverse=True)
    for name in ("differences", "worst_series"):
        assert second.said[name].startswith("![")
    assert "errors" not in second.said  # nothing was scored


def test_night_without_a_challenger_says_so(quiet_night: Ran) -> None:
    assert quiet_night.said == {"dagster/row_count": 0, "probation": "no challenger is on probation"}
    assert (quiet_night.version, quiet_night.checks["made_its_batch"][0]) == ("none", True)


def test_night_beside_the_champion_ends_in_a_decision(home: Home, last_night: Ran) -> None:
    said = last_night.said
    assert (said["model_version_id"], said["nights"], said["nights_planned"], said["share"]) == (2, 1, 1, 0.0)
    assert last_night.checks["made_its_batch"] == (True, dg.AssetCheckSeverity.WARN)
    with home.engine.connect() as connection:
        (night,) = connection.exec_driver_sql("SELECT * FROM bts.probation_night").mappings()
        serving = connection.exec_driver_sql("SELECT batch_id FROM bts.latest_batch").scalar()
        (probation,) = connection.exec_driver_sql("SELECT * FROM bts.probation").mappings()
    assert (said["batch_id"], said["shadow_batch_id"]) == (night["batch_id"], night["shadow_batch_id"])
    assert serving == night["batch_id"]
    assert probation["outcome"] == f"{said['decision']}: {said['reason']}"
    assert said["rules"].records[0].data["rule"] == "made_every_batch"
    assert said["errors"].startswith("![")
    champion = champion_for(home.engine, home.settings.grid)
    assert champion is not None
    assert champion.model_version_id == (2 if said["decision"] == "promoted" else 1)


def test_challenger_that_made_no_batch_is_a_warning(
    home: Home, last_night: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = champion_for(home.engine, home.settings.grid)
    assert champion is not None
    challenger = find_version(home.engine, 3 - champion.model_version_id)
    assert challenger is not None
    probations.begin(home, challenger, 2, 0.0, Decision("probation", "hand", "a test"))
    monkeypatch.setattr(probations, "forecast_beside", lambda *_: 1 / 0)
    ran = run("nightly", "challenger_forecasts")
    assert ran.checks == {"made_its_batch": (False, dg.AssetCheckSeverity.WARN)}
    assert "shadow_batch_id" not in ran.said
    assert (ran.said["nights"], ran.said["nights_planned"]) == (1, 2)

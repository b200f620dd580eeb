"""The night as an MLflow project, run by MLflow itself in a process of its own."""

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from nights import NIGHT

from bts_assets.services.home import open_home
from bts_assets.settings import load_settings
from bts_assets.simulation.simulate import NetworkSpec, simulate_network

pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[1]


def mlflow_run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("BTS_")}
    command = [str(Path(sys.executable).with_name("mlflow")), "run", str(CHECKOUT), "-e", "nightly"]
    return subprocess.run(
        [*command, "--env-manager", "local", *arguments],
        env=inherited | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=400,
        check=False,
    )


@pytest.fixture
def environment(tmp_path: Path, database_url: str) -> dict[str, str]:
    """A home of its own on an hourly grid; MLflow keeps its project runs elsewhere."""
    return {
        "BTS_HOME": str(tmp_path / "home"),
        "BTS_DATABASE_URL": database_url,
        "BTS_FILE_STABLE_FOR": "0s",
        "BTS_STEP": "1h",
        "BTS_CONTEXT": "24h",
        "BTS_HORIZON": "6h",
        "BTS_STATISTICAL_MAX_SERIES": "0",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/projects.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # As in an activated environment.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


def test_mlflow_runs_the_night_over_a_landing_folder(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    spec = NetworkSpec(stations=1, days=3, end=NIGHT, seed=7, readings_per_hour=4)
    landing = simulate_network(spec, tmp_path / "landing with a space").landing
    origin = NIGHT - timedelta(hours=3)
    done = mlflow_run(environment, "-P", f"landing={landing}", "-P", f"as_of={origin.isoformat()}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Origin 2026-03-09 21:00 UTC" in done.stdout
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    home = open_home(load_settings())
    with home.engine.connect() as connection:
        (batch,) = connection.exec_driver_sql("SELECT * FROM bts.batch").mappings()
        (version,) = connection.exec_driver_sql("SELECT * FROM bts.model_version").mappings()
    home.engine.dispose()
    assert batch["issued_at"] == origin
    assert batch["forecast"] > 0
    # Two runs, each where it belongs: MLflow's of the command, and the night's of its training.
    (project,) = mlflow.MlflowClient(environment["MLFLOW_TRACKING_URI"]).search_runs(["0"])
    assert (project.info.status, project.data.params["as_of"]) == ("FINISHED", origin.isoformat())
    training = mlflow.MlflowClient(home.mlflow_tracking_uri).get_run(version["mlflow_run_id"])
    assert training.data.tags["bundle_digest"] == version["bundle_digest"]


def test_a_night_that_fails_fails_the_project_run_in_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    done = mlflow_run(environment, "-P", f"landing={tmp_path / 'landing'}")
    assert done.returncode == 1
    assert "bts: nothing has been observed yet" in done.stderr


def test_parameters_are_those_of_the_command() -> None:
    project = yaml.safe_load((CHECKOUT / "MLproject").read_text(encoding="utf-8"))
    assert project["entry_points"]["nightly"]["parameters"].keys() == {"landing", "as_of"}

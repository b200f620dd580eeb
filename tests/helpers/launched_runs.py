"""Whole runs as jobs of a Ray cluster, by the configuration that deploy/ray/launcher.yaml is; no tests are here."""

import sys
import time
from pathlib import Path
from typing import Any, Final

import dagster as dg
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.launcher import LaunchRunContext
from dagster._core.launcher.base import WorkerStatus

CHECKOUT: Final = Path(__file__).parents[2]
PATIENCE: Final = 180


def instance_of(folder: Path, *passed_on: str) -> dg.DagsterInstance:
    """The instance of dagster.yaml and launcher.yaml behind it, on machines of one CPU, which are told of the home."""
    given = yaml.safe_load(
        "\n".join((CHECKOUT / name).read_text() for name in ("dagster.yaml", "deploy/ray/launcher.yaml"))
    )
    ray = given["run_launcher"]["config"]["ray"]
    ray |= {"num_cpus": 1, "env_vars": [*ray["env_vars"], *passed_on]}
    folder.mkdir()
    (folder / "dagster.yaml").write_text(yaml.safe_dump(given))
    return dg.DagsterInstance.from_config(str(folder))


def launched(instance: dg.DagsterInstance, job: str, **asked: Any) -> dg.DagsterRun:
    """Launch a run as the daemon does, and wait for its end."""
    pointer = ModuleCodePointer("bts_assets.definitions", "defs", None)
    code = ReconstructableRepository(pointer, entry_point=[sys.executable, "-m", "dagster"]).get_reconstructable_job(
        job
    )
    run = instance.create_run_for_job(code.get_definition(), job_code_origin=code.get_python_origin(), **asked)
    instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        health = instance.run_launcher.check_run_worker_health(run)
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        if found.is_finished or health.status == WorkerStatus.FAILED:
            return found
        time.sleep(0.5)
    raise AssertionError(instance.run_launcher.get_run_worker_debug_info(run))

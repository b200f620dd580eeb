"""Runs whose process is gone are reported as failed; no others."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from nights import HomeMaker

from bts_assets.defs import abandoned_runs
from bts_assets.defs.abandoned_runs import PROCESS, fail_abandoned, this_process

#: Takes files in as the ingest job does, and is killed while it does.
KILLED = """
import os, signal, sys
import dagster as dg
from bts_assets.definitions import defs
from bts_assets.defs import readings
readings.ingest = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
with dg.DagsterInstance.local_temp(sys.argv[1]) as instance:
    defs.resolve_job_def("ingest").execute_in_process(instance=instance)
"""


def test_a_run_that_was_killed_is_failed_by_the_next_that_looks(make_home: HomeMaker, tmp_path: Path) -> None:
    home, folder = make_home(), tmp_path / "dagster"
    folder.mkdir()
    environment = os.environ | {"BTS_HOME": str(home.settings.home), "BTS_DATABASE_URL": home.url}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder)], env=environment, capture_output=True, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.STARTED
        assert fail_abandoned(instance) == [run.run_id]
        (run,) = instance.get_runs()
        assert run.status == dg.DagsterRunStatus.FAILURE
        assert fail_abandoned(instance) == []


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_runs_of_live_processes_and_of_other_hosts_are_left_alone(instance: dg.DagsterInstance) -> None:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def night() -> None:
        nothing()

    host, boot, pid, started = this_process().split(" ")
    tags = {
        "alive": this_process(),
        "another host": f"elsewhere {boot} {pid} {started}0",
        "not told": "",
        "before the machine was started anew": f"{host} another-boot {pid} {started}",
        "its number was given again": f"{host} {boot} {pid} {started}0",
        "no such process": f"{host} {boot} {2**22 + 1} {started}",
    }
    assert host == socket.gethostname()
    runs = {
        what: instance.create_run_for_job(night, status=dg.DagsterRunStatus.STARTED, tags={PROCESS: tag} if tag else {})
        for what, tag in tags.items()
    }
    failed = fail_abandoned(instance)
    assert {what for what, run in runs.items() if run.run_id in failed} == set(list(tags)[3:])
    context = dg.build_sensor_context(instance=instance)
    assert abandoned_runs.abandoned_runs.evaluate_tick(context).skip_message == "every run has its process"

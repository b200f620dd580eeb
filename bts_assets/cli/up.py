"""`bts up`: Postgres, Dagster's UI and daemon, and MLflow's UI, on loopback, until interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bts_assets.cli import keeper
from bts_assets.cli.render.terminal import out
from bts_assets.cli.run_job import environment, report_abandoned
from bts_assets.cli.up_lock import MARK, served_by_us
from bts_assets.contracts.errors import BtsError
from bts_assets.services.home import open_home
from bts_assets.settings import Settings
from bts_assets.storage.embedded.roles import READER
from bts_assets.storage.postgres import without_secrets
from bts_assets.storage.shipped import shipped

#: Time that children have to end by themselves, seconds.
_PATIENCE: Final = 15


def serve(settings: Settings, dagster_port: int, mlflow_port: int) -> None:
    """Start everything, print where it is, and wait; an interrupt or the end of any part ends all of it.

    Raises:
        BtsError: if this home is served already, a port is taken, or a part ends by itself.
    """
    if dagster_port == mlflow_port and not settings.mlflow_tracking_uri:
        raise BtsError(f"port {dagster_port} cannot serve both Dagster and MLflow: give one of them another")
    with served_by_us(settings.home):
        for port in (dagster_port, mlflow_port):
            _check_free(port)
        _serve(settings, dagster_port, mlflow_port)


def _serve(settings: Settings, dagster_port: int, mlflow_port: int) -> None:
    asked: list[int] = []
    # Before the parts start: a shell that put us into the background lets us ignore interrupts, and so would they.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _frame: asked.append(received))
    home = open_home(settings, say=lambda told: out.print(told, markup=False))
    # A connection held all the while keeps the embedded server from going to sleep.
    with home.engine.connect():
        # The backend's URL holds the password: in the environment it is not shown to every user by `ps`.
        given = {**os.environ, **environment(home), "MLFLOW_BACKEND_STORE_URI": home.mlflow_tracking_uri}
        given[MARK] = str(settings.home)
        for run in report_abandoned(home):
            out.print(f"run {run} was left by a process that is gone: reported as failed")
        logs = settings.home / "logs"
        logs.mkdir(exist_ok=True)
        parts = {
            name: _start(command, given, logs / f"{name}.log")
            for name, command in _commands(settings, dagster_port, mlflow_port).items()
        }
        try:
            _announce(without_secrets(home.urls[READER]), parts, dagster_port, mlflow_port, logs)
            _wait(parts, logs, asked)
        finally:
            _end(list(parts.values()))


def _commands(settings: Settings, dagster_port: int, mlflow_port: int) -> dict[str, list[str]]:
    here = ["--host", "127.0.0.1", "--port"]
    dagster = [sys.executable, "-m", "dagster", "dev", "-w", str(shipped("workspace.yaml")), *here, str(dagster_port)]
    if settings.mlflow_tracking_uri:  # a server of yours has a page of its own
        return {"dagster": dagster}
    artifacts = settings.home / "mlflow" / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    server = [sys.executable, "-m", "mlflow", "server", "--artifacts-destination", artifacts.as_uri(), "--workers", "1"]
    return {"dagster": dagster, "mlflow": [*server, *here, str(mlflow_port)]}


def _start(command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    # At its head a keeper, which ends it all when we are gone without having ended anything.
    kept = [sys.executable, "-m", keeper.__name__, str(os.getpid()), *command]
    with log.open("ab") as sink:
        # A group of its own, so that children that outlive their parent can be ended too.
        return subprocess.Popen(  # noqa: S603 - our own command
            kept, env=dict(environment), stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, start_new_session=True
        )


def _announce(url: str, parts: Mapping[str, object], dagster_port: int, mlflow_port: int, logs: Path) -> None:
    out.print("Serving on loopback until you press Ctrl-C; pages answer after some 15 seconds.\n")
    out.print(f"  Dagster   http://127.0.0.1:{dagster_port}")
    if "mlflow" in parts:
        out.print(f"  MLflow    http://127.0.0.1:{mlflow_port}/#/experiments/1/runs")
    out.print(f"  Postgres  {url}, as a reader; bts url prints it with its password", markup=False)
    out.print(f"  logs      {logs}")


def _wait(parts: Mapping[str, subprocess.Popen[bytes]], logs: Path, asked: list[int]) -> None:
    while not asked:
        for name, part in parts.items():
            if part.poll() is not None:
                raise BtsError(f"{name} ended by itself with status {part.returncode}; see {logs / f'{name}.log'}")
        time.sleep(0.2)
    out.print("\nstopping")


def _end(parts: list[subprocess.Popen[bytes]]) -> None:
    """Let each part's keeper end it, and see to it that its whole process group is gone."""
    for part in parts:
        part.terminate()
    deadline = time.monotonic() + _PATIENCE
    for part in parts:
        while _group_lives(part) and time.monotonic() < deadline:
            part.poll()
            time.sleep(0.1)
        _signal_group(part, signal.SIGKILL)
        part.wait()


def _signal_group(part: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(part.pid, number)
    except ProcessLookupError:
        return


def _group_lives(part: subprocess.Popen[bytes]) -> bool:
    try:
        os.killpg(part.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _check_free(port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise BtsError(f"port {port} of 127.0.0.1 is taken; choose another: bts up --help") from None

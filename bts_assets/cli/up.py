"""`bts up`: the explorer, Postgres, Dagster's UI and daemon, and MLflow's UI, on loopback, until interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bts_assets.cli import keeper, prometheus
from bts_assets.cli.render.terminal import out
from bts_assets.cli.run_job import environment, report_abandoned
from bts_assets.cli.up_lock import MARK, served_by_us
from bts_assets.contracts.errors import BtsError
from bts_assets.services.home import open_home
from bts_assets.settings import Settings
from bts_assets.storage.embedded.roles import READER
from bts_assets.storage.mlflow_pages import trainings_page
from bts_assets.storage.postgres import without_secrets
from bts_assets.storage.served_pages import Pages, keep_pages
from bts_assets.storage.shipped import shipped

#: What we serve pages of.
_NAMES: Final = {"explorer": "the explorer", "dagster": "Dagster", "mlflow": "MLflow", "metrics": "/metrics"}
#: The option of `bts up` that gives the port of each.
_OPTIONS: Final = {
    "explorer": "--port",
    "dagster": "--dagster-port",
    "mlflow": "--mlflow-port",
    "metrics": "--metrics-port",
}

#: Time that children have to end by themselves, seconds.
_PATIENCE: Final = 15


@dataclass(frozen=True)
class Ports:
    """Where each page is served."""

    explorer: int
    dagster: int
    mlflow: int
    metrics: int

    def of(self, settings: Settings) -> dict[str, int]:
        """The ports of what this process serves: an MLflow server of yours has its own."""
        ours = {"explorer": self.explorer, "dagster": self.dagster, "metrics": self.metrics}
        return ours if settings.mlflow_tracking_uri else {**ours, "mlflow": self.mlflow}


def serve(settings: Settings, ports: Ports) -> None:
    """Start everything, print where it is, and wait; an interrupt or the end of any part ends all of it.

    Raises:
        BtsError: if this home is served already, a port is taken, or a part ends by itself.
    """
    asked = ports.of(settings)
    for name, port in asked.items():
        sharing = [other for other in asked if other != name and asked[other] == port]
        if sharing:
            raise BtsError(
                f"{_OPTIONS[name]} {port} cannot serve both {_NAMES[name]} and {_NAMES[sharing[0]]}: give one of them"
                " another"
            )
    with served_by_us(settings.home):
        for name, port in asked.items():
            _check_free(_OPTIONS[name], port)
        _serve(settings, asked)


def _serve(settings: Settings, ports: Mapping[str, int]) -> None:
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
        keep_pages(
            settings.home, Pages(**{name: _address(ports[name]) for name in ("dagster", "mlflow") if name in ports})
        )
        logs = settings.home / "logs"
        logs.mkdir(exist_ok=True)
        parts = {
            name: _start(command, given, logs / f"{name}.log") for name, command in _commands(settings, ports).items()
        }
        try:
            _announce(without_secrets(home.urls[READER]), ports, logs)
            _wait(parts, logs, asked)
        finally:
            _end(list(parts.values()))


def _commands(settings: Settings, ports: Mapping[str, int]) -> dict[str, list[str]]:
    python = [sys.executable, "-m"]

    def at(name: str) -> list[str]:
        return ["--host", "127.0.0.1", "--port", str(ports[name])]

    links = [part for name in ("dagster", "mlflow") if name in ports for part in (f"--{name}", _address(ports[name]))]
    commands = {
        "explorer": [*python, "bts_assets.cli", "explore", *at("explorer"), *links],
        "metrics": [*python, prometheus.__name__, str(ports["metrics"])],
        "dagster": [*python, "dagster", "dev", "-w", str(shipped("workspace.yaml")), *at("dagster")],
    }
    if "mlflow" in ports:
        artifacts = settings.home / "mlflow" / "artifacts"
        artifacts.mkdir(parents=True, exist_ok=True)
        server = ["mlflow", "server", "--artifacts-destination", artifacts.as_uri(), "--workers", "1"]
        commands["mlflow"] = [*python, *server, *at("mlflow")]
    return commands


def _address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _start(command: list[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    # At its head a keeper, which ends it all when we are gone without having ended anything.
    kept = [sys.executable, "-m", keeper.__name__, str(os.getpid()), *command]
    with log.open("ab") as sink:
        # A group of its own, so that children that outlive their parent can be ended too.
        return subprocess.Popen(  # noqa: S603 - our own command
            kept, env=dict(environment), stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, start_new_session=True
        )


def _announce(url: str, ports: Mapping[str, int], logs: Path) -> None:
    out.print("Serving on loopback until you press Ctrl-C; pages answer after some 15 seconds.\n")
    out.print(f"  Explorer  {_address(ports['explorer'])}")
    out.print(f"  Dagster   {_address(ports['dagster'])}")
    if "mlflow" in ports:
        out.print(f"  MLflow    {trainings_page(_address(ports['mlflow']))}")
    out.print(f"  metrics   {_address(ports['metrics'])}/metrics, for Prometheus")
    out.print(f"  Postgres  {url}, as a reader; bts url prints it with its password", markup=False)
    out.print(f"  logs      {logs}")


def _wait(parts: Mapping[str, subprocess.Popen[bytes]], logs: Path, asked: list[int]) -> None:
    while not asked:
        for name, part in parts.items():
            if part.poll() is not None:
                raise BtsError(f"{name} ended, {_ending(part.returncode)}; see {logs / f'{name}.log'}")
        time.sleep(0.2)
    out.print("\nstopping")


def _ending(status: int) -> str:
    """A status as shells have it, in words: above 128 stands the signal."""
    return f"status {status}" if status <= 128 else f"by {signal.Signals(status - 128).name}"


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


def _check_free(option: str, port: int) -> None:
    import socket

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise BtsError(f"{option} {port}: that port of 127.0.0.1 is taken; choose another") from None

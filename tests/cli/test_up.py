"""`bts up`: every page answers, and nothing is left when it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psycopg2
from nights import PublishedNight

BTS = Path(sys.executable).parent / "bts"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str, process: subprocess.Popen[str], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(url, timeout=5) as page:  # noqa: S310 - loopback
                return str(page.read().decode())
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} did not answer within {seconds} s")


def processes_of(home: str) -> list[str]:
    """Command lines of the processes that know this home from their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"BTS_HOME={home}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_up_serves_every_page_and_leaves_nothing_behind(published: PublishedNight) -> None:
    dagster, mlflow = free_port(), free_port()
    environment = {**os.environ, **published.environment}
    command = [BTS, "up", "--dagster-port", str(dagster), "--mlflow-port", str(mlflow)]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert "server_info" not in answers(f"http://127.0.0.1:{dagster}/", process, 90)
            version = answers(f"http://127.0.0.1:{dagster}/server_info", process, 10)
            assert "dagster_version" in version
            assert "MLflow" in answers(f"http://127.0.0.1:{mlflow}/", process, 60)
            # What is listed is what the night recorded: the same instance, the same registry.
            found = answers(
                f"http://127.0.0.1:{mlflow}/api/2.0/mlflow/registered-models/get?name=bts-forecaster", process, 20
            )
            assert '"champion"' in found
            listed = " ".join(processes_of(published.environment["BTS_HOME"]))
            with psycopg2.connect(published.environment["BTS_DATABASE_URL"]) as connection:
                password = connection.info.password
            assert "mlflow" in listed
            assert password not in listed  # a command line is open to every user of the machine
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
    assert f"http://127.0.0.1:{dagster}" in out
    assert process.returncode == 0, err
    deadline = time.monotonic() + 15
    while processes_of(published.environment["BTS_HOME"]) and time.monotonic() < deadline:
        time.sleep(0.5)  # Dagster's orphan watchers look once a second or so
    assert processes_of(published.environment["BTS_HOME"]) == []


def test_a_taken_port_is_one_line(published: PublishedNight) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [BTS, "up", "--dagster-port", port],
            env={**os.environ, **published.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == f"bts: port {port} of 127.0.0.1 is taken; choose another: bts up --help\n"

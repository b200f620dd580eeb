"""A real Ray cluster for tests, a head and a node that talk over TCP; no tests are here."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

#: What the head needs to take jobs; `make test` installs it with Ray.
TAKES_JOBS = find_spec("dagster_ray") is not None and find_spec("aiohttp_cors") is not None


@dataclass(frozen=True)
class RayCluster:
    """Addresses of the cluster: for its own machines, for clients elsewhere, and for jobs where it takes some."""

    address: str
    client: str
    jobs: str


@contextmanager
def two_machines() -> Iterator[RayCluster]:
    """Two machines of a cluster, as far as Ray can tell, of one CPU each."""
    port, client, jobs = free_port(), free_port(), free_port()
    # Below a short path: Ray puts sockets there, whose names must not be long.
    with TemporaryDirectory(prefix="ray-") as folder:
        head = [f"--port={port}", "--head", f"--ray-client-server-port={client}", f"--temp-dir={folder}"]
        head += [f"--include-dashboard={str(TAKES_JOBS).lower()}", f"--dashboard-port={jobs}"]
        ports = ["--min-worker-port=0", "--max-worker-port=0"]
        with _member(folder, *head, *ports), _member(folder, f"--address=127.0.0.1:{port}", *ports):
            yield RayCluster(f"127.0.0.1:{port}", f"ray://127.0.0.1:{client}", f"http://127.0.0.1:{jobs}")


@contextmanager
def _member(folder: str, *options: str) -> Iterator[None]:
    command = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    log = Path(folder) / f"{len(options)}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--node-ip-address=127.0.0.1", "--object-store-memory=100000000", *options],
            env=os.environ | {"PYTHONPATH": searched()}, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + 60
        while b"Ray runtime started" not in log.read_bytes():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def searched() -> str:
    """Where a process of the cluster, or a client of it, finds this code and what tests hand it to do."""
    checkout = Path(__file__).parents[2]
    return os.pathsep.join([str(checkout), str(checkout / "tests" / "helpers"), *sys.path])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""Work as tasks of a Ray cluster, which must run the same code and packages on the same kind of processor as we do.

Ray starts a task anew whose worker or machine died. It is an optional extra, imported when the first work goes there.
"""

import logging
import os
import pickle
import platform
import socket
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import Any, Final, TypeVar

from bts_assets.services.work_part import ONE_THREAD, TRIES, EngineError, Outcome, attempt, died, in_order, result_of
from bts_assets.settings import Settings
from bts_assets.storage.provenance import code_version, machine, packages

P = TypeVar("P")
R = TypeVar("R")

_CONNECT_SECONDS: Final = 5

#: Ray's own words about a worker or a machine that went away.
_DIED: Final = ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "LocalRayletDiedError")


def spread_on_ray(settings: Settings, trains: bool, work: Callable[[P], R], parts: Iterable[P]) -> Iterator[R]:
    """As `Spread` says, on the cluster that is set; where it `trains`, on machines of as many cores as this one.

    Raises:
        EngineError: if Ray is not installed, nothing answers, or a worker is of another kind than this process.
    """
    ray = cluster(settings.ray_address)
    # The environment is set before Python starts: nothing that counts threads is loaded yet.
    alike = {"num_cpus": 1, "max_retries": TRIES - 1, "runtime_env": {"env_vars": _threads(trains)}}
    task = ray.remote(**alike)(_attempt)
    kind, order = _kind() | (_trainer() if trains else {}), ray.put(pickle.dumps(work))

    def finish(reference: Any) -> R:
        try:
            result: R = result_of(ray.get(reference))
        except ray.exceptions.RayError as error:
            raise _explained(error) from error
        return result

    def start(part: P) -> Any:
        return task.remote(kind, order, pickle.dumps(part))

    return in_order(start, finish, ray.cancel, parts, 2 * workers_on_ray(settings))


def cluster(address: str | None) -> Any:
    """Ray, connected.

    Raises:
        EngineError: in one line, if it is not installed or nothing answers.
    """
    if find_spec("ray") is None:
        raise EngineError("BTS_ENGINE=ray needs Ray, which is not installed: pip install 'bts-assets[ray]'")
    import ray

    if not ray.is_initialized():
        try:
            _reach(address)
            ray.init(
                address=address or "auto", log_to_driver=False, logging_level=logging.ERROR, configure_logging=False
            )
            # Of a worker that died Ray tells on standard output, whatever is asked; we tell it ourselves.
            ray._private.worker._worker_logs_enabled = False
        except Exception as error:  # of whatever kind: of a socket, of gRPC, Ray's own
            said = " ".join(str(error).split())[:300] or type(error).__name__
            where = f"at BTS_RAY_ADDRESS={address}" if address else "on this machine, and BTS_RAY_ADDRESS is unset"
            raise EngineError(f"no Ray cluster answers {where}: {said}; start one with ray start") from None
    return ray


def _reach(address: str | None) -> None:
    """Ray itself waits minutes for an address at which nobody answers, and writes to the terminal meanwhile."""
    host, _, port = (address or "").rpartition("://")[2].partition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()


def workers_on_ray(settings: Settings) -> int:
    """Parts that are done at once: as set, else the cluster's CPUs."""
    return settings.workers or max(int(cluster(settings.ray_address).cluster_resources().get("CPU", 1)), 1)


def _kind() -> dict[str, str]:
    """What must be the same for the same bits."""
    here = {"bts-assets": code_version(), "Python": platform.python_version(), **packages()}
    return here | {"processor": str(machine()["processor"])}


def _trainer() -> dict[str, str]:
    """What must be the same besides for a training."""
    return {name: str(machine()[name]) for name in ("cores", "gpus")}


def _threads(trains: bool) -> dict[str, str]:
    """What is set in a worker: Ray itself would set some of it."""
    return {name: os.environ.get(name, _trainer()["cores"]) for name in ONE_THREAD} if trains else ONE_THREAD


def _attempt(kind: dict[str, str], work: bytes, part: bytes) -> Outcome:
    """Within the worker. Nothing is unpacked before it is known to be of our kind."""
    own = _kind() | _trainer()
    other = [f"{name} is {own.get(name)} there, {ours} here" for name, ours in kind.items() if own.get(name) != ours]
    if other:
        return False, EngineError(
            f"the Ray worker on {socket.gethostname()} would not forecast the same bits ({'; '.join(other)}): give all"
            " machines the same image and the same kind of processor"
        )
    return attempt(_unpacked, (work, part))


def _unpacked(both: tuple[bytes, bytes]) -> Any:
    work, part = (pickle.loads(one) for one in both)  # noqa: S301 - our own
    return work(part)


def _explained(error: Exception) -> EngineError:
    said = str(error).strip().splitlines() or [""]
    if type(error).__name__ in _DIED:
        return died(f"{type(error).__name__}: {said[0][:200]}")
    return EngineError(f"Ray failed: {type(error).__name__}: {said[0][:200]}")

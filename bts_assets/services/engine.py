"""Where the parts of a night's work are done: in this process, in processes beside it, or on a Ray cluster.

Parts come back in their order, wherever and in whatever order they were done, and no bit of a result depends on where.
A part whose worker dies is made again by another. Nothing here knows what a part is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bts_assets.contracts.work_sharing import Spread
from bts_assets.services.on_ray import cluster, spread_on_ray, workers_on_ray
from bts_assets.services.processes import in_processes
from bts_assets.services.work_part import AS_HERE, ONE_THREAD
from bts_assets.settings import Settings


@contextmanager
def engine(settings: Settings, *, trains: bool = False) -> Iterator[Spread]:
    """What BTS_ENGINE and BTS_WORKERS say. Workers are started when work comes, and end with the context.

    trains: each has as many threads as this process, or it would not train the same bits; else one.
    """
    if settings.engine == "ray":
        yield partial(spread_on_ray, settings, trains)
    elif is_here(settings):
        yield map
    else:
        with in_processes(workers_of(settings), AS_HERE if trains else ONE_THREAD) as spread:
            yield spread


def is_here(settings: Settings) -> bool:
    """Whether all work is done in this process."""
    return settings.engine == "local" and workers_of(settings) == 1


def workers_of(settings: Settings) -> int:
    """How many workers share the work; one, where it is done in this process.

    Raises:
        EngineError: if it is to be done on Ray, and no cluster answers.
    """
    return workers_on_ray(settings) if settings.engine == "ray" else settings.workers or 1


def described(settings: Settings) -> str:
    """Where work is done, and by how many workers.

    Raises:
        EngineError: if it is to be done on Ray, and no cluster answers.
    """
    if settings.engine == "ray":
        machines = len(cluster(settings.ray_address).nodes())
        there = f"Ray, {machines} machine{'s' if machines > 1 else ''}, {workers_of(settings)} workers"
        # Its server listens on the loopback interface alone.
        return there + ("" if settings.database_url else "; all must be this one, as BTS_DATABASE_URL is unset")
    return "this process" if is_here(settings) else f"{settings.workers} processes on this machine"

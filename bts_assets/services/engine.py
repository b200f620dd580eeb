"""Where the parts of a night's work are done: in this process, in processes beside it, or on a Ray cluster.

Parts come back in their order, wherever and in whatever order they were done, and no bit of a result depends on where.
A part whose worker dies is made again by another. Nothing here knows what a part is.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bts_assets.services.on_ray import spread_on_ray
from bts_assets.services.processes import in_processes
from bts_assets.services.work import Spread
from bts_assets.settings import Settings


@contextmanager
def engine(settings: Settings) -> Iterator[Spread]:
    """What BTS_ENGINE and BTS_WORKERS say. Workers are started when work comes, and end with the context."""
    if settings.engine == "ray":
        yield partial(spread_on_ray, settings)
    elif is_here(settings):
        yield map
    else:
        with in_processes(settings.workers or 1) as spread:
            yield spread


def is_here(settings: Settings) -> bool:
    """Whether all work is done in this process."""
    return settings.engine == "local" and (settings.workers or 1) == 1

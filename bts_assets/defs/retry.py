"""A second try for assets that met a fault which can pass. Which faults those are is decided in `storage`."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import dagster as dg

from bts_assets.defs.night import Night
from bts_assets.services.home import wake
from bts_assets.storage.passing_faults import can_pass

#: Time that a lock or a server that comes up is given before the second try.
SECONDS_TO_WAIT: Final = 5


Parts = Iterator[dg.MaterializeResult | dg.AssetCheckResult]
Result = dg.MaterializeResult | Parts


def retried_once(compute: Callable[..., Result]) -> Callable[..., Result]:
    """An asset's function that is called once more where a lock, a lost connection or a failed serialization ended it.

    Dagster's RetryPolicy would try defects and bad input again too. Nothing is doubled: what had been committed by then
    is found, as by any rerun. The second time the fault is the asset's own, so that its one line reaches the terminal.
    """
    if inspect.isgeneratorfunction(compute):

        @functools.wraps(compute)
        def steps(*args: Any, **kwargs: Any) -> Parts:
            with _once_more(kwargs["night"]):
                yield from cast(Parts, compute(*args, **kwargs))

        return steps

    @functools.wraps(compute)
    def call(*args: Any, **kwargs: Any) -> Result:
        with _once_more(kwargs["night"]):
            return compute(*args, **kwargs)

    return call


@contextmanager
def _once_more(night: Night) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        context = dg.AssetExecutionContext.get()
        if context.retry_number or not can_pass(error):
            raise
        wake(night.home.settings)  # before anything is told: Dagster keeps its events in the same database
        first = (str(error).splitlines() or [""])[0]
        context.log.warning("%s: %s; trying once more in %s s", type(error).__name__, first, SECONDS_TO_WAIT)
        raise dg.RetryRequested(max_retries=1, seconds_to_wait=SECONDS_TO_WAIT) from error

"""What each stage of a night costs: time, processor, memory, rows. Kept beside the batch; measuring costs no night."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, cast

import dagster as dg

from bts_assets.defs.night import Night
from bts_assets.defs.retry import Parts, Result
from bts_assets.services.night_cost import Meter, keep_cost

#: Into logs/bts.log: why the stage itself failed is told in one line, and costs no second one.
log = logging.getLogger("bts.night_cost")


def measured(compute: Callable[..., Result]) -> Callable[..., Result]:
    """An asset's function whose cost is kept in bts.night_stage, whether it ends well or not."""
    if inspect.isgeneratorfunction(compute):

        @functools.wraps(compute)
        def steps(*args: Any, **kwargs: Any) -> Parts:
            yield from _measured(compute.__name__, kwargs["night"], cast(Parts, compute(*args, **kwargs)))

        return steps

    @functools.wraps(compute)
    def call(*args: Any, **kwargs: Any) -> Result:
        (result,) = _measured(compute.__name__, kwargs["night"], _one(compute, args, kwargs))
        return cast(dg.MaterializeResult, result)

    return call


def _one(compute: Callable[..., Result], args: Any, kwargs: Any) -> Parts:
    yield cast(dg.MaterializeResult, compute(*args, **kwargs))


def _measured(stage: str, night: Night, parts: Parts) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    meter, metadata, ended = Meter(datetime.now(UTC)), {}, False
    try:
        for part in parts:
            if isinstance(part, dg.MaterializeResult):
                metadata = dict(part.metadata or {})
            yield part
        ended = True
    finally:
        try:
            keep_cost(night.home, dg.AssetExecutionContext.get().run.run_id, stage, meter, metadata, failed=not ended)
        except Exception as error:
            log.warning("the cost of %s could not be kept: %s", stage, error)

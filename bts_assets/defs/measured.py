"""What each stage of a night costs: time, processor, memory, rows. Kept beside the batch; measuring costs no night."""

import functools
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import dagster as dg

from bts_assets.contracts.origin import Origin
from bts_assets.defs.night import Night
from bts_assets.defs.partitions import told
from bts_assets.defs.retry import Parts, Result
from bts_assets.services.memory import return_memory
from bts_assets.services.night_cost import Meter, keep_cost, keep_cost_of_night

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


def night_by_night(
    context: dg.AssetExecutionContext, night: Night, make: Callable[[Origin], dg.MaterializeResult]
) -> dg.MaterializeResult:
    """What an asset makes of every night of its run, ascending; what each cost is kept with its origin."""
    return told(context, [_one_night(context, night, origin, make) for origin in night.origins])


def _one_night(
    context: dg.AssetExecutionContext, night: Night, origin: Origin, make: Callable[[Origin], dg.MaterializeResult]
) -> dg.MaterializeResult:
    stage, meter, made = context.asset_key.to_user_string(), Meter(datetime.now(UTC), part=True), None
    try:
        made = make(origin)
    finally:
        figures = _figures(made) if made else {}
        with _kept(stage):
            keep_cost_of_night(
                night.home, context.run.run_id, stage, origin.issued_at, meter, figures, failed=made is None
            )
    return made


def _figures(made: dg.MaterializeResult) -> dict[str, Any]:
    """What the metadata says, in Python's own values: of an earlier run they come back as Dagster's."""
    values = made.metadata or {}
    return {name: v.value if isinstance(v, dg.MetadataValue) else v for name, v in values.items()}


def _one(compute: Callable[..., Result], args: Any, kwargs: Any) -> Parts:
    yield cast(dg.MaterializeResult, compute(*args, **kwargs))


def _measured(stage: str, night: Night, parts: Parts) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    meter, metadata, ended = Meter(datetime.now(UTC)), {}, False
    try:
        for part in parts:
            if isinstance(part, dg.MaterializeResult):
                metadata = _figures(part)
            yield part
        ended = True
    finally:
        with _kept(stage):
            keep_cost(night.home, dg.AssetExecutionContext.get().run.run_id, stage, meter, metadata, failed=not ended)
        return_memory()  # the next asset begins with what the program itself takes


@contextmanager
def _kept(stage: str) -> Iterator[None]:
    """That a cost cannot be kept fails nothing."""
    try:
        yield
    except Exception as error:
        log.warning("the cost of %s could not be kept: %s", stage, error)

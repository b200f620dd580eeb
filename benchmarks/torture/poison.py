"""One of many series goes mad: the others' forecasts are the same bit for bit, however the series are portioned."""

from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import numpy as np
from small_nights import GRID, LOAD
from walked_nights import mixed_bundle

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.children import in_child
from benchmarks.torture.stage import Stage
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting import batch as batches

SERIES: Final = 1500
_END: Final = datetime(2026, 3, 10, tzinfo=UTC)
_TRIALS_A_CHILD: Final = 10


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """Ten series in turn, each with a poison and a size of portion of its own."""
    made = FaultTrial()
    seed = random.getrandbits(32)
    ended = in_child(lambda: _poisonings(seed), stage.log)
    made.expect(ended.status == "done", str(ended.value))
    for kind, told in ended.value if ended.status == "done" else ():
        made.land(kind)
        if told:
            made.fail(f"{kind}: {told}")
    return made


def _poisonings(seed: int) -> list[tuple[str, str | None]]:
    drawn = np.random.default_rng(seed)
    values = 40 + 8 * np.sin(np.arange(GRID.context_steps) / 4) + drawn.normal(size=(SERIES, GRID.context_steps))
    sound = _forecast(values)
    told = []
    for kind in drawn.choice(list(_POISONS), _TRIALS_A_CHILD):
        poisoned, row = values.copy(), int(drawn.integers(SERIES))
        poisoned[row] = _POISONS[kind](poisoned[row])
        vars(batches)["_CHUNK"] = int(drawn.choice((97, 256, 1000, 4096)))
        told.append((str(kind), _compared(sound, _forecast(poisoned), row)))
    return told


def _forecast(values: np.ndarray) -> dict[int, bytes]:
    """Station -> the bytes of its quantiles."""
    panel = Panel(GRID, np.arange(1, SERIES + 1), np.full(SERIES, LOAD, np.int32), _END, values)
    batch = batches.make_batch(mixed_bundle(), panel, load_catalogue())
    return {int(s): np.ascontiguousarray(q).tobytes() for s, q in zip(batch.station_id, batch.quantiles, strict=True)}


def _compared(sound: dict[int, bytes], found: dict[int, bytes], row: int) -> str | None:
    others = sound.keys() - {row + 1}
    if missing := others - found.keys():
        return f"series {row + 1} poisoned: {len(missing)} others are gone"
    if changed := [s for s in others if found[s] != sound[s]]:
        return f"series {row + 1} poisoned: {len(changed)} others changed"
    return None


_POISONS: Final[dict[str, Any]] = {
    "all missing": lambda v: np.full_like(v, np.nan),
    "endless": lambda v: np.where(np.arange(len(v)) % 5 == 0, np.inf, v),
    "huge": lambda v: v * 1e300,
    "tiny": lambda v: v * 1e-310,
    "constant": lambda v: np.full_like(v, 7.0),
    "one spike": lambda v: np.where(np.arange(len(v)) == len(v) - 1, 1e18, v),
    "alternating": lambda v: np.where(np.arange(len(v)) % 2 == 0, 1e15, -1e15),
}

"""What a stage of a night cost this process, and the ledger of it."""

import os
import resource
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bts_assets.services.home import Home
from bts_assets.storage.night_cost import keep_part, keep_stage

#: What the metadata of an asset calls the rows that it moved, the first that is there.
_ROWS: Final = ("rows", "observations_computed", "new_rows", "dagster/row_count")
#: Linux keeps the peak of memory since it was last reset.
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class Meter:
    """Runs from when it is made. started_at: when that was, UTC. part: of a stage, whose peak of memory goes on."""

    def __init__(self, started_at: datetime, *, part: bool = False) -> None:
        self.started_at = started_at
        if not part:
            _forget_peak()
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()

    def wall_seconds(self) -> float:
        return time.monotonic() - self._wall

    def cpu_seconds(self) -> float:
        """CPU seconds of this process with all its threads, and of children that have ended."""
        return _cpu_seconds() - self._cpu


def keep_cost(home: Home, run_id: str, stage: str, meter: Meter, metadata: Mapping[str, Any], *, failed: bool) -> None:
    """Keep what a stage cost; tried once more, the later try stands. metadata: the asset's, for rows and bytes."""
    keep_stage(home.engine, {"run_id": run_id, "stage": stage, **_cost(meter, metadata), "failed": failed})


def keep_cost_of_night(
    home: Home, run_id: str, stage: str, issued_at: datetime, meter: Meter, metadata: Mapping[str, Any], *, failed: bool
) -> None:
    """Keep what one night of a stage cost, as `keep_cost` does for all nights of the run."""
    key = {"run_id": run_id, "stage": stage, "issued_at": issued_at}
    keep_part(home.engine, {**key, **_cost(meter, metadata), "failed": failed})


def _cost(meter: Meter, metadata: Mapping[str, Any]) -> dict[str, Any]:
    rows = next((metadata[name] for name in _ROWS if name in metadata), None)
    return {
        "started_at": meter.started_at,
        "wall_seconds": meter.wall_seconds(),
        "cpu_seconds": meter.cpu_seconds(),
        "peak_bytes": peak_bytes(),
        "rows": None if rows is None else int(rows),
        "bytes": metadata.get("bytes"),
    }


def peak_bytes() -> int:
    """Most memory that this process held since the last `Meter` began; where /proc does not tell, since its start."""
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak() -> None:
    try:
        _RESET.write_text("5")
    except OSError:
        return


def _cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system

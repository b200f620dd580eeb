"""A progress bar on standard error, in a log as well as on a terminal: one line, written over while it grows."""

import sys
import threading
import time
from contextlib import suppress
from typing import Final

_WIDTH: Final = 30
#: Seconds between two looks at how far a run is.
_EVERY: Final = 2.0


class Bar:
    """name: what is done; `detail` is told behind it."""

    def __init__(self, name: str) -> None:
        self._name, self._at, self._detail, self._length = name, (0, 0), "", 0
        self._began, self._out = time.monotonic(), sys.stderr  # Dagster's runs have another

    def tell(self, done: int, total: int, detail: str = "") -> None:
        self._at, self._detail = (done, total), detail or self._detail
        line = drawn(self._name, done, total, time.monotonic() - self._began, self._detail)
        self._out.write(f"\r{line:<{self._length}}")
        self._out.flush()
        self._length = len(line)

    def listen(self, stage: str, done: int, total: int) -> None:
        """As `bts_assets.progress` tells of the parts of a stage."""
        self.tell(*self._at, f"{stage} {done:,} of {total:,}")

    def end(self) -> None:
        self._out.write("\n")


class StepsOfRun:
    """Tells a bar, until it is over, how many steps of the newest run of Dagster here have ended, and which goes on."""

    def __init__(self, bar: Bar) -> None:
        self._bar, self._over = bar, threading.Event()

    def __enter__(self) -> None:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._bar.end()

    def _look(self) -> None:
        while not self._over.wait(_EVERY):
            with suppress(Exception):  # before there is a run there is no table of them; what it tells is no figure
                done, total, going = _steps()
                if going:  # else it is the run before
                    self._bar.tell(done, total, going)


def _steps() -> tuple[int, int, str]:
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        run = instance.get_runs(limit=1)[0]
        plan = instance.get_execution_plan_snapshot(str(run.execution_plan_snapshot_id))
        stats = instance.get_run_step_stats(run.run_id)
    going = [one.step_key for one in stats if one.start_time and not one.end_time]
    return sum(one.end_time is not None for one in stats), len(plan.step_keys_to_execute), ", ".join(going)


def drawn(name: str, done: int, total: int, seconds: float, detail: str) -> str:
    """E.g. `the night [######      ] 3 of 12, 0:42  station_forecasts`."""
    full = round(_WIDTH * done / total) if total else 0
    minutes, rest = divmod(int(seconds), 60)
    return f"{name} [{'#' * full:<{_WIDTH}}] {done:,} of {total:,}, {minutes}:{rest:02}  {detail}"

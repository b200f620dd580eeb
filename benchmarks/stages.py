"""Stage by stage: ours, what a user would pick instead, and the limit, at growing amounts of work, in one table.

    python -m benchmarks.stages [--growth 1 10 100] [--only STAGE] [--record]

| stage | work, at 100 | instead | limit |
| --- | --- | --- | --- |
| landing | 24 files of 165,000 rows, to observations at rest | steps of the tutorial's script | Arrow's reader |
| small files | 5,000 files of 4 rows, the same | the same | the same |
| training | 1,200 series, steps of 256 windows, 336 to 48 steps | neuralforecast's LSTM | matrix products |
| statistical | 600 series, four models each | statsforecast on means an hour | its kernels, all cores |
| forecasting | 1,500 series of 192 steps, panel to quantiles | neuralforecast's LSTM | matrix products |
| publishing | the same, forecast and published | `to_sql` | binary COPY, same key |
| scoring | the same, read and scored | pandas: read, merge, group | binary COPY out of the rows |
| reading | a series of 2,000, ten nights stored | pandas: read, filter | range of a primary key |

Each way, at each amount, runs in a process of its own, one after the other, so that its peak memory is its own; seconds
leave out imports and what is prepared. The limit of the network is the time that the machine's products of float32
matrices would take for the useful operations alone. Without `make bench-references` a Keras LSTM a series stands for
neuralforecast's training, and statsforecast's seasonal naive for its forecasts. A way that would take more than ten
minutes, by its time for less work, is left out. `--record` enters the figures, under the commit, in
docs/performance.json (stages that are not measured keep theirs of the same commit), and draws docs/performance.png.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from benchmarks import records, stage_report
from benchmarks.stage_figures import Figures
from benchmarks.stage_network import REFERENCES

ROLES: Final = ("ours", "instead", "limit")
#: A way that would take longer is left out, s.
LONGEST: Final = 600


@dataclass(frozen=True)
class Stage:
    """unit: of its work; way: module and function that measure a role at a growth."""

    unit: str
    way: str

    def measured(self, role: str, growth: int) -> Figures:
        module, name = self.way.split(".")
        measure: Callable[[str, int], Figures] = getattr(import_module(f"benchmarks.{module}"), name)
        return measure(role, growth)


STAGES: Final = {
    "landing": Stage("rows", "stage_landing.landing"),
    "small files": Stage("rows", "stage_landing.small"),
    "training": Stage("windows", "stage_network.training"),
    "statistical": Stage("series", "stage_statistical.statistical"),
    "forecasting": Stage("forecast rows", "stage_network.forecasting"),
    "publishing": Stage("forecast rows", "publishing.grown"),
    "scoring": Stage("forecast rows", "stage_scoring.scoring"),
    "reading": Stage("reads", "stage_reading.reading"),
}


def measured_apart(stage: str, role: str, growth: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.stages", "--way", stage, role, "--growth", str(growth)]
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    whole = time.perf_counter() - start
    sys.stderr.write(
        f"{stage}, {role}, {growth}: {found['work']:,.0f} in {found['seconds']:.2f} s ({whole:.0f} s in all)\n"
    )
    return found


def measured(stages: list[str], growths: list[int]) -> list[dict[str, Any]]:
    """A row per stage and amount of work; a role that would take too long is None."""
    rows = []
    for stage in stages:
        before: dict[str, Figures | None] = {}
        for number, growth in enumerate(growths):
            row: dict[str, Any] = {"stage": stage, "growth": growth, "unit": STAGES[stage].unit}
            for role in ROLES:
                last = before.get(role)
                more = growth / growths[number - 1] if number else 1
                # Some ways do the same work at each amount: theirs says so.
                if number and (last is None or last["seconds"] * more > LONGEST):
                    row[role] = before[role] = None
                else:
                    row[role] = before[role] = measured_apart(stage, role, growth)
            rows.append(row)
    return rows


def record(figures: list[dict[str, Any]]) -> None:
    """Enter the figures under the commit that they were measured on, and draw all that are entered."""
    instead = "neuralforecast" if REFERENCES.exists() else "a Keras LSTM a series"
    new = records.entry(training_instead=instead, stages=figures)
    entries = records.read(stage_report.RECORD)
    same = [e for e in entries if e["commit"] == new["commit"]]
    again = {row["stage"] for row in figures}
    kept = [row for e in same for row in e["stages"] if row["stage"] not in again]
    order = list(STAGES)
    new["stages"] = sorted([*kept, *figures], key=lambda row: (order.index(row["stage"]), row["growth"]))
    entries = [e for e in entries if e["commit"] != new["commit"]] + [new]
    records.write(stage_report.RECORD, entries)
    stage_report.draw(entries, list(STAGES), stage_report.PICTURE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--growth", type=int, nargs="+", default=[1, 10, 100], help="amounts of work, in multiples")
    parser.add_argument("--only", action="append", choices=STAGES, help="this stage; may be given again")
    parser.add_argument(
        "--record", action="store_true", help="enter the figures in docs/performance.json, draw the picture"
    )
    parser.add_argument("--way", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        stage, role = arguments.way
        found = STAGES[stage].measured(role, arguments.growth[0])
        found.setdefault("peak_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    figures = measured(arguments.only or list(STAGES), sorted(arguments.growth))
    sys.stdout.write(stage_report.as_table(figures) + "\n")
    if arguments.record:
        record(figures)


if __name__ == "__main__":
    main()

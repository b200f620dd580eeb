"""Stage by stage: ours, what a user would pick instead, and the limit, at growing amounts of work, in one table.

    python -m benchmarks.stages [--growth 1 10 100] [--record]

| stage | work, at 100 | instead | limit |
| --- | --- | --- | --- |
| landing | 24 files of 165,000 rows, to observations at rest | steps of the tutorial's script | Arrow's reader |
| training | 1,200 series, steps of 256 windows, 336 to 48 steps | neuralforecast's LSTM | matrix products |
| publishing | 1,500 series of 192 steps, forecast and published | `to_sql` | binary COPY, same key |

Each way, at each amount, runs in a process of its own, one after the other, so that its peak memory is its own; seconds
leave out imports and what is prepared. The limit of training is the time that the machine's products of float32
matrices would take for the useful operations alone. Without `make bench-references` a Keras LSTM a series stands for
neuralforecast. `--record` enters the figures, under the commit, in docs/performance.json and draws
docs/performance.png from all that are entered.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

CHECKOUT: Final = Path(__file__).parent.parent
RECORD: Final = CHECKOUT / "docs" / "performance.json"
PICTURE: Final = CHECKOUT / "docs" / "performance.png"
REFERENCES: Final = CHECKOUT / ".bts-references" / "bin" / "python"
ROLES: Final = ("ours", "instead", "limit")
#: Series that are trained on, times the growth.
_SERIES: Final = 12
Figures = dict[str, float]


def landing(role: str, growth: int) -> Figures:
    """Rows of landing files to observations at rest; the files have just been written, and are in the page cache."""
    import pyarrow.csv

    from benchmarks import landing as ways

    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        Path(folder).chmod(0o755)  # for the unprivileged user that a root's server runs as
        files, out = Path(folder) / "files", Path(folder) / "out"
        files.mkdir()
        out.mkdir()
        ways.write_files(files, 24, 1_650 * growth)
        if role == "ours":
            home = ways.prepare_home(out)
            try:
                return _timed(24 * 1_650 * growth, lambda: ways.ingested_way(files, home))
            finally:
                home.engine.dispose()
                ways.embedded.stop(home.settings.home)
        if role == "instead":
            return _timed(24 * 1_650 * growth, lambda: ways.tutorial_way(files, out))
        # A row with a field too many ends Arrow's reader; ours rejects it.
        options = pyarrow.csv.ParseOptions(invalid_row_handler=lambda _: "skip")
        read = [file.read_bytes() for file in sorted(files.iterdir())]
        return _timed(
            24 * 1_650 * growth,
            lambda: [pyarrow.csv.read_csv(pyarrow.BufferReader(data), parse_options=options) for data in read],
        )


def training(role: str, growth: int) -> Figures:
    """Windows that a network is trained on, once it is compiled."""
    from benchmarks import training as ways

    series, calls = _SERIES * growth, 4
    if role == "instead" and REFERENCES.exists():
        return _of_references(series)
    from bts_assets.forecasting.architecture import design

    panel = ways.example_panel(24, 40, 14, 2, series)
    from bts_assets.forecasting.training_plan import STEPS_PER_CALL

    windows = calls * STEPS_PER_CALL * ways.BATCH
    if role == "ours":
        per_second, _ = ways.measure_global(panel, calls)
        return {"work": windows, "seconds": windows / per_second}
    if role == "instead":
        return {"work": windows, "seconds": windows / ways.measure_tutorial(panel)}
    return {
        "work": windows,
        "seconds": windows * operations(design(panel.grid, panel.parameter_id)) / peak_operations(),
    }


def operations(arch: Any) -> int:
    """Floating-point operations of the matrix products that one window takes, forwards and twice as many backwards."""
    from bts_assets.forecasting.lstm import build

    total = 0
    for variable in build(arch).trainable_variables:
        layer = variable.path.split("/")[0]
        if len(variable.shape) == 2 and layer != "parameter":  # an embedding is looked up
            times = arch.tokens if layer in ("patch", "first_lstm", "second_lstm") else 1
            total += 2 * int(np.prod(variable.shape)) * times
    return 3 * total


def peak_operations() -> float:
    """Floating-point operations a second of this machine's products of float32 matrices, all cores: the best of ten."""
    a, b = (np.random.default_rng(n).normal(size=(2048, 2048)).astype(np.float32) for n in (0, 1))
    best = min(_timed(1, lambda: a @ b)["seconds"] for _ in range(10))
    return float(2 * 2048**3 / best)


def publishing(role: str, growth: int) -> Figures:
    """Forecast rows, from a panel in memory to rows that readers see."""
    from benchmarks import publishing as ways

    return ways.measured(role, 15 * growth)


STAGES: Final[dict[str, tuple[str, Callable[[str, int], Figures]]]] = {
    "landing": ("rows", landing),
    "training": ("windows", training),
    "publishing": ("forecast rows", publishing),
}


def _timed(work: int, run: Callable[[], object]) -> Figures:
    start = time.perf_counter()
    run()
    return {"work": work, "seconds": time.perf_counter() - start}


def _of_references(series: int) -> Figures:
    command = [str(REFERENCES), "-m", "benchmarks.training_references", str(series)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - ours
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    return found


def measured_apart(stage: str, role: str, growth: int) -> Figures:
    command = [sys.executable, "-m", "benchmarks.stages", "--way", stage, role, "--growth", str(growth)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
    found: Figures = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"{stage}, {role}, {growth}: {found['work']:,.0f} in {found['seconds']:.2f} s\n")
    return found


def as_table(figures: list[dict[str, Any]]) -> str:
    """One line per stage and amount: speed of ours, how much faster than instead, share of the limit, memory."""
    lines = [
        "| stage | work | ours, a second | instead | ratio | limit | share of it | peak memory of ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures:
        speed = {role: row[role]["work"] / row[role]["seconds"] for role in ROLES}
        lines.append(
            f"| {row['stage']} | {_work(row)} | {speed['ours']:,.0f}"
            f" | {speed['instead']:,.0f} | {speed['ours'] / speed['instead']:.1f} | {speed['limit']:,.0f}"
            f" | {speed['ours'] / speed['limit']:.0%} | {row['ours']['peak_mib']:,.0f} MiB |"
        )
    return "\n".join(lines)


def _work(row: dict[str, Any]) -> str:
    series = f" of {_SERIES * row['growth']:,} series" if row["stage"] == "training" else ""
    return f"{row['ours']['work']:,.0f} {STAGES[row['stage']][0]}{series}"


def record(figures: list[dict[str, Any]]) -> None:
    """Enter the figures under the commit that they were measured on, and draw all that are entered."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True, cwd=CHECKOUT  # noqa: S607
    ).stdout.strip()  # fmt: skip
    entries = json.loads(RECORD.read_text()) if RECORD.exists() else []
    entry = {
        "commit": commit,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "training_instead": "neuralforecast" if REFERENCES.exists() else "a Keras LSTM a series",
        "stages": figures,
    }
    entries = [e for e in entries if e["commit"] != commit] + [entry]
    RECORD.write_text(json.dumps(entries, indent=1) + "\n")
    draw(entries, PICTURE)


def draw(entries: list[dict[str, Any]], path: Path) -> None:
    """Ratio to what a user would pick instead, and share of the limit, by amount of work; a line a commit."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 6.2), layout="constrained")
    axes = figure.subplots(2, len(STAGES), squeeze=False)
    for column, (stage, (unit, _)) in enumerate(STAGES.items()):
        for row, (role, label) in enumerate(
            (("instead", "speed, of what a user would pick"), ("limit", "speed, of the limit"))
        ):
            ax = axes[row][column]
            for n, entry in enumerate(entries):
                rows = [r for r in entry["stages"] if r["stage"] == stage]
                work = [r["ours"]["work"] if stage != "training" else _SERIES * r["growth"] for r in rows]
                ratio = [_speed(r["ours"]) / _speed(r[role]) for r in rows]
                last = n == len(entries) - 1
                ax.plot(work, ratio, "o-", color="#0072b2" if last else "#b0b0b0", label=entry["commit"][:7])
            ax.set_xscale("log")
            ax.set_ylim(bottom=0)
            ax.grid(alpha=0.3)
            ax.set_xlabel("series" if stage == "training" else unit)
            ax.set_ylabel(label)
            if row == 0:
                ax.set_title(stage)
            else:
                ax.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes[0][0].legend(title="commit", fontsize=8)
    figure.savefig(path, dpi=110)


def _speed(figures: Figures) -> float:
    return figures["work"] / figures["seconds"]


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
        found = STAGES[stage][1](role, arguments.growth[0])
        found.setdefault("peak_mib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        sys.stdout.write(json.dumps(found) + "\n")
        return
    figures = [
        {"stage": stage, "growth": growth} | {role: measured_apart(stage, role, growth) for role in ROLES}
        for stage in arguments.only or STAGES
        for growth in arguments.growth
    ]
    sys.stdout.write(as_table(figures) + "\n")
    if arguments.record:
        record(figures)


if __name__ == "__main__":
    main()

"""Nights of `benchmarks.scale` by commit: docs/scale.json, and the picture docs/scale.png of them.

Entries without a commit were entered by hand, from docs/scale.md of their date.
"""

from pathlib import Path
from typing import Any, Final

from benchmarks import records
from benchmarks.records import CHECKOUT, Entry

RECORD: Final = CHECKOUT / "docs" / "scale.json"
PICTURE: Final = CHECKOUT / "docs" / "scale.png"
#: Stages that the picture tells apart, of the night's wall time.
_SHOWN: Final = {
    "all": "#000000",
    "station_forecasts": "#0072b2",
    "grouped_series": "#e69f00",
    "forecast_scores": "#009e73",
    "readings": "#cc79a7",
}
#: Panel -> its unit, and its lines: figure -> (label, colour, what a unit is).
_PANELS: Final[dict[str, tuple[str, dict[str, tuple[str, str, float]]]]] = {
    "CPU of the night": (
        "seconds",
        {"cpu_s": ("the night's process", "#0072b2", 1), "postgres_cpu_s": ("Postgres", "#d55e00", 1)},
    ),
    "peak memory of the night's process": ("GiB", {"peak_bytes": ("", "#000000", 2**30)}),
    "added on disk": (
        "MB",
        {
            "postgres_added_bytes": ("in Postgres", "#d55e00", 1e6),
            "files_added_bytes": ("in files", "#0072b2", 1e6),
        },
    ),
}


def record(stations: int, found: dict[str, dict[str, Any]]) -> None:
    """Enter a night under its commit, and draw all that are entered."""
    night, history = found["night"]["stages"], found["champion"]["stages"]["all"]
    new = records.entry(stations=stations, series=found["night"]["series"], history=history, stages=night)
    kept = [e for e in records.read(RECORD) if (e["commit"], e["stations"]) != (new["commit"], stations)]
    records.write(RECORD, [*kept, new])
    draw([*kept, new], PICTURE)


def draw(entries: list[Entry], path: Path) -> None:
    """The newest night of each number of stations, joined; earlier ones, pale. Hollow: entered by hand."""
    from matplotlib.figure import Figure

    newest = sorted({e["stations"]: e for e in entries}.values(), key=lambda e: e["stations"])
    older = [e for e in entries if e not in newest]
    figure = Figure(figsize=(10, 7.4), layout="constrained")
    wall, *others = figure.subplots(2, 2).flat
    for stage, colour in _SHOWN.items():
        _line(wall, newest, older, lambda e, stage=stage: e["stages"].get(stage, {}).get("wall_s"), stage, colour)
    wall.set_title("wall time of the night")
    wall.set_ylabel("seconds")
    for ax, (title, (unit, lines)) in zip(others, _PANELS.items(), strict=True):
        for name, (label, colour, of) in lines.items():
            _line(ax, newest, older, lambda e, name=name, of=of: _of_all(e, name, of), label, colour)
        ax.set_title(title)
        ax.set_ylabel(unit)
    for ax in (wall, *others):
        ax.set_xlabel("stations, 20 series each")
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xticks([e["stations"] for e in newest], [f"{e['stations']:,}" for e in newest])
        ax.set_xticks([], minor=True)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        ax.grid(alpha=0.3)
        if len(ax.get_legend_handles_labels()[0]):
            ax.legend(fontsize=8)
    others[1].set_yscale("linear")
    others[1].set_ylim(bottom=0)
    figure.suptitle(_when(newest), fontsize=9)
    figure.savefig(path, dpi=90)


def _line(ax: Any, newest: list[Entry], older: list[Entry], value: Any, label: str, colour: str) -> None:
    known = [(e, value(e)) for e in newest if value(e) is not None]
    ax.plot([e["stations"] for e, _ in known], [v for _, v in known], "-", color=colour, label=label or None)
    for pale, entries in ((False, newest), (True, older)):
        for entry in entries:
            at = value(entry)
            if at is not None:
                face = colour if entry["commit"] else "white"
                alpha = 0.3 if pale else 1.0
                ax.plot(entry["stations"], at, "o", color=colour, markerfacecolor=face, alpha=alpha, markersize=5)


def _of_all(entry: Entry, name: str, unit: float) -> float | None:
    found = entry["stages"]["all"].get(name)
    return None if found is None else found / unit


def _when(newest: list[Entry]) -> str:
    """A line each, e.g. `14,000 stations: by hand (hollow), 2026-11-26, older code, under load`."""
    told = []
    for entry in newest:
        source = entry["commit"][:7] if entry["commit"] else "by hand (hollow)"
        said = [source + f", {entry['measured_at'][:10]}", *([entry["note"]] if entry.get("note") else [])]
        told.append(f"{entry['stations']:,} stations: {', '.join(said)}")
    return "\n".join(told)

"""What `benchmarks.stages` measured, as a table and as a picture."""

from pathlib import Path
from typing import Any, Final

from benchmarks.records import CHECKOUT, Entry
from benchmarks.stage_figures import speed
from benchmarks.stage_network import TRAINED
from benchmarks.stage_reading import STATIONS

RECORD: Final = CHECKOUT / "docs" / "performance.json"
PICTURE: Final = CHECKOUT / "docs" / "performance.png"

_INSTEAD: Final = "#0072b2"
_LIMIT: Final = "#d55e00"
_COLUMNS: Final = 4


def as_table(figures: list[dict[str, Any]]) -> str:
    """One line per stage and amount: speed of ours, how much faster than instead, share of the limit, memory."""
    lines = [
        "| stage | work | ours, a second | instead | ratio | limit | share of it | peak memory of ours |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in figures:
        ours = speed(row["ours"])
        instead, limit = (speed(row[role]) if row[role] else None for role in ("instead", "limit"))
        cells = [
            row["stage"],
            _work(row),
            _number(ours),
            _number(instead),
            f"{ours / instead:,.1f}" if instead else "-",
            _number(limit),
            f"{ours / limit:.0%}" if limit else "-",
            f"{row['ours']['peak_mib']:,.0f} MiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _number(rate: float | None) -> str:
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def _grows(row: dict[str, Any]) -> tuple[float, str]:
    """What grows: the work, but where this is the same at each amount."""
    if row["stage"] == "training":
        return TRAINED * row["growth"], "series"
    if row["stage"] == "reading":
        return STATIONS * row["growth"], "stored stations"
    return row["ours"]["work"], row.get("unit", "forecast rows" if row["stage"] == "publishing" else "rows")


def _work(row: dict[str, Any]) -> str:
    unit = row.get("unit", "forecast rows" if row["stage"] == "publishing" else "rows")
    grows, of = _grows(row)
    return f"{row['ours']['work']:,.0f} {unit}" + (f", {grows:,.0f} {of}" if of != unit else "")


def draw(entries: list[Entry], stages: list[str], path: Path) -> None:
    """Speed of ours over that of what a user would pick, and over the limit, by amount of work; other commits pale."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    measured = {row["stage"] for entry in entries for row in entry["stages"]}
    stages = [stage for stage in stages if stage in measured]
    across = min(_COLUMNS, len(stages))
    depth = -(-len(stages) // across)
    figure = Figure(figsize=(3.1 * across, 3.4 * depth + 0.4), layout="constrained")
    axes = figure.subplots(depth, across, squeeze=False)
    for place, ax in enumerate(axes.flat):
        if place >= len(stages):
            ax.set_visible(False)
            continue
        every = [[row for row in entry["stages"] if row["stage"] == stages[place]] for entry in entries]
        known = [rows for rows in every if rows]
        for rows in known:
            last = rows is known[-1]
            for role, colour in (("instead", _INSTEAD), ("limit", _LIMIT)):
                points = [(_grows(row)[0], speed(row["ours"]) / speed(row[role])) for row in rows if row[role]]
                alpha = 1.0 if last else 0.25
                ax.plot(*zip(*points, strict=True), "o-", color=colour, alpha=alpha, markersize=4)
        ax.axhline(1, color="#606060", linewidth=0.8)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.grid(alpha=0.3)
        ax.set_title(stages[place])
        ax.set_xlabel(_grows(known[-1][0])[1])
        if place % across == 0:
            ax.set_ylabel("speed of ours, in multiples of")
    handles = [axes[0][0].plot([], [], "o-", color=colour)[0] for colour in (_INSTEAD, _LIMIT)]
    labels = ["what a user would pick instead", "the physical limit"]
    title = "strong: the newest figures of each stage; pale: those of earlier commits"
    figure.legend(handles, labels, loc="outside upper center", ncols=2, title=title, frameon=False)
    figure.savefig(path, dpi=90)

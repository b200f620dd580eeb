"""A rehearsal as a picture: a line per planted fault, with when it was noticed and when its harm came; false alarms."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bts_assets.plots import style


@dataclass(frozen=True)
class Line:
    """A fault: its name, from when on it was there, when it was noticed first, and when a limit was passed or else
    what it does came; None: it was not."""

    name: str
    began_at: datetime
    noticed_at: datetime | None
    happened_at: datetime | None


def rehearsal(lines: list[Line], false_alarms: list[datetime], start: datetime, end: datetime, caption: str) -> bytes:
    """Time runs to the right; a fault that is noticed before its harm has its dot left of the cross."""
    figure = style.figure_of(style.WIDTH, 1.6 + 0.36 * (len(lines) + 1))
    axes: Any = figure.add_subplot()  # its stubs know no dates
    for row, line in enumerate(reversed(lines), start=1):
        axes.plot([line.began_at, end], [row, row], color=style.INTERVAL_80, linewidth=6, solid_capstyle="butt")
        if line.happened_at is not None:
            axes.plot([line.happened_at], [row], "x", color=style.LIMIT, markersize=9, markeredgewidth=2)
        if line.noticed_at is not None:
            axes.plot([line.noticed_at], [row], "o", color=style.ACTUALS, markersize=7)
    axes.plot(false_alarms, [0] * len(false_alarms), "|", color=style.OBSERVED, markersize=14)
    axes.plot([], [], color=style.INTERVAL_80, linewidth=6, label="fault")
    axes.plot([], [], "o", color=style.ACTUALS, label="first noticed")
    axes.plot([], [], "x", color=style.LIMIT, markeredgewidth=2, label="its harm")
    axes.set_yticks(range(len(lines) + 1), labels=["false alarms", *(line.name for line in reversed(lines))])
    axes.set_ylim(-0.6, len(lines) + 0.6)
    style.plain(axes)
    style.dates(axes, start, end)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="upper left", bbox_to_anchor=(0, 1.12))
    style.caption(figure, caption)
    return style.png_of(figure)

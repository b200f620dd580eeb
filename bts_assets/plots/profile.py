"""A picture of what data looks like, as PNG bytes: where it is missing, how it spreads; it computes histograms only."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from bts_assets.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The most parameters that are drawn: the first ones.
_MOST: Final = 60

_BINS: Final = 48
#: Pixels that a station's name takes across.
_LEGIBLE: Final = 13
#: Characters of a station's name that are drawn.
_NAME: Final = 16

# Inches. Places are given, not found: to find them, matplotlib lays out every text once more, and takes twice as long.
_ROW, _COLUMN, _ABOVE, _BELOW, _BAR, _SPREAD, _RANGE = 0.24, 0.26, 0.4, 1.2, 0.6, 2.4, 1.3


def data_at_a_glance(missing: pd.DataFrame, values: Mapping[str, np.ndarray], made_by: str = "") -> bytes:
    """A row per title: shares of missing steps by station, 0 to 1, and a histogram of its values beside them.

    `missing` has a row per title, at least one, and a column per station, NaN where there is no such series. A
    histogram goes from the least to the greatest value, which stand beside it; its heights are roots, so that rare
    values show; what is not finite is not drawn. `made_by` (which data) stands below.
    """
    from matplotlib.figure import Figure

    missing = missing.iloc[:_MOST]
    rows, stations = missing.shape
    names = 0.2 + 0.068 * max(map(len, missing.index))
    room = max(1.5, style.WIDTH - names - _BAR - _SPREAD - _RANGE)
    shares, height = float(np.clip(_COLUMN * stations, 1.5, room)), _ROW * rows
    width = names + shares + _BAR + _SPREAD + _RANGE
    figure = Figure(figsize=(width, _ABOVE + height + _BELOW), dpi=100)

    def axes(left: float, across: float) -> Any:
        at = (left / width, _BELOW / (height + _ABOVE + _BELOW))
        drawn = figure.add_axes((*at, across / width, height / (height + _ABOVE + _BELOW)))
        style.plain(drawn)
        drawn.grid(visible=False)
        return drawn

    _shares(figure, axes(names, shares), axes(names + shares + 0.08, 0.1), missing)
    _spread(axes(names + shares + _BAR, _SPREAD), [values[title] for title in missing.index])
    figure.text(
        (names + shares + _BAR) / width, 0.3 / (height + _ABOVE + _BELOW), made_by, fontsize=7.5, color=style.QUIET
    )
    return style.png_of(figure)


def _shares(figure: "Figure", axes: Any, bar: Any, missing: pd.DataFrame) -> None:
    from matplotlib.colors import PowerNorm

    # A root, so that one step in a hundred can be told from none.
    norm = PowerNorm(0.35, vmin=0, vmax=1)
    drawn = axes.imshow(missing.to_numpy(dtype=float), cmap="Oranges", norm=norm, aspect="auto", interpolation="none")
    axes.set_facecolor("0.88")
    axes.set_title("missing, by station (grey: no series)", loc="left", fontsize=8)
    axes.set_yticks(range(len(missing)), missing.index)
    # As many names as do not run into each other.
    every = -(-int(_LEGIBLE * len(missing.columns)) // max(1, int(axes.get_window_extent().width)))
    named = [_cut(str(name)) for name in missing.columns[:: max(every, 1)]]
    axes.set_xticks(range(0, len(missing.columns), max(every, 1)), named, rotation=90)
    figure.colorbar(drawn, cax=bar, ticks=[0, 0.01, 0.1, 0.3, 1], format=lambda share, _: f"{100 * share:.0f} %")
    bar.tick_params(labelsize=7)


def _cut(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"


def _spread(axes: Any, values: list[np.ndarray]) -> None:
    across = np.repeat(np.linspace(0, 1, _BINS + 1), 2)[1:-1]
    for row, mine in enumerate(values):
        known = mine[np.isfinite(mine)]
        if not len(known):
            continue
        counts, edges = np.histogram(known, _BINS)
        heights = np.repeat(np.sqrt(counts / counts.max()) * 0.85, 2)
        axes.fill_between(across, row + 0.5, row + 0.5 - heights, color=style.OBSERVED, linewidth=0)
        axes.text(1.02, row, f"{style.number(edges[0])} to {style.number(edges[-1])}", fontsize=7, va="center")
    axes.set_title("observed values, least to greatest (height: root of their number)", loc="left", fontsize=8)
    axes.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(len(values) - 0.5, -0.5))

"""How every picture looks: colours, sizes, number formats. A change of look is made here."""

from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Dark, orange and blue differ in lightness as well as in hue: told apart by colour-blind readers, and in print.
OBSERVED: Final = "#1f2937"
FORECAST: Final = "#b8460e"
INTERVAL_80: Final = "#f2a56b"
INTERVAL_90: Final = "#fbdcc0"
ACTUALS: Final = "#0072b2"
LIMIT: Final = "#9f1239"
QUIET: Final = "#6b7280"
OUTAGE: Final = "#eee8cf"
ALARM: Final = "#9c1c1c"
ALERT: Final = "#7a3cb0"

#: Inches at `DPI`: 900 pixels, which is what Dagster's metadata shows without cutting off the right end.
WIDTH: Final = 9.0
DPI: Final = 100


def figure_of(width: float, height: float) -> "Figure":
    # Figure itself, not pyplot: no global state, no display, safe in threads.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def png_of(figure: "Figure", dpi: int = DPI) -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)


def caption(figure: "Figure", text: str) -> None:
    """A line below the picture that says what it was made of, or how to read it; nothing where there is none to say."""
    if not text:
        return
    figure.supxlabel(text, x=0.01, horizontalalignment="left", fontsize=7.5, color=QUIET)


def dates(axes: Any, first: datetime, last: datetime) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    axes.xaxis.get_offset_text().set_fontsize(8)
    if first < last:
        axes.set_xlim(first, last)


def engineering(axis: Any, values: np.ndarray) -> None:
    """Ticks as 46 k and 3 m where plain numbers would be long, never as powers of ten."""
    from matplotlib.ticker import EngFormatter

    largest = np.nanmax(np.abs(values), initial=0.0)
    if largest >= 1e4 or 0 < largest < 1e-2:
        axis.set_major_formatter(EngFormatter(sep=" "))


def number(value: float, digits: int = 4) -> str:
    """So many digits, or all that stand before the point, in groups of three."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.{digits}g}"


def colours(count: int) -> Iterator[str]:
    """Colours that can be told apart, none of them that of the forecast."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return (to_hex(colormaps["viridis"](share)) for share in np.linspace(0, 0.9, max(count, 1)))

"""How the plots of this room look: colours, sizes, number formats.

Lines and bands of the explorer have colours of their own: explorer/picture.py, explorer/static/explorer.css.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, tzinfo
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Dark, orange and blue differ in lightness as well as in hue: told apart by colour-blind readers, and in print.
OBSERVED: Final = "#1f2937"
FORECAST: Final = "#b8460e"
INTERVAL_80: Final = "#f2a56b"
INTERVAL_90: Final = "#fbdcc0"
ACTUALS: Final = "#0072b2"
LIMIT: Final = "#9f1239"
QUIET: Final = "#6b7280"
OUTAGE: Final = "#ebe9da"
ALARM: Final = "#9c1c1c"
ALERT: Final = "#7a3cb0"

#: Kind of a span in time -> what the legend calls it, its colour, and which part of the height it takes.
SPANS: Final = {
    "outage": ("planned outage", OUTAGE, (0.0, 1.0)),
    "alarm": ("operator's alarm", ALARM, (0.97, 1.0)),
    "alert": ("alert", ALERT, (0.0, 0.03)),
}

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


def attempted(draw: Callable[..., T], *of: Any) -> T | None:
    """What `draw` draws, or None where it fails, which a warning says: no work fails for a picture of it."""
    try:
        return draw(*of)
    except Exception as error:
        log.warning("a picture could not be drawn, and is left out: %s: %s", type(error).__name__, error)
        return None


def plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)


def caption(figure: "Figure", text: str) -> None:
    """A line below the picture that says what it was made of, or how to read it; nothing where there is none to say."""
    if not text:
        return
    figure.supxlabel(text, x=0.01, horizontalalignment="left", fontsize=7.5, color=QUIET)


def dates(axes: Any, first: datetime, last: datetime, zone: tzinfo = UTC) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=zone, minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
    axes.xaxis.get_offset_text().set_fontsize(8)
    if first < last:
        axes.set_xlim(first, last)


def limit_line(axes: Any, value: float, told: str, colour: str = LIMIT) -> None:
    """A dashed line across the picture, with its name at the left end, where no forecast is."""
    axes.axhline(value, color=colour, linewidth=0.9, linestyle="--")
    at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": 7}
    axes.annotate(told, (0, value), (3, 2), color=colour, **at)


def span(axes: Any, kind: str, within: tuple[datetime, datetime], ends: tuple[datetime, datetime]) -> None:
    """An outage as a light field, an alarm as a stripe along the top, an alert along the bottom from its flag on.

    What lies outside of `ends`, those of the picture, is not drawn.
    """
    begin, end = max(within[0], ends[0]), min(within[1], ends[1])
    if within[0] > ends[1] or within[1] < ends[0]:
        return
    _, colour, (bottom, top) = SPANS[kind]
    axes.axvspan(begin, max(begin, end), bottom, top, color=colour, linewidth=1.5, zorder=0)
    if kind == "alert":
        axes.plot([begin], [0.06], ">", color=colour, markersize=5, transform=axes.get_xaxis_transform())


def span_handle(kind: str) -> Any:
    """What a legend shows of a kind of spans."""
    from matplotlib.patches import Patch

    name, colour, _ = SPANS[kind]
    return Patch(color=colour, label=name)


def engineering(axis: Any, values: np.ndarray) -> None:
    """Ticks as 46 k and 3 m where plain numbers would be long, never as powers of ten."""
    from matplotlib.ticker import EngFormatter

    largest = np.nanmax(np.abs(values), initial=0.0)
    if largest >= 1e4 or 0 < largest < 1e-2:
        axis.set_major_formatter(EngFormatter(sep=" "))


def number(value: float, digits: int = 4) -> str:
    """So many digits, or all that stand before the point, in groups of three, unless they are over fifteen."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:,.{digits}g}"


def colours(count: int) -> Iterator[str]:
    """Colours that can be told apart, none of them that of the forecast."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return (to_hex(colormaps["viridis"](share)) for share in np.linspace(0, 0.9, max(count, 1)))

"""Charts as PNG bytes, as explorer.js draws them: the same lines, colours, axis and zone; and bars beside baselines."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from bts_assets.explorer.chart import Chart
from bts_assets.explorer.words import drawable, number, with_unit
from bts_assets.plots import style

#: Those of explorer.css, in the light.
INK: Final = "#1b2430"
QUIET: Final = "#55616f"
FORECAST: Final = "#0072b2"
LIMIT: Final = "#b3470a"
#: Its bands over white: what is see-through there would let the grid through here.
BAND_80: Final = "#8ebfdd"
BAND_90: Final = "#d9eaf4"
#: In the order of the page's own.
_LEGEND: Final = ("observed", "forecast (median)", "80 % interval", "90 % interval", "origin",
                  *(name for name, _, _ in style.SPANS.values()))  # fmt: skip
#: A bar is at most so many times as long as the median one: one series after an outage shall not flatten the rest.
_LONGEST: Final = 2.5


def draw_charts(shown: Sequence[Chart], made_by: str) -> bytes:
    """One panel per chart, at least one, one below the other; `made_by` (batch, version, origin) stands below."""
    figure = style.figure_of(style.WIDTH, 4.2 if len(shown) == 1 else 2.6 * len(shown))
    for i, chart in enumerate(shown):
        _draw(figure.add_subplot(len(shown), 1, i + 1), chart)
    drawn = {h.get_label(): h for axes in figure.axes for h in axes.get_legend_handles_labels()[0]}
    drawn |= {h.get_label(): h for h in map(style.span_handle, {mark.kind for chart in shown for mark in chart.marks})}
    figure.legend(
        handles=[drawn[name] for name in _LEGEND if name in drawn],
        frameon=False,
        fontsize=7.5,
        loc="outside upper left",
        ncols=7,
    )
    style.caption(figure, f"{drawable(made_by)} · times in {shown[0].zone.key}")
    return style.png_of(figure)


def _draw(axes: Any, chart: Chart) -> None:
    times: Any = chart.times

    def line(name: str) -> np.ndarray:
        return np.array([np.nan if v is None else v for v in chart.lines[name]], dtype=np.float64)

    if "q50" in chart.lines:
        axes.fill_between(times, line("q05"), line("q95"), color=BAND_90, linewidth=0, label="90 % interval")
        axes.fill_between(times, line("q10"), line("q90"), color=BAND_80, linewidth=0, label="80 % interval")
        axes.plot(times, line("q50"), color=FORECAST, linewidth=1.5, label="forecast (median)")
    axes.plot(times, line("observed"), color=INK, linewidth=0.9, label="observed")
    axes.set_ylim(chart.axis.low, chart.axis.high)
    for mark in chart.marks:
        style.span(axes, mark.kind, (mark.begins_at, mark.ends_at), (chart.times[0], chart.times[-1]))
    if chart.origin is not None:
        axes.axvline(chart.origin, color=QUIET, linewidth=1, linestyle=":", label="origin")
    outside = []
    for name, limit in (("high limit", chart.high), ("low limit", chart.low)):
        told = f"{name} {with_unit(limit, drawable(chart.unit))}"
        if limit is not None and limit in chart.limits:
            style.limit_line(axes, limit, told, LIMIT)
        elif limit is not None:
            outside.append(told)
    for instant, value in chart.axis.far:
        _name_far(axes, chart, instant, value)
    axes.set_title(drawable(chart.full_title), loc="left", fontsize=9)
    if outside:
        axes.set_title(", ".join(outside), loc="right", fontsize=7, color=QUIET)
    axes.set_ylabel(drawable(chart.unit), fontsize=8)
    axes.yaxis.set_major_formatter("{x:,.10g}")  # of a large counter all digits, for it goes on by ones
    style.dates(axes, chart.times[0], chart.times[-1], chart.zone)
    style.plain(axes)


def _name_far(axes: Any, chart: Chart, instant: Any, value: float) -> None:
    """The farthest value that the axis leaves out, at the edge where the line leaves it."""
    up = value > chart.axis.high
    late = instant > chart.times[len(chart.times) * 3 // 4]
    axes.annotate(
        f"{'↑ up to' if up else '↓ down to'} {with_unit(value, drawable(chart.unit))}",
        (instant, chart.axis.high if up else chart.axis.low), (-4 if late else 4, -9 if up else 3),
        textcoords="offset points", fontsize=7, color=QUIET, horizontalalignment="right" if late else "left",
    )  # fmt: skip


def draw_bars(values: Sequence[tuple[str, float, float | None]], title: str, label: str, made_by: str) -> bytes:
    """A horizontal bar per entry, the first on top: its name, its value, and what a stroke beside it stands for.

    Bars that are much longer than the others are cut, with an arrow; the number beside each is the whole.
    """
    longest = max(1.0, _LONGEST * float(np.median([value for _, value, _ in values])))
    figure = style.figure_of(8, 1.5 + 0.32 * len(values))
    axes = figure.add_subplot()
    for place, (_, value, best) in enumerate(values):
        cut = value > longest
        axes.barh(place, min(value, longest), color=FORECAST)
        if best is not None:
            axes.plot([min(best, longest)] * 2, [place - 0.46, place + 0.46], color=INK, linewidth=2.5)
        axes.annotate(
            f"{'▶ ' * cut}{number(value, 3)}" + (f", best baseline {number(best, 3)}" if cut and best else ""),
            (max(min(value, longest), min(best or 0.0, longest)), place), (5, 0),
            textcoords="offset points", fontsize=8, verticalalignment="center",
        )  # fmt: skip
    axes.barh(0, 0, color=FORECAST, label="served")
    axes.plot([], [], color=INK, linewidth=2.5, label="best baseline")
    axes.set_yticks(range(len(values)), [drawable(name) for name, _, _ in values])
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, longest * 1.45)
    axes.set_xlabel(label)
    axes.set_title(title, loc="left", fontsize=10)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], frameon=False, fontsize=8, loc="outside upper left", ncols=2)
    style.plain(axes)
    axes.grid(visible=False)
    style.caption(figure, made_by)
    return style.png_of(figure)

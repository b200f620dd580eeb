"""Forecasts with their history, and a panel at a glance, as PNG bytes; nothing is computed."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.plots import style

if TYPE_CHECKING:
    from bts_assets.contracts.panel import Panel

_STORED: Final = [QUANTILES.index(q) for q in STORED_QUANTILES]
#: Share of the history's newest values that decides the axis; what lies far outside is marked at its edge.
_ORDINARY: Final = (1, 99)
#: So much of a longer context is drawn: in more, a forecast of two days could not be seen.
HISTORY: Final = timedelta(days=14)
#: Numbers beyond are drawn there: the axes' own arithmetic has to stay finite.
_FURTHEST: Final = 1e100
#: Zeros are those of outages where no more than this share of the values is zero.
_OUTAGES: Final = 0.1


@dataclass(frozen=True)
class Forecast:
    """One series' history and forecast, to be drawn.

    history: values of the steps before `issued_at`, the newest last, NaN where missing; the newest `HISTORY` of it is
    kept, from the first known value on. quantiles: (horizon, 5) for `STORED_QUANTILES`, or (horizon, 9) for
    `QUANTILES`. truth: the actuals, or what `truth_is` says, (horizon,). All in `unit`. spans: (outage, alarm or
    alert; from; to), marked where they meet the picture. Times are drawn in UTC.
    """

    title: str
    unit: str
    step: timedelta
    issued_at: datetime
    history: np.ndarray
    quantiles: np.ndarray
    truth: np.ndarray | None = None
    low_limit: float | None = None
    high_limit: float | None = None
    truth_is: str = "actuals"
    spans: Sequence[tuple[str, datetime, datetime]] = ()

    def __post_init__(self) -> None:
        for name in ("history", "quantiles", "truth"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, _drawable(values))
        history = self.history[-(HISTORY // self.step) :]
        known = np.flatnonzero(np.isfinite(history))
        object.__setattr__(self, "history", history[known[0] if len(known) else 0 :])

    @property
    def stored(self) -> np.ndarray:
        return self.quantiles if self.quantiles.shape[1] == len(STORED_QUANTILES) else self.quantiles[:, _STORED]

    @property
    def limits(self) -> list[tuple[str, float]]:
        both = (("low limit", self.low_limit), ("high limit", self.high_limit))
        return [(name, value) for name, value in both if value is not None]

    def history_times(self) -> list[datetime]:
        return [self.issued_at - n * self.step for n in range(len(self.history), 0, -1)]

    def target_times(self) -> list[datetime]:
        return [self.issued_at + n * self.step for n in range(len(self.quantiles))]


def _drawable(values: np.ndarray) -> np.ndarray:
    return np.clip(values, -_FURTHEST, _FURTHEST)


def forecasts(shown: Sequence[Forecast], made_by: str = "", dpi: int = style.DPI) -> bytes:
    """One panel per forecast, at least one, one below the other; `made_by` (batch, version, source) stands below."""
    figure = style.figure_of(style.WIDTH, 4.2 if len(shown) == 1 else 2.7 * len(shown))
    kinds = [kind for kind in style.SPANS if any(kind == span[0] for forecast in shown for span in forecast.spans)]
    for i, forecast in enumerate(shown):
        _draw(figure.add_subplot(len(shown), 1, i + 1), forecast, legend=i == 0, kinds=kinds)
    style.caption(figure, " · ".join(filter(None, (made_by, "times in UTC"))))
    return style.png_of(figure, dpi)


def panel_at_a_glance(panel: "Panel", names: Sequence[tuple[str, str]], rows: Sequence[int], made_by: str) -> bytes:
    """A few series of a panel over its whole span, one below the other; `names`: title and unit of each row."""
    figure = style.figure_of(style.WIDTH, 1.0 + 1.3 * max(len(rows), 1))
    times = [panel.start + n * panel.grid.step for n in range(panel.steps)]
    for i, (row, (title, unit)) in enumerate(zip(rows, names, strict=True)):
        axes: Any = figure.add_subplot(len(rows), 1, i + 1)
        values = _drawable(panel.values[row])
        low, high = _ordinary(values)
        axes.plot(times, values, color=style.OBSERVED, linewidth=0.8)
        _set_range(axes, low, high)
        axes.set_title(title, loc="left", fontsize=8)
        axes.set_title("; ".join(_mark_outside(axes, times, values, low, high)), loc="right", fontsize=7)
        axes.set_ylabel(unit, fontsize=8)
        style.dates(axes, times[0], times[-1])
        style.plain(axes)
        style.engineering(axes.yaxis, np.array([low, high]))
        if i < len(rows) - 1:
            axes.set_xticklabels([])
    style.caption(figure, " · ".join(filter(None, (made_by, "gaps are steps without a reading", "times in UTC"))))
    return style.png_of(figure)


def as_markdown(png: bytes) -> str:
    """The picture as Dagster's UI shows it in metadata."""
    return f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})"


def value_range(forecast: Forecast) -> tuple[float, float]:
    """What the axis shows: the forecast, the actuals and the ordinary part of the history.

    All of the history where that is at most twice as much; an outage must not squash a week of ordinary values.
    """
    return _ordinary(forecast.history, forecast.stored.ravel(), *([] if forecast.truth is None else [forecast.truth]))


def _ordinary(history: np.ndarray, *kept: np.ndarray) -> tuple[float, float]:
    """The ends of what is `kept` and of the ordinary part of a history."""
    known = history[np.isfinite(history)]
    usual = known[known != 0] if (known == 0).sum() <= _OUTAGES * len(known) else known
    inner = np.concatenate([*kept, np.percentile(usual, _ORDINARY) if len(usual) else usual])
    low, high = np.nanmin(inner, initial=np.inf), np.nanmax(inner, initial=-np.inf)
    if not np.isfinite(low):
        return 0.0, 1.0
    room = max(high - low, 1e-9 * max(abs(low), abs(high), 1e-3))
    bottom, top = known.min(initial=low), known.max(initial=high)
    return max(bottom, low - room / 2) if bottom >= low - room / 2 else low, top if top <= high + room / 2 else high


def _draw(axes: Any, forecast: Forecast, legend: bool, kinds: Sequence[str] = ()) -> None:
    history, targets, q = forecast.history_times(), forecast.target_times(), forecast.stored
    axes.plot(history, forecast.history, color=style.OBSERVED, linewidth=0.9, label="observed")
    axes.fill_between(targets, q[:, 0], q[:, 4], color=style.INTERVAL_90, linewidth=0, label="90 % interval")
    axes.fill_between(targets, q[:, 1], q[:, 3], color=style.INTERVAL_80, linewidth=0, label="80 % interval")
    axes.plot(targets, q[:, 2], color=style.FORECAST, linewidth=1.4, label="forecast (median)")
    if forecast.truth is not None:
        axes.plot(targets, forecast.truth, color=style.ACTUALS, linewidth=1.0, label=forecast.truth_is)
    low, high = value_range(forecast)
    outside = _mark_outside(axes, history, forecast.history, low, high)
    notes = [*outside, *_draw_limits(axes, forecast, low, high)]
    _set_range(axes, low, high, 0.3 if legend else 0.16)
    for kind, begin, end in forecast.spans:
        style.span(axes, kind, (begin, end), (history[0], targets[-1]))
    axes.axvline(targets[0], color=style.QUIET, linewidth=0.8, linestyle=":")
    at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 7, "color": style.QUIET}
    above = 20 if any(kind == "alert" for kind, *_ in forecast.spans) else 3  # clear of its flag
    axes.annotate(f"origin {targets[0]:%d %b %H:%M}", (targets[0], 0), (4, above), **at)
    axes.set_title(forecast.title, loc="left", fontsize=9)
    if notes:
        axes.set_title("; ".join(notes), loc="right", fontsize=7, color=style.QUIET)
    axes.set_ylabel(forecast.unit, fontsize=8)
    style.engineering(axes.yaxis, np.array([low, high]))
    style.dates(axes, history[0], targets[-1])
    style.plain(axes)
    if legend:
        _explain(axes, kinds)


def _set_range(axes: Any, low: float, high: float, above: float = 0.16) -> None:
    room = (high - low) or abs(high) or 1.0
    axes.set_ylim(low - 0.08 * room, high + above * room)


def _explain(axes: Any, kinds: Sequence[str]) -> None:
    """The legend, with the kinds of spans that any of the panels has."""
    handles = [*axes.get_legend_handles_labels()[0], *map(style.span_handle, kinds)]
    axes.legend(handles=handles, frameon=False, fontsize=7, loc="upper left", ncols=6, columnspacing=1.2)


def _mark_outside(axes: Any, times: Sequence[datetime], values: np.ndarray, low: float, high: float) -> list[str]:
    """A triangle at the edge for each observed value that lies outside; what they were, in words."""
    said = []
    for outside, edge, marker, worst in (
        (values < low, low, "v", np.nanmin),
        (values > high, high, "^", np.nanmax),
    ):
        if outside.any():
            when = [t for t, is_outside in zip(times, outside, strict=True) if is_outside]
            axes.plot(when, np.full(len(when), edge), marker, color=style.OBSERVED, markersize=3.5, clip_on=False)
            extreme = style.number(float(worst(values[outside])))
            said.append(f"{marker.replace('v', '▼').replace('^', '▲')} {outside.sum()} observed, to {extreme}")
    return said


def _draw_limits(axes: Any, forecast: Forecast, low: float, high: float) -> list[str]:
    """A dashed line for each limit within reach, named on it; those out of the picture, in words."""
    said, room = [], high - low
    for name, value in forecast.limits:
        if low - 0.08 * room <= value <= high + 0.16 * room:
            style.limit_line(axes, value, f"{name} {style.number(value)}")
        else:
            said.append(f"{name} {style.number(value)}, {'below' if value < low else 'above'} the picture")
    return said

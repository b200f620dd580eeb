"""Pictures as PNG bytes: forecasts with their history, training curves, a panel at a glance; nothing is computed."""

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bts_assets.contracts.grid import QUANTILES, STORED_QUANTILES

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bts_assets.contracts.panel import Panel

OBSERVED: Final = "#3b4252"
FORECAST: Final = "#c2410c"
_TRUTH: Final = "#2563eb"
_STORED: Final = [QUANTILES.index(q) for q in STORED_QUANTILES]


@dataclass(frozen=True)
class Forecast:
    """One series' history and forecast, to be drawn.

    history: values of the steps before `issued_at`, the newest last, NaN where missing. quantiles: (horizon, 5) for
    `STORED_QUANTILES`, or (horizon, 9) for `QUANTILES`. truth: the actuals, or what `truth_is` says, (horizon,). All in
    `unit`.
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

    @property
    def stored(self) -> np.ndarray:
        return self.quantiles if self.quantiles.shape[1] == len(STORED_QUANTILES) else self.quantiles[:, _STORED]

    def history_times(self) -> list[datetime]:
        return [self.issued_at - n * self.step for n in range(len(self.history), 0, -1)]

    def target_times(self) -> list[datetime]:
        return [self.issued_at + n * self.step for n in range(len(self.quantiles))]


def forecasts(shown: Sequence[Forecast]) -> bytes:
    """One panel per forecast, below each other in up to two columns. At least one."""
    columns = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // columns)
    figure = figure_of(11 if columns == 1 else 14, 4.6 if rows == 1 else 3.1 * rows)
    for i, forecast in enumerate(shown):
        _draw(figure.add_subplot(rows, columns, i + 1), forecast, legend=i == 0)
    return png_of(figure)


def training_curve(curve: "pd.DataFrame") -> bytes:
    """Loss by step, a line per seed, on training windows and on the holdout window. Columns as `FittedBundle.curve`."""
    figure = figure_of(8, 4)
    axes = figure.add_subplot()
    for seed, part in curve.groupby("seed"):
        axes.plot(part["step"], part["loss"], color=OBSERVED, alpha=0.6, label="training" if seed == 0 else None)
        axes.plot(part["step"], part["validation_loss"], color=FORECAST, label="holdout window" if seed == 0 else None)
    axes.set(xlabel="optimiser step", ylabel="pinball loss, scaled", title="Training")
    axes.legend(frameon=False)
    plain(axes)
    return png_of(figure)


def bars(values: "pd.Series", title: str, label: str) -> bytes:
    """A horizontal bar per entry, the first on top."""
    figure = figure_of(8, 1.2 + 0.32 * max(len(values), 1))
    axes = figure.add_subplot()
    drawn = axes.barh([str(i) for i in values.index[::-1]], values.to_numpy()[::-1], color=OBSERVED)
    axes.bar_label(drawn, fmt="{:,.4g}", padding=4, fontsize=8)
    axes.set(title=title, xlabel=label)
    axes.margins(x=0.12)
    plain(axes)
    axes.grid(visible=False)
    return png_of(figure)


def candidates(means: "pd.Series", medians: "pd.Series", metric: str, served: str) -> bytes:
    """Two bars per candidate, the first candidate on top: a metric's mean and its median; `served` stands out."""
    names = [str(name) for name in means.index[::-1]]
    figure = figure_of(8, 1.4 + 0.5 * len(names))
    axes = figure.add_subplot()
    at = np.arange(len(names))
    colours = [FORECAST if name == served else OBSERVED for name in names]
    for values, shift, alpha, label in ((means, 0.2, 1.0, "mean"), (medians, -0.2, 0.45, "median")):
        drawn = axes.barh(at + shift, values.to_numpy()[::-1], 0.38, color=colours, alpha=alpha, label=label)
        axes.bar_label(drawn, fmt="{:,.3f}", padding=4, fontsize=8)
    axes.set(title=f"{metric} per candidate: mean (dark) and median (light), less is better")
    axes.set(xlabel=f"{metric} over series and origins", yticks=at, yticklabels=names)
    axes.margins(x=0.12, y=0.02)
    plain(axes)
    axes.grid(visible=False)
    return png_of(figure)


def coverage(measured: "pd.DataFrame", served: str) -> bytes:
    """A line per candidate (row): the share of actuals within each interval, whose nominal share its column ends in.

    Shares are from 0 to 1; the grey band is 3 points around what is stated.
    """
    figure = figure_of(8, 5)
    axes = figure.add_subplot()
    nominal = np.sort([int(str(name).removeprefix("coverage")) for name in measured.columns])
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle=":", label="as stated")
    axes.fill_between([0, 100], [-3, 97], [3, 103], color="0.9", linewidth=0)
    others = _colours(len(measured) - 1)
    for name, row in measured.iterrows():
        shares = [100 * row[f"coverage{share}"] for share in nominal]
        style = {"color": FORECAST, "linewidth": 2.2, "zorder": 3} if name == served else {"color": next(others)}
        axes.plot(nominal, shares, marker="o", markersize=4, label=str(name), **style)
    axes.set(title="Coverage of the central intervals", xlabel="stated, %", ylabel="measured, %")
    axes.set(xlim=(nominal[0] - 4, 100), ylim=(min(nominal[0] - 8, 100 * measured.to_numpy().min() - 6), 101))
    axes.set_xticks(nominal)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    plain(axes)
    return png_of(figure)


def coverage_by_step(measured: "Mapping[str, pd.DataFrame]", step: timedelta) -> bytes:
    """One panel per title: the share of actuals within each interval (column, per cent) by steps ahead (index)."""
    columns = min(3, len(measured))
    rows = -(-len(measured) // columns)
    figure = figure_of(5 * columns + 2, 3.2 * rows)
    shades = {50: 0.45, 80: 0.7, 90: 1.0}
    for i, (title, frame) in enumerate(measured.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        hours = frame.index.to_numpy() * (step / timedelta(hours=1))
        for share, alpha in shades.items():
            axes.axhline(share, color=FORECAST, alpha=alpha, linewidth=0.8, linestyle=":")
            axes.plot(hours, 100 * frame[share], color=FORECAST, alpha=alpha, marker=".", label=f"{share} % interval")
        axes.set_title(title, loc="left", fontsize=9)
        axes.set(ylim=(0, 103), xlim=(0, None))
        axes.set_xlabel("hours ahead", fontsize=8)
        axes.set_ylabel("measured coverage, %", fontsize=8)
        plain(axes)
        if i == 0:
            figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=len(shades))
    return png_of(figure)


def panel_at_a_glance(panel: "Panel", titles: Sequence[str], rows: Sequence[int]) -> bytes:
    """A few series of a panel over its whole span, one below the other."""
    import pandas as pd

    figure = figure_of(12, 1.0 + 1.3 * max(len(rows), 1))
    times = pd.date_range(start=panel.start, periods=panel.steps, freq=panel.grid.step)
    for i, (row, title) in enumerate(zip(rows, titles, strict=True)):
        axes = figure.add_subplot(len(rows), 1, i + 1)
        axes.plot(times, panel.values[row], color=OBSERVED, linewidth=0.8)
        axes.set_title(title, loc="left", fontsize=8)
        _dates(axes, times[0], times[-1])
        plain(axes)
        if i < len(rows) - 1:
            axes.set_xticklabels([])
    return png_of(figure)


def as_markdown(png: bytes) -> str:
    """The picture as Dagster's UI shows it in metadata."""
    return f"![picture](data:image/png;base64,{base64.b64encode(png).decode()})"


def _draw(axes: Any, forecast: Forecast, legend: bool) -> None:
    history, targets, q = forecast.history_times(), forecast.target_times(), forecast.stored
    axes.plot(history, forecast.history, color=OBSERVED, linewidth=0.9, label="observed")
    axes.fill_between(targets, q[:, 0], q[:, 4], color=FORECAST, alpha=0.15, linewidth=0, label="90 % interval")
    axes.fill_between(targets, q[:, 1], q[:, 3], color=FORECAST, alpha=0.22, linewidth=0, label="80 % interval")
    axes.plot(targets, q[:, 2], color=FORECAST, linewidth=1.3, label="forecast")
    if forecast.truth is not None:
        axes.plot(targets, forecast.truth, color=_TRUTH, linewidth=0.9, label=forecast.truth_is)
    axes.axvline(targets[0], color="0.6", linewidth=0.8, linestyle=":")
    low, high = axes.get_ylim()
    for limit in (forecast.low_limit, forecast.high_limit):
        # A limit far off would squeeze the series into a line.
        if limit is not None and low - (high - low) <= limit <= high + (high - low):
            axes.axhline(limit, color="#b91c1c", linewidth=0.8, linestyle="--")
    axes.set_title(forecast.title, loc="left", fontsize=9)
    axes.set_ylabel(forecast.unit, fontsize=8)
    _dates(axes, history[0], targets[-1])
    plain(axes)
    if legend:
        axes.legend(frameon=False, fontsize=7, loc="upper left", ncols=5)
        axes.margins(y=0.18)


def _colours(count: int) -> Iterator[str]:
    """Colours that can be told apart, none of them that of the forecast."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return (to_hex(colormaps["viridis"](share)) for share in np.linspace(0, 0.9, max(count, 1)))


def _dates(axes: Any, first: datetime, last: datetime) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=4, maxticks=9)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    if first < last:
        axes.set_xlim(first, last)


def plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", alpha=0.25, linewidth=0.5)


def figure_of(width: float, height: float) -> "Figure":
    # Figure itself, not pyplot: no global state, no display, safe in threads.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=100)


def png_of(figure: "Figure") -> bytes:
    out = BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()

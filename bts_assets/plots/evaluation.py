"""How a training went and what candidates are worth, as PNG bytes: losses, errors and coverage; nothing is computed."""

from collections.abc import Mapping
from datetime import timedelta

import numpy as np
import pandas as pd

from bts_assets.plots import style


def training_curve(curve: pd.DataFrame, made_by: str) -> bytes:
    """Loss by step, a line per seed, on training windows and on the holdout window. Columns as `FittedBundle.curve`.

    `made_by` (which training) stands below.
    """
    figure = style.figure_of(8, 4.2)
    axes = figure.add_subplot()
    for seed, part in curve.groupby("seed"):
        axes.plot(part["step"], part["loss"], color=style.OBSERVED, alpha=0.6, label="training" if seed == 0 else None)
        axes.plot(
            part["step"], part["validation_loss"], color=style.FORECAST, label="holdout window" if seed == 0 else None
        )
    axes.set(xlabel="optimiser step", ylabel="pinball loss, scaled", title="Training")
    style.caption(
        figure,
        "The holdout window is the newest data, which training has not seen: its loss lies above that of training\n"
        f"windows, and should fall with it; one that rises again means that more steps do not help. {made_by}",
    )
    axes.legend(frameon=False)
    style.plain(axes)
    return style.png_of(figure)


def bars(values: pd.Series, title: str, label: str, made_by: str) -> bytes:
    """A horizontal bar per entry, the first on top; `made_by` (batch, model version, source) stands below."""
    figure = style.figure_of(8, 1.2 + 0.32 * max(len(values), 1))
    axes = figure.add_subplot()
    drawn = axes.barh([str(i) for i in values.index[::-1]], values.to_numpy()[::-1], color=style.OBSERVED)
    axes.bar_label(drawn, labels=[style.number(v, 3) for v in values.to_numpy()[::-1]], padding=4, fontsize=8)
    axes.set(title=title, xlabel=label)
    axes.margins(x=0.12)
    style.engineering(axes.xaxis, values.to_numpy())
    style.plain(axes)
    axes.grid(visible=False)
    style.caption(figure, made_by)
    return style.png_of(figure)


def candidates(means: pd.Series, medians: pd.Series, metric: str, served: str, made_by: str) -> bytes:
    """Two bars per candidate, the first candidate on top: a metric's mean and its median; `served` stands out.

    `made_by`: as `bars` has it.
    """
    names = [str(name) for name in means.index[::-1]]
    figure = style.figure_of(8, 1.4 + 0.5 * len(names))
    axes = figure.add_subplot()
    at = np.arange(len(names))
    colours = [style.FORECAST if name == served else style.OBSERVED for name in names]
    for values, shift, alpha, label in ((means, 0.2, 1.0, "mean"), (medians, -0.2, 0.45, "median")):
        drawn = axes.barh(at + shift, values.to_numpy()[::-1], 0.38, color=colours, alpha=alpha, label=label)
        axes.bar_label(drawn, fmt="{:,.3f}", padding=4, fontsize=8)
    axes.set(title=f"{metric} per candidate: mean (dark) and median (light), less is better")
    axes.set(xlabel=f"{metric} over series and origins", yticks=at, yticklabels=names)
    axes.margins(x=0.12, y=0.02)
    style.plain(axes)
    axes.grid(visible=False)
    style.caption(figure, made_by)
    return style.png_of(figure)


def coverage(measured: pd.DataFrame, served: str, made_by: str) -> bytes:
    """A line per candidate (row): the share of actuals within each interval, whose nominal share its column ends in.

    Shares are from 0 to 1; the grey band is 3 points around what is stated. `made_by`: as `bars` has it.
    """
    figure = style.figure_of(8, 5)
    axes = figure.add_subplot()
    nominal = np.sort([int(str(name).removeprefix("coverage")) for name in measured.columns])
    axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle=":", label="as stated")
    axes.fill_between([0, 100], [-3, 97], [3, 103], color="0.9", linewidth=0)
    others = style.colours(len(measured) - 1)
    for name, row in measured.iterrows():
        shares = [100 * row[f"coverage{share}"] for share in nominal]
        line = {"color": style.FORECAST, "linewidth": 2.2, "zorder": 3} if name == served else {"color": next(others)}
        axes.plot(nominal, shares, marker="o", markersize=4, label=str(name), **line)
    axes.set(title="Coverage of the central intervals", xlabel="stated, %", ylabel="measured, %")
    axes.set(xlim=(nominal[0] - 4, 100), ylim=(min(nominal[0] - 8, 100 * measured.to_numpy().min() - 6), 101))
    axes.set_xticks(nominal)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    style.plain(axes)
    style.caption(figure, made_by)
    return style.png_of(figure)


def coverage_by_step(measured: Mapping[str, pd.DataFrame], step: timedelta, made_by: str) -> bytes:
    """One panel per title: the share of actuals within each interval (column, per cent) by steps ahead (index).

    `made_by`: as `bars` has it.
    """
    columns = min(3, len(measured))
    rows = -(-len(measured) // columns)
    figure = style.figure_of(style.WIDTH, 2.6 * rows + 0.4)
    shades = {50: 0.45, 80: 0.7, 90: 1.0}
    for i, (title, frame) in enumerate(measured.items()):
        axes = figure.add_subplot(rows, columns, i + 1)
        hours = frame.index.to_numpy() * (step / timedelta(hours=1))
        for share, alpha in shades.items():
            axes.axhline(share, color=style.FORECAST, alpha=alpha, linewidth=0.8, linestyle=":")
            axes.plot(
                hours, 100 * frame[share], color=style.FORECAST, alpha=alpha, marker=".", label=f"{share} % interval"
            )
        axes.set_title(title, loc="left", fontsize=9)
        axes.set(ylim=(0, 103), xlim=(0, None))
        axes.set_xlabel("hours ahead", fontsize=8)
        axes.set_ylabel("measured coverage, %", fontsize=8)
        style.plain(axes)
        if i == 0:
            figure.legend(frameon=False, fontsize=8, loc="outside upper right", ncols=len(shades))
    style.caption(figure, made_by)
    return style.png_of(figure)

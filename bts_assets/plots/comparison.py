"""Pictures of a challenger beside the champion, parameter by parameter, as PNG bytes; only medians are computed."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.plots import style

#: The most parameters that are drawn: those that stand out most.
_ROWS: Final = 40


def errors(ratio: pd.Series, parameter_id: pd.Series, catalogue: Catalogue, made_by: str) -> bytes:
    """A dot per series: the challenger's mean absolute error as a ratio to the champion's, on a logarithmic axis.

    `made_by`: which versions, below the picture.
    """
    figure, axes = _dots(dict(list(ratio.groupby(parameter_id))), catalogue, "median")
    axes.set_xscale("log")
    axes.set_xticks([0.2, 0.5, 1, 2, 5], labels=["1/5", "1/2", "1", "2", "5"])
    axes.minorticks_off()
    axes.axvline(1, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(title="Errors of the challenger, as a ratio to the champion's: less than 1 is better", xlabel="ratio")
    style.caption(figure, made_by)
    return style.png_of(figure)


def differences(of_series: pd.DataFrame, catalogue: Catalogue, made_by: str) -> bytes:
    """A dot per series: how far the two versions' forecasts of one night differ, in widths of the champion's interval.

    `of_series` as `promotion_rules.apart` gives it; `made_by`: as `errors` has it.
    """
    distance = of_series["distance"].clip(upper=5)
    figure, axes = _dots(dict(list(distance.groupby(of_series["parameter_id"]))), catalogue, "median")
    axes.set_xlim(0, max(1.1, 1.05 * float(distance.max())))
    axes.set(title="The same night by both versions: how far the forecasts differ")
    axes.set(xlabel="mean distance of the medians, in widths of the champion's 80 % interval (5: or more)")
    style.caption(figure, made_by)
    return style.png_of(figure)


def _dots(of_parameter: Mapping[Any, pd.Series], catalogue: Catalogue, statistic: str) -> tuple[Any, Any]:
    """A row of dots per parameter and a bar at its median, the greatest median on top."""
    order = sorted(of_parameter, key=lambda p: float(of_parameter[p].median()), reverse=True)[:_ROWS]
    figure = style.figure_of(style.WIDTH, 1.4 + 0.3 * len(order))
    axes = figure.add_subplot()
    for row, parameter in enumerate(reversed(order)):
        values = of_parameter[parameter].to_numpy()
        # Spread by rank, so that equal series do not hide each other.
        spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(1)
        axes.plot(values, row + spread, ".", color=style.OBSERVED, alpha=0.45, markersize=4)
        middle = float(np.median(values))
        axes.plot([middle, middle], [row - 0.35, row + 0.35], color=style.FORECAST, linewidth=2.2)
    names = [f"{catalogue.of(int(p)).name} ({len(of_parameter[p])})" for p in reversed(order)]
    axes.set_yticks(range(len(order)), labels=names)
    axes.set_ylim(-0.6, len(order) - 0.4)
    axes.plot([], [], ".", color=style.OBSERVED, label="series")
    axes.plot([], [], color=style.FORECAST, linewidth=2.2, label=statistic)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    style.plain(axes)
    return figure, axes

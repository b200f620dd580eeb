"""The report of `benchmarks.accuracy` on one data set: tables as Markdown, and what was to be reached.

It forecasts and scores nothing.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.accuracy_floor import FORESEEABLE, NOISE_FLOOR
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.forecasting.backtest import SERVED, summary
from bts_assets.simulation.network import TRAITS

#: Column of `rolling.summary`, heading, factor, digits.
COLUMNS: Final = (
    ("mase", "MASE", 1, 3),
    ("median_mase", "median MASE", 1, 3),
    ("smape", "sMAPE", 1, 2),
    ("msis", "MSIS 95 %", 1, 2),
    ("wql", "WQL", 1, 4),
    ("crps", "CRPS", 1, 3),
    ("coverage80", "coverage of the 80 % interval", 100, 1),
    ("coverage90", "of the 90 %", 100, 1),
)
HEADINGS: Final = [heading for _, heading, _, _ in COLUMNS]

#: Makridakis et al., The M4 Competition (2020): the hourly series, of which there are 414.
PUBLISHED: Final = {
    "m4": {
        "published: ES-RNN, the winner": {"mase": 0.893, "smape": 9.33},
        "published: the best of all entries, figure by figure": {"mase": 0.801, "smape": 8.91, "msis": 6.14},
        "published: seasonal naive": {"mase": 1.193, "smape": 13.91},
    }
}
#: The best of each is to be beaten.
OTHER_LIBRARIES: Final = ("statsforecast", "neuralforecast LSTM")
SEASONAL_NAIVE: Final = "seasonal_naive_day"
_LAST: Final = "last_value"
#: The data sets on which labels tell how often it was trained.
TRAINED_TWO_WAYS: Final = ("bts", "ett")
#: Points of per cent that a measured coverage may be off.
COVERAGE_MARGIN: Final = 3.0


def report(name: str, title: str, scores: pd.DataFrame, seconds: Sequence[float], notes: Sequence[str]) -> str:
    """scores: `Outcome.scores` of every case. seconds: per training. notes: what else is to be told."""
    # By label, for the cases of a data set may have grids of their own.
    whole = scores[scores["steps"] == scores.groupby("label")["steps"].transform("max")]
    parts = [f"### {title}", _listed(notes)]
    # Means over all would hide what differs: how the recording was trained on, and how a simulated sensor behaves.
    simulated = name.startswith("simulator")
    if simulated:
        groups = whole.groupby(whole["parameter_id"].map(_sort), sort=False)
    else:
        groups = whole.groupby(whole["label"] if name in TRAINED_TWO_WAYS else lambda _: "", sort=False)
    for heading, part in groups:
        figures = summary(part)
        parts += [f"{heading}".capitalize(), _candidates(figures, PUBLISHED.get(name, {}))]
        parts.append(_listed([*GOALS[name](figures, max(seconds)), *_coverage(figures)]))
    if simulated:
        parts += ["All parameters", _listed(_coverage(summary(whole))), _by_parameter(scores)]
    elif name not in TRAINED_TWO_WAYS and len(set(whole["label"])) > 1:
        parts.append(_by_label(whole))
    if name == "nab":
        parts.append(_listed(_beside_last_value(whole)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _candidates(figures: pd.DataFrame, published: dict[str, dict[str, float]]) -> str:
    most = figures["scored"].max()
    few = {
        n: f"{n} ({int(scored)} of {int(most)} forecasts)" for n, scored in figures["scored"].items() if scored < most
    }
    table = pd.concat([figures.rename(index=few), pd.DataFrame.from_dict(published, orient="index")]).sort_values(
        "mase"
    )
    rows = [
        [
            f"**{n}**" if n == SERVED else str(n),
            *(_number(row.get(m, np.nan) * f, digits) for m, _, f, digits in COLUMNS),
        ]
        for n, row in table.iterrows()
    ]
    return markdown_table(["", *HEADINGS], rows)


def _by_label(scores: pd.DataFrame) -> str:
    rows = []
    for label, part in scores.groupby("label", sort=False):
        figures = summary(part)
        rows.append([str(label), *(_number(figures.loc[SERVED, m] * f, digits) for m, _, f, digits in COLUMNS)])
    return markdown_table(["served", *HEADINGS], rows)


def _by_parameter(scores: pd.DataFrame) -> str:
    """Mean MAE over series, as multiples of the noise floor's; of counters the median, for some start over at zero."""
    rows = []
    for parameter_id, part in scores.groupby("parameter_id"):
        parameter, sort = load_catalogue().of(int(parameter_id)), _sort(int(parameter_id))
        mae = part.pivot_table(index="candidate", columns="steps", values="mae", aggfunc=_typical(sort))
        day, whole = mae[min(mae)], mae[max(mae)]
        # In a steady network, everything but the noise is predictable.
        best = FORESEEABLE if FORESEEABLE in whole else NOISE_FLOOR
        alone = whole.drop([NOISE_FLOOR, best, SERVED], errors="ignore")
        if not whole[NOISE_FLOOR]:
            continue  # it rested throughout
        shown = [whole[best], whole[SEASONAL_NAIVE], alone.min(), whole[SERVED]]
        times = [_number(value / whole[NOISE_FLOOR], 2) for value in shown]
        times[2] += f" {alone.idxmin()}"
        floor = f"{whole[NOISE_FLOOR]:.3g} {parameter.unit}"
        relative = [_number(m[SERVED] / m[best], 2) for m in (whole, day)]
        rows.append([f"{parameter.name} ({parameter_id}, {sort})", floor, *times, *relative])
    headings = ["MAE", NOISE_FLOOR, FORESEEABLE, "seasonal naive", "best candidate alone", SERVED]
    return markdown_table([*headings, "served / foreseeable", "the same, first day"], rows)


@cache
def _sort(parameter_id: int) -> str:
    if load_catalogue().of(parameter_id).kind == "counter":
        return "counter"
    return "periodic" if TRAITS[parameter_id].threshold is None else "event-driven"


def _typical(sort: str) -> str:
    return "median" if sort == "counter" else "mean"


def _m4_goals(figures: pd.DataFrame, seconds: float) -> list[str]:
    served = figures.loc[SERVED]
    return [
        _goal("MASE", served["mase"], 0.80),
        _goal("sMAPE", served["smape"], 9.0),
        _goal("MSIS", served["msis"], 6.1),
        _goal("seconds of training", seconds, 300),
    ]


def _ett_goals(figures: pd.DataFrame, _seconds: float) -> list[str]:
    mase = figures["mase"]
    best = {library: mase[mase.index.str.startswith(library)] for library in OTHER_LIBRARIES}
    return [
        _goal(f"MASE over that of {rows.idxmin()}", mase[SERVED] / rows.min(), 0.95)
        for rows in best.values()
        if len(rows)
    ]


def _bts_goals(figures: pd.DataFrame, _seconds: float) -> list[str]:
    alone = figures["mase"].drop(SERVED)
    return [_goal(f"MASE over that of {alone.idxmin()}", figures.loc[SERVED, "mase"] / alone.min(), 1.02)]


def _bursty_goals(figures: pd.DataFrame, _seconds: float) -> list[str]:
    served, alone = figures.loc[SERVED], figures.drop(SERVED)
    alone = alone[alone["scored"] == served["scored"]]
    named = (("mase", "MASE"), ("median_mase", "median MASE"), ("wql", "WQL"))
    best = [_goal(f"{what} over that of {alone[m].idxmin()}", served[m] / alone[m].min(), 1.0) for m, what in named]
    return best + [
        _goal(f"{what} over that of the last value", served[m] / alone.loc[_LAST, m], 0.9) for m, what in named
    ]


def _beside_last_value(scores: pd.DataFrame) -> list[str]:
    """How much worse than doing nothing any series is served, over all its origins."""
    keys = ["label", "station_id", "parameter_id"]
    mean = scores.pivot_table(index=keys, columns="candidate", values="mase")
    ratio = (mean[SERVED] / mean[_LAST]).sort_values()
    worst = "series " + "/".join(str(part) for part in ratio.index[-1])
    return [_goal(f"MASE of the worst series over that of its last value ({worst})", ratio.iloc[-1], 1.2)]


def _simulator_goals(figures: pd.DataFrame, _seconds: float) -> list[str]:
    # Where a counter starts over at zero in the horizon, a mean says that and nothing else.
    floors = [n for n in (NOISE_FLOOR, FORESEEABLE) if n in figures.index]
    typical = "mase" if figures.loc[floors[-1], "mase"] < 10 else "median_mase"
    mase, what = figures[typical], "MASE" if typical == "mase" else "median MASE"
    served = [_goal(f"{what} over that of the {n}", mase[SERVED] / mase[n], 1.15) for n in floors]
    return [
        *served,
        f"{what} of {SEASONAL_NAIVE} over that of the noise floor: {mase[SEASONAL_NAIVE] / mase[NOISE_FLOOR]:.2f}",
    ]


GOALS: Final[dict[str, Callable[[pd.DataFrame, float], list[str]]]] = {
    "m4": _m4_goals,
    "m4-validate": _m4_goals,
    "ett": _ett_goals,
    "bts": _bts_goals,
    "nab": _bursty_goals,
    "simulator": _simulator_goals,
    "simulator-weather": _simulator_goals,
}


def _coverage(figures: pd.DataFrame) -> list[str]:
    off = {share: abs(100 * figures.loc[SERVED, f"coverage{share}"] - share) for share in (80, 90)}
    return [_goal(f"coverage of {share} %, points off", points, COVERAGE_MARGIN) for share, points in off.items()]


def _goal(what: str, value: float, most: float) -> str:
    verdict = "reached" if value <= most else f"missed by {value - most:.3g}"
    return f"{what}: {value:.3f}, to reach {most:g} or less: {verdict}"


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _number(value: float, digits: int) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)

"""A challenger beside the champion: rules, each with figures and a verdict in words. It decides and stores nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILES, STORED_QUANTILES
from bts_assets.contracts.text import percent
from bts_assets.forecasting.batch import Batch, counters_of, make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.counters import before_reset, counter_rows, newest_levels
from bts_assets.forecasting.metrics import actuals_of, mase_scale, score, together
from bts_assets.forecasting.windows import take_series

SERIES: Final = ["station_id", "parameter_id"]

#: The paired test may be wrong about a challenger that is not better this often, were series independent.
SIGNIFICANCE: Final = 0.05

#: Fewer series than this cannot tell a better forecaster from a lucky one, though the test could come out at 5 %.
_LEAST_SERIES: Final = 6

#: A ratio of errors counts up to this, and is one of errors plus so much of the series' scale: next to nothing is as
#: good as nothing, and no series decides alone.
_LARGEST_RATIO: Final = 5.0
_AS_GOOD: Final = 0.05

#: No parameter of so many series may become so much worse (ratio of errors, geometric mean over its series).
_PARAMETER_SERIES: Final = 5
_PARAMETER_WORSE: Final = 1.05

#: The 80 % interval may miss its share by so much more than the champion's does.
_COVERAGE_SLACK: Final = 0.03

#: The least unit of how far two versions' medians are apart, as shares of the series' own scale.
_OF_SWING: Final = 0.25
_OF_WIDTH: Final = 0.5

#: Origins that the champion has not seen must span so many horizons, or those that it has seen count as well.
_LEAST_NIGHTS: Final = 3

#: At most this share of the series may differ by more than the bound, and of no parameter half of them.
_FAR_SHARE: Final = 0.1


@dataclass(frozen=True)
class Rule:
    """One thing that a challenger must fulfil. figures: what it was judged by."""

    name: str
    passed: bool
    words: str
    figures: Mapping[str, float | int | str]

    def to_dict(self) -> dict[str, Any]:
        return {"rule": self.name, "passed": self.passed, "words": self.words, "figures": dict(self.figures)}


def compared(
    scores: pd.DataFrame,
    panel: Panel,
    catalogue: Catalogue,
    champion: Bundle,
    champion_knows_until: datetime,
    steps: Sequence[int] | None = None,
) -> tuple[pd.DataFrame, str]:
    """`paired_errors` of a challenger and the champion on the same origins, and what must be said of those origins.

    scores: of the challenger's training on `panel`, over `steps` of the horizon: of its LSTM before it saw the holdout
    window, mixed and calibrated by the other origins, so that it is as new to the origins as the champion is.
    """
    own = scores[scores["candidate"] == "served"]
    origins, note = _origins(own, champion_knows_until, panel.grid.horizon)
    # A large network is backtested in part.
    scored = pd.MultiIndex.from_frame(own[SERIES].drop_duplicates())
    every = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id])
    part = take_series(panel, np.flatnonzero(every.isin(scored)))
    return paired_errors(own, scored_again(champion, part, catalogue, origins, steps)), note


def _origins(own: pd.DataFrame, champion_knows_until: datetime, horizon: timedelta) -> tuple[list[pd.Timestamp], str]:
    """Holdout origins that the champion was not trained on, where they span some nights that do not overlap: one day
    tells little, however often it is forecast. Else all of them, which favours the champion.
    """
    origins = [pd.Timestamp(stamp).tz_convert("UTC") for stamp in sorted(own["origin"].unique())]
    unseen = [origin for origin in origins if origin >= champion_knows_until]
    if unseen and unseen[-1] - unseen[0] >= (_LEAST_NIGHTS - 1) * horizon:
        return unseen, f" (at {len(unseen)} past origins)"
    note = f" (at {len(origins)} past origins"
    return origins, f"{note}, some of which the champion was trained on, which favours it)" if origins else f"{note})"


def scored_again(
    bundle: Bundle,
    panel: Panel,
    catalogue: Catalogue,
    origins: Sequence[pd.Timestamp],
    steps: Sequence[int] | None = None,
) -> pd.DataFrame:
    """What a version would have served at past origins of a panel, scored as `metrics.score` does.

    A counter's targets from its first reset on are excluded, as in the scores of a training. steps: steps ahead, from
    0, that are scored; by default all.
    """
    scores = []
    counters = counter_rows(panel, counters_of(catalogue))
    for origin in origins:
        column = (origin.to_pydatetime() - panel.start) // panel.grid.step
        known = panel.until(panel.steps - column)
        batch = make_batch(bundle, known, catalogue, levels=QUANTILES)
        served = np.flatnonzero((batch.ledger["status"] != "excluded").to_numpy())
        came = actuals_of(panel, column)
        values = came.values.copy()
        values[counters] = before_reset(newest_levels(panel.values[counters, :column]), values[counters])
        if steps is not None:
            values[:, np.setdiff1d(np.arange(values.shape[1]), steps)] = np.nan
        came = take_series(Panel(came.grid, came.station_id, came.parameter_id, came.end, values), served)
        scale = mase_scale(panel.values[served, :column], panel.grid.steps_per_day)
        scores.append(score(came, "served", batch.quantiles, scale))
    return together(scores)


def paired_errors(challenger: pd.DataFrame, champion: pd.DataFrame) -> pd.DataFrame:
    """From two frames of scores the same series and origins of both: per series `challenger` and `champion`, their mean
    absolute errors, `scale` (of MASE), `coverage80`, `champion_coverage80`; with `nights`, how many origins.

    A series that never moved has no scale, and cannot tell who is better.
    """
    columns = [*SERIES, "origin", "mae", "mase", "coverage80"]
    both = challenger[columns].merge(champion[columns], on=[*SERIES, "origin"], suffixes=("", "_champion"))
    # Without any scores columns have no type yet.
    both = both[np.isfinite(both[["mae", "mae_champion", "mase", "mase_champion"]].astype(float)).all(axis=1)]
    ratio = both["mae"] / both["mase"].where(both["mase"] > 0)
    both["scale"] = ratio.fillna(both["mae_champion"] / both["mase_champion"].where(both["mase_champion"] > 0))
    return both.groupby(SERIES, as_index=False).agg(
        challenger=("mae", "mean"),
        champion=("mae_champion", "mean"),
        scale=("scale", "mean"),
        coverage80=("coverage80", "mean"),
        champion_coverage80=("coverage80_champion", "mean"),
        nights=("origin", "nunique"),
    )


def lower_error(errors: pd.DataFrame, margin: float) -> Rule:
    """Whether errors are less by more than `margin` (share) on most series, and not by luck.

    `errors` as `paired_errors` gives them. Wilcoxon's signed-rank test (1945), one-sided, over series, of the logarithm
    of the ratio of errors against that of 1 - margin: every series counts alike, whatever its unit, and none alone
    decides. Series of one night are not independent, so the p-value is an understatement; the margin is what is
    relied on beside it.
    """
    if len(errors) < _LEAST_SERIES:
        words = (
            f"{len(errors)} series can be compared, and at least {_LEAST_SERIES} are needed: more stations, or a"
            " smaller share of them for a canary"
        )
        return Rule("lower_error", False, words, {"series": len(errors)})
    from scipy.stats import wilcoxon

    logs = _logs(errors)
    less = logs - np.log1p(-margin)
    # Without any difference there is nothing to test.
    p = float(wilcoxon(less, alternative="less").pvalue) if less.any() else 1.0
    ratio, wins = float(np.exp(logs.mean())), float((logs < 0).mean())
    passed = p <= SIGNIFICANCE and ratio <= 1 - margin
    words = (
        f"its errors are {ratio:.3f} times the champion's (mean over {len(errors)} series), less on"
        f" {percent(wins)} of them; needed: {1 - margin:.3f} or less, p at most {SIGNIFICANCE:g} (it is {p:.2g})"
    )
    figures = {"ratio": ratio, "share_better": wins, "p": p, "margin": margin, "series": len(errors)}
    return Rule("lower_error", passed, words, figures)


def no_parameter_worse(errors: pd.DataFrame, catalogue: Catalogue) -> Rule:
    """Whether no parameter pays for the others."""
    groups = errors.assign(log=_logs(errors)).groupby("parameter_id")["log"]
    ratios = np.exp(groups.mean()[groups.size() >= _PARAMETER_SERIES]).sort_values(ascending=False)
    worse = ratios[ratios > _PARAMETER_WORSE]
    words = f"none of {len(ratios)} parameters with {_PARAMETER_SERIES} series or more is worse by over 5 %"
    if len(worse):
        named = ", ".join(f"{catalogue.of(int(p)).name} ({ratio:.2f})" for p, ratio in worse.head(3).items())
        words = f"parameters become worse, by the ratio of their errors: {named}"
    worst = float(ratios.iloc[0]) if len(ratios) else 1.0
    return Rule("no_parameter_worse", not len(worse), words, {"parameters": len(ratios), "worst_ratio": worst})


def interval_coverage(errors: pd.DataFrame) -> Rule:
    """Whether its 80 % intervals hold about what they say, or at least what the champion's do."""
    if not len(errors):
        return Rule(
            "interval_coverage", True, "no actuals are known that its intervals could be judged by", {"series": 0}
        )
    own, champions = float(errors["coverage80"].mean()), float(errors["champion_coverage80"].mean())
    passed = not abs(own - 0.8) > abs(champions - 0.8) + _COVERAGE_SLACK
    words = f"its 80 % intervals covered {percent(own, 1)} of the actuals, the champion's {percent(champions, 1)}"
    return Rule("interval_coverage", passed, words, {"coverage80": own, "champion_coverage80": champions})


def no_new_fallbacks(ledger: pd.DataFrame, champion_ledger: pd.DataFrame) -> Rule:
    """Whether it forecasts every series that the champion does, without falling back on more of them."""
    counts = [frame["status"].value_counts() for frame in (ledger, champion_ledger)]
    fallback, excluded = (tuple(int(c.get(status, 0)) for c in counts) for status in ("fallback", "excluded"))
    words = (
        f"of {len(ledger)} series {fallback[0]} are served by a fallback (with the champion {fallback[1]}),"
        f" {excluded[0]} are not forecast (with the champion {excluded[1]})"
    )
    passed = fallback[0] <= fallback[1] and excluded[0] <= excluded[1] and len(ledger) == len(champion_ledger)
    return Rule("no_new_fallbacks", passed, words, {"fallback": fallback[0], "excluded": excluded[0]})


def means_apart(batch: Batch, champions: Batch) -> pd.DataFrame:
    """The means that `apart` takes, for each series that both versions forecast in the same night."""
    low, middle, high = (STORED_QUANTILES.index(q) for q in (0.1, 0.5, 0.9))
    rows = [pd.MultiIndex.from_arrays([b.station_id, b.parameter_id], names=SERIES) for b in (batch, champions)]
    both = rows[0].intersection(rows[1])
    own, was = (b.quantiles[index.get_indexer(both)] for b, index in zip((batch, champions), rows, strict=True))
    shift = own[:, :, middle] - was[:, :, middle]
    means = {
        "apart": np.abs(shift).mean(axis=1),
        "shift": shift.mean(axis=1),
        "width": (own[:, :, high] - own[:, :, low]).mean(axis=1),
        "was": (was[:, :, high] - was[:, :, low]).mean(axis=1),
        "level": np.abs(was[:, :, middle]).mean(axis=1),
        "swing": was[:, :, middle].std(axis=1),
    }
    return pd.DataFrame(means, index=both)


def apart(means: pd.DataFrame) -> pd.DataFrame:
    """One row per series, farthest first: station_id, parameter_id, distance, shift, width.

    `means` over the steps of one night, indexed by series: `apart`, absolute difference of the medians; `shift`, the
    difference; `width` and `was`, of the 80 % interval and of the champion's; `level`, of the champion's median, and
    `swing`, its standard deviation along the horizon.

    distance: `apart` in widths of the champion's interval, but no less than the series' own scale allows: a share of
    how its median swings and of the challenger's width, and a twentieth of the width that is usual for the
    parameter. Next to nothing is as good as nothing, and an interval that is too narrow makes no other version far.
    shift: in the series' unit. width: a ratio to that unit.
    """
    usual = means.groupby("parameter_id")["was"].transform("median")
    floors = [_AS_GOOD * usual, _OF_SWING * means["swing"], _OF_WIDTH * means["width"]]
    unit = np.maximum(means["was"], pd.concat(floors, axis=1).astype(float).max(axis=1))
    unit = unit.where(unit > 0, (means["level"] / 100).where(means["level"] > 0, 1.0))
    result = pd.DataFrame(
        {"distance": means["apart"] / unit, "shift": means["shift"], "width": means["width"] / unit}
    ).reset_index()
    return result.sort_values(["distance", *SERIES], ascending=[False, True, True], ignore_index=True)


def summed_up(apart: pd.DataFrame, by: str) -> pd.DataFrame:
    """`apart` by parameter_id or station_id: series, median and greatest distance; the farthest first."""
    groups = apart.groupby(by)["distance"]
    table = pd.DataFrame({"series": groups.size(), "median": groups.median(), "greatest": groups.max()})
    return table.sort_values("median", ascending=False)


def forecast_divergence(apart: pd.DataFrame, bound: float, catalogue: Catalogue) -> Rule:
    """Whether few series differ by more than `bound`, and of no parameter half of them do."""
    far = apart["distance"] > bound
    share = float(far.mean()) if len(apart) else 0.0
    medians = summed_up(apart, "parameter_id")["median"]
    beyond = medians[medians > bound]
    median = float(apart["distance"].median()) if len(apart) else 0.0
    words = (
        f"the same night is forecast {median:.2f} interval widths apart (median over {len(apart)} series);"
        f" {percent(share)} of them over {bound:g}, of which {percent(_FAR_SHARE)} are allowed"
    )
    if len(beyond):
        words += f"; {catalogue.of(int(beyond.index[0])).name} as a whole is {beyond.iloc[0]:.2f} apart"
    figures = {"median": median, "far_share": share, "bound": bound, "series": len(apart)}
    return Rule("forecast_divergence", share <= _FAR_SHARE and not len(beyond), words, figures)


def ratios(errors: pd.DataFrame) -> pd.Series:
    """The challenger's error as a ratio to the champion's, per series; 1 where both are next to nothing."""
    nothing = _AS_GOOD * errors["scale"].fillna(0.0)
    own, champions = errors["challenger"] + nothing, errors["champion"] + nothing
    return (own / champions).where(champions > 0, 1.0).clip(1 / _LARGEST_RATIO, _LARGEST_RATIO)


def _logs(errors: pd.DataFrame) -> np.ndarray:
    return np.log(ratios(errors).to_numpy(float))

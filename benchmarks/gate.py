"""Does the gate let pass what is better, a week after the champion was trained, and nothing that is equal?

    python -m benchmarks.gate [--weeks 20] [--data ../shared/data]

Every week a version is trained on all that is known by then, from a seed of its own. It is judged, by the rules that
compare errors, beside two champions: the version of the week before, which is its equal but for a week of data and
chance (A/A: at most 5 % may pass), and one of that week's which saw ten days of history only. Beside each verdict
stands what became of both in the following week, which neither had seen: the ratio of their errors, mean over series.
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from benchmarks.accuracy_data import HOUR, ett_hourly
from bts_assets.contracts.catalogue import Catalogue, load_catalogue
from bts_assets.contracts.grid import DAY, Grid
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting import promotion_rules
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.fit import FittedBundle, fit_bundle
from bts_assets.settings import Settings
from bts_assets.simulation.network import TRAITS, SimulatedNetwork

GRID: Final = Grid(HOUR, 7 * DAY, 48 * HOUR)
WEEK: Final = 7 * 24
GAUGES: Final = (111, 114, 115, 121, 122)
STATIONS: Final = 12
#: What is known when the first version is trained, in weeks.
HISTORY: Final = 6
SHORT_DAYS: Final = 10
END: Final = datetime(2026, 11, 2, tzinfo=UTC)


def simulated(weeks: int) -> Panel:
    """Hourly means of a network's gauges with noise, for `HISTORY` weeks, those that are judged, and one to follow."""
    days = 7 * (HISTORY + weeks + 1)
    network = SimulatedNetwork(STATIONS, days * 1440, int((END - days * DAY).timestamp()) // 60, seed=1)
    (chunk,) = network.chunks(days * 1440)
    rng = np.random.default_rng(1)
    means = [chunk.signals[p].reshape(STATIONS, -1, 60).mean(axis=2) for p in GAUGES]
    noisy = [mean + rng.normal(0, TRAITS[p].noise / 2, mean.shape) for p, mean in zip(GAUGES, means, strict=True)]
    values = np.stack(noisy, axis=1).reshape(STATIONS * len(GAUGES), -1)
    parameter = np.tile(np.array(GAUGES, np.int32), STATIONS)
    return Panel(GRID, np.repeat(network.station_id, len(GAUGES)), parameter, END, values)


def transformer(data: Path, weeks: int) -> Panel:
    """The end of ETTh1."""
    panel = ett_hourly(data)[0].panel
    steps = WEEK * (HISTORY + weeks + 1)
    return Panel(GRID, panel.station_id, panel.parameter_id, panel.end, panel.values[:, -steps:])


@dataclass(frozen=True)
class Week:
    """What is known at the end of a week, and the versions that are trained then."""

    panel: Panel
    fitted: FittedBundle
    short: Bundle

    @property
    def champions(self) -> dict[str, Bundle]:
        return {"equal": self.fitted.bundle, "of ten days": self.short}


def weeks_of(panel: Panel, catalogue: Catalogue, weeks: int) -> Iterator[Week]:
    for number in range(weeks + 1):
        known = panel.until(panel.steps - WEEK * (HISTORY + number))
        short = replace(known, values=known.values[:, -SHORT_DAYS * 24 :])
        fit = partial(fit_bundle, catalogue=catalogue, effort="quick", seed=number)
        yield Week(known, fit(known), fit(short).bundle)


def judge(before: Week, now: Week, following: Panel, catalogue: Catalogue) -> Iterator[dict[str, object]]:
    """One row for each champion: the verdict, and the ratio of errors before and after."""
    for name, champion in before.champions.items():
        errors, _ = promotion_rules.compared(
            now.fitted.scores, now.panel, catalogue, champion, before.panel.end, now.fitted.scored_steps
        )
        margin = Settings.model_fields["promotion_margin"].default
        rules = [
            promotion_rules.lower_error(errors, margin),
            promotion_rules.no_parameter_worse(errors, catalogue),
            promotion_rules.interval_coverage(errors),
        ]
        yield {
            "champion": name,
            "passed": all(rule.passed for rule in rules),
            "nights": errors["nights"].max(),
            "ratio": _mean_ratio(errors),
            "came": _mean_ratio(_afterwards(now.fitted.bundle, champion, following, now.panel.end, catalogue)),
            "refused by": ", ".join(rule.name for rule in rules if not rule.passed),
        }


def _afterwards(
    challenger: Bundle, champion: Bundle, following: Panel, first: datetime, catalogue: Catalogue
) -> pd.DataFrame:
    """Errors of both in the week that follows, at five origins a day apart."""
    origins = [pd.Timestamp(first + night * timedelta(days=1)) for night in range(5)]
    own, was = (promotion_rules.scored_again(b, following, catalogue, origins) for b in (challenger, champion))
    return promotion_rules.paired_errors(own, was)


def _mean_ratio(errors: pd.DataFrame) -> float:
    return float(np.exp(np.log(promotion_rules.ratios(errors)).mean())) if len(errors) else float("nan")


def bench(label: str, panel: Panel, catalogue: Catalogue, weeks: int) -> None:
    rows: list[dict[str, object]] = []
    before = None
    for number, now in enumerate(weeks_of(panel, catalogue, weeks)):
        if before is not None:
            following = panel.until(panel.steps - WEEK * (HISTORY + number + 1))
            rows += judge(before, now, following, catalogue)
            _tell(pd.DataFrame(rows[-2:]).to_string(index=False, header=number == 1))
        before = now
    table = pd.DataFrame(rows)
    _tell(f"\n{label}: {len(panel)} series, {weeks} weeks")
    for name, group in table.groupby("champion"):
        refusals = group.loc[~group["passed"], "refused by"].value_counts().to_dict()
        _tell(
            f"  champion {name}: {group['passed'].sum()} of {len(group)} challengers pass; errors"
            f" {group['ratio'].mean():.3f} times the champion's when judged, {group['came'].mean():.3f} in the week"
            f" that followed; refused by {refusals}"
        )


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weeks", type=int, default=20)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    catalogue = load_catalogue()
    bench("simulated network", simulated(given.weeks), catalogue, given.weeks)
    if (given.data / "ett").is_dir():
        bench("ETTh1", transformer(given.data, given.weeks), catalogue, given.weeks)


if __name__ == "__main__":
    main()

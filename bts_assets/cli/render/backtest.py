"""What the terminal shows of a backtest: errors and coverage per candidate, coverage by parameter and step."""

from math import nan
from typing import Final

import pandas as pd
from rich.table import Table

from bts_assets.cli.render.terminal import out
from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.grid import format_duration
from bts_assets.forecasting.backtest import SERVED, covered
from bts_assets.forecasting.metrics import COVERAGES
from bts_assets.services.backtest import Backtest

#: Parameters whose coverage is told, at most: those of most targets.
_PARAMETERS: Final = 20

#: Failures that are told, at most.
_FAILURES: Final = 5

_ERRORS: Final = {
    "mase": ("MASE", ".3f"),
    "smape": ("sMAPE %", ".2f"),
    "wql": ("WQL", ".3f"),
    "crps": ("CRPS", ".3f"),
    "msis": ("MSIS", ".2f"),
}


def show(tested: Backtest, catalogue: Catalogue) -> None:
    plan, origins = tested.parameters, tested.origins
    apart = f", {plan['apart']} apart," if len(origins) > 1 else ""
    first, last = (f"{origin:%Y-%m-%d %H:%M}" for origin in (origins[0], origins[-1]))
    many = "1 origin[/bold]," if len(origins) == 1 else f"{len(origins)} origins[/bold]{apart} from {first} to"
    out.print(
        f"\n[bold]{many} {last} UTC; {tested.series:,} series; {plan['BTS_HORIZON']} ahead in steps of"
        f" {plan['BTS_STEP']}; {tested.seconds:,.0f} s"
    )
    figures = tested.summary
    _errors(figures)
    _intervals(figures)
    _by_parameter(tested.replayed.coverage, pd.Timedelta(plan["BTS_STEP"]), catalogue)
    for failure in tested.replayed.failures.head(_FAILURES).itertuples():
        which = f"{failure.series:,} series, the first station {failure.station_id}, parameter {failure.parameter_id}"
        out.print(
            f"{failure.candidate} failed at {failure.origin:%Y-%m-%d %H:%M} for {which}: {failure.reason}", markup=False
        )
    left = len(tested.replayed.failures) - _FAILURES
    if left > 0:
        out.print(f"and {left:,} more failures; see failures.csv in MLflow")


def _errors(figures: pd.DataFrame) -> None:
    table = _table("errors; served there: mean MASE of what was served on the same series and origins", "candidate")
    for title, _ in _ERRORS.values():
        table.add_column(f"{title}\nmean", justify="right")
        table.add_column("\nmedian", justify="right")
    table.add_column("\nscored", justify="right")
    table.add_column("served\nthere", justify="right")
    for name, row in figures.iterrows():
        cells = [f"{row[k]:,{form}}" for m, (_, form) in _ERRORS.items() for k in (m, f"median_{m}")]
        table.add_row(str(name), *cells, f"{row['scored']:,.0f}", f"{row['served_mase']:,.3f}", style=_style(name))
    out.print(table)


def _intervals(figures: pd.DataFrame) -> None:
    table = _table("share of actuals within the central interval, %", "candidate")
    for share in COVERAGES:
        table.add_column(f"{share} %", justify="right")
    for name, row in figures.iterrows():
        cells = [f"{100 * row[f'coverage{share}']:.1f}" for share in COVERAGES]
        table.add_row(str(name), *cells, style=_style(name))
    out.print(table)


def _by_parameter(coverage: pd.DataFrame, step: pd.Timedelta, catalogue: Catalogue) -> None:
    """Coverage of what is served: of every interval over the whole horizon, of the 80 % interval by quarters of it."""
    if coverage.empty:
        return
    last = int(coverage["last_step"].max())
    quarters = coverage.assign(quarter=((coverage["last_step"] - 1) * 4 // last).clip(upper=3))
    whole = covered(quarters, ["parameter_id"])
    by_quarter = covered(quarters, ["parameter_id", "quarter"])[80]
    targets = quarters.groupby("parameter_id")["targets"].sum().sort_values(ascending=False)
    table = _table(f"coverage of what is {SERVED}, by parameter, and that of 80 % by steps ahead", "parameter")
    for share in COVERAGES:
        table.add_column(f"{share} %", justify="right")
    ends = quarters.groupby("quarter")["last_step"].max()
    for end in ends:
        table.add_column(f"to {format_duration((step * end).to_pytimedelta())}", justify="right")
    for parameter in sorted(targets.index[:_PARAMETERS]):
        shares = [f"{100 * whole.loc[parameter, share]:.1f}" for share in COVERAGES]
        parts = [f"{100 * by_quarter.get((parameter, quarter), nan):.1f}" for quarter in ends.index]
        table.add_row(f"{parameter} {catalogue.of(int(parameter)).name}", *shares, *parts)
    out.print(table)
    if len(targets) > _PARAMETERS:
        out.print(f"and {len(targets) - _PARAMETERS:,} more parameters; see coverage.csv in MLflow")


def _table(title: str, first: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", title_style="dim", box=None, padding=(0, 1, 0, 0))
    table.add_column(first, vertical="bottom", no_wrap=True)
    return table


def _style(name: object) -> str:
    return "bold" if name == SERVED else ""

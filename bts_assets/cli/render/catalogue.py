"""What the terminal shows of the catalogue."""

from collections.abc import Sequence
from math import isinf

from rich.markup import escape
from rich.table import Table

from bts_assets.cli.render.terminal import out
from bts_assets.contracts.catalogue import Catalogue, Parameter
from bts_assets.forecasting.unlisted_parameters import Proposal


def show(holds: Catalogue, own: Catalogue, unlisted: Sequence[Proposal]) -> None:
    """The rows that hold and where each is from, then proposals for what is not listed."""
    mine = {p.parameter_id for p in own}
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("id", "name", "unit", "kind", "of readings", "valid", "limits", "forecast", "from"):
        table.add_column(column)
    for p in holds:
        origin = "yours" if p.parameter_id in mine else "shipped"
        table.add_row(*_cells(p), origin)
    out.print(table)
    if not unlisted:
        out.print("\nEvery parameter that was observed is listed.")
        return
    out.print(f"\n[bold]{len(unlisted)} not listed[/bold], taken in and forecast as gauges without limits, unless they"
              " count beyond doubt. From their newest readings they look like:")  # fmt: skip
    for proposal in unlisted:
        p = proposal.parameter
        out.print(f"  {p.parameter_id}: {p.kind}, valid {_between(p.valid_min, p.valid_max)}; {escape(proposal.why)}")
    out.print("\nTo list them: bts catalogue --propose > mine.csv, look through it, set BTS_CATALOGUE=mine.csv")


def _cells(p: Parameter) -> list[str]:
    return [
        str(p.parameter_id),
        escape(p.name),
        escape(p.unit),
        p.kind,
        p.aggregation,
        _between(p.valid_min, p.valid_max),
        _between(p.low_limit, p.high_limit),
        "yes" if p.forecast else "no",
    ]


def _between(low: float | None, high: float | None) -> str:
    ends = ["" if end is None or isinf(end) else f"{end:g}" for end in (low, high)]
    return "any" if ends == ["", ""] else f"{ends[0] or '…'} to {ends[1] or '…'}"

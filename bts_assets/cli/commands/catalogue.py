"""`bts catalogue`: what the parameters are, what is not listed, and what it looks like."""

from typing import Annotated

import typer


def catalogue(
    propose: Annotated[
        bool,
        typer.Option("--propose", help="Print a CSV for BTS_CATALOGUE: your own rows, and one per unlisted parameter."),
    ] = False,
) -> None:
    """Show the catalogue that holds, the parameters that it does not list, and what those look like.

    Example: `bts catalogue --propose > mine.csv`
    """
    from bts_assets.cli.render.catalogue import show
    from bts_assets.contracts.catalogue import format_catalogue
    from bts_assets.services.catalogue import own_rows, proposals
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    home = open_home(load_settings(), to_read=True)
    found, own = proposals(home), own_rows(home)
    if propose:
        rows = [*own, *(proposal.parameter for proposal in found)]
        typer.echo(format_catalogue(sorted(rows, key=lambda p: p.parameter_id)), nl=False)
    else:
        show(home.catalogue, own, found)

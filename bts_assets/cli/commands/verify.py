"""`bts verify` as its user meets it. What is checked is found out elsewhere."""

from datetime import UTC, datetime
from typing import Annotated

import typer


def verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Take damaged readings in again from their landing files, where they are.")
    ] = False,
) -> None:
    """Read everything that rests here and compare it with its digest; ends with status 1 if anything differs.

    Example: `bts verify --repair`
    """
    from bts_assets import progress
    from bts_assets.cli.render.terminal import out, progress_bars
    from bts_assets.cli.render.verify import show
    from bts_assets.services import verify as service
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    home = open_home(load_settings(), to_read=not repair, migrates=False)
    if repair:
        mended, left = service.repair(home, datetime.now(UTC))
        for path in mended:
            out.print(f"taken in again: {path}", markup=False)
        for path in left:
            out.print(f"its landing file is gone too, restore it from a backup: {path}", markup=False)
    with progress_bars():
        found = service.verify(home, progress.report)
    show(found)
    if any(store.wrong for store in found):
        raise typer.Exit(1)

"""`bts backup` and `bts restore` as their user meets them. They decide nothing."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer


def backup(
    into: Annotated[Path, typer.Argument(help="Folder of backups, made where there is none; best on another disk.")],
) -> None:
    """Add a backup of the database and of all files that it names to a folder; nights may go on meanwhile.

    Files are named by their content, so each is kept once: later backups add what is new.

    Example: `bts backup /backups/bts`
    """
    from bts_assets import progress
    from bts_assets.cli.render.terminal import out, progress_bars
    from bts_assets.services.backup import back_up
    from bts_assets.settings import load_settings

    with progress_bars():
        made = back_up(load_settings(), into, datetime.now(UTC), progress.report)
    out.print(
        f"{made.folder}: the database and {made.manifest['files']:,} files, {made.added:,} of them new", markup=False
    )


def restore(
    place: Annotated[Path, typer.Argument(help="Folder of backups.")],
    name: Annotated[str | None, typer.Option("--backup", help="Name of one of them. Default: the newest.")] = None,
) -> None:
    """Put a backup into an empty BTS_HOME and an empty database, and verify what was put there.

    Example: `BTS_HOME=/srv/bts bts restore /backups/bts`
    """
    from bts_assets import progress
    from bts_assets.cli.render.terminal import out, progress_bars
    from bts_assets.cli.render.verify import show
    from bts_assets.services.backup import find_backup, restore
    from bts_assets.services.home import migrate_home, open_home
    from bts_assets.services.verify import verify
    from bts_assets.settings import load_settings

    settings, found = load_settings(), find_backup(place, name)
    with progress_bars():
        restore(settings, found, progress.report)
    out.print(f"restored {found.folder}, made {found.manifest['made_at']}; {migrate_home(settings)}", markup=False)
    with progress_bars():
        stores = verify(open_home(settings, to_read=True), progress.report)
    show(stores)
    if any(store.wrong for store in stores):
        raise typer.Exit(1)

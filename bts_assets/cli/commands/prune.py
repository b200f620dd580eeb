"""`bts prune` as its user meets it. It decides nothing."""

from typing import Annotated

import typer


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
) -> None:
    """Delete the forecasts, observations and readings that are past their retention, as every night does at its end.

    BTS_FORECAST_RETENTION and BTS_OBSERVATION_RETENTION say when that is, counted back from the origin that serves. The
    ledgers stay: what made a forecast can be asked for ever after. Batches that are kept can be replayed.

    Example: `bts prune --dry-run`
    """
    from bts_assets import progress
    from bts_assets.cli.render.retention import show_past
    from bts_assets.cli.render.terminal import progress_bars
    from bts_assets.services import retention
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    settings = load_settings()
    home = open_home(settings, to_read=dry_run, migrates=False)
    if dry_run:
        past = retention.find_past(home)
    else:
        with progress_bars():
            past = retention.prune(home, progress.report)
    show_past(past, settings.forecast_retention, settings.observation_retention, gone=not dry_run)

"""`bts lineage`, `bts impact` and `bts replay` as their user meets them: what they ask for. They find out nothing."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from bts_assets.contracts.errors import UsageError
from bts_assets.contracts.grid import instant_of

if TYPE_CHECKING:
    from bts_assets.settings import Settings


def lineage(
    station: Annotated[str, typer.Argument(help="Station: its id or its name.")],
    parameter: Annotated[str, typer.Argument(help="Parameter: its id or its name.")],
    target_at: Annotated[
        str | None, typer.Option(help="A time that was forecast, by the newest batch that reaches it.")
    ] = None,
    issued_at: Annotated[str | None, typer.Option(help="The origin of the batch. Default: the latest.")] = None,
) -> None:
    """Draw what made a forecast: batch, model version, landing files, code, runs, packages, machine.

    Example: `bts lineage 1161114001 122 --target-at 2026-03-10T06:00+00:00`
    """
    from bts_assets.cli.render.lineage import show_lineage
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.lineage import lineage_of
    from bts_assets.storage.series_names import series_meant
    from bts_assets.storage.served_pages import pages_of

    settings = load_settings()
    target, origin = _instant(target_at, "--target-at", settings), _instant(issued_at, "--issued-at", settings)
    engine = open_home(settings, to_read=True).engine
    found = lineage_of(engine, *series_meant(engine, station, parameter), target, origin)
    show_lineage(found, pages_of(settings.home, settings.mlflow_tracking_uri))


def impact(
    file: Annotated[
        str | None, typer.Option(help="A landing file: its name, its path below the landing root, or its digest.")
    ] = None,
    model: Annotated[int | None, typer.Option(help="A model version: its number in bts.model_version.")] = None,
) -> None:
    """List the batches and series that a landing file or a model version touched, by training and by input window.

    Example: `bts impact --file param-2026-03-09-03.csv`
    """
    from bts_assets.cli.render.lineage import show_file, show_model
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.lineage import impact_of_file, impact_of_model

    if (file is None) == (model is None):
        raise UsageError("name a landing file or a model version: bts impact --file NAME or bts impact --model VERSION")
    home = open_home(load_settings(), to_read=True)
    if file is not None:
        show_file(file, impact_of_file(home.engine, home.readings, file))
    elif model is not None:
        show_model(impact_of_model(home.engine, model))


def replay(
    batch: Annotated[int | None, typer.Argument(help="Batch id. Default: the batch that serves.")] = None,
    station: Annotated[int | None, typer.Option(help="Compare this station's series only; with --parameter.")] = None,
    parameter: Annotated[int | None, typer.Option(help="Compare this parameter's series only.")] = None,
    as_of: Annotated[str | None, typer.Option(help="Take the batch that served at this time.")] = None,
    retrain: Annotated[
        bool, typer.Option("--retrain", help="Train its model version again too, from what it was trained on.")
    ] = False,
) -> None:
    """Make a batch again from the ledger alone, and compare every number; exit with 0 only if all agree.

    The landing files as they were known then, the model by its digest, the settings of then: later files do not
    count.

    Example: `bts replay --as-of 2026-03-10T08:00+00:00`
    """
    from bts_assets import progress
    from bts_assets.cli.render.lineage import show_replayed, show_retrained
    from bts_assets.cli.render.terminal import progress_bars
    from bts_assets.services import replay as replaying
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    if (station is None) != (parameter is None):
        raise UsageError("a series is a station and a parameter: give both --station and --parameter")
    if batch is not None and as_of is not None:
        raise UsageError("give a batch, or the time that it served at with --as-of, not both")
    settings = load_settings()
    seen_at = _instant(as_of, "--as-of", settings)
    home = open_home(settings, to_read=True)
    series = None if station is None or parameter is None else (station, parameter)
    if batch is None:
        batch = replaying.batch_served(home, seen_at)
    with progress_bars():
        replayed = replaying.replay(home, batch, series, progress.report)
    show_replayed(replayed)
    again = None
    if retrain:
        with progress_bars():
            again = replaying.retrain(home, replayed, progress.report)
        show_retrained(again)
    if replayed.differs or (again and not again.agrees):
        raise typer.Exit(1)


def _instant(text: str | None, option: str, settings: "Settings") -> datetime | None:
    if text is None:
        return None
    try:
        return instant_of(text, settings.timezone)
    except ValueError:
        raise UsageError(f"{option} {text} is not a time; write for example 2026-11-20T02:00+00:00") from None

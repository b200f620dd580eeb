"""`bts status`, `breaches`, `accuracy` and `drift`: what an operator looks at first. They find out nothing."""

from typing import Annotated

import typer


def status() -> None:
    """Say on one screen whether the night is there, fresh and to be trusted, and what needs a look.

    Example: `bts status`
    """
    from bts_assets.cli.render.watch import show_status
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    settings = load_settings()
    show_status(open_home(settings, to_read=True).engine, settings.home)


def breaches(
    every: Annotated[bool, typer.Option("--all", help="Also those that are less likely than one in ten.")] = False,
    region: Annotated[str | None, typer.Option(help="Stations of this region only.")] = None,
) -> None:
    """List what may pass a limit, the gravest and soonest first, and what is beyond one now.

    Example: `bts breaches --region north`
    """
    from bts_assets.cli.render.watch import show_breaches
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    show_breaches(open_home(load_settings(), to_read=True).engine, 0.0 if every else 0.1, region)


def accuracy(
    days: Annotated[int, typer.Option(help="Of the last 1, 7 or 28 scored days.")] = 7,
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst series to name.")] = 5,
) -> None:
    """Show what the forecasts that served turned out to be worth, beside the baselines, per parameter.

    Example: `bts accuracy --days 28`
    """
    from bts_assets.cli.render.watch import show_accuracy
    from bts_assets.contracts.errors import UsageError
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    if days not in (1, 7, 28):
        raise UsageError(f"--days {days}: it can be 1, 7 or 28")
    show_accuracy(open_home(load_settings(), to_read=True).engine, days, worst)


def drift(
    every: Annotated[bool, typer.Option("--all", help="Also what is half way to an alarm.")] = False,
    region: Annotated[str | None, typer.Option(help="Stations of this region only.")] = None,
) -> None:
    """Name what has changed since the model was trained, and the sensors and stations that report wrongly.

    Example: `bts drift --region north`
    """
    from bts_assets.cli.render.drift import show_drift
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    show_drift(open_home(load_settings(), to_read=True).engine, every, region)

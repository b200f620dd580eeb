"""`bts retrain`, `versions`, `promote`, `rollback` and `probation` as their user meets them. They decide nothing."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from bts_assets.contracts.errors import UsageError

_REASON = typer.Option(help="Why; it is kept with the decision.")


def retrain(
    as_of: Annotated[str | None, typer.Option(help="Train on what was known at this time. Default: now.")] = None,
    effort: Annotated[
        str | None, typer.Option(help="quick, standard or thorough. Default: BTS_TRAINING_EFFORT.")
    ] = None,
) -> None:
    """Train a challenger, compare it with the champion on the same nights, and promote it if it is better.

    What it was judged by is kept in bts.model_decision and with its MLflow run. With BTS_PROBATION_NIGHTS it runs in
    shadow first.

    Example: `bts retrain --effort standard`
    """
    import os

    from bts_assets.cli.render.models import show_judged
    from bts_assets.cli.render.terminal import progress_bars
    from bts_assets.cli.run_job import run_job
    from bts_assets.settings import load_settings

    settings = load_settings(training_effort=effort)
    if effort:
        os.environ["BTS_TRAINING_EFFORT"] = effort  # the job reads the environment
    with progress_bars():
        said = run_job("retrain", settings, landing=settings.landing_dir, as_of=as_of)
    show_judged(said["challenger_model"])


def versions() -> None:
    """List the model versions: which serves, which asks to, and what was decided last about each.

    Example: `bts versions`
    """
    from bts_assets.cli.render.models import show_versions
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.served_pages import pages_of

    home = open_home(load_settings(), to_read=True)
    show_versions(home.engine, pages_of(home.settings.home, home.settings.mlflow_tracking_uri))


def promote(
    version: Annotated[int, typer.Argument(help="Model version, as `bts versions` numbers them.")],
    reason: Annotated[str, _REASON] = "by hand",
) -> None:
    """Make a model version champion by hand; it serves from the next night on.

    Example: `bts promote 2 --reason "the gate is too strict after the storm"`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.services.champions import promote as make_champion
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    home = open_home(load_settings(), migrates=False)
    now = make_champion(home, version, reason)
    out.print(f"model version {now.model_version_id} is champion, and forecasts the next night")
    if now.truncated or now.lstm_failure:
        out.print(
            f"warning: {now.lstm_failure or 'its training was cut short by BTS_TRAINING_CEILING'}", style="yellow"
        )


def rollback(reason: Annotated[str, _REASON] = "by hand") -> None:
    """Let the champion before this one serve again, and publish its forecasts of the current origin: both or neither.

    Example: `bts rollback --reason "grid voltage is off since the promotion"`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.services.champions import rollback as go_back
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings

    done = go_back(open_home(load_settings(), migrates=False), reason, datetime.now(UTC))
    again, instead = done.version.model_version_id, done.instead_of.model_version_id
    out.print(f"model version {again} is champion again, instead of {instead}")
    if done.batch_id is not None:
        out.print(f"batch {done.batch_id} serves, its forecasts of origin {done.issued_at:%Y-%m-%d %H:%M} UTC")


def probation(
    version: Annotated[int | None, typer.Argument(help="Model version. Default: show how it goes.")] = None,
    nights: Annotated[int, typer.Option(min=1, help="Nights before the gate decides.")] = 7,
    share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the stations that it serves meanwhile. 0: none.")
    ] = 0.0,
    end: Annotated[bool, typer.Option("--end", help="End the probation that runs; the champion serves on.")] = False,
    reason: Annotated[str, _REASON] = "by hand",
) -> None:
    """Let a version run beside the champion for some nights: in shadow, or serving a share of the stations (canary).

    Its forecasts are stored and scored beside the champion's; when its nights are over and have come true, the gate
    decides.

    Example: `bts probation 2 --nights 7 --share 0.1`
    """
    from bts_assets.cli.render.models import show_probation
    from bts_assets.cli.render.terminal import out
    from bts_assets.services import probation as probations
    from bts_assets.services.home import open_home
    from bts_assets.settings import load_settings
    from bts_assets.storage.decisions import Decision
    from bts_assets.storage.model_versions import find_version

    if version is not None and end:
        raise UsageError("name a version to begin a probation, or --end to end the one that runs, not both")
    home = open_home(load_settings(), to_read=version is None and not end, migrates=False)
    if version is not None:
        found = find_version(home.engine, version)
        if found is None:
            raise UsageError(f"there is no model version {version}; `bts versions` lists them all")
        probations.begin(home, found, nights, share, Decision("probation", "hand", reason))
    running = probations.running(home)
    if running is None:
        out.print("no model version is on probation")
    elif end:
        probations.end(home, running, Decision("ended", "hand", reason))
        out.print(f"the probation of model version {running.challenger.model_version_id} ended; the champion serves on")
    else:
        show_probation(home, running)

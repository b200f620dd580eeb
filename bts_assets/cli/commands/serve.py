"""`bts up` and `bts stop` as their user meets them: what they ask for. They serve nothing themselves."""

from typing import Annotated

import typer

from bts_assets.contracts.errors import BtsError


def up(
    dagster_port: Annotated[int, typer.Option(help="Port of Dagster's UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
) -> None:
    """Serve everything on loopback until interrupted: Postgres, Dagster's UI and daemon, MLflow's UI.

    Example: `bts up --dagster-port 3000 --mlflow-port 5000`
    """
    from bts_assets.cli.up import serve
    from bts_assets.settings import load_settings

    serve(load_settings(), dagster_port, mlflow_port)


def stop(
    force: Annotated[bool, typer.Option("--force", help="Also where bts up serves this home, and needs it.")] = False,
) -> None:
    """Stop the embedded Postgres of this home.

    Example: `bts stop`
    """
    from bts_assets.cli.up_lock import who_serves
    from bts_assets.settings import load_settings
    from bts_assets.storage.embedded import server as embedded

    home = load_settings().home
    if not force and (serving := who_serves(home)):
        raise BtsError(f"{serving} serves {home}: end that, or stop Postgres under it with bts stop --force")
    typer.echo("stopped" if embedded.stop(home) else "it was not running")

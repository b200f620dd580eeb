"""`bts up`, `bts explore` and `bts stop` as their user meets them: what they ask for. They serve nothing themselves."""

from typing import Annotated

import typer

from bts_assets.contracts.errors import BtsError


def up(
    port: Annotated[int, typer.Option(help="Port of the explorer.")] = 8080,
    dagster_port: Annotated[int, typer.Option(help="Port of Dagster's UI.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
    metrics_port: Annotated[int, typer.Option(help="Port of /metrics, in Prometheus' format.")] = 9464,
) -> None:
    """Serve everything on loopback until interrupted: the explorer, Postgres, Dagster's UI and daemon, MLflow, metrics.

    Example: `bts up --port 8080 --dagster-port 3000 --mlflow-port 5000`
    """
    from bts_assets.cli.up import Ports, serve
    from bts_assets.settings import load_settings

    serve(load_settings(), Ports(port, dagster_port, mlflow_port, metrics_port))


def explore(
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any that is free.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback needs BTS_EXPLORER_TOKEN.")] = (
        "127.0.0.1"
    ),
    dagster: Annotated[str | None, typer.Option(help="Address of Dagster's UI, to link to its runs.")] = None,
    mlflow: Annotated[str | None, typer.Option(help="Address of MLflow's UI, to link to its runs.")] = None,
) -> None:
    """Serve the explorer alone until interrupted: what may pass a limit, stations, series, accuracy, landing files.

    It only reads. The pages are drawn here, and load nothing from elsewhere.

    Example: `bts explore --port 8080`
    """
    from bts_assets.cli.render.terminal import out
    from bts_assets.explorer.draw import Elsewhere
    from bts_assets.explorer.server import serve
    from bts_assets.settings import load_settings

    def say(address: str) -> None:
        out.print(f"Explorer  {address}", markup=False)
        out.print("Serving until you press Ctrl-C")

    serve(load_settings(), host, port, Elsewhere(dagster, mlflow), say)


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

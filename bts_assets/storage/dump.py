"""The database written to a file and loaded from one, by Postgres' own pg_dump and pg_restore."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final, cast

import psycopg2
import sqlalchemy as sa
from psycopg2.extensions import make_dsn, parse_dsn

from bts_assets.storage.embedded.host import binaries
from bts_assets.storage.embedded.roles import READER, WRITER
from bts_assets.storage.failures import DatabaseError
from bts_assets.storage.postgres import sqlalchemy_url

#: What is ours in a database.
SCHEMAS: Final = ("bts", "dagster", "mlflow")

#: What every script of pg_restore 18 sets at its head, and the first version that knows it.
_NEW_SETTING: Final = b"SET transaction_timeout = 0;\n"
_KNOWS_IT: Final = 170_000

#: Where MLflow's tables name the place of its artifacts.
_PLACES: Final = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def dump(url: str, file: Path) -> None:
    """Write the schemas of ours as one consistent snapshot, in pg_dump's custom format.

    Raises:
        DatabaseError: what pg_dump says, in one line.
    """
    schemas = _names(url, "SELECT nspname FROM pg_namespace WHERE nspname = ANY(%s)", SCHEMAS)
    _run("pg_dump", url, "--format=custom", *(f"--schema={name}" for name in schemas), f"--file={file}")


def load(url: str, file: Path) -> None:
    """Make everything of a dump in one transaction, as the role of `url`; grants too, where their roles are.

    Raises:
        DatabaseError: what pg_restore says, in one line; nothing is changed then.
    """
    known = _names(url, "SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", (READER, WRITER))
    grants = [] if len(known) == 2 else ["--no-privileges"]
    how = ["--clean", "--if-exists", "--no-owner", *grants, str(file)]
    if _version(url) >= _KNOWS_IT:
        _run("pg_restore", url, "--single-transaction", "--exit-on-error", *how)
    else:
        _run_script(url, how)


def is_occupied(url: str) -> bool:
    """Whether a schema of ours holds any table."""
    names = _names(
        url,
        "SELECT relname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname = ANY(%s) LIMIT 1",
        SCHEMAS,
    )
    return bool(names)


def move_artifacts(connection: sa.Connection, before: Path, after: Path) -> None:
    """Let MLflow's tables name its artifacts in the home `after`, where they named them in the home `before`."""
    if before == after or not connection.scalar(sa.text("SELECT to_regclass('mlflow.experiments') IS NOT NULL")):
        return
    given = {"before": f"{before.as_uri()}/", "after": f"{after.as_uri()}/"}
    for table, column in _PLACES:
        moved = f"UPDATE mlflow.{table} SET {column} = :after || substr({column}, length(:before) + 1)"  # noqa: S608 - names of ours
        connection.execute(sa.text(f"{moved} WHERE starts_with({column}, :before)"), given)


def _names(url: str, query: str, names: Sequence[str]) -> list[str]:
    try:
        with closing(psycopg2.connect(_dsn(url))) as connection, connection.cursor() as cursor:
            cursor.execute(query, (list(names),))
            return sorted(row[0] for row in cursor.fetchall())
    except psycopg2.OperationalError as error:
        raise DatabaseError(f"the database cannot be reached: {str(error).strip().splitlines()[0]}") from None


def _version(url: str) -> int:
    with closing(psycopg2.connect(_dsn(url))) as connection:
        return int(connection.server_version)


def _dsn(url: str) -> str:
    sqlalchemy_url(url)  # refuses what is no URL of Postgres, in one line
    return url.replace("postgresql+psycopg2://", "postgresql://", 1)


def _run(program: str, url: str, *arguments: str) -> None:
    """Run one of Postgres' own programs on a database."""
    place, environment = _place(url)
    done = subprocess.run(  # noqa: S603 - a program of the wheel, arguments of ours
        [binaries() / program, place, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        raise _failure(done.stderr)


def _place(url: str) -> tuple[str, dict[str, str]]:
    """The database as an argument, and the environment; the password is in the latter, where `ps` shows none."""
    place = parse_dsn(_dsn(url))
    environment = os.environ | ({"PGPASSWORD": place.pop("password")} if "password" in place else {})
    return f"--dbname={make_dsn(**place)}", environment


def _run_script(url: str, arguments: Sequence[str]) -> None:
    """Load a dump as the script that pg_restore makes of it, without the setting that an older server does not know."""
    place, environment = _place(url)
    strictly = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--output=/dev/null"]
    reads = [str(binaries() / "pg_restore"), "--file=-", *arguments]
    with (
        TemporaryFile() as said,
        subprocess.Popen(reads, stdout=subprocess.PIPE, stderr=said) as script,  # noqa: S603 - as above
        subprocess.Popen(  # noqa: S603
            [binaries() / "psql", place, *strictly], stdin=subprocess.PIPE, stderr=said, env=environment
        ) as loads,
    ):
        _forward(cast(IO[bytes], script.stdout), cast(IO[bytes], loads.stdin))
        if script.wait():
            loads.kill()  # so that what came so far is not committed
        loads.communicate()
        said.seek(0)
        told = said.read().decode(errors="replace")
    if script.returncode or loads.returncode:
        raise _failure(told)


def _forward(script: IO[bytes], loads: IO[bytes]) -> None:
    """All of a script but the new setting at its head, as far as it is taken."""
    with script, suppress(BrokenPipeError):  # psql says why it ended
        for line in iter(script.readline, b""):
            if line == _NEW_SETTING:
                break
            loads.write(line)
        shutil.copyfileobj(script, loads)


def _failure(said: str) -> DatabaseError:
    return DatabaseError((said.strip().splitlines() or ["no reason given"])[0])

"""The roles of the embedded Postgres: laid down at the first wake, and at that of a home from before there were any."""

from contextlib import closing
from typing import Final

from psycopg2.extensions import connection as Connection  # noqa: N812 - a class
from psycopg2.extensions import encrypt_password
from psycopg2.sql import SQL, Identifier, Literal

from bts_assets.storage.embedded.cluster import DATABASE, MAINTENANCE_DATABASE, Cluster
from bts_assets.storage.shipped import shipped

OWNER: Final = "bts_owner"
WRITER: Final = "bts_writer"
READER: Final = "bts_reader"
DAGSTER: Final = "dagster"
MLFLOW: Final = "mlflow"
ROLES: Final = (OWNER, WRITER, READER, DAGSTER, MLFLOW)

#: Counts up with sql/roles.sql: a home that has an older one is given the new.
_VERSION: Final = 2


def ensure_roles(cluster: Cluster) -> None:
    """Give the server its roles and their passwords, unless it has them. Called within `Cluster.exclusively`."""
    if cluster.roles_version() >= _VERSION:
        return
    passwords = {role: cluster.password(role, make=True) for role in ROLES}
    # All of it or nothing: whoever is killed in between finds nothing noted, and does it again.
    with closing(cluster.connect(DATABASE)) as connection, connection, connection.cursor() as cursor:
        cursor.execute((shipped("sql") / "roles.sql").read_text(encoding="utf-8"))
        for database in (MAINTENANCE_DATABASE, "template1"):
            cursor.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(database)))
        for role, password in passwords.items():
            _set_password(connection, role, password)
    cluster.note_roles(_VERSION)


def _set_password(connection: Connection, role: str, password: str) -> None:
    # What is sent is only its verifier: should the server log the statement, the password is not in it.
    verifier = encrypt_password(password, role, scope=connection, algorithm="scram-sha-256")
    with connection.cursor() as cursor:
        cursor.execute(SQL("ALTER ROLE {} PASSWORD {}").format(Identifier(role), Literal(verifier)))

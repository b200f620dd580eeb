"""The embedded Postgres of a home: created at first use, woken on demand, shared by every process of that home.

How it goes to sleep is in `idle_watcher`; what is stored in it is not here.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg2

from bts_assets.contracts.errors import DiskError
from bts_assets.storage.embedded.cluster import USER, Cluster
from bts_assets.storage.embedded.host import EmbeddedPostgresError, binaries
from bts_assets.storage.embedded.roles import ROLES, ensure_roles
from bts_assets.storage.failures import explained, first_line

__all__ = ["EmbeddedPostgresError", "binaries", "exists", "is_awake", "role_urls", "stop", "url", "version", "wake"]


def wake(home: Path, idle_stop: timedelta) -> str:
    """Make sure that the embedded Postgres of `home` answers, and return the libpq URL of its superuser.

    The server outlives the caller, and stops by itself once no client was connected for `idle_stop`; of several
    callers, the last decides. Any number of processes may wake one home at once.

    Raises:
        EmbeddedPostgresError: one line.
    """
    with _one_line_errors():
        cluster = Cluster.of(home)
        cluster.make_folder()
        with cluster.exclusively():
            # Before the server is looked for: the watcher decides under the same lock, so it cannot miss this.
            cluster.note_wake(idle_stop)
            cluster.ensure_awake()
            ensure_roles(cluster)
            cluster.ensure_watched()
            return cluster.url()


def stop(home: Path) -> bool:
    """End the server at once, rolling back what runs; true if there was one.

    Raises:
        EmbeddedPostgresError: one line.
    """
    with _one_line_errors():
        cluster = Cluster.of(home)
        if not cluster.folder.is_dir():
            return False
        with cluster.exclusively():
            stopped = cluster.stop()
        cluster.await_unwatched()
        return stopped


def exists(home: Path) -> bool:
    """Whether `home` has a server, awake or not. Changes nothing."""
    with _one_line_errors():
        return Cluster.of(home).data.is_dir()


def version() -> str:
    """The version of the Postgres that comes along, as its program says it: so it runs here.

    Raises:
        EmbeddedPostgresError: one line, where there is none for this platform or it does not run.
    """
    with _one_line_errors():
        command = [str(binaries() / "postgres"), "--version"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]  # noqa: S603 - a program of the wheel


def is_awake(home: Path) -> bool:
    """Whether the server of `home` accepts a connection now. Changes nothing."""
    with _one_line_errors():
        return Cluster.of(home).answers()


def url(home: Path, role: str = USER) -> str:
    """The libpq URL of the last start for a role, whether or not the server is awake.

    Raises:
        EmbeddedPostgresError: one line, where this home never had a server.
    """
    with _one_line_errors():
        return Cluster.of(home).url(role)


def role_urls(home: Path) -> dict[str, str]:
    """The libpq URL of each role but the superuser's.

    Raises:
        EmbeddedPostgresError: one line, where this home never had a server.
    """
    return {role: url(home, role) for role in ROLES}


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except subprocess.CalledProcessError as error:
        raise EmbeddedPostgresError(f"the embedded Postgres could not be started: {error}") from error
    except psycopg2.Error as error:
        raise explained(error) or EmbeddedPostgresError(first_line(error)) from error
    except OSError as error:
        told = explained(error)
        if isinstance(told, DiskError):
            raise told from error
        raise EmbeddedPostgresError(
            f"the embedded Postgres cannot use {error.filename or 'its folder'}: {error.strerror}"
        ) from error

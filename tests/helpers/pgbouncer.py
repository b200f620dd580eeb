"""PgBouncer before a server, in transaction mode, where it is installed; no tests are here."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import psycopg2

from bts_assets.storage.embedded.host import free_port

#: Its program, where there is one: Debian puts it where only root's PATH leads.
PGBOUNCER: Final = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")

#: Sessions are lent in turn, so that two transactions of one client seldom meet the same one.
_CONFIGURATION: Final = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = transaction
server_round_robin = 1
default_pool_size = 10
ignore_startup_parameters = {ignored}
"""


@contextmanager
def pooled(*urls: str, ignores_options: bool = True) -> Iterator[Sequence[str]]:
    """The databases of some URLs of one server, through a PgBouncer of their own.

    ignores_options: it drops the startup parameter `options`; as it comes, it refuses whoever sends it.
    """
    assert PGBOUNCER is not None
    server, port = urlsplit(urls[0]), free_port(None)
    # Not in pytest's own folders: they are closed to the unprivileged user that a root's PgBouncer runs as.
    with tempfile.TemporaryDirectory(prefix="bts-pgbouncer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        ignored = "extra_float_digits, options" if ignores_options else "extra_float_digits"
        told = {"host": server.hostname, "port": server.port, "own_port": port, "folder": folder, "ignored": ignored}
        (folder / "ini").write_text(_CONFIGURATION.format(**told), encoding="utf-8")
        users = {f'"{unquote(u.username or "")}" "{unquote(u.password or "")}"\n' for u in map(urlsplit, urls)}
        (folder / "users").write_text("".join(users), encoding="utf-8")
        command = [PGBOUNCER, "--quiet", str(folder / "ini")]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, **_someone()) as pool:
            try:
                through = [
                    u._replace(netloc=f"{_login(u.netloc)}@127.0.0.1:{port}").geturl() for u in map(urlsplit, urls)
                ]
                _await(through[0])
                yield through
            finally:
                pool.terminate()


def _someone() -> dict[str, Any]:
    """It refuses to run as root."""
    return {"user": pwd.getpwnam("nobody").pw_uid} if os.geteuid() == 0 else {}


def _login(netloc: str) -> str:
    return netloc.rpartition("@")[0]


def _await(url: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            with closing(psycopg2.connect(url)):
                return
        except psycopg2.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)

"""A Postgres of somebody else's programs, in a folder of its own, gone when it is over."""

import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg2

from bts_assets.storage.embedded.host import free_port, server_environment, server_identity

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "150",
    "dynamic_shared_memory_type": "mmap",
    "fsync": "off",  # nobody kills it
}
_PATIENCE_SECONDS: Final = 60


@contextmanager
def foreign_server(programs: Path) -> Iterator[str]:
    """Start a new server with the programs of a folder (`initdb`, `postgres`); the libpq URL of its superuser `bts`.

    Raises:
        RuntimeError: if it does not start.
    """
    run_as = server_identity()
    # Not below a folder that is closed to the unprivileged user that a root's server runs as.
    with tempfile.TemporaryDirectory(prefix="bts-foreign-") as name:
        folder, password = Path(name), secrets.token_hex(8)
        folder.chmod(0o755)
        _make(programs, folder, password, run_as)
        port = free_port(None)
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), *settings]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(  # noqa: S603 - programs that we were given
                command, env=server_environment(), cwd="/", stdout=log, stderr=log, **run_as
            )
        try:
            url = f"postgresql://bts:{password}@127.0.0.1:{port}/postgres"
            _await(url, folder / "log")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # whoever is connected is cut off
            server.wait()


def _make(programs: Path, folder: Path, password: str, run_as: dict[str, Any]) -> None:
    (folder / "data").mkdir(mode=0o700)
    (folder / "password").write_text(password, encoding="utf-8")
    if run_as:
        os.chown(folder / "data", run_as["user"], run_as["group"])
    who = ["-U", "bts", "-A", "scram-sha-256", f"--pwfile={folder / 'password'}"]
    command = [str(programs / "initdb"), "-D", str(folder / "data"), *who, "--encoding=UTF8", "--locale=C"]
    done = subprocess.run(  # noqa: S603 - as above
        command, env=server_environment(), cwd="/", capture_output=True, text=True, check=False, **run_as
    )
    if done.returncode:
        raise RuntimeError(f"{programs / 'initdb'}: {done.stderr.strip()}")


def _await(url: str, log: Path) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            with closing(psycopg2.connect(url)):
                return
        except psycopg2.OperationalError as error:
            if time.monotonic() > until:
                raise RuntimeError(f"{error}: {log.read_text(encoding='utf-8')[-1000:]}") from None
            time.sleep(0.05)

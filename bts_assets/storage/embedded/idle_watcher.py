"""The process that puts an idle embedded Postgres to sleep; started by `wake`, it outlives every other bts process.

Run as `python -m bts_assets.storage.embedded.idle_watcher HOME DESCRIPTOR`, the latter an open `watch.lock` that is
held by whoever watches. Nothing here starts a server.
"""

import fcntl
import os
import select
import sys
import time
from pathlib import Path
from typing import Final

import psycopg2

from bts_assets.storage.embedded.cluster import MAINTENANCE_DATABASE, Cluster

_LONGEST_PAUSE_SECONDS: Final = 5.0

# Sessions are counted too: a client that comes and goes between two looks is a client.
_ACTIVITY: Final = f"""
    SELECT (SELECT count(*) FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
           (SELECT coalesce(sum(sessions), 0)::bigint FROM pg_stat_database WHERE datname <> '{MAINTENANCE_DATABASE}')
"""  # noqa: S608 - a constant


def watch(cluster: Cluster, lock: int) -> None:
    """Stop the server once nobody used it for as long as the last wake allows; return when there is none."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:  # a network file system did not pass the lock on, and another watcher took it
        return
    server = _Look(cluster)
    seen = None
    busy_at = time.monotonic()
    while True:
        wake = cluster.last_wake()
        allowed = max(float(wake.split()[0]), 0.5)
        clients, sessions = server.activity()
        if clients or (clients == 0 and seen != (wake, sessions)):
            seen = (wake, sessions)
            busy_at = time.monotonic()
        elif clients is None or time.monotonic() - busy_at >= allowed:
            seen = None
            # Under the lock of `wake`: whoever comes now finds either the server, or neither it nor its watcher.
            with cluster.exclusively():
                if clients == 0 and server.activity() == (0, sessions) and cluster.last_wake() == wake:
                    cluster.stop()
                if not cluster.has_processes():
                    os.close(lock)
                    return
        server.wait(min(_LONGEST_PAUSE_SECONDS, allowed / 5))


class _Look:
    """A connection that is kept: a look every few seconds should cost no log-in."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.connection: psycopg2.extensions.connection | None = None

    def activity(self) -> tuple[int | None, int]:
        """Clients now, and sessions ever; (None, 0) where the server does not answer."""
        try:
            if self.connection is None:
                self.connection = self.cluster.connect()
                self.connection.autocommit = True
            with self.connection.cursor() as cursor:
                cursor.execute(_ACTIVITY)
                clients, sessions = cursor.fetchone() or (None, 0)
                return clients, sessions
        except psycopg2.Error:
            self.connection = None
            return None, 0

    def wait(self, seconds: float) -> None:
        """Until `seconds` are over or the server closes the connection, which makes it readable."""
        if self.connection is None:
            time.sleep(min(seconds, 0.5))
        else:
            select.select([self.connection], [], [], seconds)


if __name__ == "__main__":
    watch(Cluster.of(Path(sys.argv[1])), int(sys.argv[2]))

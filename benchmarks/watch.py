"""What this process, the embedded Postgres of a home and its folder take, looked at in a thread while work is done."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

#: Seconds between two looks at a process, and at the folder, which costs more.
EVERY: Final = 0.05
_DISK_EVERY: Final = 1.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Watch:
    """Seen of the process: (time, RSS, CPU, Postgres' CPU); of the disk: (time, Postgres' bytes, other bytes)."""

    def __init__(self, home: Path) -> None:
        self._home, self._over = home, threading.Event()
        self.seen: list[tuple[float, int, float, float]] = []
        self.disk: list[tuple[float, int, int]] = []

    def __enter__(self) -> "Watch":
        self.disk.append((time.time(), *disk_bytes(self._home)))
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.disk.append((time.time(), *disk_bytes(self._home)))

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            own = time.process_time() - time.thread_time()  # without what looking costs
            self.seen.append((time.time(), _anonymous(), own, server_cpu(self._home)))
            if time.time() - self.disk[-1][0] > _DISK_EVERY:
                self.disk.append((time.time(), *disk_bytes(self._home)))

    def between(self, start: float, end: float) -> dict[str, float]:
        """Wall and CPU seconds, Postgres' CPU seconds, peak memory, and bytes added on disk in a stage."""
        rows = [row for row in self.seen if start <= row[0] <= end]
        first = next((row for row in reversed(self.seen) if row[0] < start), self.seen[0])
        last = rows[-1] if rows else first
        at, postgres, other = np.array(self.disk, np.float64).T
        # Between two looks as if it grew evenly, so that stages add up.
        grown = [np.diff(np.interp([start, end], at, held)).item() for held in (postgres, other)]
        return {
            "wall_s": round(end - start, 2),
            "cpu_s": round(last[2] - first[2], 2),
            "postgres_cpu_s": round(last[3] - first[3], 2),
            "peak_bytes": max((row[1] for row in rows), default=first[1]),
            "postgres_added_bytes": round(grown[0]),
            "files_added_bytes": round(grown[1]),
        }


def disk_bytes(home: Path) -> tuple[int, int]:
    """Bytes of a home's Postgres, without its journal, whose files are used again; and of all its other files."""
    server = home / "postgres"
    return sum(_sizes(server / "data" / "base", None)), sum(_sizes(home, server))


def _sizes(folder: Path, without: Path | None) -> Iterator[int]:
    with suppress(OSError), os.scandir(folder) as found:
        for item in found:
            with suppress(OSError):  # gone since
                if item.is_dir(follow_symlinks=False):
                    if without is None or item.path != str(without):
                        yield from _sizes(Path(item.path), without)
                else:
                    yield item.stat(follow_symlinks=False).st_size


def _anonymous() -> int:
    """Resident memory of this process that no file backs, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def server_cpu(home: Path) -> float:
    """CPU seconds of a home's Postgres, sessions that have ended among them."""
    try:
        main = int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            cells = stat.read_text().rpartition(")")[2].split()
            if int(stat.parent.name) == main:
                total += sum(map(int, cells[11:15]))
            elif int(cells[1]) == main:
                total += sum(map(int, cells[11:13]))
    return total / _TICKS

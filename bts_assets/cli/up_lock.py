"""Who serves a home: at most one `bts up`, which holds a lock; and what an earlier one may have left behind."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bts_assets.contracts.errors import BtsError

#: In the environment of whatever `bts up` starts: the home that it serves.
MARK: Final = "BTS_UP_SERVES"

#: Outlives `bts up` by design: it goes to sleep by itself.
_NOT_OURS: Final = "bts_assets.storage.embedded"


@contextmanager
def served_by_us(home: Path) -> Iterator[None]:
    """Hold the lock; it is free when this process is gone, however it went.

    Raises:
        BtsError: naming the process that serves this home already, or those that an earlier `bts up` left.
    """
    home.mkdir(parents=True, exist_ok=True)
    lock = os.open(home / "up.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BtsError(f"{_named(lock)} serves {home} already: use its pages, or end it first") from None
        left = leftovers(home)
        if left:
            named = ", ".join(f"{pid} ({command})" for pid, command in left.items())
            raise BtsError(
                f"an earlier bts up of {home} left processes behind: {named};"
                f" end them, then try again: kill {' '.join(map(str, left))}"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def who_serves(home: Path) -> str | None:
    """In words, the `bts up` that serves a home; None: none does."""
    try:
        lock = os.open(home / "up.lock", os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(lock)
    finally:
        os.close(lock)
    return None


def leftovers(home: Path) -> dict[int, str]:
    """Processes that were started to serve a home and still run, where /proc tells: number -> command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            program, *arguments = (folder / "cmdline").read_bytes().decode(errors="replace").strip("\0").split("\0")
        except OSError:
            continue
        # Without its folder, which can be as long as all that is shown.
        command = " ".join([program.rpartition("/")[2], *arguments])
        if f"{MARK}={home}".encode() in environment and _NOT_OURS not in command and int(folder.name) != os.getpid():
            found[int(folder.name)] = command[:60]
    return found


def _named(lock: int) -> str:
    pid = os.pread(lock, 20, 0).decode(errors="replace").strip()
    return f"bts up (process {pid})" if pid else "bts up"

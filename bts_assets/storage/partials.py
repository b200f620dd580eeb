"""Files and folders that are being written under a passing name, and clearing away those whose writer died.

Who writes holds a lock on what it writes, which ends with the process, however that ends: so what no one holds is of a
process that died. What is written, and under which name it comes to rest, is the caller's.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def partial_file(path: Path) -> Iterator[int]:
    """Make an empty file and hold it; its descriptor. If it is still there at the end, it is deleted."""
    held = _held(path, os.O_RDWR | os.O_CREAT)
    try:
        yield held
    finally:
        path.unlink(missing_ok=True)
        os.close(held)


@contextmanager
def partial_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Make an empty folder and hold it. If it is still there at the end, it is deleted."""
    path, held = _held_folder(parent, prefix)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def clear_abandoned(paths: Iterable[Path]) -> int:
    """Delete those files and folders that no living process writes; how many."""
    cleared = 0
    for path in paths:
        try:
            held = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            cleared += 1
        except BlockingIOError:
            pass
        finally:
            os.close(held)
    return cleared


def _held_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        # Else it was cleared away between the two, as one that nobody holds.
        with suppress(FileNotFoundError):
            return path, _held(path, os.O_RDONLY)


def _held(path: Path, flags: int) -> int:
    while True:
        descriptor = os.open(path, flags, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # else it was cleared away between the two
            return descriptor
        os.close(descriptor)

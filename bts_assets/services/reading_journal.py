"""Which landing files are being read: a mark for each, so that a file that kills the run is known by the next one.

A mark is a small file in the home, locked by whoever reads; the lock ends with the process, however that ends. A mark
that no one holds is of a run that died. Here are only the marks; what is done about them is `ingest`'s.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bts_assets.landing.inbox import LandingFile

#: A file that was being read when so many runs died is not read again: others may have died beside the first of them.
FATAL: Final = 2


class ReadingJournal:
    """The marks below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deaths(self, file: LandingFile) -> int:
        """How many runs died while they read this file as it is."""
        try:
            with self._path(file).open("rb") as mark:
                if not _locked(mark.fileno()):
                    return 0  # it is being read
                return _deaths(mark.read(), file)
        except FileNotFoundError:
            return 0

    @contextmanager
    def reading(self, file: LandingFile) -> Iterator[None]:
        """Marks the file while it is read: what is left of the mark is one death more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(file)
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as mark:
            if _locked(mark.fileno()):  # else another process reads it too, and has marked it
                count = _deaths(mark.read(), file) + 1
                entry = {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns, "deaths": count}
                mark.seek(0)
                mark.write(json.dumps(entry).encode())
                mark.truncate()
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        yield

    def forget(self) -> None:
        """Give every file another chance."""
        for mark in self._folder.glob("*.json"):
            mark.unlink(missing_ok=True)

    def _path(self, file: LandingFile) -> Path:
        return self._folder / f"{hashlib.sha256(file.name).hexdigest()[:32]}.json"


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _deaths(entry: bytes, file: LandingFile) -> int:
    """What a mark says of the file as it is; a mark that was not written whole is of a run that died too."""
    if not entry:
        return 0
    try:
        told: dict[str, Any] = json.loads(entry)
        same = (told["size"], told["mtime_ns"]) == (file.size, file.mtime_ns)
        return int(told["deaths"]) if same else 0
    except (ValueError, KeyError, TypeError):
        return 1

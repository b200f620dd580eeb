"""Which landing files are being read: a mark for each, so that a file that kills the run is known by the next one.

A mark is a small file in the home, locked by whoever reads; the lock ends with the process, however that ends. A mark
that no one holds is of a run that died. Files that are parsed together have one mark; of a run that died it makes each
of them a suspect. Here are only the marks; what is done about them is `ingest`'s.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import get_ident
from typing import Any, Final

from bts_assets.landing.inbox import LandingFile

#: A file that was being read when so many runs died is not read again: others may have died beside the first of them.
FATAL: Final = 2
#: How the name of a mark of several files ends.
_TOGETHER: Final = ".together"


class ReadingJournal:
    """The marks below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def deaths(self, files: Sequence[LandingFile]) -> dict[str, int]:
        """How many runs died while they read a file as it is, by its path; only those that have a mark of their own."""
        marks = {path.name for path in self._folder.glob("*.json")}
        marked = (file for file in files if self._path(file).name in marks) if marks else ()
        return {file.path: deaths for file in marked if (deaths := self._deaths(file))}

    def _deaths(self, file: LandingFile) -> int:
        try:
            with self._path(file).open("rb") as mark:
                if not _locked(mark.fileno()):
                    return 0  # it is being read
                return _deaths(mark.read(), file.size, file.mtime_ns)
        except FileNotFoundError:
            return 0

    @contextmanager
    def reading(self, file: LandingFile) -> Iterator[None]:
        """Marks the file while it is read: what is left of the mark is one death more."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(file)
        with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0) as mark:
            if _locked(mark.fileno()):  # else another process reads it too, and has marked it
                count = _deaths(mark.read(), file.size, file.mtime_ns) + 1
                mark.seek(0)
                mark.write(json.dumps(_entry(file, count)).encode())
                mark.truncate()
                try:
                    yield
                finally:
                    path.unlink(missing_ok=True)
                return
        yield

    @contextmanager
    def reading_together(self, files: Sequence[LandingFile]) -> Iterator[None]:
        """Marks files while they are read together; `divide` says what is left of the mark."""
        self._folder.mkdir(parents=True, exist_ok=True)
        # Others may read some of them, or all, at the same time: their mark is another.
        path = self._folder / f"{os.getpid()}-{get_ident()}-{self._path(files[0]).stem}{_TOGETHER}"
        with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600), "r+b", buffering=0) as mark:
            fcntl.flock(mark.fileno(), fcntl.LOCK_EX)
            mark.write(json.dumps({self._path(file).name: _entry(file) for file in files}).encode())
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def divide(self) -> None:
        """Have each file that was being read together with others, by a run that died, marked for itself: which of
        them killed it is not known. Killed on the way, the next one does the rest.
        """
        for path in self._folder.glob(f"*{_TOGETHER}"):
            with suppress(FileNotFoundError), path.open("rb") as mark:
                if _locked(mark.fileno()):
                    for name, entry in _entries(mark.read()).items():
                        self._mark(name, entry)
                    path.unlink(missing_ok=True)

    def _mark(self, name: str, entry: dict[str, Any]) -> None:
        """A file's own mark, unless it has one as it is."""
        path = self._folder / name
        if not path.exists() or not _deaths(path.read_bytes(), entry["size"], entry["mtime_ns"]):
            partial = path.with_suffix(".part")
            partial.write_text(json.dumps(entry), encoding="utf-8")
            partial.replace(path)

    def spare(self, files: Sequence[LandingFile]) -> None:
        """Take back what is told of files whose readers were ended from outside; not of those that are being read."""
        for file in files:
            with suppress(FileNotFoundError), self._path(file).open("rb") as mark:
                if _locked(mark.fileno()):
                    self._path(file).unlink(missing_ok=True)

    def forget(self) -> None:
        """Give every file another chance."""
        for mark in (*self._folder.glob("*.json"), *self._folder.glob(f"*{_TOGETHER}")):
            mark.unlink(missing_ok=True)

    def _path(self, file: LandingFile) -> Path:
        return self._folder / f"{hashlib.sha256(file.name).hexdigest()[:32]}.json"


def _entry(file: LandingFile, deaths: int = 1) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns, "deaths": deaths}


def _entries(marks: bytes) -> dict[str, Any]:
    """What the mark of several files says; nothing, if it was not written whole: then none of them was parsed yet."""
    try:
        return dict(json.loads(marks))
    except ValueError:
        return {}


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _deaths(entry: bytes, size: int, mtime_ns: int) -> int:
    """What a mark says of the file as it is; a mark that was not written whole is of a run that died too."""
    if not entry:
        return 0
    try:
        told: dict[str, Any] = json.loads(entry)
        same = (told["size"], told["mtime_ns"]) == (size, mtime_ns)
        return int(told["deaths"]) if same else 0
    except (ValueError, KeyError, TypeError):
        return 1

"""Which landing files are there and may be taken, and their bytes. What the bytes mean is for `files`."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bts_assets.contracts.errors import InputError
from bts_assets.landing.errors import LandingFileRefused, StillChanging
from bts_assets.landing.scratch import Bytes, Scratch, kept

#: How the name of a landing file ends, in any case.
ENDINGS: Final = (b".csv", b".csv.gz")


@dataclass(frozen=True)
class LandingFile:
    """One regular file as a look saw it.

    `path` is relative to the landing root and safe to store and print (see `printable`); `name` is the same path
    as the file system spells it. `links` counts its hard links, `device` and `inode` say which file it is.
    """

    path: str
    name: bytes
    size: int
    mtime_ns: int
    inode: int
    device: int
    links: int


@dataclass(frozen=True)
class Skipped:
    """Something in the landing folder that is not taken, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Look:
    """What stood in the landing folder at one moment, each in order of path.

    `skipped` are named like landing files, or are folders, and cannot be taken; `others` have other names, and are not
    looked at.
    """

    files: tuple[LandingFile, ...]
    skipped: tuple[Skipped, ...]
    others: tuple[Skipped, ...] = ()


class LandingFolderMissing(InputError):
    """There is no landing folder, or it cannot be read."""


def check_folder(root: Path) -> None:
    """Raises LandingFolderMissing if `root` is not a folder that can be read."""
    try:
        os.scandir(root).close()
    except OSError as error:
        problem = os.strerror(error.errno or 0).lower()
        raise LandingFolderMissing(f"landing folder {root}: {problem}; name another by BTS_LANDING_DIR") from None


def look(root: Path) -> Look:
    """List the landing files below `root`: `*.csv` and `*.csv.gz` in any case, at any depth; hidden names left alone.

    Raises:
        LandingFolderMissing: if `root` is not a folder that can be read.
    """
    check_folder(root)
    seen = list(_walk(os.fsencode(root)))
    inside = Counter((f.device, f.inode) for f in seen if isinstance(f, LandingFile))
    seen = [_without_outside_links(s, inside) if isinstance(s, LandingFile) else s for s in seen]
    files = sorted((s for s in seen if isinstance(s, LandingFile)), key=lambda f: f.path)
    left = sorted((s for s in seen if isinstance(s, Skipped)), key=lambda s: s.path)
    skipped = (s for s in left if not s.reason.startswith(_OTHER))
    return Look(tuple(files), tuple(skipped), tuple(s for s in left if s.reason.startswith(_OTHER)))


def as_seen_here(root: Path, file: LandingFile) -> LandingFile:
    """A file that another machine looked at: on each a shared folder may be another device."""
    try:
        return replace(file, device=os.lstat(os.path.join(os.fsencode(root), file.name)).st_dev)
    except OSError:
        return file


def settled(first: Look, second: Look) -> tuple[list[LandingFile], list[LandingFile]]:
    """The files of the second look: (unchanged since the first, new or still being written)."""
    before = set(first.files)
    ready = [file for file in second.files if file in before]
    return ready, [file for file in second.files if file not in before]


def read_settled(root: Path, file: LandingFile, max_bytes: int) -> bytes:
    """The bytes of a file that is still the one which was looked at, before and after reading.

    Raises:
        StillChanging: if it is not.
        LandingFileRefused: if it is larger than `max_bytes` (then none of it is read) or cannot be read.
    """
    return b"".join(_settled_pieces(root, file, max_bytes, 1 << 26))


def copy_settled(root: Path, file: LandingFile, max_bytes: int, scratch: Scratch) -> tuple[Bytes, str]:
    """As `read_settled`, but kept where `scratch` says; and their digest.

    Raises:
        StillChanging, LandingFileRefused: as `read_settled` says.
        OSError: if the disk does not take a temporary file.
    """
    digest = hashlib.sha256()

    def hashed() -> Iterator[bytes]:
        for piece in _settled_pieces(root, file, max_bytes, 1 << 20):
            digest.update(piece)
            yield piece

    return kept(hashed(), scratch), digest.hexdigest()


def _settled_pieces(root: Path, file: LandingFile, max_bytes: int, size: int) -> Iterator[bytes]:
    try:
        descriptor = _open_below(root, file.name)
    except PermissionError:
        raise LandingFileRefused(f"{file.path} may not be read by this user") from None
    except OSError as error:
        raise StillChanging(f"{file.path} is not what it was: {os.strerror(error.errno or 0).lower()}") from None
    with open(descriptor, "rb", buffering=0):
        _check_unchanged(file, descriptor)
        if file.size > max_bytes:
            raise LandingFileRefused(f"{file.path} has {file.size} bytes; BTS_MAX_FILE_BYTES allows {max_bytes}")
        left = file.size + 1
        while left and (piece := _read(file, descriptor, min(left, size))):
            yield piece
            left -= len(piece)
        if left != 1:
            raise StillChanging(f"{file.path} changed its size while it was read")
        _check_unchanged(file, descriptor)


def _read(file: LandingFile, descriptor: int, size: int) -> bytes:
    try:
        return os.read(descriptor, size)
    except OSError as error:
        raise LandingFileRefused(f"{file.path} cannot be read: {os.strerror(error.errno or 0).lower()}") from None


def digest_of(data: bytes) -> str:
    """SHA-256 in hexadecimal: the name that a landing file is known by."""
    return hashlib.sha256(data).hexdigest()


def printable(name: bytes) -> str:
    """A path as text that any terminal and Postgres can hold, from which the bytes can be told again.

    Backslashes are doubled; bytes that are not UTF-8 and characters that do not print become escapes like `\\xff`.
    """
    text = name.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _walk(root: bytes) -> Iterator[LandingFile | Skipped]:
    folders = [b""]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))
        except OSError as error:
            yield Skipped(printable(folder), f"folder cannot be read: {os.strerror(error.errno or 0).lower()}")
            continue
        for entry in entries:
            name = os.path.join(folder, entry.name)
            if entry.name.startswith(b"."):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif entry.name.lower().endswith(ENDINGS):
                yield _look_at(entry, name)
            elif entry.is_symlink() and entry.is_dir():
                yield Skipped(printable(name), "a symbolic link to a folder; links are not followed")
            else:
                yield Skipped(printable(name), _OTHER)


#: Why a file of another name is not looked at.
_OTHER: Final = "its name ends in neither .csv nor .csv.gz"


def _without_outside_links(file: LandingFile, inside: Counter[tuple[int, int]]) -> LandingFile | Skipped:
    """A file that has more hard links than names in the landing folder is someone else's too."""
    outside = file.links - inside[file.device, file.inode]
    if outside <= 0:
        return file
    return Skipped(file.path, f"a hard link to a file outside ({outside} more names); copy it here instead")


def _look_at(entry: os.DirEntry[bytes], name: bytes) -> LandingFile | Skipped:
    path = printable(name)
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError as error:
        return Skipped(path, f"cannot be looked at: {os.strerror(error.errno or 0).lower()}")
    if stat.S_ISLNK(status.st_mode):
        return Skipped(path, "a symbolic link; links are not followed")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(path, "not a regular file")
    identity = (status.st_ino, status.st_dev, status.st_nlink)
    return LandingFile(path, name, status.st_size, status.st_mtime_ns, *identity)


def _open_below(root: Path, name: bytes) -> int:
    """Open component by component, so that a folder swapped for a link cannot lead out of the root."""
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    *parents, last = name.split(b"/")
    try:
        for parent in parents:
            inner = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Without O_NONBLOCK, a FIFO put in the file's place would hang the night.
        return os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def _check_unchanged(file: LandingFile, descriptor: int) -> None:
    now = os.fstat(descriptor)
    found = (now.st_size, now.st_mtime_ns, now.st_ino, now.st_dev, now.st_nlink)
    seen = (file.size, file.mtime_ns, file.inode, file.device, file.links)
    if not stat.S_ISREG(now.st_mode) or found != seen:
        raise StillChanging(f"{file.path} changed since it was looked at")

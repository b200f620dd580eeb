"""Where the text and the readings of a large landing file are while it is read: in temporary files without a name. They
end with the process, however that ends.
"""

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

#: A text in memory, or in a temporary file of which memory has what is looked at, as far as there is room.
Bytes = bytes | mmap.mmap


@dataclass(frozen=True)
class Scratch:
    """What may be held in memory of one landing file, and the folder for what is more. text_bytes: of its text; rows:
    readings that are sorted together.
    """

    folder: Path
    text_bytes: int
    rows: int

    def file(self) -> IO[bytes]:
        """A new temporary file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return TemporaryFile(dir=self.folder, prefix=PREFIX)


#: How the name of a temporary file begins where the file system knows only files with a name, until it is taken away.
PREFIX = ".part-"


def kept(pieces: Iterable[bytes], scratch: Scratch | None) -> Bytes:
    """The pieces as one; in memory as far as `scratch` allows that, and without one."""
    held: list[bytes] = []
    size = 0
    pieces = iter(pieces)
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if scratch and size > scratch.text_bytes:
            break
    else:
        return b"".join(held)
    with scratch.file() as file:
        file.writelines(held)
        held.clear()
        file.writelines(pieces)
        return mapped(file)


def mapped(file: IO[bytes]) -> mmap.mmap:
    """All that was written, to be read. A landing file itself is never mapped: whoever cut that short would end this
    process.
    """
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def count(text: Bytes, wanted: bytes, start: int, end: int) -> int:
    """How often a text that cannot overlap itself occurs within a stretch."""
    if isinstance(text, bytes):
        return text.count(wanted, start, end)
    beyond = len(wanted) - 1
    return sum(text[at : min(at + _PIECE + beyond, end)].count(wanted) for at in range(start, end, _PIECE))


_PIECE = 1 << 20

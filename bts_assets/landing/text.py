"""Bytes as text: encodings in, printable lines out."""

import codecs
from typing import Final

import numpy as np

from bts_assets.landing.errors import LandingFileRefused

#: A rejected line is kept to be recognised, not to be processed.
LONGEST_LINE_KEPT: Final = 1000


def transcoded(data: bytes) -> bytes:
    """The same lines as UTF-8 without byte order mark; bytes that are not UTF-8 become escapes like `\\xff`.

    Raises:
        LandingFileRefused: if a UTF-16 mark is followed by something else.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16").encode()
        except UnicodeError:
            raise LandingFileRefused("the file is not text: it is marked as UTF-16 and is not") from None
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.isascii():
        return data
    return data.decode("utf-8", "backslashreplace").encode()


def lines_of(text: bytes, numbers: np.ndarray) -> list[bytes]:
    """The physical lines of these 1-based numbers; a line ends with LF, CR LF or CR."""
    if not len(numbers):
        return []
    if b"\r" not in text or text.count(b"\r") == text.count(b"\r\n"):
        # Several times as fast as splitting, for the few lines that are asked for.
        ends = np.append(np.flatnonzero(np.frombuffer(text, "uint8") == ord("\n")), len(text))
        starts = np.concatenate([[0], ends[:-1] + 1])
        return [text[starts[n - 1] : ends[n - 1]].removesuffix(b"\r") for n in numbers]
    lines = text.splitlines()
    return [lines[n - 1] for n in numbers]


def printable_line(line: bytes, longest: int = LONGEST_LINE_KEPT) -> str:
    """A line as text that Postgres can hold (it cannot hold NUL), cut at `longest` characters."""
    text = line.decode("utf-8", "backslashreplace").replace("\0", "\\x00")
    return text if len(text) <= longest else text[: longest - 1] + "…"

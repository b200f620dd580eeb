"""Bytes as text: compression and encodings in, printable lines out."""

import codecs
import zlib
from dataclasses import dataclass
from typing import Final, Literal

from bts_assets.landing.errors import LandingFileRefused

#: A rejected line is kept to be recognised, not to be processed.
LONGEST_LINE_KEPT: Final = 1000

Encoding = Literal["utf-8", "utf-8-bom", "utf-16", "not utf-8"]
Compression = Literal["none", "gzip"]

_GZIP: Final = b"\x1f\x8b"
_PIECE: Final = 1 << 24
#: A header has at least so many letters; UTF-16 without a mark shows in them.
_TELLING: Final = 16


@dataclass(frozen=True)
class Text:
    """UTF-8 without byte order mark, and what the file's bytes were; bytes that are not UTF-8 are escapes: `\\xff`."""

    data: bytes
    encoding: Encoding
    compression: Compression


def decoded(data: bytes, max_bytes: int | None = None) -> Text:
    """The text of a file, whatever its encoding, plain or in gzip.

    Raises:
        LandingFileRefused: if gzip is damaged or holds more than `max_bytes`, or UTF-16 is marked and is not there.
    """
    compression: Compression = "none"
    if data.startswith(_GZIP):
        data, compression = _unzipped(data, max_bytes), "gzip"
    return Text(*_transcoded(data), compression)


def _transcoded(data: bytes) -> tuple[bytes, Encoding]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _from_utf16(data, "utf-16", "it is marked as UTF-16 and is not")
    if (order := _unmarked_utf16(data)) is not None:
        return _from_utf16(data, order, "it begins as UTF-16 and does not go on so")
    marked = data.startswith(codecs.BOM_UTF8)
    data = data.removeprefix(codecs.BOM_UTF8)
    if data.isascii() or _is_utf8(data):
        return data, "utf-8-bom" if marked else "utf-8"
    return data.decode("utf-8", "backslashreplace").encode(), "not utf-8"


def _from_utf16(data: bytes, order: str, why: str) -> tuple[bytes, Encoding]:
    try:
        return data.decode(order).encode(), "utf-16"
    except UnicodeError:
        raise LandingFileRefused(f"the file is not text: {why}") from None


def _unmarked_utf16(data: bytes) -> str | None:
    """The byte order of UTF-16 without a mark: ASCII letters with a NUL beside each, as no other begins."""
    first = data[: 2 * _TELLING]
    for order, letters, nuls in (("utf-16-le", first[::2], first[1::2]), ("utf-16-be", first[1::2], first[::2])):
        if len(first) == 2 * _TELLING and not any(nuls) and all(letters) and letters.isascii():
            return order
    return None


def _is_utf8(data: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _PIECE):
            decoder.decode(data[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _unzipped(data: bytes, max_bytes: int | None) -> bytes:
    """Every member of a gzip file, no more of it held than `max_bytes`."""
    room = (max_bytes if max_bytes is not None else 1 << 62) + 1
    pieces: list[bytes] = []
    rest = data
    while rest.startswith(_GZIP):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        while not member.eof:
            try:
                piece = member.decompress(rest, min(_PIECE, room))
            except zlib.error:
                raise LandingFileRefused("the file is damaged: its gzip data cannot be unpacked") from None
            rest = member.unconsumed_tail
            if not piece and not member.eof and not rest:
                raise LandingFileRefused("the file is cut short: its gzip data ends too early")
            pieces.append(piece)
            room -= len(piece)
            if room <= 0:
                raise LandingFileRefused(f"unpacked, it has more bytes than BTS_MAX_FILE_BYTES allows ({max_bytes})")
        # Zeros that pad the end are not another member.
        rest = member.unused_data
    return b"".join(pieces)


_ESCAPES: Final = {0: "\\x00", 10: "\\n", 13: "\\r"}


def printable_line(line: bytes, longest: int = LONGEST_LINE_KEPT) -> str:
    """A record as one line of text that Postgres can hold (it cannot hold NUL), cut at `longest` characters."""
    # No character has more than four bytes.
    text = line[: 4 * longest + 4].decode("utf-8", "backslashreplace").translate(_ESCAPES)
    return text if len(text) <= longest else text[: longest - 1] + "…"

"""Bytes as text: compression and encodings in, printable lines out."""

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.scratch import Bytes, Scratch, kept

#: A rejected line is kept to be recognised, not to be processed.
LONGEST_LINE_KEPT: Final = 1000

Encoding = Literal["utf-8", "utf-8-bom", "utf-16", "not utf-8"]
Compression = Literal["none", "gzip"]

_GZIP: Final = b"\x1f\x8b"
#: Bytes that are unpacked or decoded together.
_PIECE: Final = 1 << 20
#: A header has at least so many letters; UTF-16 without a mark shows in them.
_TELLING: Final = 16


@dataclass(frozen=True)
class Text:
    """UTF-8 without byte order mark, and what the file's bytes were; bytes that are not UTF-8 are escapes: `\\xff`."""

    data: Bytes
    encoding: Encoding
    compression: Compression


def decoded(data: Bytes, max_bytes: int | None = None, scratch: Scratch | None = None) -> Text:
    """The text of a file, whatever its encoding, plain or in gzip; kept where `scratch` says.

    Raises:
        LandingFileRefused: if gzip is damaged or holds more than `max_bytes`, or UTF-16 is marked and is not there.
        OSError: if the disk does not take a temporary file.
    """
    compression: Compression = "none"
    if data[: len(_GZIP)] == _GZIP:
        data, compression = kept(_unzipped(data, max_bytes), scratch), "gzip"
    return Text(*_transcoded(data, scratch), compression)


def _transcoded(data: Bytes, scratch: Scratch | None) -> tuple[Bytes, Encoding]:
    first = data[: 2 * _TELLING]
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _from_utf16(data, "utf-16", "it is marked as UTF-16 and is not", scratch)
    if (order := _unmarked_utf16(first)) is not None:
        return _from_utf16(data, order, "it begins as UTF-16 and does not go on so", scratch)
    start = len(codecs.BOM_UTF8) if first.startswith(codecs.BOM_UTF8) else 0
    if (isinstance(data, bytes) and data.isascii()) or _is_utf8(data, start):
        return kept(_pieces(data, start), scratch) if start else data, "utf-8-bom" if start else "utf-8"
    return kept(_recoded(data, start, "utf-8", "backslashreplace"), scratch), "not utf-8"


def _from_utf16(data: Bytes, order: str, why: str, scratch: Scratch | None) -> tuple[Bytes, Encoding]:
    try:
        return kept(_recoded(data, 0, order, "strict"), scratch), "utf-16"
    except UnicodeError:
        raise LandingFileRefused(f"the file is not text: {why}") from None


def _unmarked_utf16(first: bytes) -> str | None:
    """The byte order of UTF-16 without a mark: ASCII letters with a NUL beside each, as no other begins."""
    for order, letters, nuls in (("utf-16-le", first[::2], first[1::2]), ("utf-16-be", first[1::2], first[::2])):
        if len(first) == 2 * _TELLING and not any(nuls) and all(letters) and letters.isascii():
            return order
    return None


def _pieces(data: Bytes, start: int) -> Iterator[bytes]:
    return (data[at : at + _PIECE] for at in range(start, len(data), _PIECE))


def _is_utf8(data: Bytes, start: int) -> bool:
    decoder, unfinished = codecs.getincrementaldecoder("utf-8")(), False
    try:
        for piece in _pieces(data, start):
            if unfinished or not piece.isascii():
                decoder.decode(piece)
                unfinished = decoder.getstate()[0] != b""
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _recoded(data: Bytes, start: int, encoding: str, errors: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    for piece in _pieces(data, start):
        yield decoder.decode(piece).encode()
    yield decoder.decode(b"", final=True).encode()


def _unzipped(data: Bytes, max_bytes: int | None) -> Iterator[bytes]:
    """Every member of a gzip file, until that is more than `max_bytes`."""
    room = (max_bytes if max_bytes is not None else 1 << 62) + 1
    at = 0
    # Zeros that pad the end are not another member.
    while data[at : at + len(_GZIP)] == _GZIP:
        member, rest = zlib.decompressobj(zlib.MAX_WBITS | 16), b""
        while not member.eof:
            if not rest:
                rest = data[at : at + _PIECE]
                at += len(rest)
            try:
                piece = member.decompress(rest, min(_PIECE, room))
            except zlib.error:
                raise LandingFileRefused("the file is damaged: its gzip data cannot be unpacked") from None
            rest = member.unconsumed_tail
            if not piece and not member.eof and not rest and at == len(data):
                raise LandingFileRefused("the file is cut short: its gzip data ends too early")
            yield piece
            room -= len(piece)
            if room <= 0:
                raise LandingFileRefused(f"unpacked, it has more bytes than BTS_MAX_FILE_BYTES allows ({max_bytes})")
        at -= len(member.unused_data)


_ESCAPES: Final = {0: "\\x00", 10: "\\n", 13: "\\r"}


def printable_line(line: bytes, longest: int = LONGEST_LINE_KEPT) -> str:
    """A record as one line of text that Postgres can hold (it cannot hold NUL), cut at `longest` characters."""
    # No character has more than four bytes.
    text = line[: 4 * longest + 4].decode("utf-8", "backslashreplace").translate(_ESCAPES)
    return text if len(text) <= longest else text[: longest - 1] + "…"

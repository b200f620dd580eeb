"""The readings of small landing files, as rows of a table: a file of its own costs more than the readings in it.

They are stored in the commit that enters the landing file, so that neither is ever there without the other. Which
landing files are small their content alone decides; the readings of all others are `readings.ReadingStore`'s.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

import numpy as np
import sqlalchemy as sa

from bts_assets.landing.reading_arrays import ReadingArrays, concatenated

#: Landing files of at most so many readings are small.
MOST_ROWS: Final = 128
#: Digests that one statement asks for.
_AT_ONCE: Final = 4096

#: One reading at rest; its bytes are hashed and stored, so they are the same on every machine.
_ROW: Final = np.dtype(
    [("reading_id", "<i8"), ("station_id", "<i8"), ("parameter_id", "<i4"), ("time", "<i8"), ("value", "<f8")]
)
_SEAL: Final = hashlib.sha256().digest_size


def keep(connection: sa.Connection, readings: Mapping[str, ReadingArrays]) -> None:
    """Store readings by the digest of their landing file. What is stored stays as it is."""
    if readings:
        sealed = [_seal(*pair) + pair[1] for pair in zip(readings, _rows_of(list(readings.values())), strict=True)]
        put(connection, dict(zip(readings, sealed, strict=True)))


def put(connection: sa.Connection, sealed: Mapping[str, bytes]) -> None:
    """Store rows as `take_out` gave them, or `keep` makes them."""
    connection.execute(_KEEP, {"digests": list(sealed), "readings": list(sealed.values())})


def take_out(connection: sa.Connection, digest: str) -> bytes | None:
    """Delete a landing file's readings; the row that they were, damaged or not, or None if there was none."""
    found = connection.execute(_TAKE_OUT, {"digest": digest}).scalar_one_or_none()
    return None if found is None else bytes(found)


def remove(connection: sa.Connection, digests: Sequence[str]) -> None:
    """Delete the readings of landing files; those that are gone already are none to mind."""
    connection.execute(_REMOVE, {"digests": list(digests)})


def sizes(connection: sa.Connection, digests: Sequence[str]) -> dict[str, int]:
    """Bytes of the readings of those landing files that have them here."""
    return {row.digest: row.bytes for part in _parts(digests) for row in connection.execute(_SIZES, {"digests": part})}


def read(connection: sa.Connection, digests: Sequence[str]) -> dict[str, ReadingArrays | None]:
    """The readings of those landing files that have them here, in canonical order; None: they are damaged."""
    found: dict[str, ReadingArrays | None] = {}
    for part in _parts(digests):
        found |= _unpacked({row.digest: bytes(row.readings) for row in connection.execute(_READ, {"digests": part})})
    return found


def _parts(digests: Sequence[str]) -> Iterator[list[str]]:
    return (list(digests[first : first + _AT_ONCE]) for first in range(0, len(digests), _AT_ONCE))


def _rows_of(readings: Sequence[ReadingArrays]) -> Iterator[bytes]:
    whole = concatenated(readings)
    rows = np.empty(len(whole), _ROW)
    for name in _ROW.names or ():
        rows[name] = getattr(whole, name)
    data = rows.tobytes()
    edges = np.cumsum([0, *map(len, readings)]) * _ROW.itemsize
    return (data[first:end] for first, end in pairwise(edges.tolist()))


def _unpacked(sealed: Mapping[str, bytes]) -> dict[str, ReadingArrays | None]:
    sound = {digest: data[_SEAL:] for digest, data in sealed.items() if _seal(digest, data[_SEAL:]) == data[:_SEAL]}
    rows = np.frombuffer(b"".join(sound.values()), _ROW)
    whole = ReadingArrays(*(np.ascontiguousarray(rows[name]) for name in _ROW.names or ()))
    edges = (np.cumsum([0, *map(len, sound.values())]) // _ROW.itemsize).tolist()
    parts = {d: whole.take(slice(*span)) for d, span in zip(sound, pairwise(edges), strict=True)}
    return {digest: parts.get(digest) for digest in sealed}


def _seal(digest: str, rows: bytes) -> bytes:
    """The landing file's digest is sealed in: sound readings of another file are none of this one's."""
    return hashlib.sha256(digest.encode() + rows).digest()


_KEEP: Final = sa.text("""
    INSERT INTO bts.landing_reading (digest, readings)
    SELECT digest, readings FROM unnest(CAST(:digests AS text[]), CAST(:readings AS bytea[])) AS t (digest, readings)
    ON CONFLICT DO NOTHING
""")
_TAKE_OUT: Final = sa.text("DELETE FROM bts.landing_reading WHERE digest = :digest RETURNING readings")
_REMOVE: Final = sa.text("DELETE FROM bts.landing_reading WHERE digest = ANY(CAST(:digests AS char(64)[]))")
_SIZES: Final = sa.text("""
    SELECT digest::text, length(readings) AS bytes FROM bts.landing_reading
    WHERE digest = ANY(CAST(:digests AS char(64)[]))
""")
_READ: Final = sa.text("""
    SELECT digest::text, readings FROM bts.landing_reading WHERE digest = ANY(CAST(:digests AS char(64)[]))
""")

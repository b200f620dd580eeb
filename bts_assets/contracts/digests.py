"""Digests of many series that nobody holds at once: each series has one, and all of these have one together.

A Merkle tree of two levels: part by part it comes to the same, and what one series holds is proved by its own digest,
without the numbers of any other.
"""

import hashlib
from collections.abc import Iterable
from math import prod

import numpy as np

_IDS = np.dtype([("station_id", "<i8"), ("parameter_id", "<i4")])


def series_digests(station_id: np.ndarray, parameter_id: np.ndarray, numbers: np.ndarray) -> list[bytes]:
    """SHA-256 of each series: its ids, and its numbers (series, ...) as float64."""
    ids = np.empty(len(station_id), dtype=_IDS)
    ids["station_id"], ids["parameter_id"] = station_id, parameter_id
    rows = np.ascontiguousarray(numbers, dtype="<f8").reshape(len(ids), prod(numbers.shape[1:]))
    return [_digest(one, row) for one, row in zip(ids, rows, strict=True)]


def digest_of_all(what: str, digests: Iterable[bytes]) -> str:
    """SHA-256 of the digests of all series, in their order, and of what they are of."""
    together = hashlib.sha256(what.encode())
    for digest in digests:
        together.update(digest)
    return together.hexdigest()


def _digest(ids: np.void, row: np.ndarray) -> bytes:
    own = hashlib.sha256(ids.tobytes())
    own.update(row.data)
    return own.digest()

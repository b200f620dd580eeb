"""Which series a training reads where there are more than it has room for. It reads and trains nothing."""

import hashlib

import numpy as np
import pandas as pd


def drawn_series(station_id: np.ndarray, parameter_id: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Which of some series (n,) a training reads, bool (n,): all, or `most` of them.

    As many of each parameter as of any other, as far as it has them. Who comes first is decided by a digest of seed
    and series alone: another series among them moves at most one.
    """
    if most is None or len(station_id) <= most:
        return np.ones(len(station_id), dtype=bool)
    pairs = zip(station_id.tolist(), parameter_id.tolist(), strict=True)
    lot = np.array([int.from_bytes(hashlib.sha256(f"{seed} {s} {p}".encode()).digest()[:8]) for s, p in pairs])
    turn = pd.Series(lot).groupby(parameter_id).rank(method="first").to_numpy()
    chosen = np.zeros(len(lot), dtype=bool)
    chosen[np.lexsort((lot, turn))[:most]] = True
    return chosen

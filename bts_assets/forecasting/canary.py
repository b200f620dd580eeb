"""Which stations a canary serves, and the batch that champion and challenger make together. It stores nothing."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd

from bts_assets.forecasting.batch import Batch


def canary_stations(station_id: np.ndarray, bundle_digest: str, share: float) -> np.ndarray:
    """The stations (ascending) that a version is given: about `share` of them, one at least, the same whenever asked.

    A station is in or out by the digest of its own number and the version's, whatever other stations there are.
    """
    stations = np.unique(station_id)
    digests = [hashlib.sha256(f"{bundle_digest} {station}".encode()).digest()[:8] for station in stations.tolist()]
    drawn = np.array([int.from_bytes(digest) / 2**64 for digest in digests])
    return stations[drawn < max(share, drawn.min(initial=1.0) + 1e-12)]


def spliced(champions: Batch, challengers: Batch, stations: np.ndarray) -> Batch:
    """The champion's batch with the given stations' forecasts and ledger rows from the challenger's of the same panel.

    Raises:
        ValueError: if the two are not of the same series and origin.
    """
    same = champions.ledger[["station_id", "parameter_id"]].equals(challengers.ledger[["station_id", "parameter_id"]])
    if not same or champions.issued_at != challengers.issued_at:
        raise ValueError("the batches of champion and challenger are not of the same series and origin")
    ledger = pd.concat(
        [
            champions.ledger[~champions.ledger["station_id"].isin(stations)],
            challengers.ledger[challengers.ledger["station_id"].isin(stations)],
        ]
    ).sort_index()
    kept, given = (np.isin(b.station_id, stations) == wanted for b, wanted in ((champions, False), (challengers, True)))
    station = np.concatenate([champions.station_id[kept], challengers.station_id[given]])
    parameter = np.concatenate([champions.parameter_id[kept], challengers.parameter_id[given]])
    quantiles = np.concatenate([champions.quantiles[kept], challengers.quantiles[given]])
    order = np.lexsort((parameter, station))
    return replace(
        champions,
        station_id=station[order],
        parameter_id=parameter[order],
        quantiles=quantiles[order],
        ledger=ledger,
    )

"""Rows of one series each, read block by block into arrays: for forecasts, recalibrations, scores and drift."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from bts_assets.storage.binary_copy import copy_out_in_blocks

#: The key of a series, as every such query begins.
KEYS: Final = {"station_id": "int64", "parameter_id": "int32"}


def read_arrays(
    connection: sa.Connection, query: str, arrays: Mapping[str, tuple[str, int]]
) -> tuple[pd.MultiIndex, dict[str, np.ndarray]]:
    """The rows of `query`: its series (`KEYS`), and its columns of arrays, each (series, length).

    arrays: name -> numpy dtype and length, in the order of the query's columns.
    """
    columns = {name: (dtype, 0) for name, dtype in KEYS.items()} | dict(arrays)
    blocks = [{n: np.empty((0, length) if length else 0, dtype) for n, (dtype, length) in columns.items()}]
    copy_out_in_blocks(connection, query, columns, blocks.append)
    whole = {name: np.concatenate([block[name] for block in blocks]) for name in columns}
    return pd.MultiIndex.from_arrays([whole[name] for name in KEYS], names=list(KEYS)), whole

"""The weights that ship with the package, and the SHA-256 that they must have."""

import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import Final

import numpy as np
from safetensors.numpy import load as load_tensors

from bts_assets.contracts.errors import BtsError
from bts_assets.pretraining.network import shapes

FILE: Final = "pretrained.safetensors"

#: SHA-256 of the file beside this one, as `benchmarks/pretrain.py` made it; docs/pretrained-model.md says how.
DIGEST: Final = "e33326a701106e81e886c5857dd32d65026050b37cadf2aad5bf17f600e0e2d3"


class PretrainedWeightsError(BtsError):
    """The shipped weights are missing, or not those that this code was released with."""


@lru_cache(maxsize=1)
def shipped() -> dict[str, np.ndarray]:
    """The weights by name, float32.

    Raises:
        PretrainedWeightsError: if the file is missing or altered.
    """
    try:
        return checked(files(__package__).joinpath(FILE).read_bytes())
    except OSError as error:
        raise PretrainedWeightsError(f"{FILE} cannot be read ({error}); install bts-assets again") from error


def checked(content: bytes, digest: str = DIGEST) -> dict[str, np.ndarray]:
    """The arrays of a file whose SHA-256 is `digest`.

    Raises:
        PretrainedWeightsError: if it is another, or the arrays are not those of the network.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise PretrainedWeightsError(
            f"{FILE} was altered: its SHA-256 is {found[:12]}, not {digest[:12]}; install bts-assets again"
        )
    weights = load_tensors(content)
    if {name: a.shape for name, a in weights.items()} != shapes():
        raise PretrainedWeightsError(f"{FILE} does not fit the network; install bts-assets again")
    return weights

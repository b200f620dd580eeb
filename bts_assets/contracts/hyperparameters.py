"""The hyper-parameters of the LSTM and its training: defaults that backtests favour, and bounds. Nothing is checked.

Another field, with its bounds, is at once a setting (`BTS_LSTM_...`) and searched by `bts tune`.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Bounds:
    """Least and most that may be set, both included; a search goes by factors, or by differences where least is 0."""

    least: float
    most: float
    about: str


def _chosen(default: float, least: float, most: float, about: str) -> Any:
    return field(default=default, metadata={"bounds": Bounds(least, most, about)})


@dataclass(frozen=True)
class Hyperparameters:
    """One choice of hyper-parameters; `bounds` says what each is."""

    width: int = _chosen(64, 8, 256, "units of each LSTM layer")
    patches: int = _chosen(7, 1, 56, "patches per context window")
    embedding: int = _chosen(8, 1, 32, "dimension of the parameter embedding")
    batch: int = _chosen(256, 16, 8192, "windows per optimiser step")
    learning_rate: float = _chosen(4e-3, 1e-4, 3e-2, "learning rate at its peak")
    weight_decay: float = _chosen(1e-3, 1e-6, 1e-1, "weight decay of AdamW, per step and unit of learning rate")

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def bounds() -> dict[str, Bounds]:
    """The bounds of each hyper-parameter, by name; its type is that of its default."""
    return {f.name: f.metadata["bounds"] for f in fields(Hyperparameters)}

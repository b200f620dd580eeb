"""What can be chosen about the LSTM and its training; the defaults are what backtests favour."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Hyperparameters:
    """width: units of each LSTM layer. patches: parts that the context is read in. embedding: numbers that stand for a
    parameter. learning_rate: its peak. weight_decay: of AdamW, per step and unit of learning rate.
    """

    width: int = 64
    patches: int = 7
    embedding: int = 8
    learning_rate: float = 4e-3
    weight_decay: float = 1e-3

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

"""The shape of the LSTM, which its weights fit into; no TensorFlow, so that a model version can be read without it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final

import numpy as np

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.hyperparameters import Hyperparameters
from bts_assets.forecasting.windows import recent_steps

#: Row of the embedding table for a parameter that training did not see.
UNNAMED: Final = np.int32(0)


@dataclass(frozen=True)
class Architecture:
    """What the weights fit into; all counts. `parameters` are the parameter ids that have an embedding, ascending."""

    context_steps: int
    horizon_steps: int
    steps_per_day: int
    patch: int
    width: int
    embedding: int
    parameters: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return ceil(self.context_steps / self.patch)

    @property
    def days(self) -> int:
        return self.context_steps // self.steps_per_day

    @property
    def bases(self) -> int:
        """Last value and recent mean; with a day of context yesterday and the phase mean; with a week a week ago; with
        eight days that at today's level; with two weeks two weeks ago.
        """
        return 2 + 2 * (self.days >= 1) + (self.days >= 7) + (self.days >= 8) + (self.days >= 14)

    def buckets(self, parameter_id: np.ndarray) -> np.ndarray:
        """Row of the embedding table per series."""
        table = {p: i + 1 for i, p in enumerate(self.parameters)}
        return np.array([table.get(int(p), UNNAMED) for p in parameter_id], dtype=np.int32)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"parameters": list(self.parameters)}

    @classmethod
    def from_dict(cls, described: Mapping[str, Any]) -> "Architecture":
        return cls(**{**described, "parameters": tuple(described["parameters"])})


def design(
    grid: Grid,
    parameter_id: np.ndarray,
    chosen: Hyperparameters = Hyperparameters(),  # noqa: B008 - immutable
    widen: int = 1,
) -> Architecture:
    """The architecture that suits a grid; seven patches of a week's context are days."""
    context = recent_steps(grid)
    patch = ceil(context / chosen.patches)
    parameters = tuple(int(p) for p in np.unique(parameter_id))
    spans = (context, grid.horizon_steps, grid.steps_per_day)
    return Architecture(*spans, patch, chosen.width * widen, chosen.embedding, parameters)

"""What a batch is made from, and what of it makes two batches the same. `uq_batch_identity` in `tables` holds it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from bts_assets.forecasting.recalibration import Recalibration
from bts_assets.monitoring.terms import BreachTerms


@dataclass(frozen=True)
class Canary:
    """A challenger that forecast some stations of a batch: `share` of all, station ids ascending."""

    model_version_id: int
    share: float
    stations: np.ndarray


@dataclass(frozen=True)
class BatchOrigin:
    """What a batch is made from: with the model version, its identity and its lineage.

    terms: of its breaches. They are not part of its identity: other limits make no other forecasts.
    """

    model_version_id: int
    input_start: datetime
    input_ledger_seq: int
    observations_digest: str
    catalogue_digest: str
    kind: str
    settings: dict[str, str]
    code_version: str
    dagster_run_id: str | None
    canary: Canary | None = None
    successor_due_at: datetime | None = None
    recalibration: Recalibration | None = None
    terms: BreachTerms = field(default_factory=BreachTerms)

    @property
    def identity(self) -> dict[str, Any]:
        """With the forecast origin, what makes it the same batch: columns of `bts.batch`."""
        return {
            "observations_digest": self.observations_digest,
            "model_version_id": self.model_version_id,
            "catalogue_digest": self.catalogue_digest,
            "canary_version_id": self.canary.model_version_id if self.canary else None,
            "canary_share": self.canary.share if self.canary else None,
            "recalibration_digest": self.recalibration.digest if self.recalibration else None,
        }

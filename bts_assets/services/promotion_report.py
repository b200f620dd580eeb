"""What is shown of a decision about a challenger: pictures and tables, kept with its MLflow run. It decides nothing."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd

from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import QUANTILE_COLUMNS
from bts_assets.forecasting import promotion_rules
from bts_assets.forecasting.promotion_rules import Rule
from bts_assets.plots import comparison as comparison_plots
from bts_assets.plots import forecast as forecast_plots
from bts_assets.services.home import Home
from bts_assets.storage.mlflow_registry import ModelStoreError

log = logging.getLogger(__name__)

#: The series whose forecasts differ most are drawn: so many of them.
_DRAWN: Final = 6


@dataclass(frozen=True)
class GateEvidence:
    """What the rules were asked about. worst: the `Forecasts` rows of the series that differ most, of both versions."""

    rules: Sequence[Rule]
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    apart: pd.DataFrame = field(default_factory=pd.DataFrame)
    worst: tuple[pd.DataFrame, pd.DataFrame] | None = None


def draw(
    panel: Panel, catalogue: Catalogue, stations: Mapping[int, str], evidence: GateEvidence, made_by: str
) -> dict[str, bytes]:
    """File name -> PNG: errors by parameter, differences by parameter, the series that differ most.

    stations: what those of the series that differ most are called; made_by: which versions, for the footer.
    """
    drawn = {}
    if len(evidence.errors):
        ratios = promotion_rules.ratios(evidence.errors)
        drawn["errors.png"] = comparison_plots.errors(ratios, evidence.errors["parameter_id"], catalogue, made_by)
    if evidence.worst is not None and len(evidence.apart):
        drawn["differences.png"] = comparison_plots.differences(evidence.apart, catalogue, made_by)
        drawn["worst_series.png"] = _worst(panel, catalogue, stations, evidence, made_by)
    return drawn


def _worst(
    panel: Panel, catalogue: Catalogue, stations: Mapping[int, str], evidence: GateEvidence, made_by: str
) -> bytes:
    """The series whose forecasts differ most: the challenger's intervals, and the champion's median."""
    shown = []
    indexed = [frame.set_index(promotion_rules.SERIES).sort_index() for frame in evidence.worst or ()]
    for station, parameter_id, distance in (
        evidence.apart[[*promotion_rules.SERIES, "distance"]].head(_DRAWN).itertuples(index=False)
    ):
        parameter = catalogue.of(int(parameter_id))
        row = (panel.station_id == station) & (panel.parameter_id == parameter_id)
        rows, was = (frame.loc[(station, parameter_id)].sort_values("step_ahead") for frame in indexed)
        issued_at = rows["issued_at"].iloc[0].to_pydatetime()
        known = panel.values[row][:, : panel.steps - max(0, (panel.end - issued_at) // panel.grid.step)]
        shown.append(
            forecast_plots.Forecast(
                title=f"{parameter.name}, {stations[int(station)]}: {distance:.1f} widths apart",
                unit=parameter.unit,
                step=panel.grid.step,
                issued_at=issued_at,
                history=known[0] if len(known) else np.array([np.nan]),
                quantiles=rows[list(QUANTILE_COLUMNS)].to_numpy(),
                truth=was["q50"].to_numpy(),
                truth_is="the champion's median",
            )
        )
    return forecast_plots.forecasts(shown, made_by)


def keep_report(home: Home, run: str | None, evidence: GateEvidence, drawn: Mapping[str, bytes]) -> None:
    """Put the tables and pictures of a decision beside the challenger's MLflow run, if it has one."""
    if run is None:
        return
    tables = {"errors.csv": evidence.errors, "differences.csv": evidence.apart}
    for by in ("parameter_id", "station_id"):
        if len(evidence.apart):
            summed = promotion_rules.summed_up(evidence.apart, by).reset_index()
            tables[f"differences_by_{by.removesuffix('_id')}.csv"] = summed
    files = {name: frame.to_csv(index=False).encode() for name, frame in tables.items()} | dict(drawn)
    try:
        home.models.add_files(run, files, "challenge")
    except ModelStoreError as error:
        log.warning("%s; the report of the decision is not in MLflow, the decision is in bts.model_decision", error)


def series_of(apart: pd.DataFrame) -> list[tuple[int, int]]:
    """The series (station_id, parameter_id) whose forecasts differ most: those that are drawn."""
    return [(int(row["station_id"]), int(row["parameter_id"])) for row in apart.head(_DRAWN).to_dict("records")]

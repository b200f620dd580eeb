"""Turns ETTh1.csv (two years, hourly, seven parameters of one transformer) into landing files; no tests are here."""

from pathlib import Path
from typing import Final

import pandas as pd

STATION: Final = 1
#: Numbers that the catalogue does not know: its valid ranges are not those of a transformer.
PARAMETERS: Final = {"HUFL": 9001, "HULL": 9002, "MUFL": 9003, "MULL": 9004, "LUFL": 9005, "LULL": 9006, "OT": 9007}


def write_landing_files(csv: Path, landing: Path) -> int:
    """One landing file per month, one row per hour and parameter; the number of rows in all."""
    landing.mkdir(parents=True, exist_ok=True)
    wide = pd.read_csv(csv)
    long = wide.melt(id_vars="date", var_name="name", value_name="value").sort_values(["date", "name"], kind="stable")
    rows = pd.DataFrame(
        {
            "id": range(1, len(long) + 1),
            "value": long["value"].to_numpy(),
            "station_id": STATION,
            "parameter_id": long["name"].map(PARAMETERS).to_numpy(),
            "reading_time": long["date"].to_numpy(),
        }
    )
    for month, part in rows.groupby(rows["reading_time"].str[:7]):
        part.to_csv(landing / f"ett-{month}.csv", index=False)
    return len(rows)

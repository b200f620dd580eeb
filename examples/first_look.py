"""A first look at the forecasts: read them, join them with observations, plot one series, ask what made a row.

    .venv/bin/python examples/first_look.py [URL] [PICTURE]

URL is a libpq URL of the database; without it, that of `bts url` in this folder. Only pandas, SQLAlchemy and Matplotlib
are needed; nothing of bts_assets is.
"""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import sqlalchemy as sa


def connect(url: str) -> sa.Engine:
    """The database of a libpq URL. Public views are read; nothing is written."""
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg2"))


def latest_forecasts(engine: sa.Engine) -> pd.DataFrame:
    """One row per series and step ahead of the batch that serves: quantiles in the parameter's unit."""
    return pd.read_sql(sa.text("SELECT * FROM bts.latest_forecast"), engine)


def with_observations(engine: sa.Engine, forecasts: pd.DataFrame) -> pd.DataFrame:
    """The forecasts with `value`, what was observed in the same interval; NaN where that is still to come."""
    query = sa.text(
        "SELECT station_id, parameter_id, observed_at, value FROM bts.observation WHERE observed_at >= :start"
    )
    observed = pd.read_sql(query, engine, params={"start": forecasts["target_at"].min().to_pydatetime()})
    keys = ["station_id", "parameter_id", "target_at"]
    return forecasts.merge(observed.rename(columns={"observed_at": "target_at"}), on=keys, how="left")


def history(engine: sa.Engine, station_id: int, parameter_id: int, days: int = 4) -> pd.DataFrame:
    """The newest `days` of one series."""
    query = sa.text(
        "SELECT observed_at, value FROM bts.observation WHERE station_id = :station AND parameter_id = :parameter"
        " AND observed_at >= (SELECT issued_at FROM bts.latest_batch) - :days * interval '1 day' ORDER BY observed_at"
    )
    return pd.read_sql(query, engine, params={"station": int(station_id), "parameter": int(parameter_id), "days": days})


def plot(past: pd.DataFrame, forecast: pd.DataFrame, title: str) -> plt.Figure:
    figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
    axes.plot(past["observed_at"], past["value"], color="0.2", label="observed")
    axes.fill_between(forecast["target_at"], forecast["q05"], forecast["q95"], alpha=0.25, label="90 % interval")
    axes.plot(forecast["target_at"], forecast["q50"], label="median")
    axes.set_title(title)
    axes.legend()
    return figure


def lineage(engine: sa.Engine, row: pd.Series) -> pd.Series:
    """What made a forecast row: model version, MLflow run, landing files, code and Dagster run."""
    query = sa.text(
        "SELECT * FROM bts.forecast_lineage"
        " WHERE batch_id = :batch_id AND station_id = :station_id AND parameter_id = :parameter_id"
    )
    key = {name: int(row[name]) for name in ("batch_id", "station_id", "parameter_id")}
    return pd.read_sql(query, engine, params=key).iloc[0]


def local_url() -> str:
    bts = Path(sys.executable).with_name("bts")
    return subprocess.run([bts, "url"], capture_output=True, text=True, check=True).stdout.strip()


def main(url: str | None = None, picture: str = "first_look.png") -> None:
    engine = connect(url or local_url())
    forecasts = latest_forecasts(engine)
    series = forecasts.groupby(["station_id", "parameter_id"])
    print(f"{len(forecasts)} forecasts of {series.ngroups} series, issued at {forecasts['issued_at'].max()}")
    print(with_observations(engine, forecasts)["value"].notna().sum(), "of them have been observed since")
    (station, parameter), first = next(iter(series))
    plot(history(engine, station, parameter), first, f"station {station}, parameter {parameter}").savefig(picture)
    made = lineage(engine, first.iloc[0])
    print(
        f"made by model version {made['model_version_id']} from {len(made['input_files'])} landing files; see {picture}"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

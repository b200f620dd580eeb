"""A stage of `benchmarks.stages`: scoring a batch whose targets have come.

Ours scores what served and four baselines, by series and stretch and by hour, and stores that; the pandas way scores
what served alone, and stores nothing. Both must find the same errors.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import sqlalchemy as sa

from benchmarks import publishing
from benchmarks.own_home import own_home
from benchmarks.stage_figures import Figures
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.contracts.grid import DAY
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import make_batch
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.candidates import CHEAP
from bts_assets.forecasting.ensemble_weights import one_candidate
from bts_assets.services.home import Home
from bts_assets.services.scoring import score_matured
from bts_assets.storage.embedded.roles import OWNER
from bts_assets.storage.forecasts import publish
from bts_assets.storage.loading import BatchPart
from bts_assets.storage.observations import replace_days
from bts_assets.storage.postgres import connect

#: Series at growth 1.
SERIES: Final = 15
_HORIZON: Final = publishing.GRID.horizon_steps
#: A row a step, as a user without arrays would keep them.
_PLAIN: Final = """
    CREATE SCHEMA weighed;
    CREATE TABLE weighed.observed AS SELECT station_id, parameter_id, observed_at, value FROM bts.observation;
    CREATE TABLE weighed.forecast AS SELECT station_id, parameter_id, target_at, q05, q10, q50, q90, q95
        FROM bts.forecast;
    ALTER TABLE weighed.observed ADD PRIMARY KEY (station_id, parameter_id, observed_at);
    ALTER TABLE weighed.forecast ADD PRIMARY KEY (station_id, parameter_id, target_at);
    ANALYZE;
"""
_OBSERVED: Final = "SELECT * FROM weighed.observed"
_FORECAST: Final = "SELECT * FROM weighed.forecast"
_LOSS: Final = {"q05": 0.05, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q95": 0.95}


def scoring(role: str, growth: int) -> Figures:
    """Forecast rows of a batch, from rest to scores."""
    with _prepared(SERIES * growth) as (home, owner, end):

        def ours(_: int) -> None:
            with home.engine.begin() as connection:
                connection.execute(sa.text("UPDATE bts.scored_batch SET ledger_seq = -1"))
            if not score_matured(home, now=end + DAY).batches:
                raise RuntimeError("nothing was due")

        ways: dict[str, Callable[[int], object]] = {
            "ours": ours,
            "instead": lambda _: by_pandas(owner),
            "limit": lambda _: _copied(owner),
        }
        seconds = publishing.median_seconds(1 if role == "instead" else 3, ways[role])
        if role == "ours":
            _compared(owner, by_pandas(owner))
    return {"work": SERIES * growth * _HORIZON, "seconds": seconds}


def by_pandas(owner: sa.Engine) -> pd.DataFrame:
    """What a user would write: both tables read, joined, and grouped by series; MAE, MASE, pinball loss, coverage."""
    with owner.connect() as connection:
        observed, forecast = (pd.read_sql(sa.text(query), connection) for query in (_OBSERVED, _FORECAST))
    keys = ["station_id", "parameter_id"]
    both = forecast.merge(observed, left_on=[*keys, "target_at"], right_on=[*keys, "observed_at"])
    above = {q: both["value"] - both[name] for name, q in _LOSS.items()}
    losses = [np.maximum(q * error, (q - 1) * error) for q, error in above.items()]
    both = both.assign(
        absolute_error=above[0.5].abs(),
        pinball=sum(losses) / len(losses),
        inside80=both["value"].between(both["q10"], both["q90"]),
    )
    scores = both.groupby(keys)[["absolute_error", "pinball", "inside80"]].mean()
    past = observed[observed["observed_at"] < forecast["target_at"].min()].sort_values([*keys, "observed_at"])
    changes = past.groupby(keys)["value"].diff(publishing.GRID.steps_per_day).abs()
    return scores.assign(mase=scores["absolute_error"] / changes.groupby([past[k] for k in keys]).mean())


def _compared(owner: sa.Engine, theirs: pd.DataFrame) -> None:
    query = sa.text("SELECT sum(absolute_error) FROM bts.forecast_score WHERE candidate = 'served'")
    with owner.connect() as connection:
        ours = connection.execute(query).scalar_one()
    if not np.isclose(ours, theirs["absolute_error"].sum() * _HORIZON):
        raise RuntimeError(f"ours finds errors of {ours}, pandas {theirs['absolute_error'].sum() * _HORIZON}")


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


def _copied(owner: sa.Engine) -> None:
    """The limit: the rows, copied out and thrown away."""
    with owner.connect() as connection, closing(connection.connection.cursor()) as cursor:
        for query in (_FORECAST, _OBSERVED):
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT binary)", _Nowhere())


@contextmanager
def _prepared(series: int) -> Iterator[tuple[Home, sa.Engine, pd.Timestamp]]:
    """A home with a batch that was published two days before the end of the observations, and the plain tables."""
    panel, catalogue, grid = publishing.example_panel(series), load_catalogue(), publishing.GRID
    known = panel.until(_HORIZON)
    weights = one_candidate(tuple(f.name for f in CHEAP), "seasonal_naive_day")  # what served is nothing to scoring
    bundle = Bundle(grid, zone=ZoneInfo("UTC"), effort="quick", seed=0, catalogue=catalogue, weights=weights)
    with own_home(step=grid.step, context=grid.context, horizon=grid.horizon) as home:
        origin = publishing.origin_of(home, publishing.enter_version(home), 1)
        publish(home.engine, [BatchPart(make_batch(bundle, known, home.catalogue))], known.end, origin, grid)
        owner = connect(home.urls[OWNER], timedelta(minutes=5))
        observe(owner, panel, known.end - grid.context)
        with owner.begin() as connection:
            connection.exec_driver_sql(_PLAIN)
        yield home, owner, panel.end
        owner.dispose()


def observe(owner: sa.Engine, panel: Panel, start: pd.Timestamp) -> None:
    """Store the panel from `start` on as the observations of its days, as a night does."""
    values = panel.values[:, (start - panel.start) // panel.grid.step :]
    count, steps = values.shape
    at = np.datetime64(start.replace(tzinfo=None), "us") + np.arange(steps) * np.timedelta64(panel.grid.step)
    rows = pd.DataFrame({
        "station_id": np.repeat(panel.station_id, steps),
        "parameter_id": np.repeat(panel.parameter_id, steps),
        "observed_at": pd.DatetimeIndex(np.tile(at, count)).tz_localize("UTC"),
        "value": values.ravel(),
        "readings": np.ones(count * steps, np.int32),
    })  # fmt: skip
    days = [start.date() + timedelta(days=k) for k in range((panel.end - start) // DAY)]
    log = sa.text("""
        INSERT INTO bts.observed_day (day, ledger_seq, digest, observations, first_observed_at, last_observed_at,
            readings, repeated, corrected, contradicted, ids_ignored)
        SELECT CAST(:day AS date), 1, repeat('0', 64), :count, CAST(:day AS date), CAST(:day AS date) + interval '1 day'
            - :step, :count, 0, 0, 0, 0
    """)
    with owner.begin() as connection:
        replace_days(connection, panel.grid, rows, days, 1)
        for day in days:
            given = {"day": day, "count": count * panel.grid.steps_per_day, "step": panel.grid.step}
            connection.execute(log, given)

"""A batch on its way into the database: what its ledger says of each series, whatever parts it comes in."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from nights import HomeMaker
from pandera.errors import SchemaErrors
from small_nights import (
    GRID,
    LOAD,
    ORIGIN,
    SMALL,
    lineage,
    rows_of,
    serving_version,
    simple_bundle,
    small_batch,
    small_panel,
)

from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.batch import Batch
from bts_assets.forecasting.recalibration import SIDES, STRETCHES, Recalibration
from bts_assets.services.home import Home
from bts_assets.storage import loading
from bts_assets.storage.batch_identity import Canary
from bts_assets.storage.forecasts import find_batch, publish
from bts_assets.storage.loading import BatchPart, PublishRefused, UnsoundForecasts, forecast_digests, forecasts_digest
from bts_assets.storage.recalibrations import read_recalibration

LEDGER = "SELECT * FROM bts.forecast_ledger WHERE batch_id = :b ORDER BY station_id, parameter_id"
#: What each series was made from, as a night says.
DIGESTS = [bytes([k]) * 32 for k in range(4)]


@pytest.fixture
def home(make_home: HomeMaker) -> Home:
    return make_home(**SMALL)


def panel_of(*series: tuple[int, int]) -> Panel:
    """Levels that tell series apart; station 3 was never heard."""
    station, parameter = np.array(series).T
    values = np.repeat((10.0 * station + parameter)[:, None], GRID.context_steps, axis=1)
    values[station == 3] = np.nan
    return Panel(GRID, station, parameter.astype(np.int32), ORIGIN, values)


SERIES = [(1, LOAD), (2, 111), (2, LOAD), (3, 151)]


def test_a_ledger_says_of_each_series_who_made_it_of_what_and_what_came_of_it(home: Home) -> None:
    version, other = (serving_version(home, simple_bundle(seed)).model_version_id for seed in (1, 2))
    panel = panel_of(*SERIES)
    batch = small_batch(panel)
    origin = replace(lineage(panel, version), canary=Canary(other, 0.25, np.array([2])))
    parts = [
        BatchPart(small_batch(panel_of(*SERIES[:1])), DIGESTS[:1]),
        BatchPart(small_batch(panel_of(*SERIES[1:])), DIGESTS[1:]),
    ]
    number = publish(home.engine, parts, ORIGIN, origin, GRID).batch_id
    rows = rows_of(home, LEDGER, b=number)
    made = [*forecast_digests(batch), None]
    assert [(row["station_id"], row["parameter_id"]) for row in rows] == SERIES
    assert [row["model_version_id"] for row in rows] == [None, other, other, None]
    assert [row["input_digest"] for row in rows] == DIGESTS
    assert [row["forecast_digest"] for row in rows] == made
    assert [row["last_observed_at"] for row in rows] == [*[ORIGIN - GRID.step] * 3, None]
    (stored,) = rows_of(home, "SELECT * FROM bts.batch")
    assert stored["forecasts_digest"] == forecasts_digest(ORIGIN, made[:3])
    counts = {status: int((batch.ledger["status"] == status).sum()) for status in ("forecast", "fallback", "excluded")}
    assert {name: stored[name] for name in ("series", *counts)} == {"series": 4, **counts}
    assert (stored["canary_version_id"], stored["canary_share"]) == (other, 0.25)
    # Of a batch that is not the same in all that names it, it is not found.
    assert find_batch(home.engine, ORIGIN, origin) == number
    for changed in (replace(origin, canary=None), replace(origin, catalogue_digest="0" * 64)):
        assert find_batch(home.engine, ORIGIN, changed) is None


def test_breaches_foreseen_rest_with_their_batch(home: Home) -> None:
    version = serving_version(home, simple_bundle()).model_version_id
    panel = small_panel()
    row = {
        "station_id": 1, "parameter_id": LOAD, "side": "high", "limit_value": 9.5, "probability_6h": 0.25,
        "probability_24h": 0.5, "probability_48h": 0.75, "first_likely_at": None, "expected_worst": 1.5,
        "expected_steps": 0.5,
    }  # fmt: skip
    part = BatchPart(small_batch(panel), foreseen=pd.DataFrame([row]))
    number = publish(home.engine, [part], ORIGIN, lineage(panel, version), GRID).batch_id
    assert rows_of(home, "SELECT * FROM bts.breach_forecast") == [row | {"batch_id": number}]


def test_a_recalibration_rests_with_the_batch_that_it_was_applied_to_and_names_it(home: Home) -> None:
    version = serving_version(home, simple_bundle()).model_version_id
    panel = small_panel(series=2)
    values = np.random.default_rng(1).uniform(1, 2, (3, 2, STRETCHES, len(SIDES))).astype(np.float32)
    series = pd.MultiIndex.from_arrays([panel.station_id, panel.parameter_id])
    applied, none = Recalibration(series, *values), lineage(panel, version)
    batches = [
        publish(home.engine, [BatchPart(small_batch(panel))], ORIGIN, origin, GRID).batch_id
        for origin in (none, replace(none, recalibration=applied))
    ]
    with home.engine.connect() as connection:
        plain, kept = (read_recalibration(connection, batch) for batch in batches)
        of_one = read_recalibration(connection, batches[1], (2, 2))
    assert plain is None
    assert kept is not None
    assert kept.digest == applied.digest
    assert of_one is not None
    assert of_one.digest == applied.of(series[1:]).digest


def test_a_version_alone_makes_every_series_and_inputs_may_be_unknown(home: Home) -> None:
    version = serving_version(home, simple_bundle()).model_version_id
    panel = small_panel()
    number = publish(home.engine, [BatchPart(small_batch(panel))], ORIGIN, lineage(panel, version), GRID).batch_id
    assert [(row["model_version_id"], row["input_digest"]) for row in rows_of(home, LEDGER, b=number)] == [
        (None, None)
    ] * 3


def test_what_is_refused_says_why_in_its_first_case(home: Home) -> None:
    version = serving_version(home, simple_bundle()).model_version_id
    panel = panel_of(*SERIES)

    def spoilt(level: int, value: float) -> Batch:
        batch = small_batch(panel)
        batch.quantiles[1, 2:4, level] = value
        return batch

    def refused(*batches: Batch) -> str:
        with pytest.raises(PublishRefused) as caught:
            publish(home.engine, map(BatchPart, batches), ORIGIN, lineage(panel, version), GRID)
        assert rows_of(home, "SELECT * FROM bts.batch") == []
        return f"{caught.type.__name__} {caught.value}"

    why = r"the batch of .* was not published: .* in \d+ cases, first q05 <= q10 .* \(\w+\); "
    assert re.match(f"{UnsoundForecasts.__name__} {why}", refused(spoilt(2, np.nan)))
    odd = small_batch(panel)
    odd.ledger["status"] = "odd"
    with pytest.raises(SchemaErrors):
        publish(home.engine, [BatchPart(odd)], ORIGIN, lineage(panel, version), GRID)
    silent = [small_batch(panel_of((3, parameter))) for parameter in (111, 151)]
    heard = [ORIGIN - timedelta(days=9), ORIGIN - timedelta(days=99)]
    for batch, time in zip(silent, heard, strict=True):
        batch.ledger["last_observed_at"] = pd.Series([time]).astype("datetime64[us, UTC]")
    assert f"none of 2 series could be forecast; newest observation: {heard[0]};" in refused(*silent)


def test_series_that_do_not_arrive_refuse_the_batch(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    version = serving_version(home, simple_bundle()).model_version_id
    panel = small_panel()
    monkeypatch.setattr(loading, "copy_in", lambda *_: 2)
    with pytest.raises(PublishRefused, match="2 of 3 series arrived"):
        publish(home.engine, [BatchPart(small_batch(panel))], ORIGIN, lineage(panel, version), GRID)
    assert rows_of(home, "SELECT * FROM bts.batch") == []


def test_no_part_is_asked_for_where_the_batch_is_there(home: Home) -> None:
    version = serving_version(home, simple_bundle()).model_version_id
    panel = small_panel()

    def parts() -> Iterator[BatchPart]:
        asked.append(1)
        yield BatchPart(small_batch(panel))

    asked: list[int] = []
    numbers = {publish(home.engine, parts(), ORIGIN, lineage(panel, version), GRID).batch_id for _ in range(3)}
    assert (len(numbers), len(asked)) == (1, 1)

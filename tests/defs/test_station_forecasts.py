"""The asset `station_forecasts`: what is checked before it serves, and what a refused batch leaves in Dagster."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from small_nights import ORIGIN, SMALL, hourly, observe_due, rows_of, serving_version, simple_bundle, take_in, write

from bts_assets.defs.lstm_model import lstm_model
from bts_assets.defs.night import Night
from bts_assets.defs.station_forecasts import station_forecasts
from bts_assets.services import nightly


@pytest.fixture
def home(make_home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A home with a champion and a day of two stations, that the asset finds by the environment."""
    made = make_home(**SMALL)
    settings = {"home": made.settings.home, "database_url": made.url, "step": "1h", "context": "24h", "horizon": "6h"}
    for name, value in settings.items():
        monkeypatch.setenv(f"BTS_{name.upper()}", str(value))
    serving_version(made, simple_bundle())
    write(tmp_path / "landing", "a.csv", *hourly(range(24)), *hourly(range(24), station=2, first_id=100))
    take_in(made, tmp_path / "landing")
    observe_due(made)
    return made


def materialize() -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [station_forecasts, lstm_model],
        selection=[station_forecasts],
        resources={"night": Night(as_of=ORIGIN.isoformat())},
        partition_key=f"{ORIGIN:%Y-%m-%d}",
        raise_on_error=False,
    )


def checks_of(ran: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in ran.get_asset_check_evaluations()}


def test_a_sound_batch_serves_and_its_picture_is_drawn(home: Any) -> None:
    ran = materialize()
    assert ran.success
    assert checks_of(ran)["forecasts_schema"]
    (made,) = ran.asset_materializations_for_node("station_forecasts")
    assert made.metadata["dagster/row_count"].value == 2 * 6
    assert made.metadata["picture"].value.startswith("![picture](data:image/png;base64,")


def test_forecasts_that_break_their_schema_fail_a_blocking_check_and_the_batch_before_them_serves(
    home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert materialize().success
    before = rows_of(home, "SELECT * FROM bts.latest_forecast ORDER BY station_id, step_ahead")
    write(tmp_path / "landing", "late.csv", *hourly(range(24), station=3, first_id=200))
    take_in(home, tmp_path / "landing")
    make = nightly.make_batch

    def make_crossing(*given: Any, **named: Any) -> Any:
        batch = make(*given, **named)
        return replace(batch, quantiles=batch.quantiles[:, :, ::-1] - [0, 1, 2, 3, 4])

    monkeypatch.setattr(nightly, "make_batch", make_crossing)
    ran = materialize()
    assert not ran.success
    assert checks_of(ran) == {"forecasts_schema": False}
    (spec,) = [spec for spec in station_forecasts.check_specs if spec.name == "forecasts_schema"]
    assert spec.blocking
    assert ran.asset_materializations_for_node("station_forecasts") == []
    assert rows_of(home, "SELECT * FROM bts.latest_forecast ORDER BY station_id, step_ahead") == before
    assert rows_of(home, "SELECT count(*) AS n FROM bts.batch") == [{"n": 1}]

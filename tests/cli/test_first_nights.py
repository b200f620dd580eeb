"""The first nights of a simulated network: which origins they have, and what is told of them."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nights import HomeMaker

from bts_assets.cli import first_nights
from bts_assets.services.home import open_home, simulated_landing
from bts_assets.storage.tables import station


def test_a_new_home_looks_back_on_past_nights(make_home: HomeMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    home = make_home()
    asked: list[str | None] = []

    def run(_job: str, _settings: Any, *, landing: Path, as_of: str | None = None) -> dict[str, Any]:
        asked.append(as_of)
        names = ("readings", "grouped_series", "lstm_model", "station_forecasts")
        return {name: {"night": len(asked)} for name in names}

    monkeypatch.setattr(first_nights, "run_job", run)
    said = first_nights.first_nights(home.settings, home.landing)
    *past, tonight = asked
    assert tonight is None
    newest = home.settings.grid.floor(datetime.now(UTC))
    ago = [newest - datetime.fromisoformat(str(origin)) for origin in past]
    assert [round(span / timedelta(days=1)) for span in ago] == [2, 1]
    # What was taken in and trained is told of the night that did it, the forecasts are tonight's.
    assert {name: entry["night"] for name, entry in said.items()} == {
        "readings": 1, "grouped_series": 1, "lstm_model": 1, "station_forecasts": 3,
    }  # fmt: skip


def test_simulated_stations_have_names_and_those_of_others_do_not(make_home: HomeMaker, tmp_path: Path) -> None:
    home = make_home()
    listed = simulated_landing(home.settings.home).parent / "truth" / "stations.csv"
    listed.parent.mkdir(parents=True)
    listed.write_text("station_id,name,region\n7,Hanoi 1,Hanoi\n", encoding="utf-8")
    open_home(home.settings.model_copy(update={"landing_dir": tmp_path})).engine.dispose()
    with home.engine.connect() as connection:
        assert connection.execute(station.select()).all() == []
    open_home(home.settings).engine.dispose()
    with home.engine.connect() as connection:
        (row,) = connection.execute(station.select()).mappings()
    assert (row["name"], row["region"], row["listed"]) == ("Hanoi 1", "Hanoi", True)

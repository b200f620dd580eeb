"""`bts catalogue`: what holds, what is not listed, and proposals that can be given back."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import bts
from small_nights import ORIGIN, SMALL, observe_due, take_in, write

from bts_assets.contracts.errors import INPUT
from bts_assets.services.catalogue import proposals, unlisted_parameters
from bts_assets.services.home import Home, open_home

HEADER = "parameter_id,name,unit,kind,aggregation,valid_min,valid_max,sentinels,low_limit,high_limit,forecast"


@pytest.fixture
def unlisted(make_home: Any, tmp_path: Path) -> Home:
    """A home that met a cumulative meter (901), an on-off sensor (902) and a gauge (903), none of them listed."""
    home = make_home(**SMALL)
    rng = np.random.default_rng(3)
    meter = np.cumsum(rng.exponential(0.2, 150).round(2))
    for minute, level in zip(range(0, 3000, 20), meter, strict=True):
        at = f"{ORIGIN - timedelta(days=2) + timedelta(minutes=minute):%Y-%m-%d %H:%M:%S}"
        values = {901: level, 902: int(rng.random() < 0.2), 903: rng.normal(20, 2), 122: 5.0}
        rows = [f"{minute * 10 + k},{value},1,{parameter},{at}" for k, (parameter, value) in enumerate(values.items())]
        (tmp_path / "rows").open("a", encoding="utf-8").write("\n".join(rows) + "\n")
    write(tmp_path, "landing/a.csv", (tmp_path / "rows").read_text(encoding="utf-8").strip())
    take_in(home, tmp_path / "landing")
    observe_due(home)
    return home


def environment(home: Home, **more: str) -> dict[str, str]:
    return {
        "BTS_HOME": str(home.settings.home), "BTS_DATABASE_URL": str(home.settings.database_url), "BTS_STEP": "1h",
        "BTS_CONTEXT": "24h", "BTS_HORIZON": "6h", **more,
    }  # fmt: skip


def test_proposals_name_the_kinds_and_can_be_given_back(unlisted: Home, tmp_path: Path) -> None:
    assert unlisted_parameters(unlisted) == [901, 902, 903]
    assert [p.parameter.kind for p in proposals(unlisted)] == ["counter", "switch", "gauge"]
    mine = tmp_path / "mine.csv"
    mine.write_text(bts("catalogue", "--propose", env=environment(unlisted)).stdout, encoding="utf-8")
    assert mine.read_text(encoding="utf-8").startswith(
        HEADER + "\n901,Parameter 901,,counter,last,0,,999991;999999,,,true"
    )
    again = open_home(unlisted.settings.model_copy(update={"catalogue": mine}))
    assert unlisted_parameters(again) == []
    assert observe_due(again).days == 3
    again.engine.dispose()


def test_what_holds_and_what_is_not_listed_is_shown(unlisted: Home) -> None:
    shown = bts("catalogue", env=environment(unlisted) | {"COLUMNS": "160"}).stdout
    assert "Load of Power Grid" in shown
    assert "3 not listed" in shown
    assert "901: counter, valid 0 to …; 150 readings of 1 series rise and never fall but to begin again" in shown
    assert "902: switch, valid 0 to 1; 150 readings of 1 series are 0 or 1 alone" in shown


def test_every_mistake_in_a_catalogue_is_one_line_that_says_where_and_what(tmp_path: Path) -> None:
    mine = tmp_path / "mine.csv"
    mine.write_text(f"{HEADER}\n1,A,,dial,mean,,,,,,true\n2,B,,gauge,mean,9,1,,,,yes\n2,C,,gauge,mean,x,,,,,true\n")
    done = bts("catalogue", env={"BTS_HOME": str(tmp_path), "BTS_CATALOGUE": str(mine)})
    assert done.returncode == INPUT
    assert [" ".join(line.split()) for line in done.stderr.splitlines()] == [
        f"bts: {mine} line 2: kind is 'dial'; it can be gauge or counter or switch",
        f"bts: {mine} line 3: forecast is 'yes'; it can be true or false",
        f"bts: {mine} line 4: valid_min is 'x'; it must be a number",
    ]

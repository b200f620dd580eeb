"""The operator's page of docs/monitoring.md has a row for whatever the code can tell people of."""

import re
from pathlib import Path
from typing import get_args

import pytest

from bts_assets.contracts.alerts import Kind
from bts_assets.monitoring.sensors import SERIES_FAULTS, STATION_FAULTS
from bts_assets.services.site_power import FINDINGS

CHECKOUT = Path(__file__).parents[1]
PAGE = (
    (CHECKOUT / "docs" / "monitoring.md").read_text(encoding="utf-8").split("## For the operator")[1].split("\n## ")[0]
)
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_of_alert_has_a_meaning_and_something_to_do(kind: str) -> None:
    assert [row for row in ROWS if re.match(rf"{kind}\b", row[0]) and all(cell.strip() for cell in row)]


@pytest.mark.parametrize("name", [*STATION_FAULTS, *SERIES_FAULTS, *FINDINGS])
def test_every_fault_and_finding_has_a_meaning_and_something_to_do(name: str) -> None:
    assert [row for row in ROWS if f"`{name}`" in row[0]]


def test_findings_are_those_that_the_code_makes() -> None:
    code = (CHECKOUT / "bts_assets" / "services" / "site_power.py").read_text(encoding="utf-8")
    made = set(re.findall(r"_finding\(\s*site,\s*\"(\w+)\"", code))
    assert made == set(FINDINGS)

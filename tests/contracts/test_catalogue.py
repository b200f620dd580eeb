"""The catalogue: what it lists, what it refuses, and what its digest covers."""

import re
from dataclasses import fields, replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from bts_assets.contracts.catalogue import Catalogue, CatalogueError, Parameter, load_catalogue, parse_catalogue

HEADER = "parameter_id,name,unit,kind,aggregation,valid_min,valid_max,sentinels,low_limit,high_limit,forecast"
GOOD = "111,Room Temperature,°C,gauge,mean,-60,100,999991;999999,5,35,true"

#: A change of every field, whatever it was.
CHANGED: dict[str, Any] = {
    "parameter_id": 999,
    "name": "another",
    "unit": "K",
    "kind": "counter",
    "aggregation": "max",
    "valid_min": 0.0,
    "valid_max": 1.0,
    "sentinels": (),
    "low_limit": 6.0,
    "high_limit": None,
    "forecast": False,
    "known": False,
}


def test_every_parameter_that_the_operator_describes_is_listed(shared_data: Path) -> None:
    text = (shared_data / "README.md").read_text(encoding="utf-8")
    table = text.split("What the operator's parameters are:")[1].split("Alarm kinds")[0]
    cells = [cell.strip() for row in table.splitlines()[4:] for cell in row.strip("| ").split("|")]
    described = {int(i) for cell in cells for i in re.findall(r"\d{3}", cell) if re.fullmatch(r"[\d, ]+", cell)}
    assert len(described) > 25
    assert {p.parameter_id for p in load_catalogue()} == described


def test_shipped_catalogue_makes_sense() -> None:
    for p in load_catalogue():
        assert p.known
        assert p.name
        assert p.valid_min < p.valid_max
        assert p.unit or p.kind == "switch"
        assert not any(p.valid_min <= s <= p.valid_max for s in p.sentinels if p.valid_max < inf), p
        limits = [limit for limit in (p.low_limit, p.high_limit) if limit is not None]
        assert limits == sorted(set(limits))
        assert all(p.valid_min < limit < p.valid_max for limit in limits)
        assert {"gauge": "mean", "counter": "last", "switch": "max"}[p.kind] == p.aggregation
    assert load_catalogue().of(122).name == "Load of Power Grid"


def test_empty_cells_mean_the_defaults() -> None:
    (parameter,) = parse_catalogue(f"{HEADER}\n7,Seven,,counter,last,,,,,,true")
    assert parameter == Parameter(7, "Seven", kind="counter", aggregation="last", sentinels=())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (GOOD.replace("gauge", "dial"), "kind is 'dial'; it can be gauge or counter or switch"),
        (GOOD.replace("mean", "median"), "aggregation is 'median'; it can be mean or last or max or sum"),
        (GOOD.replace("true", "yes"), "forecast is 'yes'; it can be true or false"),
        (GOOD.replace("111", "one"), "parameter_id is 'one'; it must be a whole number"),
        (GOOD.replace("-60", "cold"), "valid_min is 'cold'; it must be a number"),
        (GOOD.replace("100", "hot"), "valid_max is 'hot'; it must be a number"),
        (GOOD.replace("999991", "none"), "sentinels is '"),
        (GOOD.replace(",5,", ",low,"), "low_limit is 'low'; it must be a number"),
        (GOOD.replace(",35,", ",nan,"), "high_limit is 'nan'; it must be a number"),
        (GOOD.rpartition(",")[0], "forecast is missing"),
    ],
    ids=lambda value: value.split(" ")[0] if " is " in value else "",
)
def test_line_that_cannot_be_used_is_named_with_its_field(line: str, told: str) -> None:
    with pytest.raises(CatalogueError) as error:
        parse_catalogue(f"{HEADER}\n{GOOD}\n{line}\n")
    assert str(error.value).startswith(f"catalogue line 3: {told}")


def test_missing_column_is_named() -> None:
    with pytest.raises(CatalogueError, match="unit is missing"):
        parse_catalogue(HEADER.replace("unit,", "") + "\n" + GOOD.replace("°C,", ""))


def test_parameter_listed_twice_is_refused() -> None:
    with pytest.raises(CatalogueError, match="line 3: parameter_id 111 is listed twice, first on line 2"):
        parse_catalogue(f"{HEADER}\n{GOOD}\n{GOOD}\n")


def test_unknown_parameter_is_a_gauge_without_limits_that_is_forecast() -> None:
    unknown, room = load_catalogue().all_of([4711, 111])
    assert not unknown.known
    assert (unknown.parameter_id, unknown.kind, unknown.aggregation, unknown.forecast) == (4711, "gauge", "mean", True)
    assert (unknown.valid_min, unknown.valid_max, unknown.low_limit, unknown.high_limit) == (-inf, inf, None, None)
    assert "4711" in unknown.name
    assert (room.known, room.name) == (True, "Room Temperature")


def test_a_changed_field_is_tried_for_each() -> None:
    assert set(CHANGED) == {f.name for f in fields(Parameter)}


@pytest.mark.parametrize("field", CHANGED)
def test_digest_changes_with_any_field(field: str) -> None:
    first, *others = load_catalogue()
    changed = replace(first, **{field: CHANGED[field]})
    assert changed != first
    assert Catalogue((changed, *others)).digest != load_catalogue().digest


def test_digest_heeds_no_order() -> None:
    assert Catalogue(tuple(reversed(load_catalogue().parameters))).digest == load_catalogue().digest

"""What each parameter is: unit, kind, aggregation, valid range, sentinels, limits. The truth is catalogue.csv.

A parameter that is not listed is a gauge without limits, taken in and forecast like any other.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.resources import files
from io import StringIO
from math import inf, isfinite
from typing import Final, Literal, TypeVar, cast, get_args

from bts_assets.contracts.errors import BtsError

Kind = Literal["gauge", "counter", "switch"]
Aggregation = Literal["mean", "last", "max", "sum"]
Value = TypeVar("Value")
Absent = TypeVar("Absent", float, None)

#: Codes that the operator's equipment writes where it has no measurement.
DEFAULT_SENTINELS: Final = (999991.0, 999999.0)


class CatalogueError(BtsError):
    """A catalogue file that cannot be used: the line, the column and what is wrong."""


@dataclass(frozen=True)
class Parameter:
    """One measured quantity. Values, limits and the valid range are in `unit`."""

    parameter_id: int
    name: str
    unit: str = ""
    kind: Kind = "gauge"
    aggregation: Aggregation = "mean"
    valid_min: float = -inf
    valid_max: float = inf
    sentinels: tuple[float, ...] = DEFAULT_SENTINELS
    low_limit: float | None = None
    high_limit: float | None = None
    forecast: bool = True
    known: bool = True


#: Of the file: a parameter is known because it is listed.
_COLUMNS: Final = tuple(f.name for f in fields(Parameter) if f.name != "known")


def unknown_parameter(parameter_id: int) -> Parameter:
    return Parameter(parameter_id, f"unknown parameter {parameter_id}", known=False)


@dataclass(frozen=True)
class Catalogue:
    """All known parameters; `of` answers for unknown ones too."""

    parameters: tuple[Parameter, ...]
    _by_id: dict[int, Parameter] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {p.parameter_id: p for p in self.parameters})
        twice = [i for i, count in Counter(p.parameter_id for p in self.parameters).items() if count > 1]
        if twice:
            raise CatalogueError(f"the catalogue lists parameter_id {twice[0]} twice")

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def of(self, parameter_id: int) -> Parameter:
        return self._by_id.get(parameter_id) or unknown_parameter(parameter_id)

    def all_of(self, parameter_ids: Iterable[int]) -> list[Parameter]:
        return [self.of(int(i)) for i in parameter_ids]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every field of every parameter, in order of id: part of a model version."""
        text = "\n".join(repr(p) for p in sorted(self.parameters, key=lambda p: p.parameter_id))
        return hashlib.sha256(text.encode()).hexdigest()


def parse_catalogue(text: str) -> Catalogue:
    """Read a catalogue CSV; an empty cell means the field's default.

    Raises:
        CatalogueError: naming the line and the field that cannot be used.
    """
    parameters = []
    for line, row in enumerate(csv.DictReader(StringIO(text)), start=2):
        try:
            parameters.append(_parse_row(row))
        except ValueError as error:
            raise CatalogueError(f"catalogue line {line}: {error}") from None
    return Catalogue(tuple(parameters))


def load_catalogue() -> Catalogue:
    """The catalogue that ships with the package."""
    return parse_catalogue(files(__package__).joinpath("catalogue.csv").read_text(encoding="utf-8"))


def _parse_row(row: dict[str, str | None]) -> Parameter:
    for column in _COLUMNS:
        if row.get(column) is None:
            raise ValueError(f"{column} is missing")
    cells = cast(dict[str, str], row)
    return Parameter(
        parameter_id=_parsed(cells, "parameter_id", int, "a whole number"),
        name=cells["name"],
        unit=cells["unit"],
        kind=cast(Kind, _one_of(cells, "kind", get_args(Kind))),
        aggregation=cast(Aggregation, _one_of(cells, "aggregation", get_args(Aggregation))),
        valid_min=_number(cells, "valid_min", -inf),
        valid_max=_number(cells, "valid_max", inf),
        sentinels=_parsed(cells, "sentinels", _numbers, "numbers with semicolons between them"),
        low_limit=_number(cells, "low_limit", None),
        high_limit=_number(cells, "high_limit", None),
        forecast=_one_of(cells, "forecast", ("true", "false")) == "true",
    )


def _one_of(row: dict[str, str], column: str, allowed: tuple[str, ...]) -> str:
    if row[column] not in allowed:
        raise ValueError(f"{column} is {row[column]!r}; it can be {' or '.join(allowed)}")
    return row[column]


def _number(row: dict[str, str], column: str, absent: Absent) -> float | Absent:
    return _parsed(row, column, _finite, "a number") if row[column] else absent


def _parsed(row: dict[str, str], column: str, parse: Callable[[str], Value], wanted: str) -> Value:
    try:
        return parse(row[column])
    except ValueError:
        raise ValueError(f"{column} is {row[column]!r}; it must be {wanted}") from None


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_finite(part) for part in text.split(";") if part)


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("not finite")
    return number

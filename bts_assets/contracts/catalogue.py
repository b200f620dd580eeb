"""What each parameter is: unit, kind, aggregation, valid range, sentinels, limits. catalogue.csv is what ships.

An operator's own file is laid over it. A parameter that is not listed is a gauge without limits, taken in and forecast
like any other.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from importlib.resources import files
from io import StringIO
from math import inf, isfinite
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

from bts_assets.contracts.errors import InputError

Kind = Literal["gauge", "counter", "switch"]
Aggregation = Literal["mean", "last", "max", "sum"]

#: Codes that the operator's equipment writes where it has no measurement.
DEFAULT_SENTINELS: Final = (999991.0, 999999.0)


class CatalogueError(InputError):
    """A catalogue file that cannot be used: a line of text per mistake, with file, line, column and what to write."""


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

    def __post_init__(self) -> None:
        # 0 and 0.0 are one number: they must have one digest, and come back as they were stored.
        for name in ("valid_min", "valid_max", "low_limit", "high_limit"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else float(value))
        object.__setattr__(self, "sentinels", tuple(map(float, self.sentinels)))


#: The columns of the file, which has no `known`: a listed parameter is known.
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

    def under(self, own: "Catalogue") -> "Catalogue":
        """This catalogue with another one's rows laid over it: they replace those of the same id, or come beside."""
        return Catalogue(tuple(sorted({**self._by_id, **own._by_id}.values(), key=lambda p: p.parameter_id)))

    def beside(self, other: "Catalogue") -> "Catalogue":
        """This catalogue, and of what it does not list what another found it to be, from data alone."""
        inferred = [p for p in other if not p.known and p.parameter_id not in self._by_id]
        return Catalogue((*self.parameters, *inferred)) if inferred else self

    def rows(self) -> list[dict[str, Any]]:
        """What is stored of it: every field of every parameter, an open end of the valid range as None."""
        return [
            {f.name: _stored(getattr(p, f.name)) for f in fields(p)}
            for p in sorted(self.parameters, key=lambda p: p.parameter_id)
        ]

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every field of every parameter, in order of id: part of a model version."""
        text = "\n".join(repr(p) for p in sorted(self.parameters, key=lambda p: p.parameter_id))
        return hashlib.sha256(text.encode()).hexdigest()


def catalogue_of_rows(rows: Iterable[Mapping[str, Any]]) -> Catalogue:
    """What `Catalogue.rows` gave, read back."""
    open_ends = {"valid_min": -inf, "valid_max": inf}
    return Catalogue(
        tuple(
            Parameter(**{**row, **{name: end for name, end in open_ends.items() if row[name] is None}}) for row in rows
        )
    )


def parse_catalogue(text: str, name: str = "catalogue") -> Catalogue:
    """Read a catalogue CSV; an empty cell means the field's default. `name` is what the file is called in messages.

    Raises:
        CatalogueError: naming every line and field that cannot be used.
    """
    lines = csv.DictReader(StringIO(text.removeprefix("\ufeff"), newline=""), skipinitialspace=True)
    mistakes, parameters = _header_mistakes(lines.fieldnames or (), name), []
    seen: dict[int, int] = {}
    for row in lines if not mistakes else ():
        parameter, wrong = _parse_row(row)
        mistakes += [f"{name} line {lines.line_num}: {what}" for what in wrong]
        if parameter is None:
            continue
        before = seen.setdefault(parameter.parameter_id, lines.line_num)
        if before != lines.line_num:
            mistakes.append(
                f"{name} line {lines.line_num}: parameter_id {parameter.parameter_id} is listed twice, first on line"
                f" {before}; keep one of them"
            )
        parameters.append(parameter)
    if mistakes:
        raise CatalogueError("\n".join(mistakes))
    return Catalogue(tuple(parameters))


def format_catalogue(parameters: Iterable[Parameter]) -> str:
    """As CSV, which `parse_catalogue` reads back."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([_cell(getattr(p, column)) for column in _COLUMNS] for p in parameters)
    return out.getvalue()


def shipped_catalogue() -> Catalogue:
    return parse_catalogue(files(__package__).joinpath("catalogue.csv").read_text(encoding="utf-8"))


def load_catalogue(own: Path | None = None) -> Catalogue:
    """The catalogue that ships with the package, with the operator's own file laid over it, if there is one.

    Raises:
        CatalogueError: if that file cannot be read or used.
    """
    return shipped_catalogue().under(read_own_catalogue(own)) if own else shipped_catalogue()


def read_own_catalogue(file: Path) -> Catalogue:
    """The rows of an operator's own file.

    Raises:
        CatalogueError: if it cannot be read or used.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise CatalogueError(f"BTS_CATALOGUE={file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CatalogueError(f"BTS_CATALOGUE={file} is not UTF-8 text; save it as CSV in UTF-8") from None
    return parse_catalogue(text, str(file))


def _header_mistakes(found: Sequence[str], name: str) -> list[str]:
    what = [f"column {column} is missing" for column in _COLUMNS if column not in found]
    what += [f"column {column} is not known" for column in found if column not in _COLUMNS]
    if not what:
        return []
    return [f"{name} line 1: {', '.join(what)}; write {','.join(_COLUMNS)} as the first line"]


def _parse_row(row: dict[str, str | None]) -> tuple[Parameter | None, list[str]]:
    """A parameter, or what is wrong with its cells."""
    if None in row:
        return None, [f"there are more cells than the {len(_COLUMNS)} columns; quote a name that holds a comma"]
    missing = [f"{column} is missing" for column in _COLUMNS if row.get(column) is None]
    if missing:
        return None, missing
    cells = {column: cast(str, row[column]).strip() for column in _COLUMNS}
    wrong: list[str] = []

    def read(column: str, parse: Callable[[str], Any], absent: Any = None) -> Any:
        try:
            return absent if not cells[column] and absent is not _REQUIRED else parse(cells[column])
        except ValueError as error:
            wrong.append(f"{column} is {cells[column]!r}; it {error}")
            return None

    found: dict[str, Any] = {
        "parameter_id": read("parameter_id", _whole, _REQUIRED),
        "name": cells["name"],
        "unit": cells["unit"],
        "kind": read("kind", _one_of(get_args(Kind)), _REQUIRED),
        "aggregation": read("aggregation", _one_of(get_args(Aggregation)), _REQUIRED),
        "valid_min": read("valid_min", _number, -inf),
        "valid_max": read("valid_max", _number, inf),
        "sentinels": read("sentinels", _numbers, ()),
        "low_limit": read("low_limit", _number),
        "high_limit": read("high_limit", _number),
        "forecast": read("forecast", _one_of(("true", "false")), _REQUIRED) == "true",
    }
    if not wrong:
        wrong = [
            f"{low} is {found[low]:g}, above {high}, which is {found[high]:g}; exchange them"
            for low, high in (("valid_min", "valid_max"), ("low_limit", "high_limit"))
            if found[low] is not None and found[high] is not None and found[low] > found[high]
        ]
    return (None, wrong) if wrong else (Parameter(**found), [])


#: Stands for a cell that may not be empty.
_REQUIRED: Final[Any] = object()


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], str]:
    def read(cell: str) -> str:
        if cell not in allowed:
            raise ValueError(f"can be {' or '.join(allowed)}")
        return cell

    return read


def _whole(cell: str) -> int:
    try:
        number = int(cell)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 31:
        raise ValueError("must be a whole number from 0 to 2147483647")
    return number


def _number(cell: str) -> float:
    try:
        return _finite(cell)
    except ValueError:
        raise ValueError("must be a number") from None


def _numbers(cell: str) -> tuple[float, ...]:
    try:
        return tuple(_finite(part) for part in cell.split(";") if part)
    except ValueError:
        raise ValueError("must be numbers with semicolons between them") from None


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError("not finite")
    return number


def _stored(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else None if value in (inf, -inf) else value


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return ";".join(_cell(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "" if not isfinite(value) else str(int(value)) if value == int(value) else repr(value)
    return "" if value is None else str(value)

"""How a landing file writes its rows: found once per file, from its content. What the cells mean is for `cells`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bts_assets.landing.cells import DecimalMark
from bts_assets.landing.text import Compression, Encoding


@dataclass(frozen=True)
class LandingRules:
    """What an operator says of landing files that their content cannot: the header's names of our columns, whether
    the day stands first in dates such as 03/04/2026, what commas in values are.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    dayfirst: bool | None = None
    decimal: DecimalMark | None = None


@dataclass(frozen=True)
class Dialect:
    """`times`: the forms that occur in the first block; `stations`, `parameters`: written as ids or as names."""

    encoding: Encoding
    compression: Compression
    delimiter: str
    separator_line: bool = False
    quoted: bool = False
    decimal: DecimalMark = "point"
    times: tuple[str, ...] = ()
    stations: Literal["ids", "names"] = "ids"
    parameters: Literal["ids", "names"] = "ids"

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"times": list(self.times)}

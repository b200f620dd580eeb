"""What text in a column counts as an integer or a number, decided for whole columns at once. Times are in `times`.

Arrow's cast is the shortcut for columns that are clean; where it refuses, the plain cells are picked and cast, and the
few others are decided one by one. Which reason a broken cell leads to is for `files`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bts_assets.landing.names import hashed_id, is_nothing, unquoted

DecimalMark = Literal["point", "comma"]

#: What may surround a cell: blanks, and the quotes of files that quote everything.
PADDING: Final = ' \t"'

_DIGITS: Final = b"0123456789"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,400}(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?")
_NUMBER: Final = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
#: A number with a comma; and such that the comma could as well group thousands.
_WITH_COMMA: Final = r"^[+-]?(?:[0-9]+,[0-9]*|,[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_GROUPED: Final = r"^[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+$"
#: By decimal mark: the one that groups thousands, and numbers that are so grouped, whole or not.
_GROUPING: Final[dict[DecimalMark, tuple[str, str]]] = {
    "point": (",", r"^[+-]?[1-9][0-9]{0,2}(?:,[0-9]{3})+(?:\.[0-9]*)?$"),
    "comma": (".", r"^[+-]?[1-9][0-9]{0,2}(?:\.[0-9]{3})+(?:,[0-9]*)?$"),
}


#: Cells that are tried before a column is: each cell that fails costs Arrow a message, a column of them a second.
_FIRST_LOOK: Final = 256


@dataclass(frozen=True)
class Cells:
    """The values of a column (anything where `broken`), and masks over its rows."""

    values: np.ndarray
    broken: np.ndarray


def integers(texts: pa.StringArray, largest: int) -> Cells:
    """Whole numbers from 0 to `largest`, also such as `12.0` and `1.2e3`."""
    values = cast_whole(texts)
    if values is not None:
        return Cells(values, (values < 0) | (values > largest))
    cells = _isolate(trimmed(texts), pa.int64(), _DIGITS, "^[0-9]{1,18}$", whole_number)
    return Cells(cells.values, cells.broken | (cells.values < 0) | (cells.values > largest))


def identities(texts: pa.StringArray, none: int) -> np.ndarray:
    """The ids of readings: numbers as they are, any other text hashed to 63 bits; `none` where there is none."""
    values = cast_whole(texts)
    if values is not None and (not len(values) or values.min() >= 0):
        return values

    def one(text: str) -> int:
        text = unquoted(text)
        if is_nothing(text):
            return none
        value = whole_number(text)
        return value if value is not None and value >= 0 else hashed_id(text)

    cells = _isolate(trimmed(texts), pa.int64(), _DIGITS, "^[0-9]{1,18}$", one)
    return np.where(cells.broken, none, cells.values)


def numbers(texts: pa.StringArray, decimal: DecimalMark = "point", *, grouped: bool = False) -> Cells:
    """Finite decimal numbers, with or without an exponent; `grouped`: the other mark may stand between thousands."""
    mark, pattern = _GROUPING[decimal]
    if grouped and holds(texts, mark.encode()):
        texts = trimmed(texts)
        texts = pc.if_else(pa.array(matches(texts, pattern)), pc.replace_substring(texts, mark, ""), texts)
    if decimal == "comma":
        texts = pc.replace_substring(pc.replace_substring(texts, ".", "?"), ",", ".")
    values = cast_or_none(texts, pa.float64())
    if values is None:
        texts = trimmed(texts)
        cells = _isolate(texts, pa.float64(), _DIGITS + b".-", r"^-?[0-9]{1,30}(?:\.[0-9]{1,30})?$", _one_number)
        values = np.where(cells.broken, np.nan, cells.values)
    # Adding zero turns -0.0 into 0.0: equal values must have equal bits.
    return Cells(values + 0.0, ~np.isfinite(values))


def decimal_of_grouped(text: str) -> DecimalMark | None:
    """The decimal mark of a number with both marks in it, whose thousands the other one groups; None: it is no such."""
    both = "." in text and "," in text
    return next((decimal for decimal, (_, pattern) in _GROUPING.items() if both and re.match(pattern, text)), None)


def decimal_marks(texts: pa.StringArray, understood: np.ndarray) -> tuple[DecimalMark | Literal["either"], np.ndarray]:
    """What the commas in numbers are, and which cells have one: `comma`, if no number has a point and one could not be
    grouped thousands; `either`, if all could; else `point`, and the cells are no numbers.

    `understood`: the cells that are numbers with a point, or whole.
    """
    texts = trimmed(texts)
    with_comma = matches(texts, _WITH_COMMA) | matches(texts, _GROUPED)
    points = pc.match_substring(texts, ".").to_numpy(zero_copy_only=False) & understood
    if points.any() or not with_comma.any():
        return "point", with_comma
    grouped = matches(texts.filter(pa.array(with_comma)), _GROUPED)
    return ("either" if grouped.all() else "comma"), with_comma


def trimmed(texts: pa.StringArray) -> pa.StringArray:
    return pc.ascii_trim(texts, characters=PADDING)


def cast_whole(texts: pa.StringArray) -> np.ndarray | None:
    """A column of plain integers; nothing if any cell is something else."""
    # Arrow reads 0x1F as a number; nobody's ids are written so.
    return None if holds(texts, b"xX") else cast_or_none(texts, pa.int64())


def cast_or_none(texts: pa.StringArray, kind: pa.DataType) -> np.ndarray | None:
    try:
        for first in (0, len(texts) // 2):
            texts[first : first + _FIRST_LOOK].cast(kind)
        cast = texts.cast(kind)
    except pa.ArrowInvalid:
        return None
    return (cast.cast(pa.int64()) if pa.types.is_timestamp(kind) else cast).to_numpy()


def holds(texts: pa.StringArray, letters: bytes) -> bool:
    characters = texts.buffers()[2]
    found = np.frombuffer(characters, "uint8") if characters is not None and characters.size else np.empty(0, "uint8")
    return any((found == letter).any() for letter in letters)


def matches(texts: pa.StringArray, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)


def _isolate(
    texts: pa.StringArray, kind: pa.DataType, letters: bytes, plain: str, one: Callable[[str], float | int | None]
) -> Cells:
    """Cast the cells made of `letters` alone, or if that fails those that match `plain`; ask `one` about the rest."""
    empty = pc.equal(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    is_plain = ~(empty | _with_others(texts, letters))
    cast = cast_or_none(texts.filter(pa.array(is_plain)), kind)
    if cast is None:
        is_plain = matches(texts, plain)
        cast = texts.filter(pa.array(is_plain)).cast(kind).to_numpy()
    values = np.zeros(len(texts), kind.to_pandas_dtype())
    values[is_plain] = cast
    broken = empty.copy()
    others = np.flatnonzero(~(is_plain | empty))
    if len(others):
        # Asked once for each text: what is odd in one row is odd in many.
        found = texts.take(pa.array(others)).dictionary_encode()
        answers = [one(text) for text in found.dictionary.to_pylist()]
        code = found.indices.to_numpy()
        values[others] = np.array([0 if a is None else a for a in answers], values.dtype)[code]
        broken[others] = np.array([a is None for a in answers])[code]
    return Cells(values, broken)


def _with_others(texts: pa.StringArray, letters: bytes) -> np.ndarray:
    """Which cells hold a byte that is none of `letters`: several times as fast as a regular expression."""
    other = np.ones(256, bool)
    other[list(letters)] = False
    found = np.zeros(len(texts), bool)
    ends = np.frombuffer(texts.buffers()[1], "int32")[texts.offset : texts.offset + len(texts) + 1]
    if ends[-1] > ends[0]:
        where = np.flatnonzero(other[np.frombuffer(texts.buffers()[2], "uint8")[ends[0] : ends[-1]]]) + ends[0]
        found[np.searchsorted(ends, where, side="right") - 1] = True
    return found


def whole_number(text: str) -> int | None:
    """The number that a text is, if it is whole and within 63 bits."""
    if not _WHOLE.fullmatch(text):
        return None
    number = Decimal(text)
    # Such a number is compared before it is made: 1e99 has a hundred digits.
    return int(number) if abs(number) < 1 << 63 and number == number.to_integral_value() else None


def _one_number(text: str) -> float | None:
    return float(text) if re.fullmatch(_NUMBER, text) else None

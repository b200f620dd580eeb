"""Where the records of a landing file begin and end, and which of them have the header's number of fields.

Delimiters and line ends between quotes do not separate. One stray quote must not swallow what follows: a record goes on
over line ends only where that gives it exactly the header's number of fields, and a line whose quotes do not lead to
that number is cut at every delimiter. All is decided on arrays of positions, block by block, so that time and memory
follow the bytes, whatever they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from bts_assets.landing.scratch import Bytes, count

#: About so many bytes are looked at together; what becomes of a record does not depend on it.
BLOCK: Final = 1 << 24
#: The lines that a quoted field may go on over.
MOST_LINES: Final = 100

_LF, _CR, _QUOTE, _BLANK, _TAB = (ord(c) for c in '\n\r" \t')
# Bytes that UTF-8 never has.
_CR_MARK, _LF_MARK, _DELIMITER_MARK = 0xFD, 0xFE, 0xFF
#: What stands in a marked block for a line end or a delimiter ("") that quotes protect.
MARKS: Final = {b"\xfd": "\r", b"\xfe": "\n", b"\xff": ""}

# How the delimiters of a line are read: those between quotes do not separate, and the line begins outside or inside of
# quotes; or every one separates.
_OUTSIDE, _INSIDE, _EVERY = 0, 1, 2


@dataclass(frozen=True)
class Block:
    """Some whole records. Lines are counted from 0, within the block.

    `sound`: the bytes of the records that have the right number of fields, to be cut at every delimiter; what quotes
    protect is `marked` by `MARKS`. `lines`, `ragged`: the lines on which those records and
    the others begin; `count`: how many lines there are.
    """

    sound: np.ndarray
    marked: bool
    quoted: bool
    lines: np.ndarray
    ragged: np.ndarray
    count: int
    bounds: "Bounds"
    last: np.ndarray | None

    def raw(self, line: int) -> bytes:
        """The record that begins on this line, as it stood."""
        end = line if self.last is None else int(self.last[line])
        data = self.bounds.data
        return data[self.bounds.starts[line] : self.bounds.ends[end]].tobytes().removesuffix(b"\r")


class Bounds:
    """Where the lines of a stretch of text begin and end, looked for when asked; `line_ends`: its bytes that end one,
    if others than line feeds do.
    """

    def __init__(self, data: np.ndarray, line_ends: np.ndarray | None = None) -> None:
        self.data, self._line_ends = data, line_ends

    @cached_property
    def ends(self) -> np.ndarray:
        ends = np.flatnonzero(self.data == _LF if self._line_ends is None else self._line_ends)
        return ends if len(ends) and ends[-1] == len(self.data) - 1 else np.append(ends, len(self.data))

    @cached_property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], self.ends[:-1] + 1])


def has_lone_returns(text: Bytes, start: int, end: int) -> bool:
    """Whether a carriage return ends a line by itself."""
    # Looking for a byte that is not there is an order of magnitude faster than counting.
    if text.find(b"\r", start, end) < 0:
        return False
    return count(text, b"\r", start, end) != count(text, b"\r\n", start, end)


def plain_stretch(text: Bytes, start: int, delimiter: str, fields: int, size: int = BLOCK) -> np.ndarray | None:
    """About `size` bytes of whole lines, if every line feed, and nothing else, ends a record: quotes protect none.
    Nothing where so many lines are short that cells for each would be more than bytes.
    """
    end = _cut(text, start, start + size)
    if text.find(b'"', start, end) >= 0:
        return None
    if has_lone_returns(text, start, end):
        return None
    data = np.frombuffer(memoryview(text)[start:end], "uint8")
    line_ends, delimiters = (int(np.count_nonzero(data == mark)) for mark in (_LF, ord(delimiter)))
    if line_ends * fields > len(data):
        return None
    if _too_many(line_ends + delimiters, start, end, size):
        return data[: _cut(text, start, start + size // 8) - start]
    return data


def plain_block(data: np.ndarray, delimiter: str, count: int, unsound: np.ndarray) -> Block:
    """Such a stretch of `count` lines, of which some have another number of fields."""
    bounds, sound = Bounds(data), np.arange(count)
    ragged = unsound
    if len(unsound):
        sound = np.delete(sound, unsound)
        ragged = unsound[~_blank(data, bounds.starts[unsound], bounds.ends[unsound], ord(delimiter))]
    return Block(
        sound=data, marked=False, quoted=False, lines=sound, ragged=ragged, count=count, bounds=bounds, last=None
    )


def _too_many(marks: int, start: int, end: int, size: int) -> bool:
    """Whether delimiters and line ends, of eight bytes each, are so many that less should be looked at together."""
    return marks > max(end - start, size) // 8


def blocks(text: Bytes, start: int, delimiter: str, fields: int, size: int = BLOCK) -> Iterator[Block]:
    """The records of `text` from `start` on, in blocks of about `size` bytes."""
    mark = ord(delimiter)
    while start < len(text):
        end = _cut(text, start, start + size)
        marks = _Marks.of(text, start, end, mark)
        if _too_many(marks.count, start, end, size):
            end = _cut(text, start, start + size // 8)
            marks = _Marks.of(text, start, end, mark)
        while (block := _scan(marks, mark, fields - 1, final=end == len(text))) is None:
            end = _cut(text, end, 2 * end - start)
            marks = _Marks.of(text, start, end, mark)
        yield block
        start += len(block.bounds.data)


@dataclass(frozen=True)
class _Marks:
    """A stretch of text, where its lines end, and which of its bytes are delimiters and quotes (None: none is)."""

    data: np.ndarray
    line_ends: np.ndarray
    delimiters: np.ndarray
    quotes: np.ndarray | None
    count: int

    @staticmethod
    def of(text: Bytes, start: int, end: int, delimiter: int) -> "_Marks":
        data = np.frombuffer(memoryview(text)[start:end], "uint8")
        line_ends = data == _LF
        # Looking for a byte that is not there is an order of magnitude faster than comparing.
        if text.find(b"\r", start, end) >= 0:
            alone = data == _CR
            alone[:-1] &= ~line_ends[1:]
            line_ends |= alone
        quotes = data == _QUOTE if text.find(b'"', start, end) >= 0 else None
        delimiters = data == delimiter
        count = sum(int(np.count_nonzero(marks)) for marks in (line_ends, delimiters, quotes) if marks is not None)
        return _Marks(data, line_ends, delimiters, quotes, count)

    def until(self, end: int) -> "_Marks":
        """The stretch cut short."""
        quotes = None if self.quotes is None else self.quotes[:end]
        return _Marks(self.data[:end], self.line_ends[:end], self.delimiters[:end], quotes, self.count)


def _cut(text: Bytes, start: int, end: int) -> int:
    """Past the last line end between the two, or past the first one after them."""
    if end >= len(text):
        return len(text)
    last = max(text.rfind(b"\n", start, end), text.rfind(b"\r", start, end))
    if last < 0:
        last = min((at for at in (text.find(b"\n", end), text.find(b"\r", end)) if at >= 0), default=len(text) - 1)
    return last + (2 if text[last : last + 2] == b"\r\n" else 1)


def _scan(marks: _Marks, mark: int, wanted: int, final: bool) -> Block | None:
    """The records of a stretch; unless it is the final one, without a last one whose quotes may close further on.

    Nothing, if that would leave none.
    """
    bounds, delimiters = Bounds(marks.data, marks.line_ends), np.flatnonzero(marks.delimiters)
    starts, ends = bounds.starts, bounds.ends
    if marks.quotes is None:
        sound = np.diff(np.searchsorted(delimiters, ends), prepend=0) == wanted
        return _block(bounds, sound, np.empty(0, "int64"), mark, None)
    quoting = _Quoting.of(marks.data, starts, ends, delimiters, np.flatnonzero(marks.quotes), wanted)
    if not final and quoting.open_line is not None:
        return (
            _scan(marks.until(int(starts[quoting.open_line])), mark, wanted, final=True) if quoting.open_line else None
        )
    return _block(bounds, quoting.sound, quoting.protected, mark, quoting.last)


@dataclass(frozen=True)
class _Quoting:
    """What the quotes of a stretch come to: per line whether the record that begins there is sound, and its last line
    (-1 where none begins); the positions that quotes protect; and the line, if any, that a later one may yet close.
    """

    sound: np.ndarray
    last: np.ndarray
    protected: np.ndarray
    open_line: int | None

    @staticmethod
    def of(
        data: np.ndarray, starts: np.ndarray, ends: np.ndarray, delimiters: np.ndarray, quotes: np.ndarray, wanted: int
    ) -> "_Quoting":
        line = np.searchsorted(ends, delimiters)
        every = np.bincount(line, minlength=len(ends))
        before = np.searchsorted(quotes, starts)
        odd = np.flatnonzero(np.diff(before, append=len(quotes)) & 1)
        inside = ((np.searchsorted(quotes, delimiters) - before[line]) & 1).astype(bool)
        outer = np.bincount(line[~inside], minlength=len(ends))
        first, final = _joined(odd, outer, every - outer, wanted)

        how = np.where(outer == wanted, _OUTSIDE, _EVERY)
        how[odd] = _EVERY
        how[first] = _OUTSIDE
        sound = (how == _OUTSIDE) | (every == wanted)
        last = np.arange(len(ends))
        last[first] = final
        # The lines that joined records go on over: no two of them overlap.
        went_on = np.repeat(first - np.concatenate([[0], np.cumsum(final - first)[:-1]]), final - first)
        went_on += np.arange(1, len(went_on) + 1)
        how[went_on], sound[went_on], last[went_on] = _INSIDE, False, -1

        between = ends[went_on - 1]
        pairs = between[(data[between] == _LF) & (between > 0)] - 1
        protected = np.concatenate(
            [
                delimiters[(how[line] == _OUTSIDE) & inside | (how[line] == _INSIDE) & ~inside],
                between,
                pairs[data[pairs] == _CR],
            ]
        )
        return _Quoting(sound, last, protected, _open_line(odd, np.concatenate([first, final]), len(ends)))


def _joined(odd: np.ndarray, outer: np.ndarray, inner: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """The first and last lines of records that go on over line ends, greedily from the top.

    `odd`: lines with an odd number of quotes; `outer`, `inner`: per line, the delimiters after an even and after an odd
    number of its quotes.
    """
    first, final = odd[:-1], odd[1:]
    so_far = np.concatenate([[0], np.cumsum(inner)])
    total = outer[first] + so_far[final + 1] - so_far[first + 1]
    fits = (total == wanted) & (final - first <= MOST_LINES)
    # Every other one of neighbours that fit: a line cannot both end a record and begin one.
    index = np.arange(len(fits))
    place = index - np.maximum.accumulate(np.where(fits, -1, index)) - 1
    chosen = fits & (place % 2 == 0)
    return first[chosen], final[chosen]


def _open_line(odd: np.ndarray, closed: np.ndarray, count: int) -> int | None:
    """The first line of the last `MOST_LINES` whose odd quote nothing has closed."""
    waiting = np.setdiff1d(odd[odd >= count - MOST_LINES], closed)
    return int(waiting[0]) if len(waiting) else None


def _block(bounds: Bounds, sound: np.ndarray, protected: np.ndarray, mark: int, last: np.ndarray | None) -> Block:
    data, starts, ends = bounds.data, bounds.starts, bounds.ends
    unsound = np.flatnonzero(~sound)
    shown = _marked(data, protected, mark) if len(protected) else data
    ragged = unsound
    if len(unsound):
        begins = unsound if last is None else unsound[last[unsound] >= 0]
        ragged = begins[~_blank(data, starts[begins], ends[begins], mark)]
        shown = _without(shown, starts, begins)
    return Block(
        sound=shown,
        marked=len(protected) > 0,
        quoted=last is not None,
        lines=np.flatnonzero(sound),
        ragged=ragged,
        count=len(ends) - (starts[-1] == len(data)),
        bounds=bounds,
        last=last,
    )


def _without(data: np.ndarray, starts: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """The bytes of all other lines."""
    if len(lines) > len(starts) // 64:
        kept = np.ones(len(starts), bool)
        kept[lines] = False
        return data[np.repeat(kept, np.diff(starts, append=len(data)))]
    # Several times as fast where there is little to leave out.
    edges = np.append(starts, len(data))
    begins, ends = np.concatenate([[0], edges[lines + 1]]), np.append(edges[lines], len(data))
    return np.concatenate([data[a:b] for a, b in zip(begins, ends, strict=True)])


def _blank(data: np.ndarray, starts: np.ndarray, ends: np.ndarray, mark: int) -> np.ndarray:
    """Which of these lines have nothing but blanks, and tabs where they are no delimiters."""
    tab = _BLANK if mark == _TAB else _TAB
    blank = starts >= ends
    first = data[np.minimum(starts, len(data) - 1)]
    unsure = np.flatnonzero(~blank & ((first == _BLANK) | (first == tab) | (first == _CR)))
    if len(unsure):
        letters = np.flatnonzero((data != _BLANK) & (data != tab) & (data != _CR) & (data != _LF))
        following = np.append(letters, len(data))[np.searchsorted(letters, starts[unsure])]
        blank[unsure] = following >= ends[unsure]
    return blank


def _marked(data: np.ndarray, protected: np.ndarray, mark: int) -> np.ndarray:
    shown = data.copy()
    letters = data[protected]
    shown[protected] = np.select([letters == mark, letters == _LF], [_DELIMITER_MARK, _LF_MARK], _CR_MARK)
    return shown

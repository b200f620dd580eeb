"""Reading landing files: their bytes, and what they hold; small ones together, each standing or falling alone.

Not here: which files are read, and how what was read comes to rest (`ingest`).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bts_assets.landing import inbox
from bts_assets.landing.alike import parse_alike
from bts_assets.landing.dialect import LandingRules
from bts_assets.landing.errors import LandingFileRefused
from bts_assets.landing.files import ParsedFile, parse_landing_file
from bts_assets.landing.names import NamedKind
from bts_assets.landing.reading_arrays import ReadingArrays
from bts_assets.landing.scratch import Bytes, Scratch
from bts_assets.services.home import Home
from bts_assets.services.reading_journal import ReadingJournal
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.ingest_ledger import UNREAD
from bts_assets.storage.landing_names import numbers_of_names

#: Files are parsed side by side; Arrow lets go of the interpreter, and more than two only cost memory.
_WORKERS: Final = 2

#: Files that are read, checked and entered together: so many, of so many bytes in all.
_GROUP_FILES: Final = 512
_GROUP_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Read:
    """One file, read: what the ledger will say of it. left: why it is left for later; small: its readings, where they
    are to rest with the ledger's entry.
    """

    file: inbox.LandingFile
    digest: str = ""
    parsed: ParsedFile | None = None
    refused: str | None = None
    left: str | None = None
    small: ReadingArrays | None = None


def groups_of(files: Sequence[inbox.LandingFile]) -> Iterator[list[inbox.LandingFile]]:
    """Files in their order, small ones together: what a file costs beside its rows is then paid once a group."""
    group: list[inbox.LandingFile] = []
    held = 0
    for file in files:
        if group and (held + file.size > _GROUP_BYTES or len(group) == _GROUP_FILES):
            yield group
            group, held = [], 0
        group.append(file)
        held += file.size
    if group:
        yield group


def read_in_order(
    read: Callable[[Sequence[inbox.LandingFile]], list[Read]],
    groups: Sequence[list[inbox.LandingFile]],
    alone: int,
    at_once: int,
    of_one: int,
) -> Iterator[list[Read]]:
    """Read ahead by a few groups, and no more than `at_once` bytes, so that memory grows neither with the landing
    folder nor with its files, of which none takes more than `of_one`; the last `alone` groups by themselves.
    """
    together = deque(groups[: len(groups) - alone])
    ahead: deque[tuple[int, Future[list[Read]]]] = deque()
    with ThreadPoolExecutor(_WORKERS) as pool:
        while together or ahead:
            while together and len(ahead) <= _WORKERS:
                size = sum(min(file.size, of_one) for file in together[0])
                if ahead and size + sum(held for held, _ in ahead) > at_once:
                    break
                ahead.append((size, pool.submit(read, together.popleft())))
            # It counts as held until it is entered, which is when the next is asked for.
            yield ahead[0][1].result()
            ahead.popleft()
    yield from map(read, groups[len(groups) - alone :])


def read_alone(home: Home, root: Path, file: inbox.LandingFile, now: datetime, scratch: Scratch) -> Read:
    """A file read by itself."""
    data, read = _bytes_of(home, root, file, scratch)
    return _parse(home, read, data, now, scratch) if data is not None else read


def read_group(
    home: Home,
    root: Path,
    files: Sequence[inbox.LandingFile],
    now: datetime,
    journal: ReadingJournal,
    scratch: Scratch,
) -> list[Read]:
    """Files read together. The journal holds a mark of all of them while they are, and one of each file that has to be
    parsed by itself: one that kills a run then puts none of its group under suspicion.
    """
    with journal.reading_together(files):
        held = [_bytes_of(home, root, file, scratch) for file in files]
        parsed = _parsed_alike(home, [data if isinstance(data, bytes) else b"" for data, _ in held], now)
    reads = []
    for (data, read), found in zip(held, parsed, strict=True):
        if found:
            reads.append(Read(read.file, read.digest, found))
        elif data is None:
            reads.append(read)
        else:
            with journal.reading(read.file):
                reads.append(_parse(home, read, data, now, scratch))
    return reads


def _bytes_of(home: Home, root: Path, file: inbox.LandingFile, scratch: Scratch) -> tuple[Bytes | None, Read]:
    """The bytes of a file and their digest, or why there are none."""
    data: Bytes
    most = home.settings.max_file_bytes
    try:
        if file.size > scratch.text_bytes:
            data, digest = inbox.copy_settled(root, file, most, scratch)
        else:
            data = inbox.read_settled(root, file, most)
            digest = inbox.digest_of(data)
    except inbox.StillChanging:
        return None, Read(file, left="still being written")
    except LandingFileRefused as refusal:
        return None, Read(file, UNREAD, refused=str(refusal))
    except OSError as error:
        # A file that cannot be opened says nothing of its content: try again next time.
        return None, Read(file, left=unkept(error))
    crash_point("landing.after_read")
    return data, Read(file, digest)


def _parsed_alike(home: Home, files: Sequence[bytes], now: datetime) -> list[ParsedFile | None]:
    settings = home.settings
    try:
        return parse_alike(
            files,
            home.catalogue,
            landing_timezone=settings.landing_timezone,
            now=now,
            max_skew=settings.max_skew,
            rules=rules_of(home),
            rejected_kept=settings.rejected_kept,
        )
    except Exception:
        # A defect of ours, which the files together met: it is told of the file that meets it alone too.
        return [None] * len(files)


def _parse(home: Home, read: Read, data: Bytes, now: datetime, scratch: Scratch) -> Read:
    settings = home.settings
    try:
        parsed = parse_landing_file(
            data,
            home.catalogue,
            landing_timezone=settings.landing_timezone,
            now=now,
            max_skew=settings.max_skew,
            rules=rules_of(home),
            number_of=lambda kind, names: _numbers_of(home, kind, names),
            max_bytes=settings.max_file_bytes,
            rejected_kept=settings.rejected_kept,
            scratch=scratch,
        )
    except LandingFileRefused as refusal:
        return Read(read.file, read.digest, refused=str(refusal))
    except OSError as error:
        return Read(read.file, left=unkept(error))
    except Exception as error:
        # A defect of ours, which one file met: it must not cost the night all the others.
        return Read(read.file, left=defect(error))
    return Read(read.file, read.digest, parsed)


def rules_of(home: Home) -> LandingRules:
    """What the settings say of how landing files are written."""
    settings = home.settings
    return LandingRules(settings.header_names, settings.landing_dayfirst, settings.landing_decimal)


def rules_kept(home: Home) -> dict[str, Any]:
    """What decides whether a file can be used, besides its bytes: if it changes, what could not be is read again."""
    rules = rules_of(home)
    return {
        "columns": dict(rules.columns),
        "dayfirst": rules.dayfirst,
        "decimal": rules.decimal,
        "max_bytes": home.settings.max_file_bytes,
    }


def _numbers_of(home: Home, kind: NamedKind, names: Sequence[str]) -> dict[str, int]:
    return numbers_of_names(home.engine, kind, names)


def unkept(error: OSError) -> str:
    """Why a file is left that the disk does not give, or does not take."""
    return f"could not be read or kept: {error.strerror or error}"


def defect(error: BaseException) -> str:
    """Why a file is left that meets a defect."""
    return f"could not be taken in: {type(error).__name__}: {error}".splitlines()[0]

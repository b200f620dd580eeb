"""What is done with landing files before the ledger is told of them, by this process or by workers: they are read and
checked, and their readings come to rest.

Not here: which files that are, and the ledger (`ingest`).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

from pandera.errors import SchemaErrors

from bts_assets.contracts.schemas import Readings, validate
from bts_assets.landing.inbox import LandingFile, as_seen_here
from bts_assets.landing.reading_arrays import Facts, ReadingArrays, concatenated
from bts_assets.landing.scratch import Scratch
from bts_assets.landing.spill import Spill
from bts_assets.services.engine import engine, is_here
from bts_assets.services.home import Home
from bts_assets.services.landing_reads import Read, defect, read_alone, read_group, read_in_order, unkept
from bts_assets.services.memory import landing_bytes_at_once, landing_scratch
from bts_assets.services.reading_journal import FATAL, ReadingJournal
from bts_assets.services.shared_snapshot import in_own_sessions
from bts_assets.storage import small_readings
from bts_assets.storage.crash_points import crash_point
from bts_assets.storage.ingest_ledger import UNREAD, vouched_digests

#: Files of fewer bytes, and of fewer together, are not worth a worker's start, or the way to it.
_LARGE, _WORTH_WORKERS = 1 << 23, 1 << 28


def prepared_in_order(
    home: Home, landing: Path, groups: Sequence[list[LandingFile]], alone: int, now: datetime
) -> Iterator[list[Read]]:
    """Groups of files, prepared, in their order; the last `alone` groups by themselves and by this process. If several
    are large, the engine's workers prepare those. What a worker cannot do, this process does: one on another machine
    may not find the files, and none can give a new name its number.

    Raises:
        EngineError: if there are no workers, or several died of a file.
    """
    scratch, at_once = landing_scratch(home.settings), landing_bytes_at_once(home.settings)
    here = partial(prepared, home, landing, now, scratch)
    large = _for_workers(home, groups[: len(groups) - alone])
    own = [group for number, group in enumerate(groups) if number not in large]
    prepared_here = read_in_order(here, own, alone, at_once, scratch.text_bytes)
    if not large:
        yield from prepared_here
        return
    handed = deque(groups[number] for number in large)
    try:
        with engine(home.settings) as spread:
            by_workers = in_own_sessions(spread, home, partial(_by_worker, landing.absolute(), now), list(handed))
            for number, group in enumerate(groups):
                if number not in large:
                    yield next(prepared_here)
                    continue
                reads = next(by_workers)
                handed.popleft()
                yield reads if reads is not None and all(_rests(home, read) for read in reads) else here(group)
    finally:
        # Of a run that fails the workers are ended, whatever they read: that says nothing against these files.
        journal_of(home).spare([file for group in handed for file in group])


def _for_workers(home: Home, groups: Sequence[list[LandingFile]]) -> list[int]:
    """Which groups, ascending."""
    sizes = [sum(file.size for file in group) for group in groups]
    large = [number for number, size in enumerate(sizes) if size >= _LARGE]
    worth = len(large) > 1 and sum(sizes[number] for number in large) >= _WORTH_WORKERS and not is_here(home.settings)
    return large if worth else []


@dataclass(frozen=True)
class _Elsewhere:
    """Readings that are at rest: what the ledger is told of them."""

    rows: int
    known: Facts

    def __len__(self) -> int:
        return self.rows

    def parts(self) -> Iterator[ReadingArrays]:
        raise NotImplementedError("these readings are at rest: ask the store")

    def facts(self) -> Facts:
        return self.known


def _by_worker(landing: Path, now: datetime, home: Home, files: list[LandingFile]) -> list[Read] | None:
    """What a worker says of files; None: this process must see for itself."""
    deaths = journal_of(home).deaths(files)
    if any(deaths.get(file.path, 0) >= FATAL for file in files):
        return [Read(file, UNREAD, refused=SET_ASIDE) for file in files]
    files = [as_seen_here(landing, file) for file in files]
    reads = prepared(home, landing, now, landing_scratch(home.settings), files)
    return None if any(read.left for read in reads) else [_told(read) for read in reads]


def _told(read: Read) -> Read:
    if not read.parsed:
        return read
    ordered = read.parsed.ordered
    return replace(read, parsed=replace(read.parsed, ordered=_Elsewhere(len(ordered), ordered.facts().distinct())))


def _rests(home: Home, read: Read) -> bool:
    """Whether this process finds what a worker laid to rest."""
    return not read.parsed or not read.parsed.accepted or read.small is not None or home.readings.has_file(read.digest)


def prepared(home: Home, landing: Path, now: datetime, scratch: Scratch, files: Sequence[LandingFile]) -> list[Read]:
    """One group of files, each as far as it gets."""
    journal = journal_of(home)
    if len(files) > 1:
        reads = _kept(home, _validated(read_group(home, landing, files, now, journal, scratch)))
    else:
        with journal.reading(files[0]):
            reads = _kept(home, _validated([read_alone(home, landing, files[0], now, scratch)]))
    # Temporary files end here, not when the file is entered; and what the ledger is told is found without its lock.
    return [_told(read) if read.parsed and isinstance(read.parsed.ordered, Spill) else read for read in reads]


SET_ASIDE: Final = (
    "set aside: the run died twice while reading it; it is read again when it changes, or after bts ingest --retry"
)


def journal_of(home: Home) -> ReadingJournal:
    return ReadingJournal(home.settings.home / "reading")


def _validated(reads: list[Read]) -> list[Read]:
    """The files with what breaks the schema left out: readings in memory are looked at together, and where they break
    it, those of each file; others part by part.
    """
    parsed = [read.parsed.ordered for read in reads if read.parsed]
    small = [readings for readings in parsed if isinstance(readings, ReadingArrays)]
    parts = chain([concatenated(small) if len(small) > 1 else small[0]] if small else [],
                  *(readings.parts() for readings in parsed if not isinstance(readings, ReadingArrays)))  # fmt: skip
    failing = sum(map(_failing_cases, parts))
    if failing and len(reads) > 1:
        return [checked for read in reads for checked in _validated([read])]
    return [Read(reads[0].file, left=f"{BREAKS_SCHEMA}: {failing} failing cases; report it")] if failing else reads


def _failing_cases(readings: ReadingArrays) -> int:
    try:
        validate(Readings, readings.frame())
        return 0
    except SchemaErrors as error:
        return len(error.failure_cases)


def _kept(home: Home, reads: list[Read]) -> list[Read]:
    """Lets readings rest as Parquet, durably, before the ledger is told of them; those of small files it stores itself.

    What the ledger vouches for is never written anew: time, catalogue and landing zone may have moved on since.
    """
    crash_point("landing.after_parse")
    usable = {read.digest for read in reads if read.parsed and read.parsed.accepted}
    rested = [digest for digest in usable if home.readings.has_file(digest)]
    wanted = usable - (vouched_digests(home.engine, rested) if rested else frozenset())
    return [_keep(home, read) if read.digest in wanted else read for read in reads]


def _keep(home: Home, read: Read) -> Read:
    assert read.parsed  # noqa: S101 - of no other are there readings
    if read.parsed.accepted <= small_readings.MOST_ROWS:
        return replace(read, small=read.parsed.arrays)
    try:
        home.readings.write(read.digest, read.parsed.ordered.parts())
    except OSError as error:
        return Read(read.file, left=unkept(error))
    except Exception as error:
        return Read(read.file, left=defect(error))
    return read


#: Begins the reason of a file whose accepted rows are not what the pandera schema says: a defect of the parser.
BREAKS_SCHEMA: Final = "breaks the schema of readings"

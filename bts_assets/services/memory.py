"""How much of a network is held at once: by BTS_MEMORY, or by what the machine or its container has, less a reserve.

It decides how long a night takes, and no bit of what it makes.
"""

import ctypes
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from bts_assets.landing.scratch import Scratch
from bts_assets.services.engine import is_here, workers_of
from bts_assets.services.work_part import AT_ONCE
from bts_assets.settings import Settings

#: The share of the machine's or container's memory that is left to Postgres, the page cache and others.
_RESERVE: Final = 0.25
#: What a night takes whatever the network: the interpreter with Dagster, MLflow and, if it trains, TensorFlow
#: (docs/scale.md).
_FIXED_BYTES: Final = 1_300_000_000
#: What a series takes while it is forecast, checked, stored or scored, and a reading while it becomes an observation.
_BYTES_PER_SERIES, _BYTES_PER_READING = 200_000, 300
#: What a byte of a landing file takes until its readings rest: 4.4 in files of 86 MB.
_BYTES_PER_LANDING_BYTE: Final = 6
#: More at once is no faster; less costs more reading than it saves.
_SERIES: Final = (256, 4096)
_READINGS: Final = (500_000, 4_000_000)
#: A part of fewer is worth neither a worker's start nor looking into all landing files for it.
_LEAST_READINGS: Final = 1_000_000
_LANDING_BYTES: Final = (1 << 20, 1 << 30)
#: A larger landing file is not held as a whole; and so many readings of one are sorted together. More at once is no
#: faster: four files of 84 MiB took the same CPU with 128 MiB, four times the readings a sixth more.
_LANDING_TEXT: Final = 1 << 25
_ROWS_SORTED: Final = 1 << 18
#: So that no worker or thread waits long for another's last part; but a part this small is never made smaller for that.
_PARTS_PER_WORKER, _LEAST_SHARE = 4, 512


def series_at_once(settings: Settings) -> int:
    """Series that are read, forecast, stored and scored together."""
    return _fitting(memory_to_use(settings), _BYTES_PER_SERIES, _SERIES)


def series_a_part(settings: Settings, series: int) -> int:
    """Series that are read and forecast together, of so many: what a worker has room for, and no more than leaves each
    worker, or each thread of this process, several parts.
    """
    # For a network of one part no cluster is asked how many workers it has.
    workers = AT_ONCE if is_here(settings) or series <= _LEAST_SHARE else workers_of(settings)
    share = max(series // (_PARTS_PER_WORKER * workers), _LEAST_SHARE)
    return min(_fitting(_room_of_one(settings, workers), _BYTES_PER_SERIES, _SERIES), share)


def readings_at_once(settings: Settings) -> int:
    """Readings that observations are computed from together in this process."""
    return _fitting(memory_to_use(settings), _BYTES_PER_READING, _READINGS)


def readings_a_part(settings: Settings, readings: int) -> int:
    """Readings that one process computes observations from together, of so many: what there is room for, and no more
    than leaves each worker two parts. More parts would cost more, for each looks into all landing files.
    """
    if is_here(settings) or readings < 2 * _LEAST_READINGS:
        return readings_at_once(settings)
    workers = workers_of(settings)
    parts = min(2 * workers, readings // _LEAST_READINGS)
    # A little more than an equal share: whole stations do not fill it, and what is left over would be one part more.
    share = math.ceil(1.05 * readings / parts)
    return min(_fitting(_room_of_one(settings, workers), _BYTES_PER_READING, _READINGS), share)


def landing_bytes_at_once(settings: Settings) -> int:
    """Bytes of landing files that are read, parsed and entered together."""
    return _fitting(memory_to_use(settings), _BYTES_PER_LANDING_BYTE, _LANDING_BYTES)


def landing_scratch(settings: Settings) -> Scratch:
    """What is held in memory of one landing file, and where what is more is meanwhile."""
    return Scratch(settings.home / "scratch", _LANDING_TEXT, _ROWS_SORTED)


def return_memory() -> None:
    """Give the system what the allocators of C and Arrow keep of freed arrays: else the peaks of stages add up.

    glibc keeps what is freed below a block that is still used: after a stage of large arrays it was four times what was
    held. Where the C library has no `malloc_trim` nothing is done.
    """
    import pyarrow

    pyarrow.default_memory_pool().release_unused()
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def memory_to_use(settings: Settings, root: Path = Path("/")) -> int:
    """Bytes that a night may take; `root` is where the system's files are looked for."""
    return settings.memory or round((1 - _RESERVE) * _there(root))


def _room_of_one(settings: Settings, workers: int) -> int:
    """Bytes that whoever does a part may take: this process, or one of so many workers."""
    room = memory_to_use(settings)
    if is_here(settings) or settings.engine != "local":  # machines of a cluster have memory of their own
        return room
    return (room - _FIXED_BYTES) // workers


def _fitting(room: int, each: int, bounds: tuple[int, int]) -> int:
    """How many there is room for beside the program itself, in bytes, within bounds."""
    least, most = bounds
    return min(max((room - _FIXED_BYTES) // each, least), most)


def _there(root: Path) -> int:
    """What the machine has, or the least of what the cgroups around this process may take."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits(root)])


def _limits(root: Path) -> list[int]:
    """Limits in bytes of cgroups v2, from this process' own up, and of v1; a container sees its own as the root."""
    own = _words(root / "proc/self/cgroup").rpartition("::")[2].strip().strip("/")
    groups = [root / "sys/fs/cgroup", *(root / "sys/fs/cgroup" / part for part in _upwards(own))]
    files = [*(group / "memory.max" for group in groups), root / "sys/fs/cgroup/memory/memory.limit_in_bytes"]
    return [int(words) for file in files if (words := _words(file).strip()).isdigit() and int(words)]


def _upwards(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", "..")]
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _words(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""

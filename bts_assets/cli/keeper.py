"""Keeps one part of `bts up`: starts it, and ends it with all that it started when `bts up` ends, however that ends.

Run as `python -m bts_assets.cli.keeper PARENT COMMAND...` in a process group of its own. Nothing of ours is imported,
so that a keeper costs a few MB.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: From <linux/prctl.h>.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36

#: A status above it says by which signal a process ended.
_SIGNALLED: Final = 128

#: Time that what it keeps has to end by itself, seconds.
PATIENCE: Final = 12


def keep(parent: int, command: list[str]) -> int:
    """Run a command until it ends or the parent is gone; the command's status."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: asked.append(received))
    _tell_kernel()
    kept = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own command
    # The parent may have died before the kernel was told; and where there is no such kernel, looking is all there is.
    while kept.poll() is None and not asked and os.getppid() == parent:
        time.sleep(0.2)
    _end_all(kept)
    ended = kept.returncode if kept.returncode is not None else 1
    return ended if ended >= 0 else _SIGNALLED - ended  # as shells say it


def _tell_kernel() -> None:
    """On Linux: let us be told when the parent dies, and orphans below us become our children."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _end_all(kept: subprocess.Popen[bytes]) -> None:
    # What Ctrl-C would send: Dagster ends at once on it, slowly on SIGTERM. We ourselves have heard it already.
    os.killpg(os.getpgrp(), signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        kept.poll()
        _reap(kept.pid)
        left = list(_descendants())
        if not left:
            return
        if kept.returncode is not None:
            # Its head has ended: what is left has nobody to end it, or is in a group of its own.
            for pid in left:
                _signal(pid, signal.SIGTERM)
        time.sleep(0.1)
    for pid in _descendants():
        _signal(pid, signal.SIGKILL)
    kept.wait()


def _reap(but: int) -> None:
    """Orphans that became our children, and ended."""
    for pid in _descendants():
        if pid != but:
            try:
                os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                continue


def _descendants() -> Iterator[int]:
    """Live processes below us, where /proc tells; elsewhere the group is all that is known, and left to the caller."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found = {os.getpid()}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    yield from found - {os.getpid()}


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    sys.exit(keep(int(sys.argv[1]), sys.argv[2:]))

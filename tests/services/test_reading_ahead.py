"""How many landing files are held at once while they are read ahead of the ledger."""

import threading
import time
from collections.abc import Sequence

import pytest

from bts_assets.landing.inbox import LandingFile
from bts_assets.services.landing_reads import read_in_order
from bts_assets.services.memory import landing_bytes_at_once
from bts_assets.settings import load_settings


class Held:
    """Reads files and knows how many bytes are held at once: from when a file is read until it is entered."""

    def __init__(self) -> None:
        self.now = self.most = self.files = 0
        self._lock = threading.Lock()

    def read(self, files: Sequence[LandingFile]) -> list[LandingFile]:
        with self._lock:
            self.now += sum(file.size for file in files)
            self.files += 1
            self.most = max(self.most, self.now)
        time.sleep(0.01)
        return list(files)

    def entered(self, files: Sequence[LandingFile]) -> None:
        with self._lock:
            self.now -= sum(file.size for file in files)


def file(number: int, size: int) -> LandingFile:
    return LandingFile(f"{number:03}.csv", b"", size, 0, number, 0, 1)


@pytest.mark.parametrize(
    ("sizes", "at_once", "most"),
    [([40] * 12, 100, 80), ([150, 30, 30, 30, 150, 30], 100, 150), ([10] * 12, 100, 30), ([7], 1, 7)],
)
def test_no_more_is_held_than_fits_and_the_order_stays(sizes: list[int], at_once: int, most: int) -> None:
    groups = [[file(number, size)] for number, size in enumerate(sizes)]
    held, seen = Held(), []
    for files in read_in_order(held.read, groups, alone=0, at_once=at_once, of_one=1000):  # type: ignore[arg-type,var-annotated]
        until = time.monotonic() + 5
        while held.most < most and time.monotonic() < until:  # what may be read ahead is, however busy the machine
            time.sleep(0.001)
        time.sleep(0.01)  # and what may not would be
        seen += files
        held.entered(files)
    assert seen == [one for group in groups for one in group]
    assert held.most == most


def test_suspects_are_read_last_each_alone() -> None:
    groups = [[file(number, 10)] for number in range(4)]
    held = Held()
    for files in read_in_order(held.read, groups, alone=2, at_once=100, of_one=1000):  # type: ignore[arg-type]
        if files[0].path in ("002.csv", "003.csv"):
            assert held.now == 10
        held.entered(files)


def test_less_memory_reads_fewer_bytes_at_once() -> None:
    assert landing_bytes_at_once(load_settings(memory=64 << 30)) == 1 << 30
    assert landing_bytes_at_once(load_settings(memory=1 << 20)) == 1 << 20

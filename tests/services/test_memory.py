"""What is held at once follows BTS_MEMORY, or what the machine and its cgroups leave."""

import subprocess
import sys
from pathlib import Path

import pytest

from bts_assets.services.memory import (
    memory_to_use,
    readings_a_part,
    readings_at_once,
    series_a_part,
    series_at_once,
)
from bts_assets.settings import SettingsError, load_settings

GB = 1 << 30


def test_a_setting_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, size in (("4GB", 4 * GB), ("512mb", 512 << 20), ("1.5 GB", 3 * GB // 2)):
        monkeypatch.setenv("BTS_MEMORY", text)
        assert memory_to_use(load_settings()) == size
    for text in ("4", "0GB", "plenty", "-1GB"):
        monkeypatch.setenv("BTS_MEMORY", text)
        with pytest.raises(SettingsError, match=r"BTS_MEMORY=.* is not a size; .* 4GB"):
            load_settings()


def test_less_memory_holds_less_down_to_what_any_night_needs() -> None:
    large, small, least = (load_settings(memory=size) for size in (16 * GB, 3 * GB // 2, 1 << 20))
    assert (series_at_once(large), readings_at_once(large)) == (4096, 4_000_000)
    assert 256 < series_at_once(small) < 4096
    assert 500_000 <= readings_at_once(small) < 4_000_000
    assert (series_at_once(least), readings_at_once(least)) == (256, 500_000)


def test_a_network_of_one_part_asks_no_cluster_for_its_size() -> None:
    assert series_a_part(load_settings(engine="ray", ray_address="127.0.0.1:1", memory=16 * GB), 512) == 512


def test_threads_of_one_process_get_several_parts_each_and_a_small_network_is_one() -> None:
    large, least = (load_settings(memory=size) for size in (16 * GB, 1 << 20))
    assert [series_a_part(large, series) for series in (400, 1_500, 10_000, 280_000)] == [512, 512, 1250, 4096]
    assert series_a_part(least, 280_000) == 256


def test_each_worker_gets_readings_unless_there_are_too_few_and_no_more_than_it_has_room_for() -> None:
    two, small = (load_settings(memory=size, workers=2) for size in (16 * GB, 3 * GB))
    shares = [readings_a_part(two, readings) for readings in (1_900_000, 2_000_000, 3_000_000, 8_000_000, 40_000_000)]
    assert shares == [4_000_000, 1_050_000, 1_050_000, 2_100_000, 4_000_000]
    assert readings_a_part(small, 40_000_000) == 500_000
    assert readings_a_part(load_settings(memory=3 * GB), 40_000_000) == 4_000_000


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"sys/fs/cgroup/memory.max": "2147483648\n"}, 2 * GB),
        ({"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"}, GB),
        (
            {
                "proc/self/cgroup": "0::/system.slice/bts.service\n",
                "sys/fs/cgroup/system.slice/memory.max": "1073741824\n",
                "sys/fs/cgroup/system.slice/bts.service/memory.max": "2147483648\n",
            },
            GB,
        ),
    ],
    ids=["container", "version_1", "service"],
)
def test_the_least_limit_around_the_process_counts(tmp_path: Path, files: dict[str, str], limit: int) -> None:
    for name, words in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(words)
    assert memory_to_use(load_settings(), tmp_path) == limit * 3 // 4


def test_it_decides_no_result() -> None:
    assert "BTS_MEMORY" not in load_settings(memory=GB).public()


#: Arrays between which small ones stay: glibc keeps what lies below the last of them.
KEEPS = """
from pathlib import Path
import numpy as np
from bts_assets.services.memory import return_memory

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

np.ones(1 << 21)  # what is freed at this size is no longer given back at once by arrays below it
large, small = [], []
for _ in range(400):
    large.append(np.ones(1 << 16))
    small.append(np.ones(1 << 12))
before = held()
del large
kept = held()
return_memory()
print(before, kept, held())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc that keeps it")
def test_memory_of_freed_arrays_is_given_back() -> None:
    said = subprocess.run([sys.executable, "-c", KEEPS], check=True, capture_output=True, text=True, timeout=60).stdout
    before, kept, after = map(int, said.split())
    assert kept > before - 50_000, "nothing was kept, so that nothing is shown"
    assert after < before - 150_000

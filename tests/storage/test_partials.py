"""What is being written is left alone; what a dead writer left is cleared away."""

import subprocess
import sys
import threading
from pathlib import Path

from bts_assets.storage.partials import clear_abandoned, partial_file, partial_folder


def test_what_is_being_written_is_left_and_gone_at_the_end(tmp_path: Path) -> None:
    with partial_file(tmp_path / "a.part"), partial_folder(tmp_path, ".part-") as folder:
        (folder / "within").touch()
        assert clear_abandoned(tmp_path.iterdir()) == 0
        assert (folder / "within").exists()
    assert list(tmp_path.iterdir()) == []


def test_what_has_its_name_stays(tmp_path: Path) -> None:
    with partial_file(tmp_path / "a.part"), partial_folder(tmp_path, ".part-") as folder:
        (tmp_path / "a.part").replace(tmp_path / "a")
        folder.rename(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, sys; from bts_assets.storage.partials import *; p = pathlib.Path(sys.argv[1])\n"
        "with partial_file(p / 'a.part'), partial_folder(p, '.part-') as f: (f / 'x').touch(); os.kill(os.getpid(), 9)"
    )
    died = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[2], check=False)
    assert died.returncode == -9
    assert len(list(tmp_path.iterdir())) == 2
    assert clear_abandoned(tmp_path.iterdir()) == 2
    assert list(tmp_path.iterdir()) == []


def test_what_is_gone_meanwhile_is_none(tmp_path: Path) -> None:
    assert clear_abandoned([tmp_path / "gone"]) == 0


def test_a_folder_is_made_whoever_clears_away_meanwhile(tmp_path: Path) -> None:
    over = threading.Event()

    def clearing() -> None:
        while not over.is_set():
            clear_abandoned(tmp_path.iterdir())

    cleaner = threading.Thread(target=clearing)
    cleaner.start()
    try:
        for _ in range(2000):
            with partial_folder(tmp_path, ".part-") as folder:
                assert folder.is_dir()
    finally:
        over.set()
        cleaner.join()

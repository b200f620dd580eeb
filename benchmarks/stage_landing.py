"""Two stages of `benchmarks.stages`: landing files to observations at rest, large files and small ones."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pyarrow.csv

from benchmarks import landing as ways
from benchmarks import small_files
from benchmarks.stage_figures import Figures, timed

_LARGE_FILES: Final = 24
_ROWS: Final = 1_650
_SMALL_FILES: Final = 50
_SMALL_ROWS: Final = 4


def landing(role: str, growth: int) -> Figures:
    """Rows of a day's hourly files, which grow."""
    rows = _ROWS * growth
    return _measured(role, _LARGE_FILES * rows, lambda folder: ways.write_files(folder, _LARGE_FILES, rows))


def small(role: str, growth: int) -> Figures:
    """Rows of files of four rows, one per station and hour: the number of files grows."""
    files = _SMALL_FILES * growth
    return _measured(
        role, files * _SMALL_ROWS, lambda folder: small_files.write_files(folder, files, _SMALL_ROWS, "plain")
    )


def _measured(role: str, rows: int, write: Callable[[Path], None]) -> Figures:
    """The files have just been written, and are in the page cache."""
    with TemporaryDirectory(prefix="bts-benchmark-") as folder:
        Path(folder).chmod(0o755)  # for the unprivileged user that a root's server runs as
        files, out = Path(folder) / "files", Path(folder) / "out"
        files.mkdir()
        out.mkdir()
        write(files)
        if role == "ours":
            home = ways.prepare_home(out)
            try:
                return timed(rows, lambda: ways.ingested_way(files, home))
            finally:
                home.engine.dispose()
                ways.embedded.stop(home.settings.home)
        if role == "instead":
            return timed(rows, lambda: ways.tutorial_way(files, out))
        # A row with a field too many ends Arrow's reader; ours rejects it.
        options = pyarrow.csv.ParseOptions(invalid_row_handler=lambda _: "skip")
        read = [file.read_bytes() for file in sorted(files.rglob("*.csv"))]
        return timed(
            rows, lambda: [pyarrow.csv.read_csv(pyarrow.BufferReader(data), parse_options=options) for data in read]
        )

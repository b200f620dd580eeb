"""Takes a landing folder in, and dies as if out of memory while it parses a file that says `deadly`, by itself or, as a
second argument says, together with others; no tests here.
"""

import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from small_nights import SMALL, take_in

from bts_assets.services import landing_reads
from bts_assets.services.home import open_home
from bts_assets.settings import load_settings

_parse, _parse_alike = landing_reads.parse_landing_file, landing_reads.parse_alike


def _parse_or_die(data: bytes, *args: Any, **kwargs: Any) -> Any:
    if b"deadly" in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return _parse(data, *args, **kwargs)


def _parse_alike_or_die(files: Sequence[bytes], *args: Any, **kwargs: Any) -> Any:
    if any(b"deadly" in data for data in files):
        os.kill(os.getpid(), signal.SIGKILL)
    return _parse_alike(files, *args, **kwargs)


if __name__ == "__main__":
    folder, url, landing, when = sys.argv[1:]
    landing_reads.parse_landing_file = _parse_or_die
    if when == "together":
        landing_reads.parse_alike = _parse_alike_or_die
    settings = load_settings(home=Path(folder), database_url=url, file_stable_for=timedelta(0), **SMALL)
    report = take_in(open_home(settings), Path(landing))
    sys.stdout.write(f"{report.taken} {report.left}\n")

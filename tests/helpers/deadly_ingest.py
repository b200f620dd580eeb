"""Takes a landing folder in, and dies as if out of memory while it parses a file that says `deadly`; no tests here."""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from small_nights import SMALL, take_in

from bts_assets.services import ingest
from bts_assets.services.home import open_home
from bts_assets.settings import load_settings

_parse = ingest.parse_landing_file


def _parse_or_die(data: bytes, *args: Any, **kwargs: Any) -> Any:
    if b"deadly" in data:
        os.kill(os.getpid(), signal.SIGKILL)
    return _parse(data, *args, **kwargs)


if __name__ == "__main__":
    folder, url, landing = sys.argv[1:]
    ingest.parse_landing_file = _parse_or_die
    settings = load_settings(home=Path(folder), database_url=url, file_stable_for=timedelta(0), **SMALL)
    report = take_in(open_home(settings), Path(landing))
    sys.stdout.write(f"{report.taken} {report.left}\n")

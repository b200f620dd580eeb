"""Takes a landing folder in and prints what it came to and the most private memory that this took; no tests here."""

import json
import sys
import threading
from datetime import timedelta
from pathlib import Path

from small_nights import SMALL, take_in

from bts_assets.services.home import open_home
from bts_assets.settings import load_settings


def private() -> int:
    """Bytes of memory that no file stands behind."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon"))


if __name__ == "__main__":
    folder, url, landing, memory = sys.argv[1:]
    settings = load_settings(
        home=Path(folder), database_url=url, file_stable_for=timedelta(0), memory=int(memory), **SMALL
    )
    home, done, seen = open_home(settings), threading.Event(), [private()]

    def watch() -> None:
        while not done.wait(0.005):
            seen.append(private())

    watching = threading.Thread(target=watch)
    watching.start()
    report = take_in(home, Path(landing))
    done.set()
    watching.join()
    told = {"accepted": report.accepted, "duplicate": report.duplicate, "rejected": report.rejected}
    sys.stdout.write(json.dumps(told | {"peak": max(seen)}))

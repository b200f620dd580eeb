"""Which tests one worker runs after another: those of a file, and all files that read the one published night.

By node id alone, as the scheduler knows it. (pytest 9.2 drops the suffix by which xdist's own groups work.)
"""

import re
from functools import cache
from pathlib import Path
from typing import Final

from xdist.scheduler import LoadScopeScheduling

#: A test or fixture that is handed the published night, which takes half a minute to make.
_READS_THE_NIGHT: Final = re.compile(r"\bpublished(_night)?\b\s*[:,)]")

#: Tests that share nothing with others of their file, and take long.
_APART: Final = {
    "test_a_recording_on_the_real_path_is_forecast_from_its_end",
    "test_two_years_of_a_transformer_are_forecast_a_day_ahead",
}


class BySharedFixtures(LoadScopeScheduling):
    """Hands out whole groups: a fixture of a file or of the session is made by one worker, and not by each."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, name = nodeid.partition("::")
        if name in _APART:
            return name
        return "published" if _reads_the_night(Path(self.config.rootpath, path)) else path


@cache
def _reads_the_night(file: Path) -> bool:
    return _READS_THE_NIGHT.search(file.read_text(encoding="utf-8")) is not None

"""A hundred nights in one process: after a warm-up its memory does not grow."""

from pathlib import Path
from random import Random
from typing import Final

from walked_nights import DAY, enter, land, origin_of, pooling_bundle, write_day

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.scenes import SETTINGS, night
from benchmarks.torture.stage import Stage
from bts_assets.services.home import Home

NIGHTS: Final = 100
_WARM_UP: Final = 20
_GROWTH: Final = 0.05


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """A hundred nights of four series, with everything that a night keeps; counts as that many."""
    made = FaultTrial()
    with stage.place(**SETTINGS) as place:
        ended = place.run(lambda home: _nights(home, place.folder / "landing"))
    if ended.status != "done":
        made.fail(str(ended.value)[-400:])
        return made
    held = ended.value
    made.land("nights", len(held))
    warm, last = max(held[_WARM_UP - 5 : _WARM_UP + 5]), max(held[-10:])
    made.kinds |= {"MB after warm-up": warm >> 20, "MB at the end": last >> 20}
    made.expect(last <= warm * (1 + _GROWTH), f"{warm >> 20} MB after {_WARM_UP} nights, {last >> 20} MB at the end")
    return made


def _nights(home: Home, landing: Path) -> list[int]:
    """Bytes resident after each night."""
    write_day(landing, -1)
    land(home, landing, origin_of(0))
    enter(home, pooling_bundle(), origin_of(0) - DAY)
    held = []
    for number in range(NIGHTS):
        write_day(landing, number)
        night(home, landing, number)
        held.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    return held

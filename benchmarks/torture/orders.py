"""Files in another order and other portions: the same observations and forecasts, bit for bit."""

import shutil
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import psycopg2
from small_nights import observe_due, write
from walked_nights import DAY, enter, land, origin_of, pooling_bundle, readings, write_day

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.scenes import SETTINGS
from benchmarks.torture.stage import Place, Stage
from bts_assets.contracts.origin import Origin
from bts_assets.services.home import Home
from bts_assets.services.nightly import forecast_and_publish
from bts_assets.storage.model_versions import champion_for

#: What must not tell in which order its input came.
_COMPARED = (
    "SELECT station_id, parameter_id, starts_at, values::text, readings::text"
    " FROM bts.observation_block ORDER BY 1, 2, 3",
    "SELECT station_id, parameter_id, q05::text, q10::text, q50::text, q90::text, q95::text, issued_at"
    " FROM bts.forecast_series JOIN bts.batch USING (batch_id) ORDER BY issued_at, 1, 2",
)


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """Two days of files shuffled and parted at random, then a night, and the night again."""
    landing = stage.once("landing of orders", lambda: _landing(stage.folder / "landing of orders"))
    base = stage.once("home of orders", lambda: stage.new_place(**SETTINGS))
    names = sorted(str(file.relative_to(landing)) for file in landing.rglob("*.csv"))
    expected = stage.once("result of orders", lambda: _arrived(stage, base, landing, [names]))
    made = FaultTrial()
    random.shuffle(names)
    cuts = sorted(random.sample(range(1, len(names)), random.randint(1, 4)))
    portions = [names[a:b] for a, b in zip([0, *cuts], [*cuts, len(names)], strict=True)]
    found = _arrived(stage, base, landing, portions)
    made.land("an order")
    made.expect(found == expected, f"in portions of {[len(p) for p in portions]} files the result differs")
    return made


def _landing(folder: Path) -> Path:
    for day in (-1, 0):
        write_day(folder, day)
    write(folder, "late.csv", *readings(origin_of(-1), 3, range(20, 24)))
    write(folder, "copy.csv", *readings(origin_of(-1), 3, range(20, 24)))
    return folder


def _arrived(stage: Stage, base: Place, landing: Path, portions: list[list[str]]) -> Any:
    def work(home: Home) -> None:
        inbox = home.settings.home / "inbox"
        for portion in portions:
            for name in portion:
                (inbox / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(landing / name, inbox / name)
            land(home, inbox, origin_of(1))
            observe_due(home)
        version = champion_for(home.engine, home.settings.grid) or enter(home, pooling_bundle(), origin_of(0) - DAY)
        for night in (0, 1, 0, 1):
            forecast_and_publish(home, Origin(origin_of(night), "live", "the campaign"), version, None)

    with stage.place(base) as place:
        ended = place.run(work)
        return _digest(place) if ended.status == "done" else ended.why


def _digest(place: Place) -> list[Any]:
    with closing(psycopg2.connect(place.url)) as connection, connection.cursor() as cursor:
        found = []
        for query in _COMPARED:
            cursor.execute(query)
            found.append(cursor.fetchall())
        return found

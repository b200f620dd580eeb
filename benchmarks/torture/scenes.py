"""What the campaign disturbs: a night, a first training with its registration, and a rollback, none of which trains."""

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from small_nights import LOAD, SMALL, fitted, observe_due, simple_bundle, write
from walked_nights import DAY, disturb, enter, land, origin_of, pooling_bundle, readings, write_day

from benchmarks.torture.rests import difference, what_rests
from benchmarks.torture.stage import Place, Stage
from bts_assets.contracts.origin import Origin
from bts_assets.services import champions, landing_reads, promotion, training
from bts_assets.services.home import Home
from bts_assets.services.mlflow_sync import tell_served
from bts_assets.services.nightly import publish_night
from bts_assets.services.retention import prune
from bts_assets.services.scoring import score_matured
from bts_assets.storage import small_readings
from bts_assets.storage.crash_points import POINTS
from bts_assets.storage.model_versions import champion_for

#: Nothing of MLflow's may start a thread in the process that forks.
QUIET_MLFLOW: Final = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet"}

#: The night that is disturbed; the ones before it went well.
NIGHT: Final = 3
SETTINGS: Final = {
    **SMALL,
    "file_stable_for": timedelta(0),
    "training_span": DAY,
    "forecast_retention": DAY,
    "observation_retention": 2 * DAY,
    "lock_timeout": timedelta(seconds=30),
}
#: Files that are entered together: few, so that a night dies between two groups of them too.
GROUP_FILES: Final = 8
#: Landing files with at most so many readings are small: some of every night are, and some are not.
MOST_ROWS: Final = 9


@dataclass(frozen=True)
class Scene:
    """A place before it is disturbed, the work that is, what rests after it undisturbed, and the points it passes."""

    name: str
    before: Place
    work: Callable[[Home], Any]
    after: dict[str, Any]
    points: tuple[str, ...]


def _of(*steps: str) -> tuple[str, ...]:
    return tuple(name for name in POINTS if name.split(".")[0] in steps)


#: Scene -> the crash points that it passes; every point is of one.
POINTS_OF: Final = {
    "night": _of("landing", "ingest", "observe", "recalibration", "publish", "scoring", "retention"),
    "training": _of("training", "registration", "promotion"),
    "rollback": _of("rollback"),
}


def scene(stage: Stage, name: str) -> Scene:
    """A scene, prepared at its first call, its undisturbed twin run twice.

    Raises:
        RuntimeError: if it fails undisturbed, or if to run it again changes anything.
    """
    return stage.once(f"scene {name}", lambda: _prepared(stage, name))


def _prepared(stage: Stage, name: str) -> Scene:
    landing = stage.folder / f"landing of {name}"
    prepare, work = _SCENES[name]
    before = stage.new_place(**SETTINGS)
    _must(before.run(lambda home: prepare(home, landing)))
    with stage.place(before) as twin:
        import_beforehand(_must(twin.run(lambda home: _modules_of(lambda: work(home, landing)))))
        after = what_rests(twin)
        _must(twin.run(lambda home: work(home, landing)))
        if told := difference(what_rests(twin), after):
            raise RuntimeError(f"{name} again, undisturbed, is not the same: {told}")
    return Scene(name, before, lambda home: work(home, landing), after, POINTS_OF[name])


def _modules_of(work: Callable[[], Any]) -> list[str]:
    work()
    return [*sys.modules]


def import_beforehand(names: list[str]) -> None:
    """Import what a child had to, so that its successors are forked with it."""
    os.environ.update(QUIET_MLFLOW)
    for name in names:
        if name not in sys.modules:
            with suppress(Exception):  # parts that cannot be imported by themselves
                importlib.import_module(name)


def _must(ended: Any) -> Any:
    if ended.status != "done":
        raise RuntimeError(f"undisturbed, it {ended.status}: {ended.value}")
    return ended.value


def _walk(home: Home, landing: Path, nights: int) -> None:
    """So many nights that went well, with late files and corrections between them."""
    _of_the_campaign_size()
    for days in (11, 12, 13):
        write(landing, f"old{days}.csv", *readings(origin_of(-days), 4, range(3)))
    write_day(landing, -1)
    land(home, landing, origin_of(0))
    enter(home, pooling_bundle(), origin_of(0) - DAY)
    for number in range(nights):
        write_day(landing, number)
        night(home, landing, number, prunes=False)
        for taken in landing.rglob("*.csv"):
            taken.unlink()  # as landing folders are tidied: nothing brings back what is lost from now on
        disturb(landing, number)


def _of_the_campaign_size() -> None:
    vars(landing_reads)["_GROUP_FILES"] = GROUP_FILES
    vars(small_readings)["MOST_ROWS"] = MOST_ROWS


def night(home: Home, landing: Path, number: int, *, prunes: bool = True) -> int:
    """A night as the nightly job has it, without what decides nothing of it; its batch."""
    _of_the_campaign_size()
    land(home, landing, origin_of(number))
    observe_due(home)
    champion = champion_for(home.engine, home.settings.grid)
    assert champion is not None  # noqa: S101 - one was entered before the first night
    origin = Origin(origin_of(number), "live", "the campaign")
    published = publish_night(home, origin, champion, "a run", None)
    score_matured(home)
    if prunes:
        prune(home)
    return published.batch_id


def _before_a_night(home: Home, landing: Path) -> None:
    _walk(home, landing, NIGHT)
    write_day(landing, NIGHT)
    spoiled = (
        "x,1,1,122,",
        f"7,not a number,1,{LOAD},2026-03-12 07:00:00",
        *readings(origin_of(NIGHT - 1), 7, range(2)),
    )
    write(landing, "0/spoiled.csv", *spoiled)
    write(landing, "copy.csv", *readings(origin_of(NIGHT - 1), 7, range(2)))
    write(landing, "copy of it.csv", *readings(origin_of(NIGHT - 1), 7, range(2)))
    write(landing, "refused.csv", "1,2", header="what,is this")


def _before_a_training(home: Home, landing: Path) -> None:
    write_day(landing, -1)
    land(home, landing, origin_of(0))
    observe_due(home)
    home.models.client().search_experiments()  # MLflow's tables: to make them takes seconds each time


def _first_training(home: Home, _: Path) -> None:
    """What the asset of the model does where nothing serves yet, the network's training left out."""
    training.fit_as_set = lambda *_: fitted(simple_bundle())
    champion = champion_for(home.engine, home.settings.grid)
    if champion is None:
        promotion.first_champion(home, origin_of(-1) + DAY, "a run")
    else:
        champions.mend_alias(home, champion)
    tell_served(home)


def _before_a_rollback(home: Home, landing: Path) -> None:
    _walk(home, landing, 1)
    enter(home, pooling_bundle(seed=2), origin_of(0) - DAY)
    night(home, landing, 0, prunes=False)


def _rollback(home: Home, _: Path) -> None:
    """Roll back, unless it is done: a second one would find nothing to go back to."""
    try:
        champions.rollback(home, "the campaign", origin_of(1))
    except champions.ChampionError as error:
        if "no champion to go back to" not in str(error):
            raise


_SCENES: Final[dict[str, tuple[Callable[[Home, Path], Any], Callable[[Home, Path], Any]]]] = {
    "night": (_before_a_night, lambda home, landing: night(home, landing, NIGHT)),
    "training": (_before_a_training, _first_training),
    "rollback": (_before_a_rollback, _rollback),
}

"""Two processes at once at one thing: what rests is what one alone leaves, and whoever loses says so in one line."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.children import Ended, at_once
from benchmarks.torture.rests import difference, what_rests
from benchmarks.torture.scenes import NIGHT, night, scene
from benchmarks.torture.stage import Place, Stage
from bts_assets.contracts.catalogue import load_catalogue
from bts_assets.services.retention import prune
from bts_assets.storage.postgres import connect, migrate


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """One race, of the kind whose turn it is."""
    kind = list(RACES)[number % len(RACES)]
    made = FaultTrial()
    RACES[kind](stage, made)
    made.land(kind)
    return made


def _scene_twice(name: str) -> Callable[[Stage, FaultTrial], None]:
    def race(stage: Stage, made: FaultTrial) -> None:
        played = scene(stage, name)
        with stage.place(played.before) as place:
            _judge(made, name, at_once([lambda: played.work(place.open())] * 2, place.log))
            if told := difference(_comparable(name, what_rests(place)), _comparable(name, played.after)):
                made.fail(f"two at once ({name}): {told}")

    return race


def _comparable(name: str, rests: dict[str, Any]) -> dict[str, Any]:
    """Two first trainings may both ask to serve: there is one version and one entry in the log of champions, but there
    may be two decisions, and MLflow may have a run of each.
    """
    if name == "night":  # each takes in what it finds: days may be computed as files come in, and again
        computed = sorted(rests["observed_day"], key=lambda row: (row["day"], int(row["ledger_seq"])))
        last = {row["day"]: row | {"ledger_seq": "the last"} for row in computed}
        rests = rests | {"observed_day": list(last.values())}
    if name == "training":
        rests = {k: v for k, v in rests.items() if k not in ("decision", "registry")}
        rests["model_version"] = [len(rests["model_version"])]
    return rests


def _prunings(stage: Stage, made: FaultTrial) -> None:
    played = scene(stage, "night")
    with stage.place(played.before) as place:
        ended = place.run(lambda home: night(home, stage.folder / "landing of night", NIGHT, prunes=False))
        made.expect(ended.status == "done", f"before two prunings: {ended.why}")
        _judge(made, "pruning", at_once([lambda: prune(place.open())] * 2, place.log))
        if told := difference(what_rests(place), played.after):
            made.fail(f"two prunings: {told}")


def _upgrades(stage: Stage, made: FaultTrial) -> None:
    with stage.place() as place:
        _judge(made, "upgrade", at_once([lambda: _migrated(place)] * 2, place.log), both=True)
        with stage.place() as alone:
            made.expect(alone.run(lambda _: None).status == "done", "one upgrade alone failed")
            place.run(lambda _: None)
            if told := difference(what_rests(place), what_rests(alone)):
                made.fail(f"two upgrades: {told}")


def _migrated(place: Place) -> str:
    from datetime import timedelta

    engine = connect(place.url, timedelta(seconds=30))
    return migrate(engine, load_catalogue())


def _judge(made: FaultTrial, what: str, ended: list[Ended], *, both: bool = False) -> None:
    """Each is done or lost in an error of ours; one of them at least is done."""
    won = sum(one.status == "done" for one in ended)
    made.expect(won >= (len(ended) if both else 1), f"two at once ({what}): {[one.why for one in ended]}")
    for one in ended:
        ours = one.status != "failed" or one.why.startswith("bts_assets.")
        made.expect(ours, f"two at once ({what}): {one.why}")


RACES: Final[dict[str, Callable[[Stage, FaultTrial], None]]] = {
    "two nights": _scene_twice("night"),
    "two first trainings": _scene_twice("training"),
    "two rollbacks": _scene_twice("rollback"),
    "two prunings": _prunings,
    "two upgrades": _upgrades,
}

"""SIGKILL of the client at crash points and at any moment: after a rerun all is as with an undisturbed twin."""

from random import Random
from typing import Final

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.rests import difference, latest, what_rests
from benchmarks.torture.scenes import POINTS_OF, scene
from benchmarks.torture.stage import Stage

#: Kills of one trial, each in the run that follows the last.
_IN_A_ROW: Final = 5
#: Seconds within which a kill at any moment comes, about what the work takes.
_ANY_MOMENT: Final = {"night": 0.6, "training": 0.8, "rollback": 0.4}
#: Of these at most one has its turn in a trial. Two deaths while one file is read set it aside, as they should; and a
#: champion that is committed is not promoted again, so that a run comes to no other point after it.
_APART: Final = (
    ("landing.after_read", "landing.after_parse", "ingest.after_partial", "ingest.after_rename"),
    ("promotion.after_commit", "promotion.after_alias"),
)


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """Kills in a row, each in the run after the last, then a run undisturbed, and at times another."""
    rounds = turns(0)
    name, points = turns(number // len(rounds))[number % len(rounds)]
    played, made = scene(stage, name), FaultTrial()
    with stage.place(played.before) as place:
        before = latest(place)
        for point in points:
            if point == "any moment":
                ended = place.run(played.work, kill_after=random.uniform(0, _ANY_MOMENT[name]))
            else:
                ended = place.run(played.work, crash_at=point)
                made.expect(ended.status == "killed", f"{point} of {points} was not reached: {ended.why}")
            if ended.status == "killed":
                made.land(point)
            made.expect(latest(place) in (before, played.after["latest"]), f"{point}: readers saw a part of a batch")
        for what in ("the rerun", "another rerun")[: 1 + (random.random() < 0.25)]:
            ended = place.run(played.work)
            made.expect(ended.status == "done", f"after kills at {points} {what} ended with {ended.why}")
            if told := difference(what_rests(place), played.after):
                made.fail(f"after kills at {points} and {what}: {told}")
                break
    return made


def turns(cycle: int) -> list[tuple[str, list[str]]]:
    """The trials of a cycle, in which every point has its turn once: scene and points, in the order of the work."""
    made = []
    for name, points in POINTS_OF.items():
        groups = [[point for point in points if point in apart] for apart in _APART]
        others = [point for point in points if not any(point in apart for apart in _APART)]
        Random(cycle).shuffle(others)  # noqa: S311 - the same each time
        trials = max(-(-len(points) // _IN_A_ROW), *map(len, groups))
        inorder = [point for group in groups for point in group]
        made += [(name, sorted((inorder + others)[k::trials], key=points.index)) for k in range(trials)]
    return made + [(name, ["any moment"]) for name in POINTS_OF]

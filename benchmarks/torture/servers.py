"""SIGKILL of all of Postgres in mid-night: what was acknowledged is there after recovery, and a rerun mends."""

import os
import signal
import time
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg2

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.children import start
from benchmarks.torture.rests import difference, what_rests
from benchmarks.torture.scenes import Scene, scene
from benchmarks.torture.stage import Place, Stage
from bts_assets.services import ingest, nightly
from bts_assets.services.home import Home
from bts_assets.storage.embedded import server as embedded


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """One kill of the server while a night runs; the client ends by itself, in an error of its own."""
    played, made = scene(stage, "night"), FaultTrial()
    with stage.place(played.before) as place:
        stage.execute("CHECKPOINT")  # so that recovery has this night to replay, and not the place's making
        acknowledged = place.folder / "acknowledged"
        child = start(lambda: _noting(played, place, acknowledged), place.log)
        _await(acknowledged, random.choice((0, 1, 9, 17, 25)))
        time.sleep(random.uniform(0, 0.3))
        killed = _kill_server(stage.server)
        ended = child.end(kill_after=60)
        made.expect(ended.status != "killed", "the client hung for a minute after the server had died")
        if killed and ended.status == "failed":
            made.land("in mid-night")
        embedded.wake(stage.server, timedelta(minutes=30))
        told = acknowledged.read_text().split() if acknowledged.exists() else []
        lost = set(told) - _known(place)
        made.expect(not lost, f"{len(lost)} of {len(told)} acknowledged files or batches are lost: {sorted(lost)[:2]}")
        made.kinds["acknowledged"] += len(told)
        again = place.run(played.work)
        made.expect(again.status == "done", f"the rerun ended with {again.why}")
        if differs := difference(what_rests(place), played.after):
            made.fail(differs)
    return made


def _await(acknowledged: Path, count: int) -> None:
    """Until so many files were acknowledged; they come in groups of eight."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if count == 0 or (acknowledged.exists() and len(acknowledged.read_text().split()) >= count):
            return
        time.sleep(0.002)


def _noting(played: Scene, place: Place, acknowledged: Path) -> None:
    """The night, writing down what it was told is committed, as soon as it is."""
    entered, published = ingest.enter_files, nightly.publish

    def note(word: str) -> None:
        with acknowledged.open("a") as file:
            file.write(f"{word}\n")

    def enter_files(*given: Any) -> Any:
        rows = entered(*given)
        for read in given[1]:
            note(read.digest)
        return rows

    def publish(*given: Any, **named: Any) -> Any:
        done = published(*given, **named)
        note(f"batch{done.batch_id}")
        return done

    setattr(ingest, "enter_files", enter_files)  # noqa: B010 - stands in for it, whatever it takes
    setattr(nightly, "publish", publish)  # noqa: B010
    home: Home = place.open()
    played.work(home)


def _known(place: Place) -> set[str]:
    with closing(psycopg2.connect(place.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT digest FROM bts.landing_file UNION SELECT 'batch' || batch_id FROM bts.publication")
        return {row[0] for row in cursor.fetchall()}


def _kill_server(server: Path) -> bool:
    """Kill the postmaster and all its children at once; false: there was none."""
    try:
        postmaster = int((server / "postgres" / "data" / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError):
        return False
    family = [postmaster, *_children(postmaster)]
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return True


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found

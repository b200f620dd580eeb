"""Bits that flip in stored files: what is read is what was written, or it is refused in one line."""

import hashlib
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, Final

from benchmarks.torture.campaign import FaultTrial
from benchmarks.torture.rests import latest
from benchmarks.torture.scenes import scene
from benchmarks.torture.stage import Place, Stage
from bts_assets.contracts.errors import BtsError
from bts_assets.services.backup import back_up, find_backup
from bts_assets.services.home import Home
from bts_assets.storage.embedded import server as embedded

#: Bits that are flipped in one trial, one after the other; of files whose reader is slow fewer.
FLIPS: Final = {"readings": 25, "bundles": 25, "mlflow artifacts": 5, "backup": 10, "postgres": 1}


def trial(stage: Stage, random: Random, number: int) -> FaultTrial:
    """Some bits of stored files of the kind whose turn it is."""
    kind = list(FLIPS)[number % len(FLIPS)]
    made = FaultTrial()
    if kind == "postgres":
        _flip_in_postgres(stage, random, made)
    else:
        name = "training" if kind == "mlflow artifacts" else "night"
        place = stage.once(f"{name}, done", lambda: _done(stage, name))
        ended = place.run(lambda home: _flip(home, kind, random))
        made.expect(ended.status == "done", f"{kind}: {ended.value if ended.status == 'failed' else ended.status}")
        for file, bit, told in ended.value if ended.status == "done" else ():
            made.land(kind)
            if told:
                made.fail(f"{kind}: bit {bit} of {file} flipped: {told}")
    return made


def _done(stage: Stage, name: str) -> Place:
    played = scene(stage, name)
    place = stage.new_place(played.before)
    ended = place.run(played.work)
    if ended.status != "done":
        raise RuntimeError(ended.value)
    return place


def _flip(home: Home, kind: str, random: Random) -> list[tuple[str, int, str | None]]:
    """(file, bit, what was wrong or None) of each flip; the file is as it was after each."""
    files, read = _READERS[kind](home)
    sound = [read(file) for file in files]
    flips = []
    for _ in range(FLIPS[kind]):
        k = random.randrange(len(files))
        data = files[k].read_bytes()
        bit = random.randrange(8 * len(data))
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        files[k].write_bytes(flipped)
        try:
            told = None if read(files[k]) == sound[k] else "it was read, and is other than it was"
        except BtsError:
            told = None
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        files[k].write_bytes(data)
        flips.append((files[k].name, bit, told))
    return flips


Reader = Callable[[Path], Any]


def _readings(home: Home) -> tuple[list[Path], Reader]:
    def read(file: Path) -> bytes:
        frame = home.readings.read(file.stem)
        return hashlib.sha256(frame.to_csv(float_format="%.17g").encode()).digest()

    return sorted(home.readings.root.rglob("*.parquet")), read


def _bundles(home: Home) -> tuple[list[Path], Reader]:
    files = sorted(f for f in home.models.cache.rglob("*") if f.is_file())
    return files, lambda file: home.models.load(file.parent.name, None).files()


def _artifacts(home: Home) -> tuple[list[Path], Reader]:
    """The copy of the bundle that MLflow keeps: read where the cache has lost its own."""
    from bts_assets.storage.model_versions import champion_for

    version = champion_for(home.engine, home.settings.grid)
    assert version is not None  # noqa: S101 - the training made one

    def read(_: Path) -> Any:
        shutil.rmtree(home.models.cache, ignore_errors=True)
        return home.models.load(version.bundle_digest, version.mlflow_model_uri).files()

    folders = home.models.artifacts.rglob(version.bundle_digest)
    return sorted(f for folder in folders for f in folder.iterdir()), read


def _backup(home: Home) -> tuple[list[Path], Reader]:
    from datetime import UTC, datetime

    into = home.settings.home.parent / f"backup{os.getpid()}"
    made = back_up(home.settings, into, datetime.now(UTC))
    return sorted(f for f in made.folder.iterdir() if f.name != "manifest.json"), lambda _: find_backup(into).files


_READERS: Final[dict[str, Callable[[Home], tuple[list[Path], Reader]]]] = {
    "readings": _readings,
    "bundles": _bundles,
    "mlflow artifacts": _artifacts,
    "backup": _backup,
}


def _flip_in_postgres(stage: Stage, random: Random, made: FaultTrial) -> None:
    """A bit of the table of forecasts, the server being stopped meanwhile."""
    played = scene(stage, "night")
    with stage.place(played.before) as place:
        place.run(played.work)
        file = stage.server / "postgres" / "data" / _path_of(place, "bts.forecast_series")
        stage.execute("CHECKPOINT")
        embedded.stop(stage.server)
        with file.open("r+b") as opened:
            size = file.stat().st_size
            at = random.randrange(size)
            opened.seek(at)
            byte = opened.read(1)[0]
            opened.seek(at)
            opened.write(bytes([byte ^ 1 << random.randrange(8)]))
        embedded.wake(stage.server, timedelta(minutes=30))
        made.land("postgres")
        try:
            found = latest(place)
        except Exception as error:
            made.expect("checksum" in str(error) or "invalid page" in str(error), f"postgres: {error}")
        else:
            made.expect(found == played.after["latest"], f"postgres: byte {at} flipped: other forecasts were read")


def _path_of(place: Place, table: str) -> str:
    from contextlib import closing

    import psycopg2

    with closing(psycopg2.connect(place.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_relation_filepath(%s)", (table,))
        (path,) = cursor.fetchall()[0]
        return str(path)

"""A home's database and files kept elsewhere, consistent with each other, and put back into an empty place.

A backup is a folder: `files/` holds every file once, under its path in the home (all of them are named by content, and
never change); each run adds a folder named by its time, with the database as pg_dump writes it and a manifest, which
comes last: a folder without one is what is left of a run that was cut off.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bts_assets.contracts.errors import InputError
from bts_assets.contracts.progress import OnProgress
from bts_assets.services.home import require_database
from bts_assets.settings import Settings
from bts_assets.storage.dump import dump, is_occupied, load, move_artifacts
from bts_assets.storage.embedded import server as embedded
from bts_assets.storage.postgres import connect, execute_file, without_secrets
from bts_assets.storage.provenance import code_version
from bts_assets.storage.schema_urls import refuse_pool
from bts_assets.storage.shipped import shipped

#: Folders of a home that hold what rests; all else is logs, settings of tools, or the embedded server itself.
STORES: Final = ("readings", "bundles", "mlflow/artifacts")
_DUMP, _MANIFEST, _LISTED = "database.dump", "manifest.json", "files.txt"


class BackupError(InputError):
    """A backup cannot be written, is incomplete or damaged, or has no empty place to go to."""


@dataclass(frozen=True)
class Backup:
    """One run of `bts backup`: its folder, what its manifest says, and how many files it added to those before it."""

    folder: Path
    manifest: dict[str, Any]
    added: int = 0

    @property
    def files(self) -> list[str]:
        return (self.folder / _LISTED).read_text(encoding="utf-8").splitlines()


def back_up(settings: Settings, into: Path, now: datetime, on_progress: OnProgress | None = None) -> Backup:
    """Add a backup of the home and its database to the folder `into`, made where there is none.

    Files are copied before the database is dumped, and again after: a row is written after the file that it names, so
    whatever the dump names is there, though nights go on meanwhile.

    Raises:
        BackupError: if `into` lies within the home, or Postgres' pg_dump fails.
    """
    if settings.home.absolute() in (into.absolute(), *into.absolute().parents):
        raise BackupError(f"{into} lies within the home {settings.home}: name a folder elsewhere, on another disk")
    require_database(settings)
    url = _full_rights(settings)
    folder = into / f"{now.astimezone(UTC):%Y-%m-%dT%H-%M-%SZ}"
    folder.mkdir(parents=True)
    before = _copy(settings.home, into / "files", on_progress)
    dump(url, folder / _DUMP)
    after = _copy(settings.home, into / "files", None)
    listed = "".join(f"{path}\n" for path in sorted(before.keys() | after.keys()))
    (folder / _LISTED).write_text(listed, encoding="utf-8")
    manifest = {
        "made_at": now.isoformat(timespec="seconds"),
        "code_version": code_version(),
        "home": str(settings.home.absolute()),
        "database_sha256": _sha256(folder / _DUMP),
        "files_sha256": hashlib.sha256(listed.encode()).hexdigest(),
        "files": len(before.keys() | after.keys()),
    }
    partial = folder / "manifest.part"
    partial.write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    partial.replace(folder / _MANIFEST)
    return Backup(folder, manifest, sum(before.values()) + sum(after.values()))


def find_backup(place: Path, name: str | None = None) -> Backup:
    """The newest complete backup in a folder, or the one of that name.

    Raises:
        BackupError: if there is none, or it is damaged.
    """
    complete = sorted(path.parent for path in place.glob(f"*/{_MANIFEST}"))
    chosen = [folder for folder in complete if name in (None, folder.name)]
    if not chosen:
        held = ", ".join(folder.name for folder in complete) or "no complete backup"
        raise BackupError(f"{place} has no backup{f' {name}' if name else ''}: it holds {held}")
    backup = Backup(chosen[-1], json.loads((chosen[-1] / _MANIFEST).read_text(encoding="utf-8")))
    for file, digest in ((_DUMP, "database_sha256"), (_LISTED, "files_sha256")):
        if _sha256(backup.folder / file) != backup.manifest[digest]:
            raise BackupError(f"{backup.folder / file} is not what was written: its bytes have changed")
    missing = [path for path in backup.files if not (place / "files" / path).is_file()]
    if missing:
        raise BackupError(f"{len(missing)} files of {backup.folder} are gone, {missing[0]} among them")
    return backup


def restore(settings: Settings, backup: Backup, on_progress: OnProgress | None = None) -> None:
    """Put a backup into an empty home and an empty database. Files come first and the database in one transaction:
    whoever is killed in between can begin again.

    Raises:
        BackupError: if something is there already, or Postgres' pg_restore fails.
    """
    url = _full_rights(settings)
    if is_occupied(url):
        raise BackupError(
            f"the database at {without_secrets(url)} has tables already: restore into an empty one, and an empty"
            " BTS_HOME"
        )
    for done, path in enumerate(files := backup.files, start=1):
        _copy_file(backup.folder.parent / "files" / path, settings.home / path)
        if on_progress and (done % 100 == 0 or done == len(files)):
            on_progress("restoring files", done, len(files))
    load(url, backup.folder / _DUMP)
    engine = connect(url, settings.lock_timeout)
    try:
        with engine.begin() as connection:
            move_artifacts(connection, Path(backup.manifest["home"]), settings.home.absolute())
            if settings.database_url is None:  # whatever the superuser made finds its owner
                execute_file(connection, shipped("sql") / "roles.sql")
    finally:
        engine.dispose()


def _full_rights(settings: Settings) -> str:
    """The URL of a role that reads and makes everything: the embedded server's superuser, or the user's own role.

    Raises:
        DatabaseError: if a connection pool answers there.
    """
    if settings.database_url is None:
        return embedded.wake(settings.home, settings.idle_stop)
    url = settings.direct_database_url or settings.database_url
    refuse_pool(url, "a backup or a restore")  # pg_dump would leave its settings behind in sessions of others
    return url


def _copy(home: Path, into: Path, on_progress: OnProgress | None) -> dict[str, bool]:
    """Path of each file of the home's stores, and whether it was new to the backup."""
    paths = [path for store in STORES for path in _files(home / store)]
    new = {}
    for done, path in enumerate(paths, start=1):
        name = path.relative_to(home).as_posix()
        try:
            new[name] = _copy_file(path, into / name)
        except FileNotFoundError:  # pruned meanwhile: then nothing that is dumped later names it
            continue
        if on_progress and (done % 100 == 0 or done == len(paths)):
            on_progress("copying files", done, len(paths))
    return new


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder; those being written, whose names begin with a dot, are left out."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith("."))


def _copy_file(source: Path, target: Path) -> bool:
    """Copy unless it is there with this size and time of change, whole or not at all; whether it was copied.

    The time too: a damaged file that was repaired since has the size that it had.
    """
    wanted = source.stat()
    if target.is_file():
        held = target.stat()
        if (held.st_size, held.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns):
            return False
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    shutil.copy2(source, partial)
    partial.replace(target)
    return True


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}") from None

"""A published night backed up, and restored into an empty place: the same forecasts, to the bit."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from nights import PublishedNight

from bts_assets.services.backup import BackupError, back_up, find_backup, restore
from bts_assets.services.home import Home, open_home
from bts_assets.services.replay import replay
from bts_assets.services.verify import verify
from bts_assets.settings import Settings, load_settings
from bts_assets.storage.embedded import server as embedded

pytestmark = pytest.mark.slow
NOW = datetime(2026, 3, 11, tzinfo=UTC)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can pass through, as pytest's own is not: the server of a home is not run by root."""
    with TemporaryDirectory(prefix="bts-restored-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def backed_up(published: PublishedNight, tmp_path: Path) -> Path:
    back_up(published.home.settings, tmp_path / "backups", NOW)
    return tmp_path / "backups"


def elsewhere(home: Path, url: str, like: Home) -> Settings:
    grid = like.settings
    return load_settings(home=home, database_url=url, step=grid.step, context=grid.context, horizon=grid.horizon)


def test_a_restored_home_has_the_same_forecasts_and_makes_them_again(
    published: PublishedNight, backed_up: Path, new_database: Callable[[], str], tmp_path: Path
) -> None:
    settings = elsewhere(tmp_path / "restored", new_database(), published.home)
    restore(settings, find_backup(backed_up))
    home = open_home(settings, to_read=True)
    assert [store for store in verify(home) if store.wrong] == []
    batch = published.said["station_forecasts"]["batch_id"]
    assert replay(home, batch).differs is None
    with home.engine.connect() as connection:
        digests = connection.exec_driver_sql("SELECT forecasts_digest FROM bts.batch ORDER BY batch_id").scalars().all()
        places = connection.exec_driver_sql("SELECT artifact_location FROM mlflow.experiments").scalars().all()
    kept = published.rows("SELECT forecasts_digest AS d FROM bts.batch ORDER BY batch_id")
    assert digests == [row["d"] for row in kept]
    assert any(place.startswith(settings.home.as_uri()) for place in places)
    with pytest.raises(BackupError, match="has tables already"):
        restore(settings, find_backup(backed_up))
    home.engine.dispose()


def test_a_home_with_a_server_of_its_own_is_restored_and_goes_on(
    published: PublishedNight, backed_up: Path, open_folder: Path
) -> None:
    grid = published.home.settings
    settings = load_settings(
        home=open_folder / "restored", step=grid.step, context=grid.context, horizon=grid.horizon, database_url=None
    )
    try:
        restore(settings, find_backup(backed_up))
        home = open_home(settings)  # as a night opens it
        assert [store for store in verify(home) if store.wrong] == []
        assert replay(home, published.said["station_forecasts"]["batch_id"]).differs is None
        for url in (home.mlflow_tracking_uri, home.dagster_database_url):
            tools = sa.create_engine(url)
            with tools.begin() as connection:
                connection.exec_driver_sql("CREATE TABLE of_a_newer_version (n int)")
            tools.dispose()
        home.engine.dispose()
    finally:
        embedded.stop(settings.home)


def test_a_second_backup_copies_nothing_again(published: PublishedNight, backed_up: Path) -> None:
    again = back_up(published.home.settings, backed_up, NOW.replace(hour=1))
    assert again.added == 0
    assert again.manifest["files"] > 0
    assert find_backup(backed_up).folder == again.folder
    assert find_backup(backed_up, "2026-03-11T00-00-00Z").folder != again.folder


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "database.dump").write_bytes(b"x"), "its bytes have changed"),
        (lambda folder: (folder / "files.txt").write_text("readings/x\n"), "its bytes have changed"),
        (lambda folder: (folder / "manifest.json").unlink(), "it holds no complete backup"),
        (
            lambda folder: next((folder.parent / "files" / "readings").rglob("*.parquet")).unlink(),
            "1 files of .* are gone",
        ),
    ],
)
def test_a_damaged_backup_is_refused(backed_up: Path, damage: Callable[[Path], object], said: str) -> None:
    (folder,) = (path.parent for path in backed_up.glob("*/manifest.json"))
    damage(folder)
    with pytest.raises(BackupError, match=said):
        find_backup(backed_up)


def test_a_backup_within_the_home_and_one_that_is_not_there_are_refused(
    published: PublishedNight, tmp_path: Path
) -> None:
    with pytest.raises(BackupError, match="lies within the home"):
        back_up(published.home.settings, published.home.settings.home / "backups", NOW)
    with pytest.raises(BackupError, match="no complete backup"):
        find_backup(tmp_path / "none")


def test_a_file_that_was_repaired_is_copied_again(published: PublishedNight, backed_up: Path) -> None:
    """Damaged and mended it has the size that it had."""
    (first, *_) = sorted((published.home.settings.home / "readings").rglob("*.parquet"))
    kept = backed_up / "files" / first.relative_to(published.home.settings.home)
    kept.write_bytes(b"x" * first.stat().st_size)
    assert back_up(published.home.settings, backed_up, NOW.replace(hour=2)).added == 1
    assert kept.read_bytes() == first.read_bytes()


def test_no_password_is_written(published: PublishedNight, backed_up: Path) -> None:
    password = sa.make_url(published.environment["BTS_DATABASE_URL"]).password
    assert password
    written = [path.read_text() for path in backed_up.glob("*/*") if path.suffix in (".json", ".txt")]
    assert len(written) == 2
    assert not [text for text in written if password in text]

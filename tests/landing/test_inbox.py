"""What a look into the landing folder sees, and that only a file at rest is read."""

import os
import socket
from pathlib import Path

import pytest

from bts_assets.landing.errors import LandingFileRefused, StillChanging
from bts_assets.landing.inbox import (
    LandingFile,
    LandingFolderMissing,
    digest_of,
    look,
    printable,
    read_settled,
    settled,
)


def write(path: Path, data: bytes = b"id\n1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def only_file(root: Path) -> LandingFile:
    (file,) = look(root).files
    return file


def test_csv_files_are_found_at_any_depth_in_order_of_path(tmp_path: Path) -> None:
    for name in ("b.csv", "a/z.csv", "a/deep/er/y.CSV", "folder.csv/x.csv"):
        write(tmp_path / name)
    seen = look(tmp_path)
    assert [f.path for f in seen.files] == ["a/deep/er/y.CSV", "a/z.csv", "b.csv", "folder.csv/x.csv"]
    assert seen.files[2].size == 5
    assert seen.skipped == ()


def test_hidden_and_unfinished_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("a.csv.tmp", "a.csv.part", ".a.csv", ".hidden/a.csv", "a.txt", "csv"):
        write(tmp_path / name)
    assert look(tmp_path) == look(tmp_path)
    assert (look(tmp_path).files, look(tmp_path).skipped) == ((), ())


def test_links_pipes_and_sockets_are_skipped_with_their_reason(tmp_path: Path) -> None:
    root = tmp_path / "landing"
    outside = write(tmp_path / "outside" / "secret.csv")
    root.mkdir()
    (root / "link.csv").symlink_to(outside)
    (root / "dangling.csv").symlink_to(tmp_path / "nowhere")
    (root / "folder").symlink_to(outside.parent)
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(root)  # a socket's address is short; the folder's path may not be
        try:
            server.bind("socket.csv")
        finally:
            os.chdir(here)
        seen = look(root)
    assert seen.files == ()
    assert {s.path: s.reason.split(";")[0] for s in seen.skipped} == {
        "link.csv": "a symbolic link",
        "dangling.csv": "a symbolic link",
        "folder": "a symbolic link to a folder",
        "loop": "a symbolic link to a folder",
        "pipe.csv": "not a regular file",
        "socket.csv": "not a regular file",
    }


def test_strange_names_are_taken_and_shown_without_loss(tmp_path: Path) -> None:
    names = [
        b"new\nline.csv",
        b"latin-\xe4.csv",
        b"back\\xe4.csv",
        "tür \u202e٣.csv".encode(),
        b"tab\t.csv",
        b"'; DROP TABLE x --.csv",
    ]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(name)
    seen = look(tmp_path)
    assert sorted(f.name for f in seen.files) == sorted(names)
    for file in seen.files:
        assert read_settled(tmp_path, file, 100) == file.name
        assert file.path.isprintable()
    assert {printable(n) for n in names[:3]} == {"new\\nline.csv", "latin-\\xe4.csv", "back\\\\xe4.csv"}
    assert len({f.path for f in seen.files}) == len(names)


def test_a_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(
        LandingFolderMissing,
        match=r"landing folder .*/none: no such file or directory; name another by BTS_LANDING_DIR",
    ):
        look(tmp_path / "none")


def test_a_file_that_grows_appears_or_is_touched_is_not_settled(tmp_path: Path) -> None:
    for name in ("rests.csv", "grows.csv", "touched.csv", "goes.csv", "replaced.csv"):
        write(tmp_path / name)
    first = look(tmp_path)
    with (tmp_path / "grows.csv").open("ab") as file:
        file.write(b"2\n")
    os.utime(tmp_path / "touched.csv", ns=(0, 1))
    (tmp_path / "goes.csv").unlink()
    status = (tmp_path / "replaced.csv").stat()
    write(tmp_path / "other", b"ab\n3\n")
    os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
    (tmp_path / "other").rename(tmp_path / "replaced.csv")
    write(tmp_path / "appears.csv")
    ready, unsettled = settled(first, look(tmp_path))
    assert [f.path for f in ready] == ["rests.csv"]
    assert [f.path for f in unsettled] == ["appears.csv", "grows.csv", "replaced.csv", "touched.csv"]


def test_a_file_at_rest_is_read_whole(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", data := os.urandom(100_000))
    assert read_settled(tmp_path, only_file(tmp_path), 100_000) == data
    assert digest_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_file_beyond_the_cap_is_refused_unread(tmp_path: Path) -> None:
    with write(tmp_path / "bomb.csv").open("wb") as file:
        file.truncate(1 << 28)
    with pytest.raises(LandingFileRefused, match=r"bomb\.csv has 268435456 bytes; BTS_MAX_FILE_BYTES allows 100"):
        read_settled(tmp_path, only_file(tmp_path), 100)


def swap_for_link(root: Path, secret: Path) -> None:
    # The link leads to the very file that was seen: only not following it tells.
    (root / "in" / "a.csv").rename(secret / "a.csv")
    (root / "in" / "a.csv").symlink_to(secret / "a.csv")


def swap_folder_for_link(root: Path, secret: Path) -> None:
    (root / "in").rename(secret / "in")
    (root / "in").symlink_to(secret / "in")


def swap_for_look_alike(root: Path, secret: Path) -> None:
    (secret / "a.csv").rename(root / "in" / "a.csv")


def swap_for_pipe(root: Path, secret: Path) -> None:
    (root / "in" / "a.csv").unlink()
    os.mkfifo(root / "in" / "a.csv")


def remove(root: Path, secret: Path) -> None:
    (root / "in" / "a.csv").unlink()


def append(root: Path, secret: Path) -> None:
    with (root / "in" / "a.csv").open("ab") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "fault", [swap_for_link, swap_folder_for_link, swap_for_look_alike, swap_for_pipe, remove, append]
)
def test_a_file_that_changes_after_the_look_is_left(tmp_path: Path, fault) -> None:
    root = tmp_path / "landing"
    path = write(root / "in" / "a.csv")
    secret = write(tmp_path / "secret" / "a.csv").parent
    os.utime(secret / "a.csv", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    file = only_file(root)
    fault(root, secret)
    with pytest.raises(StillChanging, match=r"in/a\.csv"):
        read_settled(root, file, 1 << 20)


@pytest.mark.parametrize("fault", [b"longer", b""], ids=["grows", "truncated"])
def test_a_file_that_changes_during_the_read_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: bytes
) -> None:
    path = write(tmp_path / "a.csv")
    file, real_read = only_file(tmp_path), os.read

    def slow_read(descriptor: int, size: int) -> bytes:
        piece = real_read(descriptor, size)
        path.write_bytes(fault)
        return piece

    monkeypatch.setattr(os, "read", slow_read)
    with pytest.raises(StillChanging, match=r"a\.csv changed"):
        read_settled(tmp_path, file, 1 << 20)

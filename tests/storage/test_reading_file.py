"""A Parquet file of readings is the same whatever parts it is written from, and each row group vouches for itself."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq
import pytest

from bts_assets.landing.reading_arrays import NO_ID, ReadingArrays, concatenated
from bts_assets.storage import reading_file
from bts_assets.storage.reading_file import opened, write

ROWS: Final = 25


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_file, "GROUP_ROWS", 8)


@pytest.fixture
def readings() -> ReadingArrays:
    """In canonical order: station 0 to 4 with five readings each, every third without an id."""
    rows = np.arange(ROWS)
    ids = np.where(rows % 3, rows, NO_ID)
    return ReadingArrays(ids, rows // 5, np.full(ROWS, 122, "int32"), rows * 60_000_000, rows / 7)


def cut(readings: ReadingArrays, size: int) -> Iterator[ReadingArrays]:
    return (readings.take(slice(first, first + size)) for first in range(0, len(readings), size))


def read(path: Path, stations: reading_file.Wanted = None) -> list[ReadingArrays]:
    with opened(path) as file:
        return list(file.parts(stations))


def rows_of(parts: Sequence[ReadingArrays]) -> list[tuple[float, ...]]:
    whole = concatenated(parts)
    columns = (whole.reading_id, whole.station_id, whole.parameter_id, whole.time, whole.value)
    return list(zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("size", [1, 3, 8, 9, ROWS])
def test_the_file_is_the_same_whatever_parts_it_is_written_from(
    tmp_path: Path, readings: ReadingArrays, size: int
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, [readings])
    write(other, cut(readings, size))
    assert one.read_bytes() == other.read_bytes()
    assert [len(part) for part in read(one)] == [8, 8, 8, 1]
    assert rows_of(read(one)) == rows_of([readings])


def test_a_file_of_one_row_group_has_the_digest_that_older_code_gave_it(
    tmp_path: Path, readings: ReadingArrays
) -> None:
    write(tmp_path / "f", [readings.take(slice(8))])
    metadata = pq.read_metadata(tmp_path / "f").metadata
    told = {key: value for key, value in metadata.items() if key.startswith(b"bts.")}
    assert told == {b"bts.readings_sha256": OLD_OF_ONE}


#: What code of one digest a file wrote for the first 8 and for all rows of `readings`.
OLD_OF_ONE: Final = b"16339aade67e480d02383540138528766ce7a0e434cb26ddbca6453fab8d2f73"
OLD_OF_ALL: Final = b"260dbf1bccc8120a140a0b4fd58334ac56cef9573d861dc582262c93b1a6d4ff"


def as_older_code_wrote_it(path: Path, digest: bytes | None) -> None:
    """Several row groups, and one digest of them all, or none."""
    table = pq.read_table(path).replace_schema_metadata({b"bts.readings_sha256": digest} if digest else None)
    pq.write_table(table, path, row_group_size=8)


def test_older_files_of_several_row_groups_and_one_digest_are_verified(tmp_path: Path, readings: ReadingArrays) -> None:
    path = tmp_path / "f"
    write(path, [readings])
    as_older_code_wrote_it(path, OLD_OF_ALL)
    assert rows_of(read(path)) == rows_of(read(path, (3, 3))) == rows_of([readings])
    as_older_code_wrote_it(path, OLD_OF_ALL[::-1])
    with pytest.raises(ValueError, match="not those that were written"):
        read(path)
    as_older_code_wrote_it(path, None)
    assert rows_of(read(path)) == rows_of([readings])
    with opened(path) as file:
        assert not file.is_vouched


@pytest.mark.parametrize("group", range(4))
@pytest.mark.parametrize("column", range(5))
def test_other_readings_in_any_row_group_are_found(
    tmp_path: Path, readings: ReadingArrays, group: int, column: int
) -> None:
    """Other readings with sound pages: it is the digest that finds them."""
    sound, altered = tmp_path / "sound", tmp_path / "altered"
    write(sound, [readings])
    row = min(8 * group + 2, ROWS - 1)
    columns = [readings.reading_id, readings.station_id, readings.parameter_id, readings.time, readings.value]
    columns[column] = columns[column].copy()
    columns[column][row] += 1
    write(altered, [ReadingArrays(*columns)])
    transplant_metadata(altered, sound)
    with pytest.raises(ValueError, match="not those that were written"):
        read(altered)


def transplant_metadata(path: Path, of: Path) -> None:
    """Have a file vouched for by the metadata of another one."""
    with pq.ParquetFile(path) as file:
        groups = [file.read_row_group(n) for n in range(file.num_row_groups)]
    told = {k: v for k, v in pq.read_metadata(of).metadata.items() if k.startswith(b"bts.")}
    with pq.ParquetWriter(path, groups[0].schema) as writer:
        for one in groups:
            writer.write_table(one)
        writer.add_key_value_metadata(told)


def test_no_flipped_bit_of_the_metadata_has_a_row_group_passed_over(tmp_path: Path, readings: ReadingArrays) -> None:
    path = tmp_path / "f"
    write(path, [readings])
    data = path.read_bytes()
    expected = [row for row in rows_of([readings]) if row[1] == 2]
    at = data.index(b"bts.row_groups")
    end = data.rindex(b"\n", 0, at + 600) + 1
    damaged = 0
    for position in range(at, end):
        flipped = bytearray(data)
        flipped[position] ^= 1
        path.write_bytes(flipped)
        try:
            assert [row for row in rows_of(read(path, (2, 2))) if row[1] == 2] == expected
        except AssertionError:
            raise
        except Exception:
            damaged += 1
    assert damaged > (end - at) * 0.9


@pytest.mark.parametrize(
    ("stations", "groups"),
    [(None, 4), ((2, 2), 1), ((1, 2), 2), ((0, 0), 1), ((4, 9), 2), ((5, 9), 0), ([0, 4], 3), ([1], 2)],
)
def test_only_row_groups_that_may_have_the_stations_are_read(
    tmp_path: Path,
    readings: ReadingArrays,
    monkeypatch: pytest.MonkeyPatch,
    stations: reading_file.Wanted,
    groups: int,
) -> None:
    path, seen = tmp_path / "f", []
    write(path, [readings])
    read_row_group = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, number: int, **options: object) -> object:
        seen.append(number)
        return read_row_group(self, number, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    parts = read(path, stations)
    assert len(seen) == len(parts) == groups


def test_a_file_without_readings_is_read_as_one(tmp_path: Path) -> None:
    write(tmp_path / "f", [])
    assert read(tmp_path / "f") == []

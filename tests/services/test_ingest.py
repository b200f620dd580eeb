"""Landing files into the ledger, the Parquet store and observations: each once, whole or not at all, whatever comes."""

import dataclasses
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from small_nights import (
    HEADER,
    LOAD,
    ORIGIN,
    SMALL,
    as_parquet,
    hourly,
    in_force,
    ledger,
    observations_digest,
    observe_due,
    rows_of,
    take_in,
    values,
    write,
)

from bts_assets.contracts.errors import BtsError
from bts_assets.landing import inbox
from bts_assets.services import landing_reads
from bts_assets.services.home import Home, open_home
from bts_assets.services.ingest import IngestReport
from bts_assets.services.observe import read_settled_panel
from bts_assets.settings import load_settings
from bts_assets.simulation.simulate import Dirt, NetworkSpec, NetworkTruth, simulate_network
from bts_assets.storage.observations import observed_span, read_panel
from bts_assets.storage.readings import ReadingsMissing


@pytest.fixture
def home(make_home: Any) -> Home:
    return make_home(**SMALL)


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> NetworkTruth:
    """Two days of two stations, with copied and refused files beside all other dirt."""
    dirt = Dirt(copied_files=0.1, refused_files=0.08, duplicate=0.01, repeated=0.01, late=0.03, broken_value=0.01)
    spec = NetworkSpec(stations=2, days=2, end=ORIGIN, seed=3, readings_per_hour=4, dirt=dirt)
    return simulate_network(spec, tmp_path_factory.mktemp("dirty") / "landing")


@pytest.fixture(scope="module")
def taken(
    dirty: NetworkTruth, tmp_path_factory: pytest.TempPathFactory, new_database: Any
) -> Iterator[tuple[Home, IngestReport]]:
    """That network taken in at once and observed: what any other way must come to."""
    home = open_home(
        load_settings(
            home=tmp_path_factory.mktemp("taken"), database_url=new_database(), file_stable_for=timedelta(0), **SMALL
        )
    )
    report = take_in(home, dirty.landing)
    observe_due(home)
    yield home, report
    home.engine.dispose()


def statuses(home: Home) -> list[tuple[str, str]]:
    return [(row["path"], row["status"]) for row in ledger(home)]


# What a file may hold, and how it is counted


def test_a_file_without_a_column_is_refused_by_name_and_the_others_go_on(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0]))
    write(landing, "b.csv", "1,1,2017-04-18 00:00:00", header="value,parameter_id,reading_time")
    write(landing, "c.csv", *hourly([1]))
    report = take_in(home, landing)
    assert (report.found, report.taken, report.refused, report.accepted) == (3, 2, 1, 2)
    assert "'station_id' is missing" in report.refusals["b.csv"]
    refused = ledger(home)[1]
    assert (refused["status"], refused["rows"]) == ("refused", 0)
    assert "'station_id' is missing" in refused["reason"]
    assert take_in(home, landing).unchanged == 3


def test_the_ledger_holds_the_truth_of_the_simulated_network(
    taken: tuple[Home, IngestReport], dirty: NetworkTruth
) -> None:
    home, report = taken
    entries = {row["path"]: row for row in ledger(home)}
    originals = [f for f in dirty.files if f.copy_of is None]
    copies = {f.copy_of: f.name for f in dirty.files if f.copy_of}
    assert copies
    assert {f.name for f in dirty.files} == set(entries)
    for truth in originals:
        entry = entries[truth.name]
        if truth.missing_column:
            assert entry["status"] == "refused"
            assert f"'{truth.missing_column}' is missing" in entry["reason"]
            continue
        if truth.name in copies:  # of two names for the same bytes, the first in order of path is the accepted one
            first, second = sorted([truth.name, copies[truth.name]])
            entry = entries[first]
            assert (entries[second]["status"], entries[second]["duplicate"]) == ("copy", truth.rows)
        assert entry["status"] == "accepted"
        assert (entry["rows"], entry["accepted"], entry["duplicate"], entry["rejected_by_reason"]) == (
            truth.rows,
            truth.accepted,
            truth.duplicates,
            truth.rejected,
        )
    totals = dirty.totals
    copied = sum(f.rows for f in dirty.files if f.copy_of and not f.missing_column)
    assert (report.accepted, report.rejected_by_reason) == (totals["accepted"], totals["rejected"])
    assert (report.rows, report.duplicate) == (totals["rows"] + copied, totals["duplicates"] + copied)
    assert report.refused == sum(f.missing_column is not None for f in dirty.files) > 0
    used = rows_of(home, "SELECT sum(readings) AS n FROM bts.observation")[0]["n"]
    assert used == totals["distinct"]


def test_rejected_rows_are_kept_up_to_a_number_and_all_are_counted(make_home: Any, landing: Path) -> None:
    home = make_home(**SMALL, rejected_kept=2)
    good = hourly([0])
    write(landing, "a.csv", "1,broken,1,122,2026-03-09 00:00:00", "x,1,x,122,2026-03-09 00:00:00", *good, "1,2", "")
    take_in(home, landing)
    (entry,) = ledger(home)
    assert (entry["rows"], entry["rejected"], sum(entry["rejected_by_reason"].values())) == (4, 3, 3)
    kept = rows_of(home, "SELECT file, line, raw, reason FROM bts.rejected_reading ORDER BY line")
    assert [(r["file"], r["line"], r["reason"]) for r in kept] == [
        ("a.csv", 2, "broken value"),
        ("a.csv", 3, "broken station_id"),
    ]
    assert kept[0]["raw"] == "1,broken,1,122,2026-03-09 00:00:00"


def test_unknown_parameters_and_stations_are_taken_and_listed(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0], station=77, parameter=987654), *hourly([0], station=78, first_id=9))
    assert take_in(home, landing).accepted == 2
    stations = rows_of(home, "SELECT station_id, listed FROM bts.station ORDER BY 1")
    assert stations == [{"station_id": 77, "listed": False}, {"station_id": 78, "listed": False}]
    unknown = rows_of(home, "SELECT parameter_id, known, forecast, valid_min FROM bts.parameter WHERE NOT known")
    assert unknown == [{"parameter_id": 987654, "known": False, "forecast": True, "valid_min": None}]


def test_two_readings_in_one_second_with_ids_of_their_own_are_both_used(home: Home, landing: Path) -> None:
    second = "1,122,2026-03-09 00:00:07"
    write(landing, "a.csv", f"1,10,{second}", f"2,20,{second}", f"2,20,{second}")
    write(landing, "b.csv", f"1,10,{second}")
    take_in(home, landing)
    observe_due(home)
    (observed,) = rows_of(home, "SELECT value, readings FROM bts.observation")
    assert observed == {"value": 15.0, "readings": 2}


def test_the_real_recording_is_taken_whole(make_home: Any, shared_data: Path) -> None:
    home = make_home(step=timedelta(minutes=5), context=timedelta(hours=6), horizon=timedelta(hours=2))
    report = take_in(home, shared_data / "bts" / "landing")
    assert (report.taken, report.rows, report.accepted, report.left) == (24, 5772, 5772, {})
    observed = observe_due(home)
    assert (observed.readings, observed.duplicates, observed.conflicts) == (5772, 0, 0)
    assert rows_of(home, "SELECT sum(readings) AS n FROM bts.observation") == [{"n": 5772}]


# The same file again, under another name, or with other content


def test_the_same_bytes_under_another_name_add_nothing(home: Home, landing: Path) -> None:
    original = write(landing, "a.csv", *hourly(range(3)), "x,1,1,1,1")
    take_in(home, landing)
    observe_due(home)
    before = observations_digest(home)
    (landing / "copy.csv").write_bytes(original.read_bytes())
    report = take_in(home, landing)
    observe_due(home)
    assert (report.taken, report.copies, report.accepted, report.duplicate) == (0, 1, 0, 4)
    assert statuses(home) == [("a.csv", "accepted"), ("copy.csv", "copy")]
    assert ledger(home)[1]["reason"] == "the same bytes as a.csv"
    assert len(rows_of(home, "SELECT * FROM bts.rejected_reading")) == 1
    assert observations_digest(home) == before


def test_a_touched_file_adds_no_row_and_is_not_read_again(home: Home, landing: Path, monkeypatch: Any) -> None:
    file = write(landing, "a.csv", *hourly([0]))
    take_in(home, landing)
    os.utime(file, ns=(1, 1))
    assert take_in(home, landing).unchanged == 1
    assert len(ledger(home)) == 1
    monkeypatch.setattr(inbox, "read_settled", lambda *_: pytest.fail("an unchanged file was read"))
    assert take_in(home, landing).unchanged == 1


def test_a_file_refused_for_its_size_is_taken_once_it_may_be(make_home: Any, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0]))
    home = make_home(**SMALL, max_file_bytes=10)
    report = take_in(home, landing)
    assert "BTS_MAX_FILE_BYTES" in report.refusals["a.csv"]
    assert take_in(home, landing).refused == 0, "refused once is refused: it is no news"
    roomy = Home(
        home.settings.model_copy(update={"max_file_bytes": 1000}), home.url, home.engine, home.catalogue, home.urls
    )
    assert take_in(roomy, landing).taken == 1
    assert in_force(home) == [("a.csv", "accepted", 1)]


# A folder that others write into


def test_a_file_still_being_written_is_left_and_taken_later(make_home: Any, landing: Path) -> None:
    home = make_home(**SMALL, file_stable_for=timedelta(milliseconds=150))
    write(landing, "done.csv", *hourly([0]))
    lines, done, begun = iter(hourly(range(1, 24)) * 100), threading.Event(), threading.Event()

    def write_slowly() -> None:
        with (landing / "slow.csv").open("w", encoding="utf-8") as file:
            file.write(HEADER + "\n")
            while not done.wait(0.01):
                file.write(next(lines) + "\n")
                file.flush()
                begun.set()

    writer = threading.Thread(target=write_slowly)
    writer.start()
    try:
        assert begun.wait(5)
        report = take_in(home, landing)
    finally:
        done.set()
        writer.join()
    assert report.left == {"slow.csv": "still being written"}
    assert statuses(home) == [("done.csv", "accepted")]
    assert take_in(home, landing).taken == 1
    assert dict(statuses(home)) == {"done.csv": "accepted", "slow.csv": "accepted"}


def test_strange_entries_are_left_with_their_reason_and_strange_names_are_text(home: Home, landing: Path) -> None:
    outside = write(landing.parent / "outside", "secret.csv", *hourly([9], value=666))
    (landing / "link.csv").symlink_to(outside)
    (landing / "up").symlink_to(landing / "..")
    os.mkfifo(landing / "pipe.csv")
    names = [
        b"new\nline.csv",
        b"latin-\xe9.csv",
        b"'; DROP TABLE bts.landing_file; --.csv",
        b"--landing=x.csv",
        b"%s.csv",
    ]
    for number, name in enumerate(names):
        Path(os.fsdecode(os.fsencode(landing) + b"/" + name)).write_text(
            f"{HEADER}\n{hourly([number])[0]}\n", encoding="utf-8"
        )
    report = take_in(home, landing)
    assert (report.taken, report.accepted, set(report.left)) == (5, 5, {"link.csv", "up", "pipe.csv"})
    assert {path for path, _ in statuses(home)} == {
        "new\\nline.csv",
        "latin-\\xe9.csv",
        "'; DROP TABLE bts.landing_file; --.csv",
        "--landing=x.csv",
        "%s.csv",
    }
    assert take_in(home, landing).unchanged == 5


def test_hostile_cells_end_as_text(home: Home, landing: Path) -> None:
    rows = ["1,'; DROP TABLE bts.observation; --,1,122,2026-03-09 00:00:00", '2,"%s",1,122,\\N', "3,\0,1,122,\x1b[31m"]
    write(landing, "a.csv", *rows)
    write(landing, "b.csv", "1", header="value,'; DROP TABLE bts.station; --,\\N,%(x)s")
    report = take_in(home, landing)
    assert (report.rejected, report.refused) == (3, 1)
    raw = [r["raw"] for r in rows_of(home, "SELECT raw FROM bts.rejected_reading ORDER BY line")]
    assert raw[:2] == rows[:2]
    assert "'; drop table bts.station; --,\\n,%(x)s" in ledger(home)[1]["reason"]


def test_a_file_that_breaks_the_parser_or_the_ledger_spoils_itself_alone(
    home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    # More bytes than an index of Postgres can hold, and too random for it to compress.
    folders = ["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz0123456789"), 200)) for _ in range(18)]
    here = os.open(landing, os.O_RDONLY)
    try:
        for folder in folders:
            os.mkdir(folder, dir_fd=here)
            inner = os.open(folder, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
        with open(os.open("deep.csv", os.O_CREAT | os.O_WRONLY, dir_fd=here), "w", encoding="utf-8") as file:
            file.write(f"{HEADER}\n{hourly([0])[0]}\n")
    finally:
        os.close(here)
    write(landing, "poison.csv", *hourly([1]))
    write(landing, "z.csv", *hourly([2]))
    parse, parse_together = landing_reads.parse_landing_file, landing_reads.parse_alike

    def parse_but_poison(data: bytes, *args: Any, **kwargs: Any) -> Any:
        if b"09 01:00:00" in data:
            raise ZeroDivisionError("a defect of ours")
        return parse(data, *args, **kwargs)

    def together_but_poison(files: Sequence[bytes], *args: Any, **kwargs: Any) -> Any:
        if any(b"09 01:00:00" in data for data in files):
            raise ZeroDivisionError("a defect of ours")
        return parse_together(files, *args, **kwargs)

    monkeypatch.setattr(landing_reads, "parse_landing_file", parse_but_poison)
    monkeypatch.setattr(landing_reads, "parse_alike", together_but_poison)
    report = take_in(home, landing)
    assert statuses(home) == [("z.csv", "accepted")]
    assert "ZeroDivisionError: a defect of ours" in report.left["poison.csv"]
    (deep,) = (reason for path, reason in report.left.items() if path.endswith("deep.csv"))
    assert "index row" in deep


def test_small_files_are_entered_together_and_a_copy_among_them_is_found(home: Home, landing: Path) -> None:
    for number in range(20):
        write(landing, f"{number:02}.csv", *hourly([number]))
    (landing / "copy.csv").write_bytes((landing / "07.csv").read_bytes())
    report = take_in(home, landing)
    assert (report.taken, report.copies, report.accepted) == (20, 1, 20)
    assert rows_of(home, "SELECT count(DISTINCT xmin::text) AS n FROM bts.landing_file") == [{"n": 1}]
    write(landing, "07.csv", *hourly([7], value=3))
    write(landing, "08.csv", *hourly([8], value=4))
    (landing / "again.csv").write_bytes((landing / "09.csv").read_bytes())
    report = take_in(home, landing)
    assert (report.corrected, report.copies) == (2, 1)


def test_a_file_that_breaks_the_schema_is_left_and_its_group_is_taken(
    home: Home, landing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write(landing, f"{number}.csv", *hourly([number]))
    parse = landing_reads.parse_alike

    def parse_amiss(files: Sequence[bytes], *args: Any, **kwargs: Any) -> Any:
        parsed = parse(files, *args, **kwargs)
        arrays = dataclasses.replace(parsed[3].arrays, value=np.array([np.inf]))
        return [*parsed[:3], dataclasses.replace(parsed[3], ordered=arrays), *parsed[4:]]

    monkeypatch.setattr(landing_reads, "parse_alike", parse_amiss)
    report = take_in(home, landing)
    assert report.taken == 4
    assert report.left == {"3.csv": "breaks the schema of readings: 1 failing cases; report it"}


def test_a_folder_that_cannot_be_looked_into_is_one_line(home: Home, landing: Path) -> None:
    for folder in (landing / "none", write(landing, "file.csv")):
        with pytest.raises(BtsError, match="BTS_LANDING_DIR") as caught:
            take_in(home, folder)
        assert str(folder) in str(caught.value)


# Order, repetition and company


@pytest.mark.parametrize("seed", [1, 2])
def test_neither_order_of_arrival_nor_reruns_change_an_observation(
    make_home: Any, taken: tuple[Home, Any], dirty: NetworkTruth, landing: Path, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    home, names = make_home(**SMALL), [f.name for f in dirty.files]
    for part in np.array_split(rng.permutation(names), 4):
        for name in part:
            (landing / name).write_bytes((dirty.landing / name).read_bytes())
        for _ in range(rng.integers(1, 3)):
            take_in(home, landing)
        if rng.random() < 0.7:
            observe_due(home)
    observe_due(home)
    assert observations_digest(home) == observations_digest(taken[0])
    assert day_digests(home) == day_digests(taken[0])
    counts = Counter(status for _, status in statuses(home))
    assert counts == Counter(status for _, status in statuses(taken[0]))
    again = take_in(home, landing)
    assert (again.unchanged, again.taken, observe_due(home).days) == (len(names), 0, 0)


def day_digests(home: Home) -> list[dict[str, Any]]:
    """What each day was last computed to; its number in the ledger aside."""
    columns = "DISTINCT ON (day) day, digest, observations, readings"
    return rows_of(home, f"SELECT {columns} FROM bts.observed_day ORDER BY day, ledger_seq DESC")


def test_loaders_at_once_take_each_file_once(make_home: Any, taken: tuple[Home, Any], dirty: NetworkTruth) -> None:
    first = make_home(**SMALL)
    homes = [first, *(open_home(first.settings) for _ in range(2))]
    barrier, reports, failures = threading.Barrier(3), [], []

    def load(home: Home) -> None:
        try:
            barrier.wait(10)
            reports.append(take_in(home, dirty.landing))
            barrier.wait(30)
            observe_due(home)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=load, args=(home,)) for home in homes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for home in homes[1:]:
        home.engine.dispose()
    assert failures == []
    assert Counter(status for _, status in statuses(first)) == Counter(status for _, status in statuses(taken[0]))
    assert len({path for path, _ in statuses(first)}) == len(dirty.files) == len(ledger(first))
    assert sum(report.accepted for report in reports) == taken[1].accepted
    assert observations_digest(first) == observations_digest(taken[0])


def test_readings_at_or_after_the_origin_rest_and_are_not_used(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly(range(24)))
    take_in(home, landing)
    observe_due(home)

    def panel() -> Any:
        with home.engine.connect() as connection:
            return read_panel(connection, home.settings.grid, ORIGIN - timedelta(days=1), ORIGIN)

    before = panel()
    write(landing, "b.csv", *hourly(range(24, 30)), *hourly(range(24, 26), station=9, first_id=900))
    take_in(home, landing)
    observe_due(home)
    assert len(values(home)) == 32
    with home.engine.connect() as connection:
        span = observed_span(connection, home.settings.grid)
    assert span is not None
    assert (span.start, span.end) == (ORIGIN - timedelta(days=1), ORIGIN + timedelta(hours=6))
    after = panel()
    assert (len(after), after.digest) == (len(before), before.digest)
    assert np.isfinite(after.values).all()


def test_every_day_of_a_file_is_observed_from_all_files_that_reach_into_it(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([23, 24]))
    take_in(home, landing)
    assert observe_due(home).days == 2
    write(landing, "b.csv", *hourly([25]))
    take_in(home, landing)
    assert observe_due(home).days == 1
    assert values(home) == [33.0, 34.0, 35.0]


# What rests


@pytest.mark.parametrize("rests", [nullcontext, as_parquet])
def test_what_was_accepted_is_given_back_and_no_partial_file_is_left(home: Home, landing: Path, rests: Any) -> None:
    write(landing, "a.csv", ",1.5,1,122,2026-03-09 00:00:00.000001", *hourly([3], station=2**62))
    with rests():
        take_in(home, landing)
    frame = home.readings.read(ledger(home)[0]["digest"])
    assert frame["value"].tolist() == [1.5, 13.0]
    assert frame["reading_id"].isna().tolist() == [True, False]
    assert frame["station_id"].tolist() == [1, 2**62]
    assert frame["reading_time"][0].to_pydatetime() == datetime(2026, 3, 9, 0, 0, 0, 1, UTC)
    assert frame["parameter_id"].tolist() == [LOAD, LOAD]
    files = [f.suffix for f in home.readings.root.rglob("*") if f.is_file()]
    assert files == ([".parquet"] if rests is as_parquet else [])


@pytest.mark.parametrize("kind", ["row", "Parquet"])
@pytest.mark.parametrize("fault", ["gone", "cut"])
def test_readings_that_are_gone_or_damaged_are_named_in_one_line(
    home: Home, landing: Path, fault: str, kind: str
) -> None:
    write(landing, "a.csv", *hourly([0]))
    with as_parquet() if kind == "Parquet" else nullcontext():
        take_in(home, landing)
    digest = ledger(home)[0]["digest"]
    file = home.readings.path(digest)
    if kind == "Parquet":
        file.unlink() if fault == "gone" else file.write_bytes(file.read_bytes()[:100])
    else:
        with home.engine.begin() as connection:
            cut = "UPDATE bts.landing_reading SET readings = substr(readings, 1, 60)"
            connection.exec_driver_sql("DELETE FROM bts.landing_reading" if fault == "gone" else cut)
    with pytest.raises(ReadingsMissing, match=digest[:12]):
        home.readings.read(digest)
    # They cost their own day and no other.
    write(landing, "b.csv", *hourly([24]))
    report = take_in(home, landing)
    assert report.taken == 1
    observed = observe_due(home)
    if fault == "gone":  # the landing file is still there, and brought them back
        assert (observed.failed, len(values(home))) == ({}, 2)
    else:
        assert [digest[:12] in why for why in observed.failed.values()] == [True]
        assert len(values(home)) == 1


@pytest.mark.parametrize("rests", [nullcontext, as_parquet])
def test_what_the_ledger_vouches_for_is_never_written_anew(make_home: Any, landing: Path, rests: Any) -> None:
    home = make_home(step=timedelta(hours=1), context=timedelta(days=1), horizon=timedelta(hours=12))
    file = write(landing, "a.csv", *hourly([0]))
    with rests():
        take_in(home, landing)
    digest = ledger(home)[0]["digest"]
    before = home.readings.read(digest)
    os.utime(file, ns=(1, 1))
    elsewhere = replace(
        home, settings=home.settings.model_copy(update={"landing_timezone": ZoneInfo("Asia/Ho_Chi_Minh")})
    )
    assert take_in(elsewhere, landing).unchanged == 1
    assert home.readings.read(digest).equals(before)
    assert rows_of(home, "SELECT count(*) AS n FROM bts.landing_reading") == [{"n": int(rests is nullcontext)}]


def test_a_file_taken_in_but_not_observed_is_observed_before_it_counts_as_input(home: Home, landing: Path) -> None:
    write(landing, "a.csv", *hourly([0]))
    take_in(home, landing)
    observe_due(home)
    write(landing, "b.csv", *hourly([1]))
    take_in(home, landing)
    end = datetime(2026, 3, 9, 12, tzinfo=UTC)
    panel, ledger_seq = read_settled_panel(home, end, lambda _: end - timedelta(hours=12))
    assert ledger_seq == 2
    assert np.isfinite(panel.values).sum() == 2

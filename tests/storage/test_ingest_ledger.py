"""The ingest ledger: what becomes of a file by what is known of its path and its content, and what it is asked for."""

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from nights import HomeMaker
from small_nights import HEADER, LOAD, NOW, ORIGIN, SMALL, hourly, in_force, rows_of

from bts_assets.contracts.catalogue import load_catalogue, unknown_parameter
from bts_assets.landing.files import parse_landing_file
from bts_assets.services.home import Home
from bts_assets.storage import ingest_ledger
from bts_assets.storage.ingest_ledger import enter_files
from bts_assets.storage.landing_decisions import FileEntry

CATALOGUE = load_catalogue()
RULES = {"dayfirst": None}
SPAN = {"first_reading_at": None, "last_reading_at": None, "days": []}


@pytest.fixture
def home(make_home: HomeMaker) -> Home:
    return make_home(**SMALL)


def file(
    path: str, *rows: str, refused: str | None = None, modified_ns: int = 1, rules: dict[str, Any] = RULES
) -> FileEntry:
    data = "\n".join([HEADER, *rows]).encode()
    parsed = parse_landing_file(
        data, CATALOGUE, landing_timezone=ZoneInfo("UTC"), now=NOW, max_skew=timedelta(0), number_of=numbered
    )
    digest = hashlib.sha256(data).hexdigest()
    return FileEntry(path, len(data), modified_ns, digest, None if refused else parsed, refused, rules)


def numbered(kind: Any, names: Any) -> dict[str, int]:
    return {name: -1 - len(name) for name in names}


def entered(home: Home, *files: FileEntry, run: str | None = None) -> list[dict[str, Any]]:
    return enter_files(home.engine, files, CATALOGUE, run)


def stored(home: Home) -> list[dict[str, Any]]:
    return rows_of(home, "SELECT * FROM bts.landing_file ORDER BY ledger_seq")


FIRST, OTHER = hourly([0, 1]), hourly([0, 1, 2], value=7)
LATER, EARLIER, MOVED_ON = hourly([2, 3]), hourly([-2, -1]), hourly([1, 2])
BROKEN = "x,x,x,x,x"


def test_an_entry_counts_the_rows_of_its_file_and_says_when_they_were(home: Home) -> None:
    rows = [*FIRST, FIRST[0], BROKEN, f"9,1,1,{LOAD},{ORIGIN - timedelta(days=3):%Y-%m-%d %H:%M:%S}"]
    (told,) = entered(home, file("a.csv", *rows), run="run")
    (row,) = stored(home)
    assert (row["rows"], row["accepted"], row["rejected"], row["duplicate"]) == (5, 3, 1, 1)
    assert row["rejected_by_reason"] == {"broken station_id": 1}
    assert (row["first_reading_at"], row["last_reading_at"]) == (ORIGIN - timedelta(3), ORIGIN - timedelta(hours=23))
    assert row["days"] == [date(2026, 3, 7), date(2026, 3, 9)]
    assert (row["status"], row["reason"], row["dagster_run_id"], row["superseded_by"]) == (
        "accepted",
        None,
        "run",
        None,
    )
    assert (row["dialect"]["rules"], row["dialect"]["delimiter"]) == (RULES, ",")
    assert told["path"] == "a.csv"
    assert abs(row["taken_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    (kept,) = rows_of(home, "SELECT line, raw, reason FROM bts.landing_rejection")
    assert kept == {"line": 5, "raw": BROKEN, "reason": "broken station_id"}


@pytest.mark.parametrize(
    ("then", "status", "corrects", "left"),
    [
        (file("a.csv", *FIRST), "unchanged", None, [("a.csv", "accepted", 2)]),
        (file("a.csv", *OTHER), "accepted", True, [("a.csv", "accepted", 3)]),
        (file("a.csv", *LATER), "accepted", False, [("a.csv", "accepted", 2), ("a.csv", "accepted", 2)]),
        (file("a.csv", *EARLIER), "accepted", False, [("a.csv", "accepted", 2), ("a.csv", "accepted", 2)]),
        (file("a.csv", *MOVED_ON), "accepted", False, [("a.csv", "accepted", 2), ("a.csv", "accepted", 2)]),
        (file("b.csv", *FIRST), "copy", False, [("a.csv", "accepted", 2), ("b.csv", "copy", 0)]),
        (file("b.csv", *OTHER), "accepted", False, [("a.csv", "accepted", 2), ("b.csv", "accepted", 3)]),
        (file("a.csv", BROKEN), "unusable", False, [("a.csv", "accepted", 2), ("a.csv", "unusable", 0)]),
        (file("a.csv", *OTHER, refused="why"), "refused", False, [("a.csv", "accepted", 2), ("a.csv", "refused", 0)]),
    ],
    ids=[
        "again",
        "corrected",
        "goes on",
        "of before",
        "moved on",
        "copied",
        "another",
        "corrected by nothing",
        "corrected by what cannot be read",
    ],
)
def test_what_becomes_of_a_file_is_by_its_path_its_content_and_its_times(
    home: Home, then: FileEntry, status: str, corrects: bool | None, left: list[tuple[str, str, int]]
) -> None:
    entered(home, file("a.csv", *FIRST))
    (told,) = entered(home, then)
    assert (told["status"], told.get("corrects")) == (status, corrects)
    assert told.get("goes_on", False) == (len(left) == 2 and left[1][:2] == ("a.csv", "accepted"))
    assert in_force(home) == left
    # As one by one, so together.
    assert [row["superseded_by"] for row in stored(home)] == ([2, None] if corrects else [None] * len(left))


def test_what_was_refused_in_between_leaves_the_next_a_correction(home: Home) -> None:
    entered(home, file("a.csv", *FIRST))
    told = [entered(home, one)[0] for one in (file("a.csv", refused="why"), file("a.csv", *OTHER))]
    assert [row["corrects"] for row in told] == [False, True]
    assert in_force(home) == [("a.csv", "accepted", 3)]
    entered(home, file("b.csv", refused="why"))
    assert entered(home, file("b.csv", *hourly([7])))[0]["corrects"] is False


def test_a_correction_taken_back_counts_as_it_did_and_a_copy_of_what_counts_no_more_is_accepted(home: Home) -> None:
    for one in (file("a.csv", *FIRST, BROKEN), file("a.csv", *OTHER), file("a.csv", *FIRST, BROKEN)):
        entered(home, one)
    first, second, third = stored(home)
    assert [row["superseded_by"] for row in (first, second, third)] == [2, 3, None]
    content = ("rows", "accepted", "rejected", "duplicate", "rejected_by_reason", *SPAN)
    assert {name: first[name] for name in content} == {name: third[name] for name in content}
    entered(home, file("b.csv", *OTHER), file("c.csv", *OTHER))
    assert in_force(home) == [("a.csv", "accepted", 2), ("b.csv", "accepted", 3), ("c.csv", "copy", 0)]
    copy = stored(home)[-1]
    assert (copy["rows"], copy["duplicate"], copy["reason"]) == (3, 3, "the same bytes as b.csv")
    assert [copy[name] for name in SPAN] == [second[name] for name in SPAN]
    # Each rejected row once for each entry that is accepted.
    assert len(rows_of(home, "SELECT * FROM bts.landing_rejection")) == 2


@pytest.mark.parametrize("turned", [False, True], ids=["the correction first", "the copy first"])
def test_files_entered_together_are_what_they_are_one_after_the_other(make_home: HomeMaker, turned: bool) -> None:
    group = [file("a.csv", *OTHER), file("b.csv", *FIRST), file("c.csv", *OTHER), file("d.csv", BROKEN)]
    group = group[::-1] if turned else group
    left = []
    for groups in ([group], [[one] for one in group]):
        home = make_home(**SMALL)
        entered(home, file("a.csv", *FIRST))
        told = [row for files in groups for row in entered(home, *files)]
        passing = ("taken_at",)
        left.append([{k: v for k, v in row.items() if k not in passing} for row in [*stored(home), *told]])
        left.append(rows_of(home, "SELECT * FROM bts.landing_rejection ORDER BY 1, 2"))
    assert left[:2] == left[2:]
    # What counts no more is not copied, and what still counts is.
    assert [row["status"] for row in left[0][1:5]] == (
        ["unusable", "accepted", "copy", "copy"] if turned else ["accepted", "accepted", "copy", "unusable"]
    )


def test_a_failure_is_entered_anew_when_its_reason_changes_and_a_touched_file_is_not(home: Home) -> None:
    for reason in ("why", "why", "another"):
        entered(home, file("a.csv", refused=reason))
    entered(home, file("b.csv", *FIRST), file("c.csv", BROKEN))
    # What was accepted was read by the rules of then; what could not be used, by those of now.
    now = {"dayfirst": True}
    entered(home, file("b.csv", *FIRST, modified_ns=7, rules=now), file("c.csv", BROKEN, modified_ns=8, rules=now))
    rows = stored(home)
    assert [row["dialect"]["rules"] for row in rows[2:]] == [RULES, now]
    assert [(row["path"], row["reason"]) for row in rows[:2]] == [("a.csv", "why"), ("a.csv", "another")]
    assert [(row["path"], row["status"], row["modified_ns"]) for row in rows[2:]] == [
        ("b.csv", "accepted", 7), ("c.csv", "unusable", 8),
    ]  # fmt: skip
    assert rows[0] | SPAN == rows[0]


def test_failed_files_that_count_are_read_again_and_no_others(home: Home) -> None:
    entered(home, file("a.csv", *FIRST), file("b.csv", BROKEN), file("c.csv", refused="why"))
    entered(home, file("b.csv", *OTHER))
    assert ingest_ledger.read_again(home.engine) == 1
    assert [row["dialect"] is None for row in stored(home)] == [False, False, True, False]
    newest = {row.path: (row.status, row.rules) for row in ingest_ledger.newest_entries(home.engine)}
    assert newest == {"a.csv": ("accepted", RULES), "b.csv": ("accepted", RULES), "c.csv": ("refused", None)}


def test_what_is_in_use_is_told_by_file_day_and_run(home: Home) -> None:
    files = [file("a.csv", *FIRST), file("b.csv", *OTHER), file("c.csv", refused="why")]
    entered(home, *files, run="one")
    with home.engine.connect() as connection:
        before = ingest_ledger.accepted_now(connection)
    later = [file("a.csv", *hourly([0])), file("d.csv", *hourly([25]))]
    entered(home, *later, run="two")
    in_use = sorted([files[1].digest, later[0].digest, later[1].digest])
    with home.engine.connect() as connection:
        now = ingest_ledger.accepted_now(connection)
        by_day = [ingest_ledger.accepted_by_day(connection, days) for days in (1, 21)]
        taken = {run: ingest_ledger.bytes_taken(connection, run) for run in ("one", "two", "three")}
    assert (before.rows, now.rows) == (5, 5)
    assert now.digest == hashlib.sha256(",".join(in_use).encode()).hexdigest() != before.digest
    assert [days.to_dict() for days in by_day] == [
        {date(2026, 3, 10): 1.0}, {date(2026, 3, 10): 1.0, date(2026, 3, 9): 4.0},
    ]  # fmt: skip
    assert by_day[1].index.tolist() == [date(2026, 3, 10), date(2026, 3, 9)]
    assert taken == {"one": sum(f.size for f in files), "two": sum(f.size for f in later), "three": 0}
    accepted = {f.digest for f in (*files[:2], *later)}
    asked = [*accepted, files[2].digest, "0" * 64]
    assert ingest_ledger.vouched_digests(home.engine, asked) == accepted


def test_stations_and_parameters_that_nobody_knew_are_listed_once_by_the_names_that_files_gave(home: Home) -> None:
    with home.engine.begin() as connection:
        names = [
            ("station", -5, "Hill"),
            ("station", -7, "Valley"),
            ("parameter", -5, "Hail"),
            ("parameter", -9, "Other"),
        ]
        for kind, number, name in names:
            connection.execute(
                sa.text("INSERT INTO bts.landing_name (kind, number, name) VALUES (:kind, :number, :name)"),
                {"kind": kind, "number": number, "name": name},
            )
    known = rows_of(home, "SELECT * FROM bts.parameter")
    time = "2026-03-09 00:00:00"
    named = [f"{k},1,Hill,{'Hail' if k else LOAD},{time}" for k in range(3)]
    files = file("a.csv", *named), file("b.csv", f"1,1,8,987,{time}")
    for _ in range(2):
        entered(home, *files)
        assert rows_of(home, "SELECT station_id, name, listed FROM bts.station ORDER BY 1") == [
            {"station_id": -5, "name": "Hill", "listed": False}, {"station_id": 8, "name": None, "listed": False},
        ]  # fmt: skip
        new = rows_of(home, "SELECT parameter_id, name FROM bts.parameter WHERE parameter_id IN (-5, 987) ORDER BY 1")
        assert [row["parameter_id"] for row in new] == [-5, 987]
        assert (new[0]["name"], new[1]["name"]) == ("Hail", unknown_parameter(987).name)
        assert len(rows_of(home, "SELECT * FROM bts.parameter")) == len(known) + 2

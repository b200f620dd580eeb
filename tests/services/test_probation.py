"""Challengers beside the champion: what a night stores and scores of them, what it serves, and how they end."""

import logging
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from nights import HomeMaker
from rivals import (
    FAR,
    FAR_MAE,
    HOUR,
    NEAR,
    NEAR_MAE,
    STATIONS,
    decisions,
    entered,
    night,
    observe,
    promoted,
    serving,
)
from small_nights import NOW, ORIGIN, SMALL, rows_of

from bts_assets.contracts.origin import Origin
from bts_assets.forecasting.canary import canary_stations
from bts_assets.services import nightly as batches
from bts_assets.services import probation as probations
from bts_assets.services.champions import promote, rollback
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.nightly import CanaryShare
from bts_assets.services.probation import Probation, ProbationError, batch_beside, begin, end, running
from bts_assets.storage.decisions import Decision
from bts_assets.storage.mlflow_registry import ModelStoreError
from bts_assets.storage.model_versions import ModelVersion

#: Of six values that rise by one: the root of 35 twelfths.
SPREAD = 35 / 12


@pytest.fixture
def home(make_home: HomeMaker, tmp_path: Path) -> Home:
    """Readings until twelve hours after `ORIGIN`: of origins until six hours after it everything has come."""
    home = make_home(**SMALL)
    observe(home, tmp_path / "landing", hours=36)
    return home


@pytest.fixture
def champion(home: Home) -> ModelVersion:
    return promoted(home, entered(home, 1, FAR))


@pytest.fixture
def challenger(home: Home, champion: ModelVersion) -> ModelVersion:
    return entered(home, 2, NEAR)


def begun(home: Home, version: ModelVersion, nights: int = 2, share: float = 0.0) -> Probation:
    return begin(home, version, nights, share, Decision("probation", "hand", "a test"))


def beside(home: Home, probation: Probation, batch: int, hours: int = 0) -> int | None:
    with what_is_given(home, Origin(ORIGIN + hours * HOUR, "live", "the test says so")) as given:
        return probations.run_beside(home, probation, given, batch, "a run")


def night_beside(home: Home, champion: ModelVersion, probation: Probation, hours: int = 0) -> tuple[int, int | None]:
    """A night as the job does it: the batch that serves, and the one beside it."""
    batch = night(home, champion, hours, probation.canary)
    assert batch_beside(home, ORIGIN + hours * HOUR) == batch
    return batch, beside(home, probation, batch, hours)


def break_bundle(home: Home, version: ModelVersion) -> None:
    shutil.rmtree(home.models.cache / version.bundle_digest)


# In shadow


def test_shadow_batch_is_stored_and_reaches_no_reader(
    home: Home, champion: ModelVersion, challenger: ModelVersion
) -> None:
    probation = begun(home, challenger)
    assert probation.canary is None
    batch, shadow = night_beside(home, champion, probation)
    assert shadow not in (None, batch)
    (stored,) = rows_of(home, "SELECT * FROM bts.batch WHERE batch_id = :b", b=shadow)
    assert (stored["model_version_id"], stored["issued_at"], stored["dagster_run_id"]) == (
        challenger.model_version_id, ORIGIN, "a run",
    )  # fmt: skip
    rows = rows_of(home, "SELECT q50 FROM bts.forecast WHERE batch_id = :b AND station_id = 1", b=shadow)
    assert [row["q50"] for row in rows] == [33.0] * 6
    assert serving(home) == (champion.model_version_id, batch)
    for reader in ("bts.latest_forecast", "bts.forecast_at_origin(:at)", "bts.forecast_as_of(now())"):
        seen = rows_of(home, f"SELECT DISTINCT batch_id, model_version_id FROM {reader}", at=ORIGIN)
        assert seen == [{"batch_id": batch, "model_version_id": champion.model_version_id}], reader
    assert rows_of(home, "SELECT FROM bts.publication WHERE batch_id = :b", b=shadow) == []
    assert rows_of(home, "SELECT DISTINCT batch_id FROM bts.series_status") == [{"batch_id": batch}]


def test_a_night_is_scored_against_its_actuals(home: Home, champion: ModelVersion, challenger: ModelVersion) -> None:
    probation = begun(home, challenger)
    batch, shadow = night_beside(home, champion, probation)
    scores = rows_of(home, "SELECT * FROM bts.probation_score ORDER BY station_id")
    assert [row["station_id"] for row in scores] == list(STATIONS)
    for row in scores:
        assert row["spread"] ** 2 == pytest.approx(SPREAD)
        figures = {name: row[name] for name in ("mae", "champion_mae", "targets", "issued_at")}
        assert figures == {"mae": NEAR_MAE, "champion_mae": FAR_MAE, "targets": 6, "issued_at": ORIGIN}
        assert (row["batch_id"], row["shadow_batch_id"]) == (batch, shadow)
        assert (row["model_version_id"], row["champion_version_id"]) == (
            challenger.model_version_id, champion.model_version_id,
        )  # fmt: skip
    for name, number in (("coverage80", shadow), ("champion_coverage80", batch)):
        paths = rows_of(
            home, "SELECT q10, q90 FROM bts.forecast WHERE batch_id = :b AND station_id = 1 ORDER BY step_ahead",
            b=number,
        )  # fmt: skip
        inside = [row["q10"] <= 34 + step <= row["q90"] for step, row in enumerate(paths)]
        assert float(scores[0][name]) == pytest.approx(np.mean(inside))


def test_only_what_has_come_counts(home: Home, champion: ModelVersion, challenger: ModelVersion) -> None:
    probation = begun(home, challenger)
    night_beside(home, champion, probation, 9)  # three of its six hours have come
    (row, *_) = rows_of(home, "SELECT * FROM bts.probation_score")
    assert (row["targets"], row["mae"], row["champion_mae"]) == (3, 2.0, FAR_MAE)
    late = night_beside(home, champion, probation, 12)[0]
    assert rows_of(home, "SELECT FROM bts.probation_score WHERE batch_id = :b", b=late) == []
    found = probations.nights_of(home, probation)
    assert found["ends_at"].tolist() == [ORIGIN + 15 * HOUR, ORIGIN + 18 * HOUR]


def test_errors_are_means_over_the_nights_that_are_asked_for(
    home: Home, champion: ModelVersion, challenger: ModelVersion
) -> None:
    probation = begun(home, challenger)
    numbers = [night_beside(home, champion, probation, hours)[0] for hours in (0, 9, 12)]
    found = probations.errors_of(home, probation, numbers[:2])
    assert len(found) == len(STATIONS)
    assert set(found["challenger"]) == {(NEAR_MAE + 2) / 2}
    assert set(found["champion"]) == {FAR_MAE}
    assert set(found["nights"]) == {2}
    # Of three values that rise by one: the root of two thirds.
    assert found["scale"].tolist() == pytest.approx([(SPREAD**0.5 + (2 / 3) ** 0.5) / 2] * len(STATIONS))
    assert len(probations.errors_of(home, probation, numbers[2:])) == 0
    assert list(probations.errors_of(home, probation, [])) == list(found)


def test_nights_that_the_challenger_was_trained_past_do_not_count(home: Home, champion: ModelVersion) -> None:
    late = entered(home, 3, NEAR, trained_until=ORIGIN + HOUR)
    probation = begun(home, late)
    for hours in (0, 1, 2):
        night_beside(home, champion, probation, hours)
    assert len(rows_of(home, "SELECT FROM bts.probation_night")) == 3
    assert probations.nights_of(home, probation)["issued_at"].tolist() == [ORIGIN + HOUR, ORIGIN + 2 * HOUR]


def test_same_night_again_adds_nothing(home: Home, champion: ModelVersion, challenger: ModelVersion) -> None:
    probation = begun(home, challenger)
    first = night_beside(home, champion, probation)
    assert night_beside(home, champion, probation) == first
    assert len(rows_of(home, "SELECT FROM bts.probation_night")) == 1
    assert len(rows_of(home, "SELECT FROM bts.batch")) == 2
    assert len(rows_of(home, "SELECT FROM bts.publication")) == 1


def test_night_of_corrected_readings_counts_once_by_its_newest_batch(
    home: Home, champion: ModelVersion, challenger: ModelVersion, tmp_path: Path
) -> None:
    probation = begun(home, challenger)
    night_beside(home, champion, probation)
    observe(home, tmp_path / "landing", hours=36, shift=3)
    batch, shadow = night_beside(home, champion, probation)
    (found,) = probations.nights_of(home, probation).to_dict("records")
    assert (found["batch_id"], found["shadow_batch_id"]) == (batch, shadow)


def test_nothing_published_is_nothing_to_compare_with(home: Home) -> None:
    with pytest.raises(ProbationError, match=r"^nothing was published for 2026-03-10 .* could be compared with$"):
        batch_beside(home, ORIGIN)


# A challenger that fails


def test_challenger_whose_bundle_is_gone_costs_the_night_nothing(
    home: Home, champion: ModelVersion, challenger: ModelVersion, caplog: pytest.LogCaptureFixture
) -> None:
    probation = begun(home, challenger)
    break_bundle(home, challenger)
    with caplog.at_level(logging.WARNING):
        batch, shadow = night_beside(home, champion, probation)
    assert shadow is None
    assert serving(home) == (champion.model_version_id, batch)
    (found,) = probations.nights_of(home, probation).to_dict("records")
    assert found["failure"].startswith(f"ModelStoreError: model version {challenger.bundle_digest[:12]} is neither in")
    assert f"model version {challenger.model_version_id} made no batch: ModelStoreError" in caplog.text
    assert rows_of(home, "SELECT FROM bts.probation_score") == []


def test_challenger_that_raises_leaves_its_failure_until_it_can(
    home: Home, champion: ModelVersion, challenger: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    probation = begun(home, challenger)
    night(home, champion)
    good = night_beside(home, champion, probation, 1)[1]

    def fail(*_: Any, **__: Any) -> Any:
        raise FloatingPointError("the weights are not numbers\nfor sure")

    with monkeypatch.context() as patch:
        patch.setattr(batches, "make_batch", fail)
        assert beside(home, probation, 1) is None
    nights = probations.nights_of(home, probation)
    assert nights["failure"].tolist() == ["FloatingPointError: the weights are not numbers", None]
    assert nights["shadow_batch_id"].tolist() == [None, good]
    shadow = beside(home, probation, 1)
    nights = probations.nights_of(home, probation)
    assert (nights["failure"].tolist(), nights["shadow_batch_id"].tolist()) == ([None, None], [shadow, good])


# Serving some stations


def stations_of(home: Home, version: ModelVersion, share: float) -> list[int]:
    with what_is_given(home, Origin(ORIGIN, "live", "the test says so")) as given:
        chosen = canary_stations(given.station_id, version.bundle_digest, share).tolist()
    assert 0 < len(chosen) < len(STATIONS)
    return chosen


def test_canary_serves_its_stations_and_is_named_wherever_they_are_read(
    home: Home, champion: ModelVersion, challenger: ModelVersion
) -> None:
    chosen = stations_of(home, challenger, 0.4)
    probation = begun(home, challenger, share=0.4)
    assert probation.canary == CanaryShare(challenger, 0.4)
    batch, shadow = night_beside(home, champion, probation)
    rows = rows_of(home, "SELECT * FROM bts.latest_forecast ORDER BY station_id, step_ahead")
    assert len(rows) == 6 * len(STATIONS)
    for row in rows:
        station, step = row["station_id"], row["step_ahead"]
        of_challenger, of_champion = 10 * station + 23, 10 * station + step - 1
        version = challenger if station in chosen else champion
        assert row["q50"] == (of_challenger if station in chosen else of_champion)
        assert row["model_version_id"] == version.model_version_id
        assert row["source"] == (NEAR if station in chosen else FAR)
        assert row["batch_id"] == batch
    ledger = rows_of(home, "SELECT * FROM bts.forecast_ledger WHERE batch_id = :b ORDER BY station_id", b=batch)
    assert [row["station_id"] for row in ledger if row["model_version_id"] == challenger.model_version_id] == chosen
    assert {row["model_version_id"] for row in ledger if row["station_id"] not in chosen} == {None}
    lineage = rows_of(home, "SELECT * FROM bts.forecast_lineage WHERE batch_id = :b", b=batch)
    for row in lineage:
        version = challenger if row["station_id"] in chosen else champion
        assert (row["canary"], row["model_version_id"], row["bundle_digest"]) == (
            row["station_id"] in chosen, version.model_version_id, version.bundle_digest,
        )  # fmt: skip
    (stored,) = rows_of(home, "SELECT * FROM bts.batch WHERE batch_id = :b", b=batch)
    assert (stored["model_version_id"], stored["canary_version_id"], stored["canary_share"]) == (
        champion.model_version_id, challenger.model_version_id, 0.4,
    )  # fmt: skip
    # What the champion did not forecast, it cannot be compared on.
    scored = rows_of(home, "SELECT station_id FROM bts.probation_score ORDER BY 1")
    assert [row["station_id"] for row in scored] == [s for s in STATIONS if s not in chosen]
    assert shadow is not None


def test_canary_again_is_the_same_batch_and_without_it_another(
    home: Home, champion: ModelVersion, challenger: ModelVersion
) -> None:
    canaries = [None, CanaryShare(challenger, 0.4), CanaryShare(challenger, 0.6), CanaryShare(challenger, 0.4), None]
    numbers = [night(home, champion, canary=canary) for canary in canaries]
    assert numbers[3:] == [numbers[1], numbers[0]]
    assert len(set(numbers)) == 3
    assert serving(home)[1] == numbers[0]
    assert {r["model_version_id"] for r in rows_of(home, "SELECT model_version_id FROM bts.latest_forecast")} == {
        champion.model_version_id
    }


@pytest.mark.parametrize("fault", ["gone", "raises"])
def test_where_the_canary_fails_the_champion_serves_every_station(
    home: Home,
    champion: ModelVersion,
    challenger: ModelVersion,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    probation = begun(home, challenger, share=0.4)
    if fault == "gone":
        break_bundle(home, challenger)
    else:
        make = batches.make_batch

        def fail(bundle: Any, *rest: Any, **named: Any) -> Any:
            if bundle.digest == challenger.bundle_digest:
                raise RuntimeError("it cannot")
            return make(bundle, *rest, **named)

        monkeypatch.setattr(batches, "make_batch", fail)
    with caplog.at_level(logging.WARNING):
        batch, shadow = night_beside(home, champion, probation)
    rows = rows_of(home, "SELECT DISTINCT model_version_id, station_id, batch_id FROM bts.latest_forecast ORDER BY 2")
    assert rows == [
        {"model_version_id": champion.model_version_id, "station_id": s, "batch_id": batch} for s in STATIONS
    ]
    assert shadow is None
    assert f"model version {challenger.model_version_id} serves no station tonight: " in caplog.text
    (stored,) = rows_of(home, "SELECT canary_version_id, canary_share FROM bts.batch WHERE batch_id = :b", b=batch)
    assert stored == {"canary_version_id": None, "canary_share": None}


# How it begins and ends


def test_probation_begins_with_its_plan_and_its_reason(
    home: Home, champion: ModelVersion, challenger: ModelVersion
) -> None:
    assert running(home) is None
    probation = begun(home, challenger, nights=5, share=0.25)
    assert running(home) == probation
    assert (probation.challenger, probation.nights, probation.share) == (challenger, 5, 0.25)
    decision = decisions(home)[-1]
    assert (decision["verdict"], decision["decided_by"], decision["reason"]) == ("probation", "hand", "a test")
    roles = rows_of(home, "SELECT model_version_id, role FROM bts.version_status ORDER BY 1")
    assert [row["role"] for row in roles] == ["champion", "canary"]


def test_what_cannot_run_beside_the_champion_is_said_in_one_line(home: Home) -> None:
    first = entered(home, 1)
    with pytest.raises(ProbationError, match=r"cannot run on probation: there is no champion that it could run beside"):
        begun(home, first)
    promoted(home, first)
    with pytest.raises(ProbationError, match=r"^model version \d+ cannot run on probation: it is champion$"):
        begun(home, first)
    away = replace(home, settings=home.settings.model_copy(update={"horizon": timedelta(hours=3)}))
    promoted(away, entered(away, 3))
    with pytest.raises(ProbationError, match=r"cannot run on probation: it is for another grid$"):
        begun(away, entered(home, 4))
    broken = entered(home, 2)
    break_bundle(home, broken)
    with pytest.raises(ModelStoreError, match="neither in"):
        begun(home, broken)
    assert rows_of(home, "SELECT FROM bts.probation") == []
    assert {d["verdict"] for d in decisions(home)} == {"promoted"}


def outcomes(home: Home) -> list[str | None]:
    return [row["outcome"] for row in rows_of(home, "SELECT outcome FROM bts.probation ORDER BY probation_id")]


def test_another_one_takes_its_place(home: Home, champion: ModelVersion, challenger: ModelVersion) -> None:
    begun(home, challenger)
    another = entered(home, 3)
    assert begun(home, another) == running(home)
    assert outcomes(home) == [f"model version {another.model_version_id} took its place", None]


def test_it_is_ended_by_hand_once(home: Home, champion: ModelVersion, challenger: ModelVersion) -> None:
    probation = begun(home, challenger)
    end(home, probation, Decision("ended", "hand", "enough"))
    assert running(home) is None
    assert outcomes(home) == ["ended: enough"]
    assert [d["verdict"] for d in decisions(home)] == ["promoted", "probation", "ended"]
    with pytest.raises(ProbationError, match=r"^the probation of model version \d+ is over already"):
        end(home, probation, Decision("promoted", "gate", "it was better"))
    assert serving(home)[0] == champion.model_version_id
    assert len(decisions(home)) == 3


def test_its_end_may_make_it_champion_in_the_same_commit(
    home: Home, champion: ModelVersion, challenger: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    probation = begun(home, challenger)

    def fail(*_: Any) -> int:
        raise RuntimeError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(probations, "record", fail)
        with pytest.raises(RuntimeError):
            end(home, probation, Decision("promoted", "gate", "better"))
    assert running(home) == probation
    end(home, probation, Decision("promoted", "gate", "better"))
    assert rows_of(home, "SELECT model_version_id FROM bts.champion ORDER BY champion_seq DESC LIMIT 1") == [
        {"model_version_id": challenger.model_version_id}
    ]
    assert outcomes(home) == ["promoted: better"]


@pytest.mark.parametrize("how", ["promotion", "rollback"])
def test_another_champion_ends_it(home: Home, champion: ModelVersion, challenger: ModelVersion, how: str) -> None:
    other = entered(home, 3)
    if how == "rollback":
        promoted(home, other)
    begun(home, challenger)
    if how == "promotion":
        promote(home, other.model_version_id, "by hand")
        assert outcomes(home) == [f"model version {other.model_version_id} was promoted"]
    else:
        rollback(home, "by hand", NOW)
        assert outcomes(home) == [f"model version {champion.model_version_id} was rolled back"]
    assert running(home) is None


def test_decision_that_promotes_nobody_ends_nothing(
    home: Home, champion: ModelVersion, challenger: ModelVersion
) -> None:
    begun(home, challenger)
    promoted(home, champion)
    assert running(home) is not None


def test_postgres_keeps_no_night_without_batch_or_reason(
    home: Home, champion: ModelVersion, challenger: ModelVersion
) -> None:
    probation, batch = begun(home, challenger), night(home, champion)
    statement = sa.text("INSERT INTO bts.probation_night (probation_id, batch_id) VALUES (:p, :b)")
    with pytest.raises(sa.exc.IntegrityError, match="batch_or_failure"), home.engine.begin() as connection:
        connection.execute(statement, {"p": probation.probation_id, "b": batch})

"""Which version serves: promoted and rolled back by hand, both or neither, and the reasons that are left."""

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from nights import HomeMaker
from rivals import FAR, HOUR, decisions, entered, night, observe, promoted, serving
from small_nights import GRID, NOW, ORIGIN, SMALL, fitted, rows_of, simple_bundle, small_panel

from bts_assets.contracts.errors import UsageError
from bts_assets.contracts.grid import Grid
from bts_assets.forecasting.promotion_rules import Rule
from bts_assets.services import champions
from bts_assets.services import training as versions
from bts_assets.services.champions import ChampionError, decide, mend_alias, promote, rollback
from bts_assets.services.home import Home
from bts_assets.services.training import train
from bts_assets.storage.decisions import Decision, champion_before
from bts_assets.storage.loading import PublishRefused
from bts_assets.storage.mlflow_registry import CHALLENGER, CHAMPION, ModelStoreError
from bts_assets.storage.model_versions import ModelVersion, champion_for
from bts_assets.storage.postgres import DatabaseError


@pytest.fixture
def home(make_home: HomeMaker, tmp_path: Path) -> Home:
    home = make_home(**SMALL)
    observe(home, tmp_path / "landing")
    return home


def log_of(home: Home) -> list[int]:
    return [row["model_version_id"] for row in rows_of(home, "SELECT * FROM bts.champion ORDER BY champion_seq")]


def everything(home: Home) -> dict[str, list[dict[str, Any]]]:
    tables = ("champion", "decision", "publication", "probation")
    return {name: rows_of(home, f"SELECT * FROM bts.{name} ORDER BY 1") for name in tables}


# Promoted by hand


def test_promoted_version_serves_from_the_next_night_on_and_the_reason_is_kept(home: Home) -> None:
    first, second = promoted(home, entered(home, 1)), entered(home, 2, FAR)
    batch = night(home, first)
    assert promote(home, second.model_version_id, "the storm is over") == second
    assert champion_for(home.engine, GRID) == second
    assert serving(home) == (second.model_version_id, batch)
    decision = decisions(home)[-1]
    expected = {
        "model_version_id": second.model_version_id, "champion_version_id": first.model_version_id,
        "verdict": "promoted", "decided_by": "hand", "reason": "the storm is over", "evidence": [],
        "dagster_run_id": None,
    }  # fmt: skip
    assert {name: decision[name] for name in expected} == expected
    assert decision["code_version"].startswith("0.1.0")
    (entry,) = rows_of(home, "SELECT * FROM bts.champion ORDER BY champion_seq DESC LIMIT 1")
    assert (entry["reason"], entry["decision_id"]) == ("the storm is over", decision["decision_id"])
    assert night(home, second) != batch


def test_refused_version_leaves_the_champion_and_its_rules(home: Home) -> None:
    champion, challenger = promoted(home, entered(home, 1)), entered(home, 2)
    rule = Rule("lower_error", False, "its errors are 1.2 times the champion's", {"ratio": 1.2, "series": 8})
    decide(home, challenger, Decision("refused", "gate", rule.words, [rule], "a Dagster run"))
    assert champion_for(home.engine, GRID) == champion
    assert log_of(home) == [champion.model_version_id]
    decision = decisions(home)[-1]
    assert decision["evidence"] == [
        {"rule": "lower_error", "passed": False, "words": rule.words, "figures": {"ratio": 1.2, "series": 8}}
    ]
    assert (decision["verdict"], decision["dagster_run_id"]) == ("refused", "a Dagster run")


def test_promoting_the_champion_again_enters_it_once(home: Home) -> None:
    version = promoted(home, promoted(home, entered(home, 1)))
    assert log_of(home) == [version.model_version_id]
    assert len(decisions(home)) == 2


def test_what_cannot_be_promoted_is_said_in_one_line(home: Home) -> None:
    champion = promoted(home, entered(home, 1)).model_version_id
    other_grid = Grid(GRID.step, GRID.context, timedelta(hours=3))
    away = replace(home, settings=home.settings.model_copy(update={"horizon": other_grid.horizon}))
    bundle = simple_bundle(5, grid=other_grid)
    away.models.keep(bundle)
    other = versions.enter(away, fitted(bundle), small_panel(), None, 0, None).model_version_id
    before = everything(home)
    for number, told in (
        (99, r"^there is no model version 99; `bts versions` lists them all$"),
        (other, rf"^model version {other} is for another grid than BTS_STEP=1h, BTS_CONTEXT=24h and BTS_HORIZON=6h$"),
        (champion, rf"^model version {champion} is champion already$"),
    ):
        with pytest.raises(UsageError if number == 99 else ChampionError, match=told):
            promote(home, number, "a try")
    assert everything(home) == before
    # Each grid has a champion of its own.
    promote(away, other, "there")
    assert champion_for(home.engine, GRID).model_version_id == champion  # type: ignore[union-attr]


@pytest.mark.parametrize("fault", ["flipped", "gone"])
@pytest.mark.parametrize("how", ["promote", "rollback"])
def test_bundle_that_is_not_what_was_trained_changes_nothing(home: Home, fault: str, how: str) -> None:
    first, second = promoted(home, entered(home, 1)), entered(home, 2)
    if how == "rollback":
        promoted(home, second)
        night(home, second)
        first, second = second, first
    folder = home.models.cache / second.bundle_digest
    if fault == "gone":
        shutil.rmtree(folder)
    else:
        (folder / "bundle.json").write_bytes((folder / "bundle.json").read_bytes().replace(b'"quick"', b'"quack"'))
    before = everything(home)
    told = r"neither in .* nor in MLflow" if fault == "gone" else r"its bytes have changed"
    with pytest.raises(ModelStoreError, match=told) as caught:
        promote(home, second.model_version_id, "a try") if how == "promote" else rollback(home, "a try", NOW)
    assert "\n" not in str(caught.value)
    assert everything(home) == before


# The pile of champions


@pytest.mark.parametrize(
    ("steps", "champion", "before"),
    [
        ("1", 1, None),
        ("1 2", 2, 1),
        ("1 2 3", 3, 2),
        ("1 2 3 back", 2, 1),
        ("1 2 3 back back", 1, None),
        ("1 2 back 3", 3, 1),
        ("1 2 back 2", 2, 1),
        ("1 2 3 back 3 back", 2, 1),
        ("1 2 1", 1, 2),
        ("1 2 1 3", 3, 1),
        ("1 2 1 3 back", 1, 2),
        ("1 2 1 3 back back", 2, 1),
        ("1 2 1 3 back back back", 1, None),
    ],
)
def test_rollback_takes_the_champion_off_the_pile(home: Home, steps: str, champion: int, before: int | None) -> None:
    version = {seed: entered(home, seed) for seed in (1, 2, 3)}
    for step in steps.split():
        if step == "back":
            rollback(home, "a test", NOW)
        else:
            promoted(home, version[int(step)])
    assert champion_for(home.engine, GRID) == version[champion]
    assert champion_before(home.engine, GRID) == (version[before] if before else None)


def test_champion_from_before_decisions_were_kept_counts_too(home: Home) -> None:
    first, second = entered(home, 1), entered(home, 2)
    with home.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO bts.champion (model_version_id, reason) VALUES (:version, 'long ago')"),
            {"version": first.model_version_id},
        )
    promoted(home, second)
    assert champion_before(home.engine, GRID) == first


def test_there_must_be_a_champion_to_go_back_to(home: Home) -> None:
    with pytest.raises(ChampionError, match=r"^there is no champion to go back to: there is none yet$"):
        rollback(home, "a try", NOW)
    number = promoted(home, entered(home, 1)).model_version_id
    with pytest.raises(ChampionError, match=rf"^there is .* go back to: model version {number} is the first$"):
        rollback(home, "a try", NOW)


# Rolled back, with its batch


def test_rollback_before_anything_was_published_changes_the_champion_alone(home: Home) -> None:
    first, second = promoted(home, entered(home, 1)), promoted(home, entered(home, 2))
    done = rollback(home, "a test", NOW)
    assert (done.version, done.instead_of, done.batch_id, done.issued_at) == (first, second, None, None)
    assert rows_of(home, "SELECT FROM bts.batch") == []


def test_rollback_publishes_a_batch_made_anew(home: Home) -> None:
    first, second = promoted(home, entered(home, 1)), promoted(home, entered(home, 2, FAR))
    bad = night(home, second)
    done = rollback(home, "all a day old", NOW)
    assert (done.version, done.instead_of, done.issued_at) == (first, second, ORIGIN)
    assert done.batch_id not in (None, bad)
    assert serving(home) == (first.model_version_id, done.batch_id)
    rows = rows_of(home, "SELECT * FROM bts.latest_forecast WHERE station_id = 1")
    assert {(row["model_version_id"], row["issued_at"], row["q50"]) for row in rows} == {
        (first.model_version_id, ORIGIN, 33.0)
    }
    published = rows_of(home, "SELECT * FROM bts.publication ORDER BY publication_seq")[-1]
    number = first.model_version_id
    assert published["reason"] == f"rollback to model version {number}: all a day old"
    decision = decisions(home)[-1]
    assert (decision["verdict"], decision["model_version_id"], decision["reason"]) == (
        "rolled back", number, "all a day old",
    )  # fmt: skip
    assert decision["champion_version_id"] == second.model_version_id


def test_rollback_serves_the_batch_that_is_there(home: Home) -> None:
    first = promoted(home, entered(home, 1))
    good = night(home, first)
    second = promoted(home, entered(home, 2, FAR))
    assert night(home, second) != good
    assert rollback(home, "a test", NOW).batch_id == good
    assert serving(home) == (first.model_version_id, good)
    assert len(rows_of(home, "SELECT FROM bts.batch")) == 2


def test_rollback_makes_it_of_what_is_known_by_now(home: Home, tmp_path: Path) -> None:
    first = promoted(home, entered(home, 1))
    old = night(home, first)
    second = promoted(home, entered(home, 2, FAR))
    night(home, second)
    observe(home, tmp_path / "landing", shift=100)
    batch = rollback(home, "a test", NOW).batch_id
    assert batch != old
    (row,) = rows_of(home, "SELECT q50 FROM bts.latest_forecast WHERE station_id = 1 AND step_ahead = 1")
    assert row["q50"] == 133.0


def test_night_after_a_rollback_finds_its_batch(home: Home) -> None:
    first, second = promoted(home, entered(home, 1)), promoted(home, entered(home, 2, FAR))
    night(home, second)
    batch = rollback(home, "a test", NOW).batch_id
    assert night(home, first) == batch
    assert serving(home) == (first.model_version_id, batch)


@pytest.mark.parametrize("fault", ["after the decision", "connection lost", "batch refused"])
def test_rollback_that_fails_on_the_way_changes_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    promoted(home, entered(home, 1))
    second = promoted(home, entered(home, 2, FAR))
    batch, before = night(home, second), everything(home)

    def fail(connection: sa.Connection, *_: Any) -> None:
        if fault == "connection lost":
            with home.engine.connect() as other:
                pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
                other.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        else:
            raise RuntimeError("a fault")

    def refuse(*_: Any) -> int:
        raise PublishRefused("the batch was not published")

    if fault == "batch refused":
        monkeypatch.setattr(champions, "forecast_beside", refuse)
    else:
        monkeypatch.setattr(champions, "point", fail)
    with pytest.raises((RuntimeError, DatabaseError)):
        rollback(home, "a test", NOW)
    assert everything(home) == before
    assert serving(home) == (second.model_version_id, batch)


def test_no_reader_sees_the_new_champion_with_the_old_batch(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = promoted(home, entered(home, 1)), promoted(home, entered(home, 2, FAR))
    bad = night(home, second)
    seen, point = [], champions.point

    def watched(connection: sa.Connection, *given: Any) -> None:
        seen.append(serving(home))  # the champion is entered, the pointer not moved
        point(connection, *given)
        seen.append(serving(home))  # both are done, and not committed

    monkeypatch.setattr(champions, "point", watched)
    done = rollback(home, "a test", NOW)
    assert seen == [(second.model_version_id, bad)] * 2
    assert serving(home) == (first.model_version_id, done.batch_id)


def beside(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Any]) -> None:
    """Let something happen once the batch of a rollback is made, before the rollback is decided."""
    make = champions.forecast_beside

    def made(*given: Any) -> int:
        batch = make(*given)
        meanwhile()
        return batch

    monkeypatch.setattr(champions, "forecast_beside", made)


def test_one_of_two_rollbacks_at_once_goes_through(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    version = [promoted(home, entered(home, seed)) for seed in (1, 2, 3)]
    night(home, version[-1])
    barrier, results = threading.Barrier(2), []
    beside(monkeypatch, lambda: barrier.wait(20))

    def run() -> None:
        try:
            results.append(rollback(home, "a test", NOW).version)
        except ChampionError as error:
            results.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert version[1] in results
    assert "another process changed what serves meanwhile; look, and roll back again" in results
    assert champion_for(home.engine, GRID) == version[1]
    assert [d["verdict"] for d in decisions(home)].count("rolled back") == 1


@pytest.mark.parametrize("other", ["a promotion", "a night"])
def test_rollback_gives_way_to_what_happened_meanwhile(home: Home, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    promoted(home, entered(home, 1))
    second, third = promoted(home, entered(home, 2)), entered(home, 3)
    batch = night(home, second)
    happens = {"a promotion": lambda: promoted(home, third), "a night": lambda: night(home, second, 1)}[other]
    beside(monkeypatch, happens)
    with pytest.raises(ChampionError, match="another process changed what serves meanwhile"):
        rollback(home, "a test", NOW)
    champion, newest = (third.model_version_id, batch) if other == "a promotion" else (second.model_version_id, None)
    assert serving(home)[0] == champion
    assert newest is None or serving(home)[1] == newest
    assert "rolled back" not in {d["verdict"] for d in decisions(home)}


# The batch that serves


def test_readings_corrected_and_corrected_back_serve_the_first_batch_again(home: Home, tmp_path: Path) -> None:
    version = promoted(home, entered(home, 1))
    first = night(home, version)
    observe(home, tmp_path / "landing", shift=5)
    second = night(home, version)
    assert serving(home)[1] == second != first
    observe(home, tmp_path / "landing")
    assert night(home, version) == first
    assert serving(home)[1] == first
    log = rows_of(home, "SELECT * FROM bts.publication ORDER BY publication_seq")
    assert [(p["batch_id"], p["serves_latest"]) for p in log] == [(first, True), (second, True), (first, True)]
    assert night(home, version) == first  # once more is nothing new
    assert len(rows_of(home, "SELECT FROM bts.publication")) == 3
    (seen,) = rows_of(home, "SELECT DISTINCT batch_id FROM bts.forecast_as_of(:at)", at=log[1]["published_at"])
    assert seen["batch_id"] == second


def test_champion_that_comes_again_serves_its_batch_again(home: Home) -> None:
    first, second = promoted(home, entered(home, 1)), entered(home, 2, FAR)
    batches = [night(home, first), night(home, promoted(home, second)), night(home, promoted(home, first))]
    assert batches[0] == batches[2] != batches[1]
    assert serving(home) == (first.model_version_id, batches[0])


def test_rerun_of_an_older_origin_never_moves_the_pointer(home: Home, tmp_path: Path) -> None:
    first, second = promoted(home, entered(home, 1)), entered(home, 2, FAR)
    old, newest = night(home, first, -1), night(home, first)
    assert night(home, first, -1) == old
    promoted(home, second)
    other = night(home, second, -1)
    promoted(home, first)
    assert night(home, first, -1) == old
    observe(home, tmp_path / "landing", shift=5)
    late = night(home, first, -1)
    assert len({old, newest, other, late}) == 4
    assert serving(home)[1] == newest
    (row,) = rows_of(home, "SELECT DISTINCT batch_id FROM bts.forecast_at_origin(:at)", at=ORIGIN - HOUR)
    assert row["batch_id"] == late


# MLflow mirrors it


def registered(home: Home, patch: pytest.MonkeyPatch, seed: int) -> ModelVersion:
    """A version that is registered for real, though nothing was fitted."""
    patch.setattr(versions, "fit_bundle", lambda *_, **__: fitted(simple_bundle(seed)))
    return train(home, ORIGIN, "a run").version


def tags_of(home: Home, version: ModelVersion) -> dict[str, str]:
    import mlflow

    tags = mlflow.MlflowClient(home.mlflow_tracking_uri).get_run(version.mlflow_run_id).data.tags
    return {name: value for name, value in tags.items() if name.startswith("decision.")}


def test_alias_follows_what_postgres_decided_and_runs_say_why(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (registered(home, monkeypatch, seed) for seed in (1, 2))
    promote(home, first.model_version_id, "the first")
    assert home.models.pointed(CHAMPION) == first.registry_version
    assert second.registry_version is not None
    home.models.point(CHALLENGER, second.registry_version)
    decide(home, second, Decision("refused", "gate", "no better"))
    assert (home.models.pointed(CHAMPION), home.models.pointed(CHALLENGER)) == (first.registry_version, None)
    page = home.models.client().get_model_version("bts-forecaster", str(second.registry_version))
    assert page.description.startswith("refused by gate: no better")
    assert page.tags == {"decision": "refused", "decided_by": "gate"}
    promote(home, second.model_version_id, "all the same")
    assert (home.models.pointed(CHAMPION), home.models.pointed(CHALLENGER)) == (second.registry_version, None)
    rollback(home, "worse", NOW)
    assert home.models.pointed(CHAMPION) == first.registry_version
    numbers = [d["decision_id"] for d in decisions(home)]
    assert tags_of(home, first) == {
        f"decision.{numbers[0]}": "promoted by hand: the first",
        f"decision.{numbers[3]}": "rolled back by hand: worse",
    }
    assert tags_of(home, second) == {
        f"decision.{numbers[1]}": "refused by gate: no better",
        f"decision.{numbers[2]}": "promoted by hand: all the same",
    }


def test_decision_stands_though_mlflow_is_down_and_a_later_night_mends_the_aliases(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (registered(home, monkeypatch, seed) for seed in (1, 2))
    promote(home, first.model_version_id, "the first")
    assert second.registry_version is not None
    home.models.point(CHALLENGER, second.registry_version)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(home.models, "tracking_uri", "http://127.0.0.1:9")
        promote(home, second.model_version_id, "lower_error")
        mend_alias(home, second)
    assert caplog.text.count("MLflow at http://127.0.0.1:9 failed") == 2
    assert champion_for(home.engine, GRID) == second
    assert home.models.pointed(CHAMPION) == first.registry_version
    mend_alias(home, second)
    assert (home.models.pointed(CHAMPION), home.models.pointed(CHALLENGER)) == (second.registry_version, None)


def test_version_that_was_refused_while_mlflow_was_down_is_challenger_no_more_after_a_later_night(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (registered(home, monkeypatch, seed) for seed in (1, 2))
    promote(home, first.model_version_id, "the first")
    assert second.registry_version is not None
    home.models.point(CHALLENGER, second.registry_version)
    mend_alias(home, first)
    assert home.models.pointed(CHALLENGER) == second.registry_version  # nothing was decided about it yet
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with monkeypatch.context() as patch:
        patch.setattr(home.models, "tracking_uri", "http://127.0.0.1:9")
        decide(home, second, Decision("refused", "gate", "no better"))
    assert home.models.pointed(CHALLENGER) == second.registry_version
    mend_alias(home, first)
    assert (home.models.pointed(CHAMPION), home.models.pointed(CHALLENGER)) == (first.registry_version, None)
    page = home.models.client().get_model_version("bts-forecaster", str(second.registry_version))
    assert page.description.startswith("refused by gate: no better")
    assert page.tags == {"decision": "refused", "decided_by": "gate"}

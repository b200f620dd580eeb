"""The gate: a challenger whose training gave better or worse scores, what the rules say, and what is kept of it."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pandas as pd
import pytest
from nights import HomeMaker
from rivals import FAR, FAR_MAE, HOUR, NEAR, NEAR_MAE, STATIONS, decisions, entered, night, observe, promoted
from small_nights import GRID, LOAD, ORIGIN, SMALL, fitted, hourly, observe_due, rows_of, simple_bundle, take_in, write

from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.forecasting.bundle import Bundle
from bts_assets.forecasting.fit import FittedBundle
from bts_assets.forecasting.metrics import METRICS
from bts_assets.plots import comparison as comparison_plots
from bts_assets.services import probation as probations
from bts_assets.services import promotion as gate
from bts_assets.services import training as versions
from bts_assets.services import training_report as report
from bts_assets.services.champions import decide
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.probation import begin, running
from bts_assets.services.promotion import JudgedChallenger, challenge, end_of_probation
from bts_assets.storage.decisions import Decision, champion_before
from bts_assets.storage.mlflow_registry import CHALLENGER, CHAMPION, ModelStoreError
from bts_assets.storage.model_versions import ModelVersion, champion_for

#: Another gauge of the catalogue, which the first five stations report.
OTHER = 125
RULES = [
    "trained_well",
    "lower_error",
    "no_parameter_worse",
    "interval_coverage",
    "forecast_divergence",
    "no_new_fallbacks",
]
#: Of the champion that looks a day back: the scale is a twentieth more than each error.
HALF = 0.5 * (FAR_MAE + FAR_MAE / 20) - FAR_MAE / 20


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither MLflow nor pictures, which take their time; a test that is about them asks for them by a mark."""
    if request.node.get_closest_marker("usefixtures"):
        return
    monkeypatch.setattr(versions, "_register", lambda *_: None)
    monkeypatch.setattr(report, "pictures_of", lambda *_: {})
    monkeypatch.setattr(gate, "draw", lambda *_: {})


@pytest.fixture
def with_mlflow() -> None:
    """Asks for a real MLflow and for pictures."""


def take_in_until(home: Home, landing: Path, hours: int) -> None:
    """Readings of two days before the day before `ORIGIN`, and until so many hours after it began; all above 0."""
    observe(home, landing, hours, shift=100, since=-48)


MakeGate = Callable[..., Home]


@pytest.fixture
def make_gate(make_home: HomeMaker, tmp_path: Path) -> MakeGate:
    """A home with three days of readings, where forecasts may differ as they like unless a test says otherwise."""

    def make(hours: int = 36, **settings: Any) -> Home:
        home = make_home(**(SMALL | {"max_forecast_divergence": 1000.0} | settings))
        other = [r for s in range(1, 6) for r in hourly(range(-48, hours), s, OTHER, 100 + 10 * s, 100000 + 1000 * s)]
        write(tmp_path / "landing", "b.csv", *other)
        take_in_until(home, tmp_path / "landing", hours)
        return home

    return make


@pytest.fixture
def home(make_gate: MakeGate) -> Home:
    return make_gate()


def champion_of(home: Home, default: str = FAR, trained_days_ago: float = 1) -> ModelVersion:
    return promoted(home, entered(home, 1, default, ORIGIN - 24 * trained_days_ago * HOUR))


def scores(
    mae: dict[int, float], coverage: float = 0.0, hours_ago: Sequence[int] = (18, 12, 6), scale: float = FAR_MAE
) -> pd.DataFrame:
    """What a training says of its version on its holdout window; by parameter, the same for every station."""
    rows = [
        {"station_id": s, "parameter_id": p, "origin": pd.Timestamp(ORIGIN - ago * HOUR).as_unit("us"),
         "candidate": "served", "mae": mae[p], "mase": mae[p] / scale, "coverage80": coverage}
        for p in mae for s in STATIONS for ago in hours_ago if p == LOAD or s <= 5
    ]  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=["station_id", "parameter_id", "origin", "candidate", *METRICS])


BETTER = {LOAD: HALF, OTHER: HALF}


def judged(
    home: Home,
    patch: pytest.MonkeyPatch,
    told: pd.DataFrame | None = None,
    default: str = NEAR,
    seed: int = 2,
    truncated: bool = False,
    lstm_failure: str | None = None,
) -> JudgedChallenger:
    """The gate's verdict on a version that a training gave, with these scores."""
    bundle = replace(simple_bundle(seed, default), lstm_failure=lstm_failure)
    told = scores(BETTER) if told is None else told
    given = replace(fitted(bundle), scores=told, truncated=truncated)
    patch.setattr(versions, "fit_bundle", lambda *_, **__: given)
    return challenge(home, Origin(ORIGIN, "live", "the test says so"), "a run")


def evidence(home: Home) -> dict[str, dict[str, Any]]:
    return {rule["rule"]: rule for rule in decisions(home)[-1]["evidence"]}


def failed(home: Home) -> list[str]:
    return [name for name, rule in evidence(home).items() if not rule["passed"]]


# After a training


def test_better_challenger_is_promoted_and_the_figures_are_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = champion_of(home)
    done = judged(home, monkeypatch)
    assert done.decision.verdict == "promoted"
    assert champion_for(home.engine, GRID) == done.challenger
    assert champion_before(home.engine, GRID) == done.champion == champion
    decision = decisions(home)[-1]
    assert decision["decision_id"] == done.decision_id
    assert (decision["decided_by"], decision["champion_version_id"], decision["dagster_run_id"]) == (
        "gate", champion.model_version_id, "a run",
    )  # fmt: skip
    asked = evidence(home)
    assert list(asked) == RULES
    figures = asked["lower_error"]["figures"]
    assert figures["ratio"] == pytest.approx(0.5)
    assert (figures["share_better"], figures["series"], figures["margin"]) == (1.0, 13, 0.01)
    assert decision["reason"] == asked["lower_error"]["words"]
    assert decision["reason"].startswith(
        "its errors are 0.500 times the champion's (mean over 13 series), less on 100 %"
    )
    assert decision["reason"].endswith(" (at 3 past origins)")
    # The same night by both, 23 to 18 apart. The champion is sure of itself, so that half the challenger's width is the
    # unit: it knows no errors, and takes what 23 changes of 1 say, as if normal.
    width = 2 * NormalDist().inv_cdf(0.9) * 1.2533 * (1 + 2 / 23)
    assert done.apart["distance"].max() == pytest.approx(20.5 / (0.5 * width), rel=1e-4)
    assert len(done.apart) == 13


@pytest.mark.parametrize(
    ("rule", "training", "settings"),
    [
        pytest.param("trained_well", {"truncated": True}, {}, id="cut short"),
        pytest.param("lower_error", {"told": scores({LOAD: FAR_MAE, OTHER: FAR_MAE})}, {}, id="as good"),
        pytest.param("lower_error", {}, {"promotion_margin": 0.6}, id="a larger margin asked"),
        pytest.param("no_parameter_worse", {"told": scores({LOAD: 3.0, OTHER: 27.0})}, {}, id="other pays"),
        pytest.param("forecast_divergence", {}, {"max_forecast_divergence": 1.0}, id="far apart"),
        pytest.param("no_new_fallbacks", {"default": "seasonal_naive_week"}, {}, id="falls back"),
    ],
)
def test_each_rule_refuses_alone(
    make_gate: MakeGate, monkeypatch: pytest.MonkeyPatch, rule: str, training: Any, settings: Any
) -> None:
    home = make_gate(**settings)
    champion = champion_of(home)
    done = judged(home, monkeypatch, **training)
    assert (done.decision.verdict, failed(home)) == ("refused", [rule])
    assert champion_for(home.engine, GRID) == champion
    assert decisions(home)[-1]["reason"] == evidence(home)[rule]["words"]
    assert rows_of(home, "SELECT FROM bts.probation") == []


def test_intervals_that_hold_less_than_the_champions_refuse(
    make_home: HomeMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(**SMALL, max_forecast_divergence=1000)
    since = ORIGIN - 72 * HOUR
    rows = [
        f"{1000 * s + h},{10 * s + h % 2},{s},{LOAD},{since + h * HOUR:%Y-%m-%d %H:%M:%S}"
        for s in STATIONS for h in range(72)
    ]  # fmt: skip
    write(tmp_path / "landing", "a.csv", *rows)
    take_in(home, tmp_path / "landing")
    observe_due(home)
    # Of a reading that is up every other hour the last value is never further off than it has been.
    champion_of(home, NEAR)
    judged(home, monkeypatch, scores({LOAD: 0.2}, coverage=0.3, scale=1.0), FAR)
    assert evidence(home)["interval_coverage"]["figures"] == {
        "coverage80": pytest.approx(0.3),
        "champion_coverage80": 1.0,
    }
    assert failed(home) == ["interval_coverage"]


def test_training_without_a_sound_lstm_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = champion_of(home)
    judged(home, monkeypatch, lstm_failure="the loss is nan")
    assert failed(home) == ["trained_well", "no_new_fallbacks"]
    assert decisions(home)[-1]["reason"].startswith("the loss is nan; of 13 series 13 are served by a fallback")
    assert champion_for(home.engine, GRID) == champion


def test_training_that_could_hold_nothing_out_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    champion_of(home)
    nothing = fitted(simple_bundle()).scores
    assert judged(home, monkeypatch, nothing).decision.verdict == "refused"
    assert failed(home) == ["lower_error"]
    assert "0 series can be compared, and at least 6 are needed" in decisions(home)[-1]["reason"]


@pytest.mark.parametrize(
    ("trained_days_ago", "note", "origins"),
    [
        pytest.param(1, " (at 3 past origins)", 3, id="none"),
        pytest.param(0.5, "(at 3 past origins, some of which", 3, id="too few nights apart"),
        pytest.param(0, "(at 3 past origins, some of which", 3, id="all"),
    ],
)
def test_champion_is_judged_where_it_was_not_trained(
    home: Home, monkeypatch: pytest.MonkeyPatch, trained_days_ago: float, note: str, origins: int
) -> None:
    champion_of(home, trained_days_ago=trained_days_ago)
    done = judged(home, monkeypatch)
    assert set(done.errors["nights"]) == {origins}
    assert note in done.decision.reason
    assert ("which favours it" in done.decision.reason) == (trained_days_ago < 1)


def test_it_is_judged_beside_whoever_serves_when_its_training_ends(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    champion_of(home)
    other = entered(home, 7, NEAR, ORIGIN - 24 * HOUR)
    given = replace(fitted(simple_bundle(2, FAR)), scores=scores(BETTER))

    def train_for_hours(*_: Any, **__: Any) -> FittedBundle:
        promoted(home, other)
        return given

    monkeypatch.setattr(versions, "fit_bundle", train_for_hours)
    done = challenge(home, Origin(ORIGIN, "live", "the test says so"), "a run", because="drift of the load")
    assert (done.champion, done.decision.verdict) == (other, "refused")
    assert champion_for(home.engine, GRID) == other
    assert decisions(home)[-1]["champion_version_id"] == other.model_version_id
    assert decisions(home)[-1]["reason"].endswith("; trained because of drift of the load")


def test_unseen_origins_alone_are_asked_where_they_span_some_nights(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion_of(home, trained_days_ago=0.75)
    done = judged(home, monkeypatch, scores(BETTER, hours_ago=(24, 18, 12, 6)))
    assert set(done.errors["nights"]) == {3}
    assert " (at 3 past origins)" in done.decision.reason


def test_version_that_was_rolled_back_does_not_come_again_by_rule(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = champion_of(home)
    assert judged(home, monkeypatch).decision.verdict == "promoted"
    decide(home, champion, Decision("rolled back", "hand", "it was off"))
    again = judged(home, monkeypatch)
    assert again.decision.verdict == "refused"
    assert "promote it by hand" in decisions(home)[-1]["reason"]
    assert champion_for(home.engine, GRID) == champion


def test_no_training_while_another_challenger_is_on_probation(
    make_gate: MakeGate, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_gate(probation_nights=3)
    champion_of(home)
    on_probation(home)
    monkeypatch.setattr(versions, "fit_bundle", lambda *_, **__: pytest.fail("it trained"))
    with pytest.raises(gate.ProbationRunning, match="bts probation --end"):
        challenge(home, Origin(ORIGIN, "live", "the test says so"), None)


def test_challenger_that_cannot_forecast_is_refused_with_the_reason(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = champion_of(home)
    forecast = gate.forecast_panel

    def breaks(home: Home, panel: Panel, bundle: Bundle, recalibration: Any) -> Any:
        if bundle.digest != champion.bundle_digest:
            raise FloatingPointError("no number")
        return forecast(home, panel, bundle, recalibration)

    monkeypatch.setattr(gate, "forecast_panel", breaks)
    done = judged(home, monkeypatch)
    assert done.decision.verdict == "refused"
    assert decisions(home)[-1]["reason"] == "it could not forecast tonight: FloatingPointError: no number"


def test_first_version_is_champion_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    done = judged(home, monkeypatch)
    assert (done.champion, done.decision.verdict) == (None, "promoted")
    assert champion_for(home.engine, GRID) == done.challenger
    (decision,) = decisions(home)
    assert (decision["reason"], decision["evidence"], decision["champion_version_id"]) == (
        "the first version for this grid", [], None,
    )  # fmt: skip


def test_champion_trained_again_is_refused_without_a_decision(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = judged(home, monkeypatch)
    again = judged(home, monkeypatch)
    assert (again.decision.verdict, again.decision_id, again.challenger) == ("refused", None, first.challenger)
    assert again.decision.reason == "it is the champion: same data, settings and seed"
    assert len(decisions(home)) == 1


def test_challenger_whose_champion_is_gone_is_one_line_and_no_decision(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = champion_of(home)
    for file in (home.models.cache / champion.bundle_digest).iterdir():
        file.write_bytes(b"")
    with pytest.raises(ModelStoreError, match="its bytes have changed"):
        judged(home, monkeypatch)
    assert len(decisions(home)) == 1


# With nights of probation


@pytest.mark.parametrize("told", [scores(BETTER), scores({LOAD: FAR_MAE})], ids=["lower_error", "no better"])
def test_probation_begins_only_where_the_rules_let_it(
    make_gate: MakeGate, monkeypatch: pytest.MonkeyPatch, told: pd.DataFrame
) -> None:
    home = make_gate(probation_nights=3)
    champion = champion_of(home)
    done = judged(home, monkeypatch, told)
    assert champion_for(home.engine, GRID) == champion
    if not failed(home):
        assert done.decision.verdict == decisions(home)[-1]["verdict"] == "probation"
        probation = running(home)
        assert probation is not None
        assert (probation.challenger, probation.nights, probation.share) == (done.challenger, 3, 0.0)
    else:
        assert (done.decision.verdict, running(home)) == ("refused", None)


def on_probation(home: Home, default: str = NEAR, nights: int = 2, share: float = 0.0) -> probations.Probation:
    version = entered(home, 2, default, ORIGIN)
    return begin(home, version, nights, share, Decision("probation", "hand", "a test"))


def nights_beside(home: Home, probation: probations.Probation, count: int) -> None:
    champion = champion_for(home.engine, GRID)
    assert champion is not None
    for hours in range(count):
        batch = night(home, champion, hours, probation.canary)
        with what_is_given(home, Origin(ORIGIN + hours * HOUR, "live", "the test says so")) as given:
            probations.run_beside(home, probation, given, batch, None)


def asked_for_the_end(home: Home, probation: probations.Probation) -> JudgedChallenger | None:
    with what_is_given(home, Origin(ORIGIN + HOUR, "live", "the test says so")) as given:
        return end_of_probation(home, probation, given, "a run")


def test_its_end_is_decided_once_its_nights_have_come_true(make_gate: MakeGate, tmp_path: Path) -> None:
    home = make_gate(hours=25)
    champion = champion_of(home)
    probation = on_probation(home)
    nights_beside(home, probation, 1)
    assert asked_for_the_end(home, probation) is None
    nights_beside(home, probation, 2)
    for hours in (29, 30):  # until which the first night, and no other, has come true
        take_in_until(home, tmp_path / "landing", hours)
        assert asked_for_the_end(home, probation) is None
    assert running(home) == probation
    take_in_until(home, tmp_path / "landing", 31)
    done = asked_for_the_end(home, probation)
    assert done is not None
    assert (done.decision.verdict, running(home)) == ("promoted", None)
    assert champion_for(home.engine, GRID) == probation.challenger
    assert (done.champion, done.trained) == (champion, None)
    asked = evidence(home)
    assert list(asked) == ["made_every_batch", *RULES[1:]]
    assert asked["made_every_batch"]["words"] == "it made its batch on 2 of 2 nights"
    # By hand: 3.5 to 24 off, and a twentieth of a spread of the root of 35 twelfths more, is less than a fifth.
    assert (NEAR_MAE + 0.086) / (FAR_MAE + 0.086) < 0.2
    assert asked["lower_error"]["figures"]["ratio"] == pytest.approx(0.2)
    assert set(done.errors["nights"]) == {2}


@pytest.mark.parametrize("fault", ["worse", "a night failed", "every night failed"])
def test_its_end_may_refuse_it(home: Home, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = champion_of(home, NEAR if fault == "worse" else FAR)
    probation = on_probation(home, FAR if fault == "worse" else NEAR)
    if fault != "worse":
        with monkeypatch.context() as patch:
            patch.setattr(probations, "forecast_beside", lambda *_: 1 / 0)
            nights_beside(home, probation, 1 if fault == "a night failed" else 2)
    if fault != "every night failed":
        batch = night(home, champion, 1)
        with what_is_given(home, Origin(ORIGIN + HOUR, "live", "the test says so")) as given:
            probations.run_beside(home, probation, given, batch, None)
        if fault == "worse":
            nights_beside(home, probation, 2)
    done = asked_for_the_end(home, probation)
    assert done is not None
    assert (done.decision.verdict, champion_for(home.engine, GRID)) == ("refused", champion)
    assert running(home) is None
    expected = {
        "worse": ["lower_error", "no_parameter_worse", "interval_coverage"],
        "a night failed": ["made_every_batch"],
        "every night failed": ["made_every_batch", "lower_error"],
    }
    assert failed(home) == expected[fault]
    (outcome,) = rows_of(home, "SELECT outcome FROM bts.probation")
    assert outcome["outcome"] == f"refused: {done.decision.reason}"


def test_what_a_canary_served_itself_does_not_make_it_look_alike(make_gate: MakeGate) -> None:
    home = make_gate(max_forecast_divergence=1.0)
    champion_of(home)
    probation = on_probation(home, share=0.7)
    nights_beside(home, probation, 2)
    (served,) = rows_of(home, "SELECT count(DISTINCT station_id) FROM bts.forecast_ledger WHERE model_version_id > 0")
    assert served["count"] >= len(STATIONS) / 2
    done = asked_for_the_end(home, probation)
    assert done is not None
    assert "forecast_divergence" in failed(home)
    assert evidence(home)["forecast_divergence"]["figures"]["far_share"] == 1.0


def test_probation_ended_by_hand_meanwhile_promotes_nobody(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    champion = champion_of(home)
    probation = on_probation(home)
    nights_beside(home, probation, 2)
    probations.end(home, probation, Decision("ended", "hand", "enough"))
    with pytest.raises(probations.ProbationError, match="over already"):
        asked_for_the_end(home, probation)
    assert champion_for(home.engine, GRID) == champion


# What MLflow keeps of it


def artifacts(home: Home, version: ModelVersion) -> dict[str, bytes]:
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(run_id=version.mlflow_run_id, artifact_path="challenge"))
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.usefixtures("with_mlflow")
def test_report_of_a_decision_is_with_its_run(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    champion_of(home)
    done = judged(home, monkeypatch, scores({LOAD: FAR_MAE, OTHER: FAR_MAE}))
    version = done.challenger
    assert version.registry_version is not None
    assert (home.models.pointed(CHALLENGER), home.models.pointed(CHAMPION)) == (None, None)
    run = mlflow.MlflowClient(home.mlflow_tracking_uri).get_run(version.mlflow_run_id)
    told = {name: value for name, value in run.data.tags.items() if name.startswith("decision.")}
    assert told == {f"decision.{done.decision_id}": f"refused by gate: {done.decision.reason}"}
    kept = artifacts(home, version)
    pictures = {"errors.png", "differences.png", "worst_series.png"}
    assert set(kept) == pictures | {
        "errors.csv", "differences.csv", "differences_by_parameter.csv", "differences_by_station.csv",
    }  # fmt: skip
    assert all(kept[name] == done.pictures[name] and kept[name].startswith(b"\x89PNG") for name in pictures)
    assert kept["differences_by_parameter.csv"].decode().splitlines()[0] == "parameter_id,series,median,greatest"
    assert len(kept["errors.csv"].decode().splitlines()) == 1 + 13
    decide(home, version, Decision("promoted", "hand", "all the same"))
    assert (home.models.pointed(CHALLENGER), home.models.pointed(CHAMPION)) == (None, version.registry_version)


@pytest.mark.usefixtures("with_mlflow")
def test_decision_stands_though_mlflow_is_down(
    make_gate: MakeGate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    home = make_gate(mlflow_tracking_uri="http://127.0.0.1:9")
    champion_of(home)
    drawn: list[int] = []
    monkeypatch.setattr(comparison_plots, "errors", lambda ratio, *_: drawn.append(len(ratio)) or b"drawn")
    with caplog.at_level(logging.WARNING):
        done = judged(home, monkeypatch)
    assert (done.decision.verdict, champion_for(home.engine, GRID)) == ("promoted", done.challenger)
    assert done.challenger.mlflow_run_id is None
    assert "MLflow at http://127.0.0.1:9 failed" in caplog.text
    assert (drawn, done.pictures["errors.png"]) == ([13], b"drawn")

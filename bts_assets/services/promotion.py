"""The gate: a newly trained version asks to serve, rules answer, and the decision is kept with its reasons."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final

import pandas as pd
import sqlalchemy as sa

from bts_assets.contracts.errors import BtsError
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.progress import OnProgress
from bts_assets.forecasting import promotion_rules
from bts_assets.forecasting.batch import Batch
from bts_assets.forecasting.promotion_rules import Rule
from bts_assets.forecasting.recalibration import Recalibration
from bts_assets.plots.style import attempted
from bts_assets.services import probation as probations
from bts_assets.services.champions import decide
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import Given, InputPart, what_is_given
from bts_assets.services.nightly import forecast_panel
from bts_assets.services.probation import Probation
from bts_assets.services.promotion_report import GateEvidence, draw, keep_report, series_of
from bts_assets.services.training import Trained, train
from bts_assets.storage.decisions import Decision, Verdict
from bts_assets.storage.mlflow_registry import CHALLENGER, ModelStoreError, OutdatedModel
from bts_assets.storage.model_versions import ModelVersion, champion_for
from bts_assets.storage.observations import observed_span
from bts_assets.storage.series_names import station_titles

log = logging.getLogger(__name__)


class ProbationRunning(BtsError):
    """A challenger runs beside the champion already, and its nights are not over."""


@dataclass(frozen=True)
class JudgedChallenger:
    """A challenger, what was decided about it, and the report. champion: the version that it was compared with.

    errors: as `promotion_rules.paired_errors`; apart: as `promotion_rules.apart`; pictures: file name -> PNG.
    trained: None where it had been trained before.
    """

    challenger: ModelVersion
    champion: ModelVersion | None
    decision: Decision
    decision_id: int | None
    trained: Trained | None = None
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    apart: pd.DataFrame = field(default_factory=pd.DataFrame)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def first_champion(
    home: Home, issued_at: datetime, run_id: str | None, on_progress: OnProgress | None = None
) -> Trained:
    """Train a version where none with an LSTM serves this grid; it serves at once, unless its training was truncated.

    A training that was cut short by its ceiling does not take the place of a champion.
    """
    trained = train(home, issued_at, run_id, on_progress)
    champion, version = champion_for(home.engine, home.settings.grid), trained.version
    old = champion is not None and outdated(home, champion)
    if champion is not None and trained.fitted.truncated and not old:
        log.warning("training met BTS_TRAINING_CEILING; its version is kept, and the champion before it serves on")
    elif champion is None or champion.model_version_id != version.model_version_id:
        first = "no version with an LSTM yet" if version.lstm_failure or champion else "the first version for this grid"
        reason = "the champion's bundle is of a format that this code does not read" if old else first
        decide(home, version, Decision("promoted", "gate", reason, run_id=run_id))
    return trained


def outdated(home: Home, version: ModelVersion) -> bool:
    """Whether a version was written by other code, in a format that this code does not read."""
    try:
        home.models.load(version.bundle_digest, version.mlflow_model_uri)
    except OutdatedModel:
        return True
    except ModelStoreError:
        pass  # it is told by whoever needs the bundle
    return False


def challenge(
    home: Home,
    origin: Origin,
    run_id: str | None,
    on_progress: OnProgress | None = None,
    because: str | None = None,
) -> JudgedChallenger:
    """Train a challenger on what is known at an origin, and let the rules decide whether it serves from now on.

    because: what asked for it; it is kept with the decision and the MLflow run, and decides nothing.

    With BTS_PROBATION_NIGHTS it runs in shadow first. Where nothing serves that this code reads, it serves at once.

    Raises:
        ModelStoreError: if the champion's bundle is gone or altered; nothing is trained then.
        ProbationRunning: if another challenger's nights are not over.
    """
    champion = champion_for(home.engine, home.settings.grid)
    if champion is None or outdated(home, champion):
        trained = first_champion(home, origin.issued_at, run_id, on_progress)
        reason = "the champion's bundle is of another format" if champion else "the first version for this grid"
        decision = Decision("promoted", "gate", reason, run_id=run_id)
        return JudgedChallenger(trained.version, None, decision, None, trained)
    home.models.load(champion.bundle_digest, champion.mlflow_model_uri)  # before what may be an hour of training
    busy = probations.running(home) if home.settings.probation_nights else None
    if busy is not None:
        raise ProbationRunning(
            f"model version {busy.challenger.model_version_id} is on probation: wait for its nights, or end it with"
            " `bts probation --end`"
        )
    trained = train(home, origin.issued_at, run_id, on_progress, because)
    version = trained.version
    # Training takes its time: judged is beside whoever serves by now.
    champion = champion_for(home.engine, home.settings.grid) or champion
    if version.model_version_id == champion.model_version_id:
        decision = Decision("refused", "gate", "it is the champion: same data, settings and seed", run_id=run_id)
        return JudgedChallenger(version, champion, decision, None, trained)
    if _was_rolled_back(home, version):
        reason = _asked("it served before and was rolled back: promote it by hand", because)
        decision = Decision("refused", "gate", reason, run_id=run_id)
        return JudgedChallenger(version, champion, decision, decide(home, version, decision), trained)
    _name_challenger(home, version)
    with what_is_given(home, origin) as given:
        try:
            beside = _forecast_beside(home, given, version, champion)
        except _CannotForecast as error:
            rules = [Rule("no_new_fallbacks", False, str(error), {})]
            return _judge(home, version, champion, GateEvidence(rules), given, run_id, trained, because=because)
        bundle, fitted = home.models.load(champion.bundle_digest, champion.mlflow_model_uri), trained.fitted
        errors, note = promotion_rules.compared(
            fitted.scores, trained.panel, home.catalogue, bundle, champion.training_end, fitted.scored_steps
        )
        rules = [
            _trained_well(version),
            _with_note(promotion_rules.lower_error(errors, home.settings.promotion_margin), note),
            *_further_rules(home, errors, beside.apart),
            promotion_rules.no_new_fallbacks(beside.own, beside.champions),
        ]
        evidence = GateEvidence(rules, errors, beside.apart, beside.worst)
        return _judge(home, version, champion, evidence, given, run_id, trained, because=because)


class _CannotForecast(BtsError):
    """A challenger that fails, in words."""


@dataclass(frozen=True)
class _Beside:
    """Two versions' forecasts of one night. own, champions: status of every series; apart: as
    `promotion_rules.apart`; worst: as `GateEvidence` has it.
    """

    own: pd.DataFrame
    champions: pd.DataFrame
    apart: pd.DataFrame
    worst: tuple[pd.DataFrame, pd.DataFrame]


def _forecast_beside(home: Home, given: Given, version: ModelVersion, champion: ModelVersion) -> _Beside:
    """Forecast part by part with both: what is kept of each series is how far the two are apart."""
    with given.each(partial(_both_of_part, version, champion)) as both:
        parts = list(both)
    apart = promotion_rules.apart(pd.concat([means for means, _ in parts]))
    # Made once more, of a few: a series is forecast alone as it is in company.
    worst = _both(home, given.panel_of(series_of(apart)), version, champion, given.recalibration)
    mine, theirs = (pd.concat(kept, ignore_index=True) for kept in zip(*(s for _, s in parts), strict=True))
    return _Beside(mine, theirs, apart, (worst[0].to_frame(), worst[1].to_frame()))


def _both_of_part(
    version: ModelVersion, champion: ModelVersion, home: Home, part: InputPart
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """How far the two versions' forecasts of a part are apart, and both versions' statuses."""
    batches = _both(home, part.panel, version, champion, part.recalibration)
    return promotion_rules.means_apart(*batches), [batch.ledger[["status"]] for batch in batches]


def _both(
    home: Home, panel: Panel, version: ModelVersion, champion: ModelVersion, recalibration: Recalibration | None
) -> tuple[Batch, Batch]:
    was = home.models.load(champion.bundle_digest, champion.mlflow_model_uri)
    with _as_reason():
        own = home.models.load(version.bundle_digest, version.mlflow_model_uri)
        batch = forecast_panel(home, panel, own, recalibration)
    return batch, forecast_panel(home, panel, was, recalibration)


@contextmanager
def _as_reason() -> Iterator[None]:
    """Whatever a challenger fails with is a reason not to let it serve."""
    try:
        yield
    except Exception as error:
        why = f"it could not forecast tonight: {type(error).__name__}: {error}"
        raise _CannotForecast(why.splitlines()[0]) from error


def end_of_probation(home: Home, probation: Probation, given: Given, run_id: str | None) -> JudgedChallenger | None:
    """Decide about a challenger whose nights are over and have come true; None: not yet.

    The rules are those of `challenge`, on the scored nights that it ran beside the champion.
    """
    champion = champion_for(home.engine, home.settings.grid)
    with home.engine.connect() as connection:
        span = observed_span(connection, home.settings.grid)
    nights = probations.nights_of(home, probation)
    ripe = nights[nights["ends_at"] <= span.end] if span else nights[:0]
    if champion is None or len(ripe) < probation.nights:
        return None
    failed = ripe[ripe["failure"].notna()]
    errors = probations.errors_of(home, probation, ripe["batch_id"].tolist())
    words = f"it made its batch on {len(ripe) - len(failed)} of {len(ripe)} nights"
    rules = [
        Rule("made_every_batch", failed.empty, words, {"nights": len(ripe), "failed": len(failed)}),
        promotion_rules.lower_error(errors, home.settings.promotion_margin),
    ]
    newest = nights.dropna(subset="shadow_batch_id")
    if newest.empty:
        evidence = GateEvidence(rules, errors)
    else:
        numbers = [int(newest[name].iloc[-1]) for name in ("shadow_batch_id", "batch_id")]
        apart = probations.apart_of(home, numbers[1], numbers[0])
        with home.engine.connect() as connection:
            own, champions = (
                pd.DataFrame(connection.execute(_STATUS, {"batch": number}).mappings().all()) for number in numbers
            )
            drawn = [pd.read_sql(_ROWS, connection, params=_listed(apart) | {"batch": n}) for n in numbers]
        rules += [*_further_rules(home, errors, apart), promotion_rules.no_new_fallbacks(own, champions)]
        evidence = GateEvidence(rules, errors, apart, (drawn[0], drawn[1]))
    return _judge(home, probation.challenger, champion, evidence, given, run_id, None, probation)


def _listed(apart: pd.DataFrame) -> dict[str, list[int]]:
    return {"stations": [s for s, _ in series_of(apart)], "parameters": [p for _, p in series_of(apart)]}


_STATUS: Final = sa.text("SELECT status FROM bts.forecast_ledger WHERE batch_id = :batch")
_ROWS: Final = sa.text("""
    SELECT f.* FROM bts.forecast AS f
    JOIN unnest(CAST(:stations AS bigint[]), CAST(:parameters AS int[])) AS w (station_id, parameter_id)
        USING (station_id, parameter_id)
    WHERE f.batch_id = :batch
""")


def _judge(
    home: Home,
    version: ModelVersion,
    champion: ModelVersion,
    evidence: GateEvidence,
    given: Given,
    run_id: str | None,
    trained: Trained | None,
    probation: Probation | None = None,
    because: str | None = None,
) -> JudgedChallenger:
    failed = [rule for rule in evidence.rules if not rule.passed]
    nights = 0 if probation else home.settings.probation_nights
    reason = "; ".join(rule.words for rule in failed or evidence.rules if failed or rule.name == "lower_error")
    reason = _asked(reason, because)
    verdict: Verdict = "refused" if failed else "probation" if nights else "promoted"
    decision = Decision(verdict, "gate", reason, evidence.rules, run_id)
    # Drawn before anything is decided: what cannot be drawn must not come after a promotion.
    shown = series_of(evidence.apart)
    with home.engine.connect() as connection:
        stations = station_titles(connection, (station for station, _ in shown))
    beside = f"challenger: version {version.model_version_id}, champion: version {champion.model_version_id}"
    drawn = attempted(draw, given.panel_of(shown), home.catalogue, stations, evidence, beside) or {}
    decision_id = None
    if probation is not None:
        probations.end(home, probation, decision, champion)
    elif verdict == "probation":
        probations.begin(home, version, nights, 0.0, decision)
    else:
        decision_id = decide(home, version, decision, champion)
    judged = JudgedChallenger(version, champion, decision, decision_id, trained, evidence.errors, evidence.apart, drawn)
    keep_report(home, version.mlflow_run_id, evidence, drawn)
    return judged


def _asked(reason: str, because: str | None) -> str:
    return f"{reason}; trained because of {because}" if because else reason


def _further_rules(home: Home, errors: pd.DataFrame, apart: pd.DataFrame) -> list[Rule]:
    return [
        promotion_rules.no_parameter_worse(errors, home.catalogue),
        promotion_rules.interval_coverage(errors),
        promotion_rules.forecast_divergence(apart, home.settings.max_forecast_divergence, home.catalogue),
    ]


def _trained_well(version: ModelVersion) -> Rule:
    why = "its training was cut short by BTS_TRAINING_CEILING" if version.truncated else version.lstm_failure
    return Rule("trained_well", why is None, why or "its training gave a sound LSTM", {})


def _with_note(rule: Rule, note: str) -> Rule:
    return Rule(rule.name, rule.passed, rule.words + note, rule.figures)


def _was_rolled_back(home: Home, version: ModelVersion) -> bool:
    """Whether a version that is not champion was: by rule alone it does not come again."""
    with home.engine.connect() as connection:
        return bool(connection.scalar(_SERVED_ONCE, {"version": version.model_version_id}))


_SERVED_ONCE: Final = sa.text("SELECT EXISTS (SELECT FROM bts.champion WHERE model_version_id = :version)")


def _name_challenger(home: Home, version: ModelVersion) -> None:
    if version.registry_version is None:
        return
    try:
        home.models.point(CHALLENGER, version.registry_version)
    except ModelStoreError as error:
        log.warning("%s; the challenger has no alias", error)

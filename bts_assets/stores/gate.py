"""The gate: a newly trained version asks to serve, rules answer, and the decision is kept with its reasons."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pandas as pd
import sqlalchemy as sa

from bts_assets import pictures, pictures_comparison
from bts_assets.contracts.catalogue import Catalogue
from bts_assets.contracts.origin import Origin
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.schemas import Forecasts, validate
from bts_assets.forecasting import comparison
from bts_assets.forecasting.comparison import Rule
from bts_assets.stores import probations
from bts_assets.stores.batches import Given, forecast, what_is_given
from bts_assets.stores.champions import Decision, Verdict, decide
from bts_assets.stores.forecasts import QUANTILE_COLUMNS, read_batch
from bts_assets.stores.home import Home
from bts_assets.stores.models import CHALLENGER, ModelStoreError, OutdatedModel
from bts_assets.stores.observations import observed_span
from bts_assets.stores.probations import Probation
from bts_assets.stores.versions import ModelVersion, Trained, champion_for, train

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

#: The series whose forecasts differ most are drawn: so many of them.
_DRAWN = 6


@dataclass(frozen=True)
class Judged:
    """A challenger, what was decided about it, and the report. champion: the version that it was compared with.

    errors: as `comparison.paired_errors`; apart: as `comparison.differences`; pictures: file name -> PNG. trained: None
    where it had been trained before.
    """

    challenger: ModelVersion
    champion: ModelVersion | None
    decision: Decision
    decision_id: int | None
    trained: Trained | None = None
    errors: pd.DataFrame = field(default_factory=pd.DataFrame)
    apart: pd.DataFrame = field(default_factory=pd.DataFrame)
    pictures: Mapping[str, bytes] = field(default_factory=dict)


def first_champion(home: Home, issued_at: datetime, run_id: str | None, on_progress: Progress | None = None) -> Trained:
    """Train a version where none with an LSTM serves this grid; it serves at once, unless it is the worse for wear.

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


def challenge(home: Home, origin: Origin, run_id: str | None, on_progress: Progress | None = None) -> Judged:
    """Train a challenger on what is known at an origin, and let the rules decide whether it serves from now on.

    With BTS_PROBATION_NIGHTS it runs in shadow first. Where nothing serves yet it is champion at once.
    """
    champion = champion_for(home.engine, home.settings.grid)
    if champion is None:
        trained = first_champion(home, origin.issued_at, run_id, on_progress)
        decision = Decision("promoted", "gate", "the first version for this grid", run_id=run_id)
        return Judged(trained.version, None, decision, None, trained)
    trained = train(home, origin.issued_at, run_id, on_progress)
    version = trained.version
    if version.model_version_id == champion.model_version_id:
        decision = Decision("refused", "gate", "it is the champion: same data, settings and seed", run_id=run_id)
        return Judged(version, champion, decision, None, trained)
    _name_challenger(home, version)
    origins, note = _origins(trained, champion)
    errors = _errors(home, trained, champion, origins)
    given = what_is_given(home, origin)
    batches = [forecast(home, given, each) for each in (version, champion)]
    frames = [validate(Forecasts, batch.to_frame()) for batch in batches]
    apart = comparison.differences(*frames)
    rules = [
        _trained_well(version),
        _with_note(comparison.better(errors, home.settings.promotion_margin), note),
        *_further_rules(home, errors, apart),
        comparison.sound(batches[0].ledger, batches[1].ledger),
    ]
    return _judge(home, version, champion, rules, given, frames, errors, apart, run_id, trained)


def end_of_probation(home: Home, probation: Probation, given: Given, run_id: str | None) -> Judged | None:
    """Decide about a challenger whose nights are over and have come true; None: not yet.

    The rules are those of `challenge`, on what came of the nights that it ran beside the champion.
    """
    champion = champion_for(home.engine, home.settings.grid)
    with home.engine.connect() as connection:
        span = observed_span(connection, home.settings.grid)
    nights = probations.nights_of(home, probation)
    ripe = nights[nights["ends_at"] <= span[1]] if span else nights[:0]
    if champion is None or len(ripe) < probation.nights:
        return None
    failed = ripe[ripe["failure"].notna()]
    errors = probations.errors_of(home, probation, ripe["batch_id"].tolist())
    newest = nights.dropna(subset="shadow_batch_id").iloc[-1:]
    with home.engine.connect() as connection:
        numbers = [int(newest[name].iloc[0]) for name in ("shadow_batch_id", "batch_id")] if len(newest) else []
        frames = [read_batch(connection, number) for number in numbers]
        ledgers = [pd.DataFrame(connection.execute(_STATUS, {"batch": n}).mappings().all()) for n in numbers]
    apart = pd.DataFrame(columns=[*comparison.SERIES, "distance"])
    if frames:
        # Where the challenger served itself (canary) there is no forecast of the champion's that could differ.
        own = ledgers[1].loc[ledgers[1]["model_version_id"].isna(), comparison.SERIES]
        apart = comparison.differences(frames[0], frames[1].merge(own, on=comparison.SERIES))
    words = f"it made its batch on {len(ripe) - len(failed)} of {len(ripe)} nights"
    rules = [
        Rule("made_every_batch", failed.empty, words, {"nights": len(ripe), "failed": len(failed)}),
        comparison.better(errors, home.settings.promotion_margin),
        *_further_rules(home, errors, apart),
        *([comparison.sound(*ledgers)] if ledgers else []),
    ]
    shown = frames or [pd.DataFrame(), pd.DataFrame()]
    return _judge(home, probation.challenger, champion, rules, given, shown, errors, apart, run_id, None, probation)


_STATUS = sa.text(
    "SELECT station_id, parameter_id, status, model_version_id FROM bts.forecast_ledger WHERE batch_id = :batch"
)


def _judge(
    home: Home,
    version: ModelVersion,
    champion: ModelVersion,
    rules: list[Rule],
    given: Given,
    frames: list[pd.DataFrame],
    errors: pd.DataFrame,
    apart: pd.DataFrame,
    run_id: str | None,
    trained: Trained | None,
    probation: Probation | None = None,
) -> Judged:
    failed = [rule for rule in rules if not rule.passed]
    nights = 0 if probation else home.settings.probation_nights
    reason = "; ".join(rule.words for rule in failed) if failed else next(r.words for r in rules if r.name == "better")
    verdict: Verdict = "refused" if failed else "probation" if nights else "promoted"
    decision = Decision(verdict, "gate", reason, rules, run_id)
    decision_id = None
    if probation is not None:
        probations.end(home, probation, decision)
    elif verdict == "probation":
        probations.begin(home, version, nights, 0.0, decision)
    else:
        decision_id = decide(home, version, decision)
    drawn = _pictures(given.panel, home.catalogue, frames, errors, apart)
    judged = Judged(version, champion, decision, decision_id, trained, errors, apart, drawn)
    _report(home, judged)
    return judged


def _further_rules(home: Home, errors: pd.DataFrame, apart: pd.DataFrame) -> list[Rule]:
    return [
        comparison.no_parameter_worse(errors),
        comparison.covered(errors),
        comparison.differ_within(apart, home.settings.differential_bound),
    ]


def _trained_well(version: ModelVersion) -> Rule:
    why = "its training was cut short by BTS_TRAINING_CEILING" if version.truncated else version.lstm_failure
    return Rule("trained_well", why is None, why or "its training gave a sound LSTM", {})


def _with_note(rule: Rule, note: str) -> Rule:
    return Rule(rule.name, rule.passed, rule.words + note, rule.figures)


def _origins(trained: Trained, champion: ModelVersion) -> tuple[list[pd.Timestamp], str]:
    """The held-out origins that both versions are compared on, and what must be said of them.

    Those that the champion was not trained on; where there are none all of them, which favours the champion.
    """
    scores = trained.fitted.scores
    origins = sorted(scores.loc[scores["candidate"] == "served", "origin"].unique()) if len(scores) else []
    stamps = [pd.Timestamp(o).tz_localize("UTC") if pd.Timestamp(o).tz is None else pd.Timestamp(o) for o in origins]
    unseen = [origin for origin in stamps if origin >= champion.training_end]
    if unseen or not stamps:
        return unseen, f" (at {len(unseen)} past origins)"
    return stamps, f" (at {len(stamps)} past origins, all of which the champion was trained on, which favours it)"


def _errors(home: Home, trained: Trained, champion: ModelVersion, origins: list[pd.Timestamp]) -> pd.DataFrame:
    """Both versions' errors on the same origins. The challenger's scores are those of its training: of the LSTM before
    it saw the held-out end, mixed and calibrated by the other origins.
    """
    scores = trained.fitted.scores
    own = scores[scores["candidate"] == "served"]
    bundle = home.models.load(champion.bundle_digest, champion.mlflow_model_uri)
    # Enough of the past for the champion's context, which may reach back further than the training data.
    champions = comparison.scored_again(bundle, trained.panel, home.catalogue, origins)
    return comparison.paired_errors(own, champions)


def _name_challenger(home: Home, version: ModelVersion) -> None:
    if version.registry_version is None:
        return
    try:
        home.models.point(CHALLENGER, version.registry_version)
    except ModelStoreError as error:
        log.warning("%s; the challenger has no alias", error)


def _pictures(
    panel: Panel, catalogue: Catalogue, frames: list[pd.DataFrame], errors: pd.DataFrame, apart: pd.DataFrame
) -> dict[str, bytes]:
    drawn = {}
    if len(errors):
        drawn["errors.png"] = pictures_comparison.errors(comparison.ratios(errors), errors["parameter_id"], catalogue)
    if len(apart):
        drawn["differences.png"] = pictures_comparison.differences(apart, catalogue)
        drawn["worst_series.png"] = _worst(panel, catalogue, frames, apart)
    return drawn


def _worst(panel: Panel, catalogue: Catalogue, frames: list[pd.DataFrame], apart: pd.DataFrame) -> bytes:
    """The series whose forecasts differ most: the challenger's intervals, and the champion's median."""
    shown = []
    indexed = [frame.set_index(comparison.SERIES).sort_index() for frame in frames]
    for station, parameter_id, distance in apart[[*comparison.SERIES, "distance"]].head(_DRAWN).itertuples(index=False):
        parameter = catalogue.of(int(parameter_id))
        row = (panel.station_id == station) & (panel.parameter_id == parameter_id)
        own, champions = (frame.loc[(station, parameter_id)].sort_values("step_ahead") for frame in indexed)
        shown.append(
            pictures.Forecast(
                title=f"{parameter.name}, station {station}: {distance:.1f} widths apart",
                unit=parameter.unit,
                step=panel.grid.step,
                issued_at=own["issued_at"].iloc[0].to_pydatetime(),
                history=panel.values[row][0][: panel.steps - (panel.end - own["issued_at"].iloc[0]) // panel.grid.step],
                quantiles=own[list(QUANTILE_COLUMNS)].to_numpy(),
                truth=champions["q50"].to_numpy(),
                truth_is="the champion's median",
            )
        )
    return pictures.forecasts(shown)


def _report(home: Home, judged: Judged) -> None:
    """The tables and pictures of a decision beside the challenger's MLflow run."""
    run = judged.challenger.mlflow_run_id
    if run is None:
        return
    tables = {"errors.csv": judged.errors, "differences.csv": judged.apart}
    for by in ("parameter_id", "station_id"):
        if len(judged.apart):
            tables[f"differences_by_{by.removesuffix('_id')}.csv"] = comparison.summed_up(
                judged.apart, by
            ).reset_index()
    files = {name: frame.to_csv(index=False).encode() for name, frame in tables.items()} | dict(judged.pictures)
    try:
        home.models.add_files(run, files, "challenge")
    except ModelStoreError as error:
        log.warning("%s; the report of the decision is not in MLflow, the decision is in bts.model_decision", error)

"""The assets `challenger_model`, trained and judged, and `challenger_forecasts`, its nights beside the champion."""

from collections.abc import Callable
from typing import Any, Final

import dagster as dg
import pandas as pd

from bts_assets import progress
from bts_assets.defs.grouped_series import grouped_series
from bts_assets.defs.measured import measured
from bts_assets.defs.night import Night
from bts_assets.defs.retry import retried_once
from bts_assets.defs.station_forecasts import station_forecasts
from bts_assets.defs.translate import check_spec, mlflow_run, tag_run
from bts_assets.forecasting.promotion_rules import summed_up
from bts_assets.plots import forecast as forecast_plots
from bts_assets.services import probation as probations
from bts_assets.services.data_profile import describe_trainings
from bts_assets.services.home import Home
from bts_assets.services.known_at_origin import what_is_given
from bts_assets.services.promotion import JudgedChallenger, challenge, end_of_probation
from bts_assets.storage.series_names import station_titles

#: Tag of a run that evidence asked for: why.
REASON: Final = "bts/reason"

#: Rows that a table in Dagster shows at most.
_SHOWN: Final = 50

_RULES = dg.TableSchema(
    columns=[
        dg.TableColumn("rule", "string"),
        dg.TableColumn("passed", "bool"),
        dg.TableColumn("words", "string", "what it was judged by"),
    ]
)
_APART = dg.TableSchema(
    columns=[
        dg.TableColumn("series", "int"),
        dg.TableColumn("median", "float", "distance of the forecasts, in widths of the champion's 80 % interval"),
        dg.TableColumn("greatest", "float", "of its series"),
    ]
)

_NIGHTS = dg.TableSchema(
    columns=[
        dg.TableColumn("issued_at", "timestamp", "forecast origin, UTC"),
        dg.TableColumn("station_id", "int"),
        dg.TableColumn("parameter_id", "int"),
        dg.TableColumn("mae", "float", "the challenger's mean absolute error, in the parameter's unit"),
        dg.TableColumn("champion_mae", "float", "the champion's"),
    ]
)


@dg.asset(
    deps=[grouped_series],
    group_name="retraining",
    kinds={"tensorflow", "mlflow"},
    metadata={"dagster/column_schema": _RULES},
    check_specs=[
        check_spec(
            "passed_the_gate",
            "challenger_model",
            "every rule of promotion let it through",
            "the champion goes on serving; bts promote VERSION decides otherwise by hand",
        ),
    ],
)
@retried_once
def challenger_model(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """A version newly trained on what is known, and whether it serves from now on: bts.model_decision says why."""
    judged = challenge(night.home, night.origin, context.run.run_id, progress.report, context.run.tags.get(REASON))
    describe_trainings(night.home, context.run.run_id)
    tag_run(context, model_version=judged.challenger.model_version_id, verdict=judged.decision.verdict)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(judged.challenger.bundle_digest),
        metadata={"dagster/row_count": 1, **_told(night.home, judged)},
        check_results=[
            dg.AssetCheckResult(
                check_name="passed_the_gate",
                passed=judged.decision.verdict != "refused",
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"reason": judged.decision.reason},
            )
        ],
    )


@dg.asset(
    deps=[station_forecasts],
    group_name="nightly",
    kinds={"postgres"},
    op_tags={"dagster/priority": "-1"},
    metadata={"dagster/column_schema": _NIGHTS, "dagster/table_name": "bts.probation_score"},
    check_specs=[
        check_spec(
            "made_its_batch",
            "challenger_forecasts",
            "the challenger could forecast",
            "the champion's forecasts are served all the same; the run's log says why",
        ),
    ],
)
@retried_once
@measured
def challenger_forecasts(context: dg.AssetExecutionContext, night: Night) -> dg.MaterializeResult:
    """The batch of a challenger on probation, stored and scored, not served; and the decision when its nights end."""
    home = night.home
    probation = probations.running(home)
    if probation is None:
        return dg.MaterializeResult(
            data_version=dg.DataVersion("none"),
            metadata={"dagster/row_count": 0, "probation": "no challenger is on probation"},
            check_results=[dg.AssetCheckResult(check_name="made_its_batch", passed=True)],
        )
    batch_id = probations.batch_beside(home, night.origin.issued_at)
    with what_is_given(home, night.origin) as given:
        shadow = probations.run_beside(home, probation, given, batch_id, context.run.run_id)
        try:
            judged = end_of_probation(home, probation, given, context.run.run_id)
        except Exception as error:
            # The night is published: a decision that cannot be taken is asked for again by the next.
            judged = None
            context.log.warning("the gate could not decide: %s: %s", type(error).__name__, error)
    nights = probations.nights_of(home, probation)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{probation.probation_id} {shadow} {judged.decision.verdict if judged else ''}"),
        metadata={
            "dagster/row_count": len(nights),
            "probation_id": probation.probation_id,
            "model_version_id": probation.challenger.model_version_id,
            "nights": len(nights),
            "nights_planned": probation.nights,
            "share": probation.share,
            "batch_id": batch_id,
            **({"shadow_batch_id": shadow} if shadow else {}),
            **(_told(home, judged) if judged else {}),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="made_its_batch", passed=shadow is not None, severity=dg.AssetCheckSeverity.WARN
            )
        ],
    )


def _told(home: Home, judged: JudgedChallenger) -> dict[str, Any]:
    champion, decision = judged.champion, judged.decision
    rules = [dg.TableRecord({"rule": r.name, "passed": r.passed, "words": r.words}) for r in decision.rules]
    told = {
        "model_version_id": judged.challenger.model_version_id,
        "champion_version_id": champion.model_version_id if champion else None,
        "decision": decision.verdict,
        "reason": decision.reason,
        **mlflow_run(home.models, judged.challenger),
        "registry_version": judged.challenger.registry_version,
        "rules": dg.MetadataValue.table(rules, schema=_RULES),
        **{
            name.removesuffix(".png"): dg.MetadataValue.md(forecast_plots.as_markdown(png))
            for name, png in judged.pictures.items()
        },
    }
    if len(judged.apart):
        by_parameter, by_station = (summed_up(judged.apart, f"{by}_id").head(_SHOWN) for by in ("parameter", "station"))
        with home.engine.connect() as connection:
            stations = station_titles(connection, by_station.index)
        told |= {
            "differences_by_parameter": _apart("parameter", lambda key: home.catalogue.of(key).name, by_parameter),
            "differences_by_station": _apart("station", stations.__getitem__, by_station),
        }
    return {k: v for k, v in told.items() if v is not None}


def _apart(what: str, name: Callable[[int], str], table: pd.DataFrame) -> dg.TableMetadataValue:
    """A table as `promotion_rules.summed_up` makes it, with names in place of numbers."""
    records = [
        dg.TableRecord(
            {what: name(int(key)), "series": int(s), "median": round(float(m), 2), "greatest": round(float(g), 2)}
        )
        for key, s, m, g in table.itertuples()
    ]
    return dg.MetadataValue.table(
        records, schema=dg.TableSchema(columns=[dg.TableColumn(what, "string"), *_APART.columns])
    )

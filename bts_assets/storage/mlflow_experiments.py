"""MLflow's experiments as we make them: their names, what they say of themselves, the columns that they open with.

MLflow lists runs without any figure unless told which. A view that is shared in its pages is a tag of the experiment:
`mlflow.sharedViewState.<key>`, the state of the page as JSON, opened by `?viewStateShareKey=<key>`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

TRAININGS: Final = "bts-forecaster"
BACKTESTS: Final = "bts-backtests"
TUNING: Final = "bts-tuning"

#: The key of the view that each of them has.
COLUMNS: Final = "columns"
#: What an experiment or a run says of itself, in Markdown.
NOTE: Final = "mlflow.note.content"

_MODELS: Final = "attributes.`Models`"
_NOTES: Final = {
    TRAININGS: "One run per model version. `served/...` are the figures of what is published, the others those of each"
    " candidate alone, if it could forecast all of the `served/series` series. `bts versions` says what"
    " was decided about a version, and `bts promote` decides.",
    BACKTESTS: "One run per `bts backtest`, with the figures of what would have been served on past nights by what was"
    " known then; below it one run per candidate. `scored`: series and origins; only figures of as many compare.",
    TUNING: "One run per trial of `bts tune`. The loss is that of the LSTM alone; the least is written as settings.",
}
_OPENS_WITH: Final[Mapping[str, Sequence[str]]] = {
    TRAININGS: (
        *(_MODELS, "metrics.`served/median_mase`", "metrics.`served/wql`", "metrics.`served/coverage80`"),
        *("metrics.`served/series`", "metrics.`lstm/median_mase`", "metrics.`training/seconds`"),
        "params.`BTS_TRAINING_EFFORT`",
    ),
    BACKTESTS: (
        *("metrics.`mase`", "metrics.`median_mase`", "metrics.`wql`", "metrics.`coverage80`", "metrics.`scored`"),
        *("metrics.`seconds`", "params.`origins`", "params.`apart`"),
    ),
    TUNING: ("metrics.`loss`", "tags.`reason`"),
}


def tags_of(experiment: str) -> dict[str, str]:
    """The tags that an experiment of ours has from the beginning."""
    return {
        "mlflow.experimentKind": "custom_model_development",
        NOTE: _NOTES[experiment],
        f"mlflow.sharedViewState.{COLUMNS}": json.dumps({"selectedColumns": list(_OPENS_WITH[experiment])}),
    }

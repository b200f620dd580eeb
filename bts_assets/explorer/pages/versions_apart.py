"""What two model versions differ in: their data, settings, packages and backtests side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bts_assets.explorer.page import NotThere
from bts_assets.explorer.question import Question, Row
from bts_assets.explorer.request import PageRequest
from bts_assets.explorer.words import forecaster

_FACTS: Final = """
    SELECT topic, name, mine.value AS version, other.value AS beside, mine.value IS DISTINCT FROM other.value AS differs
    FROM (SELECT topic, name, value FROM bts.version_fact WHERE model_version_id = :version) AS mine
    FULL JOIN (SELECT topic, name, value FROM bts.version_fact WHERE model_version_id = :beside) AS other
        USING (topic, name)
    ORDER BY array_position(ARRAY['data', 'setting', 'training', 'package', 'machine', 'backtest'], topic), name
"""
#: Figures of a backtest that are shown of what is served, and what each is called.
_FIGURES: Final = {
    "median_mase": "median MASE", "mase": "mean MASE", "smape": "sMAPE, %", "coverage80": "80 % coverage",
    "coverage90": "90 % coverage", "series": "series",
}  # fmt: skip
_SHARES: Final = ("coverage80", "coverage90")
_DECIMALS: Final = {"series": 0, "smape": 1}
#: The facts of the data that come first; the others follow by name.
_FIRST: Final = ("training data from", "training data until", "length, hours", "series", "landing files up to entry")


@dataclass(frozen=True)
class Apart:
    """Two versions side by side. `facts`: all of them, whether they differ or not."""

    version: int
    beside: int
    question: Question
    facts: Sequence[Row]

    @property
    def differing(self) -> list[Row]:
        """What they were made from, as far as it is not the same."""
        shown = [row for row in self.facts if row["topic"] != "backtest" and row["differs"]]
        return sorted(shown, key=lambda row: _FIRST.index(row["name"]) if row["name"] in _FIRST else len(_FIRST))

    @property
    def same(self) -> int:
        """Facts of data, settings, packages and the like that are the same in both."""
        return len([row for row in self.facts if row["topic"] != "backtest"]) - len(self.differing)

    @property
    def served(self) -> list[dict[str, Any]]:
        """Figures of what each version would serve."""
        told = self._figures("served")
        return [
            {"name": name, "few": "", "share": figure in _SHARES, "decimals": _DECIMALS.get(figure, 3), **told[figure]}
            for figure, name in _FIGURES.items()
            if figure in told
        ]

    @property
    def candidates(self) -> list[dict[str, Any]]:
        """Median MASE of every candidate alone, the best of the first version first; last those of some series only."""
        names = {row["name"].split("/")[0] for row in self.facts if row["topic"] == "backtest"} - {"served"}
        every = self._figures("served").get("series", {})
        told = []
        for name in sorted(names):
            found = self._figures(name)
            some = [n for side, n in found.get("series", {}).items() if n and n < 0.9 * (every.get(side) or 0)]
            few = f"on {' and '.join(dict.fromkeys(f'{n:,.0f}' for n in some))} series" if some else ""
            if "median_mase" in found:
                told.append(
                    {"name": forecaster(name), "few": few, "share": False, "decimals": 3, **found["median_mase"]}
                )
        return sorted(told, key=lambda row: (row["few"] != "", row["version"] is None, row["version"] or 0.0))

    def _figures(self, candidate: str) -> dict[str, dict[str, float | None]]:
        found = {}
        for row in self.facts:
            name, _, figure = str(row["name"]).partition("/")
            if row["topic"] == "backtest" and name == candidate:
                found[figure] = {side: _number(row[side]) for side in ("version", "beside")}
        return found


def apart(request: PageRequest, versions: Sequence[Row]) -> Apart | None:
    """The two versions that an address asks for; unasked, the newest that does not serve, beside the champion.

    None: there are no two.

    Raises:
        NotThere: if there is no version of a number that is asked for.
    """
    known = [row["model_version_id"] for row in versions]
    champion = next((row["model_version_id"] for row in versions if row["role"] == "champion"), None)
    beside = request.whole("beside", champion if champion is not None else min(known, default=None))
    version = request.whole("version", next((number for number in known if number != beside), None))
    if version is None or beside is None:
        return None
    for number in (version, beside):
        if number not in known:
            raise NotThere(f"there is no model version {number} among the newest: choose one of the list")
    question = Question(
        f"what versions {version} and {beside} differ in", _FACTS, {"version": version, "beside": beside}
    )
    return Apart(version, beside, question, question.ask(request.connection))


def _number(text: Any) -> float | None:
    return None if text is None else float(text)

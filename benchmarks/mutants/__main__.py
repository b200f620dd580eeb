"""Breaks the code in one small way at a time and runs the tests that pass there, to see whether one of them notices.

python -m benchmarks.mutants                          a sample of each module, from where the last run stopped
python -m benchmarks.mutants --only landing.sums      all that is asked of one module
python -m benchmarks.mutants --again                  those that survived, with more generated examples
python -m benchmarks.mutants --table                  what came of it so far
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from benchmarks.mutants.modules import EQUIVALENT, ROOMS, Room
from benchmarks.mutants.operators import Mutant, mutants_of
from benchmarks.mutants.trials import Outcome, Trials

CHECKOUT: Final = Path(__file__).parents[2]
_MODULES: Final = [module for room in ROOMS.values() for module in room.modules]
_FEW_EXAMPLES: Final = 5
_MORE_EXAMPLES: Final = 30
#: What a test has noticed.
_KILLED: Final = ("killed", "hangs")


class State:
    """What became of each mutant, in a file: {module: {key: [what, by]}}."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._told: dict[str, dict[str, list[str]]] = json.loads(file.read_text("utf-8")) if file.exists() else {}

    def of(self, module: str) -> dict[str, list[str]]:
        return self._told.setdefault(module, {})

    def keep(self, module: str, key: str, outcome: Outcome) -> None:
        self.of(module)[key] = [outcome.what, outcome.by]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._told, indent=1), encoding="utf-8")
        new.replace(self._file)


def main() -> int:
    given = _arguments()
    state = State(given.state)
    chosen = given.only or _MODULES
    drawn = {module: draw(module, given.seed, given.count) for module in chosen}
    if given.room:
        return _run_room(ROOMS[given.room], drawn, state, given.again, time.monotonic() + 60 * given.minutes)
    until = time.monotonic() + 60 * given.minutes
    if not given.table:
        for name, room in ROOMS.items():
            if _left(room, drawn, state, given.again) and until > time.monotonic():
                # A process of its own: it changes modules, and its tests share one server.
                _in_own_process(name, (until - time.monotonic()) / 60)
    state = State(given.state)
    return _tell(drawn, state)


def draw(module: str, seed: int, count: int) -> list[Mutant]:
    """Some mutants of a module, the same for the same seed; a larger sample begins with the smaller one."""
    mutants = mutants_of(_file(module).read_text(encoding="utf-8"))
    random.Random(f"{seed} {module}").shuffle(mutants)  # noqa: S311
    return mutants[:count]


def _left(room: Room, drawn: dict[str, list[Mutant]], state: State, again: bool) -> dict[str, Sequence[Mutant]]:
    """The mutants of a room that are still to be tried; `again`: only those that no test noticed."""

    def due(module: str, mutant: Mutant) -> bool:
        told = state.of(module).get(mutant.key)
        if mutant.key in EQUIVALENT.get(module, {}):
            return False
        return told is not None and told[0] not in _KILLED if again else told is None

    left = {f"bts_assets.{m}": [one for one in drawn[m] if due(m, one)] for m in room.modules if m in drawn}
    return {name: mutants for name, mutants in left.items() if mutants}


def _in_own_process(room: str, minutes: float) -> None:
    child = os.fork()
    if not child:
        arguments = [*sys.argv[1:], "--room", room, "--minutes", str(minutes)]
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.mutants", *arguments])  # noqa: S606
    if os.waitpid(child, 0)[1]:
        raise SystemExit(f"the tests of {room} do not run as they are")


def _run_room(room: Room, drawn: dict[str, list[Mutant]], state: State, again: bool, until: float) -> int:
    """Tries the mutants of a room in one session of its tests."""
    # The same examples each time, none of them made smaller. Few at first, more for what those did not notice.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants",
        deadline=None,
        derandomize=True,
        database=None,
        phases=phases,
        max_examples=_MORE_EXAMPLES if again else _FEW_EXAMPLES,
    )

    def take(name: str, mutant: Mutant, outcome: Outcome) -> None:
        module = name.removeprefix("bts_assets.")
        state.keep(module, mutant.key, outcome)
        if outcome.what not in _KILLED:
            _say(f"{outcome.what}  {module}:{mutant.line}  {mutant.shown}  {outcome.by}")

    trials = Trials(_left(room, drawn, state, again), take, until)
    files = [str(CHECKOUT / "tests" / file) for file in room.tests]
    quiet = ["--rootdir", str(CHECKOUT), "--durations=0", "-W", "ignore", "--no-header", "--no-summary"]
    return int(pytest.main([*files, *quiet, "--hypothesis-profile=mutants"], plugins=[trials]))


def _tell(drawn: dict[str, list[Mutant]], state: State) -> int:
    """A line for each mutant that no test noticed, and the table; 1 if any of them but equivalent ones is missed."""
    missed, rows = [], []
    for module, mutants in drawn.items():
        equivalent = [mutant for mutant in mutants if mutant.key in EQUIVALENT.get(module, {})]
        told = {m: state.of(module)[m.key][0] for m in mutants if m.key in state.of(module) and m not in equivalent}
        alive = [mutant for mutant, what in told.items() if what not in _KILLED]
        missed += [f"{told[mutant]}  {module}:{mutant.line}  {mutant.key}" for mutant in alive]
        counts = (len(told) + len(equivalent), len(told) - len(alive), len(equivalent), len(alive))
        rows.append(f"| `{module}` | {' | '.join(map(str, counts))} |")
    for line in [
        *missed,
        "| module | mutants | killed | equivalent | missed |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]:
        _say(line)
    return int(bool(missed))


def _file(module: str) -> Path:
    return CHECKOUT / "bts_assets" / f"{module.replace('.', '/')}.py"


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mutants", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=_MODULES, help="this module; may be given again")
    parser.add_argument("--count", type=int, default=60, help="mutants of each module, drawn by the seed")
    parser.add_argument("--seed", type=int, default=20261126, help="decides which mutants are drawn")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many; the next run goes on")
    parser.add_argument("--again", action="store_true", help="try those again that no test noticed")
    parser.add_argument("--table", action="store_true", help="try none, show what came of those that were tried")
    parser.add_argument(
        "--state", type=Path, default=CHECKOUT / ".bts-mutants" / "state.json", help="file that remembers all that"
    )
    parser.add_argument("--room", choices=ROOMS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

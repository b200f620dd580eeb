"""Runs the fault campaign, from where it stopped, and shows how far it has come.

python -m benchmarks.torture                         all of it, as `make torture` does
python -m benchmarks.torture --only kills --count 100
python -m benchmarks.torture --minutes 10            as far as that reaches; the next run goes on
python -m benchmarks.torture --only kills --trial 17 that trial again, with the same seed
python -m benchmarks.torture --broken                broken variants of the code, each of which must be caught
"""

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks.torture.broken import VARIANTS, caught
from benchmarks.torture.campaign import FaultTrial, State, as_table, carry_on, run_trial
from benchmarks.torture.measures import MEASURES
from benchmarks.torture.stage import Stage, open_stage


def main() -> int:
    given = _arguments()
    for name in [n for n in os.environ if n.startswith(("BTS_", "DAGSTER_", "MLFLOW_"))]:
        del os.environ[name]
    if given.broken is not None and not given.short:
        with open_stage() as stage:
            return _break(stage, given.broken or list(VARIANTS), given.seed)
    chosen = {name: MEASURES[name] for name in given.only or MEASURES}
    if given.trial is not None:
        (measure,) = chosen.values()
        with open_stage(durable=measure.durable) as stage:
            return _tell(run_trial(measure, stage, given.seed, given.trial))
    state = State(given.state, given.seed)
    until, missed = time.monotonic() + 60 * given.minutes, 0
    for durable in (False, True):
        if measures := [m for m in chosen.values() if m.durable == durable]:
            with open_stage(durable=durable) as stage:
                for measure in measures:
                    count = given.count or (measure.short if given.short else measure.asked)
                    carry_on(measure, stage, state, given.seed, count, until, _say)
                if given.broken is not None and not durable:
                    missed = _break(stage, given.broken or list(VARIANTS), given.seed)
    _say(as_table(chosen, state, lambda m: given.count or (m.short if given.short else m.asked)))
    return missed or int(any(state.of(name).failures for name in chosen))


def _break(stage: Stage, names: list[str], seed: int) -> int:
    missed = []
    for name in names:
        told = caught(stage, name, seed)
        _say(f"{name}: {'caught: ' + told if told else 'NOT CAUGHT'}"[:300])
        missed += [] if told else [name]
    return int(bool(missed))


def _tell(trial: FaultTrial) -> int:
    _say(f"landed {trial.landed}: {dict(trial.kinds)}")
    for what in trial.failures:
        _say(what)
    return int(bool(trial.failures))


def _say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=MEASURES, help="this measure; may be given again")
    parser.add_argument("--count", type=int, help="faults that must land; default: what is asked of each measure")
    parser.add_argument("--short", action="store_true", help="as many as `make test` asks for")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--seed", type=int, default=20261126, help="decides every trial")
    parser.add_argument("--trial", type=int, help="run this trial of the one measure alone, and keep no state")
    parser.add_argument("--state", type=Path, help="file that remembers how far the campaign has come")
    parser.add_argument(
        "--broken",
        nargs="*",
        choices=VARIANTS,
        default=None,
        help="see that these broken variants are caught (all of them, if none is named); with --short after the rest",
    )
    given = parser.parse_args()
    if given.trial is not None and len(given.only or ()) != 1:
        parser.error("--trial is of one measure: name it with --only")
    return given


if __name__ == "__main__":
    sys.exit(main())

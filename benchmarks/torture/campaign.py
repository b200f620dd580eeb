"""The trials of a measure one by one, and how far each has come: resumable, and each trial replayable.

A trial is decided by the seed, the measure's name and its number, and by nothing that came before it.
"""

import json
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.torture.stage import Stage


@dataclass
class FaultTrial:
    """The result of one trial: how many faults landed, of which kind, and what should not have been."""

    landed: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def land(self, kind: str, count: int = 1) -> None:
        self.landed += count
        self.kinds[kind] += count

    def fail(self, what: str) -> None:
        self.failures.append(what)

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.fail(what)


@dataclass(frozen=True)
class Measure:
    """One row of the campaign. asked: how many faults must land in `make torture`; short: in `make test`."""

    name: str
    unit: str
    asked: int
    short: int
    trial: Callable[[Stage, Random, int], FaultTrial]
    durable: bool = False


@dataclass
class Tally:
    """How far a measure has come."""

    trials: int = 0
    landed: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, number: int, trial: FaultTrial) -> None:
        self.trials = number + 1
        self.landed += trial.landed
        self.kinds = dict(Counter(self.kinds) + trial.kinds)
        self.failures += [{"trial": number, "what": what} for what in trial.failures]


class State:
    """What is known of a campaign of one seed; on disk, where a file is named."""

    def __init__(self, path: Path | None, seed: int) -> None:
        self._path = path
        kept = json.loads(path.read_text()) if path and path.is_file() else {}
        self._measures = {name: Tally(**known) for name, known in kept.get(str(seed), {}).items()}
        self._seed, self._others = seed, {k: v for k, v in kept.items() if k != str(seed)}

    def of(self, name: str) -> Tally:
        return self._measures.setdefault(name, Tally())

    def save(self) -> None:
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            own = {str(self._seed): {name: asdict(progress) for name, progress in self._measures.items()}}
            partial = self._path.with_suffix(".part")
            partial.write_text(json.dumps(self._others | own, indent=1))
            partial.replace(self._path)


def run_trial(measure: Measure, stage: Stage, seed: int, number: int) -> FaultTrial:
    try:
        return measure.trial(stage, Random(f"{seed}/{measure.name}/{number}"), number)  # noqa: S311 - to be repeated
    except Exception as error:
        trial = FaultTrial()
        trial.fail(f"{type(error).__name__}: {error}")
        return trial


def carry_on(
    measure: Measure, stage: Stage, state: State, seed: int, count: int, until: float, say: Callable[[str], None]
) -> None:
    """Run the measure's next trials until so many faults have landed, or a monotonic time is reached."""
    progress = state.of(measure.name)
    while progress.landed < count and time.monotonic() < until:
        began, cpu = time.monotonic(), cpu_seconds()
        trial = run_trial(measure, stage, seed, progress.trials)
        for what in trial.failures:
            say(f"  {measure.name} trial {progress.trials}: {what}")
        progress.add(progress.trials, trial)
        progress.seconds += time.monotonic() - began
        progress.cpu_seconds += cpu_seconds() - cpu
        state.save()
        if not trial.landed and len(progress.failures) > 20:
            say(f"  {measure.name}: given up after {len(progress.failures)} failures")
            return


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that ended, without the server's."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def as_table(measures: Mapping[str, Measure], state: State, asked: Callable[[Measure], int]) -> str:
    """Markdown: what was asked for, what landed, and how often it went wrong."""
    lines = ["| measure | asked | landed | trials | failures | CPU s |", "| --- | --- | --- | --- | --- | --- |"]
    for name, measure in measures.items():
        done = state.of(name)
        lines.append(
            f"| {name}: {measure.unit} | {asked(measure):,} | {done.landed:,} | {done.trials:,} |"
            f" {len(done.failures)} | {done.cpu_seconds:,.0f} |"
        )
    return "\n".join(lines)

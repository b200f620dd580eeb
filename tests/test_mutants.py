"""Mutation testing itself: what it changes, and that the change is in force for whoever holds what is changed."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.mutants.__main__ import draw
from benchmarks.mutants.changed import put_in, watched
from benchmarks.mutants.modules import EQUIVALENT, ROOMS
from benchmarks.mutants.operators import mutants_of, mutated

CHECKOUT = Path(__file__).parents[1]
SOURCE = '''
from functools import cached_property

LIMIT = 2
TWICE = 2 * LIMIT
QUERY = "SELECT a FROM b WHERE a < 1 ORDER BY a DESC"


def within(numbers, most=TWICE):
    """Numbers of at least 0 that are not beyond."""
    if not numbers:
        return None
    return [n for n in numbers if 0 <= n <= most and n is not LIMIT]


class Held:
    @cached_property
    def limit(self):
        return -LIMIT + TWICE
'''


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("toy")
    exec(compile(SOURCE, "toy", "exec"), vars(made))  # noqa: S102
    monkeypatch.setitem(sys.modules, "toy", made)
    return made


def shown() -> dict[str, int]:
    return {mutant.shown: mutant.number for mutant in mutants_of(SOURCE)}


def test_each_mutant_is_another_program_with_a_key_of_its_own() -> None:
    mutants = mutants_of(SOURCE)
    trees = {compile(mutated(SOURCE, mutant.number), "toy", "exec") for mutant in mutants}
    assert len(trees) == len({mutant.key for mutant in mutants}) == len(mutants)
    # A boundary, an order, a negation, a filter, a constant, a sign.
    for changed in ("0 < n <=", "ORDER BY a ASC", "if numbers:", "for n in numbers]", "LIMIT = 3", "return LIMIT +"):
        assert any(changed in text.split("->")[1] for text in shown()), changed


def test_whoever_holds_a_function_or_a_constant_has_the_changed_one(toy: ModuleType) -> None:
    within, other = toy.within, ModuleType("other")
    sys.modules["other"] = other
    other.LIMIT = toy.LIMIT  # type: ignore[attr-defined]
    assert within([0, 1, 2, 4]) == [0, 1, 4]
    for mutant in mutants_of(SOURCE):
        if "0 < n <=" in mutant.shown or "LIMIT = 3" in mutant.shown:
            put_in(toy, mutated(SOURCE, mutant.number), mutant.owner, mutant.line)
    del sys.modules["other"]
    assert within([0, 1, 2, 3, 4]) == [1, 2, 4]
    assert (toy.TWICE, other.LIMIT, toy.Held().limit) == (6, 3, 3)


def test_statements_are_noted_as_they_are_passed_until_that_is_undone(toy: ModuleType) -> None:
    passed: set[tuple[str, int]] = set()
    undo = watched(toy, SOURCE, passed)
    lines = SOURCE.splitlines()
    toy.within([])
    assert [lines[line - 1].strip() for _, line in sorted(passed)][1:] == ["if not numbers:", "return None"]
    passed.clear()
    undo()
    toy.within([1])
    assert not passed


def test_a_larger_sample_begins_with_the_smaller_one() -> None:
    assert draw("landing.sums", 1, 20)[:5] == draw("landing.sums", 1, 5) != draw("landing.sums", 2, 5)


def test_what_is_told_of_mutants_is_of_mutants_that_there_are() -> None:
    for room in ROOMS.values():
        assert all((CHECKOUT / "tests" / file).exists() for file in room.tests)
    for module, reasons in EQUIVALENT.items():
        source = (CHECKOUT / "bts_assets" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert not reasons.keys() - {mutant.key for mutant in mutants_of(source)}

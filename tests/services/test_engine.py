"""Parts of work in this process and in others: the same results in the same order, whoever dies in the middle."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Barrier
from time import sleep
from typing import Any

import pytest
from parts_of_work import NoSuchPart, dies_at, fails, linear_forecast, squared, who

from bts_assets.services.engine import engine
from bts_assets.services.work_part import TRIES, EngineError, in_order, in_threads
from bts_assets.settings import Settings, load_settings

pytestmark = pytest.mark.slow


@pytest.fixture
def two(tmp_path: Path) -> Settings:
    return load_settings(home=tmp_path, workers=2)


def spread(settings: Settings, work: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
    with engine(settings) as run:
        return list(run(work, parts))


def test_results_come_in_order_and_are_those_of_one_process(two: Settings) -> None:
    alone = list(spread(two.model_copy(update={"workers": 1}), squared, range(7)))
    assert spread(two, squared, range(7)) == alone == [n * n for n in range(7)]
    assert multiprocessing.active_children() == []


def test_parts_are_taken_only_as_they_are_needed() -> None:
    taken: list[int] = []
    dropped: list[int] = []
    results = in_order(lambda n: taken.append(n) or n, lambda n: n, dropped.append, range(100), 4)
    assert next(results) == 0
    assert taken == [0, 1, 2, 3]
    results.close()  # type: ignore[attr-defined]
    assert dropped == [1, 2, 3]


def test_parts_are_worked_on_in_threads_at_once_and_come_in_order() -> None:
    both, taken = Barrier(2), []

    def parts() -> Iterator[int]:
        for number in range(6):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        if number < 4:
            both.wait(30)  # broken, and an error, if the other one is not under way
        return number * number

    with in_threads(work, parts()) as results:
        assert [next(results), next(results)] == [0, 1]
        assert taken == [0, 1, 2]  # none is taken before it is worked on
        assert list(results) == [4, 9, 16, 25]


def test_what_a_thread_fails_with_is_told_in_its_turn_and_waited_for() -> None:
    done = []

    def work(number: int) -> int:
        if number == 1:
            raise ValueError("of the second")
        sleep(0.05)
        done.append(number)
        return number

    with pytest.raises(ValueError, match="of the second"), in_threads(work, range(9)) as results:
        list(results)
    ended = list(done)
    sleep(0.2)
    assert done == ended
    assert ended in ([0], [0, 2])


def test_workers_are_other_processes_of_one_thread_each(two: Settings) -> None:
    seen = spread(two, who, range(4))
    assert {threads for _, threads in seen} == {"1"}
    assert os.getpid() not in {process for process, _ in seen}
    assert spread(two.model_copy(update={"workers": None}), who, range(1)) == [(os.getpid(), "unset")]


def test_no_bit_of_a_forecast_depends_on_the_number_of_threads(two: Settings) -> None:
    # Here as many as there are cores, in the workers one.
    assert spread(two, linear_forecast, range(2)) == [linear_forecast(seed) for seed in range(2)]


def test_part_of_a_worker_that_was_killed_is_made_again(two: Settings, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    assert spread(two, partial(dies_at, marks, TRIES - 1), range(6)) == [n * n for n in range(6)]
    assert len(list(marks.iterdir())) == TRIES - 1


def test_part_that_kills_every_worker_is_one_line(two: Settings, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    with pytest.raises(EngineError, match=r"^3 workers died of the same part \(exit code -9\).*BTS_MEMORY.*$"):
        spread(two, partial(dies_at, marks, 99), range(6))
    assert multiprocessing.active_children() == []


def test_what_work_fails_with_is_raised_here(two: Settings) -> None:
    with pytest.raises(NoSuchPart, match="there is no part 2") as caught:
        spread(two, fails, range(6))
    assert "parts_of_work.py" in caught.value.__notes__[0]
    assert multiprocessing.active_children() == []


def test_nothing_goes_on_once_nobody_asks(two: Settings) -> None:
    with engine(two) as run:
        assert next(run(squared, range(100))) == 0
    assert multiprocessing.active_children() == []


def test_it_decides_no_result(tmp_path: Path) -> None:
    chosen = load_settings(home=tmp_path, workers=3, engine="ray", ray_address="ray://head:10001")
    assert chosen.public() == load_settings(home=tmp_path).public()


#: As in a script's background command once Dagster is there: SIGINT is ignored, and SIGTERM does what SIGINT does.
DEAF = """
import multiprocessing, signal
from bts_assets.services.processes import in_processes

if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with in_processes(2) as spread:
        print(list(spread(abs, [-1, -2, -3])))
    print(multiprocessing.active_children())
"""


def test_workers_end_where_whoever_asks_ignores_signals(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(DEAF)
    done = subprocess.run(
        [sys.executable, tmp_path / "deaf.py"], check=True, capture_output=True, text=True, timeout=60,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["[1, 2, 3]", "[]"]

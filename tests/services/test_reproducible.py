"""The same data, settings and seed give the same forecasts bit for bit, whatever the order of the files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_nights import ORIGIN, write

from bts_assets.simulation.simulate import Dirt, NetworkSpec, simulate_network

pytestmark = pytest.mark.slow

#: A gauge, a load and a run time.
PARAMETERS = (111, 122, 162)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], str]) -> list[dict[str, Any]]:
    """What two processes made of the same files: all at once, and backwards in two runs."""
    dirt = Dirt(copied_files=0.1, duplicate=0.02, repeated=0.02, late=0.05, broken_value=0.01)
    spec = NetworkSpec(2, 3, ORIGIN, 5, parameters=PARAMETERS, readings_per_hour=4, dirt=dirt)
    network = simulate_network(spec, tmp_path_factory.mktemp("network") / "landing")
    # Readings of one instant that contradict each other, the newest of their hour, each in a file of its own.
    for value in (5000, 5001, 5002):
        write(network.landing, f"contradiction_{value}.csv", f"{value},{value},1161114001,162,2026-03-09 05:59:59")
    names = sorted(file.name for file in network.landing.iterdir())
    shuffled = np.random.default_rng(0).permutation(names).tolist()
    runs = [[names], [shuffled[:40], shuffled[40:]]]
    processes = []
    for number, order in enumerate(runs):
        arguments = [str(tmp_path_factory.mktemp(f"home{number}")), new_database(), str(network.landing)]
        script = Path(__file__).parents[1] / "helpers" / "repeated_night.py"
        command = [sys.executable, str(script), *arguments, json.dumps(order)]
        # One loads what XLA compiled before, if there is any; the other compiles.
        compiles = {"TF_XLA_FLAGS": ""} if number else {}
        processes.append(
            subprocess.Popen(
                command, env=os.environ | compiles, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    said = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert [complaints for _, complaints in said] == ["", ""]
    return [json.loads(out) for out, _ in said]


def test_a_night_is_the_same_bit_for_bit_in_another_process_and_order_of_files(nights: list[dict[str, Any]]) -> None:
    first, second = nights
    assert first == second


def test_what_was_compared_was_made_by_candidates_of_every_kind(nights: list[dict[str, Any]]) -> None:
    sources, failures = nights[0]["sources"], nights[0]["failures"]
    assert failures == {}
    assert len(sources) == 2 * len(PARAMETERS)
    assert {row["status"] for row in sources} == {"forecast"}
    # Tried on some series, and on no others.
    tried = [row["components"].get("auto_ets", 0.0) is not None for row in sources]
    assert sorted(tried) == [False] * 4 + [True] * 2

"""Commands that only look start at once, because they import no library that they have no use for."""

import json
import os
import subprocess
import sys
from typing import Any, Final

import pytest
from nights import NIGHT, PublishedNight

#: Libraries that take from a tenth of a second to several seconds to import.
SLOW: Final = {"tensorflow", "mlflow", "dagster", "matplotlib", "pandera", "pyarrow", "pandas"}

#: The command in a process of its own, then what it had imported, as the last line of standard error.
CALL: Final = """
import json, sys
from bts_assets.cli.app import main
sys.argv = ["bts", *json.loads(sys.argv[1])]
try:
    main()
finally:
    print(json.dumps(sorted(m for m in sys.modules if "." not in m)), file=sys.stderr)
"""


def imported(command: list[str], environment: dict[str, str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", CALL, json.dumps(command)],
        env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_help_imports_nothing_that_reads_settings_or_databases() -> None:
    assert imported(["--help"], {}) & (SLOW | {"sqlalchemy", "pydantic", "numpy"}) == set()


def test_ingesting_imports_neither_tensorflow_nor_mlflow(published: PublishedNight, small_network: Any) -> None:
    modules = imported(["ingest", "--landing", str(small_network.landing)], published.environment)
    assert modules & {"tensorflow", "keras", "mlflow", "statsforecast"} == set()
    assert "dagster" in modules


def test_a_night_again_without_new_files_forecasts_nothing_and_imports_no_tensorflow(
    published: PublishedNight, small_network: Any
) -> None:
    command = ["nightly", "--landing", str(small_network.landing), "--as-of", NIGHT.isoformat()]
    modules = imported(command, published.environment)
    assert modules & {"tensorflow", "keras", "statsforecast", "sklearn"} == set()
    assert "mlflow" in modules  # whose alias is compared with the champion each night


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["sql", "SELECT count(*) FROM bts.latest_forecast"], id="sql"),
        pytest.param(["forecast", "1161114001", "122"], id="forecast"),
        pytest.param(["status"], id="status"),
        pytest.param(["accuracy"], id="accuracy"),
        pytest.param(["versions"], id="versions"),
        pytest.param(["breaches"], id="breaches"),
        pytest.param(["drift"], id="drift"),
        pytest.param(["url"], id="url"),
    ],
)
def test_a_command_that_looks_imports_no_library_of_the_night(command: list[str], published: PublishedNight) -> None:
    modules = imported(command, published.environment)
    assert modules & SLOW == set()
    assert "sqlalchemy" in modules
    assert ("numpy" in modules) == (command[0] == "forecast")

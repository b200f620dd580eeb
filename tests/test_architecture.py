"""The arrows of docs/architecture.md, read from the imports of every module, and what no file may hold."""

import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
PACKAGE = "bts_assets"
FILES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((CHECKOUT / PACKAGE).rglob("*.py"))
}
each_module = pytest.mark.parametrize("module", FILES)

#: What each room may import of ours, besides itself. An arrow points downwards only.
ROOMS = {
    "contracts": set(),
    "landing": {"contracts"},
    "forecasting": {"contracts"},
    "simulation": {"contracts", "landing"},
    "plots": {"contracts"},
    "settings": {"contracts"},
    "progress": {"contracts"},
    "storage": {"contracts", "landing", "forecasting", ""},
    "serving": {"contracts", "landing", "forecasting"},
    "services": {"contracts", "landing", "forecasting", "storage", "plots", "settings"},
    "defs": {"contracts", "landing", "forecasting", "storage", "services", "plots", "settings", "progress"},
    "definitions": {"defs"},
}
PURE = ("contracts", "landing", "forecasting")
#: Only what is listed may be imported from outside by a pure room: a list of what is forbidden has always a gap.
PURE_THIRD_PARTY = {
    "numpy",
    "pandas",
    "pandera",
    "pyarrow",
    "safetensors",
    "scipy",
    "statsforecast",
    "tensorflow",
    "keras",
}
NETWORK = {"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "asyncio", "socketserver", "xmlrpc", "select"}
PROCESSES = {"subprocess", "multiprocessing", "signal"}
CLOCK = {"time", "sched", "timeit"}
CLOCK_CALLS = {"now", "utcnow", "today", "time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "localtime"}


def room(module: str) -> str:
    """`services` of `bts_assets.services.home`; empty for the package itself."""
    return [*module.split("."), ""][1]


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that is imported anywhere in it, also inside functions; ours down to the file."""
    found: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
            above = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            base = ".".join(part for part in (above, node.module or "") if part)
            found |= {name if name in FILES else base for name in (f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found |= {ast.literal_eval(argument) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == PACKAGE}


def outside(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module)} - {PACKAGE}


def calls(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


@each_module
def test_room_imports_only_what_stands_below_it(module: str) -> None:
    allowed = ROOMS.get(room(module))
    if allowed is None:  # the face: cli
        return
    assert {room(name) for name in ours(module)} - {room(module)} <= allowed


@each_module
def test_nothing_imports_the_face(module: str) -> None:
    face = {name for name in FILES if room(name) not in ROOMS}
    if room(module) in ROOMS and module != PACKAGE:
        assert not (ours(module) - {PACKAGE}) & face


@pytest.mark.parametrize("module", [m for m in FILES if room(m) in PURE])
def test_pure_room_knows_no_framework_network_process_or_clock(module: str) -> None:
    third_party = outside(module) - set(sys.stdlib_module_names)
    assert third_party <= PURE_THIRD_PARTY
    assert not outside(module) & (NETWORK | PROCESSES | CLOCK)
    asked = [c for c in calls(module) if "." in c and c.rpartition(".")[2] in CLOCK_CALLS]
    assert asked == []
    # A switch of TensorFlow's may be set, before its import; no setting may be read.
    assert not {c for c in calls(module) if c in ("os.getenv", "os.environ.get")}
    assert not [n for n in ast.walk(tree(module)) if isinstance(n, ast.Subscript) and "environ" in ast.unparse(n.value)]


@pytest.mark.parametrize("module", [m for m in FILES if room(m) in ("storage", "services", "serving", "plots")])
def test_only_defs_and_cli_know_dagster(module: str) -> None:
    assert not {name for name in outside(module) if name.startswith("dagster")}


#: What public functions are never handed: storage knows no home and no settings, a service no bare engine.
NOT_HANDED = {
    "storage": {"Home", "Settings"},
    "services": {"Engine", "sa.Engine"},
    "plots": {"Home", "Settings", "Engine", "sa.Engine", "Path"},
    "landing": {"Home", "Settings", "Engine", "sa.Engine"},
    "forecasting": {"Home", "Settings", "Engine", "sa.Engine", "Path"},
}


@pytest.mark.parametrize("module", [m for m in FILES if room(m) in NOT_HANDED])
def test_storage_takes_an_engine_services_a_home_plots_arrays(module: str) -> None:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            handed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            kinds = {part for a in handed if a.annotation for part in re.split(r"[^\w.]+", ast.unparse(a.annotation))}
            assert not kinds & NOT_HANDED[room(module)], node.name


def test_no_room_holds_over_a_quarter_of_all_lines() -> None:
    lines: dict[str, int] = {}
    for module, path in FILES.items():
        lines[room(module)] = lines.get(room(module), 0) + len(path.read_text(encoding="utf-8").splitlines())
    total = sum(lines.values())
    assert {name: count for name, count in lines.items() if count > total / 4} == {}


@each_module
def test_only_the_lstm_imports_tensorflow(module: str) -> None:
    heavy = outside(module) & {"tensorflow", "keras"}
    assert bool(heavy) == (module == f"{PACKAGE}.forecasting.lstm")


def test_modules_import_each_other_in_no_circle() -> None:
    graph = {module: ours(module) & set(FILES) - {module} for module in FILES}
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")
    assert len(order) == len(FILES)


def test_files_are_short() -> None:
    lines = {m: len(path.read_text(encoding="utf-8").splitlines()) for m, path in FILES.items()}
    assert {m: n for m, n in lines.items() if n > 400} == {}
    assert statistics.median(n for n in lines.values() if n > 1) < 150


@each_module
def test_module_opens_with_what_lives_there(module: str) -> None:
    assert ast.get_docstring(tree(module)) or not FILES[module].read_text(encoding="utf-8").strip()


def test_listing_assets_imports_neither_tensorflow_nor_mlflow() -> None:
    script = (
        "import sys; import bts_assets.definitions as d; assert d.defs.assets;"
        "print([m for m in ('tensorflow', 'keras', 'mlflow', 'matplotlib.pyplot') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Text files that git keeps or would keep."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [CHECKOUT / os.fsdecode(name) for name in done.stdout.split(b"\0") if name]
    return [p for p in paths if p.is_file() and b"\0" not in p.read_bytes()[:8000]]


def test_no_file_names_a_place_of_one_machine(tracked: list[Path]) -> None:
    assert len(tracked) > 50
    # Below a folder where a person, a service or a build has its files; not the name of the folder alone.
    place = re.compile(r"(?<![\w.$}~/-])/(?:home|root|work|Users|tmp|mnt|private|workspace)/[\w.-]+")
    found = {
        f"{path.relative_to(CHECKOUT)}:{number}: {line.strip()[:100]}"
        for path in tracked
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if place.search(line)
    }
    assert found == set()


def test_no_file_holds_a_secret(tracked: list[Path]) -> None:
    secret = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}")
    assert [str(p) for p in tracked if p != Path(__file__) and secret.search(p.read_text(encoding="utf-8"))] == []

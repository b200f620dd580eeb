"""The arrows of docs/architecture.md, read from the imports of every module, and what no file may hold."""

import ast
import os
import re
import statistics
import subprocess
import sys
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

#: What each room may import of ours, besides itself. An arrow points downwards only.
ROOMS = {
    "contracts": set(),
    "landing": {"contracts"},
    "pretraining": {"contracts"},
    "forecasting": {"contracts", "pretraining"},
    "monitoring": {"contracts"},
    "notify": {"contracts"},
    "simulation": {"contracts", "landing"},
    "plots": {"contracts"},
    "settings": {"contracts"},
    "progress": {"contracts"},
    "storage": {"contracts", "landing", "forecasting", "monitoring", ""},
    "serving": {"contracts", "landing", "forecasting"},
    "services": {"contracts", "landing", "forecasting", "monitoring", "notify", "storage", "plots", "settings"},
    "defs": {"contracts", "landing", "forecasting", "storage", "services", "plots", "settings", "progress"},
    "definitions": {"defs"},
    "explorer": {"contracts", "storage", "services", "plots", "settings", ""},
}
PURE = ("contracts", "landing", "pretraining", "forecasting", "monitoring")
#: Only what is listed may be imported from outside by a pure room: a list of what is forbidden has always a gap.
PURE_THIRD_PARTY = {
    "bottleneck",
    "numpy",
    "pandas",
    "pandera",
    "pyarrow",
    "safetensors",
    "scipy",
    "threadpoolctl",
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
        elif isinstance(node, ast.Call) and _last_name(node.func) in ("import_module", "__import__"):
            found |= {ast.literal_eval(argument) for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return frozenset(found)


def _last_name(function: ast.expr) -> str:
    """`execute` of `connection.execute`."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name.split(".")[0] == PACKAGE}


def outside(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(module)} - {PACKAGE}


@cache
def calls(module: str) -> frozenset[str]:
    return frozenset(ast.unparse(node.func) for node in ast.walk(tree(module)) if isinstance(node, ast.Call))


def in_rooms(*rooms: str) -> list[str]:
    return [module for module in FILES if room(module) in rooms]


def test_room_imports_only_what_stands_below_it() -> None:
    # The face, cli, is not among the rooms: it may import everything.
    upward = {m: {room(n) for n in ours(m)} - {room(m)} - ROOMS[room(m)] for m in in_rooms(*ROOMS)}
    assert {module: rooms for module, rooms in upward.items() if rooms} == {}


def test_nothing_imports_the_face() -> None:
    face = {name for name in FILES if room(name) not in ROOMS} - {PACKAGE}
    found = {module: ours(module) & face for module in in_rooms(*ROOMS) if module != PACKAGE}
    assert {module: names for module, names in found.items() if names} == {}


def impurities(module: str) -> set[str]:
    """Frameworks, network, processes, clocks and settings that a module of a pure room reaches for."""
    third_party = outside(module) - set(sys.stdlib_module_names)
    asked = {call for call in calls(module) if "." in call and call.rpartition(".")[2] in CLOCK_CALLS}
    # A switch of TensorFlow's may be set, before its import; no setting may be read.
    read = {call for call in calls(module) if call in ("os.getenv", "os.environ.get")}
    subscripts = [node for node in ast.walk(tree(module)) if isinstance(node, ast.Subscript)]
    read |= {"os.environ" for node in subscripts if "environ" in ast.unparse(node.value)}
    return third_party - PURE_THIRD_PARTY | outside(module) & (NETWORK | PROCESSES | CLOCK) | asked | read


def test_pure_room_knows_no_framework_network_process_or_clock() -> None:
    found = {module: impurities(module) for module in in_rooms(*PURE)}
    assert {module: names for module, names in found.items() if names} == {}


def test_only_defs_and_cli_know_dagster() -> None:
    apart = in_rooms("storage", "services", "serving", "plots", "notify")
    assert [module for module in apart if any(name.startswith("dagster") for name in outside(module))] == []


#: What public functions are never handed: storage knows no home and no settings, a service no bare engine.
NOT_HANDED = {
    "storage": {"Home", "Settings"},
    "services": {"Engine", "sa.Engine"},
    "plots": {"Home", "Settings", "Engine", "sa.Engine", "Path"},
    "landing": {"Home", "Settings", "Engine", "sa.Engine"},
    "forecasting": {"Home", "Settings", "Engine", "sa.Engine", "Path"},
    "pretraining": {"Home", "Settings", "Engine", "sa.Engine", "Path"},
    "notify": {"Home", "Settings", "Engine", "sa.Engine", "Path"},
}


def handed(function: ast.FunctionDef) -> set[str]:
    """The kinds of what a function takes, as its annotations name them."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return {kind for a in arguments if a.annotation for kind in re.split(r"[^\w.]+", ast.unparse(a.annotation))}


def test_storage_takes_an_engine_services_a_home_plots_arrays() -> None:
    found = {
        f"{module}.{function.name}": kinds
        for module in in_rooms(*NOT_HANDED)
        for function in ast.walk(tree(module))
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("_")
        if (kinds := handed(function) & NOT_HANDED[room(module)])
    }
    assert found == {}


#: Where SQL may stand: where data rests, what a service asks of its own, and the questions of pages and terminal.
SQL_ROOMS = {"storage", "services", "explorer", "cli"}
_SQL = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP) .*\b(FROM|INTO|SET|AS|TABLE)\b", re.S
)


def sql_of(module: str) -> set[str]:
    """SQL strings, and calls that make or send a statement."""
    strings = {n.value[:40] for n in ast.walk(tree(module)) if isinstance(n, ast.Constant) and _is_sql(n.value)}
    makers = ("sa.text", "sa.select", "sa.insert", "sa.update", "sa.delete", "connection.execute", "connection.scalar")
    return strings | {call for call in calls(module) if call in makers or call.endswith("exec_driver_sql")}


def _is_sql(constant: object) -> bool:
    return isinstance(constant, str) and _SQL.match(constant) is not None


def test_sql_is_found_where_it_stands() -> None:
    assert sql_of(f"{PACKAGE}.storage.scores") >= {"sa.text", "connection.execute"}
    assert not _is_sql("SELECTED stations come FROM afar")
    assert _is_sql("\n    SELECT max(day) FROM bts.pruning")


def test_sql_is_for_storage_services_and_questions() -> None:
    found = {module: sql_of(module) for module in FILES if room(module) not in SQL_ROOMS}
    assert {module: sql for module, sql in found.items() if sql} == {}


def test_no_room_holds_over_a_quarter_of_all_lines() -> None:
    lines: dict[str, int] = {}
    for module, path in FILES.items():
        lines[room(module)] = lines.get(room(module), 0) + len(path.read_text(encoding="utf-8").splitlines())
    total = sum(lines.values())
    assert {name: count for name, count in lines.items() if count > total / 4} == {}


def test_only_the_networks_import_tensorflow() -> None:
    """The LSTM, and the training of the pretrained network, which fine-tuning and a benchmark ask for."""
    training = f"{PACKAGE}.pretraining.training"
    assert [m for m in FILES if outside(m) & {"tensorflow", "keras"}] == [f"{PACKAGE}.forecasting.lstm", training]
    assert [m for m in FILES if training in imports(m)] == [f"{PACKAGE}.forecasting.fine_tuning"]


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


def test_module_opens_with_what_lives_there() -> None:
    silent = [m for m, p in FILES.items() if p.read_text(encoding="utf-8").strip() and not ast.get_docstring(tree(m))]
    assert silent == []


@pytest.mark.slow
def test_listing_assets_imports_neither_tensorflow_nor_mlflow() -> None:
    script = (
        "import sys; import bts_assets.definitions as d; assert d.defs.assets;"
        "slow = ('tensorflow', 'keras', 'mlflow', 'matplotlib.pyplot', 'scipy.stats', 'apprise');"
        "print([m for m in slow if m in sys.modules])"
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

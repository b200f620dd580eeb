"""What the prose of the code points at is there: files, modules, names in backticks; and the files that pages name.

A module that is renamed leaves pointers behind that nothing else notices.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
PACKAGE = CHECKOUT / "bts_assets"
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
MODULES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path
    for top in (PACKAGE, CHECKOUT / "benchmarks")
    for path in top.rglob("*.py")
}

#: What stands before a dot and is no module: a schema of the database, a package of others, an object.
NO_MODULES = {"bts", "dagster", "spec"}
#: Commands of others.
NO_NAMES = {"ps"}

FILE = re.compile(r"(?<![\w/.-])(?:[\w-]+/)*[\w-]+\.(?:py|js|css|md|sql)\b")
IN_ROOM = re.compile(rf"(?<![\w/.-])(?:{'|'.join(sorted(ROOMS))})/[a-z_]+\b(?![./])")
DOTTED = re.compile(r"`([a-z_][a-z_\d]*(?:\.[a-z_][a-z_\d]*)+)`|\b(bts_assets(?:\.[a-z_]+)+)")
WORD = re.compile(r"`([a-z_][a-z_\d]*)`")
#: Ends of files that are no modules, as in `watch.lock`.
ENDINGS = (".py", ".lock", ".csv", ".log", ".json", ".js", ".css", ".md", ".sql", ".parquet")


def has_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


def prose(text: str) -> str:
    """Docstrings and comments, one after the other."""
    strings = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if has_docstring(node)]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return "\n".join([*strings, *(token.string for token in tokens if token.type == tokenize.COMMENT)])


@cache
def names_in(module: str) -> frozenset[str]:
    """Every name of a module's code, and every word of its strings, docstrings aside."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    told = {id(node.body[0].value) for node in ast.walk(tree) if has_docstring(node) and ast.get_docstring(node)}
    found: set[str] = set()
    for node in ast.walk(tree):
        named = (getattr(node, field, None) for field in ("id", "attr", "name", "arg"))
        found |= {name for name in named if isinstance(name, str)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            found |= set(re.findall(r"\w+", node.value))
    return frozenset(found)


@cache
def made_in(module: str) -> frozenset[str]:
    """The functions, classes, constants and fields of a module."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    scopes = [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    inside = [node for scope in scopes for node in scope.body]
    defined = {node.name for node in inside if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    targets = [
        t
        for n in inside
        if isinstance(n, ast.Assign | ast.AnnAssign)
        for t in getattr(n, "targets", [getattr(n, "target", None)])
    ]
    return frozenset(defined | {name.id for t in targets for name in ast.walk(t) if isinstance(name, ast.Name)})


@cache
def all_names() -> frozenset[str]:
    parts = {part for module in MODULES for part in module.split(".")}
    return frozenset(parts.union(*(names_in(module) for module in MODULES)))


def is_file(mention: str, where: Path) -> bool:
    """Beside the file, in its room, on top of the package; with a folder, also from the checkout."""
    if "/" in mention:
        return (PACKAGE / mention).exists() or (CHECKOUT / mention).exists()
    room = PACKAGE / where.relative_to(PACKAGE).parts[0]
    return (PACKAGE / mention).exists() or (room.is_dir() and any(room.rglob(mention)))


def is_dotted(mention: str) -> bool:
    """A module, by as much of its path as is told, or a name in one."""
    if mention.split(".")[0] in NO_MODULES or mention.endswith(ENDINGS):
        return True
    inner, _, name = mention.rpartition(".")
    ends = [module for module in MODULES if f".{module}".endswith(f".{inner}")]
    return any(f".{module}".endswith(f".{mention}") for module in MODULES) or any(name in made_in(m) for m in ends)


def astray(text: str, where: Path) -> Iterator[str]:
    """What the prose of a file points at and is not there."""
    told = prose(text)
    yield from (m[0] for m in FILE.finditer(told) if not is_file(m[0], where))
    yield from (
        m[0] for m in IN_ROOM.finditer(told) if not (PACKAGE / m[0]).exists() and not is_file(f"{m[0]}.py", where)
    )
    yield from (m[0] for m in DOTTED.finditer(told) if not is_dotted(m[1] or m[2]))
    yield from (m[0] for m in WORD.finditer(told) if m[1] not in all_names() | NO_NAMES)


def test_what_docstrings_and_comments_point_at_is_there() -> None:
    found = {
        str(path.relative_to(CHECKOUT)): gone
        for path in sorted(PACKAGE.rglob("*.py"))
        if (gone := sorted(set(astray(path.read_text(encoding="utf-8"), path))))
    }
    assert found == {}


def test_a_pointer_to_nothing_is_seen() -> None:
    text = '"""See `simulate_dirt.py`, landing/heads, `landing.heads`, `header.no_such_name` and `no_such_word`."""\n'
    there = '"""See `dirt.py`, landing/header, `landing.header`, `header.read_header` and `read_header`."""\n'
    where = PACKAGE / "simulation" / "simulate.py"
    assert list(astray(text, where)) == [
        "simulate_dirt.py", "landing/heads", "`landing.heads`", "`header.no_such_name`", "`no_such_word`"
    ]  # fmt: skip
    assert list(astray(f"# {text.splitlines()[0]}\n", where)) == list(astray(text, where))
    assert list(astray(there, where)) == []


def test_files_that_the_pages_name_are_there() -> None:
    pages = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
    named = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sql|csv|css|js))`")
    gone = {
        f"{page.relative_to(CHECKOUT)}: {name}"
        for page in pages
        for name in named.findall(page.read_text(encoding="utf-8"))
        if not any((place / name).exists() for place in (CHECKOUT, PACKAGE, CHECKOUT / "tests"))
    }
    assert gone == set()

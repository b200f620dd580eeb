"""How code is broken: one operator at one place of a module's syntax tree. Mutants are numbered alike each time."""

import ast
import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

#: Turned, and moved by the boundary itself.
_COMPARED: Final[dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_CALCULATED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
#: Names of functions, methods and sides that are taken for each other.
_PAIRS: Final = (
    ("min", "max"), ("any", "all"), ("minimum", "maximum"), ("zeros", "ones"), ("is_", "is_not"), ("and_", "or_"),
    ("desc", "asc"), ("in_", "not_in"), ("rfind", "find"), ("rint", "floor"), ("left", "right"),
)  # fmt: skip
_OTHER: Final = {a: b for pair in _PAIRS for a, b in (pair, pair[::-1])}
_IS_SQL: Final = re.compile(r"\b(?:SELECT|FROM|WHERE|INSERT INTO|ORDER BY|ON CONFLICT|AND)\b")
#: What is found in SQL, and what is put there instead.
_SQL: Final = (
    (r" DESC\b", " ASC"),
    (r"(ORDER BY [\w.]+)(?! DESC|[\w.])", r"\1 DESC"),
    (r"<>", "="),
    (r"<=", "<"),
    (r">=", ">"),
    (r" < ", " <= "),
    (r" > ", " >= "),
    (r" = ", " <> "),
    (r"\bAND\b", "OR"),
    (r"\bOR\b", "AND"),
    (r"\bIS NULL\b", "IS NOT NULL"),
    (r"\bIS NOT NULL\b", "IS NULL"),
    (r"\bIS DISTINCT FROM\b", "IS NOT DISTINCT FROM"),
    (r"\bmax\(", "min("),
    (r"\bmin\(", "max("),
    (r"\bfalse\b", "true"),
    (r"\bDISTINCT(?: ON \([\w.]+\))? (?!FROM)", ""),
    (r"\bLEFT JOIN\b", "JOIN"),
    (r" FOR UPDATE\b", ""),
    (r"\bON CONFLICT DO NOTHING\b", ""),
)
#: Characters of the statement that a mutant is shown with, on either side.
_CONTEXT: Final = 28


@dataclass(frozen=True)
class Mutant:
    """One change. `owner`: the function or method that it is in, or "" beside all; `line`: where its statement begins,
    which is run when the module is imported or not; `key` tells it from all others of its module, wherever its lines
    have moved to.
    """

    number: int
    owner: str
    line: int
    on_import: bool
    shown: str
    key: str


@dataclass
class _Place:
    node: ast.AST
    parent: ast.AST
    owner: str
    statement: ast.stmt


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of a module that is not told from the code only by what it says to people."""
    found: list[Mutant] = []
    seen: dict[str, int] = {}
    for number, (place, instead) in enumerate(_changes(ast.parse(source))):
        before = _said(place.statement)
        with _changed(place, instead) as statement:
            shown = _difference(before, _said(statement))
        key = f"{place.owner}: {shown}"
        seen[key] = seen.get(key, 0) + 1
        key += f" ({seen[key]})" if seen[key] > 1 else ""
        on_import = not place.owner or isinstance(place.statement, ast.FunctionDef)
        found.append(Mutant(number, place.owner, place.statement.lineno, on_import, shown, key))
    return found


def mutated(source: str, number: int) -> ast.Module:
    """The module's tree with one change."""
    tree = ast.parse(source)
    for k, (place, instead) in enumerate(_changes(tree)):
        if k == number:
            _replace(place.parent, place.node, instead)
            return ast.fix_missing_locations(tree)
    raise IndexError(number)


def _changes(tree: ast.Module) -> Iterator[tuple[_Place, ast.AST]]:
    for place in _places(tree):
        for instead in _instead_of(place):
            yield place, instead


def _places(tree: ast.Module) -> Iterator[_Place]:
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef):
            for method in statement.body:
                if isinstance(method, ast.FunctionDef):
                    yield from _below(method, f"{statement.name}.{method.name}", method)
        elif isinstance(statement, ast.FunctionDef):
            yield from _below(statement, statement.name, statement)
        elif isinstance(statement, (ast.Assign, ast.AnnAssign)) and not _is_type_or_table(statement):
            yield from _below(statement, "", statement)


def _is_type_or_table(statement: ast.Assign | ast.AnnAssign) -> bool:
    made = ast.unparse(statement.value) if statement.value else ""
    return made.startswith(("sa.Table(", "Literal[", "Callable[", "re.compile(r'^\\"))


def _below(node: ast.AST, owner: str, statement: ast.stmt) -> Iterator[_Place]:
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "annotation", "returns", "format_spec", "ctx"):
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":  # a defence against ourselves: lengths are equal
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                own = child if isinstance(child, ast.stmt) else statement
                yield _Place(child, node, owner, own)
                yield from _below(child, owner, own)


def _instead_of(place: _Place) -> Iterator[ast.AST]:
    node = place.node
    if isinstance(node, ast.Compare):
        for k, operator in enumerate(node.ops):
            for other in _COMPARED[type(operator)]:
                yield ast.Compare(node.left, [*node.ops[:k], other(), *node.ops[k + 1 :]], node.comparators)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in _CALCULATED:
        yield ast.BinOp(node.left, _CALCULATED[type(node.op)](), node.right)
    elif isinstance(node, ast.Constant):
        yield from _other_constants(node, place)
    elif isinstance(node, ast.Name) and node.id in _OTHER:
        yield ast.Name(_OTHER[node.id], node.ctx)
    elif isinstance(node, ast.Attribute) and node.attr in _OTHER:
        yield ast.Attribute(node.value, _OTHER[node.attr], node.ctx)
    elif isinstance(node, ast.comprehension) and node.ifs:
        yield ast.comprehension(node.target, node.iter, [], node.is_async)
    elif isinstance(node, (ast.IfExp, ast.If)) and isinstance(node.test, (ast.Name, ast.Attribute, ast.Call)):
        yield from _negated(node)
    elif isinstance(node, ast.stmt) and place.owner:
        yield from _other_statements(node)


def _negated(node: ast.IfExp | ast.If) -> Iterator[ast.AST]:
    other = copy.copy(node)
    other.test = ast.UnaryOp(ast.Not(), node.test)
    yield other


def _other_constants(node: ast.Constant, place: _Place) -> Iterator[ast.AST]:
    if isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node.value, (int, float)):
        yield ast.Constant(node.value + 1)
    elif isinstance(node.value, str) and not isinstance(place.parent, ast.Expr):
        if node.value in _OTHER:
            yield ast.Constant(_OTHER[node.value])
        elif _IS_SQL.search(node.value):
            for pattern, instead in _SQL:
                for found in re.finditer(pattern, node.value):
                    yield ast.Constant(node.value[: found.start()] + found.expand(instead) + node.value[found.end() :])


def _other_statements(node: ast.stmt) -> Iterator[ast.AST]:
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    if isinstance(node, ast.Expr):
        # A crash point does nothing here; that each is passed is seen by a test of the campaign.
        if not isinstance(node.value, (ast.Constant, ast.Yield)) and not ast.unparse(node).startswith("crash_point("):
            yield ast.Pass()
    elif isinstance(node, (ast.AugAssign, ast.Raise)) or isinstance(target, (ast.Subscript, ast.Attribute)):
        yield ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) not in ("None", "False"):
        yield ast.Return(ast.Constant(None))
    if isinstance(node, ast.AugAssign) and type(node.op) in _CALCULATED:
        yield ast.AugAssign(node.target, _CALCULATED[type(node.op)](), node.value)


def _replace(parent: ast.AST, node: ast.AST, instead: ast.AST) -> None:
    for name, value in ast.iter_fields(parent):
        if value is node:
            setattr(parent, name, ast.copy_location(instead, node))
        elif isinstance(value, list):
            value[:] = [ast.copy_location(instead, node) if item is node else item for item in value]


@contextmanager
def _changed(place: _Place, instead: ast.AST) -> Iterator[ast.stmt]:
    """A statement while it is changed; its tree is as before after that."""
    _replace(place.parent, place.node, instead)
    yield instead if isinstance(instead, ast.stmt) and place.node is place.statement else place.statement
    _replace(place.parent, instead, place.node)


def _said(statement: ast.stmt) -> str:
    """A statement in one line; of one that has others in it, its head."""
    if isinstance(statement, ast.FunctionDef):
        return f"def {statement.name}({ast.unparse(statement.args)})"
    return re.sub(r"\s+", " ", ast.unparse(statement) if not hasattr(statement, "body") else _head(statement))


def _head(statement: ast.stmt) -> str:
    bare = copy.copy(statement)
    for name in ("body", "orelse", "finalbody", "handlers"):
        if hasattr(bare, name):
            setattr(bare, name, [ast.Pass()] if name == "body" else [])
    if isinstance(bare, ast.Try):
        bare.finalbody = [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(bare)).split("\n")[0]


def _difference(before: str, after: str) -> str:
    """Where two texts differ, with a little of what is around."""
    first = _alike(before, after)
    last = min(_alike(before[::-1], after[::-1]), len(before) - first, len(after) - first)
    first, last = max(first - _CONTEXT, 0), max(last - _CONTEXT, 0)
    return f"{before[first : len(before) - last]}  ->  {after[first : len(after) - last]}".rstrip()


def _alike(one: str, other: str) -> int:
    """How many letters two texts begin with alike."""
    differing = (k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differing, min(len(one), len(other)))

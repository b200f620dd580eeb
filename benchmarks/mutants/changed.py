"""A module that is imported already, changed in place: whoever holds its functions runs the changed ones.

A process that changed a module does not change it back: it is forked, and ends.
"""

import ast
import inspect
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, Final

_MARK: Final = "_passed_by_mutation_testing"


def put_in(module: ModuleType, tree: ast.Module, owner: str, line: int) -> None:
    """Put the function `owner` of a tree in the place of the module's; or its statement at `line`, and what follows."""
    if owner:
        _replace(module, owner, _found(tree, owner))
        return
    changed: set[str] = set()
    for statement in tree.body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
            names = {node.id for node in ast.walk(statement.value) if isinstance(node, ast.Name)}
            if statement.lineno == line or names & changed:
                changed |= _assign(module, statement)
    for name, function in functions_of(tree):
        defaults = [*function.args.defaults, *filter(None, function.args.kw_defaults)]
        if changed & {node.id for default in defaults for node in ast.walk(default) if isinstance(node, ast.Name)}:
            _replace(module, name, function)


def watched(module: ModuleType, source: str, passed: set[tuple[str, int]]) -> Callable[[], None]:
    """Have every function note the lines of its statements as they are passed; gives what undoes it."""
    tree = ast.parse(source)
    vars(module)[_MARK] = lambda line: passed.add((module.__name__, line))
    before = []
    for owner, function in functions_of(tree):
        if (old := _function(module, owner)) is not None:
            before.append((old, old.__code__))
            for node in ast.walk(function):
                for name in ("body", "orelse", "finalbody"):
                    if isinstance(held := getattr(node, name, None), list):
                        setattr(node, name, [each for statement in held for each in (_note(statement), statement)])
            _replace(module, owner, ast.fix_missing_locations(function))

    def undo() -> None:
        for function, code in before:
            function.__code__ = code

    return undo


def functions_of(tree: ast.Module) -> list[tuple[str, ast.FunctionDef]]:
    """The functions of a module and the methods of its classes, by name."""
    found = [("", node) for node in tree.body]
    found += [(f"{node.name}.", inner) for node in tree.body if isinstance(node, ast.ClassDef) for inner in node.body]
    return [(f"{of}{node.name}", node) for of, node in found if isinstance(node, ast.FunctionDef)]


def _note(statement: ast.stmt) -> ast.stmt:
    call = ast.Call(ast.Name(_MARK, ast.Load()), [ast.Constant(statement.lineno)], [])
    return ast.copy_location(ast.Expr(call), statement)


def _found(tree: ast.Module, owner: str) -> ast.FunctionDef:
    return dict(functions_of(tree))[owner]


def _replace(module: ModuleType, owner: str, function: ast.FunctionDef) -> None:
    function.decorator_list = []
    made: dict[str, Any] = dict(vars(module))
    exec(compile(ast.Module([function], []), module.__name__, "exec"), made)  # noqa: S102
    old, new = _function(module, owner), made[function.name]
    if old is None:
        raise LookupError(owner)
    old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__


def _function(module: ModuleType, owner: str) -> FunctionType | None:
    held: Any = module
    for name in owner.split("."):
        held = inspect.getattr_static(held, name)
    for name in ("fget", "func", "__func__"):
        held = getattr(held, name, held)
    held = inspect.unwrap(held)
    return held if isinstance(held, FunctionType) else None


def _assign(module: ModuleType, statement: ast.Assign | ast.AnnAssign) -> set[str]:
    before = dict(vars(module))
    exec(compile(ast.Module([statement], []), module.__name__, "exec"), vars(module))  # noqa: S102
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    for name in names:
        for other in list(sys.modules.values()):
            if getattr(other, "__dict__", {}).get(name, _MARK) is before.get(name):
                setattr(other, name, vars(module)[name])
    return names

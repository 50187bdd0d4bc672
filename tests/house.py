"""What the house tests read: source files, their functions, and the files that are kept."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
SOURCE = PROJECT / "src" / "relearn"
KEPT = ("src", "tests", "docs", "conf", "benchmarks", "notebooks", ".ci")
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Match)
Function = ast.FunctionDef | ast.AsyncFunctionDef

METHODS = sorted(path.parent.name for path in (SOURCE / "methods").glob("*/__init__.py"))
"""Methods that exist: folders of ``methods/``."""

PIPELINES = sorted(path.parent.name for path in (SOURCE / "pipelines").glob("*/__init__.py"))
"""Pipelines that exist: folders of ``pipelines/``."""


@dataclass(frozen=True)
class Module:
    """A source file and its syntax tree."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def name(self) -> str:
        """Path from the root of the project."""
        return self.path.relative_to(PROJECT).as_posix()

    @property
    def lines(self) -> int:
        """Lines of the file."""
        return self.text.count("\n")

    def functions(self) -> Iterator[Function]:
        """Yield every function and method."""
        yield from (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def public_functions(self) -> Iterator[Function]:
        """Yield the functions of the module itself that are meant for others."""
        for node in self.tree.body:
            if isinstance(node, Function) and not node.name.startswith("_"):
                yield node


def modules(folder: Path = SOURCE) -> list[Module]:
    """Return the Python files under a folder."""
    found = []
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        found.append(Module(path, text, ast.parse(text)))
    return found


def body_lines(function: Function) -> int:
    """Return the lines of a function's body without signature and docstring."""
    first = function.body[1] if ast.get_docstring(function) and len(function.body) > 1 else None
    begin = first or function.body[0]
    return (function.end_lineno or 0) - begin.lineno + 1


def nesting(node: ast.AST, depth: int = 0) -> int:
    """Return how deep blocks stand in each other; an ``elif`` does not count as deeper."""
    deepest = depth
    for name, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        chained = isinstance(node, ast.If) and name == "orelse" and len(children) == 1
        for child in children:
            if isinstance(child, ast.AST):
                block = isinstance(child, BLOCKS) and not (chained and isinstance(child, ast.If))
                deepest = max(deepest, nesting(child, depth + block))
    return deepest


def arguments(function: Function) -> list[str]:
    """Return the names of a function's arguments, without self and cls."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    return [argument.arg for argument in named if argument.arg not in ("self", "cls")]


def kept_files() -> list[Path]:
    """Return the text files that belong to the project."""
    found = [path for path in PROJECT.iterdir() if path.is_file()]
    for folder in KEPT:
        found += [path for path in (PROJECT / folder).rglob("*") if path.is_file()]
    return [p for p in found if "__pycache__" not in p.parts and p.suffix not in (".pyc", ".png")]

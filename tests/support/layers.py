"""Reads the syntax tree of every module and says where it breaks the layout of the architecture."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_FILE_LINES = 700
MAX_FUNCTION_LINES = 60
_CLOCK = re.compile(r"(^|\.)(datetime|date)\.(now|utcnow|today)$")


@dataclass(frozen=True)
class Layout:
    """What a package may do.

    floors   names of modules and folders right below the package, lowest floor first
    foreign  modules of other packages of ours that may be imported, with all below them
    pure     names of folders and modules below the package that do no I/O and read no clock
    impure   top-level modules of the standard library and of others that pure code does not import
    """

    floors: Sequence[Sequence[str]]
    foreign: frozenset[str]
    pure: frozenset[str]
    impure: frozenset[str]


@dataclass(frozen=True)
class Module:
    """A source file. name is dotted, "distributor.http.ranges"; a package's is that of its folder."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def place(self) -> str:
        """The name right below the package, by which the floor is known; "" for the package itself."""
        return self.name.split(".")[1] if "." in self.name else ""


def read_package(root: Path) -> dict[str, Module]:
    """Return every module below the folder `root`, by name."""
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        text = path.read_text(encoding="utf-8")
        name = ".".join(parts)
        modules[name] = Module(name, path, ast.parse(text, str(path)), text.count("\n"))
    return modules


def imports(module: Module, known: Mapping[str, Module]) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of everything imported; a submodule by its own name where it is known."""
    is_folder = module.path.name == "__init__.py"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.name.split(".")
                up = up[: len(up) - node.level + is_folder]
                base = ".".join([*up, base] if base else up)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in known else base), node.lineno


def upward_imports(modules: Mapping[str, Module], layouts: Mapping[str, Layout]) -> list[str]:
    """Return a line for every import that does not go down, and every module without a floor."""
    found = []
    for module in modules.values():
        layout = layouts[module.package]
        floor = {place: number for number, names in enumerate(layout.floors) for place in names}
        if not module.place:
            floor[""] = -1
        if module.place not in floor:
            found.append(f"{module.name}: has no floor; give {module.place} one")
            continue
        for name, line in imports(module, modules):
            package, _, below = name.partition(".")
            place = below.partition(".")[0]
            if package not in layouts or name == package:
                continue
            if package != module.package:
                allowed = any(name == free or name.startswith(f"{free}.") for free in layout.foreign)
                if not allowed:
                    found.append(f"{module.name}:{line}: imports {name} of another package")
            elif place != module.place and floor.get(place, 99) >= floor[module.place]:
                found.append(f"{module.name}:{line}: imports {name}, which is not on a lower floor")
    return found


def circles(modules: Mapping[str, Module]) -> list[str]:
    """Return a line for every circle of imports that a walk in depth meets."""
    arrows = {
        name: sorted({target for target, _ in imports(module, modules) if target in modules} - {name})
        for name, module in modules.items()
    }
    found: list[str] = []
    done: set[str] = set()

    def walk(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append(" → ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for target in arrows[name]:
                walk(target, [*trail, name])
            done.add(name)

    for name in sorted(arrows):
        walk(name, [])
    return found


def impurities(modules: Mapping[str, Module], layouts: Mapping[str, Layout]) -> list[str]:
    """Return a line for every import, in pure code, of something that acts on or asks the world."""
    found = []
    for module in modules.values():
        layout = layouts[module.package]
        if module.place not in layout.pure:
            continue
        found += [
            f"{module.name}:{line}: is pure and imports {name}"
            for name, line in imports(module, modules)
            if name.partition(".")[0] in layout.impure and not _only_converts(module, name)
        ]
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("open", "print"):
                found.append(f"{module.name}:{node.lineno}: is pure and calls {ast.unparse(node.func)}")
            if isinstance(node, ast.Attribute) and _CLOCK.search(ast.unparse(node)):
                found.append(f"{module.name}:{node.lineno}: is pure and reads the clock")
    return found


def _only_converts(module: Module, name: str) -> bool:
    """Say whether `time` is used for nothing but gmtime of a given moment, which asks no clock."""
    if name != "time":
        return False
    used = [node for node in ast.walk(module.tree) if isinstance(node, ast.Name) and node.id == "time"]
    converting = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "time.gmtime" and node.args
    ]
    return 0 < len(used) == len(converting)


def oversized(modules: Mapping[str, Module]) -> list[str]:
    """Return a line for every file and function that has outgrown what a reader can hold."""
    found = []
    for module in modules.values():
        if module.lines > MAX_FILE_LINES:
            found.append(f"{module.path}: {module.lines} lines, of {MAX_FILE_LINES}")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _body_lines(node)
                if lines > MAX_FUNCTION_LINES and not _is_table(node):
                    found.append(f"{module.path}:{node.lineno}: {node.name} has {lines} lines")
    return found


def _is_table(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Say whether all it does is return a tuple or list written out: read row by row, not held in mind."""
    *before, last = node.body
    plain = all(isinstance(statement, ast.Assign | ast.Expr) for statement in before)
    return plain and isinstance(last, ast.Return) and isinstance(last.value, ast.Tuple | ast.List)


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function's body spans, its docstring left out."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0

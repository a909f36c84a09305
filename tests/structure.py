"""Figures of the project's structure: `make house`, or `python -m tests.structure [--json]`.

For each room and each folder in it: files, imports among them, floors, circles; the longest file, function and class.

- An *arrow* is an import of one child of a folder by another; imports inside a sub-folder are that folder's.
- *Floors* is the number of children on the longest chain of arrows, children of one circle counting once.
- A *circle* is a set of children that import each other, directly or indirectly.
- Lines of a function are those of its body, without signature and docstring.
"""

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import grimp
from rich.console import Console
from rich.table import Column, Table

ROOT: Final = Path(__file__).parent.parent
ROOMS: Final = ("vitals", "wire", "runtime", "models", "edge", "stream", "simulators", "dashboards", "deploy")


class Largest(NamedTuple):
    """The largest thing of a kind, and how large it is."""

    size: int
    name: str


class Folder(NamedTuple):
    """What one folder looks like from outside."""

    name: str
    files: int  # in it and in its sub-folders
    children: int  # files and sub-folders that lie directly in it
    arrows: int
    floors: int
    circles: tuple[tuple[str, ...], ...]
    longest_file: Largest
    longest_function: Largest
    most_methods: Largest


def folders() -> list[Folder]:
    """Every room and every folder with at least two children, in the order of the rooms."""
    graph = grimp.build_graph(*ROOMS, cache_dir=None)
    packages = [name for name in sorted(graph.modules) if len(graph.find_children(name)) > 1]
    return [_folder(graph, name) for room in ROOMS for name in packages if name.split(".")[0] == room]


def _folder(graph: grimp.ImportGraph, name: str) -> Folder:
    children = sorted(graph.find_children(name))
    arrows = {
        child: {
            other
            for other in children
            if other != child and graph.direct_import_exists(importer=child, imported=other, as_packages=True)
        }
        for child in children
    }
    paths = sorted(ROOT.joinpath(*name.split(".")).rglob("*.py"))
    return Folder(
        name=name,
        files=len(paths),
        children=len(children),
        arrows=sum(map(len, arrows.values())),
        floors=_floors(arrows),
        circles=tuple(circle for circle in _circles(arrows) if len(circle) > 1),
        longest_file=max(Largest(len(path.read_text(encoding="utf-8").splitlines()), _short(path)) for path in paths),
        longest_function=max((one for path in paths for one in functions(path)), default=Largest(0, "")),
        most_methods=max((one for path in paths for one in classes(path)), default=Largest(0, "")),
    )


def _circles(arrows: Mapping[str, set[str]]) -> list[tuple[str, ...]]:
    """Children grouped so that those of one group reach each other; alone is a group too."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        todo = [start]
        while todo:
            for other in arrows[todo.pop()] - found:
                found.add(other)
                todo.append(other)
        return found

    reached = {one: reach(one) for one in arrows}
    return sorted({tuple(sorted({one} | {o for o in reached[one] if one in reached[o]})) for one in arrows})


def _floors(arrows: Mapping[str, set[str]]) -> int:
    group = {one: circle for circle in _circles(arrows) for one in circle}

    @cache
    def height(circle: tuple[str, ...]) -> int:
        below = {group[other] for one in circle for other in arrows[one]} - {circle}
        return 1 + max(map(height, below), default=0)

    return max(map(height, group.values()), default=0)


def functions(path: Path) -> Iterator[Largest]:
    """Every function of a file with the lines of its body."""
    for name, node in _definitions(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield Largest(lines, f"{_short(path)}: {name}")


def classes(path: Path) -> Iterator[Largest]:
    """Every class of a file with the number of its methods."""
    for name, node in _definitions(path):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) for one in node.body)
            yield Largest(methods, f"{_short(path)}: {name}")


def _definitions(path: Path) -> Iterator[tuple[str, ast.AST]]:
    todo: list[tuple[str, ast.AST]] = [("", ast.parse(path.read_text(encoding="utf-8")))]
    while todo:
        prefix, parent = todo.pop()
        for node in ast.iter_child_nodes(parent):
            name = prefix
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{prefix}.{node.name}".lstrip(".")
                yield name, node
            todo.append((name, node))


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def main() -> int:
    """Print the figures; status 1 if there is a circle."""
    found = folders()
    if "--json" in sys.argv[1:]:
        sys.stdout.write(json.dumps({one.name: one._asdict() for one in found}, indent=1) + "\n")
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(_table(found))
    return 1 if any(one.circles for one in found) else 0


def _table(found: list[Folder]) -> Table:
    table = Table(
        "folder", *(Column(name, justify="right") for name in ("files", "children", "arrows", "floors", "circles")),
        "longest file", "longest function body", "most methods", box=None, header_style="bold",
    )  # fmt: skip
    for one in found:
        cells = (one.files, one.children, one.arrows, one.floors, len(one.circles))
        largest = (one.longest_file, one.longest_function, one.most_methods)
        table.add_row(one.name, *map(str, cells), *(f"{size} {name}" for size, name in largest))
    return table


if __name__ == "__main__":
    sys.exit(main())

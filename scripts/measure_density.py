"""How dense the source is: syntax a statement, conditional expressions, comprehensions, comments, longest function.

    python scripts/measure_density.py [FOLDER] [--rooms] [--files N]

Counts every Python file below FOLDER (default src/autolab) but the labs that `init` copies (templates/). Nodes and
statements are those of Python's `ast`, so that a formatter cannot change them. A comment line holds a comment and
nothing else. The page docs/architecture.md shows the table, before and after; tests/test_density.py holds the limits.
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass
class Density:
    """Counts over one or several files."""

    nodes: int = 0
    statements: int = 0
    conditionals: int = 0
    comprehensions: int = 0
    lines: int = 0
    """Lines that are not blank."""
    comments: int = 0
    longest: int = 0
    """Lines of the longest function."""

    def add(self, other: Density) -> None:
        self.nodes += other.nodes
        self.statements += other.statements
        self.conditionals += other.conditionals
        self.comprehensions += other.comprehensions
        self.lines += other.lines
        self.comments += other.comments
        self.longest = max(self.longest, other.longest)

    @property
    def nodes_a_statement(self) -> float:
        return self.nodes / max(1, self.statements)

    @property
    def conditionals_a_thousand(self) -> float:
        return 1000 * self.conditionals / max(1, self.statements)

    @property
    def comprehensions_a_thousand(self) -> float:
        return 1000 * self.comprehensions / max(1, self.statements)

    @property
    def comment_share(self) -> float:
        """In percent of the lines that are not blank."""
        return 100 * self.comments / max(1, self.lines)


def of_file(path: Path) -> Density:
    """The counts of one file. SyntaxError: it is not Python."""
    text = path.read_text(encoding="utf-8")
    density = Density()
    for node in ast.walk(ast.parse(text)):
        density.nodes += 1
        density.statements += isinstance(node, ast.stmt)
        density.conditionals += isinstance(node, ast.IfExp)
        density.comprehensions += isinstance(node, COMPREHENSIONS)
        if isinstance(node, FUNCTIONS):
            density.longest = max(density.longest, (node.end_lineno or node.lineno) - node.lineno + 1)
    for line in text.splitlines():
        density.lines += bool(line.strip())
        density.comments += line.lstrip().startswith("#")
    return density


def of_tree(folder: Path) -> dict[Path, Density]:
    """Every file's counts, by its path below `folder`."""
    paths = (path for path in sorted(folder.rglob("*.py")) if path.relative_to(folder).parts[0] != "templates")
    return {path.relative_to(folder): of_file(path) for path in paths}


def total(counts: dict[Path, Density]) -> Density:
    everything = Density()
    for density in counts.values():
        everything.add(density)
    return everything


def by_room(counts: dict[Path, Density]) -> dict[str, Density]:
    """The counts of each room: a folder of the package, or a file beside the folders."""
    rooms: dict[str, Density] = defaultdict(Density)
    for path, density in counts.items():
        rooms[path.parts[0]].add(density)
    return rooms


HEADER = (
    f"{'':44}{'nodes':>8}{'statements':>12}{'nodes/stmt':>12}{'cond./1000':>12}{'compr./1000':>13}"
    f"{'comments':>10}{'longest':>9}"
)


def row(name: str, density: Density) -> str:
    return (
        f"{name:44}{density.nodes:8}{density.statements:12}{density.nodes_a_statement:12.2f}"
        f"{density.conditionals_a_thousand:12.1f}{density.comprehensions_a_thousand:13.1f}"
        f"{density.comment_share:9.2f}%{density.longest:9}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "src" / "autolab")
    parser.add_argument("--rooms", action="store_true", help="a row for each room")
    parser.add_argument("--files", type=int, default=0, metavar="N", help="a row for each of the N densest files")
    options = parser.parse_args()
    counts = of_tree(options.folder)
    print(HEADER)
    if options.rooms:
        for room, density in sorted(by_room(counts).items()):
            print(row(room, density))
    densest = sorted(counts.items(), key=lambda item: -item[1].nodes_a_statement)
    for path, density in densest[: options.files]:
        print(row(str(path), density))
    print(row("in all", total(counts)))


if __name__ == "__main__":
    main()

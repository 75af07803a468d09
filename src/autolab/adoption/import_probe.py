"""What runs inside the trials' Python: it says where each module would be found that a training imports.

Standard library only, Python 3.8 or newer, never imported by the engine: `python import_probe.py REQUEST`. It asks the
finders, as `import` does, and runs no code of the modules: a package may take minutes to import, or need a GPU. So a
package that changes its own `__path__`, and a script that changes `sys.path`, are not followed.
"""

from __future__ import annotations

import ast
import json
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec


class Search:
    """Follows imports from a script, as long as they lead to files below `root`; only those in top-level `names`."""

    def __init__(self, root: str, names: Sequence[str]) -> None:
        self.root = os.path.realpath(root)
        self.names = frozenset(names)
        self.places: dict[str, str | None] = {}
        """Module -> its file; empty for a folder without `__init__.py`, None if it is not found."""
        self.importers: dict[str, str] = {}
        """Module -> the file that imports it, relative to the root."""
        self._folders: dict[str, list[str] | None] = {"": None}

    def module(self, name: str, importer: str) -> None:
        """Find a module and what it lies in, then what it imports itself."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            outer = ".".join(parts[:length])
            if outer not in self.places:
                self._find(outer)
                self.importers[outer] = importer
                self._follow(outer)
            if self.places[outer] is None:
                return

    def source(self, path: str, package: str) -> None:
        """What the file `path` imports; `package` is what relative imports start from."""
        importer = os.path.relpath(os.path.realpath(path), self.root)
        for name, must_exist in _imports(path, package):
            if name.partition(".")[0] in self.names and (must_exist or self._exists(name)):
                self.module(name, importer)

    def _find(self, name: str) -> None:
        parent, _, _ = name.rpartition(".")
        spec = _spec(name, self._folders.get(parent))
        place: str | None = None
        if spec is not None:
            self._folders[name] = _locations(spec)
            place = spec.origin if spec.has_location and spec.origin else ""
        self.places[name] = place

    def _follow(self, name: str) -> None:
        place = self.places[name]
        if place and place.endswith(".py") and os.path.realpath(place).startswith(self.root + os.sep):
            is_package = os.path.basename(place) == "__init__.py"
            self.source(place, name if is_package else name.rpartition(".")[0])

    def _exists(self, name: str) -> bool:
        """Whether `name` of `from package import name` is a module, and not a value of the package."""
        parent, _, _ = name.rpartition(".")
        folders = self._folders.get(parent)
        return bool(folders) and _spec(name, folders) is not None


def _spec(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find(name, path, None) if find else None
        if spec is not None:
            return spec
    return None


def _locations(spec: ModuleSpec) -> list[str]:
    locations = spec.submodule_search_locations
    if locations is None:
        return []
    try:
        return list(locations)
    except KeyError:
        # A package without `__init__.py` looks for its parent among the imported modules, and nothing is imported.
        return list(getattr(locations, "_path", ()))


def _imports(path: str, package: str) -> Iterator[tuple[str, bool]]:
    """(module, whether it must be one) for each import of a file, wherever it stands."""
    try:
        with open(path, "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, True
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base:
                yield base, True
                for alias in node.names:
                    yield base + "." + alias.name, False


def _base(node: ast.ImportFrom, package: str) -> str:
    """The absolute name of what a `from` imports from; empty if it lies above the top."""
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    if node.level > len(parts):
        return ""
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def _lacking(search: Search, script: str) -> list[str]:
    """Top-level names that are not found, of the imports at the outer level of the script and of what it imports so.

    In a function or below `try` an import may be meant to fail.
    """
    lacking: set[str] = set()
    seen: set[str] = set()
    waiting = [(script, "")]
    while waiting:
        path, package = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _outer_imports(path, package):
            top = name.partition(".")[0]
            place = search.places.get(name)
            if place and place.endswith(".py") and os.path.realpath(place).startswith(search.root + os.sep):
                is_package = os.path.basename(place) == "__init__.py"
                waiting.append((place, name if is_package else name.rpartition(".")[0]))
            elif top not in search.places and top not in sys.modules and _spec(top, None) is None:
                lacking.add(top)
    return sorted(lacking)


def _outer_imports(path: str, package: str) -> Iterator[str]:
    """The modules that a file imports at its outer level, and what it imports from them, which may be modules."""
    try:
        with open(path, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            if base:
                yield base
                for alias in node.names:
                    yield base + "." + alias.name


def _installed() -> list[str]:
    from importlib.metadata import distributions

    return sorted({str(package.metadata["Name"] or "") for package in distributions()})


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        request = json.load(file)
    # As the script's own start would have it. With -I, and with -P, there is no such entry.
    if not sys.flags.isolated and not getattr(sys.flags, "safe_path", False):
        sys.path[0] = request["folder"]
    search = Search(request["root"], request["names"])
    script = request["script"]
    if request["module"]:
        search.module(request["module"], "the train command")
        script = search.places.get(request["module"]) or script
    if script:
        search.source(script, "")
    print(
        json.dumps(
            {
                "places": search.places,
                "importers": search.importers,
                "lacking": _lacking(search, script),
                "installed": _installed(),
            }
        )
    )


if __name__ == "__main__":
    main()

"""What runs inside the trials' interpreter: it says where it imports from, and imports a candidate's code in its place.

Standard library only, Python 3.8 or newer, never imported by the engine. Two uses of one file:

- `python -I -B site_paths.py` prints one line of JSON: version, packages, prefixes, and every place that imports come
  from: sys.path, the editable finders' tables, links in site-packages.
- A copy of it called `sitecustomize.py`, in a folder on PYTHONPATH, is imported by each Python of a trial at its start,
  after the environment's `.pth` files have run. It sends what leads into the lab's checkout to the same relative
  folder of the code export, so that a trial imports the candidate's code wherever the lab is installed editable.

An editable finder (setuptools, editables, scikit-build-core) is a meta path finder that keeps a dict from module names
to paths, in its module or in itself. The dicts are rewritten, whoever wrote the finder.
Not covered: a finder that builds its package when it is imported (meson-python), and `python -I` or `-E`, which take
nothing from PYTHONPATH: there the lab's package is not found. So the evaluator, which runs with -I, imports no code
that a candidate can change.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location

TYPE_CHECKING = False  # typing itself would cost each start of each trial some milliseconds
if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from typing import Any

MOVED: dict[str, Any] | None = None
"""In a copy: {"roots": spellings of the lab's root, "exempt": folders below it that stay, "to": the code export,
"paths": relative folders for sys.path, "links": {module: relative path}}."""


def tables() -> Iterator[dict[str, Any]]:
    """Each dict from module names to paths that a finder of sys.meta_path works with."""
    for finder in sys.meta_path:
        # setuptools puts the class itself there, editables an instance.
        kind = finder if isinstance(finder, type) else type(finder)
        # Python's own finders hold caches, which look like tables.
        if kind.__module__.partition(".")[0] in ("_frozen_importlib", "_frozen_importlib_external", "importlib"):
            continue
        module = sys.modules.get(kind.__module__)
        for owner in (finder, kind, module):
            for attribute, value in list(getattr(owner, "__dict__", {}).items()):
                if not attribute.startswith("__") and type(value) is dict and all(map(_is_module, value)):
                    yield value


def _is_module(name: object) -> bool:
    # setuptools lists `slope-stubs` too, and any folder that the project names as a package.
    return isinstance(name, str) and all(part.replace("-", "_").isidentifier() for part in name.split("."))


def paths_in(value: object) -> list[str]:
    """The absolute paths in an entry of a finder's table: one path, or several."""
    entries = value if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    paths = []
    for entry in entries:
        if isinstance(entry, (str, os.PathLike)) and os.path.isabs(entry):
            paths.append(os.fspath(entry))
    return paths


# the report on this interpreter


def answer() -> dict[str, Any]:
    """What the engine needs to know about this interpreter."""
    # Imported here: the copy that each trial imports at its start needs none of them.
    import site
    import sysconfig
    from importlib.metadata import distributions

    installed = sysconfig.get_paths()
    own = [installed[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    # virtualenv's older site module has no such function.
    if hasattr(site, "getsitepackages"):
        own += site.getsitepackages()
    # A damaged distribution has no name; a path that is listed twice names one twice.
    packages = {f"{(package.metadata['Name'] or '').lower()}=={package.version}" for package in distributions()}
    finders: set[tuple[str, str]] = set()
    for table in tables():
        for name in table:
            # A submodule lies with its package, and there may be thousands.
            if "." not in name or name.partition(".")[0] not in table:
                finders.update((name, path) for path in paths_in(table[name]))
    return {
        "version": sys.version.split()[0],
        "site": installed["purelib"],
        "found": sorted(packages),
        "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix],
        "own": own,
        "path": [path for path in sys.path if path],
        "finders": sorted(finders),
        "links": sorted(_links(sys.path)),
    }


def _links(folders: list[str]) -> Iterator[tuple[str, str]]:
    """(module, target) of each link in these folders that is a package or a module: `flit install --symlink`."""
    for folder in folders:
        try:
            entries = list(os.scandir(folder or "."))
        except OSError:
            continue  # sys.path may name folders that do not exist
        for entry in entries:
            # Python 3.8 has no removesuffix.
            name = entry.name[:-3] if entry.name.endswith(".py") else entry.name
            if entry.is_symlink() and name.isidentifier():
                yield name, os.path.realpath(entry.path)


# the redirection


def redirect(moved: dict[str, Any], here: str) -> None:
    """Send every import that would come from the lab's checkout to the code export; `here` is this copy's folder."""
    before = [path for path in sys.path if path != here]
    after = [_moved(path, moved) for path in before]
    # Where the checkout is not there at all, site has dropped its lines: they come last, as `.pth` lines do.
    after += [os.path.join(moved["to"], path) for path in moved["paths"]]
    sys.path[:] = list(dict.fromkeys(after))
    for table in tables():
        for name, value in list(table.items()):
            if paths_in(value):
                table[name] = _moved_value(value, moved)
    if moved["links"]:
        links = {name: os.path.join(moved["to"], path) for name, path in moved["links"].items()}
        # In front of the path finder, which would follow the link into the checkout.
        sys.meta_path.insert(0, _Links(links))
    # Finders of the old entries must not answer for the new ones.
    sys.path_importer_cache.clear()


def _moved_value(value: Any, moved: dict[str, Any]) -> Any:
    # Of the same type as before: a finder may do with it whatever it did.
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(_moved_value(entry, moved) for entry in value)
    if isinstance(value, str):
        return _moved(value, moved)
    if isinstance(value, os.PathLike):
        return type(value)(_moved(os.fspath(value), moved))  # type: ignore[call-arg]
    return value


def _moved(path: str, moved: dict[str, Any]) -> str:
    """The path in the export for one in the checkout; any other as it is."""
    if not isinstance(path, str) or not os.path.isabs(path):
        return path
    plain = os.path.normpath(path)
    # The venv may lie in the checkout: what is installed there stays.
    if any(_within(plain, folder) for folder in moved["exempt"]):
        return path
    for root in moved["roots"]:
        if _within(plain, root):
            return os.path.normpath(os.path.join(moved["to"], os.path.relpath(plain, root)))
    return path


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


class _Links:
    """Finds the modules that are links into the checkout, before the link itself is."""

    def __init__(self, places: dict[str, str]) -> None:
        self.places = places

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        place = self.places.get(name)
        if place is None:
            return None
        if place.endswith(".py"):
            return spec_from_file_location(name, place) if os.path.isfile(place) else None
        init = os.path.join(place, "__init__.py")
        if os.path.isfile(init):
            return spec_from_file_location(name, init, submodule_search_locations=[place])
        return None


def _next_sitecustomize() -> None:
    """The environment's own sitecustomize, which this copy stands in front of."""
    spec = PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    module = module_from_spec(spec)
    # As the import system does it: the module is registered before its code runs.
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if MOVED is not None:
    redirect(MOVED, os.path.dirname(os.path.abspath(__file__)))
    _next_sitecustomize()
elif __name__ == "__main__":
    import json

    print(json.dumps(answer()))

"""A lab with a package of its own, `slope`, installed editable in its own ./venv, by hand: no network, no pip."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

WIDTH = "WIDTH = {}\n"
FINDER = """\
import sys
from importlib.machinery import PathFinder
from importlib.util import spec_from_file_location
from itertools import chain
from importlib.machinery import all_suffixes as module_suffixes
from pathlib import Path

MAPPING: dict[str, str] = {mapping!r}
NAMESPACES: dict[str, list[str]] = {{}}
PATH_PLACEHOLDER = '__editable__.slope-0.1.finder' + ".__path_hook__"


class _EditableFinder:  # as setuptools writes it
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        for pkg, pkg_path in reversed(list(MAPPING.items())):
            if fullname == pkg or fullname.startswith(f"{{pkg}}."):
                rest = fullname.replace(pkg, "", 1).strip(".").split(".")
                return cls._find_spec(fullname, Path(pkg_path, *rest))
        return None

    @classmethod
    def _find_spec(cls, fullname, candidate_path):
        init = candidate_path / "__init__.py"
        candidates = (candidate_path.with_suffix(x) for x in module_suffixes())
        for candidate in chain([init], candidates):
            if candidate.exists():
                return spec_from_file_location(fullname, candidate)
        return None


def install():
    if not any(finder == _EditableFinder for finder in sys.meta_path):
        sys.meta_path.append(_EditableFinder)
"""
REDIRECTOR = """\
import importlib.abc
import importlib.util
import sys


class RedirectingFinder(importlib.abc.MetaPathFinder):  # as the package editables writes it
    _redirections = {}

    @classmethod
    def map_module(cls, name, path):
        cls._redirections[name] = path

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if "." in fullname or path is not None:
            return None
        redirect = cls._redirections.get(fullname)
        return importlib.util.spec_from_file_location(fullname, redirect) if redirect else None

    @classmethod
    def install(cls):
        sys.meta_path.append(cls)
"""


def make_venv(folder: Path) -> Path:
    """An environment without pip; its site-packages."""
    made = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    subprocess.run(made, check=True, capture_output=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    return site


def path_line(site: Path, lab: Path) -> None:
    """As hatch, flit, poetry, pdm and setuptools (src layout) install: a line with a folder."""
    (site / "_slope.pth").write_text(f"{lab}/src\n")


def finder(site: Path, lab: Path) -> None:
    """As setuptools installs where the folder's name is not the package's, or the layout is flat."""
    (site / "__editable__.slope-0.1.pth").write_text(
        "import __editable___slope_0_1_finder; __editable___slope_0_1_finder.install()\n"
    )
    text = FINDER.format(mapping={"slope": f"{lab}/src/slope"})
    (site / "__editable___slope_0_1_finder.py").write_text(text)


def redirector(site: Path, lab: Path) -> None:
    """As hatch (dev-mode-exact) and pdm install, by the package editables."""
    (site / "redirector.py").write_text(REDIRECTOR)
    (site / "_slope.pth").write_text("import _slope\n")
    (site / "_slope.py").write_text(
        "from redirector import RedirectingFinder as F\n"
        f"F.install()\nF.map_module('slope', {str(lab / 'src' / 'slope' / '__init__.py')!r})\n"
    )


def link(site: Path, lab: Path) -> None:
    """As `flit install --symlink`."""
    (site / "slope").symlink_to(lab / "src" / "slope")


def egg_link(site: Path, lab: Path) -> None:
    """As `setup.py develop`."""
    (site / "slope.egg-link").write_text(f"{lab}/src\n.")
    (site / "easy-install.pth").write_text(f"{lab}/src\n")


WAYS: dict[str, Callable[[Path, Path], None]] = {
    way.__name__: way for way in (path_line, finder, redirector, link, egg_link)
}


def clear(site: Path) -> None:
    """Nothing is installed any more."""
    for path in site.iterdir():
        if path.is_symlink() or path.is_file():
            path.unlink()


def package(root: Path, width: float) -> None:
    """The package below `root`/src."""
    folder = root / "src" / "slope"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text("from slope.width import WIDTH\n")
    (folder / "width.py").write_text(WIDTH.format(width))


def newer(path: Path) -> None:
    """Give a folder another time of modification than it ever had, where two changes fall into one tick."""
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))

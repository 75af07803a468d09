"""The trials' interpreter: what is installed, what a box has to let it read, and where it would import the lab from.

What the interpreter says of sys.path is not what it gets. The environment itself (prefixes, standard library,
site-packages) is bound, also where it lies in the lab, as `./venv` does. A path that leads elsewhere, such as another
project that is installed editable, is bound as it is. A path that leads into the lab's checkout is not bound, for
there lie the labels and the record: it is sent to the candidate's export (`site_paths`).
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autolab import files
from autolab.errors import LabError
from autolab.lab.schemas.experiment import Environment
from autolab.sandbox import execute
from autolab.sandbox.box import SYSTEM, Box
from autolab.text import decode_json
from autolab.trials import site_paths

ANSWER_LIMIT_S = 60.0
"""Seconds in which an interpreter says what it has."""
PACKAGED_DATA = frozenset({"scikit-learn"})
"""Distributions with the evaluation data of a shipped lab inside: sklearn.datasets.load_digits has the labels too."""
TEMPLATES = "templates"
"""The folder of Autolab's own package that holds the shipped labs, with the labels of their evaluation."""
MARK = "errors.py"
"""A file by which a folder called `autolab` is known as this package, of whatever version."""
REDIRECTED = "imports from the export"
"""Part of the hashed text of a content key."""
_SYSTEM_SITES = ("/usr/lib/python3*", "/usr/local/lib/python3*")


@dataclass(frozen=True)
class _Answer:
    """What an interpreter says of itself; `modified` is the time of its site-packages in nanoseconds."""

    version: str
    packages: tuple[str, ...]
    site: Path
    modified: int
    prefixes: tuple[str, ...]
    own: tuple[str, ...]
    """Its standard library and site-packages."""
    path: tuple[str, ...]
    finders: tuple[tuple[str, str], ...]
    """(module, path) of each entry in an editable finder's table."""
    links: tuple[tuple[str, str], ...]
    """(module, target) of each link in a folder of sys.path."""


@dataclass(frozen=True)
class Redirection:
    """Where the interpreter would import from the lab's checkout, relative to its root; empty where it would not.

    `finders`: an editable finder leads there, whose table holds the rest."""

    paths: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    finders: bool = False
    kept: tuple[str, ...] = ()
    """Folders in the checkout from which it does import: its own environment."""
    aliases: tuple[str, ...] = ()
    """Other names of the lab's root, through links, by which it is named."""

    def __bool__(self) -> bool:
        return bool(self.paths or self.links or self.finders)

    def text(self, roots: Sequence[str], export: Path) -> str:
        """A `sitecustomize.py` that sends what leads into the checkout, at any of `roots`, to a code export."""
        kept = [*self.kept, *(os.path.join(root, ".git") for root in roots)]  # the export itself lies in .git
        moved: dict[str, Any] = {"roots": [*roots, *self.aliases], "kept": kept, "to": str(export)}
        moved |= {"paths": list(self.paths), "links": dict(self.links)}
        source = Path(site_paths.__file__).read_text(encoding="utf-8")
        unset = "MOVED: dict[str, Any] | None = None\n"
        assert source.count(unset) == 1
        return source.replace(unset, f"MOVED: dict[str, Any] | None = {moved!r}\n")


@dataclass(frozen=True)
class Places:
    """What a box of this interpreter reads, which folders below that it hides, and what is sent to an export."""

    reads: tuple[str, ...]
    covers: tuple[str, ...]
    redirection: Redirection


@dataclass(frozen=True)
class Interpreter:
    """The Python of a run's trials: what is installed, where it runs from, and the folders that no trial may read."""

    path: str
    environment: Environment
    reads: tuple[str, ...]
    covers: tuple[str, ...]
    """The shipped labs, with their labels."""

    def identity(self, redirected: bool) -> str:
        """What of the environment a trial's numbers depend on. `redirected`: imports are sent to the code export."""
        installed = f"{self.environment.version} {self.environment.packages_sha256}"
        return f"{installed} {REDIRECTED}" if redirected else installed

    def enclosed(self, box: Box) -> Box:
        """A box in which this interpreter runs."""
        return replace(box, reads=(*box.reads, *self.reads), covers=self.covers)


def inspect(python: str, root: Path) -> tuple[Interpreter, Redirection]:
    """The interpreter as trials use it, with the checkout at `root`, and what it would import from there.

    LabError: it does not start, or a path of its own holds the whole checkout.
    """
    environment, needed = packages_hash(Path(python)), places(Path(python), root)
    return Interpreter(python, environment, needed.reads, needed.covers), needed.redirection


def packages_hash(python: Path) -> Environment:
    """The interpreter's version and the SHA-256 over its sorted `name==version` lines.

    Asked once per interpreter and modification time of its site-packages. LabError: it does not start.
    """
    answer = _answer(python)
    packages_sha256 = files.sha256_of("\n".join(answer.packages))
    return Environment(python=str(python), version=answer.version, packages_sha256=packages_sha256)


def holds_packaged_data(python: Path) -> list[str]:
    """Installed distributions that carry a shipped lab's evaluation data, for which a trial could just reach."""
    names = {line.partition("==")[0].replace("_", "-") for line in _answer(python).packages}
    return sorted(names & PACKAGED_DATA)


def places(python: Path, root: Path) -> Places:
    """What the interpreter needs of the machine, with the lab at `root`.

    LabError: a path of its own holds the whole lab.
    """
    answer, roots = _answer(python), spellings(root)
    own = _environment(answer, roots)
    elsewhere: list[str] = []
    paths: list[str] = []
    named: list[str] = []
    for path in answer.path:
        if _is_own(path, own) or not os.path.exists(path):
            continue
        if _within_any(path, roots):
            paths.append(_relative(path, roots))
            named.append(path)
        elif _holds(path, roots):
            raise LabError(
                f"{python}: {path} is on its sys.path, and the lab lies in it, with its labels: take that line out of"
                f" the .pth file in {answer.site}, or name another python in .autolab/config.yaml"
            )
        else:
            elsewhere.append(path)
    links: list[tuple[str, str]] = []
    finders = False
    for table in (answer.finders, answer.links):
        for name, path in table:
            if _is_own(path, own):
                continue
            if not _within_any(path, roots):
                target = _package(path)
                if target is not None and not _holds(path, roots):
                    elsewhere.append(target)
                continue
            named.append(path)
            if table is answer.finders:
                finders = True
            else:
                links.append((name, _relative(path, roots)))
    kept = tuple(path for path in own if _within_any(path, roots))
    redirection = Redirection(tuple(dict.fromkeys(paths)), tuple(links), finders, kept, _aliases(named, roots))
    reads = _outermost([*own, *elsewhere])
    covers = shipped_labs([*answer.own, *answer.path, *elsewhere], reads)
    return Places(reads, covers, redirection)


def spellings(root: Path) -> tuple[str, ...]:
    """The absolute paths by which the lab's root may be named: as it is given, and without links."""
    return tuple(dict.fromkeys((os.path.abspath(root), os.path.realpath(root))))


def _environment(answer: _Answer, roots: Sequence[str]) -> tuple[str, ...]:
    """Prefixes, standard library and site-packages. Of a prefix that the lab lies in, only its Python."""
    found = [path for path in answer.own if not _holds(path, roots)]
    for prefix in answer.prefixes:
        if not _holds(prefix, roots):
            found.append(prefix)
            continue
        parts = [os.path.join(prefix, name) for name in ("bin", "pyvenv.cfg")]
        parts += glob.glob(os.path.join(glob.escape(prefix), "lib*", "libpython*"))
        found += [path for path in parts if not _holds(path, roots)]
    return _outermost(found)


def _package(path: str) -> str | None:
    """The file or folder to bind for an entry of a finder's table; None where there is nothing."""
    if os.path.basename(path) == "__init__.py":
        path = os.path.dirname(path)
    known = (path, f"{path}.py")
    return next((one for one in known if os.path.exists(one)), path if os.path.islink(path) else None)


def _holds(path: str, roots: Sequence[str]) -> bool:
    """Whether the lab's root lies in `path`, or is it, by any spelling."""
    spelled = (os.path.abspath(path), os.path.realpath(path))
    return any(Path(root).is_relative_to(outer) for root in roots for outer in spelled)


def _is_own(path: str, own: Iterable[str]) -> bool:
    """Whether a path lies in the environment when its links are followed: one may lead out of it."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(folder)) for folder in own)


def _within_any(path: str, folders: Iterable[str]) -> bool:
    spelled = (os.path.abspath(path), os.path.realpath(path))
    return any(Path(one).is_relative_to(folder) for one in spelled for folder in folders)


def _relative(path: str, roots: Sequence[str]) -> str:
    for spelled in (os.path.abspath(path), os.path.realpath(path)):
        for root in roots:
            if Path(spelled).is_relative_to(root):
                return os.path.relpath(spelled, root)
    raise AssertionError(f"{path} lies in none of {roots}")


def _aliases(paths: Iterable[str], roots: Sequence[str]) -> tuple[str, ...]:
    """What else the lab's root is called in these paths, which all lead into it."""
    found = []
    for path in paths:
        inner, spelled = _relative(path, roots), os.path.abspath(path)
        if not any(Path(spelled).is_relative_to(root) for root in roots):
            if inner == ".":
                found.append(spelled)
            elif spelled.endswith(f"/{inner}"):
                found.append(spelled.removesuffix(f"/{inner}"))
    return tuple(dict.fromkeys(found))


def shipped_labs(folders: Sequence[str], reads: Sequence[str]) -> tuple[str, ...]:
    """The shipped labs of each Autolab that is installed in one of these folders, or for the whole system."""
    packages = [os.path.join(folder, "autolab") for folder in folders]
    packages += [folder for folder in folders if os.path.basename(folder) == "autolab"]
    for pattern in _SYSTEM_SITES:
        packages += glob.glob(f"{pattern}/*-packages/autolab")
    found = []
    for package in packages:
        folder = os.path.join(package, TEMPLATES)
        if os.path.isdir(folder) and os.path.isfile(os.path.join(package, MARK)):
            found.append(_as_bound(folder, (*reads, *SYSTEM)))
    return tuple(dict.fromkeys(found))


def _as_bound(folder: str, reads: Sequence[str]) -> str:
    """A folder's name in a box, where a path below what is bound must not lead through a link."""
    real = os.path.realpath(folder)
    for place in reads:
        if Path(real).is_relative_to(os.path.realpath(place)):
            return os.path.normpath(os.path.join(place, os.path.relpath(real, os.path.realpath(place))))
    return folder


_known: dict[Path, _Answer] = {}


def _answer(python: Path) -> _Answer:
    # Not resolved: a virtual environment's interpreter is a link, and the environment is where the link lies.
    path = Path(shutil.which(python) or python).absolute()
    known = _known.get(path)
    if known is None or known.modified != _modified(known.site):
        known = _known[path] = _ask(path)
    return known


def _modified(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.exists() else 0


def _ask(python: Path) -> _Answer:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "answer.json"
        argv = [str(python), "-I", "-B", str(site_paths.__file__)]
        ended = execute.run(argv, log.parent, {}, log, ANSWER_LIMIT_S)
        text = decode_json(log.read_bytes())
    if ended.missing is not None or ended.timed_out:
        why = ended.missing or f"no answer within {ANSWER_LIMIT_S:g} s"
        raise LabError(f"{python}: does not start: {why}; name another as python in .autolab/config.yaml")
    if not ended.ok:
        last = ended.last_line or "no message"
        raise LabError(f"{python}: cannot list its packages (Python 3.8 or newer is needed): {last}")
    try:
        told = json.loads(text.rstrip().rpartition("\n")[2])
        site = Path(told["site"])
    except (ValueError, TypeError, KeyError):
        raise LabError(f"{python}: is no Python; name another as python in .autolab/config.yaml") from None
    pairs = {name: tuple((module, path) for module, path in told[name]) for name in ("finders", "links")}
    return _Answer(
        version=told["version"],
        packages=tuple(told["found"]),
        site=site,
        modified=_modified(site),
        prefixes=tuple(told["prefixes"]),
        own=tuple(told["own"]),
        path=tuple(told["path"]),
        finders=pairs["finders"],
        links=pairs["links"],
    )


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Paths that exist and lie in none of the others, `/` left out."""
    found: list[str] = []
    for path in sorted({os.path.abspath(path) for path in paths if path} - {"/"}, key=len):
        if os.path.exists(path) and not any(Path(path).is_relative_to(outer) for outer in found):
            found.append(path)
    return tuple(found)

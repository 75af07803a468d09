"""The trials' interpreter: what is installed, what a box has to let it read, and where it would import the lab from.

An interpreter does not get all of its sys.path. The environment itself (prefixes, standard library, site-packages)
is bound, also if it lies in the lab, as `./venv` does. A path that leads elsewhere, such as another project that is
installed editable, is bound as it is. A path that leads into the lab's checkout is not bound, because the labels and
the record lie there: its imports are sent to the candidate's export (`site_paths`).
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
"""Seconds that an interpreter may take to report on itself."""
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
    """What an interpreter reports on itself; `modified` is the time of its site-packages in nanoseconds."""

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
    """Where the interpreter would import from the lab's checkout, relative to its root; empty if nowhere.

    `finders`: an editable finder leads there, whose table holds the rest."""

    paths: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    finders: bool = False
    exempt: tuple[str, ...] = ()
    """Folders in the checkout that it may import from: its own environment."""
    aliases: tuple[str, ...] = ()
    """Other names of the lab's root, through links, that these paths use."""

    def __bool__(self) -> bool:
        return bool(self.paths or self.links or self.finders)

    def text(self, roots: Sequence[str], export: Path) -> str:
        """A `sitecustomize.py` that sends what leads into the checkout, at any of `roots`, to a code export."""
        # The export itself lies in .git.
        exempt = [*self.exempt, *(os.path.join(root, ".git") for root in roots)]
        moved: dict[str, Any] = {"roots": [*roots, *self.aliases], "exempt": exempt, "to": str(export)}
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
        """The part of the environment that a trial's numbers depend on. `redirected`: imports come from the export."""
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
    """Installed distributions that carry a shipped lab's evaluation data, which a trial could simply read."""
    names = {line.partition("==")[0].replace("_", "-") for line in _answer(python).packages}
    return sorted(names & PACKAGED_DATA)


def places(python: Path, root: Path) -> Places:
    """What the interpreter needs of the machine, with the lab at `root`.

    LabError: a path of its own holds the whole lab.
    """
    answer, checkout = _answer(python), _Checkout(spellings(root))
    own = _own_paths(answer, checkout)
    elsewhere: list[str] = []
    paths: list[str] = []
    links: list[tuple[str, str]] = []
    into_checkout: list[str] = []
    for path in answer.path:
        if _is_own(path, own) or not os.path.exists(path):
            continue
        relative = checkout.relative(path)
        if relative is not None:
            paths.append(relative)
            into_checkout.append(path)
        # To bind such a path would give the labels to each trial.
        elif checkout.lies_in(path):
            raise LabError(
                f"{python}: {path} is on its sys.path, and the lab lies in it, with its labels: take that line out of"
                f" the .pth file in {answer.site}, or name another python in .autolab/config.yaml"
            )
        else:
            elsewhere.append(path)
    finders = False
    for entries in (answer.finders, answer.links):
        for module, path in entries:
            if _is_own(path, own):
                continue
            relative = checkout.relative(path)
            if relative is None:
                package = _package(path)
                # A package that holds the lab is left out: to bind it would give the labels to each trial.
                if package is not None and not checkout.lies_in(package):
                    elsewhere.append(package)
                continue
            into_checkout.append(path)
            if entries is answer.links:
                links.append((module, relative))
            else:
                # The finder's own table says the rest, in the trial's process.
                finders = True
    exempt = tuple(path for path in own if checkout.relative(path) is not None)
    aliases = checkout.aliases(into_checkout)
    reads = _outermost([*own, *elsewhere])
    covers = shipped_labs([*answer.own, *answer.path, *elsewhere], reads)
    return Places(reads, covers, Redirection(tuple(dict.fromkeys(paths)), tuple(links), finders, exempt, aliases))


def spellings(path: str | Path) -> tuple[str, ...]:
    """The absolute names of a path: as it is given, and without links."""
    return tuple(dict.fromkeys((os.path.abspath(path), os.path.realpath(path))))


@dataclass(frozen=True)
class _Checkout:
    """The lab's checkout, by each spelling of its root."""

    roots: tuple[str, ...]

    def relative(self, path: str) -> str | None:
        """The path relative to the root, by any spelling of either; None if it lies outside."""
        for spelling in spellings(path):
            for root in self.roots:
                if Path(spelling).is_relative_to(root):
                    return os.path.relpath(spelling, root)
        return None

    def lies_in(self, path: str) -> bool:
        """Whether the root lies in `path`, or is it, by any spelling."""
        outer = spellings(path)
        return any(Path(root).is_relative_to(spelling) for root in self.roots for spelling in outer)

    def aliases(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Other names of the root in these paths, which all lead into it."""
        names = []
        for path in paths:
            spelling, relative = os.path.abspath(path), self.relative(path)
            if any(Path(spelling).is_relative_to(root) for root in self.roots):
                continue
            # The path leads here through a link: what stands before its relative part is a name of the root.
            if relative == ".":
                names.append(spelling)
            elif spelling.endswith(f"/{relative}"):
                names.append(spelling.removesuffix(f"/{relative}"))
        return tuple(dict.fromkeys(names))


def _own_paths(answer: _Answer, checkout: _Checkout) -> tuple[str, ...]:
    """Prefixes, standard library and site-packages. Of a prefix that the lab lies in, only its Python."""
    paths = list(answer.own)
    for prefix in answer.prefixes:
        # As with a prefix of /usr/local or a home folder, and a lab somewhere below it.
        if checkout.lies_in(prefix):
            paths += [os.path.join(prefix, "bin"), os.path.join(prefix, "pyvenv.cfg")]
            paths += glob.glob(os.path.join(glob.escape(prefix), "lib*", "libpython*"))
        else:
            paths.append(prefix)
    return _outermost(path for path in paths if not checkout.lies_in(path))


def _package(path: str) -> str | None:
    """The file or folder to bind for an entry of a finder's table; None if there is nothing."""
    if os.path.basename(path) == "__init__.py":
        path = os.path.dirname(path)
    if os.path.exists(path):
        return path
    module = f"{path}.py"
    if os.path.exists(module):
        return module
    return path if os.path.islink(path) else None


def _is_own(path: str, own: Iterable[str]) -> bool:
    """Whether a path lies in the environment when its links are followed: one may lead out of it."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(folder)) for folder in own)


def shipped_labs(folders: Sequence[str], reads: Sequence[str]) -> tuple[str, ...]:
    """The shipped labs of each Autolab that is installed in one of these folders, or for the whole system."""
    packages = []
    for folder in folders:
        packages.append(os.path.join(folder, "autolab"))
        if os.path.basename(folder) == "autolab":
            packages.append(folder)
    for pattern in _SYSTEM_SITES:
        packages += glob.glob(f"{pattern}/*-packages/autolab")
    labs = []
    for package in packages:
        folder = os.path.join(package, TEMPLATES)
        # A user's own package may be called `autolab` too, and its templates stay readable.
        if os.path.isdir(folder) and os.path.isfile(os.path.join(package, MARK)):
            labs.append(_as_bound(folder, (*reads, *SYSTEM)))
    return tuple(dict.fromkeys(labs))


def _as_bound(folder: str, reads: Sequence[str]) -> str:
    """A folder's name in a box: a path below what is bound must not lead through a link."""
    real = os.path.realpath(folder)
    for place in reads:
        outer = os.path.realpath(place)
        if Path(real).is_relative_to(outer):
            return os.path.normpath(os.path.join(place, os.path.relpath(real, outer)))
    return folder


_answers: dict[Path, _Answer] = {}
"""The answers that this process has read, by interpreter."""


def _answer(python: Path) -> _Answer:
    # Not resolved: a virtual environment's interpreter is a link, and the environment is where the link lies.
    path = Path(shutil.which(python) or python).absolute()
    answer = _answers.get(path)
    # Installing or removing a package changes the time of site-packages.
    if answer is None or answer.modified != _modified(answer.site):
        answer = _answers[path] = _request_answer(path)
    return answer


def _modified(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.exists() else 0


def _request_answer(python: Path) -> _Answer:
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "answer.json"
        argv = [str(python), "-I", "-B", str(site_paths.__file__)]
        ended = execute.run(argv, log.parent, {}, log, ANSWER_LIMIT_S)
        text = decode_json(log.read_bytes())
    if ended.missing is not None or ended.timed_out:
        reason = ended.missing or f"no answer within {ANSWER_LIMIT_S:g} s"
        raise LabError(f"{python}: does not start: {reason}; name another as python in .autolab/config.yaml")
    if not ended.ok:
        reason = ended.last_line or "no message"
        raise LabError(f"{python}: cannot list its packages (Python 3.8 or newer is needed): {reason}")
    try:
        # The last line alone: a `.pth` file may print something before it.
        answer = json.loads(text.rstrip().rpartition("\n")[2])
        site = Path(answer["site"])
    except (ValueError, TypeError, KeyError):
        raise LabError(f"{python}: is no Python; name another as python in .autolab/config.yaml") from None
    return _Answer(
        version=answer["version"],
        packages=tuple(answer["found"]),
        site=site,
        modified=_modified(site),
        prefixes=tuple(answer["prefixes"]),
        own=tuple(answer["own"]),
        path=tuple(answer["path"]),
        finders=tuple((module, path) for module, path in answer["finders"]),
        links=tuple((module, path) for module, path in answer["links"]),
    )


def _outermost(paths: Iterable[str]) -> tuple[str, ...]:
    """Paths that exist and lie in none of the others, `/` left out."""
    outermost: list[str] = []
    # Shortest first: a folder is seen before what lies in it.
    for path in sorted({os.path.abspath(path) for path in paths if path} - {"/"}, key=len):
        if os.path.exists(path) and not any(Path(path).is_relative_to(outer) for outer in outermost):
            outermost.append(path)
    return tuple(outermost)

"""Whether a trial imports the candidate's code: each committed module that the training imports is looked for.

A repository's own package is often installed in the trials' Python: editable, then imports lead into the checkout and
are sent to the candidate's export (`trials/interpreter.py`); or as a copy. Where that does not work, each candidate
trains the same code, and every change comes out as "no change". So the trials' Python, with a trial's environment, is
asked in an export where it would find the modules (`import_probe.py`), and once more in the checkout, for what it finds
there alone. Nothing is imported, and the script does not run.

Not covered: what a script adds to `sys.path` itself; a command that is no Python's (`torchrun`, `make`); a file of the
same name that somebody else's package has, unless the repository's project is installed under its own name.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from autolab.adoption import import_probe
from autolab.errors import LabError
from autolab.files import write_whole
from autolab.lab.git import Git
from autolab.lab.schemas.config import Config
from autolab.lab.trial_python import command_folder, command_words, env_prefix, trial_python
from autolab.sandbox import execute
from autolab.sandbox.environment import PYTHON_PATH, ProgramEnvironment
from autolab.stats.plan import BASE
from autolab.text import decode_json
from autolab.trials import inputs, interpreter
from autolab.trials.exports import CodeExport, Exporter
from autolab.trials.interpreter import Redirection, spellings
from autolab.trials.seal import Seals

LIMIT_S = 60.0
"""Seconds that a look may take."""
_ALONE = re.compile(r"-[A-Za-z]*[IE][A-Za-z]*$")
"""Flags with which Python takes nothing from PYTHONPATH, and so no redirection."""
_SETUP_NAME = re.compile(r"""^\s*name\s*=\s*["']?([\w.-]+)""", re.MULTILINE)


@dataclass(frozen=True)
class Invocation:
    """A training command of Python: its flags, and the script or the module that it runs; the other is empty.

    `variables`: what `env` before it sets. `folder`: where it runs; `script` is relative to the repository."""

    flags: tuple[str, ...]
    script: str = ""
    module: str = ""
    variables: tuple[tuple[str, str], ...] = ()
    folder: str = ""

    @classmethod
    def of(cls, command: str) -> Invocation | None:
        """None if the command is not one of the trials' Python, or runs no file."""
        words = command_words(command)
        prefix = env_prefix(words)
        words = words[len(prefix) :]
        if not words or words[0] != "{python}":
            return None
        variables = []
        folder = command_folder(command_words(command))
        for word in prefix[3 if folder else 1 :]:
            name, _, value = word.partition("=")
            variables.append((name, value))
        found = cls._of_python(words)
        if found is None:
            return None
        script = posixpath.normpath(posixpath.join(folder, found.script)) if found.script else ""
        return replace(found, script=script, variables=tuple(variables), folder=folder)

    @classmethod
    def _of_python(cls, words: Sequence[str]) -> Invocation | None:
        flags: list[str] = []
        for position, word in enumerate(words[1:], 1):
            if word == "-m":
                return cls(tuple(flags), module=words[position + 1]) if position + 1 < len(words) else None
            if word == "-c":
                return None
            if word.endswith(".py"):
                return cls(tuple(flags), script=word)
            flags.append(word)
        return None


@dataclass(frozen=True)
class ModulePlaces:
    """What the trials' Python says in one place: module -> file ("" for a folder, None if not found), and so on."""

    places: Mapping[str, str | None]
    importers: Mapping[str, str]
    lacking: tuple[str, ...]
    installed: tuple[str, ...]


@dataclass(frozen=True)
class OwnImports:
    """`problems`: modules that would not be the candidate's, a line each. `lacking`: packages that are not found."""

    problems: tuple[str, ...] = ()
    lacking: tuple[str, ...] = ()
    unfound: tuple[str, ...] = ()
    """Committed modules that are found nowhere: the script has to find them itself."""


def examine(git: Git, root: Path, commit: str, config: Config, folder: Path) -> OwnImports:
    """ModulePlaces in an export of `commit`, made in `folder`, and in the checkout at `root`.

    LabError, GitError: the export cannot be made, or the interpreter does not start.
    """
    hidden = inputs.hidden_from_trials(config)
    export = CodeExport(commit, git.tree(commit), folder / "code")
    git.export(commit, export.folder, None, hidden)
    invocation = Invocation.of(config.train.command)
    if invocation is None:
        return OwnImports()
    python, redirection = interpreter.inspect(trial_python(root, config), root)
    user = inputs.from_user(config.train.env)
    exporter = Exporter(git, root, folder, Seals(folder, folder / "seals"))
    export = exporter.with_imports({BASE: export}, redirection, user.get(PYTHON_PATH, ""))[BASE]
    committed = git.files(commit)
    prober = _Prober(python.path, invocation, top_level(committed), folder)
    imports = None if export.imports is None else str(export.imports)
    in_trial = prober.look(export.folder, ProgramEnvironment(python.path, imports, user))
    usual = dict(user)
    # In the user's shell the script may be found by this; a trial gets it only if train.env names it.
    if os.environ.get(PYTHON_PATH):
        usual[PYTHON_PATH] = os.environ[PYTHON_PATH]
    in_checkout = prober.look(root, ProgramEnvironment(python.path, None, usual))
    judge = _Judge(git, root, commit, committed, export.folder, redirection, python.path, invocation)
    return judge.result(in_trial, in_checkout)


def notes_of(own_imports: OwnImports, script: str) -> Iterator[str]:
    """What the user should know beside the problems, a line each."""
    if own_imports.lacking:
        names = ", ".join(own_imports.lacking)
        yield f"{script} imports {names}, which the trials' Python does not find: name one that has it: --python"
    if own_imports.unfound:
        names = ", ".join(own_imports.unfound)
        yield f"{names}: committed, but the trials' Python finds it only if {script} adds its folder to sys.path itself"


def top_level(committed: Sequence[str]) -> list[str]:
    """Every name under which a committed module could be imported, whichever folders sys.path holds."""
    folders = {str(PurePosixPath(path).parent) for path in committed if path.endswith("/__init__.py")}
    names = set()
    for path in committed:
        if not path.endswith(".py"):
            continue
        for place in (PurePosixPath(path), *PurePosixPath(path).parents):
            # What lies in a package is imported through it.
            if place.name and str(place.parent) not in folders and place.stem.isidentifier():
                names.add(place.stem)
    return sorted(names)


@dataclass(frozen=True)
class _Prober:
    """Asks an interpreter; `names` are the top-level names of committed modules."""

    python: str
    invocation: Invocation
    names: Sequence[str]
    folder: Path

    def look(self, root: Path, environment: ProgramEnvironment) -> ModulePlaces:
        """Where the modules are found by a training that is started in `root`."""
        script = root / self.invocation.script if self.invocation.script else None
        request = {
            "root": str(root),
            # What Python puts in front of sys.path: the script's folder, with -m the one that it is started in.
            "folder": str(script.parent if script is not None else root / self.invocation.folder),
            "script": str(script or ""),
            "module": self.invocation.module,
            "names": list(self.names),
        }
        place = self.folder / "look"
        write_whole(place / "request.json", json.dumps(request))
        log = place / "answer.json"
        argv = [self.python, *self.invocation.flags, str(import_probe.__file__), str(place / "request.json")]
        variables = environment.training(str(place), 0, None, None) | dict(self.invocation.variables)
        ended = execute.run(argv, root / self.invocation.folder, variables, log, LIMIT_S)
        if not ended.ok:
            reason = ended.missing or ended.last_line or "no answer"
            raise LabError(f"{self.python}: cannot say where it finds modules: {reason}; name another python")
        # The last line: a `.pth` file may print something before it.
        answer = json.loads(decode_json(log.read_bytes()).rstrip().rpartition("\n")[2])
        return ModulePlaces(answer["places"], answer["importers"], tuple(answer["lacking"]), tuple(answer["installed"]))


@dataclass(frozen=True)
class _Judge:
    """What the places say of the committed modules of one export."""

    git: Git
    root: Path
    commit: str
    committed: Sequence[str]
    export: Path
    redirection: Redirection
    python: str
    invocation: Invocation

    def result(self, in_trial: ModulePlaces, in_checkout: ModulePlaces) -> OwnImports:
        problems: list[str] = []
        unfound = []
        for module, place in in_trial.places.items():
            path = self._committed_file(module)
            # A folder without `__init__.py` is judged by the modules in it.
            if path is None or place == "" or (place and self._in(place, spellings(self.export))):
                continue
            usual = in_checkout.places.get(module)
            importer = in_trial.importers[module]
            if place is None and not usual:
                unfound.append(module)
            elif place is None and usual:
                problems.append(self._out_of_reach(module, importer, usual, path))
            elif place is not None and self._in_checkout(place):
                problems.append(self._in_the_checkout(module, importer, place, path))
            elif place is not None and self._is_copy(place, path, in_trial.installed):
                problems.append(self._copy(module, importer, place, path))
        lacking = tuple(name for name in in_trial.lacking if name not in in_trial.places)
        return OwnImports(tuple(problems), lacking, tuple(unfound))

    def _committed_file(self, module: str) -> str | None:
        """The committed file that is this module, at the top of what no package holds; None if there is none."""
        inner = module.replace(".", "/")
        for ending in (f"{inner}/__init__.py", f"{inner}.py"):
            for path in self.committed:
                if path == ending or path.endswith(f"/{ending}"):
                    above = path.removesuffix(ending).rstrip("/")
                    if not above or f"{above}/__init__.py" not in self.committed:
                        return path
        return None

    def _in_checkout(self, place: str) -> bool:
        exempt = [*self.redirection.exempt, str(self.export)]
        return self._in(place, spellings(self.root)) and not self._in(place, exempt)

    def _is_copy(self, place: str, path: str, installed: Sequence[str]) -> bool:
        """Whether a module outside of the repository is its own: by its bytes, or by the name of the project."""
        content = self.git.read(self.commit, path)
        if content and os.path.isfile(place) and Path(place).read_bytes() == content:
            return True
        names = {_normal(name) for name in installed}
        project = self._project(path)
        return bool(project) and _normal(project) in names

    def _project(self, path: str) -> str:
        """The name of the project that a committed file belongs to; empty if no file above it says."""
        return project_name(self.git, self.commit, self._project_folder(path))

    def _project_folder(self, path: str) -> str:
        for folder in PurePosixPath(path).parents:
            for name in ("pyproject.toml", "setup.py", "setup.cfg"):
                if str(folder / name) in self.committed:
                    return str(folder)
        return "."

    def _in_the_checkout(self, module: str, importer: str, place: str, path: str) -> str:
        found = f"{module}: {importer} imports it, and {self.python} finds {place} in your checkout for every candidate"
        alone = [flag for flag in self.invocation.flags if _ALONE.match(flag)]
        if alone:
            return f"{found}, so no change to it would be measured; take {alone[0]} out of the train command"
        return f"{found}, so no change to it would be measured; install it anew: {self._install(path)}"

    def _copy(self, module: str, importer: str, place: str, path: str) -> str:
        project = self._project(path) or module.partition(".")[0]
        return (
            f"{module}: {importer} imports it, and {self.python} finds a copy, {place}, so no change to {path} would be"
            f" measured; {self.python} -m pip uninstall {project}, then {self._install(path)}"
        )

    def _out_of_reach(self, module: str, importer: str, usual: str, path: str) -> str:
        return (
            f"{module}: {importer} imports it, and {self.python} finds {usual}, which trials do not have, and not the"
            f" committed {path}; install it so that imports lead to the sources: {self._install(path)}"
        )

    def _install(self, path: str) -> str:
        folder = self._project_folder(path)
        # Setuptools' default may make a table of links or a finder; `compat` makes a line with the folder.
        return f"{self.python} -m pip install -e {folder} --config-settings editable_mode=compat"

    @staticmethod
    def _in(place: str, folders: Sequence[str]) -> bool:
        names = spellings(place)
        return any(Path(name).is_relative_to(folder) for name in names for folder in folders)


def project_name(git: Git, commit: str, folder: str) -> str:
    """What pyproject.toml, setup.cfg or setup.py in a committed folder calls the project; empty if none does."""
    text = git.text(commit, str(PurePosixPath(folder) / "pyproject.toml"))
    if text is not None:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError:
            document = {}
        for table in (document.get("project", {}), document.get("tool", {}).get("poetry", {})):
            if isinstance(table, dict) and table.get("name"):
                return str(table["name"])
    for name in ("setup.cfg", "setup.py"):
        text = git.text(commit, str(PurePosixPath(folder) / name))
        match = _SETUP_NAME.search(text or "") or re.search(r"""\bname\s*=\s*["']([\w.-]+)""", text or "")
        if match:
            return match[1]
    return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

"""Which files a candidate may change, and in what form. What a candidate did wrong is a finding, never an exception."""

from __future__ import annotations

import posixpath
import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from autolab.lab.git import Change
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Finding
from autolab.lab.trial_python import command_folder
from autolab.sandbox import path_names
from autolab.sandbox.executed_names import fold, runs_by_itself
from autolab.verifiers.findings import advisory_finding, blocking_finding, shown_path


@dataclass(frozen=True)
class Protected:
    """A path or pattern that a candidate may not change, its class and the way out."""

    pattern: str
    kind: str
    way_out: str


APPEND_ONLY = "*_journal.md"
_USER = "put the change back; only the user edits it"
_FROZEN = "put the change back; META_MODE=1 in the newest entry of human_journal.md unlocks it"
_ENGINE = "put the change back; the engine writes it in the lab's own checkout"
_CONTROL = "put the change back; it belongs to the lab, not to a candidate"
_PAPER = "put the change back; give the text in the answer of update_docs"


def protected(config: Config, *, unlocked: bool = False) -> list[Protected]:
    """What a candidate may not change, the strictest class first; `unlocked` opens FROZEN only."""
    files, docs, evaluate = config.files, config.docs, config.evaluate
    frozen, data = list(files.frozen), []
    if evaluate is not None:
        # Frozen like the others: META_MODE lets the user have the evaluator changed, but never the data.
        frozen.append(evaluate.script)
        data.append(evaluate.eval)
        if evaluate.holdout is not None:
            data.append(evaluate.holdout)
    if unlocked:
        frozen = []
    shared = []
    for path in files.global_:
        shared += [path, _closed_parts(path)]
    classes = (
        ("control plane", _CONTROL, (".autolab", "experiments", "5_worktrees")),
        ("HUMAN", _USER, files.human),
        ("evaluation data", _CONTROL, data),
        ("FROZEN", _FROZEN, frozen),
        ("GLOBAL", _ENGINE, shared),
        ("paper target", _PAPER, (*docs.paper_targets, docs.figures)),
    )
    return [Protected(path, kind, way_out) for kind, way_out, paths in classes for path in paths]


def _closed_parts(path: str) -> str:
    """The pattern of a journal's closed parts: `FINDINGS.md` -> `FINDINGS.[0-9]*.md`."""
    pure = PurePosixPath(path)
    return str(pure.with_name(f"{pure.stem}.[0-9]*{pure.suffix}"))


def path_policy(
    changes: Iterable[Change],
    config: Config,
    *,
    unlocked: bool = False,
    kept: Callable[[str], bool] | None = None,
    existing: Collection[str] = (),
) -> list[Finding]:
    """Findings for every changed path that is not the candidate's to change; advisory if a file becomes executable.

    `kept(path)` says whether the old bytes of an APPEND-ONLY file are a suffix of its new ones; without it every change
    of such a file blocks. `existing` are the base's paths.
    """
    changes = list(changes)
    policy = _Policy(changes, config, unlocked, kept, existing)
    findings = []
    for change in changes:
        problem = policy.problem(change)
        if problem is not None:
            file = shown_path(change.path)
            findings.append(blocking_finding("paths", f"{file}: {problem}", file))
        elif change.new_mode == "100755" and change.old_mode != "100755":
            message = f"{change.path}: becomes executable; that is for scripts which are run by name"
            findings.append(advisory_finding("paths", message, change.path))
    return findings


class _Policy:
    """The rules for the changes of one candidate. A method's result: what is wrong and the way out, or None."""

    def __init__(
        self,
        changes: Sequence[Change],
        config: Config,
        unlocked: bool,
        kept: Callable[[str], bool] | None,
        existing: Collection[str],
    ) -> None:
        self._rules = protected(config, unlocked=unlocked)
        self._unlocked = {fold(path) for path in config.files.frozen} if unlocked else set()
        self._kept = kept
        self._imports = _import_folders(config)
        self._files = set(existing)
        self._kept_files = self._files - {change.path for change in changes if change.status == "D"}
        self._names = {name for path in existing for name in _folders_and_file(path)}
        self._spellings = _spellings(changes, self._files)

    def problem(self, change: Change) -> str | None:
        problem = _unsafe(change) or self._owned(change.path) or self._in_submodule(change.path)
        problem = problem or self._not_appended(change)
        # To delete a file that runs by itself, or a secret, is no harm.
        if problem is None and change.status != "D":
            problem = runs_by_itself(change.path) or path_names.secret(change.path)
        # A name that the lab has already is the user's choice.
        if problem is None and change.status == "A":
            problem = path_names.unfit(change.path) or self._twin(change.path) or self._shadows(change.path)
        return problem

    def _owned(self, path: str) -> str | None:
        # Without case and in one Unicode form, since `Eval.py` is `eval.py` on some file systems.
        folded = fold(path)
        for rule in self._rules:
            pattern = fold(rule.pattern)
            if _covers(pattern, folded):
                same_name = ""
                if not _covers(rule.pattern.strip("/"), path):
                    same_name = f" (the same name as {rule.pattern} without case)"
                return f"{rule.kind}{same_name}; {rule.way_out}"
            # A file with the name of a protected path's folder removes all that is in the folder.
            if pattern.startswith(folded + "/"):
                return f"takes the place of the folder of {rule.pattern} ({rule.kind}); {rule.way_out}"
        return None

    def _in_submodule(self, path: str) -> str | None:
        """Why nothing may lie at a path: the base has a submodule there, which is listed like a file."""
        for folder in _folders_and_file(path)[:-1]:
            if folder in self._kept_files:
                return f"lies in {folder}, which is a submodule or a file; its files stay as its commit has them"
        return None

    def _not_appended(self, change: Change) -> str | None:
        folded = fold(change.path)
        if folded in self._unlocked or not fnmatchcase(PurePosixPath(folded).name, APPEND_ONLY):
            return None
        if change.status == "A":
            return None
        if change.status != "D" and self._kept is not None and self._kept(change.path):
            return None
        return "APPEND-ONLY; put the old text back and add new entries above it"

    def _twin(self, path: str) -> str | None:
        """Another name that is the same without case, of the path or of a new folder above it."""
        # A checkout on a file system without case would hold one of the two files alone.
        for name in _folders_and_file(path):
            twins = sorted(self._spellings[fold(name)] - {name})
            if twins and name not in self._names:
                return f"the same name as {shown_path(twins[0])} without case; choose another, or that spelling"
        return None

    def _shadows(self, path: str) -> str | None:
        """Why a new module would be imported in place of another."""
        pure = PurePosixPath(path)
        module = pure.parent if pure.name == "__init__.py" else pure.with_suffix("")
        if pure.suffix != ".py" or str(module) == ".":
            return None
        # Python takes the package `eval/` before the file `eval.py` beside it.
        for rule in self._rules:
            if pure.name == "__init__.py" and fold(rule.pattern) == fold(f"{module}.py"):
                return f"would be imported in place of {rule.pattern} ({rule.kind}); choose another name"
        # A module that the base has, as a file or as a package, shadows nothing anew.
        is_new = self._files.isdisjoint((f"{module}.py", f"{module}/__init__.py"))
        if str(module.parent) not in self._imports or not is_new:
            return None
        name = fold(module.name)
        if name in sys.stdlib_module_names or name in IMPORTED:
            owner = "the standard library" if name in sys.stdlib_module_names else "an installed package"
            return f"would be imported in place of {name} of {owner}; choose another name"
        return None


def meta_mode(human_journal: str) -> bool:
    """True if the newest entry (from the first `## ` heading to the next) holds the exact line `META_MODE=1`."""
    # Not splitlines(): that would take other characters for line breaks, and show the user one line as two.
    inside = False
    for line in human_journal.removeprefix("\ufeff").split("\n"):
        if line.startswith("## "):
            if inside:
                return False
            inside = True
        elif inside and line.removesuffix("\r") == "META_MODE=1":
            return True
    return False


def _unsafe(change: Change) -> str | None:
    problem = path_names.unsafe(change.path)
    if problem is not None:
        return problem
    # `git~1` is the short name of .git on Windows, where a backslash separates folders too.
    for part in change.path.replace("\\", "/").split("/"):
        if re.match(r"\.git(?!keep$)|git~\d", fold(_visible(part))):
            return f"git's own file; {_CONTROL}"
    if change.new_mode == "120000":
        return "symbolic link; commit the file itself"
    if change.new_mode == "160000":
        if change.old_mode == "160000":
            return "submodule; it stays at its commit"
        return "submodule; commit the files themselves"
    # 000000 is the mode of a deleted file.
    if change.new_mode not in ("100644", "100755", "000000"):
        return f"mode {change.new_mode}; commit a plain file"
    return None


def _visible(name: str) -> str:
    """A name without the characters that some file systems leave out of it."""
    return "".join(character for character in name if unicodedata.category(character) != "Cf")


IMPORTED = frozenset(
    {
        *("_pytest", "coverage", "exceptiongroup", "hypothesis", "iniconfig", "packaging", "pluggy", "pygments"),
        *("pytest_cov", "xdist"),
        *("autolab", "datasets", "einops", "jax", "jaxtyping", "keras", "loguru", "matplotlib", "numpy", "pandas"),
        *("pil", "pydantic", "pytest", "requests", "rich", "scipy", "seaborn", "sklearn", "tensorflow", "tiktoken"),
        *("tokenizers", "torch", "torchaudio", "torchvision", "tqdm", "transformers", "triton", "tyro", "yaml"),
    }
)
"""Import names of what labs install, and of what their tests run with; a new module of the same name beside a program
would come before it."""


def _import_folders(config: Config) -> set[str]:
    """Where the lab's programs import from: its root, and the folder of each program."""
    # Python puts the folder of the script that it runs first on sys.path.
    training = config.train.command.split()
    programs = [posixpath.join(command_folder(training), word) for word in training]
    if config.predict:
        programs += config.predict.command.split()
    paths = [word for word in programs if word.endswith(".py")]
    if config.evaluate:
        paths.append(config.evaluate.script)
    return {".", *(str(PurePosixPath(path).parent) for path in paths)}


def _spellings(changes: Iterable[Change], existing: Collection[str]) -> dict[str, set[str]]:
    """Every file and folder as it will be, by its name without case, with each of its spellings."""
    # A file that is renamed to another spelling is no twin of itself: the old name goes.
    paths = set(existing)
    paths -= {change.path for change in changes if change.status == "D"}
    paths |= {change.path for change in changes if change.status != "D"}
    spellings: dict[str, set[str]] = {}
    for path in paths:
        for name in _folders_and_file(path):
            spellings.setdefault(fold(name), set()).add(name)
    return spellings


def _folders_and_file(path: str) -> list[str]:
    """`a/b/c` -> `a`, `a/b`, `a/b/c`."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _covers(pattern: str, path: str) -> bool:
    """Whether a pattern, or a folder that it names, covers the path."""
    if any(wildcard in pattern for wildcard in "*?["):
        folders = PurePosixPath(path).parents
        return fnmatchcase(path, pattern) or any(fnmatchcase(str(folder), pattern) for folder in folders)
    return path == pattern or path.startswith(pattern + "/")

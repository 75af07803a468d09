"""Which files a candidate may change, and in what form.

Every check gives findings as values and never raises for what a candidate did. Programs are run by `programs`, what
trials measured is `sanity`'s.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from autolab.lab.git import Change
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Finding
from autolab.sandbox import path_names
from autolab.sandbox.executed_names import fold, runs_by_itself
from autolab.verifiers.findings import advisory_finding, blocking_finding, shown_path

# who may change which file


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
    files, evaluate = config.files, config.evaluate
    rules = [Protected(path, "control plane", _CONTROL) for path in (".autolab", "experiments", "5_worktrees")]
    rules += [Protected(path, "HUMAN", _USER) for path in files.human]
    if evaluate is not None:
        data = (evaluate.eval, evaluate.holdout)
        rules += [Protected(path, "evaluation data", _CONTROL) for path in data if path is not None]
    if not unlocked:
        frozen = (*files.frozen, *((evaluate.script,) if evaluate is not None else ()))
        rules += [Protected(path, "FROZEN", _FROZEN) for path in frozen]
    for path in files.global_:
        rules += [Protected(path, "GLOBAL", _ENGINE), Protected(_closed_parts(path), "GLOBAL", _ENGINE)]
    rules += [Protected(path, "paper target", _PAPER) for path in (*config.docs.paper_targets, config.docs.figures)]
    return rules


def path_policy(
    changes: Iterable[Change],
    config: Config,
    *,
    unlocked: bool = False,
    kept: Callable[[str], bool] | None = None,
    existing: Collection[str] = (),
) -> list[Finding]:
    """Findings for every changed path that is not the candidate's to change; advisory where a file becomes executable.

    `kept(path)` says whether the old bytes of an APPEND-ONLY file are a suffix of its new ones; without
    it every change of such a file blocks. `existing` are the base's paths: a name that differs from one of them by
    case alone blocks, and a module that is there already is none that newly shadows another. Names are compared
    without case and in one Unicode form, since `Eval.py` is `eval.py` on some file systems.
    """
    changes = list(changes)
    rules = protected(config, unlocked=unlocked)
    frozen = {fold(path) for path in config.files.frozen} if unlocked else set()
    there = {name for path in existing for name in _folders_and_file(path)}
    spelled, imports = _spellings(changes, existing), _import_folders(config)
    found = []
    for change in changes:
        problem = _unsafe(change) or _owned(change.path, rules) or _not_appended(change, kept, frozen)
        if problem is None and change.status != "D":
            problem = runs_by_itself(change.path) or path_names.secret(change.path)
        if problem is None and change.status == "A":
            problem = path_names.unfit(change.path) or _twin(change.path, spelled, there)
            problem = problem or _shadows(change.path, rules, imports, existing)
        if problem is not None:
            shown = shown_path(change.path)
            found.append(blocking_finding("paths", f"{shown}: {problem}", shown))
        elif change.new_mode == "100755" and change.old_mode != "100755":
            message = f"{change.path}: becomes executable; that is for scripts which are run by name"
            found.append(advisory_finding("paths", message, change.path))
    return found


def meta_mode(human_journal: str) -> bool:
    """True if the newest entry (from the first `## ` heading to the next) holds the exact line `META_MODE=1`."""
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
    parts = change.path.replace("\\", "/").split("/")
    if any(re.match(r"\.git(?!keep$)|git~\d", fold(_seen(part))) for part in parts):
        return f"git's own file; {_CONTROL}"
    if change.new_mode == "120000":
        return "symbolic link; commit the file itself"
    if change.new_mode == "160000":
        return "submodule; commit the files themselves"
    if change.new_mode not in ("100644", "100755", "000000"):
        return f"mode {change.new_mode}; commit a plain file"
    return None


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


def _shadows(path: str, rules: Sequence[Protected], imports: Collection[str], existing: Collection[str]) -> str | None:
    """Why a new module would be imported in the place of another."""
    pure = PurePosixPath(path)
    module = pure.parent if pure.name == "__init__.py" else pure.with_suffix("")
    if pure.suffix != ".py" or str(module) == ".":
        return None
    for rule in rules:
        if pure.name == "__init__.py" and fold(rule.pattern) == fold(f"{module}.py"):
            return f"would be imported in place of {rule.pattern} ({rule.kind}); choose another name"
    name, there = fold(module.name), {f"{module}.py", f"{module}/__init__.py"}
    if str(module.parent) not in imports or not there.isdisjoint(existing):
        return None
    if name in sys.stdlib_module_names or name in IMPORTED:
        whose = "the standard library" if name in sys.stdlib_module_names else "an installed package"
        return f"would be imported in place of {name} of {whose}; choose another name"
    return None


def _import_folders(config: Config) -> set[str]:
    """Where the lab's programs import from: its root, and the folder of each program."""
    commands = [config.train.command, config.predict.command if config.predict else ""]
    words = [word for command in commands for word in command.split() if word.endswith(".py")]
    words += [config.evaluate.script] if config.evaluate else []
    return {".", *(str(PurePosixPath(word).parent) for word in words)}


def _spellings(changes: Iterable[Change], existing: Collection[str]) -> dict[str, set[str]]:
    """Every file and folder as it will be, by its name without case, with each of its spellings."""
    gone = {change.path for change in changes if change.status == "D"}
    paths = (set(existing) - gone) | {change.path for change in changes if change.status != "D"}
    found: dict[str, set[str]] = {}
    for name in {name for path in paths for name in _folders_and_file(path)}:
        found.setdefault(fold(name), set()).add(name)
    return found


def _twin(path: str, spelled: Mapping[str, set[str]], there: Collection[str]) -> str | None:
    """The other name that is the same without case, of the path or of a folder above it that is not there yet."""
    for name in _folders_and_file(path):
        others = sorted(spelled[fold(name)] - {name})
        if others and name not in there:
            return f"the same name as {shown_path(others[0])} without case; choose another, or that spelling"
    return None


def _folders_and_file(path: str) -> list[str]:
    """`a/b/c` -> `a`, `a/b`, `a/b/c`."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]


def _seen(name: str) -> str:
    """A name without the signs that some file systems leave out of it."""
    return "".join(sign for sign in name if unicodedata.category(sign) != "Cf")


def _owned(path: str, rules: Sequence[Protected]) -> str | None:
    folded = fold(path)
    for rule in rules:
        pattern = fold(rule.pattern)
        if _covers(pattern, folded):
            alike = "" if _covers(rule.pattern.strip("/"), path) else f" (the same name as {rule.pattern} without case)"
            return f"{rule.kind}{alike}; {rule.way_out}"
        if pattern.startswith(folded + "/"):
            return f"takes the place of the folder of {rule.pattern} ({rule.kind}); {rule.way_out}"
    return None


def _not_appended(change: Change, kept: Callable[[str], bool] | None, frozen: Collection[str]) -> str | None:
    folded = fold(change.path)
    if change.status == "A" or folded in frozen or not fnmatchcase(PurePosixPath(folded).name, APPEND_ONLY):
        return None
    if change.status != "D" and kept is not None and kept(change.path):
        return None
    return "APPEND-ONLY; put the old text back and add new entries above it"


def _covers(pattern: str, path: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(path, pattern) or any(fnmatchcase(str(up), pattern) for up in PurePosixPath(path).parents)
    return path == pattern or path.startswith(pattern + "/")


def _closed_parts(path: str) -> str:
    """The pattern of a journal's closed parts: `FINDINGS.md` -> `FINDINGS.[0-9]*.md`."""
    pure = PurePosixPath(path)
    return str(pure.with_name(f"{pure.stem}.[0-9]*{pure.suffix}"))

"""The files that an agent's command names: found where the user means them, refused early, shown read-only.

A word of the command that is a file outside of the lab is shown to the program, and so are the Python modules beside
it that it imports; nothing else of their folder is. A relative word is a file of the agent's workspace, where the
program runs, if the lab's commit has one of that name; else it is looked for where the user stands, then in the lab's
folder. A word with a placeholder in it is left alone.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autolab.errors import ResearcherError
from autolab.lab.trial_python import env_prefix
from autolab.text import one_line
from autolab.trials.bound_data import key_paths

SCRIPTS = (".py", ".sh", ".bash", ".js", ".mjs", ".cjs", ".ts", ".rb", ".pl", ".r", ".jl", ".lua")
"""Endings of a word that can only mean a program's file."""
MOST_MODULES = 500
"""Modules beside a script that are shown; a folder with more is no agent's."""
_NAMED = 3
"""Files that the note at the start names one by one."""
_PATH = re.compile(r"(/|\.{1,2}/|~/)")
_LINE_OPTION = re.compile(r"-[a-z]*c")


@dataclass(frozen=True)
class ProgramFiles:
    """What a command's words show to its program: the files that they name, and the modules beside these."""

    named: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.named, *self.modules)

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that the modules are imported from, which Python lists."""
        return tuple(dict.fromkeys(os.path.dirname(path) for path in self.all if self.modules))

    def note(self) -> str:
        """One line for the user; empty if nothing is shown."""
        if not self.named:
            return ""
        shown = [*self.named, *self.modules][: len(self.named) + _NAMED]
        more = len(self.all) - len(shown)
        names = ", ".join(map(one_line, shown)) + (f" and {more} more" if more else "")
        verb = "is" if len(self.all) == 1 else "are"
        return f"agent: {names} {verb} shown to the program, read-only"


def program_index(words: Sequence[str]) -> int:
    """Where the program stands in a command: behind `env NAME=VALUE`."""
    return len(env_prefix(words))


def located(words: Sequence[str], root: Path) -> list[str]:
    """The words, each that names a file or folder outside of the lab at `root` as its absolute path."""
    result = list(words)
    start = program_index(words)
    for index, word in enumerate(words):
        if not _may_be_path(word) or index < start or (index == start and "/" not in word):
            continue
        path = _existing(word, root) or _folder(word, root)
        if path is None or _lies_in(path, root):
            continue
        # Python imports from the folder that a link leads to. A link to an interpreter is one of a virtual environment.
        result[index] = os.path.realpath(path) if path.suffix == ".py" else str(path)
    return result


def require_files(words: Sequence[str], root: Path, in_workspace: Callable[[str], bool]) -> None:
    """ResearcherError, in one line with the way out: a word is a file that the program may not or will not see.

    `words` as `located` gives them; `in_workspace` says whether the agent's workspace will hold a path.
    """
    start = program_index(words)
    for index, (before, word) in enumerate(zip(words[start:], words[start + 1 :], strict=False)):
        # Behind `-c` stands a line for a shell or Python.
        if not _may_be_path(word) or _LINE_OPTION.fullmatch(before):
            continue
        relative = os.path.normpath(word)
        if not os.path.isabs(relative) and in_workspace(relative):
            continue
        path = _existing(word, root)
        if path is None:
            # What follows the program may be its script. Any other word may be a name, or a place still to be made.
            may_be_script = index == 0 or word.endswith(SCRIPTS)
            if may_be_script and _is_path(word) and not Path(os.path.expanduser(word)).is_dir():
                way = "name an existing file; a place that the program may write in is {folder}/NAME"
                raise ResearcherError(f"researcher: command: {word}: no such file; {way}")
        elif _lies_in(path, root):
            _refuse_of_lab(word, path, root, in_workspace)
        elif holds_keys(path):
            way = "name the variables that the program needs in `env:`"
            raise ResearcherError(f"researcher: command: {word} holds keys of yours, which no agent is shown; {way}")


def shown_files(words: Sequence[str], hidden: Path | None = None) -> ProgramFiles:
    """The files that the words name, and the Python modules beside them. Nothing in the folder `hidden` is shown."""
    named: list[str] = []
    modules: list[str] = []
    start = program_index(words)
    for index, word in enumerate(words[start:]):
        if not _may_be_path(word) or not os.path.isabs(word) or not os.path.isfile(word):
            continue
        # What else the program consists of is its installation.
        if index == 0 and not _is_script(word):
            continue
        # What lies in the system is seen anyway.
        if _lies_in(Path(word), Path("/usr")) or holds_keys(Path(word)):
            continue
        named.append(word)
        if word.endswith(".py"):
            modules += map(str, modules_beside(Path(word)))
    if hidden is not None:
        named = [path for path in named if not _lies_in(Path(path), hidden)]
        modules = [path for path in modules if not _lies_in(Path(path), hidden)]
    return ProgramFiles(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(modules)))


def modules_beside(script: Path) -> list[Path]:
    """The Python files beside a script that it imports, directly or through one of them; of packages all."""
    found: list[Path] = []
    waiting = [script]
    # The list grows while the loop walks through it.
    for file in waiting:
        for name in sorted(_imports(file)):
            for module in _files_of(script.parent, name):
                if module not in found and module != script:
                    found.append(module)
                    waiting.append(module)
        if len(found) > MOST_MODULES:
            return []
    return found


def _files_of(folder: Path, name: str) -> list[Path]:
    if (folder / f"{name}.py").is_file():
        return [folder / f"{name}.py"]
    files = []
    for path in (folder / name).glob("**/*.py"):
        # Whatever else lies in a package's folder is not shown: it may be a file of keys.
        if path.is_file() and not path.is_symlink():
            files.append(path)
        if len(files) > MOST_MODULES:
            break
    return files


def _imports(file: Path) -> set[str]:
    """The first names of what a Python file imports absolutely, the standard library's left out."""
    try:
        tree = ast.parse(file.read_bytes())
    # Python itself will say what is wrong with it.
    except (OSError, SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names


def holds_keys(path: Path) -> bool:
    """Whether a file lies where programs keep the user's keys."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(place) for place in key_paths())


def _refuse_of_lab(word: str, path: Path, root: Path, in_workspace: Callable[[str], bool]) -> None:
    relative = os.path.relpath(os.path.realpath(path), os.path.realpath(root))
    problem = f"researcher: command: {word} lies in the lab, which an agent may not see"
    if in_workspace(relative):
        raise ResearcherError(f"{problem}; write {shlex.quote(relative)}, which is the copy in its workspace")
    raise ResearcherError(f"{problem}; move it to a folder outside of the lab and name it by that path")


def _existing(word: str, root: Path) -> Path | None:
    """The file that a word names, as an absolute path; None if it names none."""
    expanded = os.path.expanduser(word)
    for folder in (Path.cwd(), root):
        path = Path(os.path.normpath(folder / expanded))
        if path.is_file():
            return path
    return None


def _folder(word: str, root: Path) -> Path | None:
    """The folder that a word names, if it begins as a path and does not hold the lab; else None."""
    # The folder where the program runs, and the one above it, are the program's own.
    if not _PATH.match(word) or os.path.normpath(word) in (".", ".."):
        return None
    expanded = os.path.expanduser(word)
    for folder in (Path.cwd(), root):
        path = Path(os.path.normpath(folder / expanded))
        if path.is_dir() and not _lies_in(root, path):
            return path
    return None


def _may_be_path(word: str) -> bool:
    return bool(word) and not word.startswith("-") and "{" not in word and "\n" not in word and len(word) < 4096


def _is_path(word: str) -> bool:
    """Whether a word can only mean a path: it begins as one, or ends as the file of a program."""
    begins, ends = _PATH.match(word) is not None, word.lower().endswith(SCRIPTS)
    if re.search(r"\s", word):
        return begins and ends
    return begins or ends


def _is_script(path: str) -> bool:
    if not os.access(path, os.R_OK):
        return False
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path lies in a folder, as it is written or when links are followed."""
    real = Path(os.path.realpath(folder))
    return path.is_relative_to(folder) or Path(os.path.realpath(path)).is_relative_to(real)


def refuse_holding(paths: Iterable[str], folder: Path) -> None:
    """ResearcherError: one of these paths, which a program's installation consists of, holds `folder`."""
    real = Path(os.path.realpath(folder))
    for path in paths:
        if real.is_relative_to(os.path.realpath(path)):
            way = "install the agent's program in a folder of its own (pipx, a virtual environment)"
            raise ResearcherError(f"researcher: its program is installed in {path}, which holds {folder}; {way}")

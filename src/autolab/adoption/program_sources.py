"""The committed sources of a training program: its script, what that imports or starts, the settings files it is given.

Nothing is imported or run. Python is read as a syntax tree, other languages as text.
"""

from __future__ import annotations

import ast
import posixpath
import re
import shlex
import warnings
from collections.abc import Iterator, Set
from dataclasses import dataclass

from autolab.adoption.repository import Repository
from autolab.researchers.offline.reached_files import reach

MOST_FILES = 60
MOST_BYTES = 500_000
"""Larger files are data."""
SETTINGS_SUFFIXES = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".gin")
_CODE_SUFFIXES = (
    ".py",
    ".sh",
    ".jl",
    ".R",
    ".r",
    ".awk",
    ".pl",
    ".lua",
    ".js",
    ".c",
    ".cc",
    ".cpp",
    ".cu",
    ".h",
    ".rs",
)
_PATH = re.compile(r"[\w./-]+")


@dataclass(frozen=True)
class SourceFile:
    """A file by its path in the repository; `tree` is None if it is not Python, or none that can be read."""

    path: str
    text: str
    tree: ast.Module | None

    @property
    def is_settings(self) -> bool:
        return self.path.endswith(SETTINGS_SUFFIXES)


@dataclass(frozen=True)
class ProgramSources:
    """The script; what it imports and starts, nearest first; the files of settings that command or script name."""

    script: SourceFile | None
    others: tuple[SourceFile, ...]
    settings: tuple[SourceFile, ...]

    @property
    def code(self) -> tuple[SourceFile, ...]:
        return (self.script, *self.others) if self.script is not None else self.others


def read_sources(repository: Repository, script: str | None, words: list[str]) -> ProgramSources:
    """The sources of the program that the command `words` runs; `script` is the committed file that it names."""
    committed = frozenset(repository.git.files(repository.head))
    built = _built(repository, words) if script is None else ()
    if built:
        return ProgramSources(built[0], built[1:], ())
    first = script or _started(words, committed)
    if first is None:
        return ProgramSources(None, (), ())
    code: dict[str, SourceFile | None] = {}
    settings = _settings_named(words, committed)
    waiting = [first]
    while waiting and len(code) < MOST_FILES:
        path = waiting.pop(0)
        if path in code:
            continue
        source = code[path] = _read(repository, path)
        if source is None:
            continue
        if source.tree is not None:
            waiting += _imported(source, first, committed)
            settings += _settings_named(_texts(source.tree), committed)
        else:
            waiting += _mentioned(source, committed)
    sources = [source for source in code.values() if source is not None]
    files = [_read(repository, path) for path in dict.fromkeys(settings)]
    return ProgramSources(
        script=code[first],
        others=tuple(source for source in sources if source.path != first),
        settings=tuple(source for source in files if source is not None),
    )


def _built(repository: Repository, words: list[str]) -> tuple[SourceFile, ...]:
    """The C sources of the program that make or a compiler builds, without those of the Makefile's other targets."""
    reached = reach(shlex.join(words), lambda path: repository.git.text(repository.head, path))
    return tuple(SourceFile(file.path, file.text, None) for file in reached.of("c"))


def _started(words: list[str], committed: Set[str]) -> str | None:
    """The Makefile, or the last script, of a command or a shell's line that names no script of its own."""
    if "make" in words:
        return next((name for name in ("GNUmakefile", "makefile", "Makefile") if name in committed), None)
    scripts = [posixpath.normpath(word) for word in words if word.endswith(_CODE_SUFFIXES)]
    scripts = [path for path in scripts if path in committed]
    return scripts[-1] if scripts else None


def read_settings(repository: Repository, path: str) -> SourceFile | None:
    """A committed file of settings; None if there is none at the path."""
    return _read(repository, path) if repository.holds(path) else None


def _read(repository: Repository, path: str) -> SourceFile | None:
    file = repository.root / path
    if not file.is_file() or file.stat().st_size > MOST_BYTES:
        return None
    text, tree = repository.text(path), None
    if path.endswith(".py"):
        with warnings.catch_warnings():
            # A doubtful escape in a text of the user's is not for this command to say.
            warnings.simplefilter("ignore")
            try:
                tree = ast.parse(text)
            except (SyntaxError, ValueError, RecursionError):
                # Of another version of Python: then it is read as text.
                tree = None
    return SourceFile(path, text, tree)


def _imported(source: SourceFile, script: str, committed: Set[str]) -> Iterator[str]:
    """Committed files that a Python source imports, in the order of its lines."""
    own = posixpath.dirname(source.path)
    # Where Python looks: beside the script, in the working folder, and where `pip install -e .` often points.
    folders = dict.fromkeys([posixpath.dirname(script), "", "src", own])
    for node in ast.walk(source.tree or ast.Module([], [])):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module_files(alias.name, folders, committed)
        elif isinstance(node, ast.ImportFrom):
            places = folders
            if node.level:
                climb = [".."] * (node.level - 1)
                places = dict.fromkeys([posixpath.normpath(posixpath.join(own, *climb)).removeprefix(".")])
            module = node.module or ""
            yield from _module_files(module, places, committed)
            for alias in node.names:
                yield from _module_files(f"{module}.{alias.name}".strip("."), places, committed)


def _module_files(module: str, folders: dict[str, None], committed: Set[str]) -> Iterator[str]:
    path = module.replace(".", "/")
    for folder in folders:
        for name in (f"{path}.py", f"{path}/__init__.py"):
            file = posixpath.join(folder, name).removeprefix("./")
            if file in committed:
                yield file


def _mentioned(source: SourceFile, committed: Set[str]) -> Iterator[str]:
    """Committed code that a script of another language names, such as the trainings that a shell script starts."""
    folder = posixpath.dirname(source.path)
    for word in dict.fromkeys(_PATH.findall(source.text)):
        for path in (posixpath.normpath(word), posixpath.normpath(posixpath.join(folder, word))):
            if path.endswith(_CODE_SUFFIXES) and path in committed:
                yield path


def _settings_named(words: list[str], committed: Set[str]) -> list[str]:
    paths = []
    for word in words:
        # `--config=base.yaml`
        path = posixpath.normpath(word.rpartition("=")[2])
        if path.endswith(SETTINGS_SUFFIXES) and path in committed:
            paths.append(path)
    return paths


def _texts(tree: ast.Module) -> list[str]:
    texts = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
    return texts

"""The files that configure the lab's own checks. They are the user's: a candidate is judged as the base commit says.

A candidate may not change a test runner's configuration, the program that a check runs, or a build file that a check
uses. The lab's own tests run as the base has them (`with_base_tests`), whatever the candidate did to them.
`pyproject.toml` and `setup.cfg` also list dependencies, so only the tools' sections in them count.

Not covered: the code under test runs in the process of its test, and can end it with status 0 or change the test runner
in memory; expected values in files outside of folders called `tests`. Both stand in the diff that the reviewer reads.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from autolab.lab.git import Change
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.experiment import Finding
from autolab.sandbox.executed_names import fold
from autolab.verifiers.findings import blocking_finding

Read = Callable[[str], bytes | None]
"""A file's bytes in one commit; None where it has no such file."""

# Compared as `fold` gives them: on a file system without case, `PyTest.ini` is read as pytest.ini.
_ALWAYS = frozenset(
    (
        *("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "tox.ini", "noxfile.py", "conftest.py"),
        *(".coveragerc", ".coveragerc.toml", "unittest.cfg", "nose2.cfg", ".noserc"),
    )
)
_OF_TOOL = {
    "ruff": ("ruff.toml", ".ruff.toml"),
    "mypy": ("mypy.ini", ".mypy.ini"),
    "flake8": (".flake8",),
    "pylint": (".pylintrc", "pylintrc", "pylintrc.toml", ".pylintrc.toml"),
    "pyright": ("pyrightconfig.json",),
    "ty": ("ty.toml",),
    "make": ("makefile", "gnumakefile"),
    "gmake": ("makefile", "gnumakefile"),
    "just": ("justfile", ".justfile"),
    "task": ("taskfile.yml", "taskfile.yaml"),
    "invoke": ("tasks.py", "invoke.yaml"),
    "inv": ("tasks.py", "invoke.yaml"),
    "doit": ("dodo.py",),
    "npm": ("package.json",),
    "yarn": ("package.json",),
    "pnpm": ("package.json",),
    "hatch": ("hatch.toml",),
    "pixi": ("pixi.toml",),
    "uv": ("uv.toml",),
    "poe": ("poe_tasks.toml",),
}
"""Configuration files of a program, which count if the policy's commands name the program."""
# A candidate may add a dependency. Any other section, of a tool that nobody listed here too, may configure a check.
_PACKAGING = frozenset(
    ("setuptools", "setuptools_scm", "setuptools-scm", "poetry", "pdm", "uv", "flit", "hatch", "pixi")
)
"""Tools whose sections of pyproject.toml configure packaging, and no check unless one runs the tool."""
_TESTS = re.compile(r"test_.*\.py|.*_test\.py|conftest\.py", re.DOTALL)
_FOLDERS = frozenset(("tests", "test"))
_WAY = "put the change back: only the user changes how candidates are judged"


def is_test(path: str) -> bool:
    """Whether a file of the lab is one of its tests, or lies in their folder."""
    pure = PurePosixPath(fold(path))
    return not _FOLDERS.isdisjoint(pure.parts[:-1]) or _TESTS.fullmatch(pure.name) is not None


def findings(changes: Iterable[Change], policy: VerifierPolicy, config: Config, base: Read, new: Read) -> list[Finding]:
    """A blocking finding for each change, from `base` to `new`, of a file that configures the lab's checks."""
    tools, programs = _tools(policy), _programs(policy, config, base)
    problems = []
    for change in changes:
        path = change.path
        problem = _configures(path, tools, programs) or _changed_section(path, tools, base, new)
        if problem is not None:
            # A path may hold control characters, which a report must not print.
            file = ascii(path)[1:-1]
            problems.append(blocking_finding("tests", f"{file}: {problem}; {_WAY}", file))
    return problems


def _configures(path: str, tools: Collection[str], programs: Collection[str]) -> str | None:
    name = PurePosixPath(fold(path)).name
    if name in _ALWAYS:
        return "configures the lab's own tests"
    # Sorted, so that two tools with one file give the same message each time.
    for tool in sorted(tools):
        if name in _OF_TOOL.get(tool, ()) or (tool in ("make", "gmake") and name.endswith(".mk")):
            return f"says what {tool} does, which a check of the lab runs"
    if path in programs:
        return "a program by which the lab checks candidates"
    return None


def _words(command: str | None) -> list[str]:
    try:
        return shlex.split(command or "")
    except ValueError:
        # The checks report a command that is no command line.
        return []


def _tools(policy: VerifierPolicy) -> set[str]:
    """The names of all programs and modules that the checks' commands may run."""
    # Every word, not the first alone: `uv run --frozen pytest` and `sh -c` run what stands later.
    tools = set()
    for command in (policy.test_command, policy.smoke_command, policy.dry_run_command, policy.summary_command):
        for word in _words(command):
            tools.add(PurePosixPath(word).name)
    return tools


def _programs(policy: VerifierPolicy, config: Config, base: Read) -> set[str]:
    """Files of the base that the tests' and the smoke test's commands name, without those that candidates may change.

    The candidate may change the programs of the dry run and the summary, and those that train and predict."""
    programs = _paths(policy.test_command) | _paths(policy.smoke_command)
    programs -= _paths(policy.dry_run_command) | _paths(policy.summary_command) | _paths(config.train.command)
    if config.predict:
        programs -= _paths(config.predict.command)
    # Tests may change: they run as the base has them. A word that is no file of the base names none.
    return {path for path in programs if not is_test(path) and base(path) is not None}


def _paths(command: str | None) -> set[str]:
    """Relative paths that a command may mean: its words, and the files of `-m module`."""
    words, paths = _words(command), set()
    for word in words:
        path = os.path.normpath(word)
        # Looked up in git by name: a word with a line break, or one that leads out of the lab, names no file there.
        if word.isprintable() and not path.startswith(("-", "/", "..")) and path != ".":
            paths.add(path)
    if "-m" in words[:-1]:
        module = words[words.index("-m") + 1].replace(".", "/")
        paths |= {f"{module}.py", f"{module}/__main__.py", f"{module}/__init__.py"}
    return paths


def _changed_section(path: str, tools: Collection[str], base: Read, new: Read) -> str | None:
    """The section of pyproject.toml or setup.cfg that a change alters, if it may configure a check."""
    name = PurePosixPath(fold(path)).name
    if name not in ("pyproject.toml", "setup.cfg"):
        return None
    old_content, new_content = base(path) or b"", new(path) or b""
    try:
        if name == "setup.cfg":
            before, after = _cfg_sections(old_content), _cfg_sections(new_content)
        else:
            before, after = _toml_sections(old_content, tools), _toml_sections(new_content, tools)
    # TOMLDecodeError and UnicodeDecodeError are ValueErrors; tomllib recurses on nested arrays.
    except (ValueError, RecursionError, configparser.Error):
        return "cannot be read, and may configure the lab's own tests"
    for section in sorted(before.keys() | after.keys()):
        if before.get(section) != after.get(section):
            return f"[{section[:60]}] may configure the lab's own tests"
    return None


def _toml_sections(content: bytes, tools: Collection[str]) -> dict[str, Any]:
    tables = tomllib.loads(content.decode("utf-8")).get("tool", {})
    # `tool = 1` is valid TOML, and means nothing to any tool.
    if not isinstance(tables, dict):
        return {"tool": tables}
    sections = {}
    for name, value in tables.items():
        if name not in _PACKAGING or name in tools:
            sections[f"tool.{name}"] = value
    return sections


def _cfg_sections(content: bytes) -> dict[str, Any]:
    # Raw: `%` in a value is no interpolation. Strict: of a section that stands twice, tools read different ones.
    parser = configparser.RawConfigParser(strict=True)
    parser.read_string(content.decode("utf-8"))
    sections = {}
    for name in parser.sections():
        # setuptools' own: metadata, and options with the dependencies.
        if name != "metadata" and not name.startswith("options"):
            sections[name] = dict(parser.items(name))
    return sections


def with_base_tests(candidate: Path, base: Path, folder: Path) -> None:
    """Fills `folder`, which must not exist, with the candidate's code and the base's tests. Raises OSError.

    `candidate` and `base` are exports. None of the candidate's own tests is copied: a new one could end the run."""
    folder.mkdir(parents=True)
    # Whatever the umask, here and below: a check may run as another user.
    folder.chmod(0o755)
    for path in _files(candidate):
        if not is_test(path):
            _copy(candidate / path, folder, path)
    for path in _files(base):
        if is_test(path):
            _copy(base / path, folder, path)


def _files(top: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(top):
        # os.walk lists a link to a folder among the folders, and does not follow it.
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in sorted((*names, *links)):
            yield os.path.relpath(os.path.join(folder, name), top)


def _copy(source: Path, top: Path, path: str) -> None:
    target = top / path
    for parent in reversed(target.relative_to(top).parents[:-1]):
        if not (top / parent).is_dir():
            (top / parent).mkdir()
            (top / parent).chmod(0o755)
    # A link stays a link: it may lead out of the export, and what lies there is not copied.
    if source.is_symlink():
        os.symlink(os.readlink(source), target)
        return
    # Without the source's mode: exports are read-only, and this copy is to be removed again.
    shutil.copyfile(source, target)
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)

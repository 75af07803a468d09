"""What a probe shows to be missing, each with the line that fixes it. Pure, but for questions to the checkout."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from autolab.adoption.program_probe import Probed
from autolab.adoption.repository import Repository
from autolab.text import decode, one_line

_TRACEBACK = "Traceback (most recent call last):"
_NO_MODULE = re.compile(r"No module named '?([\w.]+)'?")
_NO_FILE = re.compile(
    r"(?:No such file or directory|cannot open|could not open|not found|does not exist)[:\s'\"]+([\w./~ -]+[\w/])"
)
_FILE_THEN_REASON = re.compile(r"([\w./~-]+/[\w./-]+)['\"]?:? (?:No such file or directory|not found|does not exist)")
_NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|Network is unreachable|getaddrinfo|ConnectionError|URLError"
    r"|Could not resolve host|Failed to establish a new connection|LocalEntryNotFoundError|couldn't connect to",
    re.I,
)
_NO_GPU = re.compile(
    r"Torch not compiled with CUDA|Found no NVIDIA driver|No CUDA GPUs are available|CUDA driver version"
    r"|CUDA_HOME|libcuda|nvcc: not found|no CUDA-capable device",
    re.I,
)
_NO_REPOSITORY = re.compile(r"not a git repository|InvalidGitRepositoryError", re.I)
_ERROR = re.compile(r"\b(error|fatal|cannot|can't|could not|failed|no such|not found|abort|segmentation)\b", re.I)
SOURCE_FOLDERS = ("src", "lib", "source", "python")
"""Where repositories keep modules, beside their top."""
QUOTED = 300
"""Characters of an error that a finding quotes."""
DATA_FOLDERS = 4
"""Folders of data that a finding names at most."""


@dataclass(frozen=True)
class ProbeFinding:
    """What is missing, and the way out. `data`: the folder of the checkout, relative, that ends it if it is bound.
    `wants_repository`: a git repository of the code ends it. `python_path`: so does this folder on PYTHONPATH."""

    problem: str
    way_out: str
    data: str = ""
    wants_repository: bool = False
    python_path: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.way_out}"


def findings(probed: Probed, repository: Repository, python: str) -> list[ProbeFinding]:
    """What kept the program from its end; empty if it ended well or was still running at the limit.

    `python` is the interpreter of the trials, for messages.
    """
    if not probed.failed:
        return []
    error = decode(probed.err) + "\n" + decode(probed.out)
    found: dict[str, ProbeFinding] = {}
    for finding in _known(probed, repository, python, error):
        found.setdefault(finding.problem, finding)
    if not found:
        ended = probed.message.removeprefix("train ")
        problem = f"the program {ended}"
        return [ProbeFinding(problem, cause(probed) or "it printed nothing; run it yourself to see why")]
    return list(found.values())


def cause(probed: Probed) -> str:
    """The first lines of the error that ended the program, in one line; empty if it printed nothing.

    Not the last line, which is often a hint or the end of a message.
    """
    text = decode(probed.err) if probed.err.strip() else decode(probed.out)
    lines = text.split("\n")
    if _TRACEBACK in lines:
        start = len(lines) - 1 - lines[::-1].index(_TRACEBACK)
        frames = start + 1
        # Frames are indented; the error's own lines follow them.
        while frames < len(lines) and lines[frames].startswith((" ", "\t")):
            frames += 1
        return one_line(" ".join(lines[frames : frames + 2]).strip())[:QUOTED]
    for line in lines:
        if _ERROR.search(line):
            return one_line(line.strip())[:QUOTED]
    printed = [line for line in lines if line.strip()]
    return one_line(printed[-1].strip())[:QUOTED] if printed else ""


def _known(probed: Probed, repository: Repository, python: str, error: str) -> Iterator[ProbeFinding]:
    module = _NO_MODULE.search(error)
    home = _home_of(module[1], repository) if module else ""
    if module and home:
        yield ProbeFinding(
            f"it does not find {module[1]}, which lies in this repository",
            f"put `env PYTHONPATH={home}` before the command of --train-command",
            python_path=home,
        )
    elif module:
        yield ProbeFinding(
            f"{python} has no module {module[1]}",
            "install it there, or name the Python that has it: --python .venv/bin/python",
        )
    if _NO_NETWORK.search(error) or (probed.hosts and "urlopen" in error):
        hosts = ", ".join(probed.hosts[:3]) or "a host"
        yield ProbeFinding(
            f"it wants {hosts}, and a trial has no network",
            "run what downloads once yourself, and name the folder where it lies: --data FOLDER",
        )
    if _NO_GPU.search(error):
        yield ProbeFinding("it wants a GPU, and there is none here", "--train-command with a flag such as --device cpu")
    if _NO_REPOSITORY.search(error):
        yield ProbeFinding(
            "it asks git for what a trial's repository does not have",
            "let it go on without, and commit; in a trial AUTOLAB_COMMIT is the id of the commit",
            wants_repository=True,
        )
    yield from _missing_files(probed, repository, error)


def _home_of(module: str, repository: Repository) -> str:
    """The folder where Python would find the module, as the program's own folder sees it; empty if there is none."""
    path = module.replace(".", "/")
    for top in dict.fromkeys((repository.folder, "")):
        for folder in (".", *SOURCE_FOLDERS):
            place = posixpath.normpath(posixpath.join(top, folder, path))
            if any(repository.holds(name) for name in (f"{place}.py", f"{place}/__init__.py", place)):
                return posixpath.relpath(posixpath.join(top, folder), repository.folder or ".")
    return ""


def _missing_files(probed: Probed, repository: Repository, error: str) -> Iterator[ProbeFinding]:
    """Files that the error names. Of those that lie in the checkout and not in git, the folder to bind."""
    for name in _named_files(error):
        path = _in_checkout(name, repository)
        if path is None:
            yield _outside(name)
        elif (repository.root / path).exists() and not repository.holds(path):
            folder = str(PurePosixPath(path).parent)
            way_out = f"git does not hold it, so trials need the folder: --data {folder}"
            yield ProbeFinding(f"{path}: not there", way_out, data=folder)
        elif not (repository.root / path).exists():
            yield ProbeFinding(
                f"{path}: not there", "run the program that makes it, such as prepare.py, then this again"
            )


def _named_files(error: str) -> list[str]:
    """Names of missing files in an error, the last error first."""
    names = []
    for pattern in (_NO_FILE, _FILE_THEN_REASON):
        names += [match.strip() for match in pattern.findall(error)]
    # A word of a sentence ("not found in the cache") is no path.
    paths = [name for name in names[::-1] if "/" in name or re.search(r"\.\w{1,5}$", name)]
    return list(dict.fromkeys(paths))[:DATA_FOLDERS]


def _in_checkout(name: str, repository: Repository) -> str | None:
    """A name as a path in the checkout, relative to it; None if it leads elsewhere."""
    marker = "/autolab.probe/attempt/copy/"
    if marker in name:
        return name.partition(marker)[2]
    root = repository.root
    path = os.path.normpath(os.path.join(root, repository.folder, os.path.expanduser(name)))
    if path.startswith(f"{root}{os.sep}"):
        return os.path.relpath(path, root)
    return None


def _outside(name: str) -> ProbeFinding:
    path = os.path.expanduser(name)
    if os.path.exists(path):
        return ProbeFinding(
            f"{name}: a trial does not see it", f"name its folder: --data {os.path.dirname(path) or path}"
        )
    return ProbeFinding(f"{name}: not there", "name where it lies on this machine: --data FOLDER")

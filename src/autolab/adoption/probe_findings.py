"""What a probe shows to be missing, each with the line that fixes it. Pure, but for questions to the checkout."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from autolab.adoption.data_entries import PREPARES, to_bind
from autolab.adoption.program_probe import Probed
from autolab.adoption.program_sources import read_sources
from autolab.adoption.repository import Repository
from autolab.lab.schemas.data_entry import DataEntry
from autolab.lab.trial_python import command_words
from autolab.sandbox.box import SCRATCH_MOUNT
from autolab.sandbox.runner import SCRATCH_FOLDER
from autolab.text import decode, one_line
from autolab.trials.job import COPY

_TRACEBACK = "Traceback (most recent call last):"
_NO_MODULE = re.compile(r"No module named '?([\w.]+)'?")
_NO_FILE = re.compile(
    r"(?:No such file or directory|cannot open|could not open|[Ff]ailed to open file|not found|does not exist)"
    r"[:\s'\"]+([\w./~ -]+[\w/])"
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
_NO_TERMINAL = re.compile(r"Inappropriate ioctl|not a tty|not a terminal|stty: ", re.I)
_PLACE_VARIABLE = re.compile(
    r"""environ(?:\.get\(|\[)\s*["']([A-Z][A-Z0-9_]*(?:DIR|HOME|CACHE|ROOT|FOLDER)[A-Z0-9_]*)["']"""
)
"""Variables of the environment that say where files go."""
_NO_REPOSITORY = re.compile(r"not a git repository|InvalidGitRepositoryError", re.I)
_READ_ONLY = re.compile(r"(?:Read-only file system|Permission denied):? ['\"]([^'\"\n]+)")
_CACHES = {
    "huggingface.co": "~/.cache/huggingface",
    "pytorch.org": "~/.cache/torch",
    "github.com": "~/.cache/torch",
    "googleapis.com": "~/.keras",
}
"""Hosts, and the caches of the libraries that load from them."""
_DATA_FILE = re.compile(r"""["']([\w.-]+(?:/[\w.-]+)*\.\w+)["']""")
_ERROR = re.compile(r"\b(error|fatal|cannot|can't|could not|failed|no such|not found|abort|segmentation)\b", re.I)
_BEGINS_AS_ERROR = re.compile(r"^\s*(?:error|fatal)\b", re.I)
QUOTED = 300
"""Characters of an error that a finding quotes."""
DATA_FOLDERS = 4
"""Folders of data that a finding names at most."""


@dataclass(frozen=True)
class ProbeFinding:
    """What is missing, and the way out.

    `data`: what ends it if it is bound. `wants_repository`: a git repository of the code ends it. `python_path`: this
    folder on PYTHONPATH does.
    """

    problem: str
    way_out: str
    data: tuple[DataEntry, ...] = ()
    wants_repository: bool = False
    python_path: str = ""

    @property
    def bound(self) -> str:
        """What is said if its data is bound."""
        places = ", ".join(entry.path for entry in self.data)
        if any(entry.writable for entry in self.data):
            return f"{self.problem}: each trial gets a folder of links to {places} that it can add to"
        return f"{self.problem}; git does not hold it: {places} is bound as the data"

    def __str__(self) -> str:
        return f"{self.problem}: {self.way_out}"


def findings(
    probed: Probed, repository: Repository, python: str, bound: Sequence[DataEntry] = (), command: str = ""
) -> list[ProbeFinding]:
    """What kept the program from its end; empty if it ended well or was still running at the limit.

    `python` is the interpreter of the trials, for messages. `bound` is the data that the program had; `command`
    started it, and its sources may say what it reads.
    """
    if not probed.failed:
        return []
    error = decode(probed.err) + "\n" + decode(probed.out)
    found: dict[str, ProbeFinding] = {}
    for finding in (*_known(probed, repository, python, error), *_missing_files(probed, repository, error, bound)):
        found.setdefault(finding.problem, finding)
    if not found:
        for finding in _named_in_sources(repository, command, bound):
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
    # A line that begins so is the error; a compiler's "nvcc not found" may be none.
    for pattern in (_BEGINS_AS_ERROR, _ERROR):
        for line in lines:
            if pattern.search(line):
                return one_line(line.strip())[:QUOTED]
    printed = [line for line in lines if line.strip()]
    return one_line(printed[-1].strip())[:QUOTED] if printed else ""


def _known(probed: Probed, repository: Repository, python: str, error: str) -> Iterator[ProbeFinding]:
    module = _NO_MODULE.search(error)
    folder = _own_folder(module[1], repository) if module else ""
    if module and folder:
        yield ProbeFinding(
            f"it does not find {module[1]}, which lies in this repository",
            f"put `env PYTHONPATH={folder}` before the command of --train-command",
            python_path=folder,
        )
    elif module:
        yield ProbeFinding(
            f"{python} has no module {module[1]}",
            "install it there, or name the Python that has it: --python .venv/bin/python",
        )
    if _NO_NETWORK.search(error) or (probed.hosts and "urlopen" in error):
        hosts = ", ".join(probed.hosts[:3]) or "a host"
        yield ProbeFinding(f"it wants {hosts}, and a trial has no network", _cached(probed.hosts))
    if _NO_GPU.search(error):
        way_out = "a flag of the program for the CPU, such as --device cpu, if it has one; else a machine with a GPU"
        yield ProbeFinding("it wants a GPU, and there is none here", way_out)
    if _NO_TERMINAL.search(error):
        way_out = '--train-command "sh -c \'script -qec \\"COMMAND\\" /dev/null\'" gives it one'
        yield ProbeFinding("it asks for the size of its terminal, and a trial has none", way_out)
    if _NO_REPOSITORY.search(error):
        yield ProbeFinding(
            "it asks git for what a trial's repository does not have",
            "let it go on without, and commit; in a trial AUTOLAB_COMMIT is the id of the commit",
            wants_repository=True,
        )


def _cached(hosts: Sequence[str]) -> str:
    """The cache of the user that holds what these hosts serve, if there is one; else the way to fetch it."""
    fetching = "fetch once what it downloads: autolab fetch -- CMD"
    for host, cache in _CACHES.items():
        if any(name.endswith(host) for name in hosts) and os.path.isdir(os.path.expanduser(cache)):
            return f"if {cache} has what it loads: --data {cache}; else {fetching}"
    return f"{fetching}, or name the folder where it lies: --data PATH"


def _own_folder(module: str, repository: Repository) -> str:
    """The folder of the repository from which the module could be imported, as the program's own folder sees it.

    Empty if there is none.
    """
    path = module.replace(".", "/")
    endings = (f"{path}.py", f"{path}/__init__.py")
    here = repository.folder or "."
    for top in dict.fromkeys((repository.folder, "")):
        if any(repository.holds(posixpath.join(top, name)) for name in (*endings, path)):
            return posixpath.relpath(top or ".", here)
    folders = []
    for file in repository.git.files(repository.head):
        # A folder without __init__.py is a package too.
        is_module = file.endswith(tuple(f"/{ending}" for ending in endings))
        if is_module or (f"/{path}/" in file and file.endswith(".py")):
            folders.append(file.partition(f"/{path}")[0])
    if not folders:
        return ""
    own = f"{repository.folder}/"
    # A package of that name deep below another is that one's own.
    nearest = min(folders, key=lambda folder: (not f"{folder}/".startswith(own), folder.count("/"), folder))
    return posixpath.relpath(nearest, here)


def _missing_files(
    probed: Probed, repository: Repository, error: str, bound: Sequence[DataEntry]
) -> Iterator[ProbeFinding]:
    """Files that the error names. Of those that lie in the checkout and not in git, what to bind."""
    names = _named_files(error)
    read_only = _READ_ONLY.findall(error)
    if not names and not read_only:
        names = _opened_data(probed, repository)
    for name in names:
        path = _usual_name(name, bound, repository)
        finding = None if _is_bound(path, repository, bound) else _missing_file(repository, path)
        if finding is not None:
            yield finding
    for name in dict.fromkeys(read_only):
        yield from _read_only_file(_usual_name(name, bound, repository), repository, bound)


def _is_bound(path: str, repository: Repository, bound: Sequence[DataEntry]) -> bool:
    """Whether the program had the file, and fails for another reason."""
    inside = _in_checkout(path, repository)
    places = [entry.place for entry in bound if entry.is_relative]
    if inside is None or not (repository.root / inside).exists():
        return False
    return any(PurePosixPath(inside).is_relative_to(place) for place in places)


def _missing_file(repository: Repository, path: str) -> ProbeFinding | None:
    """None for a committed file: why the program does not find that is not known."""
    inside = _in_checkout(path, repository)
    if inside is None:
        return _outside(path, repository.root)
    if not (repository.root / inside).exists():
        return _of_main_checkout(repository, inside) or ProbeFinding(
            f"{inside}: not there", _made_by(repository, inside)
        )
    if repository.holds(inside):
        return None
    entries = to_bind(repository, inside)
    flags = " ".join(f"--data {shlex.quote(entry.path)}" for entry in entries)
    return ProbeFinding(
        f"{inside}: not there", f"git does not hold it, so trials need it: {flags}", data=tuple(entries)
    )


def _of_main_checkout(repository: Repository, path: str) -> ProbeFinding | None:
    """A file that a worktree lacks, and that lies in its main checkout: git copies no file that it does not hold."""
    main = repository.main_checkout
    if main == repository.root or not (main / path).exists():
        return None
    entries = [
        DataEntry(path=str(main / entry.path), at=entry.path) for entry in to_bind(replace(repository, root=main), path)
    ]
    return ProbeFinding(f"{path}: not in this worktree", f"{main} has it", data=tuple(entries))


def _opened_data(probed: Probed, repository: Repository) -> list[str]:
    """Of an error that names no file: what the program looked for and what lies in the checkout and not in git.

    The names are seen from where the program runs; those of the probe from the top of its copy of the code.
    """
    names = []
    for name in (*probed.opened, *probed.looked):
        path = os.path.normpath(name)
        if not path.startswith(("/", "..")) and (repository.root / path).exists() and not repository.holds(path):
            names.append(os.path.relpath(path, repository.folder or "."))
    return names[:DATA_FOLDERS]


def _named_in_sources(repository: Repository, command: str, bound: Sequence[DataEntry]) -> Iterator[ProbeFinding]:
    """Files that the sources of a compiled program or a script name, and that lie in the checkout and not in git.

    What such a program opens is not seen, and its error may name another file than the one that it looked for.
    """
    for source in read_sources(repository, None, command_words(command)).code:
        if source.tree is not None:
            continue
        for name in dict.fromkeys(_DATA_FILE.findall(source.text)):
            path = _in_checkout(name, repository)
            if path is None or not (repository.root / path).is_file() or repository.holds(path):
                continue
            if not _is_bound(path, repository, bound):
                entries = tuple(to_bind(repository, path))
                yield ProbeFinding(f"{path}: {source.path} names it", "--data binds it", data=entries)


def _made_by(repository: Repository, path: str) -> str:
    """The way to a file that is nowhere: the program beside it that makes data, if there is one."""
    for folder in (*PurePosixPath(path).parents,):
        for committed in repository.git.files(repository.head):
            place = PurePosixPath(committed)
            if place.parent == folder and place.suffix in (".py", ".sh") and place.name.startswith(PREPARES):
                program = "python" if place.suffix == ".py" else "sh"
                return f"make it once, with network: autolab fetch -- {program} {committed}"
    return "make it once, with network: autolab fetch -- CMD, or run what makes it, then this again"


def _read_only_file(path: str, repository: Repository, bound: Sequence[DataEntry]) -> Iterator[ProbeFinding]:
    """The program writes into its data: each trial gets a folder of links that it can add to, if that helps."""
    for entry in bound:
        source = str(entry.source(repository.root))
        is_in_place = f"{path}/".startswith((f"{entry.place}/", f"{source}/")) or entry.place == "."
        if not is_in_place:
            continue
        problem = f"{path}: it writes into its data, which trials only read"
        rest = os.path.relpath(path, entry.place if not path.startswith("/") else source)
        overwrites = (Path(source) / rest).is_file()
        if entry.writable or entry.place.startswith("/") or overwrites:
            way_out = "let it write to another folder, or make the file once: autolab fetch -- CMD"
            yield ProbeFinding(problem, way_out)
            return
        way_out = f"in .autolab/config.yaml: data: [{{path: {entry.path}, writable: true}}]"
        yield ProbeFinding(problem, way_out, data=(entry.model_copy(update={"writable": True}),))
        return
    if _in_checkout(path, repository) is None:
        yield _written_outside(path, repository)


def _written_outside(path: str, repository: Repository) -> ProbeFinding:
    """The program makes a folder or file outside of the repository: a cache in the home folder, or `../data`."""
    variables: list[str] = []
    for committed in repository.git.files(repository.head):
        if committed.endswith(".py"):
            variables += _PLACE_VARIABLE.findall(repository.git.text(repository.head, committed) or "")
    ways = [f"env {name}=FOLDER before the command" for name in dict.fromkeys(variables)][:2]
    ways.append(f"if it is data, fetch it once (autolab fetch -- CMD), or name where it lies: --data FOLDER={path}")
    return ProbeFinding(f"{path}: outside of the repository, where a trial cannot write", "; or ".join(ways))


def _named_files(error: str) -> list[str]:
    """Names of missing files in an error, the last error first."""
    names = []
    for pattern in (_NO_FILE, _FILE_THEN_REASON):
        names += [match.strip() for match in pattern.findall(error)]
    # A word of a sentence ("not found in the cache") is no path.
    paths = [name for name in names[::-1] if "/" in name or re.search(r"\.\w{1,5}$", name)]
    return list(dict.fromkeys(paths))[:DATA_FOLDERS]


def _usual_name(name: str, bound: Sequence[DataEntry], repository: Repository) -> str:
    """A path in the trial's own folders as the user would write it: relative to where the program runs, or `~/…`."""
    attempt = "/autolab.probe/attempt/"
    upward = max((entry.upward for entry in bound), default=0)
    if attempt not in name:
        # At containment full a trial's home is /tmp.
        rest = name.removeprefix(f"{SCRATCH_MOUNT}/")
        in_home = rest != name and os.path.exists(os.path.expanduser(f"~/{rest}"))
        return f"~/{rest}" if in_home and not os.path.exists(name) else name
    inside = name.partition(attempt)[2]
    first, _, rest = inside.partition("/")
    if first == SCRATCH_FOLDER:
        return f"~/{rest}"
    copy = "/".join([COPY, *["repository"] * upward])
    return os.path.relpath(inside, os.path.join(copy, repository.folder))


def _in_checkout(name: str, repository: Repository) -> str | None:
    """A name, as the program's own folder sees it, as a path in the checkout; None if it leads elsewhere."""
    root = repository.root
    path = os.path.normpath(os.path.join(root, repository.folder, os.path.expanduser(name)))
    if path.startswith(f"{root}{os.sep}"):
        return os.path.relpath(path, root)
    return None


def _outside(name: str, root: Path) -> ProbeFinding:
    path = os.path.normpath(os.path.join(root, os.path.expanduser(name)))
    if not os.path.exists(path):
        place = os.path.dirname(name) or name
        return ProbeFinding(f"{name}: not there", f"name where it lies on this machine: --data PATH={place}")
    folder = os.path.dirname(path)
    # A whole home, or what lies beside the repository, is more than the program reads.
    is_too_much = folder in ("/", os.path.expanduser("~"), str(root.parent)) or Path(folder) in root.parents
    flag = name if is_too_much else os.path.dirname(name)
    home = os.path.expanduser("~")
    if flag.startswith(f"{home}/"):
        flag = f"~{flag.removeprefix(home)}"
    return ProbeFinding(f"{name}: a trial does not see it", f"name it as data: --data {flag}")

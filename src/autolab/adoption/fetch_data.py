"""`autolab fetch -- CMD`: a command that prepares data runs once, with network, and what it made is kept for trials.

It runs in a writable copy of the last commit, contained like a trial but for the network: no home, no keys, limits of
memory, processes, disk and time; if Autolab is killed, so is the command. Its home is an empty folder, so that what
libraries put into ~/.cache is kept too. The checkout is not touched, before `init` and after.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from autolab.adoption import data_entries
from autolab.adoption.fetch_results import TEMPORARY, FetchResult, require_something
from autolab.adoption.own_python import PYTHON, interpret
from autolab.adoption.repository import Repository
from autolab.errors import LabError, UsageError
from autolab.files import sha256_of, utc_now
from autolab.lab import redaction
from autolab.lab.git import Git, common_dir, find_root
from autolab.lab.schemas.config import Config, Metric
from autolab.lab.schemas.data_entry import FETCHED, DataEntry
from autolab.lab.schemas.fetch_record import FetchRecord
from autolab.lab.trial_python import trial_python
from autolab.sandbox import execute
from autolab.sandbox.box import LEVELS, Box
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.environment import ProgramEnvironment
from autolab.sandbox.exit_record import Exit, TrialOutcome
from autolab.text import decode, last_line, one_line
from autolab.trials import bound_data, containment, fetched_data, interpreter
from autolab.trials.bound_data import BoundData
from autolab.trials.inputs import hidden_from_trials
from autolab.trials.job import COPYING, LINK_WORDS, data_name, link_words

PROXIES = tuple(name for word in ("http", "https", "all", "no") for name in (f"{word}_proxy", f"{word.upper()}_PROXY"))
"""Variables that name the way to the network."""
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name the certificates of a network with its own."""
OUTPUT_BYTES = 256 * 2**20
PROCESSES = 1024
NEWS_S = 0.2
"""Seconds between two looks at what the command printed."""
_WAYS_OUT = {
    TrialOutcome.DISK_LIMIT: "; --disk-gb allows more",
    TrialOutcome.OUT_OF_MEMORY: "; --memory-gb allows more",
    TrialOutcome.TIMEOUT: "; --hours allows more",
}
_SCRIPT = """
set -e
code=$1 copy=$2 links=$3
shift 3
mkdir -p "$TMPDIR"
COPYING
cd "$copy"
LINKING
exec "$@"
""".replace("COPYING", COPYING).replace("LINKING", bound_data.LINKING)


@dataclass(frozen=True)
class FetchLimits:
    """GiB of memory, GB of disk, hours."""

    memory_gb: float = 8
    disk_gb: float = 50
    hours: float = 24


@dataclass(frozen=True)
class _Preparation:
    """A command to run, its Python, the configuration (None before `init`) and the data that it sees."""

    repository: Repository
    command: str
    words: tuple[str, ...]
    python: str
    config: Config
    data: tuple[DataEntry, ...]


def fetch(
    folder: Path,
    words: Sequence[str],
    *,
    again: bool,
    python: Path | None,
    data: Sequence[str],
    limits: FetchLimits,
    tell: Callable[[str], None],
) -> None:
    """Run the command, and keep what it made. LabError, UsageError: why not; then nothing is kept."""
    repository = _repository(folder)
    command = shlex.join(words)
    name = _name(words, command)
    common = common_dir(repository.root)
    for other, record in fetched_data.records(common):
        if other == name and not again:
            tell(f"fetched already: {record}; --again replaces it")
            return
    preparation = _prepare(repository, words, python, data, name)
    with _alone(common):
        result, record = _run_and_keep(preparation, name, limits, tell)
    for note in result.notes:
        tell(f"note: {note}")
    tell(f"kept, read-only: {record}")
    _tell_next(repository, common, name, tell)


@contextlib.contextmanager
def _alone(common: Path) -> Iterator[None]:
    """LabError: another process fetches in this repository. The lock ends with the process."""
    with (common / "autolab.fetch.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("fetch: another `autolab fetch` runs in this repository; wait for its end") from None
        yield


def _run_and_keep(
    preparation: _Preparation, name: str, limits: FetchLimits, tell: Callable[[str], None]
) -> tuple[FetchResult, FetchRecord]:
    repository, command = preparation.repository, preparation.command
    common = common_dir(repository.root)
    place = common / "autolab.fetch"
    remove_tree(place)  # of a fetch that was killed
    try:
        started = time.monotonic()
        tell(f"running {command} with network, in a copy of commit {repository.head[:12]} (Ctrl-C ends it)")
        _run(preparation, place, limits, tell)
        given = tuple(entry.source(repository.root) for entry in preparation.data)
        result = FetchResult(place / "result", given)
        result.folder.mkdir()
        result.add_repository(place / "attempt" / "copy" / _depth(preparation.data), place / "code")
        result.add_home(place / "attempt" / "home")
        require_something(result, command)
        record = FetchRecord(
            command=command,
            commit=repository.head,
            time=utc_now(),
            seconds=round(time.monotonic() - started, 3),
            parts=result.parts,
        )
        result.keep(common / FETCHED, name, record)
        return result, record
    finally:
        remove_tree(place)


def listing(folder: Path) -> list[str]:
    """A line for each fetch that was kept."""
    root = find_root(folder.resolve())
    if root is None:
        raise LabError(f"{folder}: not a git repository")
    lines = [str(record) for _, record in fetched_data.records(common_dir(root))]
    return lines or ["nothing was fetched yet; autolab fetch -- CMD runs a command that prepares data, with network"]


def _repository(folder: Path) -> Repository:
    root = find_root(folder.resolve())
    if root is None:
        raise LabError(f"{folder}: not a git repository; run `git init` there and commit the training program")
    git = Git(root)
    head = git.head()
    if head is None:
        raise LabError(f"{root}: has no commit yet; the command runs in a copy of one: commit the training program")
    return Repository(root, git, head, ())


def _name(words: Sequence[str], command: str) -> str:
    """A folder's name: what of the command says most, and its hash."""
    scripts = [word for word in words if word.endswith((".py", ".sh")) and " " not in word] or [words[0]]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", scripts[0].rpartition("/")[2].rpartition(".")[0] or scripts[0]).strip("-")
    return f"{slug[:30] or 'command'}-{sha256_of(command)[:8]}"


def _prepare(
    repository: Repository, words: Sequence[str], python: Path | None, data: Sequence[str], name: str
) -> _Preparation:
    root = repository.root
    config = Config(metric=Metric(primary="none", direction="minimize", success_delta=1))
    if (root / Config.FILE).is_file():
        config = Config.load(root / Config.FILE, Config.FILE)
    try:
        named, choice = interpret(repository, list(words), str(python) if python is not None else None)
    except UsageError as error:
        raise UsageError(str(error).replace("--train-command: ", "fetch: ", 1)) from None
    program = str(root / choice.path) if choice.path is not None else sys.executable
    if python is None and config.python is not None:
        program = trial_python(root, config)
    entries = list(config.data_entries)
    entries = data_entries.merged(entries, data_entries.given(repository, data))
    entries = data_entries.merged(entries, [entry for entry, _ in data_entries.fetched(repository)])
    others = []
    for entry in entries:
        is_committed = not entry.lies_outside and repository.holds(entry.path)
        if not is_committed and Path(entry.path).parent.name != name:
            others.append(entry)
    return _Preparation(repository, shlex.join(words), tuple(named), program, config, tuple(others))


def _run(preparation: _Preparation, place: Path, limits: FetchLimits, tell: Callable[[str], None]) -> None:
    """Run it to its end. LabError: it did not end well."""
    repository = preparation.repository
    folder = place / "attempt"
    folder.mkdir(parents=True)
    repository.git.export(repository.head, place / "code", None, hidden_from_trials(preparation.config)[:3])
    python, _ = interpreter.inspect(preparation.python, repository.root)
    bound = _bound(preparation)
    level = _level(preparation.config, place, tell)
    copy = folder / "copy" / _depth(preparation.data)
    home = folder / "home"
    home.mkdir()
    links = link_words(preparation.data, in_copy=True, trees=True)
    sources = {"{scratch}": str(home)}
    sources |= {f"{{{data_name(number)}}}": str(one.path) for number, one in enumerate(bound)}
    filled = [sources.get(word, word) for word in links]
    arguments = [python.path if word == PYTHON else word for word in preparation.words]
    script = [
        str(place / "code"),
        str(copy),
        str(len(links) // LINK_WORDS),
        *filled,
    ]
    box = Box(
        level=level,
        reads=(str(place / "code"), *(str(one.path) for one in bound)),
        writes=(str(folder / "copy"), str(home)),
        mounts=tuple(one.mount for one in bound if one.mount is not None),
        network=True,
        memory_bytes=int(limits.memory_gb * 2**30),
        processes=PROCESSES,
        disk_bytes=int(limits.disk_gb * 1e9),
    )
    enclosed = python.enclosed(box)
    covers = [path for one in bound for path in one.covers]
    step = {
        "name": "fetch",
        "argv": ["/bin/sh", "-c", _SCRIPT, "autolab", *script, *arguments],
        "cwd": str(place / "code"),
        "env": _environment(python.path, home, tell),
        "time_limit_s": limits.hours * 3600,
        "output_bytes": OUTPUT_BYTES,
        "merged": True,
        "box": asdict(replace(enclosed, covers=(*enclosed.covers, *covers))),
    }
    end = _followed({"key": "fetch", "folder": str(folder), "steps": [step]}, folder / "logs" / "fetch.out")
    if end.outcome is not TrialOutcome.COMPLETED:
        log = folder / "logs" / "fetch.out"
        tail = last_line(decode(log.read_bytes()[-4096:])) if log.exists() else ""
        ended = end.message.removeprefix("fetch ")
        reason = f": {one_line(redaction.clean(tail))[:300]}" if tail else ""
        way_out = _WAYS_OUT.get(end.outcome, "")
        raise LabError(f"{preparation.command}: {ended}{reason}; nothing is kept{way_out}")


def _bound(preparation: _Preparation) -> list[BoundData]:
    """The data where it lies; it is not sealed, as nothing is measured. LabError: an entry is missing."""
    found = list(
        bound_data.problems(
            preparation.repository.git,
            preparation.repository.root,
            preparation.repository.head,
            preparation.config,
        )
    )
    if found:
        raise LabError("; ".join(found))
    bound = []
    for entry in preparation.data:
        source = entry.source(preparation.repository.root)
        bound.append(BoundData(entry, source, "", bound_data.secrets_within(source)))
    return bound


def _level(config: Config, place: Path, tell: Callable[[str], None]) -> str:
    """The configured level, or the highest one below it that works here. LabError: none does."""
    if config.containment == "none":
        return "none"
    highest = containment.ability(place, note=False)
    level = LEVELS[min(LEVELS.index(config.containment), LEVELS.index(highest.level))]
    if level == "none":
        raise LabError(f"fetch: the command cannot be contained here: {highest.why}; {highest.way}, or run it yourself")
    if level != config.containment:
        tell(f"containment: {level}, not {config.containment}: {highest.why}")
    return level


def _environment(python: str, home: Path, tell: Callable[[str], None]) -> dict[str, str]:
    """A trial's environment with a home that is kept, and the way to the network."""
    environment = ProgramEnvironment(python).training(str(home.with_name("fetch")), 0, None, None)
    # On the disk, as downloads are large; in a folder that is not kept.
    environment |= {"HOME": str(home), "TMPDIR": f"{home}/{TEMPORARY}"}
    for name in PROXIES:
        value = os.environ.get(name)
        if value and "@" in value:
            tell(f"note: {name} holds a password and is not passed on")
        elif value:
            environment[name] = value
    for name in CERTIFICATES:
        # Elsewhere the command could not read them, and would not do without.
        if os.environ.get(name, "").startswith(("/etc/ssl/", "/etc/pki/", "/usr/")):
            environment[name] = os.environ[name]
    return environment


def _depth(data: Sequence[DataEntry]) -> str:
    return "/".join(["repository"] * max((entry.upward for entry in data), default=0))


def _followed(job: dict[str, object], log: Path) -> Exit:
    """Run the job and print what it prints, as it comes."""
    over = threading.Event()
    printing = threading.Thread(target=_print_growth, args=(log, over), daemon=True)
    printing.start()
    try:
        return execute.run_job(job)
    except KeyboardInterrupt:
        raise LabError("fetch: stopped by you; nothing is kept") from None
    finally:
        over.set()
        printing.join()


def _print_growth(log: Path, over: threading.Event) -> None:
    shown = 0
    is_over = False
    while not is_over:
        is_over = over.wait(NEWS_S)
        if not log.exists():
            continue
        with log.open("rb") as file:
            file.seek(shown)
            new = file.read()
        # A line that has not ended may hold half a key, which would not be known as one.
        if not is_over:
            new = new[: max(new.rfind(b"\n"), new.rfind(b"\r")) + 1]
        shown += len(new)
        if new:
            sys.stdout.write(redaction.clean(decode(new)))
            sys.stdout.flush()


def _tell_next(repository: Repository, common: Path, name: str, tell: Callable[[str], None]) -> None:
    """What makes trials see it."""
    entries = [entry for entry, _ in fetched_data.entries(common) if Path(entry.path).parent.name == name]
    if not (repository.root / Config.FILE).is_file():
        tell("next: autolab init --from-existing, which gives it to trials where the program looks for it")
        return
    config = Config.load(repository.root / Config.FILE, Config.FILE)
    new = [entry for entry in entries if entry.path not in {known.path for known in config.data_entries}]
    if not new:
        tell("trials get it, as config.yaml says: numbers measured with other data are not compared with new ones")
        return
    values = ", ".join(f"{{path: {entry.path}, at: '{entry.at}'}}" for entry in new)
    tell(f"for trials to get it, add to the list `data` in {Config.FILE}: {values}")

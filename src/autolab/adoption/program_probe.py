"""Runs an adopted training program once, for a short time, as a trial would run it, and notes what it does.

The program runs in an export of the last commit, contained as the configuration says, with its data bound. The checkout
is not touched. Python programs also report the files that they open and the hosts that they want
(`probe_hook.py`); of other programs the output alone is known. If Autolab is killed, the program ends.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol, Self

from autolab.adoption.output_watch import OutputWatch, Times
from autolab.adoption.repository import Repository
from autolab.adoption.written_files import WrittenFile, written_files
from autolab.executors.base import Step, fill
from autolab.files import write_whole
from autolab.lab import redaction
from autolab.lab.git import common_dir
from autolab.lab.schemas.config import Config
from autolab.sandbox import execute, runner
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.environment import PYTHON_PATH, with_python_path
from autolab.sandbox.exit_record import Exit, TrialOutcome
from autolab.stats.plan import BASE, PlannedArm
from autolab.text import decode, last_line
from autolab.trials.inputs import InputSource, TrialInputs, set_up
from autolab.trials.job import Attempt, TrialCommands, copy_folder, keeping_copy, trial_job

HOOK = Path(__file__).with_name("probe_hook.py")
"""Reports what a Python program opens; a copy called sitecustomize.py runs in the program's interpreter."""
SEED = 0
"""The seed of the first probe."""
NEWS_S = 5.0
"""Seconds between two plain lines about a probe that runs."""
TEXT_BYTES = 16 * 2**20
"""Bytes of each stream that are read; the first ones."""
REPORTED = 20_000
"""Files that a program's report may name."""


@dataclass(frozen=True)
class Probed:
    """What a program did. `outcome` is that of a trial; `timeout` means that it was still running at the limit.

    `out` and `err` are what it printed. `opened` are the files that it tried to open, absolute, or relative to its own
    copy of the code; `looked` those that it asked for and did not find. `wrote` are those outside of its own folders
    that it tried to write. `hosts` are the names that it tried to reach.
    `written` are the files that it left in AUTOLAB_TRIAL_DIR. `files` are those with numbers, there or in its copy.
    `stopped`: the user ended it. `asked_git`: it started git, as far as Python itself can say. `times`: when it printed
    the numbers of each series, if it was followed.
    """

    outcome: TrialOutcome
    message: str
    seconds: float
    out: bytes
    err: bytes
    opened: tuple[str, ...] = ()
    looked: tuple[str, ...] = ()
    wrote: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    stopped: bool = False
    asked_git: bool = False
    files: tuple[WrittenFile, ...] = ()
    times: Times = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it ended by itself and not well."""
        return not self.stopped and self.outcome not in (TrialOutcome.COMPLETED, TrialOutcome.TIMEOUT)


@dataclass(frozen=True)
class ProbeNews:
    """A program that runs: since when and for how long at most, in seconds, and the last line that it printed."""

    seconds: float
    limit_s: float
    line: str

    def __str__(self) -> str:
        left = max(0.0, self.limit_s - self.seconds)
        return f"{self.seconds:.0f} s of at most {self.limit_s:.0f} s, {left:.0f} s left  {self.line}"


class ProbeView(Protocol):
    """What a user sees while a program runs, within its context. It is called from a thread of its own."""

    interval_s: float

    def __enter__(self) -> object: ...

    def __exit__(self, *_: object) -> object: ...

    def __call__(self, news: ProbeNews) -> None: ...


class PlainProbeView:
    """A line every few seconds, of which the program's own part has 100 characters at most."""

    interval_s = NEWS_S

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, news: ProbeNews) -> None:
        self._tell(f"  {replace(news, line=news.line[:100])}")


def probe(
    repository: Repository,
    config: Config,
    limit_s: float,
    tell: Callable[[str], None],
    view: ProbeView | None = None,
    *,
    seed: int = SEED,
    watch: OutputWatch | None = None,
) -> Probed:
    """Run the configuration's training for at most `limit_s` seconds; Ctrl-C ends it early, with what it did so far.

    `watch` may end it before, once it has printed enough. `view` shows its progress; without one `tell` gets a line
    every few seconds. LabError: the interpreter or a part of the inputs is missing.
    """
    place = common_dir(repository.root) / "autolab.probe"
    remove_tree(place)  # of a probe that was killed
    try:
        exports = place / "exports"
        source = InputSource(repository.git, repository.root, place / "store", exports, secret=b"")
        inputs = set_up(source, config, {BASE: repository.head})
        step = _step(inputs, config, place / "attempt", limit_s, seed)
        attempt = place / "attempt"
        copy = attempt / copy_folder(config.data_entries)
        watch = watch or OutputWatch.of(config, lambda times: None)
        seen = _run(step, attempt, copy, view or PlainProbeView(tell), watch)
        return replace(seen, files=tuple(written_files(copy, inputs.code[BASE].folder, attempt / "train")))
    finally:
        remove_tree(place)


def _run(step: Step, folder: Path, copy: Path, view: ProbeView, watch: OutputWatch) -> Probed:
    document = {"key": "probe", "folder": str(folder), "steps": [asdict(step)]}
    started = time.monotonic()
    over = threading.Event()
    news = threading.Thread(target=_tell_news, args=(folder / "logs", step.time_limit_s, over, view), daemon=True)
    outcome, message, stopped = TrialOutcome.CANCELLED, "stopped by the user", False
    try:
        with view:
            news.start()
            try:
                watch.begin(folder / "logs")
                end: Exit = execute.run_job(document, watch.look)
                outcome, message = end.outcome, end.message
            finally:
                watch.end()
                # The view ends after the last news.
                over.set()
                news.join()
    except KeyboardInterrupt:
        stopped = True
    if outcome is TrialOutcome.CANCELLED and not stopped:
        outcome, message = TrialOutcome.TIMEOUT, "ended after it had printed enough"
    seen = _seen(folder, copy, outcome, message, time.monotonic() - started, stopped)
    own = (str(folder), runner.scratch_folder(step.box.level, str(folder)))
    return replace(seen, times=watch.times, wrote=tuple(_outside(folder / "train" / _REPORT, own)))


def _step(inputs: TrialInputs, config: Config, folder: Path, limit_s: float, seed: int) -> Step:
    """The training step of a trial, with the hook first on PYTHONPATH; it leaves its copy of the code behind."""
    hook = folder.with_name("hook")
    hook.mkdir(mode=0o755)
    # Readable for all: if root started this, the program runs as another user.
    write_whole(hook / "sitecustomize.py", HOOK.read_bytes(), mode=0o644)
    arm = PlannedArm(name="probe", role="baseline", code=BASE, settings={})
    attempt = Attempt("probe", "probe", 1, arm, seed)
    job = trial_job(inputs, TrialCommands.of(config.train.command, config), attempt)
    places = {name: str(path) for name, path in job.inputs.items()} | {"folder": str(folder)}
    places["scratch"] = runner.scratch_folder(job.steps[0].box.level, str(folder))
    step = fill(keeping_copy(job.steps[0]), places)
    path = f"{hook}:{step.env[PYTHON_PATH]}" if PYTHON_PATH in step.env else str(hook)
    environment = dict(step.env) | {PYTHON_PATH: path, "AUTOLAB_PROBE": f"{folder}/train/{_REPORT}"}
    box = replace(step.box, reads=(*step.box.reads, str(hook)))
    arguments = tuple(with_python_path(step.argv, path))
    return replace(step, argv=arguments, env=environment, box=box, time_limit_s=limit_s)


_REPORT = ".autolab.probe.jsonl"


def _tell_news(logs: Path, limit_s: float, over: threading.Event, view: ProbeView) -> None:
    """The last line that the program printed, as often as the view wants it."""
    started = time.monotonic()
    while not over.wait(view.interval_s):
        newest = ""
        for name in ("train.err", "train.out"):
            newest = last_line(decode(_end_of(logs / name))) or newest
        view(ProbeNews(time.monotonic() - started, limit_s, redaction.clean(newest)))


def _end_of(path: Path) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        return file.read()


def _seen(folder: Path, copy: Path, outcome: TrialOutcome, message: str, seconds: float, stopped: bool) -> Probed:
    opened: dict[str, None] = {}
    hosts: dict[str, None] = {}
    looked: dict[str, None] = {}
    asked_git = False
    for event, value in _report(folder / "train" / _REPORT):
        if event == "git":
            asked_git = True
        elif event == "host":
            hosts[value] = None
        elif event == "look":
            looked[value.removeprefix(f"{copy}/")] = None
        elif event == "open":
            opened[value.removeprefix(f"{copy}/")] = None
    written = []
    for path in sorted((folder / "train").rglob("*")):
        name = str(path.relative_to(folder / "train"))
        if path.is_file() and name != _REPORT:
            written.append(name)
    return Probed(
        outcome=outcome,
        message=message,
        seconds=seconds,
        out=_text(folder / "logs" / "train.out"),
        err=_text(folder / "logs" / "train.err"),
        opened=tuple(opened),
        looked=tuple(looked),
        hosts=tuple(hosts),
        written=tuple(written),
        stopped=stopped,
        asked_git=asked_git,
    )


def _outside(report: Path, own: tuple[str, ...]) -> Iterator[str]:
    """The paths that a report says were written, without those in the `own` folders."""
    seen = set()
    for event, value in _report(report):
        is_own = any(f"{value}/".startswith(f"{folder}/") for folder in own)
        if event == "write" and not is_own and value not in seen:
            seen.add(value)
            yield value


def _text(path: Path) -> bytes:
    if not path.exists():
        return b""
    with path.open("rb") as file:
        return _clean(file.read(TEXT_BYTES))


def _clean(content: bytes) -> bytes:
    """A program may print its environment, and with it the user's tokens."""
    return redaction.clean(decode(content)).encode()


def _report(path: Path) -> Iterator[tuple[str, str]]:
    """The events of a report. The program may have written anything there: what is no event is passed over."""
    if not path.is_file() or path.is_symlink():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number >= REPORTED:
                return
            try:
                event, value = json.loads(line)
            except (ValueError, TypeError):
                continue
            if isinstance(event, str) and isinstance(value, str):
                yield event, value

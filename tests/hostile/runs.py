"""The ways to run a hostile program, and what is seen of the run from outside.

`raw` is the positive control: the program as a plain child with the ordinary environment, then a harness that believes
what it left. `boxed` is a job under the real executor, then the engine's own reading of what was collected.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autolab.errors import ExecutorError, LabError
from autolab.executors.base import Job, Step
from autolab.executors.local import LocalExecutor
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.sandbox.box import Box
from autolab.sandbox.exit_record import Exit
from autolab.trials.evaluator import FrozenEvaluator, Problem, check_predictions, read_metrics

from . import reach
from .program import Program
from .world import INTERPRETER, World

MIB = 1 << 20
LIMITS = {"memory_bytes": 100 * MIB, "processes": 24, "disk_bytes": 20 * MIB}
OUTPUT_BYTES = 100_000
PATIENCE_S = 30.0
SECRET = "OPENAI_API_KEY"


@dataclass
class Run:
    """What one run left. `collected` is what a harness would work with: without containment the folder itself."""

    folder: Path
    collected: Path
    logs: Path
    seconds: float = 0.0
    overstayed: bool = False
    killed: bool = False
    exit: Exit | None = None
    refused: str = ""
    """Why the engine did not let it run."""
    record: float | None = None
    trouble: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def errors(self) -> str:
        """The end of what the program said went wrong: for whoever reads a failed test."""
        path = self.folder / "logs" / "train.err"
        return path.read_bytes()[-2000:].decode(errors="replace") if path.exists() else ""


def raw(world: World, program: Program) -> Run:
    """The program with nothing around it but a shell that waits for it, as a runner would."""
    start = reach.make(world, program.place)[0].start if program.place else INTERPRETER_ALONE
    world.tell(program.text, LIMITS | program.box)
    folder = world.train.parent
    run = Run(folder, world.train, folder / "logs")
    for made in (world.train, run.logs):
        made.mkdir(parents=True)
    env = dict(os.environ) | {"MARK": world.mark, SECRET: world.token}
    env |= {"HOME": str(world.facts["home"]), "TMPDIR": str(world.facts["tmp"])}
    argv = ["/bin/sh", "-c", '"$@"; exit $?', "sh", *_argv(world, program, start)]
    with (
        open(run.logs / "train.out", "wb") as out,
        open(run.logs / "train.err", "wb") as err,
        open(world.host / "secret", "rb") as stdin,
        _accomplice(world, program, run),
    ):
        held = int(world.facts["held_fd"])
        child = subprocess.Popen(
            argv,
            cwd=world.train,
            env=env,
            stdin=stdin,
            stdout=out,
            stderr=err,
            pass_fds=(held,),
            start_new_session=True,
        )
        started = time.monotonic()
        run.overstayed = not _ends(child.pid, program.limit_s)
        if run.overstayed:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        run.seconds = time.monotonic() - started
    run.killed = child.returncode < 0 and not run.overstayed
    for what in program.then:
        CARELESS[what](world, run)
    return run


def boxed(world: World, program: Program, level: str, without: tuple[str, ...] = ()) -> Run:
    """The program as step `train` of a job, enclosed at `level` but for the layers in `without`."""
    limits = LIMITS | program.box
    reads, covers, start = INTERPRETER, (), INTERPRETER_ALONE
    folder = world.train.parent
    run = Run(folder, world.root / "collected" / "train", world.root / "collected" / "logs")
    if program.place:
        ground, added = reach.make(world, program.place)
        world.tell(program.text, limits)
        try:
            found = reach.launch(ground, added)
        except LabError as error:
            run.refused = str(error)
            return run
        reads, covers, start = (*found.reads, *added), found.covers, ground.start
    else:
        world.tell(program.text, limits)
    reads = (*reads, str(world.reads))
    box = Box(level=level, reads=reads, writes=("{folder}/train",), covers=covers, without=without, **limits)
    env = {"MARK": world.mark, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    argv = _argv(world, program, start)
    steps = [Step("train", argv, "{folder}/train", env, program.limit_s, OUTPUT_BYTES, box)]
    job = Job(f"hostile.{world.plant[:8]}.t.a1", "t", 1, tuple(steps), {}, 1)
    executor = LocalExecutor(world.work, {"slots": 1})
    with _environment(SECRET, world.token), _accomplice(world, program, run):
        [ref] = executor.submit([job])
        started = time.monotonic()
        deadline = started + program.limit_s + PATIENCE_S
        while not (status := executor.poll([ref], 1.0)[ref.key]).over:
            if time.monotonic() > deadline:
                run.trouble.append("the job does not end")
                break
        run.seconds = time.monotonic() - started
    run.exit = status.exit
    run.overstayed = run.seconds > program.limit_s + 5
    run.killed = run.exit is None or run.exit.outcome is TrialOutcome.LOST
    try:
        executor.fetch(ref, world.root / "collected")
    except (ExecutorError, OSError, RecursionError) as error:
        run.trouble.append(f"collecting failed: {error}")
    for what in program.then:
        CAREFUL[what](world, run)
    return run


def leave(world: World, run: Run) -> str:
    """Clears the work folder away as the engine does; what went wrong, or ""."""
    if run.exit is None:
        return ""
    try:
        LocalExecutor(world.work, {"slots": 1}).discard()
    except (ExecutorError, OSError, RecursionError) as error:
        return f"clearing away failed: {error}"
    return "" if not world.work.exists() else "the work folder is still there"


def _ends(pid: int, seconds: float) -> bool:
    """Whether a child ends within that time. (`Popen.wait` would sleep up to 50 ms too long.)"""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], seconds)[0])
    finally:
        os.close(descriptor)


INTERPRETER_ALONE = (sys.executable, "-I", "-S")


def _argv(world: World, program: Program, start: tuple[str, ...]) -> tuple[str, ...]:
    facts = str(world.reads / "facts.json")
    start = ("/bin/sh",) if program.shell else start
    return (*start, str(world.reads / "program"), facts)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


# somebody outside, meanwhile


@contextlib.contextmanager
def _accomplice(world: World, program: Program, run: Run) -> Iterator[None]:
    if not program.during:
        yield
        return
    over = threading.Event()
    act = ACCOMPLICES[program.during]

    def until_over() -> None:
        while not over.wait(0.01):
            act(world, run)

    thread = threading.Thread(target=until_over)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _knock(world: World, run: Run) -> None:
    """Comes in by the port that the program may have opened."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", world.facts["backdoor"]), 0.5):
        run.heard.append("a port is open to the outside")


def _knock_by_name(world: World, run: Run) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(0.5)
        caller.connect(f"\0backdoor-{world.plant}")
        run.heard.append("a socket without a file is open to the outside")


def _look_at_shared_memory(world: World, run: Run) -> None:
    if world.shared()[1] and not run.heard:
        run.heard.append("a segment appeared on the host")


def _try_the_lock(world: World, run: Run) -> None:
    import fcntl

    with open(world.host / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            run.heard.append("the lock is taken")


ACCOMPLICES: dict[str, Callable[[World, Run], None]] = {
    "knock": _knock,
    "knock_by_name": _knock_by_name,
    "look_at_shared_memory": _look_at_shared_memory,
    "try_the_lock": _try_the_lock,
}


# what a harness does afterwards: one that believes, and the engine


def _python(world: World, code: str, *words: str, cwd: Path, **more: str) -> None:
    """A careless harness's own program, with the trial's folder in its path."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(world.facts["home"]), "PYTHONPATH": str(world.host / "library")}
    env |= {"MARK": world.mark, "PYTHONDONTWRITEBYTECODE": "1"} | more
    argv = [sys.executable, "-c", code, *words]
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(argv, cwd=cwd, env=env, capture_output=True, timeout=1, check=False)


def _score_carelessly(world: World, run: Run) -> None:
    """Runs the evaluator where the trial's files lie, on whatever is called predictions."""
    out = world.root / "score.json"
    evaluator = f"{world.host}/evaluator"
    code = f"import sys; exec(open({evaluator!r} + '/eval.py').read())"
    words = ["--predictions", str(run.folder / "train/predictions.npy"), "--labels", f"{evaluator}/labels.npy"]
    started = time.monotonic()
    _python(world, code, *words, "--out", str(out), cwd=run.folder / "train")
    if time.monotonic() - started > 0.9:
        run.heard.append("the scorer hangs")
    if out.exists():
        run.record = json.loads(out.read_text())["accuracy"]


def _believe_carelessly(world: World, run: Run) -> None:
    """Takes what the trial says of itself for the score."""
    path = run.folder / "train" / "metrics.json"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            told: Any = json.loads(file.read(80 * MIB))
        run.record = float(told["accuracy"])
    except RecursionError:
        run.heard.append("the reader falls over")
    except ValueError:
        run.heard.append("the reader gets nothing from a pipe")


def _believe_the_log_carelessly(world: World, run: Run) -> None:
    for line in (run.logs / "train.out").read_text().splitlines():
        if line.startswith("accuracy: "):
            run.record = float(line.split()[1])


def _unpack_carelessly(world: World, run: Run) -> None:
    code = (
        "import shutil, sys, tarfile, zipfile, pathlib\n"
        "for path in sorted(pathlib.Path('.').glob('*.tar')):\n"
        "    with tarfile.open(path) as file:\n"
        "        file.extraction_filter = (lambda member, path: member)\n"
        "        file.extractall(sys.argv[1])\n"
        "for path in sorted(pathlib.Path('.').glob('*.zip')):\n"
        "    with zipfile.ZipFile(path) as file:\n"
        "        for name in file.namelist():\n"
        "            target = pathlib.Path(sys.argv[1], name)\n"
        "            target.parent.mkdir(parents=True, exist_ok=True)\n"
        "            target.write_bytes(file.read(name))\n"
    )
    _python(world, code, str(world.facts["unpacked"]), cwd=run.folder / "train")


def _load_carelessly(world: World, run: Run) -> None:
    code = "import pickle, pathlib\nfor path in pathlib.Path('.').glob('*.pkl'):\n    pickle.loads(path.read_bytes())"
    _python(world, code, cwd=run.folder / "train")


def _import(world: World, run: Run) -> None:
    """Runs the lab's code again: with byte-code beside it, then with that in the folder of the scorer."""
    code = f"import sys; sys.path.insert(0, {str(world.host / 'code')!r})\nimport helper"
    _python(world, code, cwd=world.host / "code")
    _python(world, code, cwd=world.host / "code", PYTHONPYCACHEPREFIX=str(world.host / "pycache"))


def _score(world: World, run: Run) -> None:
    """As the engine scores: collected files only, the frozen evaluator by its hash, in a folder of its own."""
    evaluator, predictions = world.host / "evaluator", run.collected / "predictions.npy"
    problem = check_predictions(predictions, 32)
    if isinstance(problem, Problem):
        return
    frozen = world.before[str(evaluator / "eval.py")][5]
    assert isinstance(frozen, str)
    python, labels = Path(sys.executable), evaluator / "labels.npy"
    engine = FrozenEvaluator(python, evaluator / "eval.py", frozen, 5.0)
    scored = engine.score(predictions, labels, world.root / "scored")
    if isinstance(scored, dict):
        run.record = scored["accuracy"]


def _believe(world: World, run: Run) -> None:
    """As the engine reads what a trial says of itself: it is no score, and must still be read without harm."""
    told = read_metrics(run.collected / "metrics.json")
    if isinstance(told, dict) and not all(abs(value) < 1e308 for value in told.values()):
        run.heard.append("a number that is none was taken")
    _score(world, run)


def _nothing(world: World, run: Run) -> None:
    """The engine does not unpack, load or import anything of a trial."""


def _look(*command: str) -> Callable[[World, Run], None]:
    """A user looks at what was collected with an ordinary program, in that folder."""

    def look(world: World, run: Run) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        subprocess.run(command, cwd=run.collected, env=env, capture_output=True, timeout=60, check=False)

    return look


LOOKS = {
    "look with git": _look("git", "status"),
    "look with pytest": _look(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
}
CARELESS: dict[str, Callable[[World, Run], None]] = {
    "score": _score_carelessly,
    "believe": _believe_carelessly,
    "believe the log": _believe_the_log_carelessly,
    "unpack": _unpack_carelessly,
    "load": _load_carelessly,
    "import": _import,
    **LOOKS,
}
CAREFUL: dict[str, Callable[[World, Run], None]] = {
    "score": _score,
    "believe": _believe,
    "believe the log": _score,
    "unpack": _nothing,
    "load": _nothing,
    "import": _import,
    **LOOKS,
}

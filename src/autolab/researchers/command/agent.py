"""An external program as researcher: it works in the workspace and leaves `.autolab/agent_result.json`.

The program runs under the same supervisor as a trial, so that it cannot outlive its time limit, leaves no
process behind, and one that is under way when the engine dies is waited for and not started twice.
Its words are those of a preset (presets.yaml) or of `command`, with placeholders filled in. Its environment is PATH,
HOME, LANG, a TMPDIR, AUTOLAB_STAGE, AUTOLAB_PROMPT_FILE and what `env` names; nothing else of the engine's.
It runs at the lab's level of containment, but with the network: it sees the system's programs, what its own program is
installed with, the workspace and the training data that it leads to, a folder of its own, and what `reads` and
`writes` name (its configuration, say), which may not hold the lab. What it adds on disk is limited like a trial's.
What it changed is read from the workspace and never from its word.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from autolab import files
from autolab.errors import ResearcherError
from autolab.executors.base import Job, Step
from autolab.executors.local import LocalExecutor
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.researchers.base import Answer, Booked, Received, ResearcherDefaults, Sent, Task
from autolab.researchers.command.presets import LONGEST_ARGUMENT, argv, installation, program, settled, sources
from autolab.researchers.command.usage import COUNTS, read, regular
from autolab.sandbox import workdir
from autolab.sandbox.box import Box
from autolab.sandbox.collect import remove_tree
from autolab.sandbox.exit_record import Exit
from autolab.sandbox.workdir import Workdir
from autolab.text import decode_json, last_line
from autolab.trials.interpreter import shipped_labs

RESULT = ".autolab/agent_result.json"
MAX_RESULT_BYTES = 4 << 20
TAIL_BYTES = 1 << 20
"""How much of what the program printed is kept on record, from its end."""
OUTPUT_BYTES = 50 << 20
LAST_LINE = 200
"""Characters of a failed program's last line that a user is shown."""
DONE = 200
"""The status of a call whose program ended well; that of any other is 0."""


class CommandResearcher(ResearcherDefaults):
    name: str = "command"
    contract = "command"
    options = frozenset({"command", "model", "env", "reads", "writes", "time_limit_s", "disk_mb", "max_files"})
    works_in_folder = True

    def __init__(self, config: ResearcherConfig) -> None:
        self.name = config.name
        self._preset = settled(config)
        self._model, self._time_limit_s = config.model, config.time_limit_s
        self._disk_bytes, self._files = int(config.disk_mb * 1e6), config.max_files
        self.counts = COUNTS.get(self._preset.usage or "", frozenset())
        self._said_unknown = False

    def perform(self, task: Task) -> Answer:
        if task.calls is None:
            return self._answer(task, self._run(task))
        model = f"{self.name}:{self._model}" if self._model else self.name
        sent = Sent(model=model, url="", body=_prompt(task).encode(), tokens=0, dollars=None)
        received = task.calls.send(sent, lambda: self._run(task))
        answer = self._answer(task, received)
        used = read(self._preset.usage, received.body, _own(task)) if self._preset.usage else None
        detail = "" if answer.raw is not None else answer.note
        tokens = (used.input_tokens, used.output_tokens) if used else (0, 0)
        task.calls.book(Booked(_reason(received, answer), detail, *tokens, used.dollars if used else None))
        if used or self._said_unknown or answer.raw is None:
            return answer
        self._said_unknown = True
        return Answer(
            answer.raw, f"  {self.name}: what this took is not known: it does not say so in a form that is read"
        )

    def _run(self, task: Task) -> Received:
        """Run the program, or wait for the one that an engine before this one started."""
        executor = LocalExecutor(task.folders.scratch, {})
        found = executor.find([task.key])
        if task.key not in found:
            job = self._job(task)
            _clear(task.folders.workspace)
            executor.submit([job])
            found = executor.find([task.key])
        ref = found[task.key]
        while not (status := executor.poll([ref], 60.0)[task.key]).over:
            pass
        place = Workdir(task.folders.scratch)
        _forget_keys(place.job(ref.handle))
        logs = place.folder(str(task.kind), 1) / "logs"
        printed = _tail(logs / "agent.out")
        if status.exit is None:
            return Received(0, {}, printed, 0.0, "lost")
        fault = _fault(status.exit, _tail(logs / "agent.err") or printed)
        return Received(0 if fault else DONE, {}, printed, status.exit.seconds, fault)

    def _answer(self, task: Task, received: Received) -> Answer:
        """Move what the program left out of its reach, then read it; after a crash it may be there already."""
        if received.status != DONE:
            return Answer(None, f"the command ended as {received.fault}")
        left, path = task.folders.workspace / RESULT, task.folders.scratch / "agent_result.json"
        if left.parent.is_symlink():
            return Answer(None, f"{RESULT}: lies behind a link")
        if os.path.lexists(left):
            os.replace(left, path)
        raw = regular(path, MAX_RESULT_BYTES)
        if raw == "missing":
            return Answer(None, f"the command left no {RESULT}")
        return Answer(None, f"{RESULT}: {raw}") if isinstance(raw, str) else Answer(decode_json(raw))

    def _job(self, task: Task) -> Job:
        preset, prompt, own = self._preset, task.folders.scratch / "prompt.md", _own(task)
        path = os.environ.get("PATH")
        found = program(preset, self.name, task.folders.workspace, path)
        text = _prompt(task)
        if "{prompt}" in preset.command and len(text.encode()) > LONGEST_ARGUMENT:
            size = f"{len(text.encode()):,} bytes are more than one argument holds ({LONGEST_ARGUMENT:,})"
            raise ResearcherError(f"researcher: {self.name}: the prompt's {size}; use {{prompt_file}}")
        files.write_whole(prompt, text)
        own.mkdir(exist_ok=True)
        values = {
            "prompt_file": str(prompt),
            "workspace": str(task.folders.workspace),
            "stage": str(task.kind),
            "model": self._model or "",
            "result_file": str(task.folders.workspace / RESULT),
            "time_limit_s": f"{self._time_limit_s:g}",
            "folder": str(own),
        }
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", *preset.env) if name in os.environ}
        env |= {"TMPDIR": "{scratch}", "AUTOLAB_STAGE": str(task.kind), "AUTOLAB_PROMPT_FILE": str(prompt)}
        given = {name: tuple(map(os.path.expanduser, getattr(preset, name))) for name in ("reads", "writes")}
        if task.folders.containment != "none" and task.folders.lab is not None:
            for name, paths in given.items():
                _refuse_lab(name, paths, task.folders.lab)
        own_settings = tuple(map(_folder, given["writes"]))
        reads = (*installation(found), str(prompt), *map(str, task.folders.data), *given["reads"])
        sites = [site for path in reads for site in glob.glob(f"{glob.escape(path)}/lib*/python*/*-packages")]
        box = Box(
            level=task.folders.containment,
            reads=reads,
            writes=(str(task.folders.workspace), str(own), *own_settings),
            covers=shipped_labs(sites, reads),
            network=True,
            own_user=False,
            disk_bytes=self._disk_bytes,
            new_files=self._files,
            uncounted=own_settings,
        )
        words = argv(preset.command, values, sources(task.folders.workspace))
        step = Step(
            "agent", words, str(task.folders.workspace), env | preset.given, self._time_limit_s, OUTPUT_BYTES, box
        )
        return Job(key=task.key, trial=str(task.kind), attempt=1, steps=(step,), inputs={})


class PresetResearcher(CommandResearcher):
    """One of presets.yaml, which has its command."""

    options = CommandResearcher.options - {"command"}


def _prompt(task: Task) -> str:
    return f"{task.prompt.rstrip()}\n\n{task.contract}" if task.contract else task.prompt


def _own(task: Task) -> Path:
    """A folder that the program may write in, beside the workspace: its notes are no part of the candidate."""
    return task.folders.scratch / "own"


def _refuse_lab(name: str, paths: Iterable[str], lab: Path) -> None:
    """ResearcherError for a path that would bring the lab, with its labels and its record, into the program's sight."""
    real = Path(os.path.realpath(lab))
    for path in paths:
        there = Path(os.path.realpath(path))
        if real.is_relative_to(there) or there.is_relative_to(real):
            where = "holds the lab" if real.is_relative_to(there) else "lies in the lab"
            way = "name folders beside it; the lab's code, documents and training data are in its workspace"
            raise ResearcherError(f"researcher: {name}: {path} {where}, which an agent may not see; {way}")


def _folder(path: str) -> str:
    """A path of the user's that the program may write; one that ends in `/` is made, as the program would."""
    whole = path
    if path.endswith("/"):
        os.makedirs(whole, exist_ok=True)
    return whole.rstrip("/")


def _clear(workspace: Path) -> None:
    """Take away an older result, whatever lies in its place, and a link in place of its folder."""
    path = workspace / RESULT
    _remove(path.parent if path.parent.is_symlink() else path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    elif os.path.lexists(path):
        path.unlink()


def _forget_keys(job: Path) -> None:
    """A job that is over keeps no variables: its file would hold keys for as long as the lab lives."""
    kept = workdir.read_json(job)
    workdir.write_json(job, kept | {"steps": [step | {"env": {}} for step in kept["steps"]]})


def _fault(ended: Exit, printed: bytes) -> str:
    """Why a run is no answer, with the last line of a program that failed by itself."""
    if ended.outcome is TrialOutcome.COMPLETED:
        return ""
    reason = last_line(printed, LAST_LINE) if ended.outcome is TrialOutcome.FAILED else ""
    return f"{ended.outcome}: {ended.message}" + (f": {reason}" if reason else "")


def _reason(received: Received, answer: Answer) -> str:
    if received.status != DONE:
        kind = received.fault.partition(":")[0]
        return kind if kind in ("timeout", "lost") else "failed"
    return "ok" if answer.raw is not None else "no_result"


def _tail(path: Path) -> bytes:
    """The end of a log that the runner wrote; nothing where the job never came to run."""
    if not path.exists():
        return b""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL_BYTES))
        return file.read()

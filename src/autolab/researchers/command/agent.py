"""An external program as researcher: it works in the workspace and leaves `.autolab/agent_result.json`.

The program runs under the same supervisor as a trial: it cannot outlive its time limit and leaves no process behind. If
the engine dies meanwhile, the next engine waits for the program and does not start it twice.

- Its command is that of a preset (presets.yaml) or `command`, with placeholders filled in.
- Its environment is PATH, HOME, LANG, a TMPDIR, AUTOLAB_STAGE, AUTOLAB_PROMPT_FILE, AUTOLAB_CHECK (a shell script that
  runs the lab's checks in the workspace) and what `env` names.
- It runs at the lab's level of containment, but with the network. It sees the system's programs, its own installation,
  the workspace with the training data that it links to, a folder of its own, and what `reads` and `writes` name (its
  configuration, say). These may not hold the lab. What it adds on disk is limited like a trial's.
- What it changed is read from the workspace; its own word about that counts for nothing.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from autolab import files
from autolab.errors import ResearcherError
from autolab.executors.base import Job, Ref, Step
from autolab.executors.local import LocalExecutor
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.outcomes import TrialOutcome
from autolab.researchers.base import Answer, Booked, Received, ResearcherDefaults, Sent, Task
from autolab.researchers.command.presets import (
    LONGEST_ARGUMENT,
    StartedProgram,
    argv,
    effective_preset,
    program,
    sources,
    started_program,
)
from autolab.researchers.command.program_files import (
    program_index,
    refuse_holding,
    require_files,
    shown_files,
)
from autolab.researchers.command.usage import COUNTS, AgentUsage, read, regular
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
"""How much of what the program printed is recorded, from its end."""
OUTPUT_BYTES = 50 << 20
LAST_LINE = 200
"""Characters of a failed program's last line that a user sees."""
DONE = 200
"""The status of a call whose program ended well; that of any other is 0."""
_POLL_S = 60.0
_MISSING = re.compile(r"No module named|ImportError|No such file|Permission denied|Read-only|Cannot find module")
"""What a program says when it does not find a file."""


class CommandResearcher(ResearcherDefaults):
    name: str = "command"
    contract = "command"
    options = frozenset({"command", "model", "env", "reads", "writes", "time_limit_s", "disk_mb", "max_files"})
    works_in_folder = True

    def __init__(self, config: ResearcherConfig) -> None:
        """ResearcherError: the words of the command cannot be filled in."""
        self.name = config.name
        self._config = config
        self._preset = effective_preset(config)
        self.counts = COUNTS.get(self._preset.usage or "", frozenset())
        self._noted_unknown_usage = False
        note = shown_files(self._preset.command).note()
        if note:
            self.notes = (note,)

    def require_usable(self, lab: Path, in_workspace: Callable[[str], bool]) -> None:
        """ResearcherError: its program, or a file that its command names, is missing or not for it."""
        words = self._preset.command
        first = words[program_index(words)]
        require_files(words, lab, in_workspace)
        if "/" not in first or os.path.isabs(first) or not in_workspace(os.path.normpath(first)):
            # There is no workspace yet, and it will hold no path that the commit does not.
            program(self._preset, self.name, Path(os.devnull), os.environ.get("PATH"))

    def description(self) -> str:
        """What it is on this machine: its program, what it is shown and may write, the variables that it gets."""
        preset = self._preset
        first = preset.command[program_index(preset.command)]
        parts = [f"program {shutil.which(first) or first}"]
        reads = [*shown_files(preset.command).all, *preset.reads]
        variables = [name for name in preset.env if name in os.environ]
        for label, names in (("reads", reads), ("writes", preset.writes), ("variables", variables)):
            if names:
                parts.append(f"{label} {', '.join(names)}")
        return "; ".join(parts)

    def perform(self, task: Task) -> Answer:
        if task.calls is None:
            return self._answer(task, self._run(task))
        model = self.name
        if self._config.model:
            model += f":{self._config.model}"
        # No price is known before: only the agent knows how many calls it will make.
        sent = Sent(model=model, url="", body=_prompt(task).encode(), tokens=0, dollars=None)
        received = task.calls.send(sent, lambda: self._run(task))
        answer = self._answer(task, received)
        usage = None
        if self._preset.usage:
            usage = read(self._preset.usage, received.body, _own_folder(task))
        task.calls.book(_booked(received, answer, usage))
        # Once for each command: the note would be the same for every request.
        if usage or self._noted_unknown_usage or answer.raw is None:
            return answer
        self._noted_unknown_usage = True
        note = f"  {self.name}: the cost of this request is not known: the program does not report it in a known form"
        return Answer(answer.raw, note)

    def _run(self, task: Task) -> Received:
        """Run the program, or wait for the one that an engine before this one started."""
        executor = LocalExecutor(task.folders.scratch, {})
        # The key was submitted before if an engine died meanwhile.
        refs = executor.find([task.key])
        if task.key not in refs:
            job = self._job(task)
            # Only before a start: the result of a program under way must stay.
            _clear(task.folders.workspace)
            executor.submit([job])
            refs = executor.find([task.key])
        ref = refs[task.key]
        end = _wait(executor, ref, task.key)
        place = Workdir(task.folders.scratch)
        # Before anything else: a crash from here on must not leave keys in the file.
        _forget_keys(place.job(ref.handle))
        logs = place.folder(str(task.kind), 1) / "logs"
        output = _tail(logs / "agent.out")
        if end is None:
            return Received(0, {}, output, 0.0, "lost")
        fault = _fault(end, _tail(logs / "agent.err") or output)
        if task.folders.containment != "none" and _MISSING.search(fault):
            fault += "; it sees only what it was given: name what it needs in `reads:` or `writes:` of the researcher"
        return Received(0 if fault else DONE, {}, output, end.seconds, fault)

    def _answer(self, task: Task, received: Received) -> Answer:
        """Move the result out of the program's reach, then read it; after a crash it may be there already."""
        if received.status != DONE:
            return Answer(None, f"the command ended as {received.fault}")
        result, path = task.folders.workspace / RESULT, task.folders.scratch / "agent_result.json"
        # A link could lead the move to a file outside of the workspace.
        if result.parent.is_symlink():
            return Answer(None, f"{RESULT}: lies behind a link")
        if os.path.lexists(result):
            os.replace(result, path)
        content = regular(path, MAX_RESULT_BYTES)
        if content == "missing":
            return Answer(None, f"the command left no {RESULT}")
        if isinstance(content, str):
            return Answer(None, f"{RESULT}: {content}")
        return Answer(decode_json(content))

    def _job(self, task: Task) -> Job:
        preset, workspace, own = self._preset, task.folders.workspace, _own_folder(task)
        path, position = os.environ.get("PATH"), program_index(preset.command)
        executable = program(preset, self.name, workspace, path)
        started = started_program(preset.command[position], executable, task.folders.lab, path)
        prompt = self._write_prompt(task)
        own.mkdir(exist_ok=True)
        values = {
            "prompt_file": str(prompt),
            "workspace": str(workspace),
            "stage": str(task.kind),
            "model": self._config.model or "",
            "result_file": str(workspace / RESULT),
            "time_limit_s": f"{self._config.time_limit_s:g}",
            "folder": str(own),
        }
        # A list of names, so that the program does not get the keys of other services.
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", *preset.env) if name in os.environ}
        env |= {"TMPDIR": "{scratch}", "AUTOLAB_STAGE": str(task.kind), "AUTOLAB_PROMPT_FILE": str(prompt)}
        if task.folders.checks is not None:
            env["AUTOLAB_CHECK"] = str(task.folders.checks.program)
        # Its own paths are no text of the command: a brace in them stays.
        first = [word.replace("{", "{{").replace("}", "}}") for word in started.words]
        words = (*preset.command[:position], *first, *preset.command[position + 1 :])
        if started.words == (preset.command[position],):
            words = preset.command
        step = Step(
            "agent",
            argv(words, values, sources(workspace)),
            str(workspace),
            env | preset.given,
            self._config.time_limit_s,
            OUTPUT_BYTES,
            self._box(task, started, prompt),
        )
        return Job(key=task.key, trial=str(task.kind), attempt=1, steps=(step,), inputs={})

    def _write_prompt(self, task: Task) -> Path:
        text, path = _prompt(task), task.folders.scratch / "prompt.md"
        size = len(text.encode())
        if "{prompt}" in self._preset.command and size > LONGEST_ARGUMENT:
            problem = f"{size:,} bytes are more than one argument holds ({LONGEST_ARGUMENT:,})"
            raise ResearcherError(f"researcher: {self.name}: the prompt's {problem}; use {{prompt_file}}")
        files.write_whole(path, text)
        return path

    def _box(self, task: Task, started: StartedProgram, prompt: Path) -> Box:
        """What the program may reach. The paths of `reads` and `writes` are the user's, with `~` for the home."""
        folders = task.folders
        configured_reads = tuple(map(os.path.expanduser, self._preset.reads))
        configured_writes = tuple(map(os.path.expanduser, self._preset.writes))
        # Without containment the program sees everything anyway, so a refusal would protect nothing.
        if folders.containment != "none" and folders.lab is not None:
            _refuse_lab("reads", configured_reads, folders.lab)
            _refuse_lab("writes", configured_writes, folders.lab)
            refuse_holding(started.reads, folders.lab)
        own_settings = tuple(map(_settings_path, configured_writes))
        shown = shown_files(self._preset.command, folders.lab)
        reads = (*started.reads, *shown.all, str(prompt), *map(str, folders.data), *configured_reads)
        covers = started.covers
        if folders.checks is not None:
            reads = (*reads, str(folders.checks.program), *folders.checks.reads)
            covers = (*covers, *folders.checks.covers)
        # Autolab may be among the program's packages, and its labs contain data sets with all their labels.
        sites: list[str] = []
        for path in reads:
            sites += glob.glob(f"{glob.escape(path)}/lib*/python*/*-packages")
        return Box(
            level=folders.containment,
            reads=reads,
            writes=(str(folders.workspace), str(_own_folder(task)), *own_settings),
            covers=tuple(dict.fromkeys((*shipped_labs(sites, reads), *covers))),
            lists=shown.folders,
            network=True,
            own_user=False,
            disk_bytes=int(self._config.disk_mb * 1e6),
            new_files=self._config.max_files,
            uncounted=own_settings,
        )


class PresetResearcher(CommandResearcher):
    """An agent of presets.yaml, which has its command."""

    options = CommandResearcher.options - {"command"}


def _prompt(task: Task) -> str:
    return f"{task.prompt.rstrip()}\n\n{task.contract}" if task.contract else task.prompt


def _own_folder(task: Task) -> Path:
    """A folder that the program may write in, beside the workspace: its notes are no part of the candidate."""
    return task.folders.scratch / "own"


def _wait(executor: LocalExecutor, ref: Ref, key: str) -> Exit | None:
    """The end of a job; None if the job was lost."""
    while True:
        status = executor.poll([ref], _POLL_S)[key]
        if status.over:
            return status.exit


def _refuse_lab(name: str, paths: tuple[str, ...], lab: Path) -> None:
    """ResearcherError for a path that would show the program the lab, with its labels and its record."""
    real = Path(os.path.realpath(lab))
    for path in paths:
        target = Path(os.path.realpath(path))
        # Compared as real paths: a link beside the lab may lead into it.
        if real.is_relative_to(target):
            where = "holds the lab"
        elif target.is_relative_to(real):
            where = "lies in the lab"
        else:
            continue
        way = "name folders beside it; the lab's code, documents and training data are in its workspace"
        raise ResearcherError(f"researcher: {name}: {path} {where}, which an agent may not see; {way}")


def _settings_path(path: str) -> str:
    """A path that the program may write. One that ends in `/` is made: at its first start an agent has no folder."""
    if path.endswith("/"):
        os.makedirs(path, exist_ok=True)
    return path.rstrip("/")


def _clear(workspace: Path) -> None:
    """Remove an older result, whatever lies in its place, and a link in place of its folder."""
    path = workspace / RESULT
    # A link in place of the folder would lead the removal to files outside of the workspace.
    if path.parent.is_symlink():
        path = path.parent
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    elif os.path.lexists(path):
        path.unlink()


def _forget_keys(job: Path) -> None:
    """Empty the environment in the file of a job that is over: it would hold keys for as long as the lab lives."""
    document = workdir.read_json(job)
    for step in document["steps"]:
        step["env"] = {}
    workdir.write_json(job, document)


def _fault(end: Exit, output: bytes) -> str:
    """Why a run gives no answer, with the last line of a program that failed by itself; empty if it ended well."""
    if end.outcome is TrialOutcome.COMPLETED:
        return ""
    fault = f"{end.outcome}: {end.message}"
    # What a program printed before it was stopped from outside does not say why.
    if end.outcome is TrialOutcome.FAILED:
        reason = last_line(output, LAST_LINE)
        if reason:
            fault += f": {reason}"
    return fault


def _booked(received: Received, answer: Answer, usage: AgentUsage | None) -> Booked:
    reason, detail = "ok", ""
    if answer.raw is None:
        reason, detail = "no_result", answer.note
    if received.status != DONE:
        kind = received.fault.partition(":")[0]
        reason = kind if kind in ("timeout", "lost") else "failed"
    # A failed run is booked too: the agent's calls before the failure were paid.
    usage = usage or AgentUsage(0, 0, None)
    return Booked(reason, detail, usage.input_tokens, usage.output_tokens, usage.dollars)


def _tail(path: Path) -> bytes:
    """The end of a log that the runner wrote; empty if the job never came to run."""
    if not path.exists():
        return b""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - TAIL_BYTES))
        return file.read()

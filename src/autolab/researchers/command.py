"""An external program as researcher: it works in the workspace and leaves `.autolab/agent_result.json`.

The program runs under the same supervisor as a trial, so that it cannot outlive its time limit, leaves no
process behind, and one that is under way when the engine dies is waited for and not started twice.
`{prompt_file}`, `{workspace}` and `{stage}` in the command are filled in. Its environment is PATH, HOME,
LANG, AUTOLAB_STAGE, AUTOLAB_PROMPT_FILE and what `env` names; nothing else of the engine's.
It runs at the lab's level of containment, but with the network: it sees the system's programs, its own program file,
the workspace, and what `reads` and `writes` name (its configuration, say, or the interpreter that it runs on).
"""

from __future__ import annotations

import os
import shlex
import shutil
import stat
from pathlib import Path

from autolab import durable
from autolab.collection import remove_tree
from autolab.errors import ResearcherError
from autolab.executors.base import Job, Step
from autolab.executors.local import LocalExecutor
from autolab.records.lab import Who
from autolab.records.outcomes import Outcome
from autolab.researchers.base import Answer, Task
from autolab.sandbox import Box

RESULT = ".autolab/agent_result.json"
MAX_RESULT_BYTES = 4 << 20


class CommandResearcher:
    name = "command"
    options = frozenset({"command", "env", "reads", "writes", "time_limit_s"})
    works_in_folder = True

    def __init__(self, who: Who) -> None:
        try:
            self._words = shlex.split(who.command or "")
        except ValueError as error:
            raise ResearcherError(f"researcher: command: {who.command!r}: {error}") from None
        if not self._words:
            raise ResearcherError('researcher: command needs `command: "program {prompt_file}"`')
        self._who = who

    def perform(self, task: Task) -> Answer:
        executor = LocalExecutor(task.scratch, {})
        found = executor.find([task.key])
        if task.key not in found:
            _remove(task.workspace / RESULT)
            executor.submit([self._job(task)])
            found = executor.find([task.key])
        ref = found[task.key]
        while not (status := executor.poll([ref], 60.0)[task.key]).over:
            pass
        if status.exit is None or status.exit.outcome is not Outcome.COMPLETED:
            what = f"{status.exit.outcome}: {status.exit.message}" if status.exit else "lost"
            return Answer(None, f"the command ended as {what}")
        return self._collect(task.workspace / RESULT, task.scratch / "agent_result.json")

    def _collect(self, left: Path, path: Path) -> Answer:
        """Move what the program left out of its reach, then read it; after a crash it may be there already."""
        if os.path.lexists(left):
            os.replace(left, path)
        if not os.path.lexists(path):
            return Answer(None, f"the command left no {RESULT}")
        if not stat.S_ISREG(path.lstat().st_mode):
            return Answer(None, f"{RESULT}: not a regular file")
        with open(path, "rb") as file:
            raw = file.read(MAX_RESULT_BYTES + 1)
        if len(raw) > MAX_RESULT_BYTES:
            return Answer(None, f"{RESULT}: larger than {MAX_RESULT_BYTES} bytes")
        return Answer(raw.decode("utf-8", errors="replace"))

    def _job(self, task: Task) -> Job:
        prompt = task.scratch / "prompt.md"
        durable.write(prompt, task.prompt)
        filled = {"{prompt_file}": str(prompt), "{workspace}": str(task.workspace), "{stage}": str(task.stage)}
        argv = []
        for word in self._words:
            for name, value in filled.items():
                word = word.replace(name, value)
            argv.append(word)
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", *self._who.env) if name in os.environ}
        program = shutil.which(task.workspace / argv[0] if "/" in argv[0] else argv[0], path=env.get("PATH"))
        if program is None:
            raise ResearcherError(f"researcher: command: {argv[0]}: no such program, or not one that may be run")
        env |= {"AUTOLAB_STAGE": str(task.stage), "AUTOLAB_PROMPT_FILE": str(prompt)}
        box = Box(
            level=task.containment,
            reads=(str(program), os.path.realpath(program), str(prompt), *map(os.path.expanduser, self._who.reads)),
            writes=(str(task.workspace), *map(os.path.expanduser, self._who.writes)),
            network=True,
            own_user=False,
        )
        step = Step("agent", tuple(argv), str(task.workspace), env, self._who.time_limit_s, 50 << 20, box)
        return Job(key=task.key, trial=str(task.stage), attempt=1, steps=(step,), inputs={})


def _remove(path: Path) -> None:
    """Take away whatever lies at `path`, which a program may have made a folder or a link."""
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    elif os.path.lexists(path):
        path.unlink()

"""What one step of the engine works with, and how a researcher is asked.

An ask is recorded before it is made and its answer kept before it is read, so that an answer that was
received is never asked for again: after a crash the same number of ask finds the same reply.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from autolab import calls, durable, fault, ideas, lessons, prompts, redaction
from autolab.collection import remove_any, remove_tree
from autolab.errors import RecordError
from autolab.lab import IterationPaths, Lab
from autolab.ledger import Line
from autolab.records.base import Record
from autolab.records.experiment import Design, Hypothesis, Results
from autolab.records.lab import Campaign, Config, Stage, State, VerifierPolicy, Who
from autolab.records.replies import OUTPUTS, AgentResult, Output
from autolab.researchers import Answer, Context, Researcher, Task
from autolab.stages import Outcome
from autolab.text import decode, many_lines
from autolab.view import View
from autolab.workspace import Workspaces, open_up

Document = TypeVar("Document", bound=Record)

AGENT_FOLDER = "agent-"
"""Begins the names of coding agents' folders; a candidate's worktree begins with its hypothesis's id."""


@dataclass(frozen=True)
class Result:
    """What came of one attempt at a stage: for the table, for the campaign, for the state."""

    outcome: Outcome
    reason: str = ""
    campaign: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Desk:
    """One step's view of the lab. Everything on it was read under the lock."""

    lab: Lab
    config: Config
    policy: VerifierPolicy
    state: State
    campaign: Campaign
    line: Line
    """The newest transition."""
    researcher: Researcher
    reviewer: Researcher
    tell: View
    stop: Callable[[], bool]
    began: float = field(default_factory=time.monotonic)

    def late(self) -> bool:
        """Whether budget.wall_hours is over, this step's time counted."""
        cap = self.config.budget.wall_hours
        return cap is not None and self.campaign.seconds + time.monotonic() - self.began >= cap * 3600

    @property
    def iteration_id(self) -> str:
        assert self.state.iteration_id is not None
        return self.state.iteration_id

    @property
    def paths(self) -> IterationPaths:
        return self.lab.iteration(self.iteration_id)

    def events(self) -> list[Line]:
        """The ledger lines of this iteration."""
        return list(self.lab.ledger.lines(self.campaign.iteration_offset))

    @cached_property
    def acted(self) -> int:
        """Number of the newest line that acted on what a stage did; what was recorded since is still to be used.

        Not simply the newest transition: a loop that begins or a person's answer acts on no answer and no trial.
        """
        acts = (line.n for line in self.events() if line.event == "transition" and "outcome" in line.data)
        return max(acts, default=0)

    def shown(self, path: Path) -> str:
        """A path as messages name it: from the lab's root where it lies in it."""
        return str(path.relative_to(self.lab.root)) if path.is_relative_to(self.lab.root) else str(path)

    def restore(self) -> None:
        """Make the iteration's folder, and bring back recorded files of it that somebody cleaned away.

        Before a stage and after anything that took long, so that nobody misses what they read or record.
        """
        self.lab.require_here()
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        fault.point("iteration.after_folder")
        recorded = self.line.data.get("log")
        if recorded and self.lab.git.resolve(recorded):
            for name in self.lab.git.restore_missing(recorded, self.lab.root):
                self.tell(f"{name}: was missing, restored from the record")

    @property
    def goal(self) -> str:
        """What the person wants: the loop's goal, or else the lab's."""
        loop = self.campaign.loop
        return loop.goal if loop and loop.goal else self.config.goal

    @property
    def target(self) -> str | None:
        loop = self.campaign.loop
        return loop.target if loop and loop.target else self.config.target

    def write(self, path: Path, text: str) -> None:
        durable.write(path, redaction.clean(text))
        fault.point("artifact.after_write")

    def hypothesis(self) -> Hypothesis:
        path = self.paths.hypothesis
        shown = self.shown(path)
        with _mendable():
            return Hypothesis.from_text(front_matter(read(path, shown), shown), shown)

    def design(self) -> Design:
        return self.load(Design, self.paths.design)

    def load(self, kind: type[Document], path: Path) -> Document:
        """A document of the iteration that the engine wrote and a person may have edited since."""
        with _mendable():
            return kind.load(path, self.shown(path))

    @property
    def title(self) -> str:
        """The hypothesis's title, as the backlog has it; empty before there is one."""
        known = {one.id: one.title for one in self.lab.backlog().hypotheses}
        return known.get(self.campaign.hypothesis_id or "", "")

    @property
    def slug(self) -> str:
        """The candidate's name (worktree, branch `exp/<slug>`); unique, as it begins with the hypothesis id."""
        title = re.sub(r"[^a-z0-9]+", "-", self.hypothesis().title.lower()).strip("-")[:40].strip("-")
        again = f"-r{self.campaign.refinement}" if self.campaign.refinement else ""
        return f"{self.campaign.hypothesis_id}-{title or 'candidate'}{again}"

    @property
    def worktree(self) -> Path:
        return self.lab.worktrees / self.slug

    def candidate(self, before: int | None = None) -> str | None:
        """The newest commit of this iteration's candidate, by the ledger, or by its lines below number `before`."""
        lines = [line for line in self.events() if before is None or line.n < before]
        found = [line.data["commit"] for line in lines if line.event == "candidate"]
        return found[-1] if found else None


@contextmanager
def _mendable() -> Iterator[None]:
    """Add the way out to what is wrong with a document that the record holds too."""
    try:
        yield
    except RecordError as error:
        raise RecordError(f"{error}; mend it, or remove the file: the recorded one comes back") from None


def front_matter(text: str, shown: str) -> str:
    """The YAML between the first two `---` lines; RecordError where there is none."""
    found = re.match(r"\A---\n(.*?\n)---\n", text, re.DOTALL)
    if not found:
        raise RecordError(f"{shown}: line 1: has no front matter between two `---` lines")
    return found[1]


def read(path: Path, shown: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{shown}: not found; `autolab doctor --fix` brings back what the record holds") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{shown}: cannot be read: {error}") from None


def quoted(desk: Desk, path: Path) -> str:
    """A document of the iteration as a prompt quotes it, whatever a person has made of its characters."""
    try:
        return many_lines(path.read_bytes())
    except OSError as error:
        shown = desk.shown(path)
        raise RecordError(f"{shown}: cannot be read: {error.strerror}; `autolab doctor --fix` brings it back") from None


def ask(desk: Desk, values: dict[str, str], workspace: Path | None = None) -> tuple[AgentResult, Output | None] | str:
    """Ask the stage's researcher once; the valid result with its output, or in one line why there is none.

    `workspace` is the candidate's worktree, for a researcher that is not asked to work in a folder: one that is gets a
    copy (`agent_folder`).
    """
    stage = desk.state.stage
    number = _number(desk)
    folder = desk.lab.store / "asks" / desk.iteration_id / f"{stage}-{number}"
    answer = _recorded(folder)
    if answer is None:
        answer = _perform(desk, stage, number, folder, _prompt(desk, values), workspace)
    desk.restore()
    raw = answer.raw if answer.raw is not None else ""
    _note_answer(desk, stage, number, folder, raw)
    return _read(stage, answer, desk.shown(desk.lab.control / "agent_result.json"))


def _number(desk: Desk) -> int:
    """Asks of this stage in this iteration that were acted on, plus one: a crash does not count."""
    before = [line for line in desk.events() if line.n < desk.acted and line.event == "answered"]
    return 1 + sum(1 for line in before if line.data["stage"] == desk.state.stage)


def _recorded(folder: Path) -> Answer | None:
    reply, none = folder / "reply.json", folder / "no_reply.txt"
    if reply.exists():
        return Answer(decode(reply.read_bytes()))
    return Answer(None, decode(none.read_bytes())) if none.exists() else None


def _prompt_file(desk: Desk) -> tuple[str, str]:
    """The stage's prompt file: its name and its text."""
    for name in prompts.FILES[desk.state.stage]:
        path = desk.lab.prompt(name)
        if path.exists():
            return name, decode(path.read_bytes())
    raise RecordError(f".autolab/prompts/{prompts.FILES[desk.state.stage][0]}: missing; copy it from a new lab")


def _prompt(desk: Desk, values: dict[str, str]) -> str:
    name, text = _prompt_file(desk)
    given = {"iteration_id": desk.iteration_id, "goal": desk.goal, "state_json": desk.state.to_json()}
    given["metric"] = f"{desk.config.metric.primary} ({desk.config.metric.direction})"
    given |= {"trouble": desk.state.reason, "program": _program(desk)}
    return redaction.clean(prompts.compose(name, text, given | values))


def _program(desk: Desk) -> str:
    """What the lab's people say of it, as the base has it."""
    git, base = desk.lab.git, desk.campaign.base_commit or "HEAD"
    text = git.read(base, "program.md") if git.has_path(base, "program.md") else None
    return "there is no program.md" if text is None else many_lines(text)


def _contract(desk: Desk, who: Researcher, stage: Stage) -> str:
    """How a researcher that reads its prompt is to answer; empty for one that does not."""
    name = prompts.CONTRACTS.get(getattr(who, "kind", ""))
    if name is None:
        return ""
    path = desk.lab.prompt(name)
    if not path.exists():
        raise RecordError(f".autolab/prompts/{name}: missing; copy it from a new lab")
    return prompts.contract(decode(path.read_bytes()), stage)


def _perform(desk: Desk, stage: Stage, number: int, folder: Path, prompt: str, workspace: Path | None) -> Answer:
    who = desk.reviewer if stage is Stage.IMPLEMENTATION_REVIEW else desk.researcher
    key = f"{desk.lab.lab_id}.{desk.iteration_id}.{stage}-{number}.a1"
    durable.write(folder / "prompt.md", prompt)
    asked = {"stage": stage, "number": number, "key": key, "researcher": who.name}
    asked |= {"who": _configured(desk, stage).value(), "prompt_sha256": durable.sha256(prompt)}
    asked["prompt_version"] = prompts.version(_prompt_file(desk)[1])
    desk.lab.ledger.append("asked", asked)
    fault.point("ask.after_intent")
    data: tuple[Path, ...] = ()
    if who.works_in_folder:
        workspace, data = _copy(desk, stage)
    task = Task(
        key=key,
        stage=stage,
        iteration_id=desk.iteration_id,
        iteration=desk.campaign.iterations,
        number=number,
        prompt=prompt,
        workspace=workspace or folder,
        scratch=folder / "work",
        context=lambda: _context(desk),
        containment=desk.config.containment,
        contract=_contract(desk, who, stage),
        calls=_calls(desk, folder, {"iteration_id": desk.iteration_id, "stage": str(stage), "number": number}),
        lab=desk.lab.root,
        data=data,
    )
    answer = _without_secrets(desk, task, who.perform(task), who.works_in_folder)
    if answer.raw is None:
        durable.write(folder / "no_reply.txt", answer.note)
    else:
        durable.write(folder / "reply.json", answer.raw)
        if answer.note:
            desk.tell(answer.note)
    fault.point("ask.after_reply")
    return answer


def _configured(desk: Desk, stage: Stage) -> Who:
    """What the configuration says of the stage's researcher: what a replay of it needs."""
    reviewer = desk.config.reviewer if stage is Stage.IMPLEMENTATION_REVIEW else None
    return reviewer or desk.config.researcher


def _calls(desk: Desk, folder: Path, who: dict[str, object]) -> calls.Paid:
    wallet = calls.Wallet(desk.config.budget, desk.campaign, desk.acted, desk.events)
    return calls.Paid(desk.lab.ledger, folder / "calls", who, wallet, desk.tell, desk.stop)


def _without_secrets(desk: Desk, task: Task, answer: Answer, worked: bool) -> Answer:
    """The answer as it may be kept and read, after what the researcher wrote in its folders was made so too."""
    if worked and answer.raw is None:
        remove_tree(task.workspace)  # nobody reads it, and it may be as large as it could be made
    elif worked:
        base = desk.campaign.base_commit or "HEAD"
        remove_any(task.workspace / ".git")  # served the program alone, which may have set it to run others
        open_up(task.workspace)
    if worked:
        written = [path for path in task.scratch.rglob("*") if path.is_file() and not path.is_symlink()]
        changed = desk.lab.git.strays(task.workspace, base) if answer.raw is not None else []
        for path in (*written, *changed):
            if redaction.clean_file(path):
                desk.tell(f"{desk.shown(path)}: held a secret, which was taken out")
    raw = None if answer.raw is None else redaction.clean_json(answer.raw)
    return Answer(raw, redaction.clean(answer.note))


def _context(desk: Desk) -> Context:
    """All that the lab knows at this step, for a researcher that asks."""
    paths, loop = desk.paths, desk.campaign.loop
    known = lessons.recall(desk.lab.store, desk.lab.ledger, desk.campaign.learned)

    def reader(commit: str | None) -> Callable[[str], str | None]:
        def read_file(path: str) -> str | None:
            held = commit is not None and desk.lab.git.has_path(commit, path)
            content = desk.lab.git.read(commit, path) if commit is not None and held else None
            return None if content is None else decode(content)

        return read_file

    return Context(
        config=desk.config,
        goal=desk.goal,
        intent=bool(loop and loop.goal),
        target=desk.target,
        seed=int.from_bytes(hmac.digest(desk.lab.secret, b"researcher", "sha256")[:8], "big"),
        lessons=known,
        base_commit=desk.campaign.base_commit or "",
        hypothesis_id=desk.campaign.hypothesis_id or "",
        refinement=desk.campaign.refinement,
        hypothesis=desk.hypothesis() if paths.hypothesis.exists() else None,
        design=desk.design() if paths.design.exists() else None,
        results=desk.load(Results, paths.results) if paths.results.exists() else None,
        trouble=desk.state.reason,
        base=reader(desk.campaign.base_commit),
        candidate=reader(desk.candidate()),
        avoid=ideas.avoided(ideas.tired(known, desk.campaign, desk.config)),
    )


def agent_folder(desk: Desk) -> Path:
    """Where a coding agent works at this ask of this stage.

    Beside the worktrees and not in the store: some agents refuse to write below a folder called `.git`."""
    return desk.lab.worktrees / f"{AGENT_FOLDER}{desk.iteration_id}-{desk.state.stage}-{_number(desk)}"


def parent_of_candidate(desk: Desk) -> str:
    """The commit that the implementation stage goes on from: its candidate so far, or the base."""
    return desk.candidate(before=desk.acted) or desk.campaign.base_commit or "HEAD"


def _copy(desk: Desk, stage: Stage) -> tuple[Path, tuple[Path, ...]]:
    """A folder of its own for a researcher that works in one, and where training data lies that it leads to.

    It holds what an author may see of the candidate so far, for a reviewer of the candidate, else of the base. Those of
    earlier asks are taken away.
    """
    place, base = agent_folder(desk), desk.campaign.base_commit or "HEAD"
    desk.lab.worktrees.mkdir(exist_ok=True)
    for other in desk.lab.worktrees.iterdir():
        if other.name.lstrip(".").startswith(AGENT_FOLDER) and other != place:
            remove_any(other)
    commit = base
    if stage is Stage.IMPLEMENTATION:
        commit = parent_of_candidate(desk)
    elif stage is Stage.IMPLEMENTATION_REVIEW:
        commit = desk.candidate() or base
    workspaces = Workspaces(desk.lab.root)
    workspaces.make(place, commit, base, desk.config)
    data = desk.config.data
    outside = (Path(data),) if data is not None and Path(data).is_absolute() else ()
    return place, (*workspaces.data(base, desk.config).values(), *outside)


def _note_answer(desk: Desk, stage: Stage, number: int, folder: Path, raw: str) -> None:
    """One `answered` line an ask, and copies for readers in `.autolab/`."""
    since = [line for line in desk.events() if line.n > desk.acted and line.event == "answered"]
    if not any(line.data["stage"] == stage and line.data["number"] == number for line in since):
        where = str((folder / "reply.json").relative_to(desk.lab.store))
        noted = {"stage": stage, "number": number, "reply": where, "sha256": durable.sha256(raw)}
        desk.lab.ledger.append("answered", noted)
    logs = desk.lab.logs(desk.iteration_id)
    durable.write(logs / f"{stage}-{number}.prompt.md", (folder / "prompt.md").read_bytes(), sync=False)
    durable.write(logs / f"{stage}-{number}.reply.json", raw, sync=False)
    durable.write(desk.lab.control / "agent_result.json", raw, sync=False)


def _read(stage: Stage, answer: Answer, shown: str) -> tuple[AgentResult, Output | None] | str:
    """Strict, without repair: what is missing or malformed is said, and is the researcher's to mend."""
    if answer.raw is None:
        return f"there is no answer: {answer.note}"
    try:
        result = AgentResult.from_text(answer.raw, shown)
        if result.status != "complete":
            return result, None
        if result.output is None:
            return f"{shown}: output: missing, though the status is complete"
        return result, OUTPUTS[stage].from_value(result.output, f"{shown}: output")
    except RecordError as error:
        return str(error)

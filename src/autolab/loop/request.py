"""How a researcher is asked: the request is recorded before it is made, its answer kept before it is read.

So an answer that was received is never asked for again: after a crash the same number of request finds the same reply.
A request is known by its iteration, its kind and its number among those of that kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from autolab import files
from autolab.errors import RecordError
from autolab.files import sha256_of
from autolab.ideas.policy import avoided, tired
from autolab.lab import crash_points, redaction
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.outcomes import RequestKind, Stage
from autolab.lab.schemas.replies import OUTPUTS, AgentResult, Output, request_kind
from autolab.loop import calls, edits
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.loop.workspace import Workspaces, open_up
from autolab.researchers import excerpts, prompts
from autolab.researchers.base import (
    Answer,
    Code,
    Documents,
    Goal,
    History,
    LabSnapshot,
    ReadFile,
    Researcher,
    Task,
    TaskFolders,
)
from autolab.sandbox.collect import remove_any, remove_tree
from autolab.stats.seeds import researcher_seed
from autolab.text import decode, many_lines
from autolab.trials import inputs
from autolab.trials.progress import View

Kind = TypeVar("Kind", bound=Output)

AGENT_FOLDER = "agent-"
"""Begins the names of coding agents' folders; a candidate's worktree begins with its hypothesis's id."""


@dataclass(frozen=True)
class ValidReply:
    """A reply of the form that was asked for. `output` is None if the researcher did not complete the request.

    `agent_folder` is where a coding agent worked; None for a researcher that only answers.
    """

    result: AgentResult
    output: Output | None
    agent_folder: Path | None = None


def output_of(reply: ValidReply | str, kind: type[Kind]) -> Kind | StageResult:
    """The output of a complete reply, or the outcome of one that is not to be read."""
    if isinstance(reply, str):
        return StageResult(StageOutcome.RETRY, reply)
    if reply.result.status == "failed":
        return StageResult(StageOutcome.ESCALATE, f"the researcher gave up: {reply.result.summary}")
    if reply.output is None:
        return StageResult(StageOutcome.RETRY, f"the researcher asks to try again: {reply.result.summary}")
    assert isinstance(reply.output, kind)
    return reply.output


def source_for_prompt(lab: Lab, config: Config, commit: str, wanted: str) -> str:
    """The lab's source as `commit` has it, for a prompt; `wanted` names the files that matter most."""
    hidden = inputs.hidden_from_trials(config)
    name = f"code-{lab.git.tree(commit)}-{sha256_of(chr(10).join(hidden))[:8]}"
    folder = lab.store / "exports" / name  # what the trials' code is exported to as well
    lab.git.export(commit, folder, None, hidden)
    return excerpts.told(folder, config, wanted, unlocked=edits.unlocked(lab.root, config))


@dataclass(frozen=True)
class RequestId:
    """Which request of an iteration this is: the number counts those of its kind, from 1."""

    iteration_id: str
    stage: Stage
    kind: RequestKind
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"

    def fields(self) -> dict[str, object]:
        """As the ledger's lines name it."""
        return {"stage": self.stage, "kind": self.kind, "number": self.number}

    def folder(self, store: Path) -> Path:
        """Its prompt, its reply and its calls."""
        return store / "requests" / self.iteration_id / self.name


@dataclass(frozen=True)
class Requests:
    """The requests of one step; the reviewer gets those for a review, the researcher all others."""

    researcher: Researcher
    reviewer: Researcher
    view: View
    stop: Callable[[], bool]
    _sent: Counter[RequestKind] = field(default_factory=Counter)

    def send(
        self, iteration: Iteration, kind: RequestKind, values: dict[str, str], workspace: Path | None = None
    ) -> ValidReply | str:
        """Ask once; the valid reply, or in one line why there is none. `values` fill the prompt.

        `workspace` is the candidate's worktree, for a researcher that is not asked to work in a folder: one that is
        gets a copy (`agent_folder` of the reply).
        """
        self._sent[kind] += 1
        number = _acted_on(iteration.events(), iteration.acted, kind) + self._sent[kind]
        request = RequestId(iteration.iteration_id, iteration.state.stage, kind, number)
        folder = request.folder(iteration.lab.store)
        answer = _recorded(folder)
        if answer is None:
            answer = self._perform(iteration, request, _prompt(iteration, kind, values), workspace)
        iteration.restore(self.view)
        _note_answer(iteration, request, answer.raw if answer.raw is not None else "")
        name = iteration.relative(iteration.lab.control / "agent_result.json")
        works_in_folder = self._researcher_for(kind).works_in_folder
        return _read(kind, answer, name, _agent_folder(iteration.lab, request) if works_in_folder else None)

    def _researcher_for(self, kind: RequestKind) -> Researcher:
        return self.reviewer if kind is RequestKind.IMPLEMENTATION_REVIEW else self.researcher

    def _perform(self, iteration: Iteration, request: RequestId, prompt: str, workspace: Path | None) -> Answer:
        """Record the request, make it, and keep its answer."""
        lab, config, kind = iteration.lab, iteration.config, request.kind
        researcher = self._researcher_for(kind)
        key = f"{lab.lab_id}.{request.iteration_id}.{request.name}.a1"
        folder = request.folder(lab.store)
        files.write_whole(folder / "prompt.md", prompt)
        intent = request.fields() | {"key": key, "researcher": researcher.name}
        intent |= {"who": _configured(config, kind).value(), "prompt_sha256": files.sha256_of(prompt)}
        intent["prompt_version"] = prompts.version(_prompt_file(lab, kind)[1])
        lab.ledger.append("asked", intent)
        crash_points.point("request.after_intent")
        data: tuple[Path, ...] = ()
        if researcher.works_in_folder:
            workspace, data = _copy_for_agent(iteration, request)
        folders = TaskFolders(
            workspace=workspace or folder,
            scratch=folder / "work",
            containment=config.containment,
            lab=lab.root,
            data=data,
        )
        task = Task(
            key=key,
            kind=kind,
            iteration_id=request.iteration_id,
            iteration=iteration.campaign.iterations,
            number=request.number,
            prompt=prompt,
            folders=folders,
            snapshot=lambda: _snapshot(iteration),
            contract=_contract(lab, researcher, kind),
            calls=self._calls(iteration, request),
        )
        answer = researcher.perform(task)
        if researcher.works_in_folder:
            _clean_folders(iteration, task, answer, self.view)
        answer = _without_secrets(answer)
        if answer.raw is None:
            files.write_whole(folder / "no_reply.txt", answer.note)
        else:
            files.write_whole(folder / "reply.json", answer.raw)
            if answer.note:
                self.view(answer.note)
        crash_points.point("request.after_reply")
        return answer

    def _calls(self, iteration: Iteration, request: RequestId) -> calls.MeteredCalls:
        budget = calls.CallBudget(iteration.config.budget, iteration.campaign, iteration.acted, iteration.events)
        folder = request.folder(iteration.lab.store) / "calls"
        fields = {"iteration_id": request.iteration_id} | request.fields()
        return calls.MeteredCalls(iteration.lab.ledger, folder, fields, budget, self.view, self.stop)


def _acted_on(events: Iterable[Line], acted: int, kind: RequestKind) -> int:
    """How many requests of a kind were answered and acted on: what a step that died was answered is not among them."""
    answered = [line for line in events if line.event == "answered" and line.n < acted]
    return sum(request_kind(line.data) == kind for line in answered)


def _recorded(folder: Path) -> Answer | None:
    reply, none = folder / "reply.json", folder / "no_reply.txt"
    if reply.exists():
        return Answer(decode(reply.read_bytes()))
    return Answer(None, decode(none.read_bytes())) if none.exists() else None


def _prompt_file(lab: Lab, kind: RequestKind) -> tuple[str, str]:
    """The prompt file of a kind of request: its name and its text."""
    for name in prompts.FILES[kind]:
        path = lab.prompt(name)
        if path.exists():
            return name, decode(path.read_bytes())
    raise RecordError(f".autolab/prompts/{prompts.FILES[kind][0]}: missing; copy it from a new lab")


def _prompt(iteration: Iteration, kind: RequestKind, values: dict[str, str]) -> str:
    name, text = _prompt_file(iteration.lab, kind)
    metric, reason = iteration.config.metric, iteration.state.reason
    common = {
        "iteration_id": iteration.iteration_id,
        "goal": iteration.goal,
        "state_json": iteration.state.to_json(),
        "metric": f"{metric.primary} ({metric.direction})",
        "trouble": reason,
        "program": _program(iteration.lab.git, iteration.base_commit),
    }
    return redaction.clean(prompts.compose(name, text, common | values))


def _program(git: Git, base: str) -> str:
    """What the lab's people say of it, as the base has it."""
    text = git.read(base, "program.md") if git.has_path(base, "program.md") else None
    return "there is no program.md" if text is None else many_lines(text)


def _contract(lab: Lab, researcher: Researcher, kind: RequestKind) -> str:
    """How a researcher that reads its prompt is to answer; empty for one that does not."""
    name = prompts.CONTRACTS.get(researcher.contract or "")
    if name is None:
        return ""
    path = lab.prompt(name)
    if not path.exists():
        raise RecordError(f".autolab/prompts/{name}: missing; copy it from a new lab")
    return prompts.contract(decode(path.read_bytes()), kind)


def _configured(config: Config, kind: RequestKind) -> ResearcherConfig:
    """What the configuration says of who is asked: what a replay of it needs."""
    reviewer = config.reviewer if kind is RequestKind.IMPLEMENTATION_REVIEW else None
    return reviewer or config.researcher


def _clean_folders(iteration: Iteration, task: Task, answer: Answer, view: View) -> None:
    """Take out of the folders that a coding agent wrote in what must not be kept: its own git settings, secrets."""
    changed: list[Path] = []
    if answer.raw is None:
        remove_tree(task.folders.workspace)  # nobody reads it, and it may be as large as it could be made
    else:
        remove_any(task.folders.workspace / ".git")  # served the program alone, which may have set it to run others
        open_up(task.folders.workspace)
    written = [path for path in task.folders.scratch.rglob("*") if path.is_file() and not path.is_symlink()]
    if answer.raw is not None:
        changed = iteration.lab.git.strays(task.folders.workspace, iteration.base_commit)
    for path in (*written, *changed):
        if redaction.clean_file(path):
            view(f"{iteration.relative(path)}: held a secret, which was taken out")


def _without_secrets(answer: Answer) -> Answer:
    """The answer as it may be kept and read."""
    raw = None if answer.raw is None else redaction.clean_json(answer.raw)
    return Answer(raw, redaction.clean(answer.note))


def _snapshot(iteration: Iteration) -> LabSnapshot:
    """All that the lab knows at this step, for a researcher that asks."""
    lessons, loop = iteration.lessons(), iteration.campaign.loop
    history = History(
        lessons=lessons,
        avoided_families=avoided(tired(lessons, iteration.campaign, iteration.config)),
        seed=researcher_seed(iteration.lab.secret),
    )
    return LabSnapshot(
        config=iteration.config,
        goal=Goal(iteration.goal, bool(loop and loop.goal), iteration.target),
        history=history,
        documents=_documents(iteration),
        code=_code(iteration),
        trouble=iteration.state.reason,
    )


def _documents(iteration: Iteration) -> Documents:
    paths = iteration.paths
    return Documents(
        hypothesis_id=iteration.campaign.hypothesis_id or "",
        refinement=iteration.campaign.refinement,
        hypothesis=iteration.hypothesis() if paths.hypothesis.exists() else None,
        design=iteration.design() if paths.design.exists() else None,
        results=iteration.results() if paths.results.exists() else None,
    )


def _code(iteration: Iteration) -> Code:
    git = iteration.lab.git

    def reader(commit: str | None) -> ReadFile:
        return lambda path: None if commit is None else git.text(commit, path)

    base = iteration.campaign.base_commit
    return Code(base_commit=base or "", read_base=reader(base), read_candidate=reader(iteration.candidate()))


def _agent_folder(lab: Lab, request: RequestId) -> Path:
    """Where a coding agent works at a request.

    Beside the worktrees and not in the store: some agents refuse to write below a folder called `.git`."""
    return lab.worktrees / f"{AGENT_FOLDER}{request.iteration_id}-{request.name}"


def _copy_for_agent(iteration: Iteration, request: RequestId) -> tuple[Path, tuple[Path, ...]]:
    """A folder of its own for a researcher that works in one, and where training data lies that it leads to.

    It holds what an author may see of the candidate so far, for a reviewer of the candidate, else of the base. Those of
    earlier requests are taken away.
    """
    lab, config, base = iteration.lab, iteration.config, iteration.base_commit
    place = _agent_folder(lab, request)
    lab.worktrees.mkdir(exist_ok=True)
    for other in lab.worktrees.iterdir():
        if other.name.lstrip(".").startswith(AGENT_FOLDER) and other != place:
            remove_any(other)
    commit = base
    if request.kind is RequestKind.IMPLEMENTATION:
        commit = iteration.parent_commit
    elif request.kind is RequestKind.IMPLEMENTATION_REVIEW:
        commit = iteration.candidate() or base
    workspaces = Workspaces(lab.root)
    workspaces.make(place, commit, base, config)
    data = config.data
    outside = (Path(data),) if data is not None and Path(data).is_absolute() else ()
    return place, (*workspaces.data(base, config).values(), *outside)


def _note_answer(iteration: Iteration, request: RequestId, raw: str) -> None:
    """One `answered` line a request, and copies for readers in `.autolab/`."""
    lab, folder = iteration.lab, request.folder(iteration.lab.store)
    newer = [line.data for line in iteration.events() if line.n > iteration.acted and line.event == "answered"]
    if not any(request_kind(data) == request.kind and data["number"] == request.number for data in newer):
        path = str((folder / "reply.json").relative_to(lab.store))
        lab.ledger.append("answered", request.fields() | {"reply": path, "sha256": files.sha256_of(raw)})
    logs = lab.logs(request.iteration_id)
    files.write_whole(logs / f"{request.name}.prompt.md", (folder / "prompt.md").read_bytes(), sync=False)
    files.write_whole(logs / f"{request.name}.reply.json", raw, sync=False)
    files.write_whole(lab.control / "agent_result.json", raw, sync=False)


def _read(kind: RequestKind, answer: Answer, name: str, agent_folder: Path | None) -> ValidReply | str:
    """Strict, without repair: what is missing or malformed is said, and is the researcher's to fix."""
    if answer.raw is None:
        return f"there is no answer: {answer.note}"
    try:
        result = AgentResult.from_text(answer.raw, name)
        if result.status != "complete":
            return ValidReply(result, None, agent_folder)
        if result.output is None:
            return f"{name}: output: missing, though the status is complete"
        return ValidReply(result, OUTPUTS[kind].from_value(result.output, f"{name}: output"), agent_folder)
    except RecordError as error:
        return str(error)

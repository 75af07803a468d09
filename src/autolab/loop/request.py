"""Requests to researchers: each is recorded before it is made, and its answer is kept before it is read.

So an answer that was received is never asked for again: after a crash the request of the same iteration, kind and
number finds the same answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from autolab import files
from autolab.errors import RecordError
from autolab.ideas.policy import avoided, tired
from autolab.lab import crash_points, redaction
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.events import Answered, Asked
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import (
    OUTPUTS,
    AgentResult,
    CodedIdea,
    CodedIdeasOutput,
    HypothesisOutput,
    IdeasOutput,
    Output,
)
from autolab.loop import agent_checks, briefing, edits, preflight, refused_answer
from autolab.loop.calls import CallBudget, MeteredCalls, RequestId
from autolab.loop.deadline import Deadline
from autolab.loop.iteration import Document, Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.loop.waits import Waits
from autolab.loop.workspace import Workspaces, open_up
from autolab.researchers import excerpts, prompts
from autolab.researchers.base import (
    Answer,
    Code,
    Documents,
    Goal,
    History,
    LabSnapshot,
    Objection,
    ReadFile,
    Researcher,
    Task,
    TaskFolders,
    WorkChecks,
    no_objection,
)
from autolab.sandbox.collect import remove_any, remove_tree
from autolab.stats.seeds import researcher_seed
from autolab.text import decode, many_lines
from autolab.trials import inputs
from autolab.trials.bound_data import secrets_within
from autolab.trials.progress import View

Kind = TypeVar("Kind", bound=Output)

CHANGED_CHARACTERS = 20_000
"""Characters of the changed files that a reviewer is shown beside the diff."""
AGENT_FOLDER = "agent-"
"""Prefix of coding agents' folders. It cannot be a candidate's worktree, which begins with its hypothesis's id."""


@dataclass(frozen=True)
class ValidReply:
    """A reply of the requested form. `output` is None if the researcher did not complete the request.

    `agent_folder` is where a coding agent worked; None for a researcher that only answers.
    """

    result: AgentResult
    output: Output | None
    agent_folder: Path | None = None

    @property
    def needs_user(self) -> bool:
        """Whether only a user can fix what kept the researcher from an answer."""
        return self.result.status == "failed" and self.result.needs_user


def output_of(reply: ValidReply | StageResult | str, kind: type[Kind]) -> Kind | StageResult:
    """The output of a complete reply, or the stage's result if there is none to read."""
    if isinstance(reply, StageResult):
        return reply
    if isinstance(reply, str):
        return StageResult(StageOutcome.RETRY, reply)
    if reply.needs_user:
        return for_user(reply.result)
    if reply.result.status == "failed":
        return StageResult(StageOutcome.ESCALATE, f"the researcher gave up: {reply.result.summary}")
    if reply.output is None:
        return StageResult(StageOutcome.RETRY, f"the researcher asks to try again: {reply.result.summary}")
    assert isinstance(reply.output, kind)
    return reply.output


def for_user(result: AgentResult) -> StageResult:
    """The stage's result where a user has to fix something first."""
    return StageResult(StageOutcome.ESCALATE, result.summary, needs_user=True)


def source_for_prompt(lab: Lab, config: Config, commit: str, topics: str) -> str:
    """The lab's source at `commit`, for a prompt. Files that the text `topics` names are quoted first."""
    folder = _exported(lab, config, commit)
    return excerpts.quotation(folder, config, topics, unlocked=edits.unlocked(lab.root, config))


def changed_source(lab: Lab, config: Config, base: str, commit: str) -> str:
    """The files that `commit` has changed or added since `base`, whole, for a prompt."""
    folder = _exported(lab, config, commit)
    paths = []
    for path in lab.git.changed_paths(base, commit):
        # A deleted one is in the diff alone, and of a long one the diff is enough.
        if (folder / path).is_file() and (folder / path).stat().st_size <= excerpts.LONGEST:
            paths.append(path)
    return excerpts.whole_files(folder, paths, CHANGED_CHARACTERS)


def _exported(lab: Lab, config: Config, commit: str) -> Path:
    """The files of a commit as trials see them: an author sees no label that a trial may not see."""
    hidden = inputs.hidden_from_trials(config)
    hidden_sha256 = files.sha256_of("\n".join(hidden))
    folder = lab.store / "exports" / f"code-{lab.git.tree(commit)}-{hidden_sha256[:8]}"
    lab.git.export(commit, folder, None, hidden)
    return folder


def recorded_answer(folder: Path) -> Answer | None:
    """The answer that a request's folder holds; None if the request was not answered."""
    reply, no_reply = folder / "reply.json", folder / "no_reply.txt"
    if reply.exists():
        return Answer(decode(reply.read_bytes()))
    if no_reply.exists():
        return Answer(None, decode(no_reply.read_bytes()))
    return None


@dataclass(frozen=True)
class Requests:
    """The requests of one step. The reviewer gets the review, the researcher everything else."""

    researcher: Researcher
    reviewer: Researcher
    view: View
    stop: Callable[[], bool]
    deadline: Deadline
    _sent: Counter[RequestKind] = field(default_factory=Counter)

    def send(
        self,
        iteration: Iteration,
        kind: RequestKind,
        values: dict[str, str],
        workspace: Path | None = None,
        objection: Objection = no_objection,
    ) -> ValidReply | str:
        """Make one request. Returns the valid reply, or one line that says why there is none.

        `values` fill the prompt. `workspace` is the candidate's worktree; a researcher that works in a folder gets a
        copy instead, `agent_folder` of the reply. `objection` says why an answer of the right form cannot be used, for
        a researcher that can give another at once; the caller still has to refuse such an answer. BudgetSpent: it
        cannot be paid.
        """
        lab = iteration.lab
        self._sent[kind] += 1
        # A request whose answer no step acted on, because the engine died, is made again under its old number.
        settled = iteration.recorded(Answered, before=iteration.acted)
        number = [answer.kind for answer in settled].count(kind) + self._sent[kind]
        request = RequestId(iteration.iteration_id, iteration.state.stage, kind, number)
        answer = recorded_answer(request.folder(lab.store))
        if answer is None:
            refused = {"refused_answer": refused_answer.quotation(iteration, request)}
            prompt = _prompt(iteration, kind, refused | values)
            answer = self._perform(iteration, request, prompt, workspace, objection)
        # A researcher may take an hour, in which a user may have cleaned the checkout.
        iteration.restore(self.view)
        _record_answer(iteration, request, answer.raw or "")
        name = iteration.relative(lab.control / "agent_result.json")
        agent_folder = None
        if self._researcher_for(kind).works_in_folder:
            agent_folder = _agent_folder(lab, request)
        return read_reply(requested_form(iteration, kind), answer, name, agent_folder)

    def _researcher_for(self, kind: RequestKind) -> Researcher:
        return self.reviewer if kind is RequestKind.IMPLEMENTATION_REVIEW else self.researcher

    def _perform(
        self, iteration: Iteration, request: RequestId, prompt: str, workspace: Path | None, objection: Objection
    ) -> Answer:
        """Record the request, make it, and keep its answer."""
        lab, kind, config, campaign = iteration.lab, request.kind, iteration.config, iteration.campaign
        researcher = self._researcher_for(kind)
        folder = request.folder(lab.store)
        template = decode(_prompt_path(lab, kind).read_bytes())
        form = requested_form(iteration, kind)
        # The prompt before the line that holds its hash: a line never names a prompt that cannot be read.
        files.write_whole(folder / "prompt.md", prompt)
        intent = Asked(
            **request.fields(),
            key=f"{lab.lab_id}.{request.iteration_id}.{request.name}.a1",
            researcher=researcher.name,
            who=_configuration_for(kind, config),
            prompt_sha256=files.sha256_of(prompt),
            prompt_version=prompts.version(template),
            ideas=iteration.batch.wanted if iteration.batch and form is not OUTPUTS[kind] else None,
        )
        events.append(lab.ledger, intent)
        crash_points.point("request.after_intent")
        data: tuple[Path, ...] = ()
        checks: WorkChecks | None = None
        # After the intent: a copy that a crash leaves behind belongs to a request on record.
        if researcher.works_in_folder:
            workspace, data = _copy_for_agent(iteration, request)
            checks = agent_checks.prepare(iteration, kind, workspace, folder / "work")
        folders = TaskFolders(
            workspace=workspace or folder,
            scratch=folder / "work",
            containment=config.containment,
            lab=lab.root,
            data=data,
            checks=checks,
        )
        budget = CallBudget(config.budget, campaign, iteration.acted, iteration.events)
        place = (request.stage, kind, request.number)
        waits = Waits(lab.ledger, place, self.deadline, self.deadline.clock, self.view, self.stop)
        calls = MeteredCalls(lab.ledger, folder / "calls", request, budget, self.view, waits)
        task = Task(
            key=intent.key,
            kind=kind,
            iteration_id=request.iteration_id,
            iteration=campaign.iterations,
            number=request.number,
            prompt=prompt,
            folders=folders,
            snapshot=lambda: _snapshot(iteration),
            contract=_contract(iteration, researcher, kind, checks),
            calls=calls,
            output=form,
            objection=objection,
        )
        answer = researcher.perform(task)
        if researcher.works_in_folder:
            _clean_folders(iteration, folders, answer, self.view)
        return self._keep(answer, folder)

    def _keep(self, answer: Answer, folder: Path) -> Answer:
        """Write an answer into its request's folder, without secrets; the answer as it is there."""
        note = redaction.clean(answer.note)
        raw = answer.raw
        if raw is None:
            if answer.refused:
                files.write_whole(folder / refused_answer.FILE, redaction.clean(refused_answer.shown(answer.refused)))
            files.write_whole(folder / "no_reply.txt", note)
        else:
            raw = redaction.clean_json(raw)
            files.write_whole(folder / "reply.json", raw)
            if note:
                self.view(note)
        crash_points.point("request.after_reply")
        return Answer(raw, note)


def requested_form(iteration: Iteration, kind: RequestKind) -> type[Output]:
    """The form of the answer to a request."""
    batch = iteration.batch
    if kind is not RequestKind.HYPOTHESIS or batch is None:
        return OUTPUTS[kind]
    if batch.wanted == 1:
        return CodedIdea if batch.with_code else HypothesisOutput
    return CodedIdeasOutput if batch.with_code else IdeasOutput


def read_reply(form: type[Output], answer: Answer, name: str, agent_folder: Path | None) -> ValidReply | str:
    """An answer as a reply of this form; or one line that says what is missing or malformed. Nothing is repaired."""
    if answer.raw is None:
        return f"there is no answer: {answer.note}"
    try:
        result = AgentResult.from_text(answer.raw, name)
        if result.status != "complete":
            return ValidReply(result, None, agent_folder)
        if result.output is None:
            return f"{name}: output: missing, though the status is complete"
        output = form.from_value(result.output, f"{name}: output")
    except RecordError as error:
        return str(error)
    return ValidReply(result, output, agent_folder)


def _record_answer(iteration: Iteration, request: RequestId, raw: str) -> None:
    """One `answered` line a request, and copies for readers in `.autolab/`."""
    lab, folder = iteration.lab, request.folder(iteration.lab.store)
    # A try before a crash may have recorded it, since the last outcome of a stage.
    recent = iteration.recorded(Answered, after=iteration.acted)
    if not any(answer.kind is request.kind and answer.number == request.number for answer in recent):
        path = folder / "reply.json"
        answer = Answered(**request.fields(), reply=str(path.relative_to(lab.store)), sha256=files.sha256_of(raw))
        events.append(lab.ledger, answer)
    logs, prompt = lab.logs(request.iteration_id), folder / "prompt.md"
    # Copies for readers, which no step reads back: they need not survive a power cut.
    files.write_whole(logs / f"{request.name}.prompt.md", prompt.read_bytes(), sync=False)
    files.write_whole(logs / f"{request.name}.reply.json", raw, sync=False)
    files.write_whole(lab.control / "agent_result.json", raw, sync=False)


# The prompt


def _prompt_path(lab: Lab, kind: RequestKind) -> Path:
    return preflight.prompt_path(lab, prompts.FILES[kind])


def _prompt(iteration: Iteration, kind: RequestKind, values: dict[str, str]) -> str:
    path = _prompt_path(iteration.lab, kind)
    prompt = prompts.compose(path.name, decode(path.read_bytes()), common_values(iteration) | values)
    # A prompt quotes files of the user, and leaves this machine.
    return redaction.clean(prompt)


def common_values(iteration: Iteration) -> dict[str, str]:
    """What the prompts of all stages may quote."""
    state, metric = iteration.state, iteration.config.metric
    return {
        "iteration_id": iteration.iteration_id,
        "goal": iteration.goal,
        "state_json": state.to_json(),
        "metric": f"{metric.primary} ({metric.direction})",
        "trouble": state.reason,
        "program": _program(iteration),
        "calibration": briefing.measurement(iteration),
        "best_so_far": briefing.standing(iteration),
        "remaining": briefing.remaining(iteration),
    }


def _program(iteration: Iteration) -> str:
    """The research program, as the base commit has it."""
    text = iteration.read_base("program.md")
    if text is None:
        return "there is no program.md"
    return many_lines(text)


def _contract(iteration: Iteration, researcher: Researcher, kind: RequestKind, checks: WorkChecks | None) -> str:
    """How a researcher that reads its prompt is to answer; empty for the others."""
    name = prompts.CONTRACTS.get(researcher.contract or "")
    if name is None:
        return ""
    text = decode(preflight.prompt_path(iteration.lab, (name,)).read_bytes())
    values: dict[str, str] = {}
    if name == prompts.CONTRACTS["command"]:
        limit_s = _configuration_for(kind, iteration.config).time_limit_s
        values = agent_checks.contract_values(iteration, limit_s, checks)
    return prompts.contract(text, kind, values, requested_form(iteration, kind))


def _configuration_for(kind: RequestKind, config: Config) -> ResearcherConfig:
    """The configuration of the researcher that gets such a request. A replay loads the researcher from it."""
    if kind is RequestKind.IMPLEMENTATION_REVIEW and config.reviewer is not None:
        return config.reviewer
    return config.researcher


# What a researcher that does not read its prompt is given


def _snapshot(iteration: Iteration) -> LabSnapshot:
    config, campaign, lessons = iteration.config, iteration.campaign, iteration.lessons()
    families = avoided(tired(lessons, campaign, config))
    seed, calibration = researcher_seed(iteration.lab.secret), iteration.calibration()
    deviation = calibration.difference_deviation if calibration else None
    is_from_loop = campaign.loop is not None and bool(campaign.loop.goal)
    return LabSnapshot(
        config=config,
        goal=Goal(iteration.goal, is_from_loop, iteration.target),
        history=History(lessons=lessons, avoided_families=families, seed=seed, deviation=deviation),
        documents=_documents(iteration),
        code=_code(iteration),
        trouble=iteration.state.reason,
        batch=iteration.batch,
    )


def _documents(iteration: Iteration) -> Documents:
    paths, campaign = iteration.paths, iteration.campaign
    return Documents(
        hypothesis_id=campaign.hypothesis_id or "",
        refinement=campaign.refinement,
        hypothesis=_if_written(paths.hypothesis, iteration.hypothesis),
        design=_if_written(paths.design, iteration.design),
        results=_if_written(paths.results, iteration.results),
    )


def _if_written(path: Path, load: Callable[[], Document]) -> Document | None:
    return load() if path.exists() else None


def _code(iteration: Iteration) -> Code:
    git = iteration.lab.git

    def reader(commit: str | None) -> ReadFile:
        if commit is None:
            return lambda path: None
        return lambda path: git.text(commit, path)

    base, candidate = iteration.campaign.base_commit, iteration.candidate()
    return Code(base_commit=base or "", read_base=reader(base), read_candidate=reader(candidate))


# Folders of coding agents


def _agent_folder(lab: Lab, request: RequestId) -> Path:
    """Where a coding agent works on a request.

    It lies beside the worktrees and not in the store: some agents refuse to write below a folder called `.git`.
    """
    return lab.worktrees / f"{AGENT_FOLDER}{request.iteration_id}-{request.name}"


def _copy_for_agent(iteration: Iteration, request: RequestId) -> tuple[Path, tuple[Path, ...]]:
    """A folder for a coding agent, and the folders of training data that its links lead to.

    It holds what an author may see: of the candidate so far for an implementation, of the candidate for a review, else
    of the base. Folders of earlier requests are removed.
    """
    lab, base, config = iteration.lab, iteration.base_commit, iteration.config
    place = _agent_folder(lab, request)
    lab.worktrees.mkdir(exist_ok=True)
    for folder in lab.worktrees.iterdir():
        # A leading dot: the half copy of a request that was killed.
        if folder.name.lstrip(".").startswith(AGENT_FOLDER) and folder != place:
            remove_any(folder)
    commit = base
    if request.kind is RequestKind.IMPLEMENTATION:
        commit = iteration.parent_commit
    elif request.kind is RequestKind.IMPLEMENTATION_REVIEW:
        commit = iteration.candidate() or base
    workspaces = Workspaces(lab.root)
    workspaces.make(place, commit, base, config)
    data = list(workspaces.data(base, config).values())
    # Data outside of the lab has no name in the copy: the agent reads it where it lies.
    for entry in config.data_entries:
        # A folder with keys of the user's in it is not shown: an agent has the network.
        source = entry.source(lab.root)
        if (entry.lies_outside or entry.is_fetched) and not secrets_within(source):
            data.append(source)
    return place, tuple(data)


def _clean_folders(iteration: Iteration, folders: TaskFolders, answer: Answer, view: View) -> None:
    """Remove from a coding agent's folders what must not be kept: its own git settings, and secrets."""
    workspace = folders.workspace
    paths = [path for path in folders.scratch.rglob("*") if path.is_file() and not path.is_symlink()]
    if answer.raw is None:
        # Nobody will read it, and it may be as large as the agent could make it.
        remove_tree(workspace)
    else:
        # Its settings may name programs that git would run for us.
        remove_any(workspace / ".git")
        open_up(workspace)
        paths += iteration.lab.git.strays(workspace, iteration.base_commit)
    for path in paths:
        if redaction.clean_file(path):
            view(f"{iteration.relative(path)}: held a secret, which was taken out")

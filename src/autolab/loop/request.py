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
from autolab.lab.schemas import events
from autolab.lab.schemas.events import Answered, Asked
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import (
    OUTPUTS,
    AgentResult,
    Output,
)
from autolab.loop import agent_checks, agent_folder, refused_answer, stage_prompt
from autolab.loop.calls import CallBudget, MeteredCalls, RequestId
from autolab.loop.deadline import Deadline
from autolab.loop.iteration import Document, Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.loop.waits import Waits
from autolab.researchers import prompts
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
from autolab.stats.seeds import researcher_seed
from autolab.text import decode
from autolab.trials.progress import View

Kind = TypeVar("Kind", bound=Output)


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
            prompt = stage_prompt.prompt_of(iteration, kind, refused | values)
            answer = self._perform(iteration, request, prompt, workspace, objection)
        # A researcher may take an hour, in which a user may have cleaned the checkout.
        iteration.restore(self.view)
        _record_answer(iteration, request, answer.raw or "")
        name = iteration.relative(lab.control / "agent_result.json")
        works_in_folder = self._researcher_for(kind).works_in_folder
        place = agent_folder.place_of(lab, request) if works_in_folder else None
        return read_reply(stage_prompt.requested_form(iteration, kind), answer, name, place)

    def _researcher_for(self, kind: RequestKind) -> Researcher:
        return self.reviewer if kind is RequestKind.IMPLEMENTATION_REVIEW else self.researcher

    def _perform(
        self, iteration: Iteration, request: RequestId, prompt: str, workspace: Path | None, objection: Objection
    ) -> Answer:
        """Record the request, make it, and keep its answer."""
        lab, kind, config, campaign = iteration.lab, request.kind, iteration.config, iteration.campaign
        researcher = self._researcher_for(kind)
        folder = request.folder(lab.store)
        template = decode(stage_prompt.prompt_file(lab, kind).read_bytes())
        form = stage_prompt.requested_form(iteration, kind)
        # The prompt before the line that holds its hash: a line never names a prompt that cannot be read.
        files.write_whole(folder / "prompt.md", prompt)
        intent = Asked(
            **request.fields(),
            key=f"{lab.lab_id}.{request.iteration_id}.{request.name}.a1",
            researcher=researcher.name,
            who=stage_prompt.configuration_for(kind, config),
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
            workspace, data = agent_folder.make_copy(iteration, request)
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
            contract=stage_prompt.contract_of(iteration, researcher, kind, checks),
            calls=calls,
            output=form,
            objection=objection,
        )
        answer = researcher.perform(task)
        if researcher.works_in_folder:
            agent_folder.clean(iteration, folders, answer, self.view)
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


def read_reply(form: type[Output], answer: Answer, name: str, place: Path | None) -> ValidReply | str:
    """An answer as a reply of this form; or one line that says what is missing or malformed. Nothing is repaired."""
    if answer.raw is None:
        return f"there is no answer: {answer.note}"
    try:
        result = AgentResult.from_text(answer.raw, name)
        if result.status != "complete":
            return ValidReply(result, None, place)
        if result.output is None:
            return f"{name}: output: missing, though the status is complete"
        output = form.from_value(result.output, f"{name}: output")
    except RecordError as error:
        return str(error)
    return ValidReply(result, output, place)


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

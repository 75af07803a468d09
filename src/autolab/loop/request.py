"""How a researcher is asked: the request is recorded before it is made, its answer kept before it is read.

So an answer that was received is never asked for again: after a crash the same number of request finds the same reply.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from autolab import files
from autolab.errors import RecordError
from autolab.files import sha256_of
from autolab.ideas import lessons
from autolab.ideas.policy import avoided, tired
from autolab.lab import crash_points, redaction
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.experiment import Results
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.replies import OUTPUTS, AgentResult, Output
from autolab.loop import calls, edits
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.loop.workspace import Workspaces, open_up
from autolab.researchers import excerpts, prompts
from autolab.researchers.base import Answer, Context, Researcher, Task
from autolab.sandbox.collect import remove_any, remove_tree
from autolab.stats.seeds import researcher_seed
from autolab.text import decode, many_lines
from autolab.trials import inputs

Kind = TypeVar("Kind", bound=Output)

BUILT_IN = "offline"
"""The researcher that leaves out tired families by itself, and says truly who wrote its code."""


def answered(answer: tuple[AgentResult, Output | None] | str, kind: type[Kind]) -> Kind | StageResult:
    """The output of a complete answer, or the outcome of one that is not to be read."""
    if isinstance(answer, str):
        return StageResult(StageOutcome.RETRY, answer)
    result, output = answer
    if result.status == "failed":
        return StageResult(StageOutcome.ESCALATE, f"the researcher gave up: {result.summary}")
    if output is None:
        return StageResult(StageOutcome.RETRY, f"the researcher asks to try again: {result.summary}")
    assert isinstance(output, kind)
    return output


def source_for_prompt(desk: Iteration, commit: str, wanted: str) -> str:
    """The lab's source as `commit` has it, for a prompt; `wanted` names the files that matter most."""
    hidden = inputs.hidden_from_trials(desk.config)
    name = f"code-{desk.lab.git.tree(commit)}-{sha256_of(chr(10).join(hidden))[:8]}"
    folder = desk.lab.store / "exports" / name  # what the trials' code is exported to as well
    desk.lab.git.export(commit, folder, None, hidden)
    return excerpts.told(folder, desk.config, wanted, unlocked=edits.unlocked(desk))


AGENT_FOLDER = "agent-"
"""Begins the names of coding agents' folders; a candidate's worktree begins with its hypothesis's id."""


def ask(
    desk: Iteration, values: dict[str, str], workspace: Path | None = None
) -> tuple[AgentResult, Output | None] | str:
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


def _number(desk: Iteration) -> int:
    """Asks of this stage in this iteration that were acted on, plus one: a crash does not count."""
    before = [line for line in desk.events() if line.n < desk.acted and line.event == "answered"]
    return 1 + sum(1 for line in before if line.data["stage"] == desk.state.stage)


def _recorded(folder: Path) -> Answer | None:
    reply, none = folder / "reply.json", folder / "no_reply.txt"
    if reply.exists():
        return Answer(decode(reply.read_bytes()))
    return Answer(None, decode(none.read_bytes())) if none.exists() else None


def _prompt_file(desk: Iteration) -> tuple[str, str]:
    """The stage's prompt file: its name and its text."""
    for name in prompts.FILES[desk.state.stage]:
        path = desk.lab.prompt(name)
        if path.exists():
            return name, decode(path.read_bytes())
    raise RecordError(f".autolab/prompts/{prompts.FILES[desk.state.stage][0]}: missing; copy it from a new lab")


def _prompt(desk: Iteration, values: dict[str, str]) -> str:
    name, text = _prompt_file(desk)
    given = {"iteration_id": desk.iteration_id, "goal": desk.goal, "state_json": desk.state.to_json()}
    given["metric"] = f"{desk.config.metric.primary} ({desk.config.metric.direction})"
    given |= {"trouble": desk.state.reason, "program": _program(desk)}
    return redaction.clean(prompts.compose(name, text, given | values))


def _program(desk: Iteration) -> str:
    """What the lab's people say of it, as the base has it."""
    git, base = desk.lab.git, desk.campaign.base_commit or "HEAD"
    text = git.read(base, "program.md") if git.has_path(base, "program.md") else None
    return "there is no program.md" if text is None else many_lines(text)


def _contract(desk: Iteration, who: Researcher, stage: Stage) -> str:
    """How a researcher that reads its prompt is to answer; empty for one that does not."""
    name = prompts.CONTRACTS.get(getattr(who, "kind", ""))
    if name is None:
        return ""
    path = desk.lab.prompt(name)
    if not path.exists():
        raise RecordError(f".autolab/prompts/{name}: missing; copy it from a new lab")
    return prompts.contract(decode(path.read_bytes()), stage)


def _perform(desk: Iteration, stage: Stage, number: int, folder: Path, prompt: str, workspace: Path | None) -> Answer:
    who = desk.reviewer if stage is Stage.IMPLEMENTATION_REVIEW else desk.researcher
    key = f"{desk.lab.lab_id}.{desk.iteration_id}.{stage}-{number}.a1"
    files.write_whole(folder / "prompt.md", prompt)
    asked = {"stage": stage, "number": number, "key": key, "researcher": who.name}
    asked |= {"who": _configured(desk, stage).value(), "prompt_sha256": files.sha256_of(prompt)}
    asked["prompt_version"] = prompts.version(_prompt_file(desk)[1])
    desk.lab.ledger.append("asked", asked)
    crash_points.point("ask.after_intent")
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
        files.write_whole(folder / "no_reply.txt", answer.note)
    else:
        files.write_whole(folder / "reply.json", answer.raw)
        if answer.note:
            desk.tell(answer.note)
    crash_points.point("ask.after_reply")
    return answer


def _configured(desk: Iteration, stage: Stage) -> ResearcherConfig:
    """What the configuration says of the stage's researcher: what a replay of it needs."""
    reviewer = desk.config.reviewer if stage is Stage.IMPLEMENTATION_REVIEW else None
    return reviewer or desk.config.researcher


def _calls(desk: Iteration, folder: Path, who: dict[str, object]) -> calls.MeteredCalls:
    wallet = calls.CallBudget(desk.config.budget, desk.campaign, desk.acted, desk.events)
    return calls.MeteredCalls(desk.lab.ledger, folder / "calls", who, wallet, desk.tell, desk.stop)


def _without_secrets(desk: Iteration, task: Task, answer: Answer, worked: bool) -> Answer:
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


def _context(desk: Iteration) -> Context:
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
        seed=researcher_seed(desk.lab.secret),
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
        avoid=avoided(tired(known, desk.campaign, desk.config)),
    )


def agent_folder(desk: Iteration) -> Path:
    """Where a coding agent works at this ask of this stage.

    Beside the worktrees and not in the store: some agents refuse to write below a folder called `.git`."""
    return desk.lab.worktrees / f"{AGENT_FOLDER}{desk.iteration_id}-{desk.state.stage}-{_number(desk)}"


def parent_of_candidate(desk: Iteration) -> str:
    """The commit that the implementation stage goes on from: its candidate so far, or the base."""
    return desk.candidate(before=desk.acted) or desk.campaign.base_commit or "HEAD"


def _copy(desk: Iteration, stage: Stage) -> tuple[Path, tuple[Path, ...]]:
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


def _note_answer(desk: Iteration, stage: Stage, number: int, folder: Path, raw: str) -> None:
    """One `answered` line an ask, and copies for readers in `.autolab/`."""
    since = [line for line in desk.events() if line.n > desk.acted and line.event == "answered"]
    if not any(line.data["stage"] == stage and line.data["number"] == number for line in since):
        where = str((folder / "reply.json").relative_to(desk.lab.store))
        noted = {"stage": stage, "number": number, "reply": where, "sha256": files.sha256_of(raw)}
        desk.lab.ledger.append("answered", noted)
    logs = desk.lab.logs(desk.iteration_id)
    files.write_whole(logs / f"{stage}-{number}.prompt.md", (folder / "prompt.md").read_bytes(), sync=False)
    files.write_whole(logs / f"{stage}-{number}.reply.json", raw, sync=False)
    files.write_whole(desk.lab.control / "agent_result.json", raw, sync=False)


def _read(stage: Stage, answer: Answer, shown: str) -> tuple[AgentResult, Output | None] | str:
    """Strict, without repair: what is missing or malformed is said, and is the researcher's to fix."""
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

"""An iteration once more from its recorded replies: the same decisions, without asking anybody.

A scratch lab is made as the lab was when the iteration began: the same commit, the ledger up to that line, the same
secret and so the same seeds. There the iteration walks all its stages again, through the same code; raw replies take
the way that fresh ones take, and nothing can be sent. Finished trials are taken from the lab's store, or run again.
The outcome is compared with the record. The lab itself is read only.

Not replayed: a configuration that was changed since. What an agent did in the worktree comes from the candidate.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolab import files
from autolab.errors import BudgetSpent, LabError, RecordError, ResearcherError
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.data_entry import DataEntry
from autolab.lab.schemas.events import (
    Answered,
    Asked,
    CandidateRecorded,
    ControlChanged,
    Transition,
    TrialEnded,
    TrialKnown,
)
from autolab.lab.schemas.experiment import Calibration, IterationRecord
from autolab.lab.schemas.outcomes import RequestKind, TrialOutcome
from autolab.loop.calls import RecordedCalls, RefusedParameters, RequestId
from autolab.loop.engine import Engine
from autolab.loop.request import recorded_answer
from autolab.loop.stages import waits
from autolab.loop.user_review import review
from autolab.researchers.base import Answer, ResearcherDefaults, Task
from autolab.researchers.researcher_names import load_replayed, recorded_defaults
from autolab.sandbox.collect import remove_tree
from autolab.trials.progress import View
from autolab.trials.stored import StoredTrials

COMPARED = ("code_checksum", "status", "verdict", "outcome", "eval_metrics", "planning_decision")
"""Fields of the iteration's record that its replies and its trials determine."""
CONTROL = ("config.yaml", "verifier_policy.yaml", "prompts/*.md")
"""What the user says in `.autolab/`, committed or not."""


@dataclass(frozen=True)
class Replayed:
    """The outcome of a replay.

    `prompts` counts the requests, `other_prompts` names those whose prompt differs from that of then. `changed` are
    files of `.autolab/` that the user has changed since: the replay uses them as they are now. `place` is where the
    scratch lab was kept; None if it was not.
    """

    iteration_id: str
    differences: tuple[str, ...]
    prompts: int
    other_prompts: tuple[str, ...]
    changed: tuple[str, ...]
    record: IterationRecord | None
    place: Path | None

    @property
    def same(self) -> bool:
        return not self.differences


@dataclass(frozen=True)
class _Past:
    """The iteration as the ledger has it, from the line that opened it (`opened`) to its end."""

    lab: Lab
    iteration_id: str
    opened: Line
    campaign: Campaign
    lines: Sequence[Line]
    calibration: Calibration | None
    changed: tuple[str, ...]
    """Files of `.autolab/` that the user has changed since."""
    requests: dict[str, Asked]
    """The requests by their names, as `design-1`."""

    @property
    def researcher(self) -> ResearcherConfig | None:
        """The author, as configuration and flags named it then; None if only the reviewer was asked for anything."""
        authors = [request for request in self.requests.values() if not _is_review(request)]
        return authors[0].who if authors else None

    def user_answers(self) -> list[str]:
        """What the user answered where the iteration waited, in order: approve, retry."""
        answers = []
        for transition in events.events_of(self.lines, Transition):
            if transition.why.startswith("review "):
                answers.append(transition.why.removeprefix("review "))
        return answers

    def candidate_of(self, request: RequestId) -> str | None:
        """The commit that was made of the reply to a request for an implementation; None if none was."""
        number = 0
        # A candidate's line follows that of the reply it was made of.
        for line in self.lines:
            if line.event == Answered.KIND:
                answer = events.read(line, Answered)
                if answer.kind is RequestKind.IMPLEMENTATION:
                    number = answer.number
            elif line.event == CandidateRecorded.KIND and number == request.number:
                return events.read(line, CandidateRecorded).commit
        return None


class Recorded(ResearcherDefaults):
    """A researcher that gives the recorded replies of one iteration, and no other."""

    works_in_folder = False
    counts = frozenset({"tokens", "dollars"})

    def __init__(self, past: _Past, git: Git, *, reviews: bool) -> None:
        """`git` is the scratch lab's. With `reviews` it is the reviewer, else the author."""
        names = [request.researcher for request in past.requests.values() if _is_review(request) == reviews]
        self.name = names[0] if names else "nobody"
        if past.researcher is not None:
            author = recorded_defaults(past.researcher)
            self.chooses_families, self.names_author = author.chooses_families, author.names_author
            self.codes_ideas = author.codes_ideas
        # Ideas that came in one answer are asked for together again.
        if any(request.ideas is not None for request in past.requests.values()):
            self.contract = "recorded"
        self._past, self._git = past, git

    def perform(self, task: Task) -> Answer:
        past = self._past
        name = f"{task.kind}-{task.number}"
        intent = past.requests.get(name)
        if intent is None:
            raise ResearcherError(f"replay: the record has no request {name}: it went another way")
        request = RequestId(past.iteration_id, intent.stage, task.kind, task.number)
        folder = request.folder(past.lab.store)
        answer = recorded_answer(folder)
        # A crash leaves no finished iteration without the answer: only a batch goes on without what it cannot pay.
        if answer is None:
            raise BudgetSpent(f"{name} was not answered")
        calls = folder / "calls"
        # A researcher that made paid calls runs its own code again, on the recorded replies.
        if calls.exists():
            researcher = load_replayed(intent.who)
            if researcher is not None:
                refused = RefusedParameters.before(request, past.lab.ledger, past.lines)
                return researcher.perform(replace(task, calls=RecordedCalls(calls, refused)))
        if task.kind is RequestKind.IMPLEMENTATION:
            commit = past.candidate_of(request)
            if commit is not None:
                _check_out(self._git, past.campaign.base_commit or "", commit, task.folders.workspace)
        return answer


def replay_iteration(
    lab: Lab, config: Config, iteration_id: str, tell: View, stop: Callable[[], bool], *, rerun: bool, into: Path | None
) -> Replayed:
    """Replay a finished iteration. With `rerun` its trials run again; `into` is a new folder to keep the scratch lab.

    LabError: `into` exists, or the ledger does not hold the iteration's beginning.
    """
    past = _find_past(lab, iteration_id)
    place = into or lab.store / "replays" / iteration_id
    if place.exists():
        if into is not None:
            raise LabError(f"{into}: exists; the replay's lab goes into a new folder")
        # Left by a replay that was killed.
        remove_tree(place)
    try:
        scratch = _make_scratch(past, config, place.resolve())
        _take_over_ended_early(past, scratch)
        if not rerun:
            _take_over_trials(past, scratch, tell)
        _walk(past, scratch, config, tell, stop)
        return _compare(past, scratch, into)
    finally:
        if into is None and place.exists():
            remove_tree(place)


def find_iteration(lab: Lab, name: str) -> str:
    """The finished iteration of this id, part of an id, or number. LabError: there is none, or there are several."""
    finished = sorted(path.parent.name for path in (lab.root / "experiments").glob("[0-9]*/record.json"))
    if name in finished:
        return name
    matches = []
    for number, iteration_id in enumerate(finished, 1):
        # A number is the iteration's place in time, and not a part of its id, which is full of digits.
        is_match = number == int(name) if name.isdecimal() else name in iteration_id
        if is_match:
            matches.append(iteration_id)
    if len(matches) == 1:
        return matches[0]
    problem = f"none is called {name!r}"
    if matches:
        problem = f"{name!r} means {len(matches)} of them"
    raise LabError(f"replay: {len(finished)} finished iterations, {problem}; `autolab registry` lists them")


def _find_past(lab: Lab, iteration_id: str) -> _Past:
    """LabError: the ledger does not say how the iteration began."""
    opening: Line | None = None
    calibration: Calibration | None = None
    lines: list[Line] = []
    history = lab.ledger.lines()
    for line in history:
        # This walks through the whole history, so it reads single keys and does not parse each state and campaign.
        if line.event == Transition.KIND:
            if line.data.get("why") == "calibrated":
                calibration = events.read(line, Transition).calibration
            is_of_iteration = line.data["state"]["iteration_id"] == iteration_id
            if opening is None and is_of_iteration and line.data.get("why") == "opened":
                opening = line
                continue
            if opening is not None and not is_of_iteration:
                break
        if opening is not None:
            lines.append(line)
    if opening is None:
        raise LabError(f"replay: {iteration_id}: the ledger does not say how it began")
    # The loop above has left in `history` the lines after the iteration.
    changes = [control.file for control in events.events_of(history, ControlChanged)]
    return _Past(
        lab=lab,
        iteration_id=iteration_id,
        opened=opening,
        campaign=events.read(opening, Transition).campaign,
        lines=lines,
        calibration=calibration,
        changed=tuple(dict.fromkeys(changes)),
        requests=_requests(lines),
    )


def _requests(lines: Iterable[Line]) -> dict[str, Asked]:
    return {f"{intent.kind}-{intent.number}": intent for intent in events.events_of(lines, Asked)}


def _make_scratch(past: _Past, config: Config, root: Path) -> Lab:
    """The lab as it was when the iteration began, at `root`."""
    lab, campaign = past.lab, past.campaign
    root.parent.mkdir(parents=True, exist_ok=True)
    commit = campaign.home_commit or campaign.base_commit or "HEAD"
    Git.shared(lab.root, root, campaign.home_branch or "main", commit)
    store = root / ".git" / "autolab"
    store.mkdir()
    # The same secret gives the same seeds.
    for name in ("secret", "containment.json"):
        source = lab.store / name
        if source.exists():
            shutil.copy2(source, store / name)
    if past.calibration is not None:
        files.write_whole(store / "calibration.json", json.dumps(past.calibration.value()))
    for pattern in CONTROL:
        for source in lab.control.glob(pattern):
            copy = root / source.relative_to(lab.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    for folder in _splits(config):
        _bring(lab.root / folder, root / folder)
    for entry in config.data_entries:
        _bring_data(entry, lab.root, root)
    for earlier in _read_by(campaign):
        source = lab.iteration(earlier).folder
        if source.exists():
            # Documents are read, and no trials.
            ignored = shutil.ignore_patterns("runs")
            shutil.copytree(source, root / "experiments" / earlier, ignore=ignored)
    scratch = Lab(root)
    scratch.ledger.begin_as(lab.ledger, past.opened, root)
    return scratch


def _read_by(campaign: Campaign) -> list[str]:
    """Earlier iterations whose documents this one reads: what it refines, and the ideas that came first in a batch."""
    found = [campaign.parent] if campaign.parent is not None else []
    if campaign.exploration is not None:
        found += [idea.iteration_id for idea in campaign.exploration.first[: campaign.exploration.size]]
    return list(dict.fromkeys(found))


def _splits(config: Config) -> list[str]:
    """Folders of the evaluation below the lab's root, which git need not hold."""
    if config.evaluate is None:
        return []
    paths = [config.evaluate.eval, config.evaluate.holdout]
    return [path for path in paths if path and not Path(path).is_absolute()]


def _bring(source: Path, copy: Path) -> None:
    """Copy data of the lab's, unless git holds it: then it is there already, as the commit has it."""
    if not source.exists() or copy.exists():
        return
    if source.is_dir():
        shutil.copytree(source, copy, symlinks=True)
    else:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)


def _bring_data(entry: DataEntry, root: Path, scratch: Path) -> None:
    """Make training data that lies in the repository or beside it be there for the scratch lab too."""
    source, copy = entry.source(root), entry.source(scratch)
    if source == copy or not source.exists():
        return
    if not entry.lies_outside and not entry.is_fetched:
        _bring(source, copy)
        return
    # A fetch is read-only and may be large; its record lies beside its files.
    if entry.is_fetched:
        source, copy = source.parent, copy.parent
    elif copy.parent != scratch.parent:
        raise LabError(f"replay: data: {entry.path} is looked for from the lab's place; name one beside it: --into DIR")
    if not os.path.lexists(copy):
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(source)


def _take_over_trials(past: _Past, scratch: Lab, tell: View) -> None:
    """Store the iteration's finished trials in the scratch lab, each with a line of its ledger that holds it."""
    trials = StoredTrials(past.lab.store, past.lab.ledger)
    copies = StoredTrials(scratch.store, scratch.ledger)
    endings = events.events_of(past.lines, TrialEnded)
    contents = [one.trial.content for one in endings if one.trial.outcome is not TrialOutcome.CANCELLED]
    # By content, as the measurement looks for a trial that it need not run.
    for content in dict.fromkeys(contents):
        try:
            match = trials.find(content)
        except RecordError as error:
            tell(f"note: {error}; measured anew")
            continue
        if match is not None:
            trial, source = match
            run_id = source.split("/")[1]
            line = events.append(scratch.ledger, TrialKnown(run_id=run_id, trial=trial))
            copies.keep(line)


def _take_over_ended_early(past: _Past, scratch: Lab) -> None:
    """Store the trials that their learning curve ended: what they were compared with is not in the scratch lab."""
    copies = StoredTrials(scratch.store, scratch.ledger)
    for ending in events.events_of(past.lines, TrialEnded):
        if ending.trial.outcome is TrialOutcome.CANCELLED:
            known = TrialKnown(run_id=ending.run_id, trial=ending.trial)
            copies.keep(events.append(scratch.ledger, known))


def _walk(past: _Past, scratch: Lab, config: Config, tell: View, stop: Callable[[], bool]) -> None:
    """Every stage of the iteration again, with the answers that a user gave where it waited."""
    answers = past.user_answers()
    researchers = (Recorded(past, scratch.git, reviews=False), Recorded(past, scratch.git, reviews=True))
    config = config.model_copy(update={"researcher": past.researcher or config.researcher})
    with scratch.hold(f"autolab replay {past.iteration_id}"):
        engine = Engine(scratch, config, tell, stop, researchers)
        while (state := scratch.load()[0]).iteration_id == past.iteration_id:
            if waits(state.stage):
                if not answers:
                    return
                review(scratch, answers.pop(0), tell)
            elif not engine.step():
                return


def _compare(past: _Past, scratch: Lab, into: Path | None) -> Replayed:
    iteration_id = past.iteration_id
    original = IterationRecord.load(past.lab.iteration(iteration_id).record)
    path = scratch.iteration(iteration_id).record
    # A replay that ended early leaves no record.
    record = IterationRecord.load(path) if path.exists() else None
    requests = _requests(scratch.ledger.lines(past.opened.offset))
    other_prompts = []
    for name, request in requests.items():
        before = past.requests.get(name)
        if before is not None and request.prompt_sha256 != before.prompt_sha256:
            other_prompts.append(name)
    return Replayed(
        iteration_id=iteration_id,
        differences=_differences(original, record, scratch),
        prompts=len(requests),
        other_prompts=tuple(other_prompts),
        changed=past.changed,
        record=record,
        place=into,
    )


def _differences(original: IterationRecord, record: IterationRecord | None, scratch: Lab) -> tuple[str, ...]:
    """Where a replay's record differs from the original; if there is none, where the replay ended."""
    if record is None:
        state = scratch.load()[0]
        return (f"it ended at {state.stage}: {state.reason or 'paused'}",)
    before, after = original.value(), record.value()
    differences = []
    for key in COMPARED:
        if before[key] != after[key]:
            differences.append(f"{key}: {before[key]} -> {after[key]}")
    return tuple(differences)


def replay_value(replayed: Replayed) -> dict[str, object]:
    """A replay's outcome as one JSON object."""
    return {
        "iteration_id": replayed.iteration_id,
        "same": replayed.same,
        "differences": list(replayed.differences),
        "prompts": replayed.prompts,
        "other_prompts": list(replayed.other_prompts),
        "changed": list(replayed.changed),
        "record": replayed.record.value() if replayed.record else None,
    }


def replay_text(replayed: Replayed) -> list[str]:
    """A replay's outcome as lines for the user, the result first."""
    result = "the same decisions" if replayed.same else "not the same decisions"
    requests = f"{replayed.prompts} requests answered from the record, nothing sent"
    rows = [f"{result}: {replayed.iteration_id} replayed, {requests}"]
    rows += [f"differs: {difference}" for difference in replayed.differences]
    record = replayed.record
    if record is not None:
        verdict, decision = record.verdict or record.status, record.planning_decision
        rows.append(f"verdict {verdict}, decision {decision.action}: {decision.reason}")
    if replayed.other_prompts:
        names = ", ".join(replayed.other_prompts)
        rows.append(f"note: {len(replayed.other_prompts)} prompts differ, for instance in a commit or a time: {names}")
    if replayed.changed:
        rows.append(f"note: changed since, and used as it is now: {', '.join(replayed.changed)}")
    if replayed.place is not None:
        rows.append(f"the replay's lab: {replayed.place}")
    return rows


def _is_review(request: Asked) -> bool:
    return request.kind is RequestKind.IMPLEMENTATION_REVIEW


def _check_out(git: Git, base: str, commit: str, workspace: Path) -> None:
    """Make `workspace` hold what `commit` changed against `base`."""
    for change in git.diff(base, commit):
        path = workspace / change.path
        if change.status == "D":
            path.unlink(missing_ok=True)
            continue
        content = git.read(commit, change.path) or b""
        mode = 0o755 if change.new_mode == "100755" else 0o644
        files.write_whole(path, content, mode=mode)

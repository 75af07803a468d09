"""An iteration once more from its recorded replies: the same decisions, without asking anybody.

A scratch lab is made as the lab was when the iteration began: the same commit, the ledger up to that line, the same
secret and so the same seeds. There the iteration walks all its stages again, through the same code; raw replies take
the way that fresh ones take, and nothing can be sent. Finished trials are taken from the lab's store, or run again.
What comes out is held against the record. The lab itself is read only.

Not replayed: a configuration that was changed since. What an agent did in the worktree comes from the candidate.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from autolab import files
from autolab.errors import LabError, RecordError, ResearcherError
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Campaign
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.experiment import IterationRecord
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import request_kind
from autolab.loop.calls import MeteredCalls
from autolab.loop.engine import Engine
from autolab.loop.stages import waits
from autolab.loop.user_review import review
from autolab.researchers.base import Answer, ResearcherDefaults, Task
from autolab.researchers.researcher_names import load_replayed, recorded_defaults
from autolab.sandbox.collect import remove_tree
from autolab.text import decode
from autolab.trials.progress import View
from autolab.trials.stored import StoredTrials

COMPARED = ("code_checksum", "status", "verdict", "outcome", "eval_metrics", "planning_decision")
"""Of the iteration's record: what its replies and its trials come to."""


@dataclass(frozen=True)
class Replayed:
    """What a replay came to.

    `prompts` counts those asked again, `other_prompts` names those that differ, `changed` what the user has changed
    of `.autolab/` since: the replay uses it as it is now.
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
    """The iteration as the ledger has it, from the line that opened it to its end."""

    lab: Lab
    iteration_id: str
    opened: Line
    lines: tuple[Line, ...]
    calibration: object | None
    changed: tuple[str, ...] = ()
    """What of `.autolab/` the user has changed since."""
    requests: dict[tuple[str, int], Line] = field(default_factory=dict)
    """The line of each request, by its kind and number."""

    @property
    def campaign(self) -> Campaign:
        return Campaign.from_value(self.opened.data["campaign"], f"ledger.jsonl line {self.opened.n}")

    @property
    def who(self) -> ResearcherConfig | None:
        """The author, as the configuration and the command's flags named it then."""
        lines = [line for (kind, _), line in self.requests.items() if not _is_review(kind)]
        if not lines:
            return None
        return ResearcherConfig.from_value(lines[0].data["who"], f"ledger.jsonl line {lines[0].n}: who")

    def folder(self, kind: RequestKind, number: int) -> Path:
        """Where the reply to a request lies, with the calls behind it."""
        for line in self.lines:
            if line.event == "answered" and (request_kind(line.data), line.data["number"]) == (kind, number):
                return (self.lab.store / str(line.data["reply"])).parent
        return self.lab.store / "requests" / self.iteration_id / f"{kind}-{number}"

    def answers(self) -> list[str]:
        """What a user answered meanwhile: approve, retry."""
        whys = (str(line.data.get("why", "")) for line in self.lines if line.event == "transition")
        return [why.removeprefix("review ") for why in whys if why.startswith("review ")]

    def made(self, number: int) -> str | None:
        """The candidate's commit that came of the request `number` for an implementation."""
        now = 0
        for line in self.lines:
            if line.event == "answered" and request_kind(line.data) == RequestKind.IMPLEMENTATION:
                now = line.data["number"]
            if line.event == "candidate" and now == number:
                return str(line.data["commit"])
        return None


class Recorded(ResearcherDefaults):
    """A researcher that gives the recorded replies of one iteration, and no other."""

    works_in_folder = False
    counts = frozenset({"tokens", "dollars"})

    def __init__(self, past: _Past, scratch: Lab, reviews: bool) -> None:
        lines = [line for (kind, _), line in past.requests.items() if _is_review(kind) == reviews]
        names = [str(line.data["researcher"]) for line in lines]
        self.name = names[0] if names else "nobody"
        if past.who is not None:
            author = recorded_defaults(past.who)
            self.chooses_families, self.names_author = author.chooses_families, author.names_author
        self._past, self._scratch = past, scratch

    def perform(self, task: Task) -> Answer:
        past, line = self._past, self._past.requests.get((str(task.kind), task.number))
        if line is None:
            raise ResearcherError(f"replay: the record has no request {task.kind}-{task.number}: it went another way")
        folder = past.folder(task.kind, task.number)
        config = ResearcherConfig.from_value(line.data["who"], f"ledger.jsonl line {line.n}: who")
        if (folder / "calls").exists() and (researcher := load_replayed(config)) is not None:
            kept = MeteredCalls(self._scratch.ledger, folder / "calls", {}, None, _quiet, lambda: False)
            return researcher.perform(_with(task, kept))
        if task.kind is RequestKind.IMPLEMENTATION and (commit := past.made(task.number)):
            _bring(self._scratch.git, past.campaign.base_commit or "", commit, task.folders.workspace)
        return _kept(folder)


def replay_iteration(
    lab: Lab, config: Config, iteration_id: str, tell: View, stop: Callable[[], bool], *, rerun: bool, into: Path | None
) -> Replayed:
    """Replay a finished iteration. With `rerun` its trials are run again; `into` keeps the scratch lab."""
    past = _past(lab, iteration_id)
    place = into or lab.store / "replays" / iteration_id
    if into is not None and into.exists():
        raise LabError(f"{into}: exists; the replay's lab goes into a new folder")
    if into is None and place.exists():
        remove_tree(place)
    try:
        scratch = _scratch(past, config, place.resolve(), rerun, tell)
        _walk(past, scratch, config, tell, stop)
        return _compared(past, scratch, into)
    finally:
        if into is None and place.exists():
            remove_tree(place)


def find_iteration(lab: Lab, named: str) -> str:
    """The finished iteration that `named` means: its id, a unique part of it, or its number."""
    finished = sorted(path.parent.name for path in (lab.root / "experiments").glob("[0-9]*/record.json"))
    if named.isdecimal():
        matches = finished[int(named) - 1 : int(named)] if int(named) else []
    else:
        matches = [one for one in finished if named == one] or [one for one in finished if named in one]
    if len(matches) != 1:
        what = f"{named!r} means {len(matches)} of them" if matches else f"none is called {named!r}"
        raise LabError(f"replay: {len(finished)} finished iterations, {what}; `autolab registry` lists them")
    return matches[0]


def _past(lab: Lab, iteration_id: str) -> _Past:
    opened: Line | None = None
    calibration: object | None = None
    mine: list[Line] = []
    changed: dict[str, None] = {}
    over = False
    for line in lab.ledger.lines():
        if over:
            changed |= {str(line.data["file"]): None} if line.event == "control_changed" else {}
            continue
        if line.data.get("why") == "calibrated":
            calibration = line.data["calibration"]
        at = line.data["state"]["iteration_id"] if line.event == "transition" else iteration_id
        if opened is None:
            opened = line if line.data.get("why") == "opened" and at == iteration_id else None
        elif line.event == "transition" and at != iteration_id:
            over = True
        else:
            mine.append(line)
    if opened is None:
        raise LabError(f"replay: {iteration_id}: the ledger does not say how it began")
    return _Past(lab, iteration_id, opened, tuple(mine), calibration, tuple(changed), _requests(mine))


def _requests(lines: Iterable[Line]) -> dict[tuple[str, int], Line]:
    """The line of each request, by its kind and number."""
    return {(request_kind(line.data), int(line.data["number"])): line for line in lines if line.event == "asked"}


def _scratch(past: _Past, config: Config, root: Path, rerun: bool, tell: View) -> Lab:
    """The lab as it was when the iteration began, at `root`."""
    lab, campaign = past.lab, past.campaign
    root.parent.mkdir(parents=True, exist_ok=True)
    Git.shared(lab.root, root, campaign.home_branch or "main", campaign.home_commit or campaign.base_commit or "HEAD")
    store = root / ".git" / "autolab"
    store.mkdir()
    for name in ("secret", "containment.json"):
        if (lab.store / name).exists():
            shutil.copy2(lab.store / name, store / name)
    if past.calibration is not None:
        files.write_whole(store / "calibration.json", json.dumps(past.calibration))
    for path in _said(lab):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(lab.root / path, root / path)
    for folder in _data(config):
        if not (root / folder).exists() and (lab.root / folder).exists():
            shutil.copytree(lab.root / folder, root / folder, symlinks=True)
    if campaign.parent is not None and lab.iteration(campaign.parent).folder.exists():
        ignored = shutil.ignore_patterns("runs")
        shutil.copytree(lab.iteration(campaign.parent).folder, root / "experiments" / campaign.parent, ignore=ignored)
    scratch = Lab(root)
    scratch.ledger.begin_as(lab.ledger, past.opened, root)
    if not rerun:
        _take_over(past, scratch, tell)
    return scratch


def _take_over(past: _Past, scratch: Lab, tell: View) -> None:
    """The iteration's finished trials, each with a line in the scratch lab's ledger that holds it."""
    ended = [line.data["trial"] for line in past.lines if line.event == "trial"]
    for content in dict.fromkeys(trial["content"] for trial in ended):
        try:
            found = StoredTrials(past.lab.store, past.lab.ledger).find(content)
        except RecordError as error:
            tell(f"note: {error}; measured anew")
            continue
        if found is not None:
            trial, source = found
            run_id = source.split("/")[1]
            line = scratch.ledger.append("trial_known", {"run_id": run_id, "trial": trial.value()})
            StoredTrials(scratch.store, scratch.ledger).keep(line)


def _said(lab: Lab) -> Iterator[Path]:
    """What the user says in `.autolab/`, committed or not."""
    for pattern in ("config.yaml", "verifier_policy.yaml", "prompts/*.md"):
        yield from (path.relative_to(lab.root) for path in lab.control.glob(pattern))


def _data(config: Config) -> list[str]:
    splits = (config.evaluate.eval, config.evaluate.holdout) if config.evaluate else ()
    return [path for path in (config.data, *splits) if path and not Path(path).is_absolute()]


def _walk(past: _Past, scratch: Lab, config: Config, tell: View, stop: Callable[[], bool]) -> None:
    """Every stage of the iteration again, with the answers that a user gave where it waited."""
    answers = past.answers()
    researchers = (Recorded(past, scratch, False), Recorded(past, scratch, True))
    config = config.model_copy(update={"researcher": past.who or config.researcher})
    with scratch.hold(f"autolab replay {past.iteration_id}"):
        engine = Engine(scratch, config, tell, stop, researchers)
        while (state := scratch.load()[0]).iteration_id == past.iteration_id:
            if waits(state.stage):
                if not answers:
                    return
                review(scratch, answers.pop(0), tell)
            elif not engine.step():
                return


def _compared(past: _Past, scratch: Lab, into: Path | None) -> Replayed:
    was = IterationRecord.load(past.lab.iteration(past.iteration_id).record)
    path = scratch.iteration(past.iteration_id).record
    now = IterationRecord.load(path) if path.exists() else None
    differences = []
    if now is None:
        state = scratch.load()[0]
        differences.append(f"it ended at {state.stage}: {state.reason or 'paused'}")
    else:
        before, after = was.value(), now.value()
        differences += [f"{key}: {before[key]} -> {after[key]}" for key in COMPARED if before[key] != after[key]]
    lines = list(scratch.ledger.lines(past.opened.offset))
    again = _requests(lines)
    other = [
        f"{kind}-{number}"
        for (kind, number), line in again.items()
        if (kind, number) in past.requests
        and line.data["prompt_sha256"] != past.requests[kind, number].data["prompt_sha256"]
    ]
    return Replayed(past.iteration_id, tuple(differences), len(again), tuple(other), past.changed, now, into)


def replay_value(replayed: Replayed) -> dict[str, object]:
    """The same as one JSON object."""
    record = replayed.record.value() if replayed.record else None
    return {
        "iteration_id": replayed.iteration_id,
        "same": replayed.same,
        "differences": list(replayed.differences),
        "prompts": replayed.prompts,
        "other_prompts": list(replayed.other_prompts),
        "changed": list(replayed.changed),
        "record": record,
    }


def replay_text(replayed: Replayed) -> list[str]:
    """What a user reads of it."""
    record, others = replayed.record, replayed.other_prompts
    rows = [f"replayed {replayed.iteration_id}: {replayed.prompts} requests answered from the record, nothing sent"]
    if record is not None:
        decision = record.planning_decision
        rows.append(f"verdict {record.verdict or record.status}, decision {decision.action}: {decision.reason}")
    if others:
        rows.append(
            f"note: {len(others)} of the prompts are not those of then, as where commits or times stand in"
            f" them: {', '.join(others)}"
        )
    if replayed.changed:
        rows.append(f"note: changed since, and used as it is now: {', '.join(replayed.changed)}")
    rows += [f"differs: {line}" for line in replayed.differences]
    rows.append("the same decisions" if replayed.same else "not the same decisions")
    if replayed.place is not None:
        rows.append(f"the replay's lab: {replayed.place}")
    return rows


def _is_review(kind: str) -> bool:
    return kind == RequestKind.IMPLEMENTATION_REVIEW


def _with(task: Task, calls: MeteredCalls) -> Task:

    return replace(task, calls=calls)


def _kept(folder: Path) -> Answer:
    reply, none = folder / "reply.json", folder / "no_reply.txt"
    if reply.exists():
        return Answer(decode(reply.read_bytes()))
    return Answer(None, decode(none.read_bytes()) if none.exists() else "there was no answer")


def _bring(git: Git, base: str, commit: str, workspace: Path) -> None:
    """Make `workspace` hold what `commit` changed."""
    for change in git.diff(base, commit):
        path = workspace / change.path
        if change.status == "D":
            path.unlink(missing_ok=True)
        else:
            mode = 0o755 if change.new_mode == "100755" else 0o644
            files.write_whole(path, git.read(commit, change.path) or b"", mode=mode)


def _quiet(_: str) -> None:
    """What a recorded wait said is in the record."""

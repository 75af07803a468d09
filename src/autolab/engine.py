"""One step, and the loop of steps: read the state, do the stage's one thing, make the next state durable.

The engine holds nothing in memory that the ledger does not hold too. It may be killed between any two
lines; the next engine reads the newest transition and does that stage again, finding what was done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from autolab import (
    budget,
    calibration,
    calls,
    candidate,
    champion,
    conclusion,
    containment,
    durable,
    fault,
    preflight,
    quarantine,
    reproduction,
    rig,
    target,
)
from autolab.desk import Desk, Result
from autolab.errors import BudgetSpent, LabError, Parked, RecordError
from autolab.lab import Lab
from autolab.records.lab import Backlog, BacklogExperiment, BacklogHypothesis, Campaign, Config, Loop, Stage, State
from autolab.researchers import Researcher
from autolab.stages import Outcome, advance, resume, waits
from autolab.view import View

LOG = "refs/autolab/log"
SHOWN = 100
"""Hypotheses and experiments that the backlog view lists; the ledger has them all."""

HANDLERS: dict[Stage, Callable[[Desk], Result | None]] = {
    Stage.HYPOTHESIS: candidate.hypothesis,
    Stage.DESIGN: candidate.design,
    Stage.IMPLEMENTATION: candidate.implementation,
    Stage.IMPLEMENTATION_REVIEW: candidate.implementation_review,
    Stage.LAUNCH: conclusion.launch,
    Stage.EXTRACT_RESULTS: conclusion.extract,
    Stage.UPDATE_DOCS: conclusion.update_docs,
    Stage.DECIDE_REPEAT: conclusion.decide,
}


class End(StrEnum):
    """How a command that drives the loop ended; each has its exit code."""

    DONE = "done"
    PARKED = "parked"
    PERSON = "person"
    BUDGET = "budget"


EXIT_CODES = {End.DONE: 0, End.PARKED: 0, End.PERSON: 3, End.BUDGET: 4}


@dataclass(frozen=True)
class Wish:
    """What a person asks of one `autolab loop`."""

    max_iterations: int
    goal: str = ""
    target: str | None = None
    patience: int | None = None

    def began(self, loop: Loop) -> bool:
        asked = (self.max_iterations, self.goal, self.target, self.patience)
        return asked == (loop.max_iterations, loop.goal, loop.target, loop.patience)


class Engine:
    """Works on a lab whose lock the caller holds. `tell` is where a person sees what it does."""

    def __init__(
        self,
        lab: Lab,
        config: Config,
        tell: View,
        stop: Callable[[], bool],
        minds: tuple[Researcher, Researcher] | None = None,
    ) -> None:
        """`minds` are researcher and reviewer in place of the configured ones."""
        self.lab = lab
        self.config = in_force(lab, config, tell)
        self.tell = tell
        self.stop = stop
        self._loops = False
        self._researcher, self._reviewer = minds or preflight.load_minds(config)
        self._ground = preflight.Ground(lab, self.config, (self._researcher, self._reviewer))
        preflight.require(preflight.START, self._ground)
        for who in dict.fromkeys((self._researcher, self._reviewer)):
            for note in getattr(who, "notes", ()):
                tell(f"note: {note}")

    # one step

    def step(self) -> bool:
        """One stage transition; False if the person asked to stop before there was one."""
        state, campaign = self.lab.load()
        if waits(state.stage):
            raise LabError(f"the lab is at {state.stage}: {state.reason or 'nothing to do'}; {_way_on(state)}")
        if state.iteration_id is None:
            campaign = take_approved(self.lab, self.config, campaign, self.tell)
            spent = budget.spent(self.config.budget, campaign)
            if spent:
                self._move(self._desk(), Result(Outcome.STOP, f"budget: {spent}"))
                return True
            if self._loops and not self._calibrated(base_of(self.lab, self.config, campaign, self.tell)[0]):
                return False
            self._open(*self.lab.load())
        desk = self._desk()
        if desk.state.stage is Stage.LAUNCH:
            if not self._calibrated(desk.campaign.base_commit or ""):
                return False
            desk = self._desk()
        desk.restore()
        conclusion.write_documents(self.lab, desk.campaign, self.tell)
        began = time.monotonic()
        self.tell.stage(desk.state, desk.campaign, desk.title)
        try:
            result = HANDLERS[desk.state.stage](desk)
        except BudgetSpent as error:
            result = Result(Outcome.SUSPEND, f"budget: {error}")
        except Parked:
            return False
        if result is None:
            return False
        seconds = round(desk.campaign.seconds + time.monotonic() - began, 3)
        self._move(desk, replace(result, campaign={"seconds": seconds} | result.campaign))
        state, campaign = self.lab.load()
        if state.iteration_id is None:
            take_approved(self.lab, self.config, campaign, self.tell)
        conclusion.write_documents(self.lab, self.lab.load()[1], self.tell)
        return True

    def _desk(self) -> Desk:
        line = self.lab.ledger.transition()
        assert line is not None
        state, campaign = self.lab.load()
        return Desk(
            lab=self.lab,
            config=self.config,
            policy=self.lab.policy(),
            state=state,
            campaign=campaign,
            line=line,
            researcher=self._researcher,
            reviewer=self._reviewer,
            tell=self.tell,
            stop=self.stop,
        )

    def _open(self, state: State, campaign: Campaign) -> None:
        """Begin an iteration: its id, its base commit, its place in the ledger, in one transition."""
        refines = state.stage is Stage.DESIGN
        hypotheses = campaign.hypotheses + (0 if refines else 1)
        hypothesis_id = campaign.hypothesis_id if refines else f"h{hypotheses}"
        base, home = base_of(self.lab, self.config, campaign, self.tell)
        number = campaign.iterations + 1
        begun = campaign.model_copy(
            update={
                "iterations": number,
                "hypotheses": hypotheses,
                "hypothesis_id": hypothesis_id,
                "experiment_id": f"e{number}",
                "refinement": campaign.refinement + 1 if refines else 0,
                "parent": campaign.parent if refines else None,
                "iteration_offset": self.lab.ledger.head.size,
                "base_commit": base,
                "home_commit": home,
            }
        )
        iteration_id = self._fresh_id(hypothesis_id or "h0")
        opened = self._with_limits(state).model_copy(update={"iteration_id": iteration_id, "reason": ""})
        self.lab.transition(opened, begun, why="opened")

    def _fresh_id(self, hypothesis_id: str) -> str:
        now = datetime.now(UTC)
        while True:
            name = f"{now:%Y-%m-%dT%H-%M-%SZ}_{hypothesis_id}"
            if not self.lab.iteration(name).folder.exists():
                return name
            now += timedelta(seconds=1)

    # calibration

    def _calibrated(self, base: str) -> bool:
        """Whether the lab is calibrated as it stands; a loop does it first. False if the person asked to stop.

        LabError: it is not, or nothing can be resolved in it.
        """
        preflight.require(preflight.TRIALS, self._ground)
        epoch = rig.set_up(self.lab, self.config, base, base).epoch
        found = calibration.current(self.lab)
        if self._loops and (found is None or found.refused or not calibration.holds(found, self.config, epoch)):
            if found is not None and found.epoch != epoch:
                self.tell("a new epoch: evaluator, data, metric or environment changed; nothing is compared across")
            found = calibration.run(self.lab, self.config, base, self.tell, self.stop)
            if found is None:
                return False
        calibration.require(found, self.config, epoch)
        return not self._loops or reproduction.renew(self.lab, self.config, base, epoch, self.tell, self.stop)

    # transitions

    def _move(self, desk: Desk, result: Result) -> None:
        """The next state, durable: history first, then the one line that counts."""
        if desk.state.iteration_id:
            desk.restore()
        result = _again(desk, result)
        state = advance(desk.state, result.outcome, result.reason).model_copy(update=result.state)
        tokens, dollars = calls.taken(desk.events(), desk.acted)
        spent = {"tokens": desk.campaign.tokens + tokens, "dollars": round(desk.campaign.dollars + dollars, 6)}
        campaign = desk.campaign.model_copy(update=spent | result.campaign)
        before = dict(budget.near(self.config.budget, desk.campaign))
        for name, phrase in budget.near(self.config.budget, campaign):
            if name not in before:
                self.tell(f"budget: {phrase}")
        if state.stage is Stage.HUMAN_REVIEW and desk.state.iteration_id:
            desk.write(desk.paths.failure, conclusion.failure_report(desk, desk.state.stage, state.reason))
        why: dict[str, object] = {"outcome": result.outcome, "from": desk.state.stage, "reason": result.reason}
        if desk.state.iteration_id:
            why["log"] = self._snapshot(desk)
            self._show_backlog(desk, result)
        self.lab.transition(state, campaign, **why)
        if result.outcome in (Outcome.RETRY, Outcome.SEND_BACK, Outcome.ESCALATE):
            self.tell(f"  {result.outcome}: {result.reason}")

    def _snapshot(self, desk: Desk) -> str:
        """The iteration's files and reports (no raw trials, no logs) as a commit on refs/autolab/log, by plumbing."""
        files = [path for path in desk.paths.folder.rglob("*") if path.is_file() and _kept(path, desk.paths.folder)]
        reports = {line.data["path"] for line in desk.events() if line.event == "document_written"}
        files += [self.lab.root / path for path in reports if path.startswith(f"{preflight.REPORTS}/")]
        names = [str(path.relative_to(self.lab.root)) for path in files if path.is_file()]
        sha = self.lab.git.snapshot(LOG, self.lab.root, names, f"{desk.iteration_id} {desk.state.stage}")
        fault.point("log.after_snapshot")
        return sha

    def _show_backlog(self, desk: Desk, result: Result) -> None:
        """`.autolab/backlog.yaml`, a view of the newest hypotheses and experiments."""
        if not desk.paths.hypothesis.exists():
            return
        claim, old = desk.hypothesis(), self.lab.backlog()
        over = desk.state.stage is Stage.DECIDE_REPEAT and result.outcome is not Outcome.SUSPEND
        entry = BacklogHypothesis(
            id=claim.id,
            status="tested" if over and result.outcome is not Outcome.REFINE else "open",
            title=claim.title,
            success_metric=claim.metric,
            target_delta=claim.success_delta,
        )
        experiment = BacklogExperiment(
            id=desk.campaign.experiment_id or "",
            hypothesis_id=claim.id,
            status="done" if over else "in_progress",
            iteration_id=desk.iteration_id,
        )
        new = Backlog(
            hypotheses=(*[h for h in old.hypotheses if h.id != entry.id], entry)[-SHOWN:],
            experiments=(*[e for e in old.experiments if e.id != experiment.id], experiment)[-SHOWN:],
        )
        if new != old:
            self.lab.show_backlog(new)

    # the loop

    def loop(self, wish: Wish) -> End:
        """Go on until the wished iterations are done, or something else ends it."""
        if wish.target is not None:
            target.parse(wish.target, self.config)
        if (why := self._ended_unseen(wish)) is not None:
            self.tell(f"loop ended: {why}")
            return ended(self.lab.load()[0])
        state, campaign = self._begin(wish)
        self._loops = True
        while not waits(state.stage):
            loop = campaign.loop
            assert loop is not None
            if state.iteration_id is None and (why := _loop_over(loop, campaign)):
                return self._end(state, campaign, why)
            if self.stop() or not self.step():
                self.tell("parked; the same command goes on from here")
                return End.PARKED
            state, campaign = self.lab.load()
        if state.stage is Stage.HUMAN_REVIEW:
            self.tell(f"waits for a person: {state.reason}")
            return End.PERSON
        self._end(state, campaign, state.reason)
        return ended(state)

    def _ended_unseen(self, wish: Wish) -> str | None:
        """Why the wished loop ended, where it was killed after it had ended and before the person heard of it."""
        line = self.lab.ledger.transition()
        if line is None or line.data.get("why") != "loop_ended" or not self.lab.killed.startswith("autolab loop"):
            return None
        loop = Loop.from_value(line.data["loop"], f"ledger.jsonl line {line.n}: loop")
        return str(line.data["reason"]) if wish.began(loop) else None

    def _begin(self, wish: Wish) -> tuple[State, Campaign]:
        """Take up the loop that a crash or a stop left open, or begin another one."""
        state, campaign = self.lab.load()
        if state.stage is Stage.HUMAN_REVIEW:
            return state, campaign
        open_loop = campaign.loop
        if open_loop is not None:
            if wish.began(open_loop):
                return state, campaign
        elif state.stage is Stage.STOP:
            if not wish.goal:
                raise LabError(f"the lab stopped ({state.reason}); {_way_on(state)}")
            state = state.model_copy(update={"stage": Stage.HYPOTHESIS, "iteration_id": None, "reason": ""})
        self._warn_uncommitted()
        under_way = 1 if state.iteration_id is not None else 0
        loop = Loop(
            max_iterations=wish.max_iterations,
            goal=wish.goal,
            target=wish.target,
            patience=wish.patience,
            first_iteration=campaign.iterations - under_way,
        )
        state = self._with_limits(state)
        campaign = campaign.model_copy(update={"loop": loop})
        log = self.lab.last_log()
        self.lab.transition(state, campaign, why="loop_started", n=wish.max_iterations, **log)
        return state, campaign

    def _with_limits(self, state: State) -> State:
        limits = self.config.attempts
        update = {"max_stage_attempts": limits.stage, "max_bounces": limits.bounces}
        return state.model_copy(update=update | {"max_total_iterations": self.config.budget.iterations})

    def _end(self, state: State, campaign: Campaign, why: str) -> End:
        assert campaign.loop is not None
        closed = campaign.model_copy(update={"loop": None})
        self.lab.transition(state, closed, why="loop_ended", reason=why, loop=campaign.loop.value())
        self.tell(f"loop ended: {why}")
        return End.DONE

    def _warn_uncommitted(self) -> None:
        aside = (".autolab/", *self.config.files.human)  # read from the checkout, committed or not
        found = [path for path in self.lab.git.dirty() if not preflight.engine_owned(path, self.config)]
        dirty = [path for path in found if not path.startswith(aside)]
        if dirty:
            more = f" and {len(dirty) - 1} more" if len(dirty) > 1 else ""
            self.tell(f"note: {dirty[0]}{more} is not committed, so experiments do not see it")


def in_force(lab: Lab, config: Config, tell: Callable[[str], None]) -> Config:
    """The configuration as it can be acted on, or a RecordError that says why it cannot."""
    preflight.refuse_unbuilt(config)
    rig.refuse_reads(lab, config)
    settled, lower = containment.settle(config, lab.store)
    if lower:
        tell(lower)
    return settled


def base_of(lab: Lab, config: Config, campaign: Campaign, tell: Callable[[str], None]) -> tuple[str, str]:
    """What the next candidate branches from, and the commit of the lab's branch now."""
    base, home, said = champion.base(lab, campaign, lambda path: preflight.engine_owned(path, config))
    for line in (said, champion.show(lab, campaign)):
        if line:
            tell(line)
    return base, home


def ended(state: State) -> End:
    """How a command ends that has left the lab in `state`."""
    if state.stage is Stage.HUMAN_REVIEW:
        return End.PERSON
    return End.BUDGET if state.stage is Stage.STOP and state.reason.startswith("budget") else End.DONE


def review(lab: Lab, answer: str, tell: Callable[[str], None]) -> State:
    """A person's answer to a lab that waits: approve, retry or stop."""
    state, campaign = lab.load()
    if answer == "approve":
        _sign(lab, state, campaign)
    try:
        after = resume(state, answer)
    except ValueError as error:
        raise LabError(f"review {answer}: {error}") from None
    line = lab.ledger.transition()
    log = {"log": line.data["log"]} if line and "log" in line.data else {}
    if after.stage is Stage.STOP:
        campaign = campaign.model_copy(update={"loop": None})
    lab.transition(after, campaign, why=f"review {answer}", **log)
    tell(f"{state.stage} -> {after.stage}")
    return after


def waiting_for_user(lab: Lab, named: str | None) -> list[str]:
    """What waits for a person, a line a fact: the lab itself, and candidates that were set aside; reads only.

    With `named` that candidate alone; LabError if it does not wait.
    """
    state, campaign = lab.load()
    if named is not None:
        name = quarantine.find(lab, campaign, named).iteration_id
        campaign = campaign.model_copy(update={"suspicious": (name,), "approved": ()})
    asks = named is None and state.stage is Stage.HUMAN_REVIEW
    rows = [f"the lab waits at {state.from_stage}: {state.reason}; {_way_on(state)}"] if asks else []
    return [*rows, *quarantine.text(lab, campaign)] or ["nothing waits for you"]


def review_suspicious(lab: Lab, config: Config, answer: str, named: str, tell: Callable[[str], None]) -> None:
    """A person's answer to a candidate that was set aside: approve or stop.

    LabError: none is named so, or it cannot be taken as it was tested.
    """
    state, campaign = lab.load()
    one = quarantine.find(lab, campaign, named)
    if answer == "stop":
        quarantine.reject(lab, campaign, one)
        tell(f"{one.iteration_id} is rejected; its code stays on its branch")
        return
    if state.iteration_id is not None:
        quarantine.postpone(lab, campaign, one)
        tell(f"{one.iteration_id} is approved; it becomes champion when {state.iteration_id}, now under way, is over")
        return
    why_not = quarantine.take(lab, campaign, one, base_of(lab, config, campaign, tell)[0])
    if why_not:
        raise LabError(f"review approve: {why_not}")
    tell(f"kept by your word: autolab/champion is {one.candidate.commit[:12]} of {one.iteration_id}")


def take_approved(lab: Lab, config: Config, campaign: Campaign, tell: Callable[[str], None]) -> Campaign:
    """Between iterations: what was approved during the last one becomes champion, or is said to need another test."""
    for name in campaign.approved:
        one = quarantine.find(lab, campaign, name)
        why_not = quarantine.take(lab, campaign, one, base_of(lab, config, campaign, tell)[0])
        kept = f"kept by your word: autolab/champion is {one.candidate.commit[:12]} of {name}"
        tell(f"note: {why_not}" if why_not else kept)
        campaign = lab.load()[1]
    return campaign


def _sign(lab: Lab, state: State, campaign: Campaign) -> None:
    """A pass signed by the person, only where the required checks passed on the candidate's commit."""
    if state.iteration_id is None or state.stage is not Stage.HUMAN_REVIEW:
        raise LabError(f"review approve: nothing waits for a person: the lab is at {state.stage}")
    path = lab.iteration(state.iteration_id).review_result
    events = list(lab.ledger.lines(campaign.iteration_offset))
    try:
        review = candidate.recorded_review(path, str(path.relative_to(lab.root)), events)
    except RecordError as error:
        raise LabError(f"review approve: {error}; `autolab review retry` has it reviewed again") from None
    if review.commit not in [line.data["commit"] for line in events if line.event == "candidate"][-1:]:
        raise LabError("review approve: the review is of an older candidate; `autolab review retry` has it reviewed")
    failed = [name for name, value in review.required_checks.items() if value == "fail"]
    if failed or not review.required_checks:
        what = f"failed: {', '.join(failed)}" if failed else "were not run"
        raise LabError(f"review approve: required checks {what}; `autolab review retry` sends it back to be mended")
    signed = review.model_copy(update={"status": "pass", "reviewer": "person", "reviewed_at": durable.utc_now()})
    over = [finding if isinstance(finding, str) else finding.message for finding in review.blocking_findings]
    sha = durable.sha256(signed.to_json())
    lab.ledger.append("approved", {"commit": review.commit, "over": over, "sha256": sha})
    durable.write(path, signed.to_json())


def _again(desk: Desk, result: Result) -> Result:
    """The result, or a person's turn where the same error has come back too often since one was asked."""
    if result.outcome not in (Outcome.RETRY, Outcome.SEND_BACK):
        return result
    told = [line.data for line in desk.events() if line.event == "transition"]
    asked = max((n for n, data in enumerate(told) if str(data.get("why", "")).startswith("review")), default=-1)
    ways = (Outcome.RETRY, Outcome.SEND_BACK)
    same = [data for data in told[asked + 1 :] if data.get("outcome") in ways and data["from"] == desk.state.stage]
    times = 1 + sum(_gist(str(data["reason"])) == _gist(result.reason) for data in same)
    if times < desk.config.attempts.same_error:
        return result
    return replace(result, outcome=Outcome.ESCALATE, reason=f"the same error {times} times: {result.reason}")


def _gist(reason: str) -> str:
    """An error without what differs from one time to the next: numbers, hashes, letters' case."""
    return re.sub(r"[0-9a-f]{7,}|\d+", "#", reason.lower())


def _loop_over(loop: Loop, campaign: Campaign) -> str:
    done = campaign.iterations - loop.first_iteration
    if done >= loop.max_iterations:
        return f"{done} of {loop.max_iterations} iterations done"
    if loop.patience is not None and loop.since_gain >= loop.patience:
        return f"no gain in {loop.since_gain} iterations (patience {loop.patience})"
    return ""


def _way_on(state: State) -> str:
    if state.stage is Stage.HUMAN_REVIEW:
        return "answer with `autolab review approve|retry|stop`"
    return "go on with `autolab loop --goal ... --max-iterations N` or `autolab review retry`"


def _kept(path: Path, folder: Path) -> bool:
    """Whether a file belongs into the record: specs, manifests, aggregates, analysis; no raw trials, no logs."""
    parts = path.relative_to(folder).parts
    return not ({"trials", "logs"} & set(parts[:-1])) and not path.name.startswith(".") and not path.is_symlink()

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

from autolab.errors import BudgetSpent, LabError, Paused
from autolab.lab import budget, crash_points
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Backlog, BacklogExperiment, BacklogHypothesis, Campaign, Loop, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.outcomes import Stage
from autolab.loop import (
    calls,
    decision,
    design,
    document,
    failure,
    hypothesis,
    implementation,
    launch,
    preflight,
    results,
)
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.review import run
from autolab.loop.stages import StageOutcome, advance, waits
from autolab.loop.user_review import base_of, take_approved, way_on
from autolab.researchers.base import Researcher
from autolab.stats.target import parse
from autolab.trials import calibration, containment, inputs, leak_checks, reproduce
from autolab.trials.progress import View

LOG = "refs/autolab/log"
SHOWN = 100
"""Hypotheses and experiments that the backlog view lists; the ledger has them all."""

HANDLERS: dict[Stage, Callable[[Iteration], StageResult | None]] = {
    Stage.HYPOTHESIS: hypothesis.run,
    Stage.DESIGN: design.run,
    Stage.IMPLEMENTATION: implementation.run,
    Stage.IMPLEMENTATION_REVIEW: run,
    Stage.LAUNCH: launch.run,
    Stage.EXTRACT_RESULTS: results.run,
    Stage.UPDATE_DOCS: document.run,
    Stage.DECIDE_REPEAT: decision.run,
}


class End(StrEnum):
    """How a command that drives the loop ended; each has its exit code."""

    DONE = "done"
    PAUSED = "paused"
    USER = "user"
    BUDGET = "budget"


@dataclass(frozen=True)
class LoopRequest:
    """What a user asks of one `autolab loop`."""

    max_iterations: int
    goal: str = ""
    target: str | None = None
    patience: int | None = None

    def began(self, loop: Loop) -> bool:
        asked = (self.max_iterations, self.goal, self.target, self.patience)
        return asked == (loop.max_iterations, loop.goal, loop.target, loop.patience)


class Engine:
    """Works on a lab whose lock the caller holds. `tell` is where a user sees what it does."""

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
        self._researcher, self._reviewer = minds or preflight.load_researchers(config)
        self._ground = preflight.Conditions(lab, self.config, (self._researcher, self._reviewer))
        preflight.require(preflight.START, self._ground)
        for researcher in dict.fromkeys((self._researcher, self._reviewer)):
            for note in researcher.notes:
                tell(f"note: {note}")

    # one step

    def step(self) -> bool:
        """One stage transition; False if the user asked to stop before there was one."""
        state, campaign = self.lab.load()
        if waits(state.stage):
            raise LabError(f"the lab is at {state.stage}: {state.reason or 'nothing to do'}; {way_on(state)}")
        if state.iteration_id is None:
            campaign = take_approved(self.lab, self.config, campaign, self.tell)
            spent = budget.spent(self.config.budget, campaign)
            if spent:
                self._move(self._desk(), StageResult(StageOutcome.STOP, f"budget: {spent}"))
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
        document.write_documents(self.lab, desk.campaign, self.tell)
        began = time.monotonic()
        self.tell.stage(desk.state, desk.campaign, desk.title)
        try:
            result = HANDLERS[desk.state.stage](desk)
        except BudgetSpent as error:
            result = StageResult(StageOutcome.SUSPEND, f"budget: {error}")
        except Paused:
            return False
        if result is None:
            return False
        seconds = round(desk.campaign.seconds + time.monotonic() - began, 3)
        self._move(desk, replace(result, campaign={"seconds": seconds} | result.campaign))
        state, campaign = self.lab.load()
        if state.iteration_id is None:
            take_approved(self.lab, self.config, campaign, self.tell)
        document.write_documents(self.lab, self.lab.load()[1], self.tell)
        return True

    def _desk(self) -> Iteration:
        line = self.lab.ledger.transition()
        assert line is not None
        state, campaign = self.lab.load()
        return Iteration(
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
        """Whether the lab is calibrated as it stands; a loop does it first. False if the user asked to stop.

        LabError: it is not, or nothing can be resolved in it.
        """
        preflight.require(preflight.TRIALS, self._ground)
        protocol = inputs.set_up(self.lab, self.config, base, base).protocol
        found = calibration.current_calibration(self.lab)
        if self._loops and (found is None or found.refused or not calibration.holds(found, self.config, protocol)):
            if found is not None and found.protocol != protocol:
                self.tell("a new protocol: evaluator, data, metric or environment changed; nothing is compared across")
            found = calibration.calibrate(self.lab, self.config, base, self.tell, self.stop)
            if found is None:
                return False
        calibration.require(found, self.config, protocol)
        return not self._loops or reproduce.renew(self.lab, self.config, base, protocol, self.tell, self.stop)

    # transitions

    def _move(self, desk: Iteration, result: StageResult) -> None:
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
            desk.write(desk.paths.failure, failure.failure_report(desk, desk.state.stage, state.reason))
        why: dict[str, object] = {"outcome": result.outcome, "from": desk.state.stage, "reason": result.reason}
        if desk.state.iteration_id:
            why["log"] = self._snapshot(desk)
            self._show_backlog(desk, result)
        self.lab.transition(state, campaign, **why)
        if result.outcome in (StageOutcome.RETRY, StageOutcome.SEND_BACK, StageOutcome.ESCALATE):
            self.tell(f"  {result.outcome}: {result.reason}")

    def _snapshot(self, desk: Iteration) -> str:
        """The iteration's files and reports (no raw trials, no logs) as a commit on refs/autolab/log, by plumbing."""
        files = [path for path in desk.paths.folder.rglob("*") if path.is_file() and _kept(path, desk.paths.folder)]
        reports = {line.data["path"] for line in desk.events() if line.event == "document_written"}
        files += [self.lab.root / path for path in reports if path.startswith(f"{preflight.REPORTS}/")]
        names = [str(path.relative_to(self.lab.root)) for path in files if path.is_file()]
        sha = self.lab.git.snapshot(LOG, self.lab.root, names, f"{desk.iteration_id} {desk.state.stage}")
        crash_points.point("log.after_snapshot")
        return sha

    def _show_backlog(self, desk: Iteration, result: StageResult) -> None:
        """`.autolab/backlog.yaml`, a view of the newest hypotheses and experiments."""
        if not desk.paths.hypothesis.exists():
            return
        claim, old = desk.hypothesis(), self.lab.backlog()
        over = desk.state.stage is Stage.DECIDE_REPEAT and result.outcome is not StageOutcome.SUSPEND
        entry = BacklogHypothesis(
            id=claim.id,
            status="tested" if over and result.outcome is not StageOutcome.REFINE else "open",
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

    def loop(self, wish: LoopRequest) -> End:
        """Go on until the wished iterations are done, or something else ends it."""
        if wish.target is not None:
            parse(wish.target, self.config)
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
                self.tell("paused; the same command goes on from here")
                return End.PAUSED
            state, campaign = self.lab.load()
        if state.stage is Stage.HUMAN_REVIEW:
            self.tell(f"waits for a user: {state.reason}")
            return End.USER
        self._end(state, campaign, state.reason)
        return ended(state)

    def _ended_unseen(self, wish: LoopRequest) -> str | None:
        """Why the wished loop ended, where it was killed after it had ended and before the user heard of it."""
        line = self.lab.ledger.transition()
        if line is None or line.data.get("why") != "loop_ended" or not self.lab.killed.startswith("autolab loop"):
            return None
        loop = Loop.from_value(line.data["loop"], f"ledger.jsonl line {line.n}: loop")
        return str(line.data["reason"]) if wish.began(loop) else None

    def _begin(self, wish: LoopRequest) -> tuple[State, Campaign]:
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
                raise LabError(f"the lab stopped ({state.reason}); {way_on(state)}")
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
    leak_checks.refuse_reads(lab, config)
    settled, lower = containment.settle(config, lab.store)
    if lower:
        tell(lower)
    return settled


def ended(state: State) -> End:
    """How a command ends that has left the lab in `state`."""
    if state.stage is Stage.HUMAN_REVIEW:
        return End.USER
    return End.BUDGET if state.stage is Stage.STOP and state.reason.startswith("budget") else End.DONE


def _again(desk: Iteration, result: StageResult) -> StageResult:
    """The result, or a user's turn where the same error has come back too often since one was asked."""
    if result.outcome not in (StageOutcome.RETRY, StageOutcome.SEND_BACK):
        return result
    told = [line.data for line in desk.events() if line.event == "transition"]
    asked = max((n for n, data in enumerate(told) if str(data.get("why", "")).startswith("review")), default=-1)
    ways = (StageOutcome.RETRY, StageOutcome.SEND_BACK)
    same = [data for data in told[asked + 1 :] if data.get("outcome") in ways and data["from"] == desk.state.stage]
    times = 1 + sum(_gist(str(data["reason"])) == _gist(result.reason) for data in same)
    if times < desk.config.attempts.same_error:
        return result
    return replace(result, outcome=StageOutcome.ESCALATE, reason=f"the same error {times} times: {result.reason}")


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


def _kept(path: Path, folder: Path) -> bool:
    """Whether a file belongs into the record: specs, manifests, aggregates, analysis; no raw trials, no logs."""
    parts = path.relative_to(folder).parts
    return not ({"trials", "logs"} & set(parts[:-1])) and not path.name.startswith(".") and not path.is_symlink()

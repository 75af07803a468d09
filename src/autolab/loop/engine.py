"""One step, and the loop of steps: read the state, do what the stage does, make the next state durable.

The engine holds nothing in memory that the ledger does not hold too. It may be killed between any two lines: the next
engine reads the newest transition and does that stage again, and finds what was done already.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from autolab.errors import BudgetSpent, LabError, Paused
from autolab.lab import budget
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign, Exploration, Loop, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Cause, Transition
from autolab.lab.schemas.experiment import Calibration
from autolab.lab.schemas.outcomes import Gear, Stage
from autolab.lab.schemas.plans import Entry
from autolab.loop import (
    batch_ideas,
    batch_stages,
    calls,
    claiming,
    decision,
    design,
    document,
    exploring,
    failure,
    hypothesis,
    implementation,
    launch,
    preflight,
    results,
    review,
    snapshot,
)
from autolab.loop.clock import LoopClock
from autolab.loop.deadline import Deadline
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.opening import adopt, base_of, open_iteration, with_limits
from autolab.loop.proposal_inbox import waiting_proposals
from autolab.loop.proposals import next_proposal, require_contained, without_repair
from autolab.loop.request import Requests
from autolab.loop.stages import StageOutcome, advance, waits
from autolab.loop.user_review import take_approved, way_on
from autolab.researchers.base import Researcher
from autolab.stats.target import parse
from autolab.trials import calibration, reproduce
from autolab.trials.lab_inputs import inputs_of
from autolab.trials.progress import View

FAILURES = (StageOutcome.RETRY, StageOutcome.SEND_BACK)
"""Outcomes after which the loop tries again by itself."""


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
        """Whether `loop` was begun by this request, so that the same command goes on with it."""
        request = (self.max_iterations, self.goal, self.target, self.patience)
        return request == (loop.max_iterations, loop.goal, loop.target, loop.patience)


class Engine:
    """Works on a lab whose lock the caller holds. `tell` is where a user sees what it does."""

    def __init__(
        self,
        lab: Lab,
        config: Config,
        tell: View,
        stop: Callable[[], bool],
        researchers: tuple[Researcher, Researcher] | None = None,
        clock: LoopClock | None = None,
    ) -> None:
        """`researchers` replace the configured researcher and reviewer. AutolabError: a precondition does not hold."""
        self.lab = lab
        self._requested = config
        self._as_written = preflight.in_force(lab, config, tell)
        self._settle(calibration.current_calibration(lab))
        self.tell = tell
        self.stop = stop
        self._clock = clock or LoopClock()
        self._loops = False
        self._ending = ""
        self._told_gains = False
        pair = researchers or preflight.load_researchers(config)
        self._researcher, self._reviewer = pair
        self._conditions = preflight.Conditions(lab, self.config, pair)
        preflight.require(preflight.START, self._conditions)
        # Once each: one researcher may have both roles.
        for researcher in dict.fromkeys(pair):
            for note in researcher.notes:
                tell(f"note: {note}")

    # One step

    def step(self) -> bool:
        """One stage transition; False if the user asked to stop before there was one."""
        state, campaign = self.lab.load()
        if waits(state.stage):
            raise LabError(f"the lab is at {state.stage}: {state.reason or 'nothing to do'}; {way_on(state)}")
        if state.iteration_id is None:
            ended = self._begin_next(state)
            if ended is not None:
                return ended
        calibration.require_difference(self.config)
        iteration = Iteration.read(self.lab, self.config)
        require_contained(iteration, self._requested)
        if iteration.state.stage is Stage.LAUNCH:
            if not self._calibrated(iteration.base_commit):
                return False
            # Once more: a calibration counts its trials in the campaign.
            iteration = Iteration.read(self.lab, self.config)
        # What a crash left undone, and what a user cleaned away, before anything new is done.
        iteration.restore(self.tell)
        adopt(iteration)
        document.write_documents(self.lab, iteration.campaign, self.tell)
        began = self._clock.monotonic()
        self.tell.stage(iteration.state, iteration.campaign, iteration.title)
        try:
            result = self._do(iteration)
        except BudgetSpent as error:
            result = StageResult(StageOutcome.SUSPEND, f"budget: {error}")
        except Paused:
            return False
        if result is None:
            return False
        result = claiming.without_repair(iteration, without_repair(iteration, result))
        # The time of a step that was killed is lost: only a transition counts it.
        seconds = round(iteration.campaign.seconds + self._clock.monotonic() - began, 3)
        update = {"seconds": seconds} | result.campaign
        self._move(iteration, replace(result, campaign=update))
        state, campaign = self.lab.load()
        if state.iteration_id is None:
            campaign = take_approved(self.lab, self.config, campaign, self.tell)
        document.write_documents(self.lab, campaign, self.tell)
        return True

    def _begin_next(self, state: State) -> bool | None:
        """Open the next iteration; None if it is open.

        Else what the step returns: True, as the lab has stopped, or False if the user asked to stop.
        """
        # First, because the next iteration branches from the champion.
        campaign = take_approved(self.lab, self.config, self.lab.load()[1], self.tell)
        cap = budget.spent(self.config.budget, campaign)
        explores = self._explores(state)
        if cap and not explores:
            return self._stop_at(f"budget: {cap}")
        # Before anybody is asked: no reply is paid for in a lab that can resolve nothing.
        if (self._loops or explores) and not cap:
            base, _ = base_of(self.lab, self.config, campaign, self.tell)
            if not self._calibrated(base):
                return False
        # Where no loop has calibrated, the user is told to before anything is asked: every claim names it.
        calibration.require_difference(self.config)
        if not explores:
            self.open()
            return None
        reason = self._open_next(self._ending or (f"budget: {cap}" if cap else ""))
        return self._stop_at(reason) if reason else None

    def _stop_at(self, reason: str) -> bool:
        self._move(Iteration.read(self.lab, self.config), StageResult(StageOutcome.STOP, reason))
        return True

    def _do(self, iteration: Iteration) -> StageResult | None:
        """The work of the present stage; None if the user asked to stop before there was a result."""
        view = self.tell
        deadline = Deadline.of_step(self.config.budget.wall_hours, iteration.campaign.seconds, self._clock)
        requests = Requests(self._researcher, self._reviewer, view, self.stop, deadline)
        step = launch.LaunchStep(iteration, view, self.stop, deadline)
        if iteration.campaign.gear is Gear.SCREEN:
            return self._do_in_batch(iteration, requests, step)
        is_claim = iteration.campaign.gear is Gear.CLAIM
        match iteration.state.stage:
            case Stage.HYPOTHESIS:
                return hypothesis.run(iteration, requests, view)
            case Stage.DESIGN:
                return design.run(iteration, requests, view)
            case Stage.IMPLEMENTATION:
                return implementation.run(iteration, requests, view)
            case Stage.IMPLEMENTATION_REVIEW:
                return review.run(iteration, requests, view)
            case Stage.LAUNCH:
                return claiming.measure(step) if is_claim else launch.run(step)
            case Stage.EXTRACT_RESULTS:
                return results.run(iteration, view)
            case Stage.UPDATE_DOCS:
                return claiming.write_documents(iteration) if is_claim else document.run(iteration, requests)
            case Stage.DECIDE_REPEAT:
                return claiming.decide(iteration, view) if is_claim else decision.run(iteration, requests, view)
            case Stage.HUMAN_REVIEW | Stage.STOP:
                raise LabError(f"the lab is at {iteration.state.stage}: nothing is done there")

    def _do_in_batch(self, iteration: Iteration, requests: Requests, step: launch.LaunchStep) -> StageResult | None:
        """The same in an iteration that screens a batch of ideas."""
        view = self.tell
        match iteration.state.stage:
            case Stage.HYPOTHESIS:
                return batch_ideas.propose(iteration, requests, view)
            case Stage.DESIGN:
                return batch_stages.design(iteration)
            case Stage.IMPLEMENTATION:
                return batch_stages.implement(iteration, requests, view)
            case Stage.IMPLEMENTATION_REVIEW:
                return batch_stages.examine(iteration, requests, view)
            case Stage.LAUNCH:
                return batch_stages.measure(iteration, step)
            case Stage.EXTRACT_RESULTS:
                return batch_stages.extract(iteration, view)
            case Stage.UPDATE_DOCS:
                return batch_stages.document(iteration)
            case Stage.DECIDE_REPEAT:
                return batch_stages.decide(iteration, view)
            case Stage.HUMAN_REVIEW | Stage.STOP:
                raise LabError(f"the lab is at {iteration.state.stage}: nothing is done there")

    # Mode `explore`

    def _explores(self, state: State) -> bool:
        """Whether the next iteration is a batch or a claim: not a refinement, and not a proposal."""
        if self.config.test.mode != "explore" or state.stage is not Stage.HYPOTHESIS:
            return False
        return not waiting_proposals(self.lab, self.tell)

    def _next(self, ending: str) -> tuple[exploring.Next, exploring.Ground]:
        """What comes next, and on which ground. `ending`: why the loop is over; empty if it goes on."""
        lab, config = self.lab, self.config
        _, campaign = lab.load()
        # What there is to tell of it is told once, where the iteration begins.
        base, home = base_of(lab, config, campaign, lambda line: None)
        protocol = inputs_of(lab, config, base, base).protocol
        present = calibration.current_calibration(lab)
        ground = exploring.Ground(base, home, protocol)
        if present is None:
            return exploring.Next(None, reason=ending), ground
        exploration = exploring.standing(campaign, ground) or Exploration(base=base, protocol=protocol)
        claim = claiming.number_of(lab, config, campaign.claims, exploration)
        situation = exploring.Situation(
            config=config,
            campaign=campaign,
            ground=ground,
            calibration=present,
            concludes=self._researcher.concludes(config),
            alpha=claim.alpha,
            fewest=claiming.fewest_trials(config, claim),
            ending=ending,
        )
        return exploring.next_gear(situation), ground

    def _open_next(self, ending: str) -> str:
        """Open the batch or the claim that comes next; or say why there is none."""
        lab, config = self.lab, self.config
        following, ground = self._next(ending)
        exploration = following.exploration
        _, campaign = lab.load()
        self._tell_ended(campaign, ground)
        if following.gear is None or exploration is None:
            return following.reason or ending
        uncapped = campaign.uncapped + (following.gear is Gear.CLAIM or exploration.concluding)
        update: dict[str, object] = {"exploration": exploration, "uncapped": uncapped}
        if following.gear is Gear.CLAIM:
            update["claims_begun"] = campaign.claims_begun + 1
            entry = claiming.begin(lab, config, campaign, exploration)
            base = exploration.base
        else:
            if exploring.standing(campaign, ground) is None:
                present = calibration.current_calibration(lab)
                assert present is not None
                exploring.fix(lab, config, exploration, present, campaign.iteration_offset)
                exploring.show_working(lab, exploration, self.tell)
            number = campaign.batches + 1
            update["batches"] = number
            entry = Entry(stage=Stage.HYPOTHESIS, hypothesis_id=f"batch{number}", gear=Gear.SCREEN)
            base = exploration.working
        open_iteration(lab, config, entry, base, ground.home, campaign.model_copy(update=update))
        return ""

    def open(self, entry: Entry | None = None) -> str:
        """Begin an iteration and return its id; `step` goes on from the stage at which it enters.

        Without an entry it begins with the oldest proposal that waits, else where the last decision leads.
        """
        state, campaign = self.lab.load()
        base, home = base_of(self.lab, self.config, campaign, self.tell)
        if entry is None:
            requested = self._requested.model_copy(update={"metric": self.config.metric})
            entry = next_proposal(self.lab, requested, base, self.tell)
            if entry is not None and state.stage is Stage.DESIGN:
                self.tell(f"note: the refinement of {campaign.hypothesis_id} gives way to the proposal")
        if entry is None:
            entry = Entry.after(state, campaign)
        return open_iteration(self.lab, self.config, entry, base, home)

    # Calibration

    def _calibrated(self, base: str) -> bool:
        """Make sure that the lab is calibrated for `base`; a loop calibrates it. False if the user asked to stop.

        LabError: it is not calibrated, or nothing can be resolved in it.
        """
        preflight.require(preflight.TRIALS, self._conditions)
        lab, config = self.lab, self._as_written
        protocol = inputs_of(lab, config, base, base).protocol
        present = calibration.current_calibration(lab)
        stands = present is not None and not present.refused and calibration.holds(present, config, protocol)
        if self._loops and not stands:
            if present is not None and present.protocol != protocol:
                self.tell(
                    "a new protocol: evaluator, data, metric or environment changed; older results are not compared"
                    " with new ones"
                )
            present = calibration.calibrate(lab, config, base, self.tell, self.stop)
            if present is None:
                return False
        calibration.require(present, config, protocol)
        self._settle(present)
        # A single step measures nothing that it was not asked for.
        if not self._loops:
            return True
        assert present is not None  # required above
        self._tell_gains(present)
        return reproduce.renew(lab, self.config, base, protocol, self.tell, self.stop)

    def _settle(self, present: Calibration | None) -> None:
        """Act on the smallest difference that the calibration took, where config.yaml names none."""
        self.config = calibration.with_difference(self._as_written, present)

    def _tell_gains(self, present: Calibration) -> None:
        """Tell once what this lab can find."""
        if self._told_gains:
            return
        self._told_gains = True
        spent = self.lab.load()[1].trials
        difference = calibration.difference_in_words(present, self.config)
        for line in (difference, calibration.prospect(present, self.config, spent)):
            if line:
                self.tell(line)

    # Transitions

    def _move(self, iteration: Iteration, result: StageResult) -> None:
        """Make the next state durable: the iteration's files first, then the one line that counts."""
        state = iteration.state
        in_iteration = state.iteration_id is not None
        if in_iteration:
            iteration.restore(self.tell)
        result = _limit_repeats(iteration, self.config.attempts.same_error, result)
        new_state = advance(state, result.outcome, result.reason)
        new_state = new_state.model_copy(update=result.state)
        campaign = self._charge_calls(iteration)
        campaign = campaign.model_copy(update=result.campaign)
        self._warn_of_caps(iteration.campaign, campaign)
        cause: Cause = {"outcome": result.outcome.value, "from_stage": state.stage, "reason": result.reason}
        if in_iteration:
            if new_state.stage is Stage.HUMAN_REVIEW:
                report = failure.failure_report(iteration, state.stage, new_state.reason)
                iteration.write(iteration.paths.failure, report)
            # The commit before the line that names it: after a crash between the two it is the same commit.
            cause["log"] = snapshot.snapshot(iteration)
            snapshot.show_backlog(iteration, result.outcome)
        self.lab.transition(new_state, campaign, **cause)
        if result.outcome in (*FAILURES, StageOutcome.ESCALATE, StageOutcome.SET_ASIDE):
            self.tell(f"  {result.outcome}: {result.reason}")

    def _charge_calls(self, iteration: Iteration) -> Campaign:
        """The campaign with the cost of the paid calls since the last stage's outcome."""
        campaign = iteration.campaign
        tokens, dollars = calls.calls_cost(iteration.events(), iteration.acted)
        update = {"tokens": campaign.tokens + tokens, "dollars": round(campaign.dollars + dollars, 6)}
        return campaign.model_copy(update=update)

    def _warn_of_caps(self, before: Campaign, after: Campaign) -> None:
        """Tell once of each cap of the budget that this step brought near."""
        caps = self.config.budget
        near_before = dict(budget.near(caps, before))
        for name, phrase in budget.near(caps, after):
            if name not in near_before:
                self.tell(f"budget: {phrase}")

    # The loop

    def loop(self, request: LoopRequest) -> End:
        """Go on until the requested iterations are done, or something else ends the loop."""
        if request.target is not None:
            parse(request.target, self.config)
        unseen = self._ended_unseen(request)
        if unseen is not None:
            self.tell(f"loop ended: {unseen}")
            return ended(self.lab.load()[0])
        state, campaign = self._begin(request)
        self._loops = True
        while not waits(state.stage):
            # Only between two iterations: one that has begun is brought to its decision.
            if state.iteration_id is None:
                self._ending = _loop_over(campaign)
                if self._ending and not self._has_to_claim(state):
                    unpaid = exploring.unpaid(campaign)
                    if not unpaid:
                        return self._end(state, campaign, self._ending)
                    # Its last batch was short of ideas or had none: more iterations are not the way on.
                    self._stop_at(unpaid)
                    break
            if self.stop() or not self.step():
                self.tell("paused; the same command goes on from here")
                return End.PAUSED
            state, campaign = self.lab.load()
        state, campaign = self.lab.load()
        if state.stage is Stage.HUMAN_REVIEW:
            self.tell(f"waits for a user: {state.reason}; {way_on(state)}")
            return End.USER
        self._end(state, campaign, state.reason)
        return ended(state)

    def _has_to_claim(self, state: State) -> bool:
        """Whether a loop that is over has provisional steps to claim first. Tells of steps that cannot be claimed."""
        if not self._explores(state):
            return False
        following, ground = self._next(self._ending)
        if following.gear is None:
            self._tell_ended(self.lab.load()[1], ground)
        return following.gear is not None

    def _tell_ended(self, campaign: Campaign, ground: exploring.Ground) -> None:
        """Tell of provisional steps whose ground has moved."""
        note = exploring.ended(campaign, ground)
        if note:
            self.tell(note)

    def _ended_unseen(self, request: LoopRequest) -> str | None:
        """Why the requested loop ended, if it was killed after its end and before the user heard of it."""
        line = self.lab.ledger.transition()
        if line is None or not self.lab.killed.startswith("autolab loop"):
            return None
        newest = events.read(line, Transition)
        if newest.why != "loop_ended" or newest.loop is None:
            return None
        if not request.began(newest.loop):
            return None
        return newest.reason

    def _begin(self, request: LoopRequest) -> tuple[State, Campaign]:
        """Take up the loop that a crash or a stop left open, or begin another one. LabError: the lab has stopped."""
        state, campaign = self.lab.load()
        if state.stage is Stage.HUMAN_REVIEW:
            return state, campaign
        # The same command after a crash goes on with its count, and does not begin another one.
        if campaign.loop is not None and request.began(campaign.loop):
            return state, campaign
        if campaign.loop is None and state.stage is Stage.STOP:
            if not request.goal:
                raise LabError(f"the lab stopped ({state.reason}); {way_on(state)}")
            state = state.model_copy(update={"stage": Stage.HYPOTHESIS, "iteration_id": None, "reason": ""})
        self._warn_uncommitted()
        first_iteration = campaign.counted
        # The iteration under way, which an earlier loop or `step` has opened, is the first of this loop's.
        if state.iteration_id is not None and campaign.gear is not Gear.CLAIM:
            first_iteration -= 1
        loop = Loop(
            max_iterations=request.max_iterations,
            goal=request.goal,
            target=request.target,
            patience=request.patience,
            first_iteration=first_iteration,
        )
        state = with_limits(state, self.config)
        campaign = campaign.model_copy(update={"loop": loop, "exploration": exploring.asked_anew(campaign.exploration)})
        self.lab.transition(state, campaign, why="loop_started", n=request.max_iterations, log=self.lab.last_log())
        return state, campaign

    def _end(self, state: State, campaign: Campaign, why: str) -> End:
        assert campaign.loop is not None
        closed = campaign.model_copy(update={"loop": None})
        self.lab.transition(state, closed, why="loop_ended", reason=why, loop=campaign.loop)
        self.tell(f"loop ended: {why}")
        return End.DONE

    def _warn_uncommitted(self) -> None:
        """Tell of uncommitted code: experiments branch from commits, so they do not see it."""
        read_from_checkout = (".autolab/", *self.config.files.human)
        code = []
        for path in self.lab.git.dirty():
            if not preflight.engine_owned(path, self.config) and not path.startswith(read_from_checkout):
                code.append(path)
        if not code:
            return
        names = code[0]
        if len(code) > 1:
            names = f"{names} and {len(code) - 1} more"
        self.tell(f"note: {names} is not committed, so experiments do not see it")


def ended(state: State) -> End:
    """How a command ends that has left the lab in `state`."""
    if state.stage is Stage.HUMAN_REVIEW:
        return End.USER
    if state.stage is Stage.STOP and state.reason.startswith("budget"):
        return End.BUDGET
    return End.DONE


def _limit_repeats(iteration: Iteration, allowed: int, result: StageResult) -> StageResult:
    """The result; or a user's turn, if the stage has failed `allowed` times by one error since the last answer."""
    if result.outcome not in FAILURES:
        return result
    times = 1
    stage, gist = iteration.state.stage, _gist(result.reason)
    for transition in iteration.recorded(Transition):
        # A user has looked at the earlier ones.
        if transition.why.startswith("review"):
            times = 1
        failed = transition.outcome in FAILURES and transition.from_stage is stage
        if failed and _gist(transition.reason) == gist:
            times += 1
    if times < allowed:
        return result
    return replace(result, outcome=StageOutcome.ESCALATE, reason=f"the same error {times} times: {result.reason}")


def _gist(reason: str) -> str:
    """An error without what differs from one time to the next: numbers, hashes, upper and lower case."""
    return re.sub(r"[0-9a-f]{7,}|\d+", "#", reason.lower())


def _loop_over(campaign: Campaign) -> str:
    """Why the loop is over between two iterations; empty if it goes on."""
    loop = campaign.loop
    assert loop is not None
    done = campaign.counted - loop.first_iteration
    if done >= loop.max_iterations:
        return f"{done} of {loop.max_iterations} iterations done"
    if loop.patience is not None and loop.since_gain >= loop.patience:
        return f"no gain in {loop.since_gain} iterations (patience {loop.patience})"
    return ""

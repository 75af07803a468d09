"""Mode `explore`: which gear comes next, and what the batches on one base have brought.

Screens are cheap and claim nothing; a claim is measured on fresh seeds and moves the champion. So that there is always
something left to claim with, a share of the budget is set aside before the first batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autolab.errors import GitError
from autolab.lab import budget, refs
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import STEPS, Campaign, CarriedIdea, Exploration, ProvisionalStep
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import ExplorationFixed
from autolab.lab.schemas.experiment import Calibration
from autolab.lab.schemas.outcomes import DropReason, Gear
from autolab.reports.screen_documents import ScreenedIdea
from autolab.stats import rules
from autolab.stats.reserve import reserve_trials
from autolab.stats.target import parse
from autolab.text import one_line

BASELINE_SEEDS = 4
"""Seeds of a batch's baseline where arms of one seed share little of its luck."""
LOW_CORRELATION = 0.3
"""Below this correlation of arms that share a seed they share little."""
TITLE = 120
"""Characters of an idea's title that the campaign remembers of a step."""
SHOWN_ALPHAS = 3
"""Claims whose error rates are written down beforehand; those of later ones follow the same formula."""


@dataclass(frozen=True)
class Ground:
    """What the next iteration stands on: what claims compare with, the newest commit of the branch, the protocol."""

    base: str
    home: str
    protocol: str


@dataclass(frozen=True)
class Next:
    """The gear of the next iteration with the exploration it belongs to; without a gear, why there is none."""

    gear: Gear | None
    exploration: Exploration | None = None
    reason: str = ""


@dataclass(frozen=True)
class Situation:
    """What the choice of a gear depends on.

    `ending` is why the loop is over, and empty if it goes on. `concludes`: see `Researcher.concludes`. `alpha` is the
    error rate of the next claim, and `fewest` the number of trials without which it cannot be decided.
    """

    config: Config
    campaign: Campaign
    ground: Ground
    calibration: Calibration
    concludes: bool
    alpha: float
    fewest: int
    ending: str = ""

    @property
    def trials_left(self) -> int | None:
        """Trials that the budget still allows; None: nothing caps them."""
        return budget.trials_left(self.config.budget, self.campaign, self.config.train.gpus, self.calibration.seconds)


def standing(campaign: Campaign, ground: Ground) -> Exploration | None:
    """The exploration, if it belongs to this ground: a user's commit, a retraction or a new protocol ends it."""
    exploration = campaign.exploration
    if exploration is None or (exploration.base, exploration.protocol) != (ground.base, ground.protocol):
        return None
    return exploration


def ended(campaign: Campaign, ground: Ground) -> str:
    """A line for the user if the ground has moved under unclaimed steps; empty if it has not."""
    exploration = campaign.exploration
    if exploration is None or not exploration.unclaimed or standing(campaign, ground) is not None:
        return ""
    why = "another commit stands now" if exploration.base != ground.base else "there is a new protocol"
    return f"{steps_text(exploration.unclaimed)} on {exploration.base[:12]} end unclaimed: {why}; their branches stay"


def steps_text(count: int) -> str:
    return f"{count} provisional step{'' if count == 1 else 's'}"


# which gear


def next_gear(situation: Situation) -> Next:
    """What comes next in mode `explore`: a batch, the batch that concludes a search, a claim, or nothing."""
    config, exploration = situation.config, standing(situation.campaign, situation.ground)
    if exploration is None:
        exploration = _begun(situation)
    if exploration.reserve is not None and exploration.reserve < situation.fewest:
        # A claim that failed makes the next one stricter.
        exploration = exploration.model_copy(update={"reserve": situation.fewest})
    left = situation.trials_left
    room = None if left is None else left - (exploration.reserve or 0)
    size = _size(config, room, exploration)
    over = situation.ending or exploration.exhausted
    if not over and size < 1:
        over = f"budget: trials: {left} left, {exploration.reserve} of them set aside for a claim"
    due = bool(over) or _is_due(situation, exploration)
    if due and exploration.waits_for_conclusion and exploration.since_claim and not exploration.concluded:
        update = {"size": 1, "concluding": True}
        return Next(Gear.SCREEN, exploration.model_copy(update=update))
    if due and exploration.unclaimed:
        fewest = situation.fewest
        if left is None or left >= fewest:
            return Next(Gear.CLAIM, exploration)
        over = (
            f"budget: trials: {left} left, a claim needs {fewest}: {steps_text(exploration.unclaimed)} stay unclaimed"
        )
    if over:
        return Next(None, exploration, over)
    update = {"size": size, "concluding": False, "concluded": False}
    return Next(Gear.SCREEN, exploration.model_copy(update=update))


def _begun(situation: Situation) -> Exploration:
    """An exploration of the ground that stands now, with what is set aside for its claim."""
    config, calibration = situation.config, situation.calibration
    bound = config.test.bound if config.test.bound is not None else calibration.bound
    return Exploration(
        base=situation.ground.base,
        protocol=situation.ground.protocol,
        reserve=_reserve(situation),
        waits_for_conclusion=situation.concludes,
        bound=bound,
    )


def _reserve(situation: Situation) -> int | None:
    """Trials to set aside for the next claim; None: no budget that it could lack."""
    config, left = situation.config, situation.trials_left
    if left is None:
        return None
    return reserve_trials(
        config.test.stopping_rule,
        delta=config.metric.difference,
        difference_deviation=situation.calibration.difference_deviation,
        alpha=situation.alpha,
        trials_left=left,
        share=config.screen.reserve,
    )


def baseline_seeds(config: Config, calibration: Calibration | None) -> int:
    """Seeds at which the baseline of a batch is measured: more than its arms where a seed's luck is not shared."""
    correlation = calibration.correlation if calibration else None
    if correlation is not None and correlation < LOW_CORRELATION:
        return max(config.screen.seeds, BASELINE_SEEDS)
    return config.screen.seeds


def _size(config: Config, room: int | None, exploration: Exploration) -> int:
    """Ideas of the next batch: as many as the configuration says and the budget has room for."""
    if room is None:
        return config.screen.arms
    # The batch that concludes needs its trial too, and a base that was not calibrated has its own to measure.
    others = config.screen.seeds * exploration.waits_for_conclusion
    if not exploration.batches:
        others += config.screen.seeds
    size = config.screen.arms
    while size > 0 and _cost(size, config.screen.seeds) + others > room:
        size -= 1
    return size


def _cost(size: int, seeds: int) -> int:
    """Trials of so many ideas, the better half of which gets another seed, and so on."""
    trials = 0
    for _ in range(seeds):
        trials += size
        size = max(1, -(-size // 2))
    return trials


def _is_due(situation: Situation, exploration: Exploration) -> bool:
    """Whether a claim is due before the loop is over."""
    config, calibration = situation.config, situation.calibration
    if exploration.claim_open:
        return True
    if config.screen.claim_every is not None and exploration.since_claim >= config.screen.claim_every:
        return True
    # After a failed claim the same promise is not enough.
    if exploration.failed_at is not None and exploration.predicted <= exploration.failed_at:
        return False
    if config.screen.claim_on_gain:
        sure = exploration.predicted - calibration.difference_deviation
        if sure > config.metric.difference:
            return True
    return _target_seems_reached(situation, exploration)


def _target_seems_reached(situation: Situation, exploration: Exploration) -> bool:
    loop, config = situation.campaign.loop, situation.config
    target = loop.target if loop is not None and loop.target else config.target
    if target is None or exploration.predicted <= 0:
        return False
    metric, sign, bound = parse(target, config)
    if metric != config.metric.primary:
        return False
    direction = 1 if config.metric.direction == "maximize" else -1
    predicted = _base_mean(situation) + direction * exploration.predicted
    return predicted >= bound if sign == ">=" else predicted <= bound


def _base_mean(situation: Situation) -> float:
    """The primary metric of the base: of a champion what its claim measured, else what the calibration did."""
    champions, primary = situation.campaign.champions, situation.config.metric.primary
    if champions and champions[-1].commit == situation.ground.base and primary in champions[-1].metrics:
        return champions[-1].metrics[primary]
    return situation.calibration.mean


# what is fixed before the first batch


def fix(lab: Lab, config: Config, exploration: Exploration, calibration: Calibration, since: int) -> None:
    """Write down what the exploration is judged by, once. To be called before its first batch is opened.

    `since`: where in the ledger the last iteration began.
    """
    alphas = [rules.claim_alpha_of(number, config.test.alpha) for number in range(1, SHOWN_ALPHAS + 1)]
    triggers = ["the loop's end", "the target seems reached"]
    if config.screen.claim_on_gain:
        triggers.append("the predicted gain exceeds success_delta by a standard error")
    if config.screen.claim_every is not None:
        triggers.append(f"every {config.screen.claim_every} batches")
    fixed = ExplorationFixed(
        champion=exploration.base,
        protocol=exploration.protocol,
        metric=config.metric.primary,
        success_delta=config.metric.difference,
        rule=config.test.stopping_rule.value(),
        alphas=tuple(alphas),
        bound=exploration.bound,
        reserve=exploration.reserve,
        arms=config.screen.arms,
        seeds=config.screen.seeds,
        margin=config.screen.margin,
        triggers=tuple(triggers),
    )
    # A crash may have come between this line and the first batch.
    if fixed not in events.events_of(lab.ledger.lines(since), ExplorationFixed):
        events.append(lab.ledger, fixed)


# what batches and claims make of it


def after_batch(
    exploration: Exploration,
    iteration_id: str,
    step: str | None,
    ideas: Sequence[ScreenedIdea],
    runners_up: Sequence[str],
) -> Exploration:
    """The exploration after a batch, of whose ideas the arm `step` is built upon."""
    steps, unclaimed, predicted = exploration.steps, exploration.unclaimed, exploration.predicted
    for idea in ideas:
        if idea.arm == step and idea.gain is not None and idea.commit is not None:
            new = ProvisionalStep(
                iteration_id=iteration_id,
                arm=idea.arm,
                commit=idea.commit,
                title=one_line(idea.title, TITLE),
                gain=idea.gain.mean,
                seeds=max(1, idea.n),
            )
            steps = (*steps, new)[-STEPS:]
            unclaimed += 1
            predicted = idea.gain.mean if exploration.waits_for_conclusion else predicted + idea.gain.mean
        elif exploration.waits_for_conclusion and idea.gain is not None:
            predicted = max(predicted, idea.gain.mean)
    carried = [CarriedIdea(iteration_id=iteration_id, arm=arm) for arm in runners_up]
    if exploration.concluding:
        carried = []
    update = {
        "steps": steps,
        "unclaimed": unclaimed,
        "predicted": predicted,
        "first": (*carried, *exploration.first)[:STEPS],
        "batches": exploration.batches + 1,
        "since_claim": exploration.since_claim + 1,
        "concluded": exploration.concluding,
        "concluding": False,
    }
    return exploration.model_copy(update=update)


def after_unpaid(exploration: Exploration, iteration_id: str, ideas: Sequence[ScreenedIdea]) -> Exploration:
    """The exploration after a batch: ideas that a budget left out come again, once there is more of it."""
    unpaid = [idea for idea in ideas if idea.reason == DropReason.BUDGET]
    if not unpaid:
        return exploration
    again = [CarriedIdea(iteration_id=iteration_id, arm=idea.arm) for idea in unpaid]
    # What the budget does not pay for now, it does not pay for in the next batch either.
    update = {"first": (*exploration.first, *again)[:STEPS], "exhausted": exploration.exhausted or unpaid[0].detail}
    return exploration.model_copy(update=update)


def after_failed_claim(exploration: Exploration) -> Exploration:
    """The exploration back at its base, with its steps as the first ideas of the next batches."""
    again = [CarriedIdea(iteration_id=step.iteration_id, arm=step.arm) for step in exploration.steps]
    # The best point of a whole search is no idea to begin a batch with.
    if exploration.waits_for_conclusion:
        again = []
    update = {
        "steps": (),
        "unclaimed": 0,
        "since_claim": 0,
        "claim_open": False,
        "first": (*again, *exploration.first)[:STEPS],
        "failed_at": exploration.predicted,
        "predicted": exploration.predicted if exploration.waits_for_conclusion else 0.0,
    }
    return exploration.model_copy(update=update)


def asked_anew(exploration: Exploration | None) -> Exploration | None:
    """The exploration in a new loop: a researcher that had no further idea may have been given some."""
    if exploration is None:
        return None
    return exploration.model_copy(update={"exhausted": ""})


def unpaid(campaign: Campaign) -> str:
    """The budget that left a batch short of ideas in this loop; empty if none did."""
    exhausted = campaign.exploration.exhausted if campaign.exploration is not None else ""
    return exhausted if exhausted.startswith("budget") else ""


def show_working(lab: Lab, exploration: Exploration, tell: Callable[[str], None]) -> None:
    """Put the branch `autolab/working` where the record says. A branch that is checked out stays, with a note."""
    present = lab.git.resolve(refs.WORKING)
    commit = exploration.working
    if present == commit or lab.git.resolve(commit) is None:
        return
    try:
        lab.git.update_ref(refs.WORKING, commit, present)
    except GitError as error:
        tell(f"note: {error}")

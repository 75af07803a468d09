"""Documents that change while a lab works: state, loop, champions, claims, campaign, backlog."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from autolab.lab.schemas.config import Attempts, Budget, Config, Count
from autolab.lab.schemas.outcomes import Gear, Stage
from autolab.lab.schemas.record import Record


class State(Record):
    """The stage that the lab is at: a copy of the state in the ledger's newest transition, which is what counts."""

    FILE: ClassVar[str] = ".autolab/state.json"

    iteration_id: str | None
    stage: Stage
    stage_attempt: Annotated[int, Field(ge=1)] = 1
    last_run_id: str | None = None
    sync_status: Literal["pending", "ok", "failed", "na"] = "na"
    max_stage_attempts: Annotated[int, Field(ge=1)] = Attempts().stage
    max_total_iterations: Count | None = Budget().iterations
    bounces: Count = 0
    max_bounces: Count = Attempts().bounces
    from_stage: Stage | None = None
    reason: str = ""

    @classmethod
    def first(cls, config: Config) -> State:
        """The state before the first iteration, with the limits of the configuration."""
        return cls(
            iteration_id=None,
            stage=Stage.HYPOTHESIS,
            max_stage_attempts=config.attempts.stage,
            max_bounces=config.attempts.bounces,
            max_total_iterations=config.budget.iterations,
        )


class Loop(Record):
    """An `autolab loop` that has started and not ended: what was requested, and how far it is."""

    max_iterations: Annotated[int, Field(ge=1)]
    goal: str
    target: str | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    first_iteration: Count
    since_gain: Count = 0


class Champion(Record):
    """A kept candidate. It was confirmed on fresh seeds against `parent`, the commit that it branched from."""

    iteration_id: str
    run_id: str
    """The confirmation."""
    commit: str
    parent: str
    protocol: str
    gain: float
    evaluation_only: bool = False
    """Claimed on the evaluation alone: the lab has no holdout."""
    metrics: dict[str, float]
    home_commit: str | None = None
    """The commit of the lab's branch that it was made from. What the user commits later is not in it."""


LINEAGE = 50
"""Number of champions that the campaign remembers. A retraction can go back that far."""


class ClaimedPair(Record):
    """A claim of mode `explore`: the trees of its base and of what was claimed, and its number in the protocol.

    The same two trees again continue it, with the `alpha` that it was given and the `pairs` that it has measured.
    """

    base_tree: str
    tree: str
    number: Annotated[int, Field(ge=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)]
    pairs: Count = 0


class Claims(Record):
    """The number of a campaign's confirmations, and of the questions to the holdout of a protocol.

    `alpha` is the sum of the confirmations' error rates: at most so many kept candidates are expected to be false.
    """

    confirmations: Count = 0
    kept: Count = 0
    alpha: float = 0.0
    protocol: str = ""
    questions: Count = 0
    alphas: tuple[ClaimedPair, ...] = ()
    """The claims of mode `explore` in this protocol, with the error rate that each was given, newest last."""

    @property
    def false_share(self) -> float | None:
        """An upper bound on the expected share of false candidates among the kept; None if none was kept."""
        if not self.kept:
            return None
        return min(1.0, self.alpha / self.kept)


class ProvisionalStep(Record):
    """A screened idea that later ideas are built upon. `gain` is its single measurement, in the metric's units."""

    iteration_id: str
    arm: str
    commit: str
    title: str
    gain: float
    seeds: Annotated[int, Field(ge=1)]


class CarriedIdea(Record):
    """An idea of an earlier batch that comes first in the next: its batch and its arm."""

    iteration_id: str
    arm: str


STEPS = 20
"""Number of provisional steps, and of ideas that come first, that the campaign remembers."""


class Exploration(Record):
    """What the screens on one base have brought. Nothing of it is claimed.

    `base` is the commit that a claim compares with. It ends when a claim is kept, the user commits code, the champion
    is retracted or the protocol changes. `reserve` is in trials; None: no budget that a claim could lack.
    """

    base: str
    protocol: str
    reserve: Count | None = None
    steps: tuple[ProvisionalStep, ...] = ()
    """The newest `STEPS`, oldest first."""
    unclaimed: Count = 0
    """All steps since `base`."""
    first: tuple[CarriedIdea, ...] = ()
    """Ideas that come first in the next batch."""
    batches: Count = 0
    since_claim: Count = 0
    """Batches since the last claim, or since `base`."""
    size: Count = 0
    """Ideas that the present batch is to have."""
    waits_for_conclusion: bool = False
    """The researcher learns from all batches together: none promotes an idea before the one that concludes."""
    concluding: bool = False
    """The present batch is that one: it holds the best point of the search alone."""
    concluded: bool = False
    """There was no batch since the one that concluded."""
    exhausted: str = ""
    """Why the researcher has no further idea on this base; empty if it may have."""
    bound: float | None = None
    """The worst score that counts, fixed before the first batch."""
    predicted: float = 0.0
    """What the single measurements promise of the steps, or of the best idea, in the metric's units."""
    failed_at: float | None = None
    """What was predicted when the last claim failed."""
    claim_open: bool = False
    """A budget ended the claim of these steps before its rule did. It goes on before another batch."""

    @property
    def working(self) -> str:
        """The commit that the next ideas branch from."""
        return self.steps[-1].commit if self.steps else self.base


class Campaign(Record):
    """What the engine remembers between iterations. Its size is bounded: every transition in the ledger has one."""

    iterations: Count = 0
    hypotheses: Count = 0
    trials: Count = 0
    seconds: float = 0.0
    gpu_seconds: float = 0.0
    tokens: Count = 0
    dollars: float = 0.0
    """Cost of the calls whose price is known. A call without a reply counts with the amount that was reserved."""
    iteration_offset: Count = 0
    hypothesis_id: str | None = None
    experiment_id: str | None = None
    refinement: Count = 0
    parent: str | None = None
    base_commit: str | None = None
    home_branch: str | None = None
    home_commit: str | None = None
    champions: tuple[Champion, ...] = ()
    """The newest `LINEAGE` kept candidates that were not retracted, oldest first."""
    claims: Claims = Claims()
    suspicious: tuple[str, ...] = ()
    """Iterations whose candidates were set aside and wait for the user, oldest first."""
    approved: tuple[str, ...] = ()
    """Suspicious candidates that the user approved during another iteration. They are taken when it ends."""
    learned: str | None = None
    """The iteration that the newest `learned` line of the ledger is about."""
    loop: Loop | None = None
    gear: Gear = Gear.EACH
    """Of the iteration under way, or of the last one."""
    batches: Count = 0
    claims_begun: Count = 0
    uncapped: Count = 0
    """Iterations that no cap counts: claims, and the batches that conclude a search before one."""
    exploration: Exploration | None = None
    ideas_screened: Count = 0
    provisional: Count = 0
    """Steps that screens have taken, over the life of the lab."""
    trials_for: dict[str, int] = {}
    """Trials by what they were for: calibration, screens, claims, tests, and what the user ordered."""

    @property
    def counted(self) -> int:
        """The iterations that caps count."""
        return self.iterations - self.uncapped


class BacklogHypothesis(Record):
    """A hypothesis of the lab and its status."""

    id: str
    status: str
    title: str
    success_metric: str
    target_delta: float


class BacklogExperiment(Record):
    """An experiment of the lab and its status."""

    id: str
    hypothesis_id: str
    status: str
    iteration_id: str


class Backlog(Record):
    """The lab's hypotheses and experiments, newest last. The engine writes this view."""

    FILE: ClassVar[str] = ".autolab/backlog.yaml"

    hypotheses: tuple[BacklogHypothesis, ...] = ()
    experiments: tuple[BacklogExperiment, ...] = ()

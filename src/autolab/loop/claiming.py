"""The gear that claims: the working commit against the base, on fresh seeds, then the holdout. Engine code alone.

A claim is an iteration of its own, counted in no cap on iterations. It enters at launch with the review of the very
commit that it claims, and asks no model for anything. The k-th claim of a protocol has the error rate 2 alpha/(k(k+1)),
failed ones counted; the same two trees again continue their pairs under the rate that they had.
"""

from __future__ import annotations

import contextlib
import dataclasses

from autolab.errors import RecordError
from autolab.files import sha256_of
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign, ClaimedPair, Claims, Exploration
from autolab.lab.schemas.config import Config, StoppingRule
from autolab.lab.schemas.experiment import (
    Arm,
    Design,
    DesignMetrics,
    Entrypoint,
    Hypothesis,
    Manifest,
    MaxPairs,
    Reproducibility,
    ReviewResult,
)
from autolab.lab.schemas.outcomes import Decision, Gear, RunKind, Stage
from autolab.lab.schemas.plans import BroughtCommit, Entry
from autolab.lab.schemas.replies import DecisionOutput
from autolab.loop import decision, document, exploring, launch, review
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.stages import StageOutcome
from autolab.reports import claim_words
from autolab.reports.engine_words import engine_words
from autolab.stats import holdout, rules, target
from autolab.stats.plan import Plan
from autolab.stats.seeds import claim_seeds
from autolab.text import one_line
from autolab.trials import job, measurement
from autolab.trials.confirmation import (
    claim_of,
    conclude,
    count_begun,
    count_claim,
    is_undecided,
    plan_claim,
    supported_variant,
)
from autolab.trials.holdout_question import HoldoutQuestion
from autolab.trials.inputs import TrialInputs, set_up
from autolab.trials.lab_inputs import code_commits, source_of
from autolab.trials.progress import View
from autolab.trials.run_record import RunSpec
from autolab.verifiers import suspicion

VARIANT = "working"
"""The arm of the commit that is claimed."""
TITLES = 200
"""Characters of the steps' titles that the claim's own title quotes."""


# how a claim begins


def number_of(lab: Lab, config: Config, claims: Claims, exploration: Exploration) -> ClaimedPair:
    """The claim of the exploration's steps: its number in the protocol, its error rate, and the pairs that it has."""
    base_tree, tree = lab.git.tree(exploration.base), lab.git.tree(exploration.working)
    return claim_of(claims, exploration.protocol, base_tree, tree, config.test.stopping_rule)


def begin(lab: Lab, config: Config, campaign: Campaign, exploration: Exploration) -> Entry:
    """How the claim of the exploration's steps enters the loop."""
    claim = number_of(lab, config, campaign.claims, exploration)
    claim_id = f"claim{campaign.claims_begun + 1}"
    hypothesis = _hypothesis(config, exploration, claim_id)
    candidate = _candidate(lab, exploration)
    return Entry(
        stage=Stage.LAUNCH if candidate.review is not None else Stage.IMPLEMENTATION,
        hypothesis_id=claim_id,
        hypothesis=hypothesis,
        design=_design(config, exploration, hypothesis, _rule(config, claim, exploration)),
        candidate=candidate,
        gear=Gear.CLAIM,
    )


def _rule(config: Config, claim: ClaimedPair, exploration: Exploration) -> StoppingRule:
    rule = config.test.stopping_rule
    update = {"alpha": claim.alpha, "bound": exploration.bound, "max_pairs": rule.confirm_pairs}
    return rule.model_copy(update=update)


def _hypothesis(config: Config, exploration: Exploration, claim_id: str) -> Hypothesis:
    steps, metric = exploration.steps, config.metric
    titles = "; ".join(step.title for step in steps)
    number = "" if exploration.unclaimed == 1 else f" of {exploration.unclaimed} steps"
    return Hypothesis(
        id=claim_id,
        title=f"Claim{number}: {one_line(titles, TITLES)}",
        metric=metric.primary,
        direction=metric.direction,
        success_delta=metric.difference,
        success=f"{metric.primary} improves by at least {metric.difference:g} on fresh seeds, and on the holdout",
        risk_bounds=(),
        mechanism="The sum of the steps that the screens suggested, each by a single measurement.",
    )


def _design(config: Config, exploration: Exploration, claim: Hypothesis, rule: StoppingRule) -> Design:
    metric = config.metric
    return Design(
        id="",
        iteration_id="",
        hypothesis_id="",
        description=f"{claim.title}, against {exploration.base[:12]}.",
        entrypoint=Entrypoint(command=config.train.command),
        reproducibility=Reproducibility(seeds=MaxPairs(max_pairs=rule.max_pairs)),
        metrics=DesignMetrics(
            primary=metric.primary,
            secondary=metric.report,
            success_delta=claim.success_delta,
            direction=metric.direction,
        ),
        baselines=(Arm(name="baseline"),),
        variants=(Arm(name=VARIANT),),
        test=rule,
    )


def _candidate(lab: Lab, exploration: Exploration) -> BroughtCommit:
    """The working commit with the review that it passed in its batch; without one it has to be reviewed again."""
    step = exploration.steps[-1]
    path = lab.iteration(step.iteration_id).of_arm(step.arm).review_result
    found: ReviewResult | None = None
    with contextlib.suppress(RecordError):
        found = ReviewResult.load(path, str(path.relative_to(lab.root)))
    recorded = review.recorded_reviews(lab.ledger.lines())
    if found is not None and (found.commit, sha256_of(found.to_json())) not in recorded:
        found = None
    return BroughtCommit(commit=step.commit, base=exploration.base, via="the steps before it", review=found)


# launch


def measure(step: launch.LaunchStep) -> StageResult | None:
    """Measure the claim, and conclude it; None if the user asked to stop before it was judged."""
    iteration, config = step.iteration, step.iteration.config
    forbidden = review.gate(iteration)
    if forbidden:
        return StageResult(StageOutcome.SEND_BACK, f"launch is forbidden: {forbidden}")
    claim, design = _number(iteration), iteration.design()
    assert design.test is not None
    if claim.pairs >= design.test.max_pairs:
        # The same two trees again, which more pairs cannot decide: there are none.
        reason = f"claim {claim.number} of the protocol has used its {claim.pairs} pairs"
        return StageResult(StageOutcome.SEND_BACK, reason)
    left = launch.trials_left_for(iteration, RunKind.CLAIM)
    spec = _run_spec(iteration, claim, left)
    if spec is None:
        cap = launch.too_few(config.budget, fewest_trials(config, claim), left)
        return StageResult(StageOutcome.STOP, f"budget: {cap}")
    run = step.measure(spec)
    manifest = run.manifest
    if run.ending is not measurement.Ending.DONE or manifest is None:
        return step.result(run, run.run_id)
    iteration.restore(step.view)
    result = step.result(run, run.run_id)
    assert result is not None
    if is_cut_short(manifest, design):
        step.view(f"{run.run_id}: not decided when the budget ended; the same claim goes on once there is more")
        claims = count_begun(iteration.campaign.claims, claim, manifest)
    else:
        claims = _conclude(step, manifest, spec, claim)
    return dataclasses.replace(result, campaign=result.campaign | {"claims": claims})


def fewest_trials(config: Config, claim: ClaimedPair) -> int:
    """The trials without which a claim cannot be decided, beyond those that it has: two a pair, one pair at least."""
    pairs = max(2, rules.fewest_pairs(claim.alpha, config.test.stopping_rule))
    return 2 * max(1, pairs - claim.pairs)


def is_cut_short(manifest: Manifest, design: Design) -> bool:
    """Whether a budget ended the claim before the rule did: then it is neither kept nor failed."""
    assert design.test is not None
    return is_undecided(manifest) and (manifest.pairs or 0) < design.test.max_pairs


def _number(iteration: Iteration) -> ClaimedPair:
    exploration = iteration.campaign.exploration
    assert exploration is not None
    return number_of(iteration.lab, iteration.config, iteration.campaign.claims, exploration)


def _run_spec(iteration: Iteration, claim: ClaimedPair, left: int | None) -> RunSpec | None:
    """The claim's run, with as many pairs as `left` trials allow; None if these decide nothing."""
    lab, config, calibration = iteration.lab, iteration.config, iteration.calibration()
    design, hypothesis, commit = iteration.design(), iteration.hypothesis(), iteration.candidate() or ""
    assert design.test is not None
    pairs = design.test.max_pairs

    def planned(seeds: tuple[int, ...]) -> Plan | None:
        return plan_claim(design, config, hypothesis, claim, seeds, left)

    if planned(tuple(range(pairs))) is None:
        return None

    def plan(inputs: TrialInputs) -> Plan:
        seeds = claim_seeds(lab.secret, inputs.protocol, claim.base_tree, claim.tree, pairs)
        found = planned(seeds)
        assert found is not None  # which seeds they are changes nothing
        return found

    verdict_of_checks = review.recorded_checks(iteration.events(), commit)
    return RunSpec(
        kind=RunKind.CLAIM,
        plan=plan,
        command=job.train_command(design, config),
        commits=code_commits(iteration.base_commit, commit),
        design_sha256=sha256_of(design.to_yaml()),
        checks=verdict_of_checks.checks if verdict_of_checks else {},
        time_limit=config.train.time_limit(calibration.slowest_seconds if calibration else None),
    )


def _conclude(step: launch.LaunchStep, manifest: Manifest, spec: RunSpec, claim: ClaimedPair) -> Claims:
    """What became of the claim, recorded, and the campaign's claims with it."""
    iteration, config, claims = step.iteration, step.iteration.config, step.iteration.campaign.claims
    design = iteration.design()
    passed = supported_variant(manifest, design, iteration.hypothesis()) is not None
    doubts = suspicion.reasons((manifest,), design, iteration.calibration(), VARIANT)
    question = HoldoutQuestion(
        record=step.record(),
        confirm=manifest,
        claims=claims,
        allowed=config.test.holdout_questions,
        inputs=lambda: set_up(source_of(iteration.lab), config, spec.commits),
        tell=step.view,
        tail=holdout.tail_of_claim(claim.alpha),
    )
    confirmation = conclude(question, manifest, passed, doubts, claim.number)
    return count_claim(claims, confirmation, manifest.protocol, claim)


def without_repair(iteration: Iteration, result: StageResult) -> StageResult:
    """The result of a stage; of a claim whose commit fails a gate, that it is over, as nobody here changes a commit."""
    exploration = iteration.campaign.exploration
    is_failure = result.outcome in (StageOutcome.SEND_BACK, StageOutcome.RETRY)
    if iteration.campaign.gear is not Gear.CLAIM or exploration is None or not is_failure:
        return result
    # A launch that could not be measured is tried again in place.
    if iteration.state.stage is Stage.LAUNCH and result.outcome is StageOutcome.RETRY:
        return result
    campaign = result.campaign | {"exploration": exploring.after_failed_claim(exploration)}
    return dataclasses.replace(result, outcome=StageOutcome.SET_ASIDE, campaign=campaign)


# documents and decision


def write_documents(iteration: Iteration) -> StageResult:
    """The claim's entries in journal, findings, report and paper; the words are the engine's."""
    account = document.account_of(iteration)
    docs = engine_words(account, iteration.config.docs.paper_targets)
    document.queue(iteration, dataclasses.replace(account, docs=docs))
    return StageResult(StageOutcome.COMPLETE)


def decide(iteration: Iteration, view: View) -> StageResult:
    """What follows from the claim: the engine's decision."""
    results, exploration = iteration.results(), iteration.campaign.exploration
    assert exploration is not None
    met = iteration.target is not None and not target.missed(iteration.target, iteration.config, results)
    confirmation = results.confirmation
    if met:
        output = DecisionOutput(decision=Decision.ACHIEVE, reason=f"the claimed mean meets {iteration.target}")
    else:
        fate = claim_words.fate(confirmation) if confirmation is not None else "not decided: the budget ended"
        output = DecisionOutput(decision=Decision.NEW_HYPOTHESIS, reason=fate)
    result = decision.carry_out(iteration, output, "engine", view)
    if confirmation is None:
        after: Exploration | None = exploration.model_copy(update={"claim_open": True})
    elif confirmation.outcome == "kept":
        after = None
    else:
        after = exploring.after_failed_claim(exploration)
    if after is not None:
        exploring.show_working(iteration.lab, after, view)
    unpaid = exploring.unpaid(iteration.campaign)
    if after is None and unpaid and result.outcome is StageOutcome.NEW_HYPOTHESIS:
        # The next exploration would open a batch to find that it cannot be paid.
        result = dataclasses.replace(result, outcome=StageOutcome.STOP, reason=unpaid)
    return dataclasses.replace(result, campaign=result.campaign | {"exploration": after})

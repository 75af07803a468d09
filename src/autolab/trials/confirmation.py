"""From supported to kept: fresh seeds, a fresh baseline, one question to the holdout. And claims of mode `explore`.

A search picks what looked best, so its own numbers are too good. What it supports is measured once more under the same
rule on seeds that no search has seen (else `retracted`). It passes the holdout if the same trained models gain there
too, beyond the error over its rows and the seeds (`holdout.py`; else `search_only`). The holdout answers yes or no, and
every question is counted before it is put: after `test.holdout_questions` of them in a protocol it has leaked too much,
and claims are `search_only`. Without a holdout a claim is made on the evaluation alone, and says so.

A claim asks the same of the steps that screens have brought: the working commit against the base, over seeds of these
two trees. It is its own search: what its rule supports goes to the holdout at once. The same two trees again continue
the claim with the pairs that it has, under the error that it was given: its e-process may be looked at at any pair, but
it may not begin anew.

Covered: a search that was lucky, a candidate tuned to the evaluation split (as far as the holdout can tell), two
processes that move the champion at once. Not covered: a holdout that resembles the evaluation split too much.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

from autolab.lab import crash_points
from autolab.lab.ledger import Line
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import ClaimedPair, Claims
from autolab.lab.schemas.config import Config, StoppingRule
from autolab.lab.schemas.events import Confirmed, events_of
from autolab.lab.schemas.experiment import Confirmation, Design, Hypothesis, Manifest
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome, Verdict
from autolab.sandbox.collect import remove_tree
from autolab.stats import rules, verdict, wording
from autolab.stats.plan import Plan, confirmation_plan, plan_design, plan_within, recorded_plan
from autolab.stats.scores import Scale
from autolab.trials.holdout_question import SCORED, Answer, HoldoutAnswer, HoldoutQuestion
from autolab.trials.run_record import RunRecord

OUTCOMES: dict[Answer, Literal["kept", "retracted", "search_only", "suspicious"]] = {
    "passed": "kept",
    "none": "kept",
    "failed": "search_only",
    "used_up": "search_only",
    "not_asked": "retracted",
}
"""The outcome of a claim by the holdout's answer; `not_asked`: fresh seeds did not repeat the gain."""
REMEMBERED = 50
"""Claims of a protocol that the campaign remembers. An older one that is made again counts as another."""


def confirmation_rule(config: Config, tested: StoppingRule, claims: Claims) -> StoppingRule:
    """The rule of the next confirmation: that of the search, with the error that the campaign has left for it."""
    if config.test.fdr is None:
        return tested
    # Each confirmation spends a part of the campaign's false discovery rate.
    allowed = rules.claim_alpha(config.test.fdr, claims.confirmations + 1, claims.kept)
    return tested.model_copy(update={"alpha": min(tested.alpha, allowed)})


def supported_variant(manifest: Manifest, design: Design, hypothesis: Hypothesis) -> tuple[Plan, str] | None:
    """The plan of a search and the variant that it supports; None if it supports none."""
    plan = recorded_plan(manifest, design, hypothesis, None)
    judgement = verdict.judge(plan, manifest.trials)
    if judgement.verdict is Verdict.SUPPORTED and judgement.lead:
        return plan, judgement.lead
    return None


def confirmation_pairs(plan: Plan, config: Config) -> int:
    """Pairs that a confirmation may take: as many as the search's if the design named the seeds."""
    return len(plan.seeds) if plan.fixed else config.test.confirm_pairs


def plan_confirmation(
    search: Plan, variant: str, tested: StoppingRule, seeds: tuple[int, ...], left: int | None
) -> Plan | None:
    """The search's question once more: `variant` against a freshly run baseline, on seeds of the candidate's own.

    None if `left` trials cannot decide anything.
    """
    return plan_within(confirmation_plan(search, variant, tested, seeds), left)


# Claims of mode `explore`


def claim_of(claims: Claims, protocol: str, base_tree: str, tree: str, test: StoppingRule) -> ClaimedPair:
    """The claim that `tree` is better than `base_tree`: the one that it continues, or the protocol's next.

    The k-th claim has the error 2 `test.alpha` / (k (k + 1)), or with `test.fdr` what e-LOND has left for it. `claims`
    are those of the campaign before this iteration; the trees are git's, so that a commit with the same files is the
    same claim.
    """
    known = claims.alphas if claims.protocol == protocol else ()
    for claim in known:
        if (claim.base_tree, claim.tree) == (base_tree, tree):
            return claim
    number = 1 + max((claim.number for claim in known), default=0)
    alpha = rules.claim_alpha_of(number, test.alpha)
    if test.fdr is not None:
        alpha = min(test.alpha, rules.claim_alpha(test.fdr, claims.confirmations + 1, claims.kept))
    return ClaimedPair(base_tree=base_tree, tree=tree, number=number, alpha=alpha)


def plan_claim(
    design: Design,
    config: Config,
    hypothesis: Hypothesis | None,
    claim: ClaimedPair,
    seeds: tuple[int, ...],
    left: int | None,
) -> Plan | None:
    """The plan of a claim: the design's baseline against its variant, on the first of `seeds`, at the claim's error.

    `seeds` are `claim_seeds` of the two trees, as many as the claim may take in all. `left`: trials that the budget
    still allows the run (None: no cap); the pairs that the claim has measured are found by their content and cost
    nothing, so they come on top. None: that is no new pair, or too few for the rule to decide anything
    (`rules.fewest_pairs`; all of `seeds` under the fixed rule). RecordError: as of `plan_design`.
    """
    whole = plan_design(design, config, hypothesis, b"", "", "")
    assert whole.rule is not None  # a design that was planned has one
    rule = whole.rule.model_copy(update={"alpha": claim.alpha})
    pairs = len(seeds)
    if left is not None:
        pairs = min(pairs, claim.pairs + max(0, left) // 2)
    if rule.rule == "fixed" and pairs < len(seeds):
        return None
    if pairs <= claim.pairs or pairs < max(2, rules.fewest_pairs(claim.alpha, rule)):
        return None
    return dataclasses.replace(whole, seeds=seeds[:pairs], rule=rule, fixed=False)


# What became of them


def conclude(
    question: HoldoutQuestion,
    search: Manifest,
    passed: bool,
    doubts: tuple[str, ...] = (),
    number: int | None = None,
) -> Confirmation:
    """What became of the claim; the holdout is asked if fresh seeds repeated the gain (`passed`). Recorded once.

    What would be kept in spite of `doubts` is set aside as `suspicious`. Of a claim of mode `explore`, `search` is the
    claim's own run, and `number` the claim's in its protocol; by default it is the campaign's next confirmation. The
    error on record is that of the run's rule. Predictions for the holdout are removed, but those of a claim that its
    rule has not decided stay: it may be continued.
    """
    record, confirm = question.record, question.confirm
    recorded = recorded_confirmation(record.events, search.run_id)
    if recorded is not None and recorded.run_id == confirm.run_id:
        _forget(record, confirm, recorded)  # a crash may have come before it
        return recorded
    comparison = confirm.comparisons[0]
    more_cut, holdout = "", HoldoutAnswer("not_asked")
    if passed:
        more_cut = too_many_cut(confirm)
        # The questions are few: one is put only for a claim that passed everything else.
        if not more_cut:
            holdout = question.put()
    outcome = OUTCOMES[holdout.answer]
    suspicions: tuple[str, ...] = ()
    if doubts and outcome == "kept":
        outcome, suspicions = "suspicious", doubts
    assert confirm.rule is not None
    gains = _differences(confirm)[: comparison.pairs]
    confirmation = Confirmation(
        run_id=confirm.run_id,
        arm=comparison.arm,
        difference=comparison.difference,
        shrunken=rules.shrunken(gains, confirm.rule.deviation),
        reason=more_cut or comparison.reason or comparison.verdict.value,
        holdout=holdout.answer,
        holdout_error=holdout.replicates,
        outcome=outcome,
        claim=question.claims.confirmations + 1 if number is None else number,
        alpha=confirm.rule.alpha,
        suspicions=suspicions,
    )
    events.append(record.ledger, Confirmed(run_id=confirm.run_id, of=search.run_id, confirmation=confirmation))
    crash_points.point("confirm.after_record")
    _forget(record, confirm, confirmation)
    return confirmation


def is_undecided(confirm: Manifest) -> bool:
    """Whether a claim's pairs were used up before its rule decided, so that more of them can continue it."""
    comparison = confirm.comparisons[0]
    return (
        confirm.kind is RunKind.CLAIM and comparison.verdict is Verdict.INCONCLUSIVE and comparison.reason == "budget"
    )


def _forget(record: RunRecord, confirm: Manifest, confirmation: Confirmation) -> None:
    """Remove predictions for the holdout that nobody has a use for which would not be another question."""
    if is_undecided(confirm):
        return
    # Under a new champion no earlier claim can go on: its base is another.
    if confirmation.outcome == "kept":
        remove_tree(record.held_folder)
        return
    for trial in confirm.trials:
        predictions = record.held(trial.key)
        predictions.unlink(missing_ok=True)
        for suffix in SCORED:
            remove_tree(predictions.with_suffix(suffix))
    if record.held_folder.is_dir() and not any(record.held_folder.iterdir()):
        record.held_folder.rmdir()


def too_many_cut(confirm: Manifest) -> str:
    """`more_cut` if more of the candidate's trials were cut than of the baseline's, and more than the lab allows."""
    comparison = confirm.comparisons[0]
    if not comparison.cut or confirm.rule is None:
        return ""
    base, candidate = comparison.cut
    allowed_share = confirm.rule.max_failure_share
    # Scores that are cut hide how bad a training was: an arm must not gain by diverging more often.
    if candidate.cut <= base.cut:
        return ""
    if allowed_share is not None and candidate.cut <= allowed_share * candidate.trials:
        return ""
    return wording.MORE_CUT


def _differences(manifest: Manifest) -> list[float]:
    """Differences in the direction of good, in seed order, as far as both arms have a score."""
    comparison, scale = manifest.comparisons[0], Scale.of(manifest)
    sign = 1 if manifest.direction == "maximize" else -1
    scores = {}
    for trial in manifest.trials:
        if trial.outcome is TrialOutcome.COMPLETED:
            scores[trial.arm, trial.index] = scale.score(trial)
    gains = []
    for index in range(manifest.pairs or 0):
        before, after = scores.get((comparison.baseline, index)), scores.get((comparison.arm, index))
        if before is None or after is None:
            break
        gains.append(sign * (after - before))
    return gains


def recorded_confirmation(lines: Sequence[Line], search: str | None) -> Confirmation | None:
    """The confirmation of a search run, by the iteration's ledger lines; None if it was not confirmed."""
    newest = None
    for confirmed in events_of(lines, Confirmed):
        if confirmed.of == search:
            newest = confirmed.confirmation
    return newest


def count_begun(claims: Claims, claim: ClaimedPair, manifest: Manifest) -> Claims:
    """The campaign's count with a claim that a budget has cut short: it has its number, and spends its error, once."""
    is_same_protocol = claims.protocol == manifest.protocol
    known = claims.alphas if is_same_protocol else ()
    others = [other for other in known if (other.base_tree, other.tree) != (claim.base_tree, claim.tree)]
    new = 1 if len(others) == len(known) else 0
    measured = claim.model_copy(update={"pairs": manifest.pairs or 0})
    return Claims(
        confirmations=claims.confirmations + new,
        kept=claims.kept,
        alpha=claims.alpha + new * claim.alpha,
        protocol=manifest.protocol or "",
        questions=claims.questions if is_same_protocol else 0,
        alphas=(*others, measured)[-REMEMBERED:],
    )


def count_claim(
    claims: Claims, confirmation: Confirmation, protocol: str | None, claim: ClaimedPair | None = None
) -> Claims:
    """The campaign's count with one more confirmation, or with this `claim` of mode `explore` (as `claim_of` gave it).

    A claim that was continued counts once, and its error is spent once.
    """
    is_same_protocol = claims.protocol == protocol
    # A protocol's questions count within it: nothing of another one's holdout has leaked.
    questions = claims.questions if is_same_protocol else 0
    if confirmation.holdout in ("passed", "failed"):
        questions += 1
    alphas = list(claims.alphas) if is_same_protocol else []
    new = 1
    if claim is not None:
        earlier = [other for other in alphas if (other.base_tree, other.tree) != (claim.base_tree, claim.tree)]
        new = 1 if len(earlier) == len(alphas) else 0
        # Where parts of the evaluation were compared, these are no pairs; but such a claim is decided.
        measured = claim.model_copy(update={"pairs": confirmation.difference.n})
        alphas = [*earlier, measured]
    return Claims(
        confirmations=claims.confirmations + new,
        kept=claims.kept + (confirmation.outcome == "kept"),
        alpha=claims.alpha + new * confirmation.alpha,
        protocol=protocol or "",
        questions=questions,
        alphas=tuple(alphas[-REMEMBERED:]),
    )

"""From supported to kept: fresh seeds, a fresh baseline, one question to the holdout.

A search picks what looked best, so its own numbers are too good. What it supports is measured once more under the same
rule on seeds that no search has seen (else `retracted`). It passes the holdout if the same trained models gain there
too, beyond the error over its rows and the seeds (`holdout.py`; else `search_only`). The holdout answers yes or no, and
every question is counted before it is put: after `test.holdout_questions` of them in a protocol it has leaked too much,
and claims are `search_only`. Without a holdout a claim is made on the evaluation alone, and says so.

Covered: a search that was lucky, a candidate tuned to the evaluation split (as far as the holdout can tell), two
processes that move the champion at once. Not covered: a holdout that resembles the evaluation split too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from autolab.lab import crash_points
from autolab.lab.ledger import Line
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.config import Config, StoppingRule
from autolab.lab.schemas.events import Confirmed, events_of
from autolab.lab.schemas.experiment import Confirmation, Design, Hypothesis, Manifest
from autolab.lab.schemas.outcomes import TrialOutcome, Verdict
from autolab.sandbox.collect import remove_tree
from autolab.stats import rules, verdict, wording
from autolab.stats.plan import Plan, confirmation_plan, plan_within, recorded_plan
from autolab.stats.scores import Scale
from autolab.trials.holdout_question import Answer, HoldoutAnswer, HoldoutQuestion

OUTCOMES: dict[Answer, Literal["kept", "retracted", "search_only", "suspicious"]] = {
    "passed": "kept",
    "none": "kept",
    "failed": "search_only",
    "used_up": "search_only",
    "not_asked": "retracted",
}
"""The outcome of a claim by the holdout's answer; `not_asked`: fresh seeds did not repeat the gain."""


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


def conclude(question: HoldoutQuestion, search: Manifest, passed: bool, doubts: tuple[str, ...] = ()) -> Confirmation:
    """What became of the claim; the holdout is asked if fresh seeds repeated the gain (`passed`). Recorded once.

    What would be kept in spite of `doubts` is set aside as `suspicious`.
    """
    record, confirm = question.record, question.confirm
    recorded = recorded_confirmation(record.events, search.run_id)
    if recorded is not None and recorded.run_id == confirm.run_id:
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
        claim=question.claims.confirmations + 1,
        alpha=confirm.rule.alpha,
        suspicions=suspicions,
    )
    events.append(record.ledger, Confirmed(run_id=confirm.run_id, of=search.run_id, confirmation=confirmation))
    crash_points.point("confirm.after_record")
    # The answer is recorded: nobody has a use for the holdout predictions that would not be another question.
    remove_tree(record.held_folder)
    return confirmation


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


def count_claim(claims: Claims, confirmation: Confirmation, protocol: str | None) -> Claims:
    """The campaign's count with one more confirmation."""
    # A protocol's questions count within it: nothing of another one's holdout has leaked.
    questions = claims.questions if claims.protocol == protocol else 0
    if confirmation.holdout in ("passed", "failed"):
        questions += 1
    return Claims(
        confirmations=claims.confirmations + 1,
        kept=claims.kept + (confirmation.outcome == "kept"),
        alpha=claims.alpha + confirmation.alpha,
        protocol=protocol or "",
        questions=questions,
    )

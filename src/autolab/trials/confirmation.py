"""From supported to kept: fresh seeds, a fresh baseline, one question to the holdout.

A search picks what looked best, so its own numbers flatter. What it supports is measured once more under the same rule
on seeds that no search has seen (else `retracted`), and passes the holdout if the same trained models gain there too,
beyond the error over its rows and the seeds (`holdout.py`; else `search_only`). The holdout answers yes or no, and
every question is counted before it is put: after `test.holdout_questions` of them in a protocol it has leaked too much,
and claims are `search_only`. Without a holdout a claim is made on the evaluation alone, and says so.

Covered: a search that was lucky, a candidate tuned to the evaluation split (as far as the holdout can tell), two who
move the champion at once. Not covered: a holdout that resembles the evaluation split too much.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolab.lab import crash_points
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Claims
from autolab.lab.schemas.config import Config, StoppingRule
from autolab.lab.schemas.experiment import Confirmation, Design, Hypothesis, Manifest
from autolab.lab.schemas.outcomes import TrialOutcome, Verdict
from autolab.sandbox.collect import remove_tree
from autolab.stats import rules, verdict, wording
from autolab.stats.plan import Plan, confirmation_plan, plan_within, recorded_plan
from autolab.stats.scores import Scale
from autolab.trials.holdout_question import HoldoutAnswer, HoldoutQuestion

OUTCOMES = {
    "passed": "kept",
    "none": "kept",
    "failed": "search_only",
    "used_up": "search_only",
    "not_asked": "retracted",
}
"""What the holdout's answer makes of a claim; it is not asked where fresh seeds did not repeat the gain."""


def confirmation_rule(config: Config, tested: StoppingRule, claims: Claims) -> StoppingRule:
    """The rule of the next confirmation: that of the search, with the error that the campaign has left for it."""
    if config.test.fdr is None:
        return tested
    allowed = rules.claim_alpha(config.test.fdr, claims.confirmations + 1, claims.kept)
    return tested.model_copy(update={"alpha": min(tested.alpha, allowed)})


def supported_variant(manifest: Manifest, design: Design, hypothesis: Hypothesis) -> tuple[Plan, str] | None:
    """The plan of a search and the variant that it supports; None if it supports none."""
    plan = recorded_plan(manifest, design, hypothesis, None)
    judged = verdict.judge(plan, manifest.trials)
    return (plan, judged.lead) if judged.verdict is Verdict.SUPPORTED and judged.lead else None


def confirmation_pairs(plan: Plan, config: Config) -> int:
    """Pairs that a confirmation may take: as many as the search's where the design named the seeds."""
    return len(plan.seeds) if plan.fixed else config.test.confirm_pairs


def plan_confirmation(
    search: Plan, variant: str, tested: StoppingRule, seeds: tuple[int, ...], left: int | None
) -> Plan | None:
    """The search's question once more: `variant` against a freshly run baseline, on seeds of the candidate's own.

    None where `left` trials decide nothing.
    """
    return plan_within(confirmation_plan(search, variant, tested, seeds), left)


def conclude(question: HoldoutQuestion, search: Manifest, passed: bool, doubts: tuple[str, ...] = ()) -> Confirmation:
    """What became of the claim; the holdout is asked where fresh seeds repeated the gain (`passed`). Recorded once.

    What would be kept in spite of `doubts` is set aside as `suspicious`.
    """
    record, confirm = question.record, question.confirm
    known = recorded_confirmation(record.events, search.run_id)
    if known is not None and known.run_id == confirm.run_id:
        return known
    compared = confirm.comparisons[0]
    more_cut = too_many_cut(confirm) if passed else ""
    holdout = question.put() if passed and not more_cut else HoldoutAnswer("not_asked")
    outcome = OUTCOMES[holdout.answer]
    if doubts and outcome == "kept":
        outcome = "suspicious"
    gains = _differences(confirm)
    assert confirm.rule is not None
    confirmation = Confirmation.from_value(
        {
            "run_id": confirm.run_id,
            "arm": compared.arm,
            "difference": compared.difference.value(),
            "shrunken": rules.shrunken(gains[: compared.pairs], confirm.rule.deviation),
            "reason": more_cut or compared.reason or compared.verdict.value,
            "holdout": holdout.answer,
            "holdout_error": holdout.replicates,
            "outcome": outcome,
            "claim": question.claims.confirmations + 1,
            "alpha": confirm.rule.alpha,
            "suspicions": list(doubts) if outcome == "suspicious" else [],
        },
        "confirmation",
    )
    about = {"run_id": confirm.run_id, "of": search.run_id, "confirmation": confirmation.value()}
    record.ledger.append("confirmed", about)
    crash_points.point("confirm.after_record")
    remove_tree(record.held_folder)
    return confirmation


def too_many_cut(confirm: Manifest) -> str:
    """`more_cut` where more of the candidate's trials were cut than of the baseline's, and more than the lab allows."""
    compared = confirm.comparisons[0]
    if not compared.cut or confirm.rule is None:
        return ""
    base, candidate = compared.cut
    allowed = confirm.rule.max_failure_share
    tolerated = allowed is not None and candidate.cut <= allowed * candidate.trials
    return "" if tolerated or candidate.cut <= base.cut else wording.MORE_CUT


def _differences(manifest: Manifest) -> list[float]:
    """Differences in the direction of good, in seed order, as far as both arms have a score."""
    compared = manifest.comparisons[0]
    found = {(trial.arm, trial.index): trial for trial in manifest.trials if trial.outcome is TrialOutcome.COMPLETED}
    gains, sign, scale = [], 1 if manifest.direction == "maximize" else -1, Scale.of(manifest)
    for index in range(manifest.pairs or 0):
        pair = [found.get((arm, index)) for arm in (compared.baseline, compared.arm)]
        before, after = (None if trial is None else scale.score(trial) for trial in pair)
        if before is None or after is None:
            break
        gains.append(sign * (after - before))
    return gains


def recorded_confirmation(events: Sequence[Line], search: str | None) -> Confirmation | None:
    """The confirmation of a search run, by the iteration's ledger lines; None if it was not confirmed."""
    said = [line for line in events if line.event == "confirmed" and line.data["of"] == search]
    if not said:
        return None
    return Confirmation.from_value(said[-1].data["confirmation"], f"ledger.jsonl line {said[-1].n}: confirmation")


def count_claim(claims: Claims, found: Confirmation, protocol: str | None) -> Claims:
    """The campaign's count with one more confirmation."""
    asked = found.holdout in ("passed", "failed")
    return Claims(
        confirmations=claims.confirmations + 1,
        kept=claims.kept + (found.outcome == "kept"),
        alpha=claims.alpha + found.alpha,
        protocol=protocol or "",
        questions=(claims.questions if claims.protocol == protocol else 0) + asked,
    )

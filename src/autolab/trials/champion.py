"""From supported to kept: fresh seeds, a fresh baseline, one question to the holdout; then the champion moves.

A search picks what looked best, so its own numbers flatter. What it supports is measured once more under the same rule
on seeds that no search has seen (else `retracted`), and passes the holdout if the same trained models gain there too,
beyond the error over its rows and the seeds (`holdout.py`; else `search_only`). The holdout answers yes or no, and
every question is counted before it is put: after `test.holdout_questions` of them in a protocol it has leaked too much,
and claims are `search_only`. Without a holdout a claim is made on the evaluation alone, and says so.

Covered: a search that was lucky, a candidate tuned to the evaluation split (as far as the holdout can tell), two who
move the champion at once. Not covered: a holdout that resembles the evaluation split too much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from autolab.errors import GitError, LabError
from autolab.lab import crash_points
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import LINEAGE, Campaign, Champion, Claims
from autolab.lab.schemas.config import Config, StoppingRule
from autolab.lab.schemas.experiment import Confirmation, Design, Hypothesis, Manifest, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome, Verdict
from autolab.sandbox.collect import remove_tree
from autolab.stats import holdout, rules, verdict, wording
from autolab.stats.plan import Plan, confirmation_plan, plan_within, recorded_plan
from autolab.stats.scores import Scale
from autolab.stats.seeds import confirmation_seeds
from autolab.trials import evaluator, measurement, score
from autolab.trials.evaluation import DataSplit, Evaluation, rows_of
from autolab.trials.lab_inputs import inputs_of

BRANCH = "refs/heads/autolab/champion"
OUTCOMES = {
    "passed": "kept",
    "none": "kept",
    "failed": "search_only",
    "used_up": "search_only",
    "not_asked": "retracted",
}
"""What the holdout's answer makes of a claim; it is not asked where fresh seeds did not repeat the gain."""


# What the next candidate branches from


def base(lab: Lab, campaign: Campaign, owned: Callable[[str], bool]) -> tuple[str, str, str]:
    """The commit that the next candidate branches from, that of the lab's branch, and what a user should hear.

    The champion, unless the user has committed code since it was made (`owned` tells the engine's own files): then
    their commit, because their work goes first. GitError: the lab's branch is gone.
    """
    git = lab.git
    home = git.resolve(f"refs/heads/{campaign.home_branch}")
    if home is None:
        raise GitError(f"branch {campaign.home_branch} is gone; check out the lab's branch again, or `autolab init`")
    newest = campaign.champions[-1] if campaign.champions else None
    if newest is None or git.resolve(newest.commit) is None:
        return home, home, ""
    since = git.changed_paths(newest.home_commit or home, home)
    code = [path for path in since if not owned(path)]
    if code:
        said = f"{code[0]} was committed on {campaign.home_branch}: the next candidate branches from there"
        return home, home, said
    return newest.commit, home, ""


def show(lab: Lab, campaign: Campaign, fallen: Sequence[Champion] = ()) -> str:
    """Put the branch `autolab/champion` where the record says; what a user should hear if somebody moved it.

    Where none stands any more, it goes back to what the first of the `fallen` branched from.
    """
    standing = campaign.champions[-1].commit if campaign.champions else None
    wanted = standing or (fallen[0].parent if fallen else None)
    present = lab.git.resolve(BRANCH)
    if wanted is None or present == wanted or lab.git.resolve(wanted) is None:
        return ""
    lab.git.update_ref(BRANCH, wanted, present)
    crash_points.point("champion.after_ref")
    known = [None, *(champion.commit for champion in (*campaign.champions, *fallen))]
    return "" if present in known else f"autolab/champion stood at {present[:12] if present else ''}: put back"


# Confirmation


def rule(config: Config, tested: StoppingRule, claims: Claims) -> StoppingRule:
    """The rule of the next confirmation: that of the search, with the error that the campaign has left for it."""
    if config.test.fdr is None:
        return tested
    allowed = rules.claim_alpha(config.test.fdr, claims.confirmations + 1, claims.kept)
    return tested.model_copy(update={"alpha": min(tested.alpha, allowed)})


def lead(manifest: Manifest, design: Design, hypothesis: Hypothesis) -> tuple[Plan, str] | None:
    """The plan of a search and the variant that it supports; None if it supports none."""
    plan = recorded_plan(manifest, design, hypothesis, None)
    judged = verdict.judge(plan, manifest.trials)
    return (plan, judged.lead) if judged.verdict is Verdict.SUPPORTED and judged.lead else None


def pairs(plan: Plan, config: Config) -> int:
    """Pairs that a confirmation may take: as many as the search's where the design named the seeds."""
    return len(plan.seeds) if plan.fixed else config.test.confirm_pairs


def plan(
    order: measurement.RunRequest, search: Plan, variant: str, tested: StoppingRule, left: int | None
) -> Plan | None:
    """The search's question once more: `variant` against a freshly run baseline, on seeds of the candidate's own.

    None where `left` trials decide nothing.
    """
    lab, count = order.lab, pairs(search, order.config)
    seeds = confirmation_seeds(lab.secret, lab.git.tree(order.candidate), count)
    return plan_within(confirmation_plan(search, variant, tested, seeds), left)


def measure(order: measurement.RunRequest, again: Plan) -> measurement.Measured:
    """Run a confirmation; what of it was measured before a crash stands."""
    return measurement.measure(replace(order, plan=lambda _: again, kind=RunKind.CONFIRM))


def conclude(
    order: measurement.RunRequest,
    search: Manifest,
    confirm: Manifest,
    claims: Claims,
    passed: bool,
    doubts: tuple[str, ...] = (),
) -> Confirmation:
    """What became of the claim; the holdout is asked where fresh seeds repeated the gain (`passed`). Recorded once.

    What would be kept in spite of `doubts` is set aside as `suspicious`.
    """
    known = recorded(order.events, search.run_id)
    if known is not None and known.run_id == confirm.run_id:
        return known
    compared = confirm.comparisons[0]
    more_cut = too_many_cut(confirm) if passed else ""
    answer, replicates = _holdout(order, confirm, claims) if passed and not more_cut else ("not_asked", None)
    outcome = "suspicious" if doubts and OUTCOMES[answer] == "kept" else OUTCOMES[answer]
    gains = _differences(confirm)
    assert confirm.rule is not None
    found = Confirmation.from_value(
        {
            "run_id": confirm.run_id,
            "arm": compared.arm,
            "difference": compared.difference.value(),
            "shrunken": rules.shrunken(gains[: compared.pairs], confirm.rule.deviation),
            "reason": more_cut or compared.reason or compared.verdict.value,
            "holdout": answer,
            "holdout_error": replicates,
            "outcome": outcome,
            "claim": claims.confirmations + 1,
            "alpha": confirm.rule.alpha,
            "suspicions": list(doubts) if outcome == "suspicious" else [],
        },
        "confirmation",
    )
    about = {"run_id": confirm.run_id, "of": search.run_id, "confirmation": found.value()}
    order.lab.ledger.append("confirmed", about)
    crash_points.point("confirm.after_record")
    remove_tree(order.lab.store / "held")
    return found


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


def recorded(events: Sequence[Line], search: str | None) -> Confirmation | None:
    """The confirmation of a search run, by the iteration's ledger lines; None if it was not confirmed."""
    said = [line for line in events if line.event == "confirmed" and line.data["of"] == search]
    if not said:
        return None
    return Confirmation.from_value(said[-1].data["confirmation"], f"ledger.jsonl line {said[-1].n}: confirmation")


def after(claims: Claims, found: Confirmation, protocol: str | None) -> Claims:
    """The campaign's count with one more confirmation."""
    asked = found.holdout in ("passed", "failed")
    return Claims(
        confirmations=claims.confirmations + 1,
        kept=claims.kept + (found.outcome == "kept"),
        alpha=claims.alpha + found.alpha,
        protocol=protocol or "",
        questions=(claims.questions if claims.protocol == protocol else 0) + asked,
    )


# The holdout


def _holdout(order: measurement.RunRequest, confirm: Manifest, claims: Claims) -> tuple[str, holdout.Replicates | None]:
    """passed or failed, with what its error was taken from; none in a lab without a holdout, used_up where no question
    is left. Nothing else of it is said or written: a number would tell a researcher where to go on."""
    setup = inputs_of(order.lab, order.config, order.base, order.candidate)
    evaluation = setup.evaluation
    if evaluation is None or evaluation.holdout is None:
        return "none", None
    asked = [line for line in order.events if line.event == "holdout_asked" and line.data["run_id"] == confirm.run_id]
    before = claims.questions if claims.protocol == setup.protocol else 0
    if not asked:
        if before >= order.config.test.holdout_questions:
            return "used_up", None
        # Counted before it is opened: an answer that a crash swallowed has been paid for.
        about = {"run_id": confirm.run_id, "protocol": setup.protocol, "question": before + 1}
        order.lab.ledger.append("holdout_asked", about)
        crash_points.point("holdout.after_debit")
    tested = _tested(order, evaluation, evaluation.holdout, confirm)
    if tested is None:
        return "failed", None
    return "passed" if tested.passed else "failed", tested.replicates


def _tested(
    order: measurement.RunRequest, evaluation: Evaluation, split: DataSplit, confirm: Manifest
) -> holdout.HoldoutTest | None:
    """The test of the confirmation's pairs on the holdout; None if the candidate's predictions cannot be scored there.

    LabError: the baseline's cannot. Every pair is scored as a whole, the first few on parts of the rows too.
    """
    compared, sign = confirm.comparisons[0], 1 if confirm.direction == "maximize" else -1
    pairs, count = compared.pairs or 0, holdout.parts_of(rows_of(split.labels))
    scores = 2 * pairs + 2 * count * min(holdout.PAIRS, pairs)
    order.tell(f"{compared.arm} held on fresh seeds: {pairs} pairs scored on the holdout, {scores} scores in all")
    gains: list[float] = []
    parts: list[tuple[float, ...]] = []
    for index in range(pairs):
        before, after = (_trial(confirm, arm, index) for arm in (compared.baseline, compared.arm))
        base, new = (_whole(order.lab, evaluation, confirm, trial) for trial in (before, after))
        if isinstance(base, evaluator.Problem):
            raise LabError(f"holdout: trial {before.trial} of {confirm.run_id}: {base.message}")
        if isinstance(new, evaluator.Problem):
            order.tell(f"note: holdout: trial {after.trial} of {confirm.run_id}: {new.message}")
            return None
        gains.append(sign * (new - base))
        if count and index < holdout.PAIRS:
            sides = [_on_parts(order.lab, evaluation, confirm, trial, count) for trial in (before, after)]
            # An evaluator that takes the whole and not a part leaves the seeds alone.
            parts += [tuple(sign * (y - x) for x, y in zip(*sides, strict=True))] if all(sides) else []
    tested = holdout.passes(gains, parts)
    if tested.replicates in ("seeds", "nothing"):
        order.tell("note: the holdout's rows cannot be told apart, so its error is over the seeds alone")
    return tested


def _trial(confirm: Manifest, arm: str, index: int) -> Trial:
    return next(trial for trial in confirm.trials if (trial.arm, trial.index) == (arm, index))


def _whole(lab: Lab, evaluation: Evaluation, confirm: Manifest, trial: Trial) -> float | evaluator.Problem:
    """The metric of one trial of the confirmation on the holdout, cut at the bound as on the evaluation."""
    scale = Scale.of(confirm)
    if scale.bound is not None and scale.cut(trial) == "diverged":
        return scale.bound
    predictions, folder = measurement.held(lab, trial.key), lab.store / "held" / f"{trial.key}.score"
    checked = evaluator.check_predictions(predictions, None)
    assert evaluation.holdout is not None and confirm.metric is not None
    if isinstance(checked, evaluator.Problem):
        return checked
    measured = evaluation.score(predictions, evaluation.holdout.labels, folder, confirm.metric)
    if isinstance(measured, evaluator.Problem):
        diverged = measured.outcome is TrialOutcome.INVALID_ARTIFACT and not score.finite(predictions)
        return scale.bound if scale.bound is not None and diverged else measured
    value = scale.counted(measured[confirm.metric]) if confirm.metric in measured else None
    if value is None:
        return evaluator.Problem(TrialOutcome.INVALID_ARTIFACT, f"score.json: {confirm.metric} is no finite number")
    return value


def _on_parts(lab: Lab, evaluation: Evaluation, confirm: Manifest, trial: Trial, count: int) -> tuple[float, ...]:
    """The same on each part of the holdout's rows; empty if they cannot be told apart."""
    assert evaluation.holdout is not None and confirm.metric is not None
    predictions, folder = measurement.held(lab, trial.key), lab.store / "held" / f"{trial.key}.parts"
    return evaluation.parts(confirm.metric, predictions, evaluation.holdout.labels, folder, count)


# The champion


def promote(lab: Lab, campaign: Campaign, newest: Champion) -> tuple[Champion, ...]:
    """Move the champion to a kept candidate; the lineage with it.

    The branch moves from where the record says it stands to the candidate, or not at all.
    """
    show(lab, campaign)
    present = lab.git.resolve(BRANCH)
    if present != newest.commit:
        lab.git.update_ref(BRANCH, newest.commit, present)
    crash_points.point("champion.after_ref")
    others = tuple(one for one in campaign.champions if one.commit != newest.commit)
    return (*others, newest)[-LINEAGE:]


def fallen(campaign: Campaign, manifest: Manifest) -> tuple[Campaign, tuple[Champion, ...]]:
    """`retract` for the champion that this confirmation made; nothing falls if it made none that stands."""
    made = [
        one for one in campaign.champions if (one.iteration_id, one.run_id) == (manifest.iteration_id, manifest.run_id)
    ]
    return retract(campaign, made[0].commit) if made else (campaign, ())


def retract(campaign: Campaign, commit: str) -> tuple[Campaign, tuple[Champion, ...]]:
    """The campaign without a champion and without all that was built on it, and those that fell.

    An iteration under way on a fallen base goes on from what stands now, and is tested against that.
    """
    down: list[Champion] = []
    gone = {commit}
    for one in campaign.champions:
        if one.commit in gone or one.parent in gone:
            gone.add(one.commit)
            down.append(one)
    standing = tuple(one for one in campaign.champions if one.commit not in gone)
    update: dict[str, object] = {"champions": standing}
    if campaign.base_commit in gone:
        update["base_commit"] = standing[-1].commit if standing else down[0].parent
    return campaign.model_copy(update=update), tuple(down)

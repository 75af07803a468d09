"""The figure of a comparison: each trial of the base and of the candidates, and the gain of each pair."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from autolab.compare.answer import CandidateAnswer, ComparisonAnswer
from autolab.lab.schemas.experiment import Trial
from autolab.stats.plan import Plan
from autolab.stats.scores import gain

if TYPE_CHECKING:
    from autolab.reports.figures import Gain, Measure


def draw_comparison(answer: ComparisonAnswer) -> Path | None:
    """The path of comparison.png in the comparison's folder, with a PDF beside it; None if no pair was measured.

    Both are drawn unless they are newer than the newest trial.
    """
    outcome, plan = answer.outcome, answer.outcome.plan
    measured = [candidate for candidate in answer.candidates if candidate.pairs]
    if plan is None or not measured:
        return None
    # The last of the two that is written.
    drawn = outcome.folder / "comparison.pdf"
    if not drawn.exists() or drawn.stat().st_mtime_ns < (outcome.folder / "ledger.jsonl").stat().st_mtime_ns:
        _draw(answer, plan, measured)
    return drawn.with_suffix(".png")


def _draw(answer: ComparisonAnswer, plan: Plan, measured: list[CandidateAnswer]) -> None:
    # Here: it loads matplotlib.
    from autolab.reports import figures

    outcome = answer.outcome
    names = _names(answer, plan, measured)
    title = f"{names[measured[0].name]} against {names[plan.baseline.name]}: {measured[0].standing}"
    if len(measured) > 1:
        title = ", ".join(f"{names[candidate.name]}: {candidate.standing}" for candidate in measured)
    run = figures.Run(
        title=title,
        roles={names[arm.name]: arm.role for arm in plan.arms if arm.name in names},
        primary=_measure(plan, measured, names, outcome.trials),
        delta=plan.delta,
        runs=(outcome.key,),
        iteration_id="autolab compare",
        gains=[_gain(plan, candidate, names, outcome.trials) for candidate in measured],
        note="self-reported: no evaluator measured these numbers" if plan.self_reported else "",
    )
    figures.draw(run, outcome.folder)


def _names(answer: ComparisonAnswer, plan: Plan, measured: list[CandidateAnswer]) -> dict[str, str]:
    """What the user calls each arm; with the arm's own name where two are called the same."""
    labels = {plan.baseline.name: answer.outcome.question.base.label}
    labels |= {candidate.name: candidate.label for candidate in measured}
    counts = Counter(labels.values())
    return {arm: label if counts[label] == 1 else f"{label} ({arm})" for arm, label in labels.items()}


def _measure(plan: Plan, measured: list[CandidateAnswer], names: dict[str, str], trials: tuple[Trial, ...]) -> Measure:
    """The trials of the pairs that were read: of a candidate its own, of the base as many as any candidate has."""
    from autolab.reports.curves import mean95
    from autolab.reports.figures import Measure

    pairs = {candidate.name: candidate.pairs for candidate in measured}
    pairs[plan.baseline.name] = max(pairs.values())
    values: dict[str, dict[int, float]] = {}
    for arm, count in pairs.items():
        values[names[arm]] = _scores(plan, arm, count, trials)
    means = {name: mean95(list(by_index.values())) for name, by_index in values.items()}
    return Measure(plan.metric, plan.direction, values, means)


def _scores(plan: Plan, arm: str, pairs: int, trials: tuple[Trial, ...]) -> dict[int, float]:
    """The scores of an arm in its first pairs, by the pair's index."""
    scores = {}
    for trial in sorted(trials, key=lambda trial: trial.index):
        score = plan.scale.score(trial)
        if trial.arm == arm and trial.index < pairs and score is not None:
            scores[trial.index] = score
    return scores


def _gain(plan: Plan, candidate: CandidateAnswer, names: dict[str, str], trials: tuple[Trial, ...]) -> Gain:
    """The differences of a candidate's pairs, with the interval of its answer."""
    from autolab.reports.figures import Gain

    before = _scores(plan, plan.baseline.name, candidate.pairs, trials)
    after = _scores(plan, candidate.name, candidate.pairs, trials)
    differences = [gain(plan.direction, before[index], after[index]) for index in sorted(before.keys() & after.keys())]
    return Gain(names[candidate.name], candidate.standing.value, candidate.gain, differences)

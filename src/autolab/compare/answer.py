"""What a comparison says: one line, a small table, JSON, Markdown for a merge request, and the exit code."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from autolab.compare.paired_runs import Outcome
from autolab.compare.question import OneAtATime, Require
from autolab.errors import ExitCode
from autolab.lab.schemas.experiment import Interval, Trial
from autolab.lab.schemas.outcomes import Verdict
from autolab.reports.rounding import decimals_of, interval_of, shown
from autolab.stats import rules, verdict
from autolab.stats.plan import Plan
from autolab.trials.measurement import Ending
from autolab.trials.progress import spell


class Standing(StrEnum):
    """The answer about one candidate."""

    BETTER = "better"
    NOT_WORSE = "not worse"
    NO_GAIN = "no gain"
    UNDECIDED = "undecided"
    WORSE = "worse"
    FAILED = "failed"


EXIT_CODES = {
    Standing.BETTER: ExitCode.DONE,
    Standing.NOT_WORSE: ExitCode.DONE,
    Standing.NO_GAIN: ExitCode.NO_GAIN,
    Standing.UNDECIDED: ExitCode.UNDECIDED,
    Standing.WORSE: ExitCode.WORSE,
    Standing.FAILED: ExitCode.ERROR,
}
_BEST_FIRST = (
    Standing.BETTER,
    Standing.NOT_WORSE,
    Standing.UNDECIDED,
    Standing.NO_GAIN,
    Standing.WORSE,
    Standing.FAILED,
)
_ACTIONS = {
    rules.RuleAction.REFUTED: Standing.NO_GAIN,
    rules.RuleAction.FUTILE: Standing.NO_GAIN,
    rules.RuleAction.WORSE: Standing.WORSE,
    rules.RuleAction.CONTINUE: Standing.UNDECIDED,
    rules.RuleAction.FAILED: Standing.FAILED,
}
_REASONS = {
    "refuted": "a gain of {delta} or more is ruled out",
    "futile": "a gain of {delta} or more has become unlikely",
    "no_change": "the same output in every pair",
    "deterministic": "no seed changes the output, so all pairs are one pair, which says nothing of chance",
    "pending": "not decided yet",
    "budget": "all planned pairs are used",
    "not_repeated": "fresh seeds did not repeat the gain",
}


_RIGHTS = {
    "none": "the versions ran with your own rights",
    "partial": "the versions could write nothing but their own files, and had no network",
    "full": "the versions saw nothing but their code and data, and had no network",
}
_ONE_AT_A_TIME = {
    OneAtATime.ASKED: "as you asked",
    OneAtATime.SPEED: "{metric} is a time or a speed, which a training beside it would change",
    OneAtATime.SHARED: "all of them write to {shared}, so that one may find what another left there;"
    " --containment full gives each its own",
}


@dataclass(frozen=True)
class CandidateAnswer:
    """The answer about one candidate. `before` and `after` are means over the pairs; None before the first pair.

    `error` says why it failed, in one line; empty if it did not.
    """

    name: str
    label: str
    standing: Standing
    reason: str
    gain: Interval
    pairs: int
    before: float | None
    after: float | None
    confirmed: bool | None = None
    error: str = ""


@dataclass(frozen=True)
class ComparisonAnswer:
    """What is printed. `problem` says why no candidate was measured, in one line; empty if one was.

    `figure` is the file with the figure, None if there is none.
    """

    outcome: Outcome
    candidates: tuple[CandidateAnswer, ...]
    problem: str = ""
    figure: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 if one candidate is better; else 6 if one is undecided, else 5, else 7; 1 if all failed."""
        if self.problem:
            return ExitCode.ERROR
        standings = [candidate.standing for candidate in self.candidates]
        return EXIT_CODES[min(standings, key=_BEST_FIRST.index)]


def answer_of(outcome: Outcome) -> ComparisonAnswer:
    """The answer that the measured pairs give."""
    if outcome.ending not in (Ending.DONE, Ending.PAUSED):
        return ComparisonAnswer(outcome, (), problem=outcome.reason)
    if outcome.plan is None:
        nothing = Interval(n=0, mean=0.0, low=None, high=None, level=1 - 2 * outcome.question.alpha)
        candidates = []
        for version in outcome.question.candidates:
            undecided = CandidateAnswer(
                version.name, version.label, Standing.UNDECIDED, "pending", nothing, 0, None, None
            )
            candidates.append(undecided)
        return ComparisonAnswer(outcome, tuple(candidates))
    judgement = verdict.judge(outcome.plan, outcome.trials)
    candidates = [_candidate(outcome, outcome.plan, ruling, name) for name, ruling in judgement.rulings.items()]
    errors = [candidate.error for candidate in candidates if candidate.error]
    problem = "; ".join(errors) if len(errors) == len(candidates) else ""
    return ComparisonAnswer(outcome, tuple(candidates), problem)


def _candidate(outcome: Outcome, plan: Plan, ruling: rules.Ruling, name: str) -> CandidateAnswer:
    label = next(version.label for version in outcome.question.candidates if version.name == name)
    confirmed = _is_confirmed(outcome, name)
    standing = standing_of(outcome.question.require, ruling.action, ruling.reason)
    reason = ruling.reason
    error = _failure(plan, name, outcome.trials) if standing is Standing.FAILED else ""
    if standing is Standing.BETTER and confirmed is False:
        standing, reason = Standing.NO_GAIN, "not_repeated"
        assert outcome.confirmed is not None
        error = _failure(plan, name, outcome.confirmed.trials)
        if error:
            standing, reason = Standing.FAILED, "failed"
    gain = ruling.interval
    if standing not in (Standing.BETTER, Standing.NOT_WORSE):
        gain = verdict.refutation_interval(name, gain, plan, outcome.trials)
    return CandidateAnswer(
        name=name,
        label=label,
        standing=standing,
        reason=reason,
        gain=gain,
        pairs=ruling.pairs,
        before=_mean(plan, plan.baseline.name, ruling.pairs, outcome.trials),
        after=_mean(plan, name, ruling.pairs, outcome.trials),
        confirmed=confirmed,
        error=error,
    )


def _failure(plan: Plan, arm: str, trials: Sequence[Trial]) -> str:
    """Why the arm's first trial that failed did, in seed order; empty if none failed."""
    for trial in sorted(trials, key=lambda trial: trial.index):
        failure = plan.scale.failure(trial) if trial.arm == arm else None
        if failure is not None:
            return failure.removeprefix("trial ")
    return ""


def standing_of(require: Require, action: rules.RuleAction, reason: str) -> Standing:
    """The answer that the rule's action is; CONTINUE after the last pair, or before, is undecided."""
    # One training of each version decides nothing, whichever of the two has the better number.
    if reason == "deterministic" and action is rules.RuleAction.FUTILE:
        return Standing.UNDECIDED
    if action is not rules.RuleAction.KEEP:
        return _ACTIONS[action]
    return Standing.NOT_WORSE if require == "not_worse" else Standing.BETTER


def _is_confirmed(outcome: Outcome, name: str) -> bool | None:
    """Whether fresh seeds repeated the gain; None if they were not asked, or are not through."""
    if outcome.confirmed is None or outcome.confirmed.comparisons == ():
        return None
    for comparison in outcome.confirmed.comparisons:
        if comparison.arm == name:
            return comparison.verdict is Verdict.SUPPORTED
    return None


def _mean(plan: Plan, arm: str, pairs: int, trials: Sequence[Trial]) -> float | None:
    """The mean score of an arm over the first pairs; None before the first."""
    scores = []
    for trial in trials:
        score = plan.scale.score(trial)
        if trial.arm == arm and trial.index < pairs and score is not None:
            scores.append(score)
    return statistics.fmean(scores) if scores else None


# What is printed


def lines_of(answer: ComparisonAnswer) -> Iterator[str]:
    """The answer for a terminal: a line a candidate, then what it cost and what to do."""
    outcome = answer.outcome
    question, derived = outcome.question, outcome.derived
    for candidate in answer.candidates:
        yield line_of(answer, candidate)
    if derived is not None:
        yield (
            f"the base varies: a pair's difference deviates by {_two_digits(derived.deviation)} or less;"
            f" {question.pairs} pairs resolve {derived.delta:g}"
        )
    yield from _notes(outcome)
    if answer.figure is not None:
        yield f"figure: {answer.figure}"
    if outcome.budget_spent:
        yield "the budget is spent; the same command with a larger --budget goes on from here"
    elif outcome.ending is Ending.PAUSED:
        yield "paused; the same command goes on from here"


def _two_digits(value: float) -> str:
    """As many digits as a deviation of few trials has, without an exponent from 100 on: 0.018, 180."""
    return f"{float(f'{value:.2g}'):g}"


def _notes(outcome: Outcome) -> Iterator[str]:
    """How the trainings ran, and what their seeds showed, a line each."""
    conditions, question = outcome.conditions, outcome.question
    seen = conditions.seed.sentence(question.metric)
    if seen:
        yield seen
    if question.one_at_a_time is not None:
        why = _ONE_AT_A_TIME[question.one_at_a_time].format(metric=question.metric, shared=", ".join(question.shared))
        yield f"one training at a time: {why}"
    rights = _RIGHTS[conditions.containment]
    if conditions.evaluator is not None:
        yield f"evaluator: {conditions.evaluator} of {question.base.label} measured all versions"
        if conditions.containment == "none":
            rights += ", the labels in reach"
    yield f"containment {conditions.containment}: {rights}"


def line_of(answer: ComparisonAnswer, candidate: CandidateAnswer) -> str:
    """`better: val loss 3.894 -> 3.871, gain 0.023 (99% CI 0.011 to 0.035), 7 pairs, 41 min`."""
    outcome = answer.outcome
    head = f"{candidate.standing}: "
    if len(answer.candidates) > 1:
        head += f"{candidate.label}: "
    pairs = f"{candidate.pairs} pairs" if candidate.pairs != 1 else "1 pair"
    cost = f"{pairs}, {spell(outcome.seconds)}"
    if candidate.standing is Standing.FAILED:
        return f"{head}{candidate.error} ({pairs} before that)"
    if candidate.before is None or candidate.after is None:
        return f"{head}no pair is measured yet, {cost}"
    places = decimals_of(candidate.gain)
    change = f"{shown(candidate.before, places)} -> {shown(candidate.after, places)}"
    gain = f"gain {shown(candidate.gain.mean, places)} ({interval_of(candidate.gain)})"
    line = f"{head}{outcome.question.metric} {change}, {gain}, {cost}"
    reason = _reason(outcome, candidate)
    return f"{line}: {reason}" if reason else line


def _reason(outcome: Outcome, candidate: CandidateAnswer) -> str:
    if candidate.standing in (Standing.BETTER, Standing.NOT_WORSE, Standing.WORSE):
        return "repeated on fresh seeds" if candidate.confirmed else ""
    text = _REASONS.get(candidate.reason, "")
    version = next(version for version in outcome.question.candidates if version.name == candidate.name)
    if candidate.reason == "no_change" and version.settings:
        text += "; does the training read the setting?"
    return text.format(delta=f"{outcome.delta:g}") if outcome.delta is not None else text


def markdown_of(answer: ComparisonAnswer) -> Iterator[str]:
    """The answer for a merge request: the line, a table, and how to measure it again."""
    outcome = answer.outcome
    question = outcome.question
    for candidate in answer.candidates:
        yield f"**{candidate.standing}**{line_of(answer, candidate).removeprefix(candidate.standing)}"
        yield ""
    yield f"| version | {question.metric} | gain | CI | pairs | answer |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for candidate in answer.candidates:
        places = decimals_of(candidate.gain)
        before = "-" if candidate.before is None else shown(candidate.before, places)
        after = "-" if candidate.after is None else shown(candidate.after, places)
        gain = shown(candidate.gain.mean, places)
        interval = interval_of(candidate.gain)
        row = (_cell(candidate.label), f"{before} → {after}", gain, interval, str(candidate.pairs), candidate.standing)
        yield f"| {' | '.join(row)} |"
    yield ""
    for note in _notes(outcome):
        yield f"- {note}"
    yield ""
    command = shlex.join(_command(outcome))
    yield f"{outcome.spent} trials, {spell(outcome.seconds)}. Measured again with `{command}` on the same change."


def _command(outcome: Outcome) -> Iterator[str]:
    """The command line that asks the same, in any clone that has the versions."""
    question = outcome.question
    yield from ("autolab", "compare", *question.base.words)
    for version in question.candidates:
        yield from version.words
    if outcome.delta is not None:
        yield from ("--delta", f"{outcome.delta:g}")
    yield from ("--pairs", str(question.pairs), "--alpha", f"{question.alpha:g}")
    if question.require == "not_worse":
        yield from ("--require", "not-worse")
    if question.confirm:
        yield "--confirm"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def value_of(answer: ComparisonAnswer) -> dict[str, object]:
    """The answer as JSON."""
    outcome = answer.outcome
    candidates = []
    for candidate in answer.candidates:
        candidates.append(
            {
                "name": candidate.name,
                "version": candidate.label,
                "answer": candidate.standing.value,
                "reason": candidate.reason,
                "gain": candidate.gain.value(),
                "pairs": candidate.pairs,
                "before": candidate.before,
                "after": candidate.after,
                "confirmed": candidate.confirmed,
                "error": candidate.error or None,
            }
        )
    question, limit = outcome.question, outcome.conditions.time_limit
    return {
        "exit_code": int(answer.exit_code),
        "metric": question.metric,
        "delta": outcome.delta,
        "alpha": question.alpha,
        "trials": outcome.spent,
        "seconds": outcome.seconds,
        "key": outcome.key,
        "ended": outcome.ending is Ending.DONE,
        "containment": outcome.conditions.containment,
        "evaluator": outcome.conditions.evaluator,
        "one_at_a_time": question.one_at_a_time,
        "shared": list(question.shared),
        "time_limit_s": None if limit is None else limit.seconds,
        "seed": outcome.conditions.seed.as_json(),
        "figure": None if answer.figure is None else str(answer.figure),
        "candidates": candidates,
    }

"""`autolab compare`: is my change a real gain?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import OmitArgPrefixes, Positional, UseAppendAction

from autolab.cli import flags
from autolab.cli.adoption_talk import adoption_talk
from autolab.cli.flags import AdoptionFlags, Switch, option
from autolab.cli.session import print_aside, print_line, print_result, watched_comparison
from autolab.cli.view import Plain
from autolab.compare.allowance import allowance_of
from autolab.compare.answer import answer_of, lines_of, markdown_of, value_of
from autolab.compare.base_evaluator import with_evaluator
from autolab.compare.comparison_figure import draw_comparison
from autolab.compare.paired_runs import Allowance, run_comparison
from autolab.compare.question import AskedComparison, OneAtATime, asked
from autolab.compare.training_config import places_of, refuse_settings, training_config
from autolab.compare.versions import VersionRequest, open_checkout, resolve
from autolab.errors import LabError, UsageError
from autolab.lab.create import COMPARISONS
from autolab.lab.git import Git, common_dir
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.loop.preflight import is_unread
from autolab.stats.finite import LIMIT
from autolab.stats.rules import FIRST
from autolab.trials.containment import require_level


@dataclass(frozen=True)
class QuestionFlags:
    """What is asked, and what it may cost.

    Args:
        budget: Stop after so much: 2h, 30min, or "40 trials". A later call with a larger one goes on.
        confirm: Measure a gain once more on fresh seeds.
        require: not-worse: ask whether a loss of --delta or more is ruled out, as a merge gate does.
        pairs: Pairs at most, from 3 on. More of them resolve a smaller difference.
        alpha: How often a candidate without a gain may be called better.
        containment: What the programs may do. By default they run with your rights, as you would run them.
        evaluator: A committed eval.py of BASE that measures all versions, with predict.py and the data beside it.
        one_at_a_time: Never run two trainings side by side. It is always so with a metric of time or speed.
    """

    budget: Annotated[str | None, option("AMOUNT")] = None
    confirm: Switch = False
    require: Annotated[Literal["better", "not-worse"], option("{better,not-worse}")] = "better"
    pairs: Annotated[int, option("N")] = 24
    alpha: Annotated[float, option("NUMBER")] = 0.005
    containment: Annotated[Literal["full", "partial", "none"] | None, option("{full,partial,none}")] = None
    evaluator: Annotated[Path | None, option("FILE")] = None
    one_at_a_time: Switch = False

    def check(self) -> None:
        """UsageError for a number that no comparison can have."""
        if self.pairs < FIRST:
            raise UsageError(f"--pairs: {self.pairs} pairs decide nothing; give at least {FIRST}")
        if not 1e-9 <= self.alpha < 0.5:
            raise UsageError(f"--alpha: {self.alpha:g} is no error rate; give a number such as 0.005, below 0.5")

    def allowance(self) -> Allowance:
        if self.budget is None:
            return Allowance()
        return allowance_of(self.budget, "--budget")


@dataclass(frozen=True)
class TrainingFlags(AdoptionFlags):
    """How the training runs, in a repository without a lab. What you leave out is detected, printed and kept.

    Args:
        delta: The smallest difference worth having, in units of the metric, such as 0.01; else what --pairs resolve.
        probe_seconds: Try the training for so long at the first call (60 if left out); 0 does not try it.
    """

    delta: Annotated[float | None, option("NUMBER")] = None
    probe_seconds: Annotated[float | None, option("SECONDS")] = None

    def check(self) -> None:
        """UsageError for a difference that none can be."""
        if self.delta is not None and not 0 < self.delta < LIMIT:
            raise UsageError(f"--delta: {self.delta:g} is no least difference; give a number above 0, such as 0.01")


def compare(
    base: Positional[Annotated[str, option("[BASE]")]] = "HEAD",
    candidate: Positional[Annotated[tuple[str, ...], option("[CANDIDATE ...]")]] = (),
    /,
    *,
    patch: Annotated[UseAppendAction[tuple[Path, ...]], option("FILE")] = (),
    set: Annotated[UseAppendAction[tuple[str, ...]], option("KEY=VALUE")] = (),
    question: Annotated[QuestionFlags, OmitArgPrefixes],
    training: Annotated[TrainingFlags, OmitArgPrefixes],
    aa: Switch = False,
    markdown: Switch = False,
    dir: Annotated[Path, option("DIR", help="A folder of the repository, if it is not this one.")] = Path("."),
    json: flags.Json = False,
    plain: flags.Plain = False,
) -> int:
    """Compare versions of a training over paired seeds until it is known whether one is better.

    Works in any git repository with a training command. The same call goes on after Ctrl-C, or answers at once.

    Exit codes: 0 better, or not worse with --require; 5 no gain; 6 undecided; 7 worse; 1 error; 2 wrong usage.

    Args:
        base: The version that the others are compared with: a revision of git.
        candidate: Revisions to compare; by default the working tree with its uncommitted changes.
        patch: A patch against BASE, as a candidate. Repeatable.
        set: A setting of the training, such as lr=0.003: one candidate, with the code of BASE. Repeatable.
        aa: Compare BASE with itself, to see how this comparison behaves where there is no gain.
        markdown: Print the answer for a merge request.
    """
    question.check()
    training.check()
    if json and markdown:
        raise UsageError("compare: --json or --markdown, not both")
    if not dir.is_dir():
        raise UsageError(f"--dir: {dir} is no folder")
    allowance = question.allowance()
    tell = Plain(print_aside if json or markdown else print_line)
    # Before the training is looked at, which takes a while.
    git = open_checkout(dir)
    first, others = resolve(git, VersionRequest(base, candidate, patch, set, aa), _as_committed(git))
    root, config = training_config(dir, training, tell, *adoption_talk(training, tell))
    if set:
        refuse_settings(config)
    if question.evaluator is not None:
        config = with_evaluator(git, first, config, question.evaluator)
    config = _in_force(config, question)
    require_level(config, common_dir(root) / "autolab" / COMPARISONS)
    # At a higher level each training has its own, or none.
    shared = places_of(root) if config.containment == "none" else ()
    ask = AskedComparison(
        base=asked(first),
        candidates=tuple(asked(other) for other in others),
        metric=config.metric.primary,
        direction=config.metric.direction,
        delta=training.delta,
        alpha=question.alpha,
        require="better" if question.require == "better" else "not_worse",
        confirm=question.confirm,
        pairs=question.pairs,
        one_at_a_time=_one_at_a_time(question, shared),
        shared=shared,
    )
    with watched_comparison(ask, allowance, plain, json or markdown) as (view, stop):
        answer = answer_of(run_comparison(root, config, ask, allowance, view, stop))
    answer = replace(answer, figure=draw_comparison(answer))
    # Whoever reads a document gets it also where all candidates failed.
    if not answer.problem or (answer.candidates and (json or markdown)):
        print_result(value_of(answer), markdown_of(answer) if markdown else lines_of(answer), json)
    if answer.problem:
        raise LabError(f"compare: {answer.problem}")
    return answer.exit_code


def _as_committed(git: Git) -> Callable[[str], bool]:
    """Which changes of the working tree make no version: in a lab those of its own documents and record."""
    if not (common_dir(git.root) / "autolab" / "head").exists():
        return lambda path: False
    config = Lab.find(git.root).config()
    return lambda path: is_unread(path, config)


def _one_at_a_time(question: QuestionFlags, shared: tuple[str, ...]) -> OneAtATime | None:
    """Why no two trainings may run side by side; None if the metric alone says it."""
    if question.one_at_a_time:
        return OneAtATime.ASKED
    return OneAtATime.SHARED if shared else None


def _in_force(config: Config, question: QuestionFlags) -> Config:
    """Labels stay out of reach of both arms where an evaluator seals the answer; else a user's own code is trusted."""
    level = question.containment or ("full" if config.evaluate is not None else "none")
    return config.model_copy(update={"containment": level})

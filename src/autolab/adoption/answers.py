"""What an adoption has to know beside what it detects: wrong flags are refused, and what is missing is asked."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autolab.adoption.detection import (
    DELTA,
    AdoptionRequest,
    has_clear_metric,
    likely_metrics,
    metric_setting,
    named_folders,
    settings_of,
)
from autolab.adoption.first_run import FirstRun, Printed
from autolab.adoption.notebooks import notebook_words
from autolab.adoption.questions import (
    CHOICES,
    NONE,
    Ask,
    Choice,
    UserQuestion,
    data_question,
    delta_question,
    direction_question,
    program_question,
)
from autolab.adoption.refusals import Refusals
from autolab.adoption.repository import Repository
from autolab.adoption.smallest_difference import proposed_delta
from autolab.adoption.training_program import Program, find_program, python_path
from autolab.adoption.training_scripts import training_commands
from autolab.errors import AutolabError, UsageError
from autolab.lab.schemas.config import Direction
from autolab.stats.metric_names import direction_of

UNKNOWN = "unknown"
"""The metric of a program while it is tried for the first time."""
_NO_PROGRAM = Program("unknown", None, "", "", {})
_CHOSEN = "chosen of those that it printed"
_DATA_NAMES = ("data", "dataset", "datasets", "input", "inputs", "corpus")


@dataclass(frozen=True)
class MetricAnswer:
    """The metric's name, the direction that is better, and why it is this one."""

    name: str
    direction: Direction
    reason: str


def without_wrong_flags(repository: Repository, request: AdoptionRequest, refusals: Refusals) -> AdoptionRequest:
    """The request without the flags that make no sense, each of which is refused."""
    wrong: list[str] = []
    seconds = request.probe_seconds
    if seconds is not None and not 0 <= seconds < math.inf:
        refusals.add(UsageError(f"--probe-seconds: {seconds:g} is not a number of seconds; 0 does not try it"))
        wrong.append("probe_seconds")
    if request.python is not None and _is_refused(refusals, repository, AdoptionRequest(), request.python):
        wrong.append("python")
    for name in ("delta", "metric_pattern", "data"):
        value = getattr(request, name)
        alone = replace(AdoptionRequest(metric=UNKNOWN, direction="minimize"), **{name: value})
        if value is not None and _is_refused(refusals, repository, alone):
            wrong.append(name)
    return replace(request, **{name: getattr(AdoptionRequest(), name) for name in wrong})


def _is_refused(refusals: Refusals, repository: Repository, alone: AdoptionRequest, python: Path | None = None) -> bool:
    before = len(refusals.errors)
    with refusals.collect():
        if python is not None:
            python_path(repository, python)
        else:
            settings_of(repository, _NO_PROGRAM, alone)
    return len(refusals.errors) > before


def with_program(repository: Repository, request: AdoptionRequest, ask: Ask) -> AdoptionRequest:
    """The request with a training command, unless the last commit has a train.py, or one notebook and no such script.

    UsageError: none is known.
    """
    if request.train_command is not None or repository.holds(posixpath.join(repository.folder, "train.py")):
        return request
    commands = training_commands(repository)
    if not commands and notebook_words(repository, None):
        return request

    def complaint(command: str) -> str:
        try:
            find_program(repository, command, request.python)
        except AutolabError as error:
            return str(error)
        return ""

    return replace(request, train_command=ask(program_question(commands, complaint)))


def before_run(
    repository: Repository, program: Program, request: AdoptionRequest, ask: Ask, refusals: Refusals
) -> AdoptionRequest:
    """The request with the answers to what can be known before the program has run."""
    if request.metric is not None and request.direction is None and direction_of(request.metric) is None:
        # A run says what else is missing, so that all of it is refused at once.
        with refusals.collect(before_run=not is_tried(request)):
            request = replace(request, direction=_direction(request.metric, ask))
    folders = named_folders(repository, program)
    if not request.data and len(folders) > 1:
        by_name = sorted(folders, key=lambda name: name not in _DATA_NAMES)
        folder = ask(data_question(by_name, is_likely=by_name[0] in _DATA_NAMES))
        if folder != NONE:
            request = replace(request, data=(folder,))
    return request


def is_tried(request: AdoptionRequest) -> bool:
    """Whether the program is run before the lab is made."""
    return request.probe_seconds is None or request.probe_seconds > 0


def _direction(metric: str, ask: Ask) -> Direction:
    return "maximize" if ask(direction_question(metric)) == "maximize" else "minimize"


def metric_without_run(program: Program, request: AdoptionRequest, ask: Ask) -> AdoptionRequest:
    """The request with a metric, which the program's text has to show. UsageError: it does not."""
    if request.metric is not None or has_clear_metric(program):
        return request
    return replace(request, metric=ask(_question_of_text(program, request)))


def _question_of_text(program: Program, request: AdoptionRequest) -> UserQuestion:
    """Which of the names decides that the program's text prints."""
    names, likely = likely_metrics(program)
    refusal = "--metric: name the number that decides"
    try:
        metric_setting(program, request)
    except UsageError as error:
        refusal = str(error)
    others = [name for name in names if name not in likely]
    return UserQuestion(
        flag="--metric",
        text=f"Which number decides? The text of {program.name} has these.",
        choices=tuple(Choice(name) for name in [*likely, *others][:CHOICES]),
        refusal=refusal,
        is_likely=bool(likely),
        may_type="the name of another number that it prints",
    )


def metric_of_run(program: Program, run: FirstRun, request: AdoptionRequest, ask: Ask) -> MetricAnswer:
    """The one number of those that the program printed that decides, asked if several could.

    UsageError: it is not clear, and nobody answers. A metric whose name does not say which way is better is never
    chosen for the user.
    """
    proposals = run.proposals()
    likely = [printed for printed in proposals if direction_of(printed.series.name)]
    if len(likely) == 1:
        name, reason = likely[0].series.name, "the one number that it printed and that could decide"
    elif proposals:
        name, reason = ask(_question_of_run(run, likely or proposals, bool(likely))), _CHOSEN
    elif run.is_whole:
        raise UsageError(
            "--metric: the training printed no number that could decide; name it, and where it stands, with"
            " --metric NAME --metric-pattern REGEX"
        )
    else:
        name, reason = ask(_question_of_text(program, request)), "chosen of those that its text has"
    direction = request.direction or direction_of(name) or _direction(name, ask)
    return MetricAnswer(name, direction, reason)


def _question_of_run(run: FirstRun, printed: Sequence[Printed], is_likely: bool) -> UserQuestion:
    rows = printed[:CHOICES]

    def complaint(name: str) -> str:
        if run.series_of(name) is None and run.is_whole:
            return f"the training ended without printing {name}"
        return ""

    return UserQuestion(
        flag="--metric",
        text="Which number decides?",
        choices=tuple(Choice(row.series.name, row.values) for row in rows),
        refusal="--metric: name the number that decides, such as the first of those above",
        is_likely=is_likely,
        may_type="the name of another number that it prints",
        complaint=complaint,
        listed=tuple(f"  {row}" for row in rows),
    )


def instead_of(name: str, run: FirstRun, request: AdoptionRequest, ask: Ask) -> MetricAnswer:
    """The metric in place of one that the program ended without printing. UsageError: nobody answers."""
    rows = run.proposals()[:CHOICES]
    instead = "what it printed stands above" if rows else "it printed no number that could decide"
    problem = f"the training ended without printing {name}"
    if name in run.unread:
        problem = f"{name}: {run.unread[name]}"
    refusal = f"--metric: {problem}; {instead}"
    if not rows:
        raise UsageError(refusal)
    # --yes must not replace what the user named.
    is_likely = request.metric is None and direction_of(rows[0].series.name) is not None
    question = replace(_question_of_run(run, rows, is_likely), refusal=refusal)
    chosen = ask(replace(question, text=f"The training ended without printing {name}. Which number decides?"))
    direction = request.direction or direction_of(chosen) or _direction(chosen, ask)
    return MetricAnswer(chosen, direction, _CHOSEN)


def delta_of_run(metric: str, printed: Printed | None, ask: Ask) -> tuple[float, str]:
    """The smallest difference worth having, and where it is from; `printed` are the values that the run showed."""
    proposal = None if printed is None else proposed_delta(printed.series)
    delta, reason = proposal or (DELTA, "a first guess, as no value was seen")
    text = ask(delta_question(metric, f"{delta:g}", reason))
    if float(text) != delta:
        return float(text), "your answer"
    if proposal is None:
        reason = f"the smallest difference in {metric} that is worth having"
    return delta, f"{reason}: only you know it"

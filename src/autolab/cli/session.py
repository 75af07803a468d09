"""What commands share: how they print, what their options change, how they are watched and paused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from autolab.cli.flags import ResearcherFlags, TrialFlags
from autolab.cli.view import Plain, in_foreground
from autolab.errors import ExitCode, UsageError
from autolab.ideas.lessons import recall
from autolab.lab.lab import Lab
from autolab.lab.location import holder
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.experiment import Finding
from autolab.trials.progress import JudgedIteration, View

if TYPE_CHECKING:
    from autolab.cli.live_view import LiveComparison, LiveView
    from autolab.compare.paired_runs import Allowance, ComparisonView
    from autolab.compare.question import AskedComparison


def print_findings(findings: list[Finding], as_json: bool) -> int:
    """Print findings; exit code 1 if one blocks."""
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    lines = []
    for finding in findings:
        mark = "FAIL" if finding in blocking else "note"
        lines.append(f"{mark}  {finding.check}: {finding.message}")
    if not blocking:
        lines.append("all is well")
    elif len(blocking) == 1:
        lines.append("1 problem")
    else:
        lines.append(f"{len(blocking)} problems")
    print_result({"ok": not blocking, "findings": [finding.value() for finding in findings]}, lines, as_json)
    return ExitCode.ERROR if blocking else ExitCode.DONE


def print_result(value: object, lines: Iterable[str], as_json: bool) -> None:
    """Print a result as JSON, or as lines for a reader."""
    print(to_json(value) if as_json else "\n".join(lines))


def to_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def print_line(line: str) -> None:
    print(line, flush=True)


def print_aside(line: str) -> None:
    """Where standard output is for a document."""
    print(line, file=sys.stderr, flush=True)


def with_researcher(config: Config, flags: ResearcherFlags) -> Config:
    """The configuration with the researcher that this command's options name."""
    timeout_s = flags.llm_timeout
    if timeout_s is not None and not 0 < timeout_s < float("inf"):
        raise UsageError(f"--llm-timeout: {timeout_s:g} is not a positive number of seconds")
    options = {
        "script": flags.script,
        "command": flags.command,
        "model": flags.model,
        "base_url": flags.base_url,
        "timeout_s": timeout_s,
    }
    options = {key: value for key, value in options.items() if value is not None}
    if not flags.researcher and not options:
        return config
    name = flags.researcher or _implied_researcher(config.researcher.name, set(options))
    researcher = config.researcher
    # The options of another researcher mean nothing to this one.
    if name != researcher.name:
        researcher = ResearcherConfig(name=name)
    researcher = researcher.model_copy(update={"name": name, **options})
    return config.model_copy(update={"researcher": researcher})


def _implied_researcher(configured: str, options: set[str]) -> str:
    """The researcher that the options belong to, if none is named."""
    if "script" in options:
        return "scripted"
    if "command" in options:
        return "command"
    if configured in _WITHOUT_MODEL:
        return "llm"
    return configured


_WITHOUT_MODEL = ("offline", "scripted", "command")
"""Researchers that take no model: --model beside them in the configuration means the llm."""


def with_trials(config: Config, flags: TrialFlags) -> Config:
    """The configuration with this command's options in place of its keys."""
    update: dict[str, object] = {}
    if flags.executor:
        update["executor"] = config.executor.model_copy(update={"name": flags.executor})
    if flags.containment:
        update["containment"] = flags.containment
    if flags.resolve:
        update["test"] = config.test.model_copy(update={"resolve": True})
    return config.model_copy(update=update)


@contextlib.contextmanager
def watched(lab: Lab, config: Config, plain: bool, as_json: bool = False) -> Iterator[tuple[View, Callable[[], bool]]]:
    """The view in which a user sees what a command does, and a function that says whether they asked it to pause.

    If standard output is for a JSON document, lines go to standard error.
    """
    view = Plain(print_aside) if as_json else choose_view(lab, config, plain)
    # Left in reverse order: the view gives the terminal back while signals are still handled.
    with _PauseRequests(lab, view.pause) as stop, view:
        yield view, stop


@contextlib.contextmanager
def watched_comparison(
    question: AskedComparison, allowance: Allowance, plain: bool, as_document: bool
) -> Iterator[tuple[ComparisonView, Callable[[], bool]]]:
    """As `watched`, of a comparison, which is no command of a lab."""
    from autolab.cli.comparison_view import ComparisonState, PlainComparison

    state = ComparisonState(question, allowance)
    view: PlainComparison | LiveComparison = PlainComparison(state, print_aside if as_document else print_line)
    if not as_document and not plain and can_draw():
        from autolab.cli.live_view import LiveComparison

        view = LiveComparison(state)
    with _PauseRequests(None, view.pause) as stop, view:
        yield view, stop


def choose_view(lab: Lab, config: Config, plain: bool) -> Plain | LiveView:
    """The live view where a user looks at a terminal that can show it, else plain lines."""
    if plain or not can_draw():
        return Plain(print_line)
    # Only here: it loads rich, which no other view needs.
    from autolab.cli.live_view import LiveView

    _, campaign = lab.load()
    lessons = recall(lab.store, lab.ledger, campaign.learned)
    return LiveView(config.budget, map(JudgedIteration.before, lessons))


def can_draw() -> bool:
    """Whether standard output is a terminal in the foreground with cursor movements, colours and UTF-8."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    if not sys.stdout.isatty() or not sys.stdout.encoding.lower().startswith("utf"):
        return False
    return in_foreground(sys.stdout.fileno())


def is_interactive() -> bool:
    """Whether a user can be asked: standard input and standard output are terminals, in the foreground."""
    return os.isatty(0) and sys.stdout.isatty() and in_foreground(sys.stdout.fileno())


class _PauseRequests:
    """Ctrl-C, SIGTERM and `autolab stop` ask to pause at a safe point; a second signal stops the command at once.

    `lab` is None for a command without one, which `autolab stop` does not reach.
    """

    def __init__(self, lab: Lab | None, say: Callable[[], None]) -> None:
        """`say` tells the user that the request was heard."""
        self._lab, self._say = lab, say
        self._is_pausing = False

    def __enter__(self) -> Callable[[], bool]:
        self._command = None if self._lab is None else holder(self._lab.store)
        self._handlers = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            self._handlers[number] = signal.signal(number, self._handle)
        return self._is_requested

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        # A request that was obeyed, or came too late.
        if self._lab is not None:
            self._lab.store.joinpath("stop").unlink(missing_ok=True)

    def _is_requested(self) -> bool:
        # A request of `autolab stop` names the command that it means: one that came too late must not stop the next.
        if self._lab is not None and self._lab.asked_to_stop(self._command):
            self._is_pausing = True
            self._say()
        return self._is_pausing

    def _handle(self, number: int, _: object) -> None:
        if self._is_pausing:
            raise KeyboardInterrupt
        self._is_pausing = True
        self._say()

"""One iteration as the record has it: its documents, its events, its candidate."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from autolab import files
from autolab.errors import RecordError
from autolab.ideas import lessons
from autolab.lab import crash_points, redaction
from autolab.lab.lab import IterationPaths, Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.experiment import Confirmation, Design, Hypothesis, Lesson, Manifest, Results, RunMetrics
from autolab.lab.schemas.record import Record
from autolab.loop.stages import StageOutcome
from autolab.researchers.assembler import blueprint
from autolab.researchers.base import Researcher
from autolab.text import many_lines
from autolab.trials import champion
from autolab.trials.progress import View

Document = TypeVar("Document", bound=Record)


@dataclass(frozen=True)
class StageResult:
    """What came of one attempt at a stage: for the table, for the campaign, for the state."""

    outcome: StageOutcome
    reason: str = ""
    campaign: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Iteration:
    """One step's view of the lab. Everything on it was read under the lock."""

    lab: Lab
    config: Config
    policy: VerifierPolicy
    state: State
    campaign: Campaign
    line: Line
    """The newest transition."""
    researcher: Researcher
    reviewer: Researcher
    tell: View
    stop: Callable[[], bool]
    began: float = field(default_factory=time.monotonic)

    def late(self) -> bool:
        """Whether budget.wall_hours is over, this step's time counted."""
        cap = self.config.budget.wall_hours
        return cap is not None and self.campaign.seconds + time.monotonic() - self.began >= cap * 3600

    @property
    def iteration_id(self) -> str:
        assert self.state.iteration_id is not None
        return self.state.iteration_id

    @property
    def paths(self) -> IterationPaths:
        return self.lab.iteration(self.iteration_id)

    def events(self) -> list[Line]:
        """The ledger lines of this iteration."""
        return list(self.lab.ledger.lines(self.campaign.iteration_offset))

    @cached_property
    def acted(self) -> int:
        """Number of the newest line that acted on what a stage did; what was recorded since is still to be used.

        Not simply the newest transition: a loop that begins or a user's answer acts on no answer and no trial.
        """
        acts = (line.n for line in self.events() if line.event == "transition" and "outcome" in line.data)
        return max(acts, default=0)

    def shown(self, path: Path) -> str:
        """A path as messages name it: from the lab's root where it lies in it."""
        return str(path.relative_to(self.lab.root)) if path.is_relative_to(self.lab.root) else str(path)

    def restore(self) -> None:
        """Make the iteration's folder, and bring back recorded files of it that somebody cleaned away.

        Before a stage and after anything that took long, so that nobody misses what they read or record.
        """
        self.lab.require_here()
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        crash_points.point("iteration.after_folder")
        recorded = self.line.data.get("log")
        if recorded and self.lab.git.resolve(recorded):
            for name in self.lab.git.restore_missing(recorded, self.lab.root):
                self.tell(f"{name}: was missing, restored from the record")

    @property
    def goal(self) -> str:
        """What the user wants: the loop's goal, or else the lab's."""
        loop = self.campaign.loop
        return loop.goal if loop and loop.goal else self.config.goal

    @property
    def target(self) -> str | None:
        loop = self.campaign.loop
        return loop.target if loop and loop.target else self.config.target

    def write(self, path: Path, text: str) -> None:
        files.write_whole(path, redaction.clean(text))
        crash_points.point("artifact.after_write")

    def hypothesis(self) -> Hypothesis:
        path = self.paths.hypothesis
        shown = self.shown(path)
        with _fixable():
            return Hypothesis.from_text(front_matter(read(path, shown), shown), shown)

    def design(self) -> Design:
        return self.load(Design, self.paths.design)

    def load(self, kind: type[Document], path: Path) -> Document:
        """A document of the iteration that the engine wrote and a user may have edited since."""
        with _fixable():
            return kind.load(path, self.shown(path))

    @property
    def title(self) -> str:
        """The hypothesis's title, as the backlog has it; empty before there is one."""
        known = {one.id: one.title for one in self.lab.backlog().hypotheses}
        return known.get(self.campaign.hypothesis_id or "", "")

    @property
    def slug(self) -> str:
        """The candidate's name (worktree, branch `exp/<slug>`); unique, as it begins with the hypothesis id."""
        title = re.sub(r"[^a-z0-9]+", "-", self.hypothesis().title.lower()).strip("-")[:40].strip("-")
        again = f"-r{self.campaign.refinement}" if self.campaign.refinement else ""
        return f"{self.campaign.hypothesis_id}-{title or 'candidate'}{again}"

    @property
    def worktree(self) -> Path:
        return self.lab.worktrees / self.slug

    def candidate(self, before: int | None = None) -> str | None:
        """The newest commit of this iteration's candidate, by the ledger, or by its lines below number `before`."""
        lines = [line for line in self.events() if before is None or line.n < before]
        found = [line.data["commit"] for line in lines if line.event == "candidate"]
        return found[-1] if found else None


@contextmanager
def _fixable() -> Iterator[None]:
    """Add the way out to what is wrong with a document that the record holds too."""
    try:
        yield
    except RecordError as error:
        raise RecordError(f"{error}; fix it, or remove the file: the recorded one comes back") from None


def front_matter(text: str, shown: str) -> str:
    """The YAML between the first two `---` lines; RecordError where there is none."""
    found = re.match(r"\A---\n(.*?\n)---\n", text, re.DOTALL)
    if not found:
        raise RecordError(f"{shown}: line 1: has no front matter between two `---` lines")
    return found[1]


def read(path: Path, shown: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{shown}: not found; `autolab doctor --fix` brings back what the record holds") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{shown}: cannot be read: {error}") from None


def quoted(desk: Iteration, path: Path) -> str:
    """A document of the iteration as a prompt quotes it, whatever a user has made of its characters."""
    try:
        return many_lines(path.read_bytes())
    except OSError as error:
        shown = desk.shown(path)
        raise RecordError(f"{shown}: cannot be read: {error.strerror}; `autolab doctor --fix` brings it back") from None


def recalled(desk: Iteration) -> tuple[Lesson, ...]:
    """What the lab has learned, newest first."""
    return lessons.recall(desk.lab.store, desk.lab.ledger, desk.campaign.learned)


def history(desk: Iteration) -> str:
    return lessons.told(recalled(desk))


def in_base(desk: Iteration) -> blueprint.Read:
    return lambda path: desk.lab.git.text(desk.campaign.base_commit or "HEAD", path)


def recorded_confirmation(desk: Iteration) -> Confirmation | None:
    return champion.recorded(desk.events(), desk.state.last_run_id)


def recorded_manifest(desk: Iteration, run_id: str | None = None) -> Manifest:
    path = desk.paths.run(run_id or desk.state.last_run_id or "").manifest
    return desk.load(Manifest, path)


def recorded_metrics(desk: Iteration, run_id: str | None = None) -> RunMetrics:
    path = desk.paths.run(run_id or desk.state.last_run_id or "").folder / "metrics.json"
    return desk.load(RunMetrics, path)


def recorded_results(desk: Iteration) -> Results:
    return desk.load(Results, desk.paths.results)

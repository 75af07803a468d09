"""One iteration as the record has it: its documents, its events, its candidate."""

from __future__ import annotations

import re
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
from autolab.lab.experiment_paths import IterationPaths, RunPaths
from autolab.lab.front_matter import front_matter
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.experiment import (
    Calibration,
    Confirmation,
    Design,
    Hypothesis,
    Lesson,
    Manifest,
    Results,
    RunMetrics,
    Summary,
)
from autolab.lab.schemas.record import Record
from autolab.loop.stages import StageOutcome
from autolab.text import many_lines
from autolab.trials import calibration
from autolab.trials.confirmation import recorded_confirmation

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
    """One iteration as it is on record. Everything on it was read under the lock."""

    lab: Lab
    config: Config
    policy: VerifierPolicy
    state: State
    campaign: Campaign
    line: Line
    """The newest transition."""

    @classmethod
    def read(cls, lab: Lab, config: Config) -> Iteration:
        """The lab's present iteration, as its newest transition says."""
        line = lab.ledger.transition()
        assert line is not None
        state, campaign = lab.load()
        return cls(lab, config, lab.policy(), state, campaign, line)

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

    def relative(self, path: Path) -> str:
        """A path as messages name it: from the lab's root where it lies in it."""
        return str(path.relative_to(self.lab.root)) if path.is_relative_to(self.lab.root) else str(path)

    def restore(self, tell: Callable[[str], None]) -> None:
        """Make the iteration's folder, and bring back recorded files of it that somebody cleaned away.

        Before a stage and after anything that took long, so that nobody misses what they read or record.
        """
        self.lab.require_here()
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        crash_points.point("iteration.after_folder")
        recorded = self.line.data.get("log")
        if recorded and self.lab.git.resolve(recorded):
            for name in self.lab.git.restore_missing(recorded, self.lab.root):
                tell(f"{name}: was missing, restored from the record")

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

    # documents

    def hypothesis(self) -> Hypothesis:
        path = self.paths.hypothesis
        name = self.relative(path)
        with _fixable():
            return Hypothesis.from_text(front_matter(read_document(path, name), name), name)

    def design(self) -> Design:
        return self.load(Design, self.paths.design)

    def results(self) -> Results:
        return self.load(Results, self.paths.results)

    def manifest(self, run_id: str | None = None) -> Manifest:
        """The manifest of a run; without an id, of the run that the next stage reads."""
        return self.load(Manifest, self._run(run_id).manifest)

    def metrics(self, run_id: str | None = None) -> RunMetrics:
        """What a run measured, by arm; without an id, of the run that the next stage reads."""
        return self.load(RunMetrics, self._run(run_id).folder / "metrics.json")

    def model_summary(self) -> Summary | None:
        """What the candidate says of its model; None if its checks left no summary.json."""
        path = self.paths.summary_json
        return self.load(Summary, path) if path.exists() else None

    def confirmation(self) -> Confirmation | None:
        """The confirmation of the last run, by the ledger; None if it was not confirmed."""
        return recorded_confirmation(self.events(), self.state.last_run_id)

    def calibration(self) -> Calibration | None:
        """The lab's calibration; None before there is one."""
        return calibration.current_calibration(self.lab)

    def load(self, kind: type[Document], path: Path) -> Document:
        """A document of the iteration that the engine wrote and a user may have edited since."""
        with _fixable():
            return kind.load(path, self.relative(path))

    def quote(self, path: Path) -> str:
        """A document of the iteration as a prompt quotes it, whatever a user has made of its characters."""
        try:
            return many_lines(path.read_bytes())
        except OSError as error:
            name = self.relative(path)
            way = "`autolab doctor --fix` brings it back"
            raise RecordError(f"{name}: cannot be read: {error.strerror}; {way}") from None

    def _run(self, run_id: str | None) -> RunPaths:
        return self.paths.run(run_id or self.state.last_run_id or "")

    # what the lab knows

    def lessons(self) -> tuple[Lesson, ...]:
        """What the lab has learned, newest first."""
        return lessons.recall(self.lab.store, self.lab.ledger, self.campaign.learned)

    def history(self) -> str:
        """The lessons in words, for a prompt."""
        return lessons.told(self.lessons())

    # the code

    @property
    def base_commit(self) -> str:
        """The commit that the candidate branches from."""
        return self.campaign.base_commit or "HEAD"

    @property
    def parent_commit(self) -> str:
        """The commit that the implementation stage goes on from: its candidate so far, or the base."""
        return self.candidate(before=self.acted) or self.base_commit

    def read_base(self, path: str) -> str | None:
        """A file of the base commit; None if it has none of that name."""
        return self.lab.git.text(self.base_commit, path)

    @property
    def title(self) -> str:
        """The hypothesis's title, as the backlog has it; empty before there is one."""
        titles = {one.id: one.title for one in self.lab.backlog().hypotheses}
        return titles.get(self.campaign.hypothesis_id or "", "")

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
        commits = [line.data["commit"] for line in lines if line.event == "candidate"]
        return commits[-1] if commits else None

    def record_candidate(self, commit: str, via: str) -> None:
        """Pin a commit against git's pruning and record it as the candidate, once; `via` says who wrote its code."""
        self.lab.git.pin(f"refs/autolab/keep/{self.iteration_id}/{commit[:12]}", commit)
        crash_points.point("candidate.after_pin")
        if self.candidate() != commit:
            candidate = {"commit": commit, "base": self.base_commit, "slug": self.slug, "via": via}
            self.lab.ledger.append("candidate", candidate)


@contextmanager
def _fixable() -> Iterator[None]:
    """Add the way out to what is wrong with a document that the record holds too."""
    try:
        yield
    except RecordError as error:
        raise RecordError(f"{error}; fix it, or remove the file: the recorded one comes back") from None


def read_document(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError(f"{name}: not found; `autolab doctor --fix` brings back what the record holds") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{name}: cannot be read: {error}") from None

"""One iteration as the record has it: its documents, its events, its candidate."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from autolab import files
from autolab.errors import RecordError
from autolab.ideas import lessons
from autolab.lab import crash_points, redaction
from autolab.lab.experiment_paths import IterationPaths, RunPaths
from autolab.lab.lab import Lab
from autolab.lab.ledger import Line
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config, VerifierPolicy
from autolab.lab.schemas.events import CandidateRecorded, Transition
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
from autolab.researchers.base import Batch
from autolab.text import both_ends, many_lines, one_line
from autolab.trials import calibration
from autolab.trials.confirmation import recorded_confirmation

Document = TypeVar("Document", bound=Record)
E = TypeVar("E", bound=events.Event)


REASON = 10_000
"""Characters of the reason of a stage's outcome: it gets into the state, and so into each line of a transition."""


@dataclass(frozen=True)
class StageResult:
    """The outcome of one attempt at a stage, and the fields of campaign and state that it changes.

    `reason` may quote what a model or a program said: invisible characters are shown, a long one loses its middle.
    `needs_user`: no other idea and no other attempt can do better before a user has fixed something.
    """

    outcome: StageOutcome
    reason: str = ""
    campaign: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Any] = field(default_factory=dict)
    needs_user: bool = False

    def __post_init__(self) -> None:
        # Here, so that no stage can leave it out.
        object.__setattr__(self, "reason", both_ends(many_lines(self.reason, 1 << 30), REASON))


@dataclass(frozen=True)
class Iteration:
    """One iteration as it is on record. Everything in it was read under the lock."""

    lab: Lab
    config: Config
    policy: VerifierPolicy
    state: State
    campaign: Campaign
    log: str | None
    """The commit that holds the iteration's files as of the newest transition; None before there is one."""
    arm: str | None = None
    """Of a batch: the idea that this is about. Its documents, its candidate and its worktree are its own."""
    batch: Batch | None = None
    """Of a batch: what is asked for by the request for this idea."""
    until: int | None = None
    """The ledger's line up to which the iteration is read, to see it as it was; None: as it is."""

    @classmethod
    def read(cls, lab: Lab, config: Config) -> Iteration:
        """The lab's present iteration, as its newest transition says."""
        line = lab.ledger.transition()
        assert line is not None
        newest = events.read(line, Transition)
        return cls(lab, config, lab.policy(), newest.state, newest.campaign, newest.log)

    @property
    def iteration_id(self) -> str:
        assert self.state.iteration_id is not None
        return self.state.iteration_id

    @property
    def paths(self) -> IterationPaths:
        paths = self.lab.iteration(self.iteration_id)
        return paths if self.arm is None else paths.of_arm(self.arm)

    def of_idea(self, hypothesis_id: str, arm: str | None, batch: Batch | None = None) -> Iteration:
        """The iteration as one idea of its batch sees it; `arm` is None before the idea has a title."""
        campaign = self.campaign.model_copy(update={"hypothesis_id": hypothesis_id, "refinement": 0})
        return replace(self, campaign=campaign, arm=arm, batch=batch)

    def tried(self, attempt: int, reason: str) -> Iteration:
        """The iteration at another attempt of its stage, which an earlier one failed for this reason."""
        return replace(self, state=self.state.model_copy(update={"stage_attempt": attempt, "reason": reason}))

    # Events

    def events(self) -> list[Line]:
        """The ledger lines of this iteration, as they are now."""
        lines = self.lab.ledger.lines(self.campaign.iteration_offset)
        return [line for line in lines if self.until is None or line.n <= self.until]

    def recorded(self, kind: type[E], *, after: int = 0, before: int | None = None) -> list[E]:
        """This iteration's events of one kind; only those of lines numbered above `after` and below `before`."""
        lines = [line for line in self.events() if line.n > after and (before is None or line.n < before)]
        return list(events.events_of(lines, kind))

    @cached_property
    def acted(self) -> int:
        """Number of the newest line by which a stage had an outcome; 0 before the first.

        What was recorded after it is still to be used. It need not be the newest transition: a loop that begins or a
        user's answer uses no reply and no trial.
        """
        # Every step looks at all transitions, so that their states and campaigns are not parsed for one key.
        lines = [line for line in self.events() if line.event == Transition.KIND and "outcome" in line.data]
        return lines[-1].n if lines else 0

    def relative(self, path: Path) -> str:
        """A path as messages name it: relative to the lab's root if it lies below it."""
        if path.is_relative_to(self.lab.root):
            path = path.relative_to(self.lab.root)
        return str(path)

    def restore(self, tell: Callable[[str], None]) -> None:
        """Make the iteration's folder, and bring back recorded files of it that somebody removed.

        To be called before a stage, and after whatever took long: a user may have cleaned the checkout meanwhile.
        """
        self.lab.require_here()
        self.paths.folder.mkdir(parents=True, exist_ok=True)
        crash_points.point("iteration.after_folder")
        if self.log and self.lab.git.resolve(self.log):
            for name in self.lab.git.restore_missing(self.log, self.lab.root):
                tell(f"{name}: was missing, restored from the record")

    @property
    def goal(self) -> str:
        """What the user wants: the loop's goal, or the lab's if the loop has none."""
        loop = self.campaign.loop
        return loop.goal if loop and loop.goal else self.config.goal

    @property
    def target(self) -> str | None:
        loop = self.campaign.loop
        return loop.target if loop and loop.target else self.config.target

    def write(self, path: Path, text: str) -> None:
        """Write a document of the iteration, without secrets."""
        files.write_whole(path, redaction.clean(text))
        crash_points.point("artifact.after_write")

    # Documents

    def hypothesis(self) -> Hypothesis:
        return self.load(Hypothesis, self.paths.hypothesis)

    def design(self) -> Design:
        return self.load(Design, self.paths.design)

    def tested_hypothesis(self) -> Hypothesis:
        """The hypothesis under the title of what the design tries: a refinement tries another dose of it."""
        claim, design = self.hypothesis(), self.design()
        if not self.campaign.refinement or design.changes == claim.changes:
            return claim
        # Up to what it is compared with, the first sentence of a design says what is tried.
        tried = re.split(r", against |\.\s", one_line(design.description, 300), maxsplit=1)[0]
        return claim.model_copy(update={"title": tried}) if tried else claim

    def results(self) -> Results:
        return self.load(Results, self.paths.results)

    def manifest(self, run_id: str | None = None) -> Manifest:
        """The manifest of a run; without an id, of the run that the next stage reads.

        RecordError: it is missing, or is not the file that the ledger recorded when the run ended.
        """
        run_id = run_id or self.state.last_run_id or ""
        path = self.paths.run(run_id).manifest
        manifest = self.load(Manifest, path)
        # The comparisons in it follow from its trials as long as the file is the recorded one.
        hashes = [end.manifest_sha256 for end in self.recorded(events.RunEnded) if end.run_id == run_id]
        if hashes and files.sha256_of_file(path) not in hashes:
            with _way_out():
                raise RecordError(f"{self.relative(path)}: was changed after the run ended")
        return manifest

    def metrics(self, run_id: str | None = None) -> RunMetrics:
        """What a run measured, by arm; without an id, of the run that the next stage reads."""
        return self.load(RunMetrics, self._run(run_id).folder / "metrics.json")

    def model_summary(self) -> Summary | None:
        """The candidate's own summary of its model; None if its checks left no summary.json."""
        path = self.paths.summary_json
        return self.load(Summary, path) if path.exists() else None

    def confirmation(self) -> Confirmation | None:
        """The recorded confirmation of the last run; None if the run was not confirmed."""
        return recorded_confirmation(self.events(), self.state.last_run_id)

    def calibration(self) -> Calibration | None:
        """The lab's calibration; None before there is one."""
        return calibration.current_calibration(self.lab)

    def load(self, kind: type[Document], path: Path) -> Document:
        """A document that the engine wrote and a user may have edited since."""
        with _way_out():
            return kind.load(path, self.relative(path))

    def quote(self, path: Path) -> str:
        """A document's text for a prompt, with invisible and undecodable characters shown."""
        try:
            return many_lines(path.read_bytes())
        except OSError as error:
            name = self.relative(path)
            raise RecordError(
                f"{name}: cannot be read: {error.strerror}; `autolab doctor --fix` brings it back"
            ) from None

    def _run(self, run_id: str | None) -> RunPaths:
        return self.paths.run(run_id or self.state.last_run_id or "")

    def lessons(self) -> tuple[Lesson, ...]:
        """What the lab has learned, newest first."""
        if self.until is not None:
            # Read only: the copy that `recall` keeps is that of the newest state.
            lines = [line for line in self.lab.ledger.lines() if line.n <= self.until]
            return tuple(event.lesson for event in events.events_of(lines, events.Learned))[::-1]
        return lessons.recall(self.lab.store, self.lab.ledger, self.campaign.learned)

    # Code

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
        """The hypothesis's title, from the backlog; empty before there is one."""
        for hypothesis in self.lab.backlog().hypotheses:
            if hypothesis.id == self.campaign.hypothesis_id:
                return hypothesis.title
        return ""

    @property
    def slug(self) -> str:
        """The name of the candidate's worktree and branch (`exp/<slug>`). The hypothesis's id makes it unique."""
        if self.arm is not None:
            return self.arm
        refinement = f"-r{self.campaign.refinement}" if self.campaign.refinement else ""
        return f"{slug_of(self.campaign.hypothesis_id or '', self.hypothesis().title)}{refinement}"

    @property
    def worktree(self) -> Path:
        return self.lab.worktrees / self.slug

    def candidate(self, before: int | None = None) -> str | None:
        """The iteration's newest recorded candidate; with `before`, of the lines below that number."""
        candidates = self.recorded(CandidateRecorded, before=before)
        # The ideas of a batch share its lines.
        if self.arm is not None:
            candidates = [candidate for candidate in candidates if candidate.slug == self.arm]
        return candidates[-1].commit if candidates else None

    def record_candidate(self, commit: str, via: str) -> None:
        """Pin a commit so that git keeps it, and record it as the candidate, once. `via` names who wrote its code."""
        # Pinned first: a recorded commit must never be lost.
        self.lab.git.pin(f"refs/autolab/keep/{self.iteration_id}/{commit[:12]}", commit)
        crash_points.point("candidate.after_pin")
        if self.candidate() != commit:
            candidate = CandidateRecorded(commit=commit, base=self.base_commit, slug=self.slug, via=via)
            events.append(self.lab.ledger, candidate)


def slug_of(hypothesis_id: str, title: str) -> str:
    """The hypothesis's id with as much of its title as a branch and a folder take."""
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-")
    return f"{hypothesis_id}-{words or 'candidate'}"


@contextmanager
def _way_out() -> Iterator[None]:
    """Add the way out to an error about a document that the record holds too."""
    try:
        yield
    except RecordError as error:
        raise RecordError(f"{error}; fix it, or remove the file: the recorded one comes back") from None

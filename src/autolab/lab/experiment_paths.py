"""Where the files of an iteration and of a run lie, below `experiments/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """Everything of one run, below `experiments/<ITERATION_ID>/runs/<RUN_ID>/`."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "run_manifest.json"

    def trial(self, trial: str, attempt: int) -> Path:
        return self.folder / "trials" / trial / f"a{attempt}"


@dataclass(frozen=True)
class IterationPaths:
    """Everything of one iteration, below `experiments/<ITERATION_ID>/`."""

    folder: Path

    @property
    def hypothesis(self) -> Path:
        return self.folder / "hypothesis.md"

    @property
    def design(self) -> Path:
        return self.folder / "design.yaml"

    @property
    def change(self) -> Path:
        """Of an idea that came with its code: the change."""
        return self.folder / "change.json"

    @property
    def plan(self) -> Path:
        return self.folder / "implementation_plan.md"

    @property
    def review(self) -> Path:
        return self.folder / "implementation_review.md"

    @property
    def review_result(self) -> Path:
        return self.folder / "review_result.json"

    @property
    def summary_json(self) -> Path:
        return self.folder / "summary.json"

    @property
    def docs_update(self) -> Path:
        return self.folder / "docs_update.md"

    @property
    def results(self) -> Path:
        return self.folder / "results.yaml"

    @property
    def findings(self) -> Path:
        return self.folder / "FINDINGS.md"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def summary(self) -> Path:
        return self.folder / "analysis/summary.md"

    @property
    def failure(self) -> Path:
        return self.folder / "failure_report.md"

    @property
    def launch_script(self) -> Path:
        return self.folder / "launch/run_local.sh"

    def run(self, run_id: str) -> RunPaths:
        return RunPaths(self.folder / "runs" / run_id)

    @property
    def arms(self) -> Path:
        """The ideas of a batch, a folder each."""
        return self.folder / "arms"

    def of_arm(self, arm: str) -> IterationPaths:
        """The documents of one idea of a batch."""
        return IterationPaths(self.arms / arm)

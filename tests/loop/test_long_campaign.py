"""A long campaign of mode `explore`: after 1,000 screened steps nothing that is read or written again is larger.

One batch is screened for real. The steps after it are written by the product's own functions, stage by stage, with its
trials in place of new ones; only the commits of their ideas and the commit of the record between two stages are left
out. Then the real commands go on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from lab_kit import CLAIM, Kept, LabKit, batch, decision, design, iteration, make_lab, script

from autolab.ideas import lessons
from autolab.ideas.past_ideas import LONGEST
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import STEPS
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Learned, TrialEnded, append, events_of
from autolab.lab.schemas.experiment import Hypothesis, Lesson, Manifest
from autolab.lab.schemas.outcomes import Fate, Gear, Stage
from autolab.lab.schemas.plans import Entry
from autolab.loop import document, exploring, opening, snapshot
from autolab.loop.batch import add, summary_claim
from autolab.loop.hypothesis import ProposedIdea, hypothesis_text
from autolab.loop.iteration import Iteration
from autolab.loop.stages import StageOutcome, advance
from autolab.reports import journal, screen_documents
from autolab.reports.screen_documents import ScreenedBatch, ScreenedIdea

pytestmark = [pytest.mark.process]

RULE = {"mode": "explore", "rule": "fixed", "alpha": 0.02, "max_pairs": 2, "confirm_pairs": 2}
GEARED = {"test": RULE, "screen": {"arms": 2}, "budget": {"iterations": 10_000}}
OF_A_BATCH, OF_A_CLAIM = 8, 4
"""Stages."""
WORDS = "and more of what a title says at length of the change that it makes, why, and what it was before "


@contextmanager
def without_fsync() -> Iterator[None]:
    real = os.fsync
    os.fsync = lambda _: None  # type: ignore[assignment]
    try:
        yield
    finally:
        os.fsync = real


# A history


@dataclass(frozen=True)
class WrittenHistory:
    """What a real batch left, of which the others are made."""

    manifest: Manifest
    lessons: tuple[Lesson, ...]
    config: Config
    backlog: int
    """How many of the newest batches get into the backlog, which takes longest."""

    @classmethod
    def of(cls, kit: LabKit, backlog: int) -> WrittenHistory:
        (folder,) = kit.iterations()
        lab = Lab(kit.root)
        found = [event.lesson for event in events_of(lab.ledger.lines(), Learned)]
        return cls(
            Manifest.load(folder / "runs" / "run_0001" / "run_manifest.json"), tuple(found), lab.config(), backlog
        )

    def grow(self, kit: LabKit, until: int) -> None:
        """Add batches until the lab has had so many. Each takes a step."""
        with without_fsync(), Lab(kit.root).hold("a test") as lab:
            while lab.load()[1].batches < until:
                self._add(lab, is_shown=until - lab.load()[1].batches <= self.backlog)

    def _add(self, lab: Lab, is_shown: bool) -> None:
        iteration = self._open(lab)
        ideas, manifest = self._ideas(iteration), self._manifest(iteration)
        learned = [lesson for _, lesson in ideas]
        screened = [idea for idea, _ in ideas]
        self._propose(iteration, screened)
        while iteration.state.stage is not Stage.DECIDE_REPEAT:
            if iteration.state.stage is Stage.LAUNCH:
                for trial in manifest.trials:
                    append(lab.ledger, TrialEnded(run_id=manifest.run_id, trial=trial))
                path = iteration.paths.run(manifest.run_id).manifest
                path.parent.mkdir(parents=True)
                path.write_text(manifest.to_json())
            if iteration.state.stage is Stage.UPDATE_DOCS:
                self._queue_rows(iteration, manifest, screened)
            move(iteration, StageOutcome.COMPLETE)
            document.write_documents(lab, iteration.campaign, print)
            iteration = Iteration.read(lab, self.config)
        lessons.learn(lab.store, lab.ledger, learned, iteration.events())
        before, campaign = iteration.campaign.exploration, iteration.campaign
        assert before is not None
        if is_shown:
            snapshot.show_backlog(iteration, StageOutcome.NEW_HYPOTHESIS)
        move(
            iteration,
            StageOutcome.NEW_HYPOTHESIS,
            exploration=exploring.after_batch(before, iteration.iteration_id, screened[0].arm, screened, ()),
            learned=iteration.iteration_id,
            ideas_screened=campaign.ideas_screened + len(ideas),
            provisional=campaign.provisional + 1,
            trials=campaign.trials + len(manifest.trials),
        )

    def _open(self, lab: Lab) -> Iteration:
        _, campaign = lab.load()
        exploration, number = campaign.exploration, campaign.batches + 1
        assert exploration is not None
        entry = Entry(stage=Stage.HYPOTHESIS, hypothesis_id=f"batch{number}", gear=Gear.SCREEN)
        changed = campaign.model_copy(update={"batches": number})
        opening.open_iteration(lab, self.config, entry, exploration.working, campaign.home_commit or "", changed)
        iteration = Iteration.read(lab, self.config)
        iteration.paths.folder.mkdir(parents=True)
        return iteration

    def _propose(self, iteration: Iteration, ideas: list[ScreenedIdea]) -> None:
        claims = []
        for idea in ideas:
            claim = Hypothesis(
                id=idea.hypothesis_id,
                title=idea.title,
                metric=self.config.metric.primary,
                direction=self.config.metric.direction,
                success_delta=self.config.metric.difference,
                success="it gains",
                risk_bounds=(),
                mechanism="It is steeper.",
                changes=idea.changes,
            )
            claims.append(claim)
            add(iteration, ProposedIdea(claim, "Its prose."))
        iteration.write(iteration.paths.hypothesis, hypothesis_text(summary_claim(iteration, claims)))

    def _ideas(self, iteration: Iteration) -> list[tuple[ScreenedIdea, Lesson]]:
        """The ideas of the real batch under other names: the first is the step."""
        found = []
        for old in self.lessons:
            hypothesis_id = f"{old.hypothesis_id}{iteration.campaign.iterations}"
            title = f"{old.title} {iteration.campaign.iterations}: {WORDS * 3}"
            update = {"title": title, "hypothesis_id": hypothesis_id, "iteration_id": iteration.iteration_id}
            update |= {
                "iteration": iteration.campaign.iterations,
                "changes": {title: 1.0},
                "base": iteration.base_commit,
            }
            lesson = old.model_copy(update=update | {"family": f"family {iteration.campaign.iterations}"})
            idea = ScreenedIdea(
                arm=f"{self._arm(old)}{iteration.campaign.iterations}",
                hypothesis_id=hypothesis_id,
                title=title,
                family=lesson.family,
                changes=lesson.changes,
                commit=old.commit,
                gain=old.gain,
                score=old.measured.mean if old.measured else None,
                n=1,
                seconds=1.0,
                fate=Fate.PROVISIONAL if old is self.lessons[0] else Fate.DROPPED,
                reason="" if old is self.lessons[0] else "behind",
                detail="",
            )
            found.append((idea, lesson))
        return found

    def _arm(self, lesson: Lesson) -> str:
        (name,) = [arm.name for arm in self.manifest.arms if arm.name.startswith(f"{lesson.hypothesis_id}-")]
        return name

    def _manifest(self, iteration: Iteration) -> Manifest:
        """The real run with the arms of this batch."""
        text = self.manifest.to_json().replace(self.manifest.iteration_id, iteration.iteration_id)
        for lesson in self.lessons:
            arm = self._arm(lesson)
            text = text.replace(arm, f"{arm}{iteration.campaign.iterations}")
        return Manifest.from_value(json.loads(text), "a manifest")

    def _queue_rows(self, iteration: Iteration, manifest: Manifest, ideas: list[ScreenedIdea]) -> None:
        whole = ScreenedBatch(
            iteration_id=iteration.iteration_id,
            experiment_id=iteration.campaign.experiment_id or "",
            metric=self.config.metric.primary,
            direction=self.config.metric.direction,
            delta=self.config.metric.difference,
            base=iteration.base_commit,
            ideas=tuple(ideas),
            manifest=manifest,
        )
        rows = screen_documents.tsv_rows(whole)
        assert rows is not None
        journal.Pending(iteration.lab.store / "pending").add(rows)


def move(iteration: Iteration, outcome: StageOutcome, **campaign: Any) -> None:
    """As the engine moves, without a commit of the iteration's files."""
    state = advance(iteration.state, outcome)
    update = iteration.campaign.model_copy(update=campaign)
    cause = {"outcome": outcome.value, "from_stage": iteration.state.stage, "reason": "", "log": iteration.log}
    iteration.lab.transition(state, update, **cause)


def newest(kit: LabKit) -> dict[str, Any]:
    """The newest transition. The whole ledger is not read: it has a hundred megabytes at last."""
    line = Lab(kit.root).ledger.transition()
    assert line is not None
    return line.data


# What a lab of some age reads and writes


@dataclass
class SizesOfAge:
    """Bytes of what is read or written again and again, and seconds of the commands that do it, by name."""

    sizes: dict[str, int]
    seconds: dict[str, float]
    figures: dict[str, int]


DOCUMENTS = ("RESEARCH_JOURNAL.md", "FINDINGS.md", "paper/paperbanana.md")


class Aged:
    """The lab after some number of batches. The real commands go on: a batch, a claim, an idea tested whole."""

    def __init__(self, kit: LabKit) -> None:
        self.kit = kit
        self.measured = SizesOfAge({}, {}, {})
        self._answer()

    def _answer(self) -> None:
        """Answers for the iterations to come: a script counts from the lab's first."""
        _, campaign = Lab(self.kit.root).load()
        again = iteration(design=design("other"), decide_repeat=decision())
        entries = [CLAIM] * campaign.iterations + [batch(("steeper", 4.4), ("flatter", 0.9)), CLAIM, again]
        (self.kit.root / ".autolab" / "script.yaml").write_text(json.dumps(script(*entries)))

    def screen(self) -> None:
        """The next batch, stage by stage; the last one draws the figure."""
        sizes, seconds, asked = self.measured.sizes, self.measured.seconds, self._asked()
        for number in range(1, OF_A_BATCH + 1):
            seconds[f"stage {number} of a batch"] = self._timed("run")
        self._note_prompts(asked)
        sizes |= self._status("a search")
        sizes["transition"] = self._transition()
        for path in sorted((self.kit.root / "paper" / "figures").glob("progress.*")):
            self.measured.figures[path.name] = path.stat().st_size
        seconds["a row of results.tsv"] = self._row()

    def claim(self) -> None:
        self._configure(screen={"arms": 2, "claim_every": 1})
        before = self._lengths()
        for number in range(1, OF_A_CLAIM + 1):
            self.measured.seconds[f"stage {number} of a claim"] = self._timed("run")
        self._note_entries("a claim", before)
        self.measured.sizes["transition after a claim"] = self._transition()

    def test_whole(self) -> None:
        """An idea in mode `each`: every stage asks for something."""
        asked, before = self._asked(), self._lengths()
        self._configure(test=RULE | {"mode": "each"})
        self.measured.seconds["an idea tested whole"] = self._timed("loop", "--max-iterations", "1")
        self._note_prompts(asked)
        self._note_entries("an idea", before)
        self.measured.sizes |= self._status("a champion")
        self.measured.sizes["backlog"] = (self.kit.root / ".autolab" / "backlog.yaml").stat().st_size

    def _note_prompts(self, before: dict[str, Path]) -> None:
        for name, path in self._asked().items():
            if name not in before:
                about = "a batch" if "_batch" in name else "an idea"
                self.measured.sizes[f"prompt of {about}, {path.parent.name}"] = path.stat().st_size

    def _note_entries(self, about: str, before: dict[str, int]) -> None:
        for name, length in self._lengths().items():
            self.measured.sizes[f"{name}: entry of {about}"] = length - before[name]

    def _row(self) -> float:
        """Seconds in which one row is added."""
        row = (self.kit.root / "results.tsv").read_text().rstrip("\n").rpartition("\n")[2].split("\t")
        row[1] = "another"
        entry = journal.DocumentEntry("another", "results.tsv", "\t".join(row), "row")
        began = time.process_time()
        with without_fsync():
            assert journal.write(self.kit.root, entry).changed
        return time.process_time() - began

    def _timed(self, *words: str) -> float:
        began = time.monotonic()
        ended = self.kit.autolab(*words, figures=True)
        assert ended.code == 0, ended.out + ended.err
        return time.monotonic() - began

    def _status(self, name: str) -> dict[str, int]:
        plain, as_json = self.kit.autolab("status"), self.kit.autolab("status", "--json")
        assert plain.code == as_json.code == 0
        return {f"status of {name}": len(plain.out), f"status --json of {name}": len(as_json.out)}

    def _transition(self) -> int:
        return len(json.dumps(newest(self.kit)))

    def _lengths(self) -> dict[str, int]:
        return {name: (self.kit.root / name).stat().st_size for name in DOCUMENTS}

    def _asked(self) -> dict[str, Path]:
        """The prompts so far, by `<iteration>/<request>`."""
        found = {}
        for path in self.kit.store.glob("requests/*/*/prompt.md"):
            found[f"{path.parent.parent.name}/{path.parent.name}"] = path
        return found

    def _configure(self, **keys: Any) -> None:
        path = self.kit.root / ".autolab" / "config.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys))


# The tests

FEW, MORE = 14, 40
REST_OF_PROMPT = 20_000
"""Characters of a prompt of this lab without its history, at most."""
LONG_AGO, NOW = 100, 1_000
"""Steps."""
WHOLE_LEDGER = ("stage 1 of a claim",)
"""It looks for the review of its commit in all lines: a second or two after 1,000 steps, once a claim."""


def begun(folder: Path) -> LabKit:
    """A lab with one batch that was screened for real."""
    kit = make_lab(folder, script(batch(("steep", 4.0), ("flat", 1.0))), config=GEARED)
    assert kit.autolab("calibrate").code == 0
    for _ in range(OF_A_BATCH):
        ended = kit.autolab("run")
        assert ended.code == 0, ended.out + ended.err
    return kit


def aged(kit: LabKit, steps: int, whole: bool) -> SizesOfAge:
    """What the lab reads and writes after so many steps. It is left at that age."""
    kept = Kept(kit)
    age = Aged(kit)
    age.screen()
    if whole:
        age.claim()
        age.test_whole()
    kept.back()
    # The next one would be copied into this one.
    subprocess.run(["chmod", "-R", "u+w", str(kit.root.with_name("lab.kept"))], check=True)
    shutil.rmtree(kit.root.with_name("lab.kept"))
    print(f"\n{steps} steps: {json.dumps(vars(age.measured))}")
    return age.measured


def grown(before: dict[str, int], after: dict[str, int], factor: float) -> dict[str, str]:
    """What has grown by more than the factor, with both sizes."""
    assert before.keys() == after.keys()
    found = {}
    for name, size in after.items():
        # The history in it grows up to its own limit, at 200 ideas.
        if name.startswith("prompt of") and size < LONGEST + REST_OF_PROMPT:
            continue
        if size > factor * before[name] and size > before[name] + 200:
            found[name] = f"{before[name]} -> {size}"
    return found


@pytest.mark.slow
def test_what_a_batch_reads_and_writes_is_no_larger_after_many_steps(tmp_path: Path) -> None:
    kit = begun(tmp_path)
    history = WrittenHistory.of(kit, backlog=0)
    history.grow(kit, FEW)
    few = aged(kit, FEW, whole=False)
    history.grow(kit, MORE)
    more = aged(kit, MORE, whole=False)
    # The campaign remembers 50 steps, which it has not had at first.
    for one in (few, more):
        del one.sizes["transition"]
    assert any("hypothesis" in name for name in more.sizes) and any("review" in name for name in more.sizes)
    assert grown(few.sizes, more.sizes, 1.1) == {}
    assert grown(few.figures, more.figures, 1.5) == {}


@pytest.mark.nightly
def test_after_a_thousand_screened_steps_every_document_is_bounded(tmp_path: Path) -> None:
    """Prompts, entries, status, figure, backlog and campaign in bytes, and the commands in seconds."""
    kit = begun(tmp_path)
    history = WrittenHistory.of(kit, backlog=200)
    history.grow(kit, LONG_AGO)
    short = aged(kit, LONG_AGO, whole=True)
    history.grow(kit, NOW)
    long = aged(kit, NOW, whole=True)
    kinds = ("hypothesis", "design", "implementation", "implementation_review", "update_docs", "decide_repeat")
    assert {f"prompt of an idea, {kind}-1" for kind in kinds} <= long.sizes.keys()
    assert grown(short.sizes, long.sizes, 1.1) == {}
    assert grown(short.figures, long.figures, 1.5) == {}
    campaign = newest(kit)["campaign"]
    assert (campaign["provisional"], campaign["exploration"]["unclaimed"]) == (NOW, NOW)
    assert len(campaign["exploration"]["steps"]) == STEPS
    slower = {}
    for name, seconds in long.seconds.items():
        # Other work on the machine counts, too.
        factor = 10 if name in WHOLE_LEDGER else 3
        if seconds > factor * short.seconds[name] + 0.5:
            slower[name] = f"{short.seconds[name]:.2f} -> {seconds:.2f}"
    assert slower == {}

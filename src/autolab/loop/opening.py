"""How an iteration begins: the stage at which it enters the loop, and what it brings.

    hypothesis       brings nothing
    design           a hypothesis, or the iteration that it refines
    implementation   a hypothesis and a design; a commit is then judged in place of a researcher's code
    launch           a hypothesis, a design and a commit that passed its review

What is brought stands in the line that opens the iteration. The first step writes it into the iteration's folder and
records it there, so that nothing is lost if the engine dies in between, and the gate before launch finds what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from autolab.errors import LabError
from autolab.files import sha256_of
from autolab.lab.lab import Lab
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config, Count
from autolab.lab.schemas.experiment import Design, Hypothesis, ReviewResult
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.record import Record
from autolab.loop import preflight
from autolab.loop.hypothesis import hypothesis_text
from autolab.loop.iteration import Iteration
from autolab.loop.review import record_review, recorded_checks
from autolab.trials import champion

ENTRIES = (Stage.HYPOTHESIS, Stage.DESIGN, Stage.IMPLEMENTATION, Stage.LAUNCH)


class BroughtCommit(Record):
    """A commit that an iteration begins with: the commit that it was made from, who wrote it, its review if any."""

    commit: str
    base: str
    via: str
    review: ReviewResult | None = None


class Entry(Record):
    """Where an iteration enters the loop, and what it brings.

    Without `hypothesis_id` it is the next one's. `parent` is the iteration that it refines, `refinement` how many
    refinements of the hypothesis there were with this one.
    """

    stage: Stage
    hypothesis_id: str | None = None
    parent: str | None = None
    refinement: Count = 0
    hypothesis: Hypothesis | None = None
    design: Design | None = None
    candidate: BroughtCommit | None = None

    @classmethod
    def after(cls, state: State, campaign: Campaign) -> Entry:
        """The entry that the last decision leads to: a refinement of its hypothesis, or a new one."""
        if state.stage is not Stage.DESIGN:
            return cls(stage=state.stage)
        return cls(
            stage=Stage.DESIGN,
            hypothesis_id=campaign.hypothesis_id,
            parent=campaign.parent,
            refinement=campaign.refinement + 1,
        )

    @property
    def brings(self) -> bool:
        return self.hypothesis is not None


def base_of(lab: Lab, config: Config, campaign: Campaign, tell: Callable[[str], None]) -> tuple[str, str]:
    """What the next candidate branches from, and the commit of the lab's branch now."""
    base, home, note = champion.base(lab, campaign, lambda path: preflight.engine_owned(path, config))
    for line in (note, champion.show(lab, campaign)):
        if line:
            tell(line)
    return base, home


def open_iteration(lab: Lab, config: Config, entry: Entry, base: str, home: str) -> str:
    """Begin an iteration in one transition: its id, its base commit, its entry; the id.

    `base` is the commit that candidates branch from now, `home` that of the lab's branch. LabError: an iteration is
    under way, or what the entry brings is not enough, or not to be believed.
    """
    state, campaign = lab.load()
    if state.iteration_id is not None:
        raise LabError(f"{state.iteration_id} is under way, at {state.stage}: an iteration begins when it is over")
    _require(lab, entry, base)
    hypotheses = campaign.hypotheses + (1 if entry.hypothesis_id is None else 0)
    hypothesis_id = entry.hypothesis_id or f"h{hypotheses}"
    number = campaign.iterations + 1
    begun = campaign.model_copy(
        update={
            "iterations": number,
            "hypotheses": hypotheses,
            "hypothesis_id": hypothesis_id,
            "experiment_id": f"e{number}",
            "refinement": entry.refinement,
            "parent": entry.parent,
            "iteration_offset": lab.ledger.head.size,
            "base_commit": base,
            "home_commit": home,
        }
    )
    iteration_id = _fresh_id(lab, hypothesis_id)
    update = {"iteration_id": iteration_id, "stage": entry.stage, "reason": ""}
    opened = with_limits(state, config).model_copy(update=update)
    lab.transition(opened, begun, why="opened", entry=entry.value() if entry.brings else None)
    return iteration_id


def with_limits(state: State, config: Config) -> State:
    """The state with the limits that the configuration names now."""
    limits = config.attempts
    update = {"max_stage_attempts": limits.stage, "max_bounces": limits.bounces}
    return state.model_copy(update=update | {"max_total_iterations": config.budget.iterations})


def _fresh_id(lab: Lab, hypothesis_id: str) -> str:
    now = datetime.now(UTC)
    while True:
        name = f"{now:%Y-%m-%dT%H-%M-%SZ}_{hypothesis_id}"
        if not lab.iteration(name).folder.exists():
            return name
        now += timedelta(seconds=1)


def _require(lab: Lab, entry: Entry, base: str) -> None:
    """LabError in one line for an entry that brings too little, or a commit that may not enter there."""
    if entry.stage not in ENTRIES:
        raise LabError(f"no iteration enters at {entry.stage}; it may at {', '.join(ENTRIES)}")
    wanted: dict[Stage, dict[str, object]] = {
        Stage.DESIGN: {"hypothesis": entry.hypothesis or entry.parent},
        Stage.IMPLEMENTATION: {"hypothesis": entry.hypothesis, "design": entry.design},
        Stage.LAUNCH: {"hypothesis": entry.hypothesis, "design": entry.design, "commit": entry.candidate},
    }
    missing = [name for name, value in wanted.get(entry.stage, {}).items() if value is None]
    if missing:
        raise LabError(f"an iteration that enters at {entry.stage} brings a {' and a '.join(missing)}")
    candidate = entry.candidate
    if candidate is None:
        return
    name = candidate.commit[:12]
    if lab.git.resolve(candidate.commit) is None:
        raise LabError(f"{name}: no such commit in {lab.root}")
    if candidate.base != base:
        raise LabError(
            f"{name} was made from {candidate.base[:12]}, and {base[:12]} stands now: make it again from that"
        )
    if entry.stage is Stage.LAUNCH:
        problem = _unreviewed(lab, candidate)
        if problem:
            raise LabError(f"{name} cannot be launched: {problem}")


def _unreviewed(lab: Lab, candidate: BroughtCommit) -> str:
    """Why the commit's review does not count; empty if it is a pass of this very commit that the ledger holds."""
    review = candidate.review
    if review is None:
        return "it has no review"
    if review.status != "pass":
        return f"its review's status is {review.status}, launch needs pass"
    if review.commit != candidate.commit:
        return f"its review is of commit {(review.commit or 'none')[:12]}"
    sha256 = sha256_of(review.to_json())
    lines = (line.data for line in lab.ledger.lines() if line.event in ("reviewed", "approved"))
    if not any((data["commit"], data["sha256"]) == (candidate.commit, sha256) for data in lines):
        return "its review is not on record"
    return ""


def reviewed_commit(lab: Lab, iteration_id: str) -> BroughtCommit:
    """The candidate of an iteration with its review, as both are on record. LabError: it has none."""
    path = lab.iteration(iteration_id).review_result
    review = ReviewResult.load(path, str(path.relative_to(lab.root)))
    for line in lab.ledger.lines():
        if line.event == "candidate" and line.data["commit"] == review.commit:
            data = line.data
            return BroughtCommit(commit=data["commit"], base=data["base"], via=data.get("via") or "", review=review)
    raise LabError(f"{iteration_id}: the ledger holds no candidate of commit {review.commit}")


# what was brought, into the iteration


def _entry(iteration: Iteration) -> Entry | None:
    """What the iteration was opened with, until its first stage had an outcome; None if it brought nothing."""
    if iteration.acted:
        return None
    opened = [line for line in iteration.events() if line.data.get("why") == "opened"]
    if not opened or "entry" not in opened[0].data:
        return None
    return Entry.from_value(opened[0].data["entry"], f"ledger.jsonl line {opened[0].n}: entry")


def adopt(iteration: Iteration) -> None:
    """Write and record what the iteration brings, as far as that was not done. Before its first stage."""
    entry = _entry(iteration)
    if entry is None:
        return
    campaign, paths, ledger = iteration.campaign, iteration.paths, iteration.lab.ledger
    if entry.hypothesis is not None and not paths.hypothesis.exists():
        update = {"id": campaign.hypothesis_id, "parent": entry.parent}
        iteration.write(paths.hypothesis, hypothesis_text(entry.hypothesis.model_copy(update=update)))
    if entry.design is not None and not paths.design.exists():
        ids = {
            "id": campaign.experiment_id,
            "iteration_id": iteration.iteration_id,
            "hypothesis_id": campaign.hypothesis_id,
            "base_commit": campaign.base_commit,
        }
        iteration.write(paths.design, entry.design.model_copy(update=ids).to_yaml())
    candidate = entry.candidate
    if candidate is None:
        return
    iteration.record_candidate(candidate.commit, candidate.via)
    if entry.stage is not Stage.LAUNCH or candidate.review is None:
        return
    events = iteration.events()
    if not recorded_checks(events, candidate.commit)["checks"]:
        checked = {"commit": candidate.commit, "checks": candidate.review.required_checks, "findings": []}
        ledger.append("checked", checked)
    if not any(line.event == "reviewed" for line in events):
        record_review(iteration, candidate.review)


def brought_commit(iteration: Iteration) -> str | None:
    """The commit that the implementation stage is to judge in place of a researcher's code."""
    entry = _entry(iteration)
    return entry.candidate.commit if entry is not None and entry.candidate is not None else None

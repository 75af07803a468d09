"""How an iteration begins: the stage at which it enters the loop, and what it brings.

    hypothesis       brings nothing
    design           a hypothesis, or the iteration that it refines
    implementation   a hypothesis and a design; a commit is then judged in place of a researcher's code
    launch           a hypothesis, a design and a commit that passed its review

The line that opens the iteration holds what it brings. The first step writes that into the iteration's folder and
records it, so that nothing is lost if the engine dies in between, and the gate before launch finds what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from autolab.errors import LabError
from autolab.files import sha256_of
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Campaign, State
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import CandidateRecorded, Checked, Reviewed, Transition
from autolab.lab.schemas.experiment import ReviewResult
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.plans import BroughtCommit, Entry
from autolab.loop import preflight
from autolab.loop.hypothesis import hypothesis_text
from autolab.loop.iteration import Iteration
from autolab.loop.proposal_inbox import close
from autolab.loop.review import record_review, recorded_checks, recorded_reviews
from autolab.trials import champion

ENTRIES = (Stage.HYPOTHESIS, Stage.DESIGN, Stage.IMPLEMENTATION, Stage.LAUNCH)


def base_of(lab: Lab, config: Config, campaign: Campaign, tell: Callable[[str], None]) -> tuple[str, str]:
    """The commit that the next candidate branches from, and the newest commit of the lab's branch."""

    def is_engine_owned(path: str) -> bool:
        return preflight.engine_owned(path, config)

    base, home, note = champion.base(lab, campaign, is_engine_owned)
    for line in (note, champion.show(lab, campaign)):
        if line:
            tell(line)
    return base, home


def open_iteration(
    lab: Lab, config: Config, entry: Entry, base: str, home: str, campaign: Campaign | None = None
) -> str:
    """Begin an iteration in one transition and return its id.

    `base` is the commit that candidates branch from now, `home` the newest commit of the lab's branch; `campaign` is
    the lab's with what the iteration changes in it. LabError: an iteration is under way, or the entry brings too little
    or a commit that may not enter.
    """
    state, present = lab.load()
    campaign = campaign or present
    if state.iteration_id is not None:
        raise LabError(f"{state.iteration_id} is under way, at {state.stage}: an iteration begins when it is over")
    _require_documents(entry)
    if entry.candidate is not None:
        _require_candidate(lab, entry.candidate, base, launch=entry.stage is Stage.LAUNCH)
    hypotheses, hypothesis_id = campaign.hypotheses, entry.hypothesis_id
    # A refinement goes on with its hypothesis, under the old id.
    if hypothesis_id is None:
        hypotheses += 1
        hypothesis_id = f"h{hypotheses}"
    number = campaign.iterations + 1
    changes = {
        "iterations": number,
        "hypotheses": hypotheses,
        "hypothesis_id": hypothesis_id,
        "experiment_id": f"e{number}",
        "refinement": entry.refinement,
        "parent": entry.parent,
        # So that every later step reads this iteration's lines alone, however long the history is.
        "iteration_offset": lab.ledger.head.size,
        "base_commit": base,
        "home_commit": home,
        "gear": entry.gear,
    }
    campaign = campaign.model_copy(update=changes)
    iteration_id = _fresh_id(lab, hypothesis_id)
    update = {"iteration_id": iteration_id, "stage": entry.stage, "reason": ""}
    state = with_limits(state, config).model_copy(update=update)
    # One line for all: after a crash the iteration has begun with what it brings, or not at all.
    lab.transition(state, campaign, why="opened", entry=entry if entry.hypothesis is not None else None)
    return iteration_id


def with_limits(state: State, config: Config) -> State:
    """The state with the limits that the configuration sets now."""
    return state.model_copy(
        update={
            "max_stage_attempts": config.attempts.stage,
            "max_bounces": config.attempts.bounces,
            "max_total_iterations": config.budget.iterations,
        }
    )


def _fresh_id(lab: Lab, hypothesis_id: str) -> str:
    """An id made of the time, later by seconds if that of now is taken."""
    time = datetime.now(UTC)
    while True:
        iteration_id = f"{time:%Y-%m-%dT%H-%M-%SZ}_{hypothesis_id}"
        if not lab.iteration(iteration_id).folder.exists():
            return iteration_id
        time += timedelta(seconds=1)


def _require_documents(entry: Entry) -> None:
    """LabError: no iteration enters at this stage, or the entry lacks what the stage needs."""
    if entry.stage not in ENTRIES:
        raise LabError(f"no iteration enters at {entry.stage}; it may at {', '.join(ENTRIES)}")
    missing = []
    stage = entry.stage
    # A refinement takes over its parent's hypothesis.
    refines = stage is Stage.DESIGN and entry.parent is not None
    if stage is not Stage.HYPOTHESIS and entry.hypothesis is None and not refines:
        missing.append("hypothesis")
    if stage in (Stage.IMPLEMENTATION, Stage.LAUNCH) and entry.design is None:
        missing.append("design")
    if stage is Stage.LAUNCH and entry.candidate is None:
        missing.append("commit")
    if missing:
        raise LabError(f"an iteration that enters at {stage} brings a {' and a '.join(missing)}")


def _require_candidate(lab: Lab, candidate: BroughtCommit, base: str, *, launch: bool) -> None:
    """LabError: the commit does not exist, was made from another base, or is to be launched without a passed review."""
    name = candidate.commit[:12]
    if lab.git.resolve(candidate.commit) is None:
        raise LabError(f"{name}: no such commit in {lab.root}")
    # From another base it would be compared with code that it does not descend from.
    if candidate.base != base:
        raise LabError(
            f"{name} was made from {candidate.base[:12]}, and {base[:12]} stands now: make it again from that"
        )
    if launch:
        problem = _review_problem(lab, candidate)
        if problem:
            raise LabError(f"{name} cannot be launched: {problem}")


def _review_problem(lab: Lab, candidate: BroughtCommit) -> str:
    """Why the commit's review does not count; empty if the ledger holds this review as a pass of this commit."""
    review = candidate.review
    if review is None:
        return "it has no review"
    if review.status != "pass":
        return f"its review's status is {review.status}, launch needs pass"
    if review.commit != candidate.commit:
        return f"its review is of commit {(review.commit or 'none')[:12]}"
    # A file alone is no review: anybody can write one. The ledger's line holds its hash.
    identity = (candidate.commit, sha256_of(review.to_json()))
    if identity not in recorded_reviews(lab.ledger.lines()):
        return "its review is not on record"
    return ""


def reviewed_commit(lab: Lab, iteration_id: str) -> BroughtCommit:
    """The recorded candidate of an iteration with its recorded review. LabError: it has none."""
    path = lab.iteration(iteration_id).review_result
    review = ReviewResult.load(path, str(path.relative_to(lab.root)))
    for candidate in events.events_of(lab.ledger.lines(), CandidateRecorded):
        if candidate.commit == review.commit:
            return BroughtCommit(commit=candidate.commit, base=candidate.base, via=candidate.via, review=review)
    raise LabError(f"{iteration_id}: the ledger holds no candidate of commit {review.commit}")


# What an iteration brings becomes its own


def _entry(iteration: Iteration) -> Entry | None:
    """What the iteration brings; None if it brings nothing, or once its first stage has had an outcome."""
    if iteration.acted:
        return None
    for transition in iteration.recorded(Transition):
        if transition.why == "opened":
            return transition.entry
    return None


def adopt(iteration: Iteration) -> None:
    """Write and record what the iteration brings, except what an earlier try has done. Before its first stage."""
    entry = _entry(iteration)
    if entry is None:
        return
    campaign, paths = iteration.campaign, iteration.paths
    # Plans are stored without the ids of an iteration: several may test one plan.
    if entry.hypothesis is not None and not paths.hypothesis.exists():
        ids = {"id": campaign.hypothesis_id, "parent": entry.parent}
        claim = entry.hypothesis.model_copy(update=ids)
        iteration.write(paths.hypothesis, hypothesis_text(claim))
    if entry.design is not None and not paths.design.exists():
        ids = {
            "id": campaign.experiment_id,
            "iteration_id": iteration.iteration_id,
            "hypothesis_id": campaign.hypothesis_id,
            "base_commit": campaign.base_commit,
        }
        design = entry.design.model_copy(update=ids)
        iteration.write(paths.design, design.to_yaml())
    # It was taken by the line that opened the iteration.
    if entry.proposal is not None:
        close(iteration.lab, entry.proposal)
    candidate = entry.candidate
    if candidate is not None:
        iteration.record_candidate(candidate.commit, candidate.via)
        if entry.stage is Stage.LAUNCH and candidate.review is not None:
            _adopt_review(iteration, candidate.commit, candidate.review)


def _adopt_review(iteration: Iteration, commit: str, review: ReviewResult) -> None:
    # The gate before launch wants both on record, as for a candidate that was reviewed here.
    if not recorded_checks(iteration.events(), commit):
        checked = Checked(commit=commit, checks=review.required_checks, findings=())
        events.append(iteration.lab.ledger, checked)
    if not iteration.recorded(Reviewed):
        record_review(iteration, review)


def brought_commit(iteration: Iteration) -> str | None:
    """The commit that the implementation stage is to judge in place of a researcher's code; None if there is none."""
    entry = _entry(iteration)
    if entry is None or entry.candidate is None:
        return None
    return entry.candidate.commit

"""A batch of ideas, as the record of its iteration has it: which ideas it holds, and which of them were dropped.

Each idea has a folder of its own in the iteration's, `arms/<arm>/`, with its hypothesis, its design and its review. Its
arm is named by its hypothesis's id and title; so are its branch, `exp/<arm>`, and the name of its code in the run.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolab.errors import RecordError
from autolab.lab import front_matter
from autolab.lab.schemas import events
from autolab.lab.schemas.campaign import Exploration
from autolab.lab.schemas.events import IdeaDropped
from autolab.lab.schemas.experiment import (
    Arm,
    Design,
    DesignMetrics,
    Entrypoint,
    Hypothesis,
    MaxPairs,
    Reproducibility,
)
from autolab.lab.schemas.outcomes import DropReason
from autolab.lab.schemas.record import read_document
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.loop.hypothesis import ProposedIdea, hypothesis_text, proposed_model
from autolab.loop.iteration import Iteration, slug_of
from autolab.text import one_line

BASELINE = "baseline"
"""The arm of the commit that a batch's ideas branch from."""
TRIES = 2
"""How often a researcher may fail with an idea of a batch, or with its code, before it is left out."""
DETAIL = 300
"""Characters that are kept of why an idea was dropped."""


def exploration_of(iteration: Iteration) -> Exploration:
    """What the batches on its base have brought so far; a batch always belongs to one."""
    exploration = iteration.campaign.exploration
    assert exploration is not None
    return exploration


def ideas(iteration: Iteration) -> list[Iteration]:
    """The batch as each of its ideas sees it, in the order of their hypotheses' ids."""
    folder = iteration.paths.arms
    names = [path.parent.name for path in folder.glob("h*/hypothesis.md")]
    found = []
    for arm in sorted(names, key=_number):
        found.append(iteration.of_idea(arm.partition("-")[0], arm))
    return found


def _number(arm: str) -> int:
    number = arm.partition("-")[0].removeprefix("h")
    if not number.isdecimal():
        raise RecordError(f"arms/{arm}: is not the folder of an idea of this batch; move it away")
    return int(number)


def add(iteration: Iteration, proposed: ProposedIdea) -> None:
    """Write an idea's hypothesis into its folder, and the code that came with it."""
    claim = proposed.claim
    idea = iteration.of_idea(claim.id, slug_of(claim.id, claim.title))
    idea.paths.folder.mkdir(parents=True, exist_ok=True)
    # Before the hypothesis, by which the idea is known.
    if proposed.code is not None:
        idea.write(idea.paths.change, proposed.code.to_json())
    idea.write(idea.paths.hypothesis, hypothesis_text(claim, proposed.body))


def hypothesis_of(iteration: Iteration, iteration_id: str, arm: str) -> tuple[Hypothesis, str]:
    """The hypothesis of an idea of some batch of the lab, and the text below it. RecordError: it is gone."""
    path = iteration.lab.iteration(iteration_id).of_arm(arm).hypothesis
    name = iteration.relative(path)
    yaml, body = front_matter.split(read_document(path, name), name)
    return Hypothesis.from_text(yaml, name), body


def proposed_before(iteration: Iteration, iteration_id: str, arm: str) -> ProposedIdea:
    """An idea of some batch of the lab, to be proposed again. RecordError: its hypothesis is gone."""
    claim, body = hypothesis_of(iteration, iteration_id, arm)
    paths = iteration.lab.iteration(iteration_id).of_arm(arm)
    code = iteration.load(ImplementationOutput, paths.change) if paths.change.exists() else None
    # On another base edits find their places or are refused; a whole file would undo what came in between.
    if code is not None and (code.files or code.delete):
        code = None
    return ProposedIdea(claim, body, code)


# dropped ideas


def dropped(iteration: Iteration) -> dict[str, IdeaDropped]:
    """The ideas that were dropped before they were measured, by arm."""
    return {event.arm: event for event in iteration.recorded(IdeaDropped)}


def drop(idea: Iteration, reason: DropReason, detail: str) -> None:
    """Record that an idea is dropped, once."""
    assert idea.arm is not None
    if idea.arm not in dropped(idea):
        event = IdeaDropped(arm=idea.arm, reason=reason, detail=one_line(detail, DETAIL))
        events.append(idea.lab.ledger, event)


def standing(iteration: Iteration) -> list[Iteration]:
    """The ideas that were not dropped."""
    gone = dropped(iteration)
    return [idea for idea in ideas(iteration) if idea.arm not in gone]


def under_way(iteration: Iteration) -> list[Iteration]:
    """The ideas that stood when the stage began.

    A stage that is done again after a crash asks for each of them again, also for those that it has dropped: its
    requests are known by their numbers, and one idea left out would give each later idea the answer of another.
    """
    gone = {event.arm for event in iteration.recorded(IdeaDropped, before=iteration.acted)}
    return [idea for idea in ideas(iteration) if idea.arm not in gone]


# designs


def summary_claim(iteration: Iteration, claims: Sequence[Hypothesis]) -> Hypothesis:
    """The batch's own hypothesis.md: what it holds, in the place of one claim."""
    config, batch_id = iteration.config, iteration.campaign.hypothesis_id or ""
    titles = [one_line(claim.title, 80) for claim in claims]
    metric = config.metric
    return Hypothesis(
        id=batch_id,
        title=f"{len(claims)} ideas: {'; '.join(titles)}" if len(claims) > 1 else titles[0],
        metric=metric.primary,
        direction=metric.direction,
        success_delta=metric.difference,
        success="none: a batch is screened, and claims nothing",
        risk_bounds=(),
        mechanism="Each idea has a hypothesis of its own in arms/.",
    )


def design_of(iteration: Iteration, claim: Hypothesis, arms: Sequence[str]) -> Design:
    """The design of a batch, or of one idea of it: the commit that ideas branch from, and one variant an idea."""
    config, metric = iteration.config, iteration.config.metric
    return Design(
        id=iteration.campaign.experiment_id or "",
        iteration_id=iteration.iteration_id,
        hypothesis_id=claim.id,
        description=f"Screened beside each other on {iteration.base_commit[:12]}: {claim.title}",
        entrypoint=Entrypoint(command=config.train.command),
        reproducibility=Reproducibility(seeds=MaxPairs(max_pairs=max(2, config.screen.seeds))),
        metrics=DesignMetrics(
            primary=metric.primary,
            secondary=metric.report,
            success_delta=metric.difference,
            direction=metric.direction,
        ),
        baselines=(Arm(name=BASELINE),),
        variants=tuple(Arm(name=arm) for arm in arms),
        model=proposed_model(claim) or None,
        changes=claim.changes,
        base_commit=iteration.base_commit,
    )

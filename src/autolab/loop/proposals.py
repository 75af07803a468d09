"""Candidates that somebody outside of the loop hands to it: `autolab propose`, and the tool of that name for agents.

Whoever proposes needs no lock of the lab, so a loop may run. The next iteration takes the oldest proposal before it
asks its own researcher, and tests it like any candidate: path policy, checks, review, paired trials. What a proposer
claims is text; no number of theirs is ever a measurement. A candidate that fails a gate is set aside, with the reason:
its author fixes it, and nobody here does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from autolab.errors import AutolabError, GitError, LabError, UsageError
from autolab.files import sha256_of, utc_now
from autolab.lab.git import Git
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Transition
from autolab.lab.schemas.experiment import Arm, Design, DesignMetrics, Entrypoint, Hypothesis, MaxPairs, Reproducibility
from autolab.lab.schemas.outcomes import Stage
from autolab.lab.schemas.plans import BroughtCommit, Entry, StoredProposal
from autolab.lab.schemas.record import PROSE
from autolab.loop import preflight
from autolab.loop.implementation import policy_findings
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.proposal_inbox import (
    Proposal,
    ProposalStatus,
    deposit,
    find_proposal,
    one_writer,
    pinned,
    proposals,
    set_aside_proposal,
    waiting_proposals,
)
from autolab.loop.stages import StageOutcome
from autolab.stats.plan import plan_design
from autolab.text import many_lines, one_line
from autolab.trials import champion, containment
from autolab.trials.calibration import current_calibration, with_difference

__all__ = ["Proposal", "ProposalRequest", "ProposalStatus", "proposals", "propose"]

AUTHOR = "a proposal"
"""Whose code runs, where its containment is settled: an agent's, whichever researcher the lab has."""
AGENT_FILES = (".agents/", ".claude/", ".codex/", ".mcp.json", "AGENTS.md", "CLAUDE.md")
"""What `autolab init --agent` writes, among others. In a checkout they are the user's."""
TITLE, NAME = 200, 80
"""Characters of a title and of a proposer's name."""
_REPAIRS = {
    Stage.IMPLEMENTATION: (StageOutcome.RETRY, StageOutcome.ESCALATE),
    Stage.IMPLEMENTATION_REVIEW: (StageOutcome.SEND_BACK, StageOutcome.ESCALATE),
    Stage.LAUNCH: (StageOutcome.SEND_BACK,),
}
"""Outcomes after which a researcher would change the candidate, or a user would be asked to look at it."""


@dataclass(frozen=True)
class ProposalRequest:
    """What is proposed, and by whom. The texts are the proposer's word: kept, shown, and not believed.

    At most one of `revision` and `patch` (against the base, as `git diff` prints it) names the code. Without both it
    is the working tree of `checkout` (of the lab, if None), or the base's own code if there are `settings`.
    `expected_gain` is in the metric's units.
    """

    title: str
    claim: str = ""
    mechanism: str = ""
    expected_gain: float | None = None
    revision: str | None = None
    patch: bytes | None = None
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    by: str = "the command line"
    checkout: Path | None = None


@dataclass(frozen=True)
class _Candidate:
    """A commit of the present base with what is proposed, and the files that were left out of it."""

    commit: str
    tree: str
    left_out: tuple[str, ...] = ()


def propose(lab: Lab, request: ProposalRequest) -> Proposal:
    """Hand a candidate to the loop. The same code and settings on the same base again: the proposal that is there.

    Needs no lock: a loop may run. AutolabError, one line with the way out: nothing would change; the path policy
    refuses a file; a text is too long; revision or patch do not fit; agents' code may not run at this machine's level
    of containment.
    """
    request = _readable(request)
    config = with_difference(lab.config(), current_calibration(lab))
    containment.settle(config, lab.store, note=False, author=AUTHOR)
    with one_writer(lab):
        base = _base(lab, config)
        candidate = _candidate(lab, config, request, base)
        if candidate.tree == lab.git.tree(base) and not request.settings:
            raise UsageError(_nothing_changes(candidate, base))
        proposal_id = _id(lab, base, candidate, request.settings)
        known = find_proposal(lab, proposal_id)
        if known is not None:
            return known
        stored = StoredProposal(
            id=proposal_id,
            at=utc_now(),
            by=request.by,
            title=request.title,
            claim=request.claim,
            mechanism=request.mechanism,
            expected_gain=request.expected_gain,
            # After a crash between pin and file it is the pinned one: each try makes a commit with another time.
            commit=pinned(lab, proposal_id) or candidate.commit,
            base=base,
            settings=dict(request.settings),
            left_out=candidate.left_out,
        )
        problem = _policy_problem(lab, config, stored)
        if problem:
            raise LabError(f"propose: {problem}")
        # Settings that give no plan are refused now, not when the iteration is opened.
        entry = _entry(config, stored)
        assert entry.design is not None
        plan_design(entry.design, config, entry.hypothesis, b"", "", "")
        deposit(lab, stored)
    return Proposal(stored, ProposalStatus.WAITING)


def _readable(request: ProposalRequest) -> ProposalRequest:
    """The request with its texts made safe to show. UsageError: one is missing or too long."""
    title, by = one_line(request.title, TITLE + 1), one_line(request.by, NAME) or "unnamed"
    if not title:
        raise UsageError("propose: no title; say in one line what the candidate does")
    if len(title) > TITLE:
        raise UsageError(f"propose: title: longer than {TITLE} characters; the claim has room for more")
    texts = {"claim": request.claim, "mechanism": request.mechanism}
    for name, text in texts.items():
        texts[name] = many_lines(text)
        if len(texts[name]) > PROSE:
            raise UsageError(f"propose: {name}: {len(text):,} characters; say it in {PROSE:,} or fewer")
    if request.revision is not None and request.patch is not None:
        raise UsageError("propose: a revision and a patch; name one of them")
    return replace(request, title=title, by=by, claim=texts["claim"], mechanism=texts["mechanism"])


def _base(lab: Lab, config: Config) -> str:
    """The commit that the next candidate branches from. Reads only."""
    _, campaign = lab.load()
    base, _, _ = champion.base(lab, campaign, lambda path: preflight.engine_owned(path, config))
    return base


def _candidate(lab: Lab, config: Config, request: ProposalRequest, base: str) -> _Candidate:
    git, message = lab.git, f"proposal: {request.title}"
    if request.patch is not None:
        try:
            commit = git.commit_of_patch(base, request.patch, message)
        except GitError as error:
            raise GitError(f"propose: the patch does not apply to the base, {base[:12]}: {error}") from None
        return _Candidate(commit.sha, commit.tree)
    if request.revision is None and request.settings:
        commit = git.commit_of_changes(base, base, base, message, ())
        return _Candidate(commit.sha, commit.tree)
    if request.revision is not None:
        changed = git.resolve(request.revision)
        if changed is None:
            raise UsageError(
                f"propose: {one_line(request.revision, NAME)!r} names no commit here;"
                " git log --oneline --all shows those there are"
            )
    else:
        changed = Git(request.checkout or lab.root).commit_of_checkout(message).sha
    origin = git.merge_base(changed, base)
    if origin is None:
        raise UsageError(f"propose: {changed[:12]} has no commit in common with the base, {base[:12]}: start from that")
    in_checkout = request.revision is None
    engines, users = [], []
    for path in git.changed_paths(origin, changed):
        if preflight.engine_owned(path, config):
            engines.append(path)
        elif in_checkout and path.startswith((".autolab/", *AGENT_FILES, *config.files.human)):
            users.append(path)
    try:
        commit = git.commit_of_changes(base, origin, changed, message, [*engines, *users])
    except GitError as error:
        way_out = f"start from it (git switch --detach {base[:12]})"
        raise GitError(f"propose: the change does not apply to the base, {base[:12]}: {error}; {way_out}") from None
    # In the lab's checkout the engine's files differ all the time: nobody put them into this candidate.
    left_out = users if in_checkout else engines
    return _Candidate(commit.sha, commit.tree, tuple(left_out))


def _nothing_changes(candidate: _Candidate, base: str) -> str:
    if candidate.left_out:
        return f"propose: only files that are not a candidate's to change differ: {', '.join(candidate.left_out[:3])}"
    return f"propose: nothing differs from the base, {base[:12]}: change the code, or name a revision, --patch or --set"


def _id(lab: Lab, base: str, candidate: _Candidate, settings: Mapping[str, JsonValue]) -> str:
    """The name of a question: the files of the base, those of the candidate, and the settings."""
    parts = [lab.git.tree(base), candidate.tree, dict(settings)]
    return f"p-{sha256_of(json.dumps(parts, sort_keys=True))[:10]}"


def _policy_problem(lab: Lab, config: Config, proposal: StoredProposal) -> str:
    """What the path policy has against a proposal, with the way out; empty: nothing."""
    findings = policy_findings(lab, config, proposal.base, proposal.commit)
    return "; ".join(finding.message for finding in findings if finding.severity == "blocking")


# What an iteration begins with


def next_proposal(lab: Lab, requested: Config, base: str, tell: Callable[[str], None]) -> Entry | None:
    """The entry of the oldest waiting proposal that can be tested on `base`; None if none waits.

    `requested` is the configuration as the user gave it, before this machine lowered its containment. Proposals that
    cannot be tested are set aside, with the reason. The caller holds the lab's lock and opens an iteration with it.
    """
    waiting = waiting_proposals(lab, tell)
    if not waiting:
        return None
    try:
        containment.settle(requested, lab.store, note=False, author=AUTHOR)
    except LabError as error:
        tell(f"note: proposals wait: {error}")
        return None
    for proposal in waiting:
        try:
            moved = _moved(lab, proposal, base)
            problem = _policy_problem(lab, requested, moved)
        except AutolabError as error:
            problem = str(error)
        if problem:
            tell(f"proposal {proposal.id} of {proposal.by} is set aside: {one_line(problem)}")
            set_aside_proposal(lab, proposal, problem)
            continue
        tell(f"proposal {proposal.id} of {proposal.by}: {proposal.title}")
        return _entry(requested, moved)
    return None


def _moved(lab: Lab, proposal: StoredProposal, base: str) -> StoredProposal:
    """The proposal on the base that stands now. GitError: its change does not apply there. LabError: it is in there."""
    git = lab.git
    if git.resolve(proposal.commit) is None:
        raise LabError(f"its commit {proposal.commit[:12]} is gone; propose it again")
    if proposal.base == base:
        return proposal
    try:
        commit = git.commit_of_changes(base, proposal.base, proposal.commit, f"proposal: {proposal.title}", ())
    except GitError as error:
        raise GitError(f"the base moved to {base[:12]}, and the change does not apply there: {error}") from None
    if commit.tree == git.tree(base) and not proposal.settings:
        raise LabError(f"the base, {base[:12]}, has this change already")
    return proposal.model_copy(update={"commit": commit.sha, "base": base})


def _entry(config: Config, proposal: StoredProposal) -> Entry:
    """The lab's usual experiment: the base and one variant, under the rule of the configuration."""
    metric = config.metric
    success = proposal.claim or f"{metric.primary} improves by at least {metric.difference:g}"
    mechanism = proposal.mechanism or proposal.claim or proposal.title
    if proposal.expected_gain is not None:
        mechanism += f"\n\nThe proposer expects a gain of {proposal.expected_gain:g}: their word, no measurement."
    author = f"{proposal.by} (proposal {proposal.id})"
    hypothesis = Hypothesis(
        id="",
        title=proposal.title,
        metric=metric.primary,
        direction=metric.direction,
        # The lab's, whatever the proposer expects: a smaller one would be easier to meet.
        success_delta=metric.difference,
        success=success,
        risk_bounds=(),
        mechanism=mechanism,
        references=(f"proposed by {author}",),
        changes=dict(proposal.settings),
    )
    design = Design(
        id="",
        iteration_id="",
        hypothesis_id="",
        description=f"{proposal.title}, against the base.",
        entrypoint=Entrypoint(command=config.train.command),
        reproducibility=Reproducibility(seeds=MaxPairs(max_pairs=config.test.max_pairs)),
        metrics=DesignMetrics(
            primary=metric.primary,
            secondary=metric.report,
            success_delta=metric.difference,
            direction=metric.direction,
        ),
        baselines=(Arm(name="baseline"),),
        variants=(Arm(name="proposal", config_overrides=proposal.settings),),
        changes=dict(proposal.settings),
        test=config.test.stopping_rule,
    )
    return Entry(
        stage=Stage.IMPLEMENTATION,
        hypothesis=hypothesis,
        design=design,
        candidate=BroughtCommit(commit=proposal.commit, base=proposal.base, via=author),
        proposal=proposal.id,
    )


# What its gates make of it


def require_contained(iteration: Iteration, requested: Config) -> None:
    """LabError: the iteration tests a proposal, and this machine cannot contain its code as the user asked."""
    if iteration.config.containment != requested.containment and _proposal_of(iteration) is not None:
        containment.settle(requested, iteration.lab.store, note=False, author=AUTHOR)


def without_repair(iteration: Iteration, result: StageResult) -> StageResult:
    """The result of a stage; of a proposal whose candidate failed a gate, that it is set aside."""
    if result.outcome not in _REPAIRS.get(iteration.state.stage, ()):
        return result
    if _proposal_of(iteration) is None:
        return result
    return replace(result, outcome=StageOutcome.SET_ASIDE)


def _proposal_of(iteration: Iteration) -> str | None:
    """The id of the proposal that the iteration tests; None if it tests none."""
    for transition in iteration.recorded(Transition):
        if transition.why == "opened":
            return None if transition.entry is None else transition.entry.proposal
    return None

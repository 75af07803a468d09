"""The built-in researcher: no key, no network, deterministic for a lab's seed.

It holds a catalogue of mechanisms and knows what each brought in this lab. If the user's goal names mechanisms, they
are tried first. After that a bandit over their families proposes (`bandit`), and the assembler writes the code
(`bench`). Near misses are refined, supported changes are built on, and what failed is not tried again. The researcher
reads no prompt; its sentences (`words`) leave the numbers to the engine.

What it cannot do: read papers, or propose what is not in its catalogue. Its review checks that the code is what its
design says, not whether the idea is good.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.experiment import Arm, Design, Results
from autolab.lab.schemas.outcomes import Decision, RequestKind, Verdict
from autolab.lab.schemas.replies import (
    DecisionOutput,
    DesignOutput,
    HypothesisOutput,
    ImplementationOutput,
    Output,
    ReviewOutput,
)
from autolab.researchers.assembler.blueprint import with_base_files
from autolab.researchers.assembler.written_method import NotApplicable, WrittenMethod
from autolab.researchers.base import Answer, Batch, Code, Documents, LabSnapshot, ResearcherDefaults, Task
from autolab.researchers.offline import bandit, batches, words
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench, find_bench
from autolab.researchers.offline.catalogue import GoalMatch, understand
from autolab.stats import target
from autolab.verifiers.findings import advisory_finding, blocking_finding

REFINEMENTS = 2
"""How often one hypothesis is tried again in its next dose."""
LARGE = 3.0
"""From this many times the base's parameters on, the review notes that capacity alone could explain a gain."""
WITHDRAWN = "withdrawn: the change does not run here"


class GaveUp(Exception):
    """There is nothing to answer: why, in one line."""


class OfflineResearcher(ResearcherDefaults):
    name = "offline"
    options = frozenset({"catalogue", "policy"})
    works_in_folder = False
    chooses_families = True
    names_author = True

    def __init__(self, config: ResearcherConfig) -> None:
        self._policy = config.policy
        self._catalogue = Path(config.catalogue) if config.catalogue else None

    def concludes(self, config: Config) -> bool:
        searcher = config.screen.searcher
        # Who asks for chance gets it, unless they name a searcher.
        if searcher == "auto":
            return self._policy == "bandit"
        return searcher != "bandit"

    def perform(self, task: Task) -> Answer:
        snapshot = task.snapshot()
        try:
            bench = find_bench(snapshot.code.read_base, snapshot.config, self._catalogue)
            output, note = self._answer(task, snapshot, bench)
        except (GaveUp, NotApplicable) as error:
            return Answer(_result("failed", str(error), None))
        return Answer(_result("complete", note or "answered from the catalogue", output), note)

    def _answer(self, task: Task, snapshot: LabSnapshot, bench: Bench) -> tuple[Output, str]:
        """The stage's output, and a line for the user, which may be empty."""
        documents, code = snapshot.documents, snapshot.code
        match task.kind:
            case RequestKind.HYPOTHESIS:
                return self._hypothesis(snapshot, bench, task.iteration)
            case RequestKind.DESIGN:
                return _design(snapshot, bench), ""
            case RequestKind.IMPLEMENTATION:
                _refuse_unknown(_changes(documents), bench)
                # A second request means that the code of the first failed; the same code would fail again.
                if task.number > 1 and snapshot.trouble:
                    return _withdrawal(documents, code, bench, snapshot.trouble), WITHDRAWN
                return _write(documents, bench).implementation(bench.via), ""
            case RequestKind.IMPLEMENTATION_REVIEW:
                return _review(documents, code, bench), ""
            case RequestKind.UPDATE_DOCS:
                paper_targets = snapshot.config.docs.paper_targets
                return words.docs(documents, paper_targets, _parameters(documents, bench)), ""
            case _:
                return _decide(snapshot, bench), ""

    def _hypothesis(self, snapshot: LabSnapshot, bench: Bench, iteration: int) -> tuple[HypothesisOutput, str]:
        batch = snapshot.batch
        idea, note = None, ""
        # What the user asks for comes before what the search would choose.
        if batch is None or not batch.concludes:
            idea, note = _requested_idea(snapshot, bench)
        if idea is not None and batch is not None and any(claim.changes == idea.changes for claim in batch.earlier):
            idea, note = None, ""
        if idea is None and batch is not None and self.concludes(snapshot.config):
            idea = _searched_idea(snapshot, bench, batch)
        elif idea is None:
            idea = self._chosen_idea(snapshot, bench, iteration)
        return words.hypothesis(idea, snapshot.config.metric, snapshot.history.lessons), note

    def _chosen_idea(self, snapshot: LabSnapshot, bench: Bench, iteration: int) -> Idea:
        """One of the catalogue's ideas: of a batch, the best of one draw in the order of their places."""
        history, batch = snapshot.history, snapshot.batch
        untried = bandit.ideas(bench.mechanisms, history.lessons, snapshot.code.base_commit, bench.fits)
        untired = bandit.without(untried, history.avoided_families)
        # From the lab's seed and the iteration alone: an engine that died and a replay draw the same idea again.
        draw = random.Random(f"{history.seed} {iteration}")
        if batch is not None:
            if self._policy == "random":
                ranked = draw.sample(untired, len(untired))
            else:
                ranked = bandit.ranked(untired, history.lessons, draw)
            earlier = [claim.changes for claim in batch.earlier]
            for idea in ranked[batch.place - 1 :]:
                if idea.changes not in earlier:
                    return idea
        elif self._policy == "random" and untired:
            return draw.choice(untired)
        else:
            chosen = bandit.choose(untired, history.lessons, draw)
            if chosen is not None:
                return chosen
        raise GaveUp("every mechanism of the catalogue that fits was tried on this base")


# what is tried next


def _searched_idea(snapshot: LabSnapshot, bench: Bench, batch: Batch) -> Idea:
    """The idea of the searcher that learns from all screens. GaveUp: it has none."""
    if batch.concludes:
        idea = batches.concluded(snapshot, bench, batch)
        if idea is None:
            raise GaveUp("nothing that was screened promises a gain")
        return idea
    idea = batches.proposed(snapshot, bench, batch)
    if idea is None:
        raise GaveUp("the searcher draws nothing that was not screened on this base")
    return idea


def _decide(snapshot: LabSnapshot, bench: Bench) -> DecisionOutput:
    documents, goal = snapshot.documents, snapshot.goal.target
    assert documents.results is not None and documents.design is not None
    results, changes = documents.results, documents.design.changes
    # The engine checks this decision; claimed too early it would be refused.
    if goal and not target.missed(goal, snapshot.config, results):
        return DecisionOutput(decision=Decision.ACHIEVE, reason=f"the measured mean meets {goal}")
    if documents.refinement < REFINEMENTS and _promising(results, documents.design):
        higher = bandit.next_dose(changes, bench.mechanisms)
        if higher and bench.fits(higher.changes):
            reason = f"the mean is a gain, but not significant; next dose: {words.title(higher)}"
            return DecisionOutput(decision=Decision.REFINE, reason=reason)
    supported = results.assessment.verdict is Verdict.SUPPORTED
    base_commit = snapshot.code.base_commit
    if supported:
        # The candidate becomes the base. No lesson has its commit yet, and none has the commit "".
        unknown = _unknown(changes, bench)
        bench = bench.after({name: value for name, value in changes.items() if name not in unknown})
        base_commit = ""
    untried = bandit.ideas(bench.mechanisms, snapshot.history.lessons, base_commit, bench.fits)
    # The design's own changes are no lesson before this iteration ends, so they are among the untried ones.
    if all(idea.changes == changes for idea in untried):
        return DecisionOutput(decision=Decision.STOP, reason="every mechanism that fits was tried on this base")
    return DecisionOutput(decision=Decision.NEW_HYPOTHESIS, reason=words.onward(results, supported))


def _requested_idea(snapshot: LabSnapshot, bench: Bench) -> tuple[Idea | None, str]:
    """The idea that the user's goal names, if it was not measured on this base yet; and a note on how it was read."""
    goal, base_commit = snapshot.goal, snapshot.code.base_commit
    if not goal.given_with_loop or snapshot.documents.refinement:
        return None, ""
    match = understand(goal.text, bench.mechanisms)
    if not match.mechanisms:
        return None, f"goal {goal.text!r}: names no mechanism of the catalogue, so the search chooses"
    idea = _fitting(match, bench)
    measured = {bandit.key(lesson.changes) for lesson in snapshot.history.lessons if lesson.base == base_commit}
    if idea is None or bandit.key(idea.changes) in measured:
        return None, ""
    note = f"goal {goal.text!r}: understood as {words.title(idea)}"
    if match.rest:
        note += f"; not understood: {' '.join(match.rest)}"
    return idea, note


def _fitting(match: GoalMatch, bench: Bench) -> Idea | None:
    """The longest run of the named mechanisms, in their first doses, that fits: the base may have some already."""
    parts = [(mechanism, mechanism.values[0]) for mechanism in match.mechanisms]
    for count in range(len(parts), 0, -1):
        for start in range(len(parts) - count + 1):
            idea = Idea(tuple(parts[start : start + count]))
            # Two mechanisms that change the same thing cannot be tried together.
            if len(idea.changes) == count and bench.fits(idea.changes):
                return idea
    return None


def _promising(results: Results, design: Design) -> bool:
    """Whether the comparison is inconclusive with a mean gain that promises something."""
    assessment = results.assessment
    # A futile run has shown that a gain of the wanted size is unlikely.
    if assessment.verdict is not Verdict.INCONCLUSIVE or assessment.reason in ("no_change", "suspicious", "futile"):
        return False
    least = bandit.PROMISING * design.metrics.success_delta
    return any(comparison.difference.mean >= least for comparison in assessment.comparisons)


# how it is measured


def _design(snapshot: LabSnapshot, bench: Bench) -> DesignOutput:
    documents = snapshot.documents
    assert documents.hypothesis is not None
    changes = documents.hypothesis.changes
    _refuse_unknown(changes, bench)
    # The newest lesson is about the dose that this iteration refines.
    if documents.refinement:
        higher = bandit.next_dose(snapshot.history.lessons[0].changes, bench.mechanisms)
        if higher is None:
            raise GaveUp("there is no further dose of the mechanism to refine")
        changes = higher.changes
    arm = _arm(changes, bench)
    requested_idea, _ = _requested_idea(snapshot, bench)
    baselines = [Arm(name="baseline")]
    against = "the base"
    # A user who names a mechanism asks how it compares with the lab's own models, not with the present champion.
    if bench.baselines and requested_idea is not None and requested_idea.changes == changes:
        baselines = [Arm(name=name, config_overrides={"model": name}) for name in bench.baselines]
        against = " and ".join(bench.baselines)
    title = words.changes_title(changes, bench)
    return DesignOutput(
        description=f"{title}, against {against}. Nothing else differs.",
        baselines=tuple(baselines),
        variants=(Arm(name=arm),),
        secondary=snapshot.config.metric.report,
        model=bench.model(changes, _module(arm, documents)),
        changes=changes,
    )


def _unknown(changes: Mapping[str, JsonValue], bench: Bench) -> set[str]:
    """The changes that the bench does not have: another researcher may have proposed them."""
    known = {mechanism.change for mechanism in bench.mechanisms}
    return changes.keys() - known - {scale.change for scale in bench.scales}


def _refuse_unknown(changes: Mapping[str, JsonValue], bench: Bench) -> None:
    """GaveUp: the claim is another researcher's, and there is no code for it here."""
    unknown = _unknown(changes, bench)
    if unknown:
        raise GaveUp(f"the claim is another researcher's: the catalogue has no change {min(unknown)}")


def _arm(changes: Mapping[str, JsonValue], bench: Bench) -> str:
    """The arm's name, from the titles or names of its mechanisms: it becomes a folder and a row."""
    names = []
    for change, value in changes.items():
        mechanism = bench.part(change, value)
        # Changes in doses that are not the catalogue's have no part of it, and so no name.
        if mechanism is not None:
            name = mechanism.called(value) or mechanism.name
            names.append(re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_"))
    whole = "_".join(names)
    if len(names) > words.NAMED:
        # Points with many parts begin alike.
        return f"{names[0][:24]}_and_{len(names) - 1}_{words.mark(changes)}"
    return whole[:40].strip("_") or "candidate"


def _module(arm: str, documents: Documents) -> str:
    """The name of a new model's file: no two hypotheses share one."""
    refinement = f"_r{documents.refinement}" if documents.refinement else ""
    return f"{arm[:32]}_{documents.hypothesis_id}{refinement}"


# the code


def _withdrawal(documents: Documents, code: Code, bench: Bench, trouble: str) -> ImplementationOutput:
    """The base's files again: once the design's code has failed, this researcher cannot fix it.

    A withdrawn candidate is the base, whose trials are known, so the iteration ends without further cost.
    """
    paths = list(_texts(_write(documents, bench), code))
    output = ImplementationOutput(plan=f"Withdrawn, the base's files are put back: {trouble}")
    return with_base_files(output, paths, code.read_base)


def _changes(documents: Documents) -> dict[str, JsonValue]:
    """The changes of the design, which every stage after it has."""
    assert documents.design is not None
    return documents.design.changes


def _write(documents: Documents, bench: Bench) -> WrittenMethod:
    changes = _changes(documents)
    return bench.write(changes, _module(_arm(changes, bench), documents))


def _review(documents: Documents, code: Code, bench: Bench) -> ReviewOutput:
    """Compare the candidate, file by file, with the code of its design; and note what could explain a gain."""
    changes = _changes(documents)
    if not changes or _unknown(changes, bench):
        note = "The design names no changes of the catalogue, so the code was not compared with them."
        return ReviewOutput(findings=(), notes=note)
    try:
        expected = _texts(_write(documents, bench), code)
    except (NotApplicable, RecordError) as error:
        return ReviewOutput(findings=(), notes=f"The design's changes are not the catalogue's: {error}")
    candidate = {path: code.read_candidate(path) for path in expected}
    base = {path: code.read_base(path) for path in expected}
    # This comes first: a withdrawn candidate differs from its design in every file.
    if candidate == base:
        return ReviewOutput(findings=(), notes="The candidate was withdrawn: its code is the base's.")
    findings = []
    for path, text in expected.items():
        if candidate[path] != text:
            findings.append(blocking_finding("scope", f"{path} is not the code of the design", path))
    base_size, candidate_size = _parameters(documents, bench) or (0, 0)
    if candidate_size > LARGE * base_size:
        message = f"{candidate_size:,} parameters against {base_size:,}: capacity alone could explain a gain"
        findings.append(advisory_finding("fairness", message))
    note = f"{len(expected)} files compared with the design, byte for byte."
    return ReviewOutput(findings=tuple(findings), notes=note)


def _texts(written: WrittenMethod, code: Code) -> dict[str, str]:
    """Every file of a candidate's code, whole."""
    # Edits come after files: an edit may be of a file that was just written.
    texts = {file.path: file.content for file in written.files}
    for edit in written.edits:
        old = texts.get(edit.path, code.read_base(edit.path) or "")
        texts[edit.path] = old.replace(edit.search, edit.replace)
    return texts


def _parameters(documents: Documents, bench: Bench) -> tuple[int, int] | None:
    """Parameters of base and candidate; None if they are not known."""
    try:
        return bench.parameters(_changes(documents))
    except NotApplicable:
        return None


def _result(status: str, summary: str, output: Output | None) -> str:
    result = {
        "status": status,
        "summary": summary,
        "changed_files": [],
        "completion_token_seen": False,
        "output": output.value() if output else None,
    }
    return json.dumps(result, ensure_ascii=False)

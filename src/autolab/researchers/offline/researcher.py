"""The built-in researcher: no key, no network, deterministic for a lab's seed.

It holds a catalogue of mechanisms and knows what each has brought here. A goal that names mechanisms is tried first;
then a bandit over their families proposes (`policy`), the assembler writes the code (`bench`), near misses are
refined, what was supported is built on, what failed is left alone. It reads no prompt, and its words (`words`) leave
the numbers to the engine.

What is not covered: it cannot read papers or think of what is not in its catalogue, and its review checks that the
code is what its design says, not whether the idea is good.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from autolab.errors import RecordError
from autolab.lab.schemas.config import ResearcherConfig
from autolab.lab.schemas.experiment import Arm, Design, Finding, Results
from autolab.lab.schemas.outcomes import Decision, RequestKind, Verdict
from autolab.lab.schemas.replies import (
    DecisionOutput,
    DesignOutput,
    HypothesisOutput,
    ImplementationOutput,
    NewFile,
    Output,
    ReviewOutput,
)
from autolab.researchers.assembler.written_method import NotApplicable, WrittenMethod
from autolab.researchers.base import Answer, Code, Documents, History, LabSnapshot, ResearcherDefaults, Task
from autolab.researchers.offline import bandit, words
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench, find_bench
from autolab.researchers.offline.catalogue import Understood, understand
from autolab.stats import target

REFINEMENTS = 2
"""How often one hypothesis is tried again in its next dose."""
MANY = 3.0
"""Times the base's parameters at which the review points out that capacity alone could explain a gain."""


WITHDRAWN = "withdrawn: the change does not run here"


class GaveUp(Exception):
    """Nothing can be answered: why, in one line."""


class OfflineResearcher(ResearcherDefaults):
    name = "offline"
    options = frozenset({"catalogue", "policy"})
    works_in_folder = False
    chooses_families = True
    names_author = True

    def __init__(self, config: ResearcherConfig) -> None:
        self._policy = config.policy
        self._catalogue = Path(config.catalogue) if config.catalogue else None

    def perform(self, task: Task) -> Answer:
        snapshot = task.snapshot()
        try:
            bench = find_bench(snapshot.code.read_base, snapshot.config, self._catalogue)
            output, note = self._answer(task, snapshot, bench)
        except (GaveUp, NotApplicable) as error:
            return Answer(_result("failed", str(error), None))
        return Answer(_result("complete", note or "answered from the catalogue", output), note)

    def _answer(self, task: Task, snapshot: LabSnapshot, bench: Bench) -> tuple[Output, str]:
        """The stage's output, and a line for the user or nothing."""
        documents, code = snapshot.documents, snapshot.code
        match task.kind:
            case RequestKind.HYPOTHESIS:
                return self._hypothesis(snapshot, bench, task.iteration)
            case RequestKind.DESIGN:
                return _design(snapshot, bench), ""
            case RequestKind.IMPLEMENTATION:
                _refuse_others(documents.design.changes if documents.design else {}, bench)
                if task.number > 1 and snapshot.trouble:
                    return _withdrawn(documents, code, bench, snapshot.trouble), WITHDRAWN
                return _implementation(documents, bench), ""
            case RequestKind.IMPLEMENTATION_REVIEW:
                return _review(documents, code, bench), ""
            case RequestKind.UPDATE_DOCS:
                parameters = _parameters(documents, bench)
                return words.docs(documents, snapshot.config.docs.paper_targets, parameters), ""
            case _:
                return self._decide(snapshot, bench), ""

    # what is tried next

    def _hypothesis(self, snapshot: LabSnapshot, bench: Bench, iteration: int) -> tuple[HypothesisOutput, str]:
        history = snapshot.history
        requested_idea, note = _requested_idea(snapshot, bench)
        untried = bandit.ideas(bench.mechanisms, history.lessons, snapshot.code.base_commit, bench.fits)
        allowed = bandit.without(untried, history.avoided_families)
        idea = requested_idea or self._choose(allowed, history, iteration)
        if idea is None:
            raise GaveUp("every mechanism of the catalogue that fits was tried on this base")
        return words.hypothesis(idea, snapshot.config.metric, history.lessons), note

    def _choose(self, ideas: list[Idea], history: History, iteration: int) -> Idea | None:
        draw = random.Random(f"{history.seed} {iteration}")
        if self._policy == "random":
            return draw.choice(ideas) if ideas else None
        return bandit.choose(ideas, history.lessons, draw)

    def _decide(self, snapshot: LabSnapshot, bench: Bench) -> DecisionOutput:
        documents, wanted = snapshot.documents, snapshot.goal.target
        assert documents.results is not None and documents.design is not None
        results, changes = documents.results, documents.design.changes
        if wanted and not target.missed(wanted, snapshot.config, results):
            return DecisionOutput(decision=Decision.ACHIEVE, reason=f"the measured mean meets {wanted}")
        supported = results.assessment.verdict is Verdict.SUPPORTED
        if not supported and _close(results, documents.design) and documents.refinement < REFINEMENTS:
            again = bandit.next_dose(changes, bench.mechanisms)
            if again and bench.fits(again.changes):
                reason = f"the mean is on the good side without proof; next dose: {words.title(again)}"
                return DecisionOutput(decision=Decision.REFINE, reason=reason)
        after = bench.after(_known(changes, bench)) if supported else bench
        base_commit = "" if supported else snapshot.code.base_commit
        left = bandit.ideas(after.mechanisms, snapshot.history.lessons, base_commit, after.fits)
        if not [idea for idea in left if idea.changes != changes]:
            return DecisionOutput(decision=Decision.STOP, reason="every mechanism that fits was tried on this base")
        return DecisionOutput(decision=Decision.NEW_HYPOTHESIS, reason=words.onward(results, supported))


def _requested_idea(snapshot: LabSnapshot, bench: Bench) -> tuple[Idea | None, str]:
    """What the user's goal names, if it was not measured on this base yet; and what was understood of it."""
    goal, base_commit = snapshot.goal, snapshot.code.base_commit
    if not goal.given_with_loop or snapshot.documents.refinement:
        return None, ""
    understood = understand(goal.text, bench.mechanisms)
    if not understood.mechanisms:
        return None, f"goal {goal.text!r}: names no mechanism of the catalogue, so the search chooses"
    idea = _fitting(understood, bench)
    done = {bandit.key(lesson.changes) for lesson in snapshot.history.lessons if lesson.base == base_commit}
    if idea is None or bandit.key(idea.changes) in done:
        return None, ""
    rest = f"; not understood: {' '.join(understood.rest)}" if understood.rest else ""
    return idea, f"goal {goal.text!r}: understood as {words.title(idea)}{rest}"


def _fitting(understood: Understood, bench: Bench) -> Idea | None:
    """The mechanisms that were named, in their first doses; those that the base has already are left out."""
    parts = tuple((mechanism, mechanism.values[0]) for mechanism in understood.mechanisms)
    for count in range(len(parts), 0, -1):
        for start in range(len(parts) - count + 1):
            idea = Idea(parts[start : start + count])
            if len(idea.changes) == count and bench.fits(idea.changes):
                return idea
    return None


def _close(results: Results, design: Design) -> bool:
    """Whether the comparison is inconclusive with a mean that promises something."""
    assessment = results.assessment
    if assessment.verdict is not Verdict.INCONCLUSIVE or assessment.reason in ("no_change", "suspicious"):
        return False
    delta = design.metrics.success_delta
    return any(c.difference.mean >= bandit.PROMISING * delta for c in assessment.comparisons)


# how it is measured


def _design(snapshot: LabSnapshot, bench: Bench) -> DesignOutput:
    documents = snapshot.documents
    assert documents.hypothesis is not None
    changes = documents.hypothesis.changes
    _refuse_others(changes, bench)
    if documents.refinement:
        idea = bandit.next_dose(snapshot.history.lessons[0].changes, bench.mechanisms)
        if idea is None:
            raise GaveUp("there is no further dose of what is to be refined")
        changes = idea.changes
    arm = _arm(changes, bench)
    requested_idea, _ = _requested_idea(snapshot, bench)
    named = bench.baselines if requested_idea is not None and requested_idea.changes == changes else ()
    baselines = tuple(Arm(name=name, config_overrides={"model": name}) for name in named)
    against = " and ".join(named) or "the base"
    return DesignOutput(
        description=f"{words.changes_title(changes, bench)}, against {against}; data, seeds and settings are the same.",
        baselines=baselines or (Arm(name="baseline"),),
        variants=(Arm(name=arm),),
        secondary=snapshot.config.metric.report,
        model=bench.model(changes, _module(arm, documents)),
        changes=changes,
    )


def _known(changes: Mapping[str, JsonValue], bench: Bench) -> dict[str, JsonValue]:
    """Those of the changes that the catalogue has: another researcher may have proposed others."""
    names = {mechanism.change for mechanism in bench.mechanisms}
    return {name: value for name, value in changes.items() if name in names}


def _refuse_others(changes: Mapping[str, JsonValue], bench: Bench) -> None:
    """GaveUp on a claim of another researcher, for which there is no code here."""
    others = set(changes) - set(_known(changes, bench))
    if others:
        raise GaveUp(f"the claim is another researcher's: the catalogue has no change {min(others)}")


def _arm(changes: Mapping[str, JsonValue], bench: Bench) -> str:
    """The arm's name, from the mechanisms that make it, as the title says them: it becomes a folder and a row."""
    parts = bandit.parts_of(changes, bench.mechanisms)
    names = [re.sub(r"[^a-z0-9]+", "_", (one.called(value) or one.name).lower()) for one, value in parts]
    return "_".join(names)[:40] or "candidate"


def _module(arm: str, documents: Documents) -> str:
    """The name of a new model's file: no two hypotheses share one."""
    again = f"_r{documents.refinement}" if documents.refinement else ""
    return f"{arm[:32]}_{documents.hypothesis_id}{again}"


# the code


def _implementation(documents: Documents, bench: Bench) -> ImplementationOutput:
    """The code of the design."""
    written = _write(documents, bench)
    plan = "\n".join(f"- {line}" for line in written.plan)
    return ImplementationOutput(plan=plan, files=written.files, edits=written.edits, via=bench.via)


def _withdrawn(documents: Documents, code: Code, bench: Bench, trouble: str) -> ImplementationOutput:
    """The base's files again. Once the design's code has failed there is nothing to fix by thought.

    A withdrawn candidate is the base, whose trials are known, so the iteration ends without further cost.
    """
    written = _write(documents, bench)
    paths = dict.fromkeys([file.path for file in written.files] + [edit.path for edit in written.edits])
    base = {path: code.read_base(path) for path in paths}
    return ImplementationOutput(
        plan=f"Withdrawn, the base's files are put back: {trouble}",
        files=tuple(NewFile(path=path, content=text) for path, text in base.items() if text is not None),
        delete=tuple(path for path, text in base.items() if text is None),
    )


def _write(documents: Documents, bench: Bench) -> WrittenMethod:
    assert documents.design is not None
    changes = documents.design.changes
    return bench.write(changes, _module(_arm(changes, bench), documents))


def _review(documents: Documents, code: Code, bench: Bench) -> ReviewOutput:
    """Compare the candidate, file by file, with what its design comes to; and say what a gain would not show."""
    assert documents.design is not None
    changes = documents.design.changes
    if not changes or len(_known(changes, bench)) < len(changes):
        note = "The design names no changes of the catalogue, so what the code does was not compared with them."
        return ReviewOutput(findings=(), notes=note)
    try:
        expected = _texts(_write(documents, bench), code)
    except (NotApplicable, RecordError) as error:
        return ReviewOutput(findings=(), notes=f"The design's changes are not the catalogue's: {error}")
    candidate = {path: code.read_candidate(path) for path in expected}
    if all(text == code.read_base(path) for path, text in candidate.items()):
        return ReviewOutput(findings=(), notes="The candidate was withdrawn: its code is the base's.")
    wrong = [path for path, text in expected.items() if candidate[path] != text]
    findings = [
        Finding(check="scope", severity="blocking", message=f"{path} is not what the design comes to", file=path)
        for path in wrong
    ]
    counted = _parameters(documents, bench)
    if counted and counted[1] > MANY * counted[0]:
        message = f"{counted[1]:,} parameters against {counted[0]:,}: capacity alone could explain a gain"
        findings.append(Finding(check="fairness", severity="advisory", message=message))
    note = f"{len(expected)} files compared with the design, byte for byte."
    return ReviewOutput(findings=tuple(findings), notes=note)


def _texts(written: WrittenMethod, code: Code) -> dict[str, str]:
    """Every file that a candidate's code comes to, whole."""
    texts = {file.path: file.content for file in written.files}
    for edit in written.edits:
        old = texts.get(edit.path, code.read_base(edit.path) or "")
        texts[edit.path] = old.replace(edit.search, edit.replace)
    return texts


def _parameters(documents: Documents, bench: Bench) -> tuple[int, int] | None:
    assert documents.design is not None
    try:
        return bench.parameters(documents.design.changes)
    except NotApplicable:
        return None


def _result(status: str, summary: str, output: Output | None) -> str:
    value = {"status": status, "summary": summary, "changed_files": [], "completion_token_seen": False}
    return json.dumps(value | {"output": output.value() if output else None}, ensure_ascii=False)

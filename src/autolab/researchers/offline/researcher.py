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
from autolab.lab.schemas.experiment import Arm, Finding
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
from autolab.researchers.base import Answer, Context, Task
from autolab.researchers.offline import bandit, words
from autolab.researchers.offline.bandit import Idea
from autolab.researchers.offline.bench import Bench, WrittenMethod, bench
from autolab.researchers.offline.catalogue import Understood, understand
from autolab.researchers.offline.changes import NotApplicable
from autolab.stats import target

REFINEMENTS = 2
"""How often one hypothesis is tried again in its next dose."""
MANY = 3.0
"""Times the base's parameters at which the review points out that capacity alone could explain a gain."""


class GaveUp(Exception):
    """Nothing can be answered: why, in one line."""


class OfflineResearcher:
    name = "offline"
    options = frozenset({"catalogue", "policy"})
    works_in_folder = False

    def __init__(self, who: ResearcherConfig) -> None:
        self._policy = who.policy
        self._catalogue = Path(who.catalogue) if who.catalogue else None

    def perform(self, task: Task) -> Answer:
        context = task.context()
        try:
            desk = bench(context.base, context.config, self._catalogue)
            output, note = self._answer(task, context, desk)
        except (GaveUp, NotApplicable) as error:
            return Answer(_result("failed", str(error), None))
        return Answer(_result("complete", note or "answered from the catalogue", output), note)

    def _answer(self, task: Task, context: Context, desk: Bench) -> tuple[Output, str]:
        """The stage's output, and a line for the user or nothing."""
        match task.kind:
            case RequestKind.HYPOTHESIS:
                return self._hypothesis(context, desk, task.iteration)
            case RequestKind.DESIGN:
                return _design(context, desk), ""
            case RequestKind.IMPLEMENTATION:
                _refuse_others(context.design.changes if context.design else {}, desk)
                return _implementation(context, desk, first=task.number == 1)
            case RequestKind.IMPLEMENTATION_REVIEW:
                return _review(context, desk), ""
            case RequestKind.UPDATE_DOCS:
                return words.docs(context, _parameters(context, desk)), ""
            case _:
                return self._decide(context, desk), ""

    # what is tried next

    def _hypothesis(self, context: Context, desk: Bench, iteration: int) -> tuple[HypothesisOutput, str]:
        asked, note = _asked_for(context, desk)
        found = bandit.without(self._ideas(context, desk), context.avoid)
        idea = asked or self._choose(found, context, iteration)
        if idea is None:
            raise GaveUp("every mechanism of the catalogue that fits was tried on this base")
        return words.hypothesis(idea, context.config.metric, context.lessons), note

    def _ideas(self, context: Context, desk: Bench, base: str | None = None) -> list[Idea]:
        commit = context.base_commit if base is None else base
        return bandit.ideas(desk.mechanisms, context.lessons, commit, desk.fits)

    def _choose(self, found: list[Idea], context: Context, iteration: int) -> Idea | None:
        draw = random.Random(f"{context.seed} {iteration}")
        if self._policy == "random":
            return draw.choice(found) if found else None
        return bandit.choose(found, context.lessons, draw)

    def _decide(self, context: Context, desk: Bench) -> DecisionOutput:
        assert context.results is not None and context.design is not None
        results, changes = context.results, context.design.changes
        if context.target and not target.missed(context.target, context.config, results):
            return DecisionOutput(decision=Decision.ACHIEVE, reason=f"the measured mean meets {context.target}")
        supported = results.assessment.verdict is Verdict.SUPPORTED
        if not supported and _close(context) and context.refinement < REFINEMENTS:
            again = bandit.next_dose(changes, desk.mechanisms)
            if again and desk.fits(again.changes):
                reason = f"the mean is on the good side without proof; next dose: {words.title(again)}"
                return DecisionOutput(decision=Decision.REFINE, reason=reason)
        after = desk.after(_known(changes, desk)) if supported else desk
        left = self._ideas(context, after, "" if supported else None)
        if not [idea for idea in left if idea.changes != changes]:
            return DecisionOutput(decision=Decision.STOP, reason="every mechanism that fits was tried on this base")
        return DecisionOutput(decision=Decision.NEW_HYPOTHESIS, reason=words.onward(results, supported))


def _asked_for(context: Context, desk: Bench) -> tuple[Idea | None, str]:
    """What the user's goal names, if it was not measured on this base yet; and what was understood of it."""
    if not context.intent or context.refinement:
        return None, ""
    understood = understand(context.goal, desk.mechanisms)
    if not understood.mechanisms:
        return None, f"goal {context.goal!r}: names no mechanism of the catalogue, so the search chooses"
    idea = _fitting(understood, desk)
    done = {bandit.key(lesson.changes) for lesson in context.lessons if lesson.base == context.base_commit}
    if idea is None or bandit.key(idea.changes) in done:
        return None, ""
    rest = f"; not understood: {' '.join(understood.rest)}" if understood.rest else ""
    return idea, f"goal {context.goal!r}: understood as {words.title(idea)}{rest}"


def _fitting(understood: Understood, desk: Bench) -> Idea | None:
    """The mechanisms that were named, in their first doses; those that the base has already are left out."""
    parts = tuple((mechanism, mechanism.values[0]) for mechanism in understood.mechanisms)
    for count in range(len(parts), 0, -1):
        for start in range(len(parts) - count + 1):
            idea = Idea(parts[start : start + count])
            if len(idea.changes) == count and desk.fits(idea.changes):
                return idea
    return None


def _close(context: Context) -> bool:
    """Whether the comparison is inconclusive with a mean that promises something."""
    assert context.results is not None and context.design is not None
    assessment = context.results.assessment
    if assessment.verdict is not Verdict.INCONCLUSIVE or assessment.reason in ("no_change", "suspicious"):
        return False
    delta = context.design.metrics.success_delta
    return any(c.difference.mean >= bandit.PROMISING * delta for c in assessment.comparisons)


# how it is measured


def _design(context: Context, desk: Bench) -> DesignOutput:
    assert context.hypothesis is not None
    changes = context.hypothesis.changes
    _refuse_others(changes, desk)
    if context.refinement:
        idea = bandit.next_dose(context.lessons[0].changes, desk.mechanisms)
        if idea is None:
            raise GaveUp("there is no further dose of what is to be refined")
        changes = idea.changes
    arm = _arm(changes, desk)
    asked, _ = _asked_for(context, desk)
    named = desk.baselines if asked is not None and asked.changes == changes else ()
    baselines = tuple(Arm(name=name, config_overrides={"model": name}) for name in named)
    against = " and ".join(named) or "the base"
    return DesignOutput(
        description=f"{words.told(changes, desk)}, against {against}; data, seeds and settings are the same.",
        baselines=baselines or (Arm(name="baseline"),),
        variants=(Arm(name=arm),),
        secondary=context.config.metric.report,
        model=desk.model(changes, _module(arm, context)),
        changes=changes,
    )


def _known(changes: Mapping[str, JsonValue], desk: Bench) -> dict[str, JsonValue]:
    """Those of the changes that the catalogue has: another researcher may have proposed others."""
    names = {mechanism.change for mechanism in desk.mechanisms}
    return {name: value for name, value in changes.items() if name in names}


def _refuse_others(changes: Mapping[str, JsonValue], desk: Bench) -> None:
    """GaveUp on a claim of another researcher, for which there is no code here."""
    others = set(changes) - set(_known(changes, desk))
    if others:
        raise GaveUp(f"the claim is another researcher's: the catalogue has no change {min(others)}")


def _arm(changes: Mapping[str, JsonValue], desk: Bench) -> str:
    """The arm's name, from the mechanisms that make it, as the title says them: it becomes a folder and a row."""
    parts = bandit.parts_of(changes, desk.mechanisms)
    names = [re.sub(r"[^a-z0-9]+", "_", (one.called(value) or one.name).lower()) for one, value in parts]
    return "_".join(names)[:40] or "candidate"


def _module(arm: str, context: Context) -> str:
    """The name of a new model's file: no two hypotheses share one."""
    again = f"_r{context.refinement}" if context.refinement else ""
    return f"{arm[:32]}_{context.hypothesis_id}{again}"


# the code


def _implementation(context: Context, desk: Bench, *, first: bool) -> tuple[ImplementationOutput, str]:
    """The code of the design. Once that has failed there is nothing to fix by thought: it is withdrawn.

    A withdrawn candidate is the base again, whose trials are known, so the iteration ends without further cost.
    """
    written = _write(context, desk)
    if first or not context.trouble:
        plan = "\n".join(f"- {line}" for line in written.told)
        return ImplementationOutput(plan=plan, files=written.files, edits=written.edits, via=desk.via), ""
    paths = dict.fromkeys([file.path for file in written.files] + [edit.path for edit in written.edits])
    base = {path: context.base(path) for path in paths}
    return ImplementationOutput(
        plan=f"Withdrawn, the base's files are put back: {context.trouble}",
        files=tuple(NewFile(path=path, content=text) for path, text in base.items() if text is not None),
        delete=tuple(path for path, text in base.items() if text is None),
    ), "withdrawn: the change does not run here"


def _write(context: Context, desk: Bench) -> WrittenMethod:
    assert context.design is not None
    changes = context.design.changes
    return desk.write(changes, _module(_arm(changes, desk), context))


def _review(context: Context, desk: Bench) -> ReviewOutput:
    """Compare the candidate, file by file, with what its design comes to; and say what a gain would not show."""
    assert context.design is not None
    changes = context.design.changes
    if not changes or len(_known(changes, desk)) < len(changes):
        note = "The design names no changes of the catalogue, so what the code does was not compared with them."
        return ReviewOutput(findings=(), notes=note)
    try:
        expected = _texts(_write(context, desk), context)
    except (NotApplicable, RecordError) as error:
        return ReviewOutput(findings=(), notes=f"The design's changes are not the catalogue's: {error}")
    found = {path: context.candidate(path) for path in expected}
    if all(text == context.base(path) for path, text in found.items()):
        return ReviewOutput(findings=(), notes="The candidate was withdrawn: its code is the base's.")
    wrong = [path for path, text in expected.items() if found[path] != text]
    findings = [
        Finding(check="scope", severity="blocking", message=f"{path} is not what the design comes to", file=path)
        for path in wrong
    ]
    counted = _parameters(context, desk)
    if counted and counted[1] > MANY * counted[0]:
        message = f"{counted[1]:,} parameters against {counted[0]:,}: capacity alone could explain a gain"
        findings.append(Finding(check="fairness", severity="advisory", message=message))
    note = f"{len(expected)} files compared with the design, byte for byte."
    return ReviewOutput(findings=tuple(findings), notes=note)


def _texts(written: WrittenMethod, context: Context) -> dict[str, str]:
    """Every file that a candidate's code comes to, whole."""
    texts = {file.path: file.content for file in written.files}
    for edit in written.edits:
        old = texts.get(edit.path, context.base(edit.path) or "")
        texts[edit.path] = old.replace(edit.search, edit.replace)
    return texts


def _parameters(context: Context, desk: Bench) -> tuple[int, int] | None:
    assert context.design is not None
    try:
        return desk.parameters(context.design.changes)
    except NotApplicable:
        return None


def _result(status: str, summary: str, output: Output | None) -> str:
    value = {"status": status, "summary": summary, "changed_files": [], "completion_token_seen": False}
    return json.dumps(value | {"output": output.value() if output else None}, ensure_ascii=False)

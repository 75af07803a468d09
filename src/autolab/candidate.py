"""From a claim to a reviewed commit: what is made of the answers before anything is measured."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import JsonValue

from autolab import (
    blueprint,
    calibration,
    check_settings,
    durable,
    edits,
    excerpts,
    experiment,
    fault,
    ideas,
    ladder,
    lessons,
    lookups,
    rig,
    verifiers,
)
from autolab.collection import remove_tree
from autolab.desk import Desk, Result, agent_folder, ask, front_matter, parent_of_candidate, quoted, read
from autolab.errors import RecordError
from autolab.ledger import Line
from autolab.markup import code, inert, plain
from autolab.records.experiment import (
    Compute,
    Design,
    DesignMetrics,
    Entrypoint,
    Finding,
    Hypothesis,
    IterationRecord,
    Lesson,
    MaxPairs,
    ReviewResult,
)
from autolab.records.outcomes import RunKind
from autolab.records.replies import (
    AgentResult,
    DesignOutput,
    HypothesisOutput,
    ImplementationOutput,
    Output,
    ReviewOutput,
)
from autolab.researchers.offline.changes import Unfit
from autolab.stages import Outcome
from autolab.text import many_lines, one_line
from autolab.workspace import Workspaces, unreadable

Kind = TypeVar("Kind", bound=Output)

BUILT_IN = "offline"
"""The researcher that leaves out tired families by itself, and says truly who wrote its code."""


def answered(answer: tuple[AgentResult, Output | None] | str, kind: type[Kind]) -> Kind | Result:
    """The output of a complete answer, or the outcome of one that is not to be read."""
    if isinstance(answer, str):
        return Result(Outcome.RETRY, answer)
    result, output = answer
    if result.status == "failed":
        return Result(Outcome.ESCALATE, f"the researcher gave up: {result.summary}")
    if output is None:
        return Result(Outcome.RETRY, f"the researcher asks to try again: {result.summary}")
    assert isinstance(output, kind)
    return output


def recalled(desk: Desk) -> tuple[Lesson, ...]:
    """What the lab has learned, newest first."""
    return lessons.recall(desk.lab.store, desk.lab.ledger, desk.campaign.learned)


def history(desk: Desk) -> str:
    return lessons.told(recalled(desk))


def in_base(desk: Desk) -> blueprint.Read:
    return lambda path: edits.text_at(desk, desk.campaign.base_commit or "HEAD", path)


# hypothesis


def hypothesis(desk: Desk) -> Result:
    known = recalled(desk)
    waiting = ideas.tired(known, desk.campaign, desk.config)
    values = {
        "history": lessons.told(known),
        "plateau": ideas.plateau(waiting),
        "method": blueprint.told(in_base(desk)),
    }
    output = answered(ask(desk, values), HypothesisOutput)
    if isinstance(output, Result):
        return output
    metric = desk.config.metric
    if output.metric is not None and output.metric != metric.primary and output.direction is None:
        return Result(Outcome.RETRY, f"hypothesis: direction: missing for {output.metric}, which is not the lab's")
    claim = Hypothesis(
        id=desk.campaign.hypothesis_id or "",
        title=output.title,
        metric=output.metric or metric.primary,
        direction=output.direction or metric.direction,
        success_delta=output.success_delta or metric.success_delta,
        success=output.success,
        risk_bounds=output.risk_bounds,
        mechanism=output.mechanism,
        references=output.references,
        parent=None,
        family=output.family,
        changes=output.changes | ({blueprint.MODEL: output.model} if output.model is not None else {}),
    )
    refused = _unwanted(desk, claim, known, waiting)
    if refused:
        return Result(Outcome.RETRY, f"hypothesis: {refused}")
    write_hypothesis(desk, claim, _prose(output))
    desk.tell(f"{claim.id}: {claim.title}")
    return Result(Outcome.COMPLETE)


def _unwanted(desk: Desk, claim: Hypothesis, known: Sequence[Lesson], waiting: Sequence[Lesson]) -> str:
    """Why the claim is not to be tried: it was, its family is tired, or its network cannot be built."""
    base, allowed = desk.campaign.base_commit or "", desk.config.attempts.same_idea
    worn = "" if desk.researcher.name == BUILT_IN else ideas.worn(claim, waiting)
    return (
        ideas.repeated(claim, known, base, allowed)
        or worn
        or blueprint.unfit(in_base(desk), _proposed(claim), claim.id)
    )


def _proposed(claim: Hypothesis) -> dict[str, JsonValue]:
    """A design's `model` as far as the hypothesis says it."""
    return {blueprint.MODEL: claim.changes[blueprint.MODEL]} if blueprint.MODEL in claim.changes else {}


def _prose(output: HypothesisOutput) -> str:
    parts = [inert(output.body.strip() or output.mechanism)]
    if output.assumptions:
        parts += ["## Assumptions", "\n".join(f"- {plain(one)}" for one in output.assumptions)]
    if output.notes.strip():
        parts += ["## Notes", inert(output.notes.strip())]
    return "\n\n".join(parts)


def write_hypothesis(desk: Desk, claim: Hypothesis, body: str) -> None:
    """`body` is Markdown of the engine's."""
    prose = body.strip() or inert(claim.mechanism)
    desk.write(desk.paths.hypothesis, f"---\n{claim.to_yaml()}---\n\n# {plain(claim.title)}\n\n{prose}\n")


def carry_hypothesis(desk: Desk) -> None:
    """A refinement keeps its hypothesis: copy it from the iteration before, with `parent` set.

    The network that the decision to refine named takes the place of the hypothesis's.
    """
    parent = desk.campaign.parent
    if desk.paths.hypothesis.exists() or parent is None:
        return
    source = desk.lab.iteration(parent).hypothesis
    text = read(source, desk.shown(source))
    front = front_matter(text, desk.shown(source))
    claim = Hypothesis.from_text(front, desk.shown(source)).model_copy(update={"parent": parent})
    decided = desk.load(IterationRecord, desk.lab.iteration(parent).record).planning_decision.next_config
    if decided is not None:
        claim = claim.model_copy(update={"changes": claim.changes | {blueprint.MODEL: decided}})
    body = text.removeprefix(f"---\n{front}")
    desk.write(desk.paths.hypothesis, f"---\n{claim.to_yaml()}{body}")


# design


def design(desk: Desk) -> Result:
    carry_hypothesis(desk)
    claim = desk.hypothesis()
    values = {
        "hypothesis_md": quoted(desk, desk.paths.hypothesis),
        "config": desk.config.to_yaml(),
        "history": history(desk),
        "method": blueprint.told(in_base(desk)),
        "files": _files(desk, desk.campaign.base_commit or "HEAD", claim.to_yaml()),
    }
    output = answered(ask(desk, values), DesignOutput)
    if isinstance(output, Result):
        return output
    try:
        spec = _design(desk, claim, output)
        experiment.plan(spec, desk.config, claim, b"", "", "")
    except RecordError as error:
        return Result(Outcome.RETRY, str(error))
    unfit = blueprint.unfit(in_base(desk), spec.model, desk.slug)
    if unfit:
        return Result(Outcome.RETRY, f"design: {unfit}")
    findings = _design_findings(desk, spec, claim)
    told_before = desk.state.stage_attempt > 1
    if findings and told_before and all(finding.check == "budget" for finding in findings):
        return Result(Outcome.STOP, f"budget: {findings[0].message}")  # asked for less, the designer found no less
    if findings:
        return Result(Outcome.RETRY, "; ".join(finding.message for finding in findings))
    desk.write(desk.paths.design, spec.to_yaml())
    arms = ", ".join(arm.name for arm in (*spec.baselines, *spec.variants))
    desk.tell(f"{spec.id}: {arms} over {_seed_count(spec)} seeds")
    return Result(Outcome.COMPLETE)


def _design(desk: Desk, claim: Hypothesis, output: DesignOutput) -> Design:
    test = desk.config.test
    seeds = MaxPairs(max_pairs=test.max_pairs) if output.seeds is None else output.seeds
    model, changes = _model(claim, output)
    value = {
        "id": desk.campaign.experiment_id,
        "iteration_id": desk.iteration_id,
        "hypothesis_id": claim.id,
        "description": output.description,
        "entrypoint": Entrypoint(command=desk.config.train.command).value(),
        "compute": Compute(location="local").value(),
        "reproducibility": {"seeds": seeds.value() if isinstance(seeds, MaxPairs) else seeds},
        "metrics": DesignMetrics(
            primary=claim.metric,
            secondary=output.secondary or desk.config.metric.report,
            success_delta=output.success_delta or claim.success_delta,
            direction=claim.direction,
        ).value(),
        "baselines": [arm.value() for arm in output.baselines],
        "variants": [arm.value() for arm in output.variants],
        "model": model,
        "changes": changes,
        "dataset": output.dataset,
        "train": output.train,
        "criteria": [criterion.value() for criterion in output.criteria],
        "test": test.value() | {"bound": _bound(desk, claim.metric)},
        "base_commit": desk.campaign.base_commit,
    }
    return Design.from_value(value, desk.shown(desk.paths.design))


def _bound(desk: Desk, metric: str) -> float | None:
    """The worst score that counts, fixed here, before the run. Another metric than the lab's has none."""
    config, known = desk.config, calibration.current(desk.lab)
    if metric != config.metric.primary:
        return None
    if config.test.bound is not None or known is None or known.metric != metric:
        return config.test.bound
    return known.bound


def fix_bound(desk: Desk) -> None:
    """Write the bound into a design that was made before the lab was calibrated; nothing once a run has begun."""
    spec = desk.design()
    begun = any(one.event == "run_started" and one.data["kind"] == RunKind.SEARCH for one in desk.events())
    if begun or spec.test is None or spec.test.bound is not None:
        return
    bound = _bound(desk, spec.metrics.primary)
    if bound is not None:
        test = spec.test.model_copy(update={"bound": bound})
        desk.write(desk.paths.design, spec.model_copy(update={"test": test}).to_yaml())


def _model(claim: Hypothesis, output: DesignOutput) -> tuple[dict[str, JsonValue] | None, dict[str, JsonValue]]:
    """The candidate's model, by the hypothesis where the design leaves it out; and the changes that it is known by."""
    model = _proposed(claim) | (output.model or {})
    changes = output.changes or claim.changes
    if blueprint.MODEL in model and not set(changes) - {blueprint.MODEL}:
        changes = {blueprint.MODEL: model[blueprint.MODEL]}
    return model or None, changes


def _design_findings(desk: Desk, spec: Design, claim: Hypothesis) -> list[Finding]:
    base = desk.campaign.base_commit or "HEAD"
    found = verifiers.design_checks(
        spec,
        claim,
        desk.config,
        lambda path: desk.lab.git.has_path(base, path) is not None,
        trials_spent=desk.campaign.trials,
    )
    return [finding for finding in found if finding.severity == "blocking"]


def _seed_count(spec: Design) -> int:
    seeds = spec.reproducibility.seeds
    return seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)


# implementation


def implementation(desk: Desk) -> Result:
    base, spec = desk.campaign.base_commit or "", desk.design()
    desk.lab.git.add_worktree(desk.worktree, f"exp/{desk.slug}", base)
    fault.point("worktree.after_add")
    parent = parent_of_candidate(desk)
    values = {
        "hypothesis_md": quoted(desk, desk.paths.hypothesis),
        "design_yaml": spec.to_yaml(),
        "review_feedback": _feedback(desk),
        "verifier_errors": desk.state.reason,
        "files": _files(desk, parent, f"{desk.hypothesis().to_yaml()}\n{spec.to_yaml()}\n{desk.state.reason}"),
    }
    output = answered(ask(desk, values, desk.worktree), ImplementationOutput)
    if isinstance(output, Result):
        return output
    if desk.researcher.name != BUILT_IN:
        output = output.model_copy(update={"via": None})  # not on its own word
    carried = _carried(desk, parent)
    if isinstance(carried, str):
        return Result(Outcome.RETRY, carried)
    if _leaves_it(desk, output, parent) and (assembled := _assembled(desk, spec)) is not None:
        plan = f"{output.plan.strip()}\n\n{assembled.plan}"
        return _made(desk, assembled.model_copy(update={"plan": plan}), base, spec)
    judged = _made(desk, output, parent, spec, carried)
    again = _assembled(desk, spec) if judged.outcome is Outcome.RETRY and desk.state.stage_attempt > 1 else None
    if again is None or output.via is not None:
        return judged
    desk.tell(f"  the researcher's own code failed again ({judged.reason}); the assembler writes the model")
    return _made(desk, again, base, spec)


def _carried(desk: Desk, parent: str) -> list[Finding] | str:
    """Bring into the worktree what a coding agent changed in its folder; what was left behind, or why all was."""
    if not desk.researcher.works_in_folder:
        return []
    place = agent_folder(desk)
    if not place.is_dir():
        return f"{desk.shown(place)}: not found; what the agent changed there was taken away"
    problem = unreadable(place)
    if problem:
        return problem
    base = desk.campaign.base_commit or ""
    return Workspaces(desk.lab.root).carry(place, desk.worktree, parent, base, desk.config)


def _files(desk: Desk, commit: str, wanted: str) -> str:
    """The lab's source as `commit` has it, for a prompt; `wanted` names the files that matter most."""
    hidden = rig.hidden_from_trials(desk.config)
    name = f"code-{desk.lab.git.tree(commit)}-{durable.sha256(chr(10).join(hidden))[:8]}"
    folder = desk.lab.store / "exports" / name  # what the trials' code is exported to as well
    desk.lab.git.export(commit, folder, None, hidden)
    return excerpts.told(folder, desk.config, wanted, unlocked=edits.unlocked(desk))


def _leaves_it(desk: Desk, output: ImplementationOutput, parent: str) -> bool:
    """Whether an answer changes nothing, so that the candidate would be the base: the assembler is to write it."""
    git, base = desk.lab.git, desk.campaign.base_commit or ""
    if output.files or output.edits or output.delete or git.tree(parent) != git.tree(base):
        return False
    return not desk.researcher.works_in_folder or git.worktree_equals(desk.worktree, base)


def _assembled(desk: Desk, spec: Design) -> ImplementationOutput | None:
    """The design's model as code by the assembler, with all else as in the base; None where it cannot be."""
    base, read = desk.campaign.base_commit or "", in_base(desk)
    try:
        made = blueprint.written(read, spec.model, desk.slug)
    except (RecordError, Unfit) as error:
        desk.tell(f"  no assembled code in place of the researcher's: {error}")
        return None
    changed = desk.lab.git.changed_paths(base, desk.candidate() or base)
    return blueprint.alone(made, changed, read) if made is not None else None


def _made(desk: Desk, output: ImplementationOutput, parent: str, spec: Design, left: Sequence[Finding] = ()) -> Result:
    """Write an answer's changes, commit them, record them as the candidate, and have it judged.

    `left` is what an agent left in its folder and no commit may hold.
    """
    problem = edits.apply(desk, output, parent)
    if problem:
        return Result(Outcome.RETRY, problem)
    fault.point("worktree.after_edit")
    git, base = desk.lab.git, desk.campaign.base_commit or ""
    title = desk.hypothesis().title
    commit = git.commit_worktree(desk.worktree, f"exp({desk.slug}): {one_line(title, 300)}", f"exp/{desk.slug}").sha
    fault.point("candidate.after_commit")
    git.pin(f"refs/autolab/keep/{desk.iteration_id}/{commit[:12]}", commit)
    fault.point("candidate.after_pin")
    if desk.candidate() != commit:
        said = {"commit": commit, "base": base, "slug": desk.slug, "via": output.via or desk.researcher.name}
        desk.lab.ledger.append("candidate", said)
    desk.write(desk.paths.plan, f"# Plan of {desk.slug}\n\n{inert(output.plan.strip())}\n\nCommit {commit}\n")
    return _judged(desk, commit, spec, left)


def _feedback(desk: Desk) -> str:
    path = desk.paths.review
    return quoted(desk, path) if path.exists() and desk.state.bounces else ""


def _judged(desk: Desk, commit: str, spec: Design, left: Sequence[Finding]) -> Result:
    """Path policy and the verifier ladder on a read-only export of the commit; recorded as `checked`."""
    lab, base = desk.lab, desk.campaign.base_commit or ""

    def kept(path: str) -> bool:
        return (lab.git.read(commit, path) or b"").endswith(lab.git.read(base, path) or b"")

    changes = lab.git.diff(base, commit)
    there = lab.git.files(base)
    policy = verifiers.path_policy(changes, desk.config, unlocked=edits.unlocked(desk), kept=kept, existing=there)
    settings = check_settings.findings(
        changes,
        desk.policy,
        desk.config,
        base=lambda path: lab.git.read(base, path),
        new=lambda path: lab.git.read(commit, path),
    )
    findings = [*left, *policy, *settings]
    refused = any(finding.severity == "blocking" for finding in findings)
    checks: dict[str, Literal["pass", "skip", "fail"]] = {"paths": "fail" if refused else "pass"}
    if not refused and desk.config.evaluate is not None:
        copied = _copied_labels(desk, commit, {change.path for change in changes if change.status != "D"})
        checks["labels"] = "fail" if copied else "pass"
        findings, refused = [*findings, *copied], bool(copied)
    if not refused:
        tests_changed = any(check_settings.is_test(change.path) for change in changes)
        climbed = _climb(desk, commit, spec, tests_changed)
        checks |= climbed.checks
        findings += climbed.findings
        if climbed.summary is not None:
            desk.write(desk.paths.summary_json, climbed.summary.to_json())
    said = {"commit": commit, "checks": checks, "findings": [finding.value() for finding in findings]}
    desk.lab.ledger.append("checked", said)
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    if blocking:
        return Result(Outcome.RETRY, "; ".join(f"{finding.check}: {finding.message}" for finding in blocking))
    passed = ", ".join(f"{name} {value}" for name, value in checks.items() if value != "skip")
    desk.tell(f"{desk.slug} at {commit[:12]}: {passed}")
    return Result(Outcome.COMPLETE)


def _copied_labels(desk: Desk, commit: str, changed: Collection[str]) -> list[Finding]:
    """Findings on files of the candidate that hold labels of the evaluation or the holdout."""
    lab, base = desk.lab, desk.campaign.base_commit or ""
    ground = rig.set_up(lab, desk.config, base, commit)
    splits = [lookups.Split("the evaluation", ground.labels, ground.inputs)]
    if ground.holdout is not None:
        splits.append(lookups.Split("the holdout", ground.holdout[1], ground.holdout[0]))
    known = lookups.Lookups(splits, sorted(ground.data.rglob("*.npy")) if ground.data is not None else ())
    git = Workspaces(lab.root)
    files, before = (git.contents(one, changed, lookups.SEARCHED) for one in (commit, base))
    return known.findings(files, before)


def _climb(desk: Desk, commit: str, spec: Design, tests_changed: bool) -> ladder.Ladder:
    lab, base = desk.lab, desk.campaign.base_commit or ""
    ground = rig.set_up(lab, desk.config, base, commit)
    copied = rig.copied_labels(desk.config, ground)
    if copied:
        told = "equals {}, which no candidate may hold: take the file out"
        findings = tuple(verifiers.blocking("labels", f"{c.path}: {told.format(c.equals)}", c.path) for c in copied)
        return ladder.Ladder({"labels": "fail"}, findings, None)
    plan = experiment.plan(spec, desk.config, desk.hypothesis(), lab.secret, "", "")
    variant = plan.variants[0]
    checks = lab.store / "asks" / desk.iteration_id / "checks"
    with_base_tests = None
    if tests_changed:
        with_base_tests = checks / f"{commit[:12]}.base_tests"
        remove_tree(with_base_tests)
        check_settings.with_base_tests(ground.code["candidate"], ground.code["base"], with_base_tests)
    climbed = ladder.climb(
        desk.policy,
        ladder.Ground(
            folder=ground.code["candidate"],
            python=ground.python,
            iteration_id=desk.iteration_id,
            scratch=checks / commit[:12],
            logs=lab.logs(desk.iteration_id) / "checks",
            config=rig.settings_file(ground, variant),
            data=ground.data,
            experiment=desk.paths.folder,
            imports=ground.imports.get("candidate"),
            with_base_tests=with_base_tests,
            box=rig.checks_box(ground, desk.config),
        ),
    )
    if with_base_tests is not None:
        remove_tree(with_base_tests)
    return climbed


# implementation review


def implementation_review(desk: Desk) -> Result:
    commit = desk.candidate() or ""
    judged = checked(desk, commit)
    base = desk.campaign.base_commit or ""
    values = {
        "hypothesis_md": quoted(desk, desk.paths.hypothesis),
        "design_yaml": desk.design().to_yaml(),
        "diff_summary": desk.lab.git.diff_text(base, commit, 20_000),
        "verifier_outputs": json.dumps(judged, indent=1),
        "dry_run_output": _log_tail(desk.lab.logs(desk.iteration_id) / "checks" / "dry_run.log"),
        "evidence": _evidence(desk),
    }
    answer = ask(desk, values)
    if isinstance(answer, str):
        return Result(Outcome.RETRY, answer)
    result, output = answer
    assert output is None or isinstance(output, ReviewOutput)
    findings = list(output.findings) if output else []
    notes = output.notes if output else result.summary
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    review = ReviewResult(
        status="failed" if result.status == "failed" else "needs_retry" if blocking or output is None else "pass",
        blocking_findings=tuple(blocking),
        required_checks=judged["checks"],
        reviewed_at=durable.utc_now(),
        commit=commit,
        reviewer=desk.reviewer.name,
    )
    desk.write(desk.paths.review, _review_text(desk, review, findings, notes))
    desk.write(desk.paths.review_result, review.to_json())
    said = {"commit": commit, "status": review.status, "sha256": durable.sha256(review.to_json())}
    desk.lab.ledger.append("reviewed", said)
    desk.tell(f"review of {commit[:12]}: {review.status}" + (f", {blocking[0].message}" if blocking else ""))
    reason = "; ".join(finding.message for finding in blocking) or notes
    if review.status == "failed":
        return Result(Outcome.ESCALATE, f"the reviewer sees no way: {reason}")
    return Result(Outcome.COMPLETE) if review.status == "pass" else Result(Outcome.SEND_BACK, f"review: {reason}")


def _evidence(desk: Desk) -> str:
    """What was measured before the review, none of it by the author: the lab's calibration, the candidate's summary."""
    found, about = calibration.current(desk.lab), desk.paths.summary_json
    said = "The lab is not calibrated yet.\n"
    if found is not None:
        said = f"calibration, made of the base's own trials:\n{found.to_yaml()}"
    told = quoted(desk, about) if about.exists() else "none\n"
    return f"{said}\nsummary.json, which the candidate says of its model:\n{told}"


def checked(desk: Desk, commit: str) -> dict[str, dict[str, Literal["pass", "skip", "fail"]]]:
    """What the verifiers said of this very commit."""
    found = [line.data for line in desk.events() if line.event == "checked" and line.data["commit"] == commit]
    return found[-1] if found else {"checks": {}}


def _review_text(desk: Desk, review: ReviewResult, findings: Sequence[Finding], notes: str) -> str:
    checks = "\n".join(f"| {name} | {value} |" for name, value in review.required_checks.items())
    found = "\n".join(map(_finding_line, findings))
    return (
        f"# Review of {desk.slug}\n\nCommit {review.commit}, reviewed by {review.reviewer}: **{review.status}**\n\n"
        f"| check | result |\n| --- | --- |\n{checks}\n\n## Findings\n\n{found or 'None.'}\n"
        + (f"\n## Notes\n\n{inert(notes.strip())}\n" if notes.strip() else "")
    )


def _finding_line(found: Finding) -> str:
    file = f" ({code(found.file)})" if found.file else ""
    return f"- **{found.severity}** {plain(found.check)}{file}: {plain(found.message)}"


def _log_tail(path: Path) -> str:
    return many_lines(path.read_bytes())[-4_000:] if path.exists() else "not run"


def recorded_review(path: Path, shown: str, events: Iterable[Line]) -> ReviewResult:
    """A review of the iteration as it was recorded; RecordError where it is missing, malformed or was changed since."""
    review = ReviewResult.load(path, shown)
    said = [line.data["sha256"] for line in events if line.event in ("reviewed", "approved")]
    if durable.file_sha256(path) not in said:
        raise RecordError(f"{shown}: changed since the review was recorded; it has to be made again")
    return review


def gate(desk: Desk) -> str:
    """Why launch is forbidden, or nothing: a pass, on this commit, with the worktree equal to it."""
    path = desk.paths.review_result
    commit = desk.candidate()
    try:
        review = recorded_review(path, desk.shown(path), desk.events())
    except RecordError as error:
        return str(error)
    if review.status != "pass":
        return f"review_result.json: status is {review.status}, launch needs pass"
    if review.commit is None or review.commit != commit:
        return f"review_result.json: commit is {review.commit}, the candidate is {commit}"
    failed = [name for name, value in review.required_checks.items() if value == "fail"]
    if failed:
        return f"review_result.json: required checks failed: {', '.join(failed)}"
    desk.lab.git.add_worktree(desk.worktree, f"exp/{desk.slug}", commit)
    if not desk.lab.git.worktree_equals(desk.worktree, commit):
        return f"{desk.shown(desk.worktree)}: changed since commit {commit[:12]} was reviewed"
    return ""

"""From a claim to a reviewed commit: what is made of the answers before anything is measured."""

from __future__ import annotations

import json
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, TypeVar

from autolab import durable, experiment, fault, ladder, rig, verifiers
from autolab.desk import Desk, Result, ask, front_matter, read
from autolab.errors import RecordError
from autolab.git import Change
from autolab.ledger import Line
from autolab.records.experiment import (
    Compute,
    Design,
    DesignMetrics,
    Entrypoint,
    Finding,
    Hypothesis,
    MaxPairs,
    ReviewResult,
)
from autolab.records.method import Method
from autolab.records.replies import (
    AgentResult,
    DesignOutput,
    HypothesisOutput,
    ImplementationOutput,
    NewFile,
    Output,
    ReviewOutput,
)
from autolab.researchers.offline.bench import METHOD, method_files
from autolab.researchers.offline.changes import Unfit
from autolab.stages import Outcome
from autolab.verifiers import LONGEST_NAME, LONGEST_PATH

Kind = TypeVar("Kind", bound=Output)

HISTORY = 6_000
"""Characters of the journal (newest first) that a prompt quotes, however long the journal is."""


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


def history(desk: Desk) -> str:
    journal = desk.lab.root / "RESEARCH_JOURNAL.md"
    return journal.read_text(encoding="utf-8", errors="replace")[:HISTORY] if journal.exists() else ""


# hypothesis


def hypothesis(desk: Desk) -> Result:
    output = answered(ask(desk, {"history": history(desk)}), HypothesisOutput)
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
        changes=output.changes,
    )
    write_hypothesis(desk, claim, output.body)
    desk.tell(f"{claim.id}: {claim.title}")
    return Result(Outcome.COMPLETE)


def write_hypothesis(desk: Desk, claim: Hypothesis, body: str) -> None:
    prose = body.strip() or claim.mechanism
    desk.write(desk.paths.hypothesis, f"---\n{claim.to_yaml()}---\n\n# {claim.title}\n\n{prose}\n")


def carry_hypothesis(desk: Desk) -> None:
    """A refinement keeps its hypothesis: copy it from the iteration before, with `parent` set."""
    parent = desk.campaign.parent
    if desk.paths.hypothesis.exists() or parent is None:
        return
    source = desk.lab.iteration(parent).hypothesis
    text = read(source, desk.shown(source))
    front = front_matter(text, desk.shown(source))
    claim = Hypothesis.from_text(front, desk.shown(source)).model_copy(update={"parent": parent})
    body = text.removeprefix(f"---\n{front}")
    desk.write(desk.paths.hypothesis, f"---\n{claim.to_yaml()}{body}")


# design


def design(desk: Desk) -> Result:
    carry_hypothesis(desk)
    claim = desk.hypothesis()
    values = {
        "hypothesis_md": desk.paths.hypothesis.read_text(encoding="utf-8"),
        "config": desk.config.to_yaml(),
        "history": history(desk),
    }
    output = answered(ask(desk, values), DesignOutput)
    if isinstance(output, Result):
        return output
    try:
        spec = _design(desk, claim, output)
        experiment.plan(spec, desk.config, claim, b"", "", "")
    except RecordError as error:
        return Result(Outcome.RETRY, str(error))
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
        "model": output.model,
        "changes": output.changes,
        "dataset": output.dataset,
        "train": output.train,
        "criteria": [criterion.value() for criterion in output.criteria],
        "test": test.value(),
        "base_commit": desk.campaign.base_commit,
    }
    return Design.from_value(value, desk.shown(desk.paths.design))


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
    values = {
        "hypothesis_md": desk.paths.hypothesis.read_text(encoding="utf-8"),
        "design_yaml": spec.to_yaml(),
        "review_feedback": _feedback(desk),
        "verifier_errors": desk.state.reason,
    }
    output = answered(ask(desk, values, desk.worktree), ImplementationOutput)
    if isinstance(output, Result):
        return output
    parent = desk.candidate(before=desk.acted) or base
    judged = _made(desk, output, parent, spec)
    assembled = _assembled(desk, spec) if judged.outcome is Outcome.RETRY and desk.state.stage_attempt > 1 else None
    if assembled is None or output.via is not None:
        return judged
    desk.tell(f"  the researcher's own code failed again ({judged.reason}); the assembler writes the model")
    return _made(desk, assembled, base, spec)


def _assembled(desk: Desk, spec: Design) -> ImplementationOutput | None:
    """The design's `model_config` as code by the assembler, with all else as in the base; None where it cannot be.

    The lab has to say in method.json what its own model and recipe are.
    """
    base_commit = desk.campaign.base_commit or ""

    def read(path: str) -> str | None:
        return _text(desk, base_commit, path)

    model, text = spec.model or {}, read(METHOD)
    if "model_config" not in model or text is None:
        return None
    try:
        base = Method.from_text(text, METHOD)
        given = {"model": model["model_config"], "recipe": model.get("recipe", base.recipe.value())}
        made = Method.from_value(base.value() | given, f"design.yaml: model: {METHOD}")
        files = method_files(base, made, read)
    except (RecordError, Unfit) as error:
        desk.tell(f"  no assembled code in place of the researcher's: {error}")
        return None
    changed = [change.path for change in desk.lab.git.diff(base_commit, desk.candidate() or base_commit)]
    mine = {file.path for file in files.files} | {edit.path for edit in files.edits}
    others = {path: read(path) for path in changed if path not in mine}
    back = tuple(NewFile(path=path, content=old) for path, old in others.items() if old is not None)
    gone = tuple(path for path, old in others.items() if old is None)
    plan = "\n".join(f"- {line}" for line in files.told)
    return ImplementationOutput(plan=plan, files=files.files + back, edits=files.edits, delete=gone, via="assembler")


def _made(desk: Desk, output: ImplementationOutput, parent: str, spec: Design) -> Result:
    """Write an answer's changes, commit them, record them as the candidate, and have it judged."""
    problem = apply(desk, output, parent)
    if problem:
        return Result(Outcome.RETRY, problem)
    fault.point("worktree.after_edit")
    git, base = desk.lab.git, desk.campaign.base_commit or ""
    title = desk.hypothesis().title
    commit = git.commit_worktree(desk.worktree, f"exp({desk.slug}): {title}", f"exp/{desk.slug}").sha
    fault.point("candidate.after_commit")
    git.pin(f"refs/autolab/keep/{desk.iteration_id}/{commit[:12]}", commit)
    fault.point("candidate.after_pin")
    if desk.candidate() != commit:
        said = {"commit": commit, "base": base, "slug": desk.slug, "via": output.via or desk.researcher.name}
        desk.lab.ledger.append("candidate", said)
    desk.write(desk.paths.plan, f"# Plan of {desk.slug}\n\n{output.plan.strip()}\n\nCommit {commit}\n")
    return _judged(desk, commit, spec)


def apply(desk: Desk, output: ImplementationOutput, parent: str) -> str:
    """Write an answer's changes into the worktree, all or none; the reason where none were.

    Contents are computed from `parent`, not from what lies in the folder, so that applying twice is the
    same as once.
    """
    contents: dict[str, str | None] = {}
    for file in output.files:
        contents[file.path] = file.content
    for edit in output.edits:
        old = contents[edit.path] if edit.path in contents else _text(desk, parent, edit.path)
        if old is None:
            return f"edit of {edit.path}: no such file in {parent[:12]}"
        if old.count(edit.search) != 1 or not edit.search:
            return f"edit of {edit.path}: the text to replace stands there {old.count(edit.search)} times, not once"
        contents[edit.path] = old.replace(edit.search, edit.replace)
    contents |= dict.fromkeys(output.delete)
    for path in contents:
        problem = _misplaced(desk.worktree, path, contents)
        if problem:
            return problem
    problem = _refused(desk, contents)
    if problem:
        return problem
    for path, text in contents.items():
        place = desk.worktree / path
        if text is None:
            place.unlink(missing_ok=True)
        else:
            durable.write(place, text, mode=stat.S_IMODE(place.stat().st_mode) if place.exists() else None)
    return ""


def _misplaced(worktree: Path, path: str, contents: Collection[str]) -> str:
    """Why no file can be written at a path: it leaves the worktree, or what stands there is no folder or no file."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or str(pure) != path:
        return f"{path!r}: not a plain path below the worktree"
    if len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_NAME for part in pure.parts):
        return f"{path[:80]!r}...: too long for a file's name"
    place = worktree
    for part in pure.parts[:-1]:
        place = place / part
        if place.is_symlink():
            return f"{path}: {part} is a symbolic link, which is not written through"
        if str(place.relative_to(worktree)) in contents or (place.exists() and not place.is_dir()):
            return f"{path}: {part} is a file, so that nothing can lie below it"
    place = worktree / path
    return f"{path}: is a folder, not a file" if place.is_dir() and not place.is_symlink() else ""


def _refused(desk: Desk, contents: Mapping[str, str | None]) -> str:
    """Why an answer's changes may not be written: the first path that is not the researcher's."""
    there = set(desk.lab.git.files(desk.campaign.base_commit or "HEAD"))
    changes = [
        Change("D" if text is None else "M" if path in there else "A", path, "100644", "100644", "", "")
        for path, text in contents.items()
    ]
    found = verifiers.path_policy(changes, desk.config, unlocked=_unlocked(desk), existing=there)
    return next((finding.message for finding in found if finding.severity == "blocking"), "")


def _unlocked(desk: Desk) -> bool:
    """META_MODE, read from the person's journal in the checkout."""
    for name in desk.config.files.human:
        path = desk.lab.root / name
        if path.exists() and verifiers.meta_mode(path.read_text(encoding="utf-8", errors="replace")):
            return True
    return False


def _text(desk: Desk, commit: str, path: str) -> str | None:
    content = desk.lab.git.read(commit, path) if desk.lab.git.has_path(commit, path) else None
    return None if content is None else content.decode("utf-8", errors="replace")


def _feedback(desk: Desk) -> str:
    path = desk.paths.review
    return path.read_text(encoding="utf-8") if path.exists() and desk.state.bounces else ""


def _judged(desk: Desk, commit: str, spec: Design) -> Result:
    """Path policy and the verifier ladder on a read-only export of the commit; recorded as `checked`."""
    lab, base = desk.lab, desk.campaign.base_commit or ""

    def kept(path: str) -> bool:
        return (lab.git.read(commit, path) or b"").endswith(lab.git.read(base, path) or b"")

    changes = lab.git.diff(base, commit)
    there = lab.git.files(base)
    findings = verifiers.path_policy(changes, desk.config, unlocked=_unlocked(desk), kept=kept, existing=there)
    refused = any(finding.severity == "blocking" for finding in findings)
    checks: dict[str, Literal["pass", "skip", "fail"]] = {"paths": "fail" if refused else "pass"}
    if not refused:
        climbed = _climb(desk, commit, spec)
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


def _climb(desk: Desk, commit: str, spec: Design) -> ladder.Ladder:
    lab, base = desk.lab, desk.campaign.base_commit or ""
    ground = rig.set_up(lab, desk.config, base, commit)
    plan = experiment.plan(spec, desk.config, desk.hypothesis(), lab.secret, "", "")
    variant = plan.variants[0]
    return ladder.climb(
        desk.policy,
        ladder.Ground(
            folder=ground.code["candidate"],
            python=ground.python,
            iteration_id=desk.iteration_id,
            scratch=lab.store / "asks" / desk.iteration_id / "checks" / commit[:12],
            logs=lab.logs(desk.iteration_id) / "checks",
            config=rig.settings_file(ground, variant),
            data=ground.data,
            experiment=desk.paths.folder,
            box=rig.checks_box(ground, desk.config),
        ),
    )


# implementation review


def implementation_review(desk: Desk) -> Result:
    commit = desk.candidate() or ""
    judged = checked(desk, commit)
    base = desk.campaign.base_commit or ""
    values = {
        "design_yaml": desk.design().to_yaml(),
        "diff_summary": desk.lab.git.diff_text(base, commit, 20_000),
        "verifier_outputs": json.dumps(judged, indent=1),
        "dry_run_output": _log_tail(desk.lab.logs(desk.iteration_id) / "checks" / "dry_run.log"),
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


def checked(desk: Desk, commit: str) -> dict[str, dict[str, Literal["pass", "skip", "fail"]]]:
    """What the verifiers said of this very commit."""
    found = [line.data for line in desk.events() if line.event == "checked" and line.data["commit"] == commit]
    return found[-1] if found else {"checks": {}}


def _review_text(desk: Desk, review: ReviewResult, findings: Sequence[Finding], notes: str) -> str:
    checks = "\n".join(f"| {name} | {value} |" for name, value in review.required_checks.items())
    found = "\n".join(f"- **{f.severity}** {f.check}{f' ({f.file})' if f.file else ''}: {f.message}" for f in findings)
    return (
        f"# Review of {desk.slug}\n\nCommit {review.commit}, reviewed by {review.reviewer}: **{review.status}**\n\n"
        f"| check | result |\n| --- | --- |\n{checks}\n\n## Findings\n\n{found or 'None.'}\n"
        + (f"\n## Notes\n\n{notes.strip()}\n" if notes.strip() else "")
    )


def _log_tail(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")[-4_000:] if path.exists() else "not run"


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

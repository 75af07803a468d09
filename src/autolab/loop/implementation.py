"""Stage implementation: the answer's code becomes a commit, which path policy and checks judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.schemas.experiment import Design, Finding
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.loop import edits
from autolab.loop.iteration import Iteration, StageResult, in_base, quoted
from autolab.loop.request import agent_folder, answered, ask, parent_of_candidate, source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.loop.workspace import Workspaces, unreadable
from autolab.reports.markup import inert
from autolab.researchers.assembler import blueprint
from autolab.sandbox.collect import remove_tree
from autolab.stats.plan import plan_design
from autolab.text import one_line
from autolab.trials import inputs, job, leak_checks
from autolab.verifiers import check_settings, lookups, paths, programs
from autolab.verifiers.findings import blocking_finding

# implementation


def run(desk: Iteration) -> StageResult:
    base, spec = desk.campaign.base_commit or "", desk.design()
    desk.lab.git.add_worktree(desk.worktree, f"exp/{desk.slug}", base)
    crash_points.point("worktree.after_add")
    parent = parent_of_candidate(desk)
    values = {
        "hypothesis_md": quoted(desk, desk.paths.hypothesis),
        "design_yaml": spec.to_yaml(),
        "review_feedback": _feedback(desk),
        "verifier_errors": desk.state.reason,
        "files": source_for_prompt(
            desk, parent, f"{desk.hypothesis().to_yaml()}\n{spec.to_yaml()}\n{desk.state.reason}"
        ),
    }
    output = answered(ask(desk, values, desk.worktree), ImplementationOutput)
    if isinstance(output, StageResult):
        return output
    if not desk.researcher.names_author:
        output = output.model_copy(update={"via": None})  # not on its own word
    carried = _carried(desk, parent)
    if isinstance(carried, str):
        return StageResult(StageOutcome.RETRY, carried)
    if _leaves_it(desk, output, parent) and (assembled := _assembled(desk, spec)) is not None:
        plan = f"{output.plan.strip()}\n\n{assembled.plan}"
        return _made(desk, assembled.model_copy(update={"plan": plan}), base, spec)
    judged = _made(desk, output, parent, spec, carried)
    again = _assembled(desk, spec) if judged.outcome is StageOutcome.RETRY and desk.state.stage_attempt > 1 else None
    if again is None or output.via is not None:
        return judged
    desk.tell(f"  the researcher's own code failed again ({judged.reason}); the assembler writes the model")
    return _made(desk, again, base, spec)


def _carried(desk: Iteration, parent: str) -> list[Finding] | str:
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


def _leaves_it(desk: Iteration, output: ImplementationOutput, parent: str) -> bool:
    """Whether an answer changes nothing, so that the candidate would be the base: the assembler is to write it."""
    git, base = desk.lab.git, desk.campaign.base_commit or ""
    if output.files or output.edits or output.delete or git.tree(parent) != git.tree(base):
        return False
    return not desk.researcher.works_in_folder or git.worktree_equals(desk.worktree, base)


def _assembled(desk: Iteration, spec: Design) -> ImplementationOutput | None:
    """The design's model as code by the assembler, with all else as in the base; None where it cannot be."""
    base, read = desk.campaign.base_commit or "", in_base(desk)
    try:
        made = blueprint.written(read, spec.model, desk.slug)
    except RecordError as error:
        desk.tell(f"  no assembled code in place of the researcher's: {error}")
        return None
    changed = desk.lab.git.changed_paths(base, desk.candidate() or base)
    return blueprint.alone(made, changed, read) if made is not None else None


def _made(
    desk: Iteration, output: ImplementationOutput, parent: str, spec: Design, left: Sequence[Finding] = ()
) -> StageResult:
    """Write an answer's changes, commit them, record them as the candidate, and have it judged.

    `left` is what an agent left in its folder and no commit may hold.
    """
    problem = edits.apply(desk, output, parent)
    if problem:
        return StageResult(StageOutcome.RETRY, problem)
    crash_points.point("worktree.after_edit")
    git, base = desk.lab.git, desk.campaign.base_commit or ""
    title = desk.hypothesis().title
    commit = git.commit_worktree(desk.worktree, f"exp({desk.slug}): {one_line(title, 300)}", f"exp/{desk.slug}").sha
    crash_points.point("candidate.after_commit")
    git.pin(f"refs/autolab/keep/{desk.iteration_id}/{commit[:12]}", commit)
    crash_points.point("candidate.after_pin")
    if desk.candidate() != commit:
        said = {"commit": commit, "base": base, "slug": desk.slug, "via": output.via or desk.researcher.name}
        desk.lab.ledger.append("candidate", said)
    desk.write(desk.paths.plan, f"# Plan of {desk.slug}\n\n{inert(output.plan.strip())}\n\nCommit {commit}\n")
    return _judged(desk, commit, spec, left)


def _feedback(desk: Iteration) -> str:
    path = desk.paths.review
    return quoted(desk, path) if path.exists() and desk.state.bounces else ""


def _judged(desk: Iteration, commit: str, spec: Design, left: Sequence[Finding]) -> StageResult:
    """Path policy and the verifier ladder on a read-only export of the commit; recorded as `checked`."""
    lab, base = desk.lab, desk.campaign.base_commit or ""

    def kept(path: str) -> bool:
        return (lab.git.read(commit, path) or b"").endswith(lab.git.read(base, path) or b"")

    changes = lab.git.diff(base, commit)
    there = lab.git.files(base)
    policy = paths.path_policy(changes, desk.config, unlocked=edits.unlocked(desk), kept=kept, existing=there)
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
        return StageResult(StageOutcome.RETRY, "; ".join(f"{finding.check}: {finding.message}" for finding in blocking))
    passed = ", ".join(f"{name} {value}" for name, value in checks.items() if value != "skip")
    desk.tell(f"{desk.slug} at {commit[:12]}: {passed}")
    return StageResult(StageOutcome.COMPLETE)


def _copied_labels(desk: Iteration, commit: str, changed: Collection[str]) -> list[Finding]:
    """Findings on files of the candidate that hold labels of the evaluation or the holdout."""
    lab, base = desk.lab, desk.campaign.base_commit or ""
    ground = inputs.set_up(lab, desk.config, base, commit)
    splits = [lookups.Split("the evaluation", ground.labels, ground.inputs)]
    if ground.holdout is not None:
        splits.append(lookups.Split("the holdout", ground.holdout[1], ground.holdout[0]))
    known = lookups.Lookups(splits, sorted(ground.data.rglob("*.npy")) if ground.data is not None else ())
    git = Workspaces(lab.root)
    files, before = (git.contents(one, changed, lookups.SEARCHED) for one in (commit, base))
    return known.findings(files, before)


def _climb(desk: Iteration, commit: str, spec: Design, tests_changed: bool) -> programs.CheckResults:
    lab, base = desk.lab, desk.campaign.base_commit or ""
    ground = inputs.set_up(lab, desk.config, base, commit)
    copied = leak_checks.copied_labels(desk.config, ground)
    if copied:
        told = "equals {}, which no candidate may hold: take the file out"
        findings = tuple(blocking_finding("labels", f"{c.path}: {told.format(c.equals)}", c.path) for c in copied)
        return programs.CheckResults({"labels": "fail"}, findings, None)
    plan = plan_design(spec, desk.config, desk.hypothesis(), lab.secret, "", "")
    variant = plan.variants[0]
    checks = lab.store / "asks" / desk.iteration_id / "checks"
    with_base_tests = None
    if tests_changed:
        with_base_tests = checks / f"{commit[:12]}.base_tests"
        remove_tree(with_base_tests)
        check_settings.with_base_tests(ground.code["candidate"], ground.code["base"], with_base_tests)
    climbed = programs.run_checks(
        desk.policy,
        programs.CheckInputs(
            folder=ground.code["candidate"],
            python=ground.python,
            iteration_id=desk.iteration_id,
            scratch=checks / commit[:12],
            logs=lab.logs(desk.iteration_id) / "checks",
            config=inputs.settings_file(ground, variant),
            data=ground.data,
            experiment=desk.paths.folder,
            imports=ground.imports.get("candidate"),
            with_base_tests=with_base_tests,
            box=job.checks_box(ground, desk.config),
        ),
    )
    if with_base_tests is not None:
        remove_tree(with_base_tests)
    return climbed

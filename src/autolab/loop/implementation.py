"""Stage implementation: the answer's code becomes a commit, which path policy and checks judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.git import Change
from autolab.lab.schemas.experiment import Design, Finding
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.loop import edits
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.opening import brought_commit
from autolab.loop.request import Requests, output_of, source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.loop.workspace import Workspaces, unreadable
from autolab.reports.markup import inert
from autolab.researchers.assembler import blueprint
from autolab.sandbox.collect import remove_tree
from autolab.stats.plan import plan_design
from autolab.text import one_line
from autolab.trials import job, leak_checks
from autolab.trials.lab_inputs import inputs_of
from autolab.trials.progress import View
from autolab.verifiers import check_settings, lookups, paths, programs
from autolab.verifiers.findings import blocking_finding

# implementation


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    base, spec = iteration.base_commit, iteration.design()
    brought = brought_commit(iteration)
    iteration.lab.git.add_worktree(iteration.worktree, f"exp/{iteration.slug}", brought or base)
    crash_points.point("worktree.after_add")
    if brought is not None:
        return _judged(iteration, view, brought, ())
    parent = iteration.parent_commit
    review = iteration.paths.review
    wanted = f"{iteration.hypothesis().to_yaml()}\n{spec.to_yaml()}\n{iteration.state.reason}"
    values = {
        "hypothesis_md": iteration.quote(iteration.paths.hypothesis),
        "design_yaml": spec.to_yaml(),
        "review_feedback": iteration.quote(review) if review.exists() and iteration.state.bounces else "",
        "verifier_errors": iteration.state.reason,
        "files": source_for_prompt(iteration.lab, iteration.config, parent, wanted),
    }
    reply = requests.send(iteration, RequestKind.IMPLEMENTATION, values, iteration.worktree)
    output = output_of(reply, ImplementationOutput)
    if isinstance(output, StageResult):
        return output
    assert not isinstance(reply, str)
    author = requests.researcher
    by_assembler = output.via is not None and author.names_author  # no other one is believed who wrote the code
    output = output.model_copy(update={"via": output.via if by_assembler else author.name})
    left_behind = _carried(iteration, reply.agent_folder, parent)
    if isinstance(left_behind, str):
        return StageResult(StageOutcome.RETRY, left_behind)
    if _leaves_base(iteration, output, parent, in_folder=reply.agent_folder is not None):
        assembled = _assembled(iteration, spec, view)
        if assembled is not None:
            plan = f"{output.plan.strip()}\n\n{assembled.plan}"
            return _made(iteration, view, assembled.model_copy(update={"plan": plan}), base)
    judged = _made(iteration, view, output, parent, left_behind)
    if judged.outcome is not StageOutcome.RETRY or iteration.state.stage_attempt <= 1:
        return judged
    assembled = _assembled(iteration, spec, view)
    if assembled is None or by_assembler:
        return judged
    view(f"  the researcher's own code failed again ({judged.reason}); the assembler writes the model")
    return _made(iteration, view, assembled, base)


def _carried(iteration: Iteration, agent_folder: Path | None, parent: str) -> list[Finding] | str:
    """Bring into the worktree what a coding agent changed in its folder; what was left behind, or why all was."""
    if agent_folder is None:
        return []
    if not agent_folder.is_dir():
        return f"{iteration.relative(agent_folder)}: not found; what the agent changed there was taken away"
    problem = unreadable(agent_folder)
    if problem:
        return problem
    workspaces = Workspaces(iteration.lab.root)
    return workspaces.carry(agent_folder, iteration.worktree, parent, iteration.base_commit, iteration.config)


def _leaves_base(iteration: Iteration, output: ImplementationOutput, parent: str, *, in_folder: bool) -> bool:
    """Whether an answer changes nothing, so that the candidate would be the base: the assembler is to write it."""
    git, base = iteration.lab.git, iteration.base_commit
    if output.files or output.edits or output.delete or git.tree(parent) != git.tree(base):
        return False
    return not in_folder or git.worktree_equals(iteration.worktree, base)


def _assembled(iteration: Iteration, spec: Design, view: View) -> ImplementationOutput | None:
    """The design's model as code by the assembler, with all else as in the base; None where it cannot be."""
    base = iteration.base_commit
    try:
        made = blueprint.written(iteration.read_base, spec.model, iteration.slug)
    except RecordError as error:
        view(f"  no assembled code in place of the researcher's: {error}")
        return None
    changed = iteration.lab.git.changed_paths(base, iteration.candidate() or base)
    return blueprint.alone(made, changed, iteration.read_base) if made is not None else None


def _made(
    iteration: Iteration, view: View, output: ImplementationOutput, parent: str, left_behind: Sequence[Finding] = ()
) -> StageResult:
    """Write an answer's changes, commit them, record them as the candidate, and have it judged.

    `left_behind` is what an agent left in its folder and no commit may hold.
    """
    problem = edits.apply(iteration, output, parent)
    if problem:
        return StageResult(StageOutcome.RETRY, problem)
    crash_points.point("worktree.after_edit")
    slug, title = iteration.slug, iteration.hypothesis().title
    message = f"exp({slug}): {one_line(title, 300)}"
    commit = iteration.lab.git.commit_worktree(iteration.worktree, message, f"exp/{slug}").sha
    crash_points.point("candidate.after_commit")
    iteration.record_candidate(commit, output.via or "")
    iteration.write(iteration.paths.plan, f"# Plan of {slug}\n\n{inert(output.plan.strip())}\n\nCommit {commit}\n")
    return _judged(iteration, view, commit, left_behind)


def _judged(iteration: Iteration, view: View, commit: str, left_behind: Sequence[Finding]) -> StageResult:
    """Path policy and the lab's checks on a read-only export of the commit; recorded as `checked`."""
    changes = iteration.lab.git.diff(iteration.base_commit, commit)
    findings = [*left_behind, *_policy_findings(iteration, commit, changes)]
    refused = any(finding.severity == "blocking" for finding in findings)
    checks: dict[str, CheckStatus] = {"paths": "fail" if refused else "pass"}
    if not refused and iteration.config.evaluate is not None:
        copied = _copied_labels(iteration, commit, {change.path for change in changes if change.status != "D"})
        checks["labels"] = "fail" if copied else "pass"
        findings, refused = [*findings, *copied], bool(copied)
    if not refused:
        tests_changed = any(check_settings.is_test(change.path) for change in changes)
        results = _run_checks(iteration, commit, tests_changed)
        checks |= results.checks
        findings += results.findings
        if results.summary is not None:
            iteration.write(iteration.paths.summary_json, results.summary.to_json())
    checked = {"commit": commit, "checks": checks, "findings": [finding.value() for finding in findings]}
    iteration.lab.ledger.append("checked", checked)
    blocking = [finding for finding in findings if finding.severity == "blocking"]
    if blocking:
        return StageResult(StageOutcome.RETRY, "; ".join(f"{finding.check}: {finding.message}" for finding in blocking))
    passed = ", ".join(f"{name} {value}" for name, value in checks.items() if value != "skip")
    view(f"{iteration.slug} at {commit[:12]}: {passed}")
    return StageResult(StageOutcome.COMPLETE)


CheckStatus = Literal["pass", "skip", "fail"]


def _policy_findings(iteration: Iteration, commit: str, changes: Sequence[Change]) -> list[Finding]:
    """Findings on the paths that the candidate changes, and on the settings of the lab's checks among them."""
    lab, config, base = iteration.lab, iteration.config, iteration.base_commit

    def keeps_base(path: str) -> bool:
        return (lab.git.read(commit, path) or b"").endswith(lab.git.read(base, path) or b"")

    unlocked = edits.unlocked(lab.root, config)
    policy = paths.path_policy(changes, config, unlocked=unlocked, kept=keeps_base, existing=lab.git.files(base))
    settings = check_settings.findings(
        changes,
        iteration.policy,
        config,
        base=lambda path: lab.git.read(base, path),
        new=lambda path: lab.git.read(commit, path),
    )
    return [*policy, *settings]


def _copied_labels(iteration: Iteration, commit: str, changed: Collection[str]) -> list[Finding]:
    """Findings on files of the candidate that hold labels of the evaluation or the holdout."""
    lab, config, base = iteration.lab, iteration.config, iteration.base_commit
    inputs = inputs_of(lab, config, base, commit)
    evaluation = inputs.evaluation
    if evaluation is None:
        return []
    splits = [lookups.Split("the evaluation", evaluation.split.labels, evaluation.split.inputs)]
    if evaluation.holdout is not None:
        splits.append(lookups.Split("the holdout", evaluation.holdout.labels, evaluation.holdout.inputs))
    labels = lookups.Lookups(splits, sorted(inputs.data.rglob("*.npy")) if inputs.data is not None else ())
    git = Workspaces(lab.root)
    files, before = (git.contents(one, changed, lookups.SEARCHED) for one in (commit, base))
    return labels.findings(files, before)


def _run_checks(iteration: Iteration, commit: str, tests_changed: bool) -> programs.CheckResults:
    """The lab's checks; with the base's own tests too, if the candidate changed tests."""
    lab, config = iteration.lab, iteration.config
    inputs = inputs_of(lab, config, iteration.base_commit, commit)
    copied = leak_checks.copied_labels(config, inputs)
    if copied:
        message = "equals {}, which no candidate may hold: take the file out"
        findings = tuple(blocking_finding("labels", f"{c.path}: {message.format(c.equals)}", c.path) for c in copied)
        return programs.CheckResults({"labels": "fail"}, findings, None)
    plan = plan_design(iteration.design(), config, iteration.hypothesis(), lab.secret, "", "")
    variant, candidate = plan.variants[0], inputs.code["candidate"]
    checks = lab.store / "requests" / iteration.iteration_id / "checks"
    with_base_tests = None
    if tests_changed:
        with_base_tests = checks / f"{commit[:12]}.base_tests"
        remove_tree(with_base_tests)
        check_settings.with_base_tests(candidate.folder, inputs.code["base"].folder, with_base_tests)
    results = programs.run_checks(
        iteration.policy,
        programs.CheckInputs(
            folder=candidate.folder,
            python=inputs.interpreter.path,
            iteration_id=iteration.iteration_id,
            scratch=checks / commit[:12],
            logs=lab.logs(iteration.iteration_id) / "checks",
            config=inputs.settings_file(variant),
            data=inputs.data,
            experiment=iteration.paths.folder,
            imports=candidate.imports,
            user=inputs.user,
            with_base_tests=with_base_tests,
            box=job.checks_box(inputs, config.train),
        ),
    )
    if with_base_tests is not None:
        remove_tree(with_base_tests)
    return results

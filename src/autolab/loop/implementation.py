"""Stage implementation: the answer's code becomes a commit, which path policy and checks judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.git import Change
from autolab.lab.schemas import events
from autolab.lab.schemas.events import Checked
from autolab.lab.schemas.experiment import Design, Finding
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.loop import edits
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.opening import brought_commit
from autolab.loop.request import Requests, ValidReply, output_of, source_for_prompt
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


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    base, spec = iteration.base_commit, iteration.design()
    brought = brought_commit(iteration)
    iteration.lab.git.add_worktree(iteration.worktree, f"exp/{iteration.slug}", brought or base)
    crash_points.point("worktree.after_add")
    if brought is not None:
        return _judge(iteration, view, brought, ())
    parent = iteration.parent_commit
    values = _prompt_values(iteration, spec, parent)
    reply = requests.send(iteration, RequestKind.IMPLEMENTATION, values, iteration.worktree)
    output = output_of(reply, ImplementationOutput)
    if isinstance(output, StageResult):
        return output
    assert isinstance(reply, ValidReply)
    # Only a researcher that is known to name the author is believed about who wrote the code.
    by_assembler = output.via is not None and requests.researcher.names_author
    if not by_assembler:
        output = output.model_copy(update={"via": requests.researcher.name})
    left_behind = _carry(iteration, reply.agent_folder, parent)
    if isinstance(left_behind, str):
        return StageResult(StageOutcome.RETRY, left_behind)
    if _leaves_base(iteration, output, parent, in_folder=reply.agent_folder is not None):
        assembled = _assembled(iteration, spec, view)
        if assembled is not None:
            plan = f"{output.plan.strip()}\n\n{assembled.plan}"
            return _commit(iteration, view, assembled.model_copy(update={"plan": plan}), base)
    result = _commit(iteration, view, output, parent, left_behind)
    if result.outcome is not StageOutcome.RETRY or iteration.state.stage_attempt <= 1 or by_assembler:
        return result
    # A first failure goes back to its author. After a second one the assembler may do better.
    assembled = _assembled(iteration, spec, view)
    if assembled is None:
        return result
    view(f"  the researcher's own code failed again ({result.reason}); the assembler writes the model")
    return _commit(iteration, view, assembled, base)


def _prompt_values(iteration: Iteration, spec: Design, parent: str) -> dict[str, str]:
    review, reason = iteration.paths.review, iteration.state.reason
    wanted = f"{iteration.hypothesis().to_yaml()}\n{spec.to_yaml()}\n{reason}"
    feedback = ""
    if iteration.state.bounces and review.exists():
        feedback = iteration.quote(review)
    return {
        "hypothesis_md": iteration.quote(iteration.paths.hypothesis),
        "design_yaml": spec.to_yaml(),
        "review_feedback": feedback,
        "verifier_errors": reason,
        "files": source_for_prompt(iteration.lab, iteration.config, parent, wanted),
    }


def _carry(iteration: Iteration, agent_folder: Path | None, parent: str) -> list[Finding] | str:
    """Bring a coding agent's changes into the worktree. Returns findings on what no commit may hold, or one line if
    nothing could be brought."""
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
    """Whether a reply changes nothing, so that the candidate would be the base: then the assembler writes the code."""
    git, base = iteration.lab.git, iteration.base_commit
    if output.files or output.edits or output.delete or git.tree(parent) != git.tree(base):
        return False
    return not in_folder or git.worktree_equals(iteration.worktree, base)


def _assembled(iteration: Iteration, spec: Design, view: View) -> ImplementationOutput | None:
    """The design's model as the assembler writes it, all else as in the base; None if it cannot be assembled."""
    base = iteration.base_commit
    try:
        written = blueprint.implementation(iteration.read_base, spec.model, iteration.slug)
    except RecordError as error:
        view(f"  the assembler cannot write the model in place of the researcher: {error}")
        return None
    if written is None:
        return None
    changed = iteration.lab.git.changed_paths(base, iteration.candidate() or base)
    return blueprint.with_base_files(written, changed, iteration.read_base)


def _commit(
    iteration: Iteration, view: View, output: ImplementationOutput, parent: str, left_behind: Sequence[Finding] = ()
) -> StageResult:
    """Write a reply's changes, commit them as the candidate, and have it judged.

    `left_behind` are findings on what stays in an agent's folder because no commit may hold it.
    """
    problem = edits.apply(iteration, output, parent)
    if problem:
        return StageResult(StageOutcome.RETRY, problem)
    crash_points.point("worktree.after_edit")
    slug, title = iteration.slug, iteration.hypothesis().title
    message = f"exp({slug}): {one_line(title, 300)}"
    commit = iteration.lab.git.commit_worktree(iteration.worktree, message, f"exp/{slug}").sha
    crash_points.point("candidate.after_commit")
    # Recorded before it is judged, so that an engine that dies in the checks finds it again.
    iteration.record_candidate(commit, output.via or "")
    iteration.write(iteration.paths.plan, f"# Plan of {slug}\n\n{inert(output.plan.strip())}\n\nCommit {commit}\n")
    return _judge(iteration, view, commit, left_behind)


def _judge(iteration: Iteration, view: View, commit: str, left_behind: Sequence[Finding]) -> StageResult:
    """Run path policy and the lab's checks on the commit, and record what they found as `checked`."""
    changes = iteration.lab.git.diff(iteration.base_commit, commit)
    findings = [*left_behind, *_policy_findings(iteration, commit, changes)]
    checks: dict[str, programs.Check] = {"paths": "fail" if _blocking(findings) else "pass"}
    if not _blocking(findings) and iteration.config.evaluate is not None:
        copies = _copied_labels(iteration, commit, {change.path for change in changes if change.status != "D"})
        checks["labels"] = "fail" if copies else "pass"
        findings += copies
    # Only code that keeps the rules is run.
    if not _blocking(findings):
        tests_changed = any(check_settings.is_test(change.path) for change in changes)
        results = _run_checks(iteration, commit, tests_changed)
        checks |= results.checks
        findings += results.findings
        if results.summary is not None:
            iteration.write(iteration.paths.summary_json, results.summary.to_json())
    checked = Checked(commit=commit, checks=checks, findings=tuple(findings))
    events.append(iteration.lab.ledger, checked)
    blocking = _blocking(findings)
    if blocking:
        return StageResult(StageOutcome.RETRY, "; ".join(f"{finding.check}: {finding.message}" for finding in blocking))
    statuses = ", ".join(f"{name} {status}" for name, status in checks.items() if status != "skip")
    view(f"{iteration.slug} at {commit[:12]}: {statuses}")
    return StageResult(StageOutcome.COMPLETE)


def _blocking(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "blocking"]


def _policy_findings(iteration: Iteration, commit: str, changes: Sequence[Change]) -> list[Finding]:
    """Findings on the paths that the candidate changes, and on settings of the lab's checks among them."""
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
    """Findings on changed files of the candidate that hold labels of the evaluation or the holdout."""
    lab, config, base = iteration.lab, iteration.config, iteration.base_commit
    inputs = inputs_of(lab, config, base, commit)
    evaluation = inputs.evaluation
    if evaluation is None:
        return []
    splits = [lookups.Split("the evaluation", evaluation.split.labels, evaluation.split.inputs)]
    if evaluation.holdout is not None:
        splits.append(lookups.Split("the holdout", evaluation.holdout.labels, evaluation.holdout.inputs))
    training_data = sorted(inputs.data.rglob("*.npy")) if inputs.data is not None else []
    labels = lookups.Lookups(splits, training_data)
    git = Workspaces(lab.root)
    files = git.contents(commit, changed, lookups.SEARCHED)
    files_before = git.contents(base, changed, lookups.SEARCHED)
    return labels.findings(files, files_before)


def _run_checks(iteration: Iteration, commit: str, tests_changed: bool) -> programs.CheckResults:
    """The lab's checks on a read-only export of the commit. If `tests_changed`, the base's own tests run too."""
    lab, config = iteration.lab, iteration.config
    inputs = inputs_of(lab, config, iteration.base_commit, commit)
    copies = leak_checks.copied_labels(config, inputs)
    if copies:
        findings = []
        for copy in copies:
            message = f"{copy.path}: equals {copy.equals}, which no candidate may hold: take the file out"
            findings.append(blocking_finding("labels", message, copy.path))
        return programs.CheckResults({"labels": "fail"}, tuple(findings), None)
    plan = plan_design(iteration.design(), config, iteration.hypothesis(), lab.secret, "", "")
    candidate = inputs.code["candidate"]
    checks = lab.store / "requests" / iteration.iteration_id / "checks"
    with_base_tests = None
    # A candidate could weaken the tests that judge it.
    if tests_changed:
        with_base_tests = checks / f"{commit[:12]}.base_tests"
        remove_tree(with_base_tests)
        check_settings.with_base_tests(candidate.folder, inputs.code["base"].folder, with_base_tests)
    check_inputs = programs.CheckInputs(
        folder=candidate.folder,
        python=inputs.interpreter.path,
        iteration_id=iteration.iteration_id,
        scratch=checks / commit[:12],
        logs=lab.logs(iteration.iteration_id) / "checks",
        config=inputs.settings_file(plan.variants[0]),
        data=inputs.data,
        experiment=iteration.paths.folder,
        imports=candidate.imports,
        user=inputs.user,
        with_base_tests=with_base_tests,
        box=job.checks_box(inputs, config.train),
    )
    results = programs.run_checks(iteration.policy, check_inputs)
    if with_base_tests is not None:
        remove_tree(with_base_tests)
    return results

"""Stage implementation: the answer's code becomes a commit, which path policy and checks judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from autolab.errors import RecordError
from autolab.lab import crash_points
from autolab.lab.git import Change
from autolab.lab.lab import Lab
from autolab.lab.schemas import events
from autolab.lab.schemas.config import Config
from autolab.lab.schemas.events import Checked
from autolab.lab.schemas.experiment import Design, Finding
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.replies import MANY, ImplementationOutput
from autolab.lab.trial_python import trial_python
from autolab.loop import edits, refused_answer
from autolab.loop.iteration import Iteration, StageResult
from autolab.loop.opening import brought_commit
from autolab.loop.request import Requests, ValidReply, output_of
from autolab.loop.stage_prompt import source_for_prompt
from autolab.loop.stages import StageOutcome
from autolab.loop.workspace import Workspaces, unreadable
from autolab.reports.markup import inert
from autolab.researchers.assembler import blueprint
from autolab.sandbox.collect import remove_tree
from autolab.stats.plan import plan_design
from autolab.text import one_line
from autolab.trials import interpreter, job, leak_checks
from autolab.trials.inputs import TrialInputs
from autolab.trials.lab_inputs import inputs_of
from autolab.trials.progress import View
from autolab.verifiers import check_settings, lookups, paths, programs, syntax
from autolab.verifiers.findings import advisory_finding, blocking_finding

NOTHING_CHANGED = (
    "nothing is changed, and no setting of the design differs between its arms: the candidate would be the base; make"
    " the change that the design describes"
)


def run(iteration: Iteration, requests: Requests, view: View) -> StageResult:
    base, spec = iteration.base_commit, iteration.design()
    commit = brought_commit(iteration)
    iteration.lab.git.add_worktree(iteration.worktree, f"exp/{iteration.slug}", commit or base)
    crash_points.point("worktree.after_add")
    if commit is not None:
        return _judge(iteration, view, commit, ())
    parent, researcher = iteration.parent_commit, requests.researcher

    def objection(output: ImplementationOutput) -> str:
        return _objection(iteration, output, parent)

    output, agent_folder = _code_of_idea(iteration), None
    if output is not None:
        problem = objection(output)
        if problem:
            return StageResult(StageOutcome.RETRY, f"the code that came with the idea: {problem}")
    else:
        values = prompt_values(iteration)
        reply = requests.send(iteration, RequestKind.IMPLEMENTATION, values, iteration.worktree, objection)
        answer = output_of(reply, ImplementationOutput)
        if isinstance(answer, StageResult):
            return answer
        assert isinstance(reply, ValidReply)
        output, agent_folder = answer, reply.agent_folder
    # Only a researcher that is known to name the author is believed about who wrote the code.
    by_assembler = output.via is not None and researcher.names_author
    if not by_assembler:
        output = output.model_copy(update={"via": researcher.name})
    # Before the commit: the agent's changes become part of the worktree that is committed.
    findings = _carry(iteration, agent_folder, parent)
    if isinstance(findings, str):
        return StageResult(StageOutcome.RETRY, findings)
    if _leaves_base(iteration, output, parent):
        substitute = _assembled(iteration, spec, view)
        if substitute is not None:
            plan = f"{output.plan.strip()}\n\n{substitute.plan}"
            return _commit(iteration, view, substitute.model_copy(update={"plan": plan}), base)
        if not _settings_differ(iteration, spec):
            return StageResult(StageOutcome.RETRY, NOTHING_CHANGED)
    result = _commit(iteration, view, output, parent, findings)
    # A first failure goes back to its author. After a second one the assembler may do better.
    is_first = iteration.state.stage_attempt <= 1
    if result.outcome is not StageOutcome.RETRY or is_first or by_assembler:
        return result
    substitute = _assembled(iteration, spec, view)
    if substitute is None:
        return result
    view(f"  the researcher's own code failed again ({result.reason}); the assembler writes the model")
    return _commit(iteration, view, substitute, base)


def _code_of_idea(iteration: Iteration) -> ImplementationOutput | None:
    """The code that came with an idea of a batch, to be tried first; None if the researcher is asked for it."""
    path = iteration.paths.change
    if iteration.arm is None or iteration.state.stage_attempt > 1 or not path.exists():
        return None
    return iteration.load(ImplementationOutput, path)


def prompt_values(iteration: Iteration) -> dict[str, str]:
    """What the prompt of this stage quotes."""
    state, paths, design = iteration.state, iteration.paths, iteration.design().to_yaml()
    # Files that these texts name are quoted first, among them those that a check complains of.
    topics = f"{iteration.hypothesis().to_yaml()}\n{design}\n{state.reason}"
    source = source_for_prompt(iteration.lab, iteration.config, iteration.parent_commit, topics)
    feedback = ""
    # Without a bounce a review in the folder is of an older candidate, and was answered already.
    if state.bounces and paths.review.exists():
        feedback = iteration.quote(paths.review)
    values = {
        "hypothesis_md": iteration.quote(paths.hypothesis),
        "design_yaml": design,
        "review_feedback": feedback,
        "verifier_errors": state.reason,
        "files": source,
    }
    # The request before this one was for another idea: what was refused came with the idea.
    if iteration.arm is not None and state.stage_attempt == 2 and paths.change.exists():
        values["refused_answer"] = refused_answer.shown(iteration.quote(paths.change))
    return values


def _carry(iteration: Iteration, agent_folder: Path | None, parent: str) -> list[Finding] | str:
    """Bring a coding agent's changes into the worktree.

    Returns findings on what no commit may hold, or one line if nothing could be brought.
    """
    if agent_folder is None:
        return []
    if not agent_folder.is_dir():
        return f"{iteration.relative(agent_folder)}: not found; what the agent changed there was taken away"
    problem = unreadable(agent_folder)
    if problem:
        return problem
    workspaces = Workspaces(iteration.lab.root)
    return workspaces.carry(agent_folder, iteration.worktree, parent, iteration.base_commit, iteration.config)


def _leaves_base(iteration: Iteration, output: ImplementationOutput, parent: str) -> bool:
    """Whether a reply changes nothing, so that the candidate would be the base: then the assembler writes the code."""
    git, base = iteration.lab.git, iteration.base_commit
    if not output.is_empty:
        return False
    if git.tree(parent) != git.tree(base):
        return False
    # What an agent changed lies in the worktree, and so does what it changed in an iteration that is replayed.
    return git.worktree_equals(iteration.worktree, base)


def _settings_differ(iteration: Iteration, spec: Design) -> bool:
    """Whether the design's arms differ by their settings alone, so that the base's code is a candidate."""
    plan = plan_design(spec, iteration.config, iteration.hypothesis(), b"", "", "")
    return any(variant.settings != plan.baseline.settings for variant in plan.variants)


def _objection(iteration: Iteration, output: ImplementationOutput, parent: str) -> str:
    """Why an answer cannot become a candidate, as far as that is seen without a change of the worktree."""
    spec = iteration.design()
    if _leaves_base(iteration, output, parent):
        try:
            substitute = blueprint.implementation(iteration.read_base, spec.model, iteration.slug)
        except RecordError as error:
            return str(error)
        return "" if substitute is not None or _settings_differ(iteration, spec) else NOTHING_CHANGED
    return _unfit(iteration, output, parent)


def _unfit(iteration: Iteration, output: ImplementationOutput, parent: str) -> str:
    """Why an answer's changes are not written: one of them may not be made, or leaves a file that does not compile."""
    contents = edits.new_contents(iteration, output, parent)
    if isinstance(contents, str):
        return contents
    # Only the trials' Python knows what a newer one than ours may take.
    if syntax.is_newer(_python_version(iteration)):
        return ""
    for path, text in contents.items():
        problem = "" if text is None else _new_syntax_error(iteration, path, text.encode())
        if problem:
            return problem
    return ""


def _new_syntax_error(iteration: Iteration, path: str, source: bytes) -> str:
    """The syntax error of a file; empty if it has none, or had one in the base already."""
    problem = syntax.syntax_error(path, source)
    before = iteration.lab.git.read(iteration.base_commit, path) if problem else None
    if before is not None and syntax.syntax_error(path, before):
        return ""
    return problem


def _python_version(iteration: Iteration) -> str:
    python = Path(trial_python(iteration.lab.root, iteration.config))
    return interpreter.packages_hash(python).version


def _assembled(iteration: Iteration, spec: Design, view: View) -> ImplementationOutput | None:
    """The design's model as the assembler writes it, all else as in the base; None if it cannot be assembled."""
    base = iteration.base_commit
    try:
        output = blueprint.implementation(iteration.read_base, spec.model, iteration.slug)
    except RecordError as error:
        view(f"  the assembler cannot write the model in place of the researcher: {error}")
        return None
    if output is None:
        return None
    # Whatever an earlier candidate changed is put back, so that only the assembler's code is tested.
    paths = iteration.lab.git.changed_paths(base, iteration.candidate() or base)
    return blueprint.with_base_files(output, paths, iteration.read_base)


def _commit(
    iteration: Iteration, view: View, output: ImplementationOutput, parent: str, left_behind: Sequence[Finding] = ()
) -> StageResult:
    """Write a reply's changes, commit them as the candidate, and have it judged.

    `left_behind` are findings on what stays in an agent's folder because no commit may hold it.
    """
    problem = _unfit(iteration, output, parent) or edits.apply(iteration, output, parent)
    if problem:
        return StageResult(StageOutcome.RETRY, problem)
    crash_points.point("worktree.after_edit")
    slug, title = iteration.slug, one_line(iteration.tested_hypothesis().title, 300)
    committed = iteration.lab.git.commit_worktree(iteration.worktree, f"exp({slug}): {title}", f"exp/{slug}")
    commit = committed.sha
    crash_points.point("candidate.after_commit")
    # Recorded before it is judged, so that an engine that dies in the checks finds it again.
    iteration.record_candidate(commit, output.via or "")
    plan = inert(output.plan.strip())
    iteration.write(iteration.paths.plan, f"# Plan of {slug}\n\n{plan}\n\nCommit {commit}\n")
    return _judge(iteration, view, commit, left_behind)


def _judge(iteration: Iteration, view: View, commit: str, left_behind: Sequence[Finding]) -> StageResult:
    """Run path policy and the lab's checks on the commit, and record what they found as `checked`."""
    changes = iteration.lab.git.diff(iteration.base_commit, commit)
    findings = [*left_behind, *policy_findings(iteration.lab, iteration.config, iteration.base_commit, commit)]
    blocking = _blocking(findings)
    checks: dict[str, programs.Check] = {"paths": "fail" if blocking else "pass"}
    if not blocking and iteration.config.evaluate is not None:
        names = {change.path for change in changes if change.status != "D"}
        copies = _copied_labels(iteration, commit, names)
        checks["labels"] = "fail" if copies else "pass"
        findings += copies
    # Only code that keeps the rules is run.
    if not _blocking(findings):
        results = _run_checks(iteration, commit, changes)
        checks |= results.checks
        findings += results.findings
        if results.summary is not None:
            iteration.write(iteration.paths.summary_json, results.summary.to_json())
    verdict = Checked(commit=commit, checks=checks, findings=_few(findings))
    events.append(iteration.lab.ledger, verdict)
    problems = [f"{finding.check}: {finding.message}" for finding in _blocking(findings)]
    if problems:
        return StageResult(StageOutcome.RETRY, "; ".join(problems))
    statuses = [f"{name} {status}" for name, status in checks.items() if status != "skip"]
    view(f"{iteration.slug} at {commit[:12]}: {', '.join(statuses)}")
    return StageResult(StageOutcome.COMPLETE)


def _few(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Not more findings than a line of the ledger can hold, blocking ones first, and how many were left out."""
    ordered = sorted(findings, key=lambda finding: finding.severity != "blocking")
    left_out = len(ordered) - MANY
    if left_out <= 0:
        return tuple(findings)
    return (*ordered[:MANY], advisory_finding("findings", f"and {left_out:,} more findings"))


def _blocking(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "blocking"]


def policy_findings(lab: Lab, config: Config, base: str, commit: str) -> list[Finding]:
    """Findings on the paths that a candidate changes, and on settings of the lab's checks among them. Reads only."""
    changes = lab.git.diff(base, commit)

    def read_base(path: str) -> bytes | None:
        return lab.git.read(base, path)

    def read_candidate(path: str) -> bytes | None:
        return lab.git.read(commit, path)

    def keeps_base(path: str) -> bool:
        # Entries are added at the top of a document: what stood there ends the new text.
        old, new = read_base(path) or b"", read_candidate(path) or b""
        return new.endswith(old)

    unlocked, existing = edits.unlocked(lab.root, config), lab.git.files(base)
    policy = paths.path_policy(changes, config, unlocked=unlocked, kept=keeps_base, existing=existing)
    settings = check_settings.findings(changes, lab.policy(), config, base=read_base, new=read_candidate)
    return [*policy, *settings]


def _copied_labels(iteration: Iteration, commit: str, names: Collection[str]) -> list[Finding]:
    """Findings on the files of these names, which the candidate changed, that hold labels of evaluation or holdout."""
    lab, base = iteration.lab, iteration.base_commit
    inputs = inputs_of(lab, iteration.config, base, commit)
    evaluation = inputs.evaluation
    if evaluation is None:
        return []
    split, holdout = evaluation.split, evaluation.holdout
    splits = [lookups.Split("the evaluation", split.labels, split.inputs)]
    if holdout is not None:
        splits.append(lookups.Split("the holdout", holdout.labels, holdout.inputs))
    # Labels that a trial may learn from anyway are no leak.
    training_data: list[Path] = []
    for bound in inputs.bound:
        training_data += [bound.path] if bound.path.is_file() else sorted(bound.path.rglob("*.npy"))
    labels = lookups.Lookups(splits, training_data)
    git = Workspaces(lab.root)
    files = git.contents(commit, names, lookups.SEARCHED)
    files_before = git.contents(base, names, lookups.SEARCHED)
    return labels.findings(files, files_before)


def _run_checks(iteration: Iteration, commit: str, changes: Sequence[Change]) -> programs.CheckResults:
    """The lab's checks on a read-only export of the commit. If it changes tests, the base's own tests run too."""
    lab, config, iteration_id = iteration.lab, iteration.config, iteration.iteration_id
    inputs = inputs_of(lab, config, iteration.base_commit, commit)
    copies = _copies_of_labels(config, inputs)
    if copies:
        return programs.CheckResults({"labels": "fail"}, copies, None)
    plan = plan_design(iteration.design(), config, iteration.hypothesis(), lab.secret, "", "")
    settings = inputs.settings_file(plan.variants[0])
    candidate = inputs.code["candidate"]
    name = commit[:12]
    folder = lab.store / "requests" / iteration_id / "checks"
    with_base_tests = None
    # A candidate could weaken the tests that judge it.
    if any(check_settings.is_test(change.path) for change in changes):
        with_base_tests = folder / f"{name}.base_tests"
        remove_tree(with_base_tests)
        check_settings.with_base_tests(candidate.folder, inputs.code["base"].folder, with_base_tests)
    syntax_errors = {}
    for path in [change.path for change in changes if change.status != "D"]:
        problem = _new_syntax_error(iteration, path, lab.git.read(commit, path) or b"")
        if problem:
            syntax_errors[path] = problem
    check_inputs = programs.CheckInputs(
        folder=candidate.folder,
        python=inputs.interpreter.path,
        iteration_id=iteration_id,
        scratch=folder / name,
        logs=lab.logs(iteration_id) / "checks",
        config=settings,
        data=inputs.data,
        experiment=iteration.paths.folder,
        imports=candidate.imports,
        user=inputs.user,
        commit=commit,
        repository=candidate.repository,
        with_base_tests=with_base_tests,
        environment_works=_environment_works(iteration),
        syntax_errors=syntax_errors,
        newer_python=syntax.is_newer(inputs.interpreter.environment.version),
        box=job.checks_box(inputs, config.train),
    )
    results = programs.run_checks(iteration.policy, check_inputs)
    if with_base_tests is not None:
        remove_tree(with_base_tests)
    return results


def _environment_works(iteration: Iteration) -> bool:
    """Whether the environment passed its check for an idea of this batch: all of them have the same one."""
    if iteration.arm is None:
        return False
    return any(checked.checks.get("env_smoke") == "pass" for checked in iteration.recorded(Checked))


def _copies_of_labels(config: Config, inputs: TrialInputs) -> tuple[Finding, ...]:
    """Findings on files of the candidate that equal the evaluation's labels byte for byte."""
    findings = []
    for copy in leak_checks.copied_labels(config, inputs):
        message = f"{copy.path}: equals {copy.equals}, which no candidate may hold: take the file out"
        findings.append(blocking_finding("labels", message, copy.path))
    return tuple(findings)

"""`autolab verify` checks the lab; `autolab doctor` checks machine and lab, and repairs the lab with `--fix`.

A repair throws nothing away: the file that it replaces is kept as a copy.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from autolab.adoption.own_imports import examine, notes_of
from autolab.adoption.repository import distrust
from autolab.cli import fixes
from autolab.errors import AutolabError, LabError, LedgerError, RecordError
from autolab.files import sha256_of, write_whole
from autolab.lab import pytest_guard
from autolab.lab.git import common_dir, find_root
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger, Rebuilt
from autolab.lab.schemas.campaign import Backlog, State
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.events import Answered, Forked, Init, events_of
from autolab.lab.schemas.experiment import Design, Finding, IterationRecord, Manifest, Results, ReviewResult, RunMetrics
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import Record
from autolab.lab.schemas.replies import ImplementationOutput
from autolab.loop import document, preflight
from autolab.loop.prompt_preview import preview
from autolab.loop.snapshot import LOG
from autolab.reports import progress_figure
from autolab.researchers import prompts
from autolab.researchers.command.agent import CommandResearcher
from autolab.researchers.llm import checkup
from autolab.researchers.researcher_names import load_researcher
from autolab.sandbox import executed_names, probe
from autolab.sandbox.collect import remove_tree
from autolab.text import decode
from autolab.trials import containment, interpreter, stored
from autolab.verifiers.findings import advisory_finding, blocking_finding

CHECKED: dict[str, type[Record]] = {
    "design.yaml": Design,
    "review_result.json": ReviewResult,
    "arms/*/change.json": ImplementationOutput,
    "arms/*/design.yaml": Design,
    "arms/*/review_result.json": ReviewResult,
    "results.yaml": Results,
    "record.json": IterationRecord,
    "runs/*/run_manifest.json": Manifest,
    "runs/*/metrics.json": RunMetrics,
}
EXECUTED_NAMED = 20
"""Files of trials that `verify` names at most."""
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)


class Report:
    """Findings, in the order in which they were made."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def problem(self, check: str, message: str, file: str | None = None) -> None:
        self.findings.append(blocking_finding(check, message, file))

    def note(self, check: str, message: str, file: str | None = None) -> None:
        self.findings.append(advisory_finding(check, message, file))

    @contextlib.contextmanager
    def catch(self, check: str, way_out: str = "") -> Iterator[None]:
        """Report an error of the block as a problem; `way_out` if its message names none."""
        # One broken file must not hide what is wrong with the others.
        try:
            yield
        except AutolabError as error:
            message = str(error)
            if way_out:
                message = f"{message}; {way_out}"
            self.problem(check, message)
        except OSError as error:
            self.problem(check, f"{error.filename or check}: {error.strerror or error}")


def verify_lab(lab: Lab) -> list[Finding]:
    """Problems of the lab's documents, ledger, configuration, prompts and programs, and what a loop would refuse."""
    report = Report()
    for message in fixes.misplaced(lab):
        report.problem("record", message)
    # Three blocks: a broken chain may still hold a state, and say that lines were lost.
    with report.catch("ledger"):
        lab.ledger.open()
        lab.ledger.check()
    with report.catch("ledger"):
        lab.load()
    with report.catch("ledger"):
        loss = fixes.lost_lines(lab)
        if loss:
            report.note("ledger", loss)
    for damage in fixes.damages(lab):
        report.problem("record", f"{damage.message}; {fixes.WAY_OUT}")
    way_out = "`autolab doctor --fix` writes it again"
    with report.catch("state", way_out):
        State.load(lab.state_path, ".autolab/state.json")
    if lab.backlog_path.exists():
        with report.catch("backlog", way_out):
            Backlog.load(lab.backlog_path, ".autolab/backlog.yaml")
    with report.catch("config"):
        lab.config()
    with report.catch("policy"):
        lab.policy()
    for path, kind in _documents(lab):
        with report.catch("schema"):
            kind.load(path, str(path.relative_to(lab.root)))
    with report.catch("manifest"):
        for path, problem in fixes.changed_manifests(lab):
            way_out = "`autolab doctor --fix` brings the recorded one back"
            report.problem("manifest", f"{path.relative_to(lab.root)}: {problem}; {way_out}")
    with report.catch("table"):
        for number in fixes.short_rows(lab):
            place = f"{lab.config().files.table}: line {number}"
            way_out = "`autolab doctor --fix` writes it again from the record"
            cells = len(fixes.table_columns(lab))
            report.problem("table", f"{place}: does not have the {cells} cells of a row; {way_out}")
    with report.catch("trials"):
        for message in stored.StoredTrials(lab.store, lab.ledger).check():
            report.problem("trials", message)
    _verify_programs(lab, report)
    # The rest needs a whole configuration and ledger.
    if not any(finding.check in ("config", "ledger") for finding in report.findings):
        _verify_start(lab, report)
    return report.findings


def _documents(lab: Lab) -> Iterator[tuple[Path, type[Record]]]:
    """The documents of all iterations, with their schemas."""
    for pattern, kind in CHECKED.items():
        for path in sorted((lab.root / "experiments").glob(f"*/{pattern}")):
            yield path, kind


def _verify_programs(lab: Lab, report: Report) -> None:
    """Files that programs run by themselves, and the prompts."""
    for name in pytest_guard.missing(lab.root):
        problem = "missing or changed, so pytest would run what trials and candidates wrote"
        report.problem("pytest", f"{name}: {problem}; `autolab doctor --fix` writes it again", name)
    for name in _executed(lab)[:EXECUTED_NAMED]:
        report.problem("executed", f"{name}: a trial left it, and programs run it by themselves; move it away", name)
    report.findings += prompts.check(lab.control / "prompts")


def _executed(lab: Lab) -> list[str]:
    """Files of trials that programs run by themselves. Older versions of Autolab collected them under their names."""
    paths = []
    for trials in sorted((lab.root / "experiments").glob("*/runs/*/trials")):
        for folder, folders, names in os.walk(trials):
            executed = [name for name in (*folders, *names) if executed_names.runs_by_itself(name)]
            # In place, by which `os.walk` leaves these folders out: one line stands for all below it.
            folders[:] = [name for name in folders if name not in executed]
            parent = os.path.relpath(folder, lab.root)
            paths += [f"{parent}/{name}" for name in executed]
    return paths


def _verify_start(lab: Lab, report: Report) -> None:
    """What `autolab loop` would refuse, and frozen files that differ from the commit that experiments use."""
    messages = {finding.message for finding in report.findings}
    config = preflight.relative(lab, lab.config())
    # Without a note in the store: to verify changes nothing.
    conditions = preflight.Conditions(lab, config, note=False)
    for check, message in preflight.refusals(conditions):
        if message not in messages:
            report.problem(check, message)
    for path in config.files.frozen:
        if lab.git.has_path("HEAD", path) and path in lab.git.dirty([path]):
            report.note("frozen", f"{path}: differs from the commit; experiments use the committed one", path)


def examine_machine(start: Path, fix: bool) -> list[Finding]:
    """Findings about the machine, then about the lab at `start` if there is one; with `fix` it is repaired first."""
    report = Report()
    _examine_machine(report)
    if find_root(start.resolve()) is None:
        report.note("lab", f"{start}: no lab here; `autolab init DIR` makes one")
        return report.findings
    if fix:
        report.findings += _fix(start)
    lab = Lab.find(start)
    if lab.git.distrusted():
        report.note("git", distrust(lab.root))
    problems = verify_lab(lab)
    report.findings += problems
    for iteration_id in _newest_logs(lab):
        if not lab.iteration(iteration_id).folder.exists():
            way_out = "`autolab doctor --fix` brings it back"
            report.note("experiments", f"experiments/{iteration_id}: missing; {way_out}")
    # The packages of an interpreter that was not found cannot be looked at.
    if any(problem.check in ("config", "python", "packages") for problem in problems):
        return report.findings
    _examine_imports(lab, report)
    if not any(problem.check in ("researcher", "agent") for problem in problems):
        _examine_agents(lab, report)
    for name in interpreter.holds_packaged_data(Path(lab.python(lab.config()))):
        problem = f"the trials' Python has the package {name}, which contains public data sets"
        report.note("data", f"{problem}: use a Python without it")
    return report.findings


def _examine_agents(lab: Lab, report: Report) -> None:
    """Where the programs of coding agents are, and which files they are shown. What is missing `verify` has said."""
    config = preflight.relative(lab, lab.config())
    for role, researcher in zip(("researcher", "reviewer"), preflight.load_researchers(config), strict=True):
        if not isinstance(researcher, CommandResearcher) or (role == "reviewer" and config.reviewer is None):
            continue
        report.note("agent", f"{role} {researcher.name}: {researcher.description()}")


def _examine_imports(lab: Lab, report: Report) -> None:
    """Whether a trial would import the candidate's code and no other."""
    config = lab.config()
    # Beside the record: `doctor` without --fix writes nothing into the lab.
    folder = Path(tempfile.mkdtemp(prefix="autolab-doctor-"))
    try:
        with report.catch("imports"):
            base = preflight.Conditions(lab, config, note=False).base()
            own_imports = examine(lab.git, lab.root, base, config, folder)
            for problem in own_imports.problems:
                report.problem("imports", problem)
            for note in notes_of(own_imports, config.train.command):
                report.note("imports", note)
    finally:
        remove_tree(folder)


def _examine_machine(report: Report) -> None:
    if not OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        report.problem("python", f"Python {platform.python_version()}: use Python 3.11 to 3.13")
    if shutil.which("git") is None:
        report.problem("git", "git was not found on PATH; install it")
    # The strictest level that works is the one that a lab gets.
    for level in ("full", "partial"):
        try:
            layers = [*probe.probe(level), *probe.probe_limits(level)]
        except LabError as error:
            report.note("containment", f"{level} is not possible: {error}; {containment.way_to_full()}")
            continue
        _report_layers(report, level, layers)
        return
    way_out = containment.way_to_full()
    report.note("containment", f"programs can only run with all your rights (--containment none); {way_out}")


def _report_layers(report: Report, level: str, layers: list[probe.Layer]) -> None:
    """One line for the layers that hold; a problem for each that a probe got through."""
    names = []
    for layer in layers:
        if layer.holds:
            names.append(layer.name)
        else:
            report.problem("containment", f"{level}: {layer.name}: {layer.message}")
    report.note("containment", f"{level} works; probes were stopped at: {', '.join(names)}")


def check_models(lab: Lab, config: Config) -> list[Finding]:
    """Whether the models of researcher and reviewer answer in the right form, and read the lab's longest prompt."""
    report = Report()
    load = _model_load(lab, config)
    for role, researcher in (("researcher", config.researcher), ("reviewer", config.reviewer)):
        if researcher is None:
            continue
        try:
            _check_model(report, role, researcher, lab.control / "prompts", load)
        except AutolabError as error:
            report.problem("llm", f"{role}: {error}")
    return report.findings


def _model_load(lab: Lab, config: Config) -> checkup.Load:
    """What the lab asks its models: the longest of its prompts, and the requests of an iteration or a batch."""
    longest = ""
    for kind in RequestKind:
        # Before an iteration has come to a stage there is no prompt of it.
        with contextlib.suppress(AutolabError):
            longest = max(longest, preview(lab, config, kind).user, key=len)
    if config.test.mode == "explore":
        arms = config.screen.arms
        # The ideas in one answer, then each one's code and its review.
        return checkup.Load(longest, f"a batch of {arms} ideas", 1 + 2 * arms)
    return checkup.Load(longest, "an iteration", len(RequestKind))


def _check_model(report: Report, role: str, researcher: ResearcherConfig, folder: Path, load: checkup.Load) -> None:
    load_researcher(researcher)
    if researcher.name != "llm":
        report.note("llm", f"{role} {researcher.name}: uses no model service that Autolab calls")
        return
    path = folder / prompts.CONTRACTS["llm"]
    if not path.exists():
        report.problem("llm", f"{path}: missing; copy it from a new lab")
        return
    contract = prompts.contract(decode(path.read_bytes()), RequestKind.DECIDE_REPEAT)
    for check in checkup.look(researcher, contract, load):
        if check.holds:
            report.note("llm", f"{role} {check.finding}")
        else:
            report.problem("llm", f"{role} {check.finding}")


def _fix(start: Path) -> list[Finding]:
    """Repair the ledger first: all other repairs read it. LabError: there is no record to repair."""
    root = find_root(start.resolve())
    assert root is not None
    common = common_dir(root)
    # In a candidate's worktree too: the lab is its main checkout.
    if common.name == ".git":
        root = common.parent
    store = common / "autolab"
    if not store.exists():
        raise LabError(f"{root}: no record to repair; `autolab init` makes a clone a lab")
    lab = Lab(root)
    report = Report()
    # The lock itself may be of the wrong kind.
    for message in fixes.restore_kinds(store, lab.control):
        report.note("fixed", message)
    with lab.own("autolab doctor --fix", take=True):
        _fix_ledger(lab, report)
        # What the ledger makes again comes next, as `take_up` reads these files.
        for message in fixes.fix_contents(lab):
            report.note("fixed", message)
        lab.take_up(fix=True)
        for message in stored.StoredTrials(lab.store, lab.ledger).fix():
            report.note("fixed", message)
        lab.git.repair_worktrees()
        _restore_documents(lab, report)
        for message in fixes.fix_table(lab):
            report.note("fixed", message)
        _, campaign = lab.load()
        document.write_documents(lab, campaign, lambda line: report.note("documents", line))
    return report.findings


def _fix_ledger(lab: Lab, report: Report) -> None:
    # Before the repair, which writes a new head.
    number_of_lines = _number_of_lines(lab.ledger)
    try:
        lab.ledger.open(repair=True)
    except LedgerError as error:
        report.findings += _rebuilt(error, lab.ledger.rebuild(_lab_id(lab.ledger), lab.root))
    if not fixes.has_transition(lab.ledger):
        report.note("fixed", fixes.begin_anew(lab, number_of_lines))


def _rebuilt(error: LedgerError, rebuilt: Rebuilt) -> list[Finding]:
    """What was repaired, and a finding for each line that is not in the new chain."""
    report = Report()
    report.note("fixed", f"{error}; the chain was made anew, the old file is {rebuilt.copy}")
    for line in rebuilt.left_out:
        message = f"{line}: left out of the new chain, kept in {rebuilt.kept}"
        # A result that was lost has to be measured again.
        if line.event == "trial":
            report.problem("ledger", message)
        else:
            report.note("ledger", message)
    return report.findings


def _number_of_lines(ledger: Ledger) -> int:
    """How many lines the ledger had, by its head; 0 if that cannot be read."""
    try:
        return ledger.load_head().n
    except (LedgerError, OSError):
        return 0


def _lab_id(ledger: Ledger) -> str:
    """The lab's id from the head, else from the chain. Without it, trials under way could not be recognised."""
    try:
        return ledger.load_head().lab_id
    except LedgerError:
        pass
    lab_id = None
    if ledger.path.exists():
        # The lines of a damaged ledger need not fit the classes of their events.
        for line in ledger.lines():
            if line.event in (Init.KIND, Forked.KIND):
                lab_id = line.data.get("lab_id")
    if lab_id:
        return str(lab_id)
    # Of the path, so that a second repair gives the same id.
    return sha256_of(str(ledger.path))[:8]


def _restore_documents(lab: Lab, report: Report) -> None:
    """Bring back damaged documents, missing files of iterations, prompts, replies and the figure of progress."""
    newest_logs = _newest_logs(lab)
    for path in _broken_documents(lab):
        message = fixes.restore(lab, path, newest_logs)
        report.note("fixed", f"{path.relative_to(lab.root)}: {message}")
    names = []
    for commit in newest_logs.values():
        names += lab.git.restore_missing(commit, lab.root)
    names += _show_requests(lab)
    config = lab.config()
    if not (lab.root / config.docs.figures / "progress.png").exists():
        names += progress_figure.show_progress(lab, config, lab.load()[1])
    for name in names:
        report.note("fixed", f"{name}: brought back from the record")


def _broken_documents(lab: Lab) -> list[Path]:
    """Documents of iterations that do not fit their schema, or differ from what the ledger recorded."""
    broken = [path for path, _ in fixes.changed_manifests(lab)]
    for path, kind in _documents(lab):
        try:
            kind.load(path)
        except RecordError:
            broken.append(path)
    return list(dict.fromkeys(broken))


def _newest_logs(lab: Lab) -> dict[str, str]:
    """Iteration -> the newest commit of refs/autolab/log that holds its files."""
    newest: dict[str, str] = {}
    if lab.git.resolve(LOG):
        # Newest first, so that the first of an iteration stays.
        for commit, subject in lab.git.log_entries(LOG):
            iteration_id, _, _ = subject.partition(" ")
            newest.setdefault(iteration_id, commit)
    return newest


def _show_requests(lab: Lab) -> list[str]:
    """Copy prompts and replies that are missing in `.autolab` from the store again; their names."""
    sources: dict[Path, Path] = {}
    for answer in events_of(lab.ledger.lines(), Answered):
        reply = lab.store / answer.reply
        # requests/ITERATION/REQUEST/reply.json
        iteration_id, name, _ = reply.parts[-3:]
        logs = lab.logs(iteration_id)
        sources[logs / f"{name}.reply.json"] = reply
        sources[logs / f"{name}.prompt.md"] = reply.with_name("prompt.md")
        # After the last event this is the newest reply.
        sources[lab.control / "agent_result.json"] = reply
    names = []
    for path, source in sources.items():
        if source.exists() and not path.exists():
            write_whole(path, source.read_bytes())
            names.append(str(path.relative_to(lab.root)))
    return names

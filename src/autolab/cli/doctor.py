"""`verify` reads and judges the lab; `doctor` looks at machine and lab, and with `fix` fixes what can be.

Nothing is thrown away by a fix: what it replaces is kept beside it as a copy.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from autolab.cli import fixes
from autolab.errors import AutolabError, LabError, LedgerError, RecordError
from autolab.files import sha256_of, write_whole
from autolab.lab import pytest_guard
from autolab.lab.git import common_dir, find_root
from autolab.lab.lab import Lab
from autolab.lab.ledger import Ledger, Rebuilt
from autolab.lab.schemas.campaign import Backlog, State
from autolab.lab.schemas.config import Config, ResearcherConfig
from autolab.lab.schemas.experiment import Design, Finding, IterationRecord, Manifest, Results, ReviewResult, RunMetrics
from autolab.lab.schemas.outcomes import RequestKind
from autolab.lab.schemas.record import Record
from autolab.loop import document, preflight
from autolab.loop.snapshot import LOG
from autolab.reports import progress_figure
from autolab.reports.results_table import COLUMNS
from autolab.researchers import prompts
from autolab.researchers.llm import checkup
from autolab.researchers.researcher_names import load_researcher
from autolab.sandbox import executed_names, probe
from autolab.text import decode
from autolab.trials import containment, interpreter, stored
from autolab.verifiers import findings

CHECKED: dict[str, type[Record]] = {
    "design.yaml": Design,
    "review_result.json": ReviewResult,
    "results.yaml": Results,
    "record.json": IterationRecord,
    "runs/*/run_manifest.json": Manifest,
    "runs/*/metrics.json": RunMetrics,
}
EXECUTED_NAMED = 20
"""Files of trials that `verify` names at most."""
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)


def verify_lab(lab: Lab) -> list[Finding]:
    """Every document against its form, the chain, the configuration, the prompts, the trials' interpreter and what its
    trials could read of the labels."""
    found = [findings.blocking_finding("record", said) for said in fixes.odd(lab)]
    _try(found, "ledger", lambda: lab.ledger.open() and lab.ledger.check())
    _try(found, "ledger", lab.load)
    _try(found, "ledger", lambda: found.extend(_lost(lab)))
    found += [findings.blocking_finding("record", f"{said}; {fixes.WAY_OUT}") for _, said, _ in fixes.damaged(lab)]
    way = "`autolab doctor --fix` writes it again"
    _try(found, "state", lambda: State.load(lab.state_path, ".autolab/state.json"), way)
    if lab.backlog_path.exists():
        _try(found, "backlog", lambda: Backlog.load(lab.backlog_path, ".autolab/backlog.yaml"), way)
    _try(found, "config", lab.config)
    _try(found, "policy", lab.policy)
    for pattern, kind in CHECKED.items():
        for path in sorted((lab.root / "experiments").glob(f"*/{pattern}")):
            _try(found, "schema", lambda p=path, k=kind: k.load(p, str(p.relative_to(lab.root))))
    _try(found, "manifest", lambda: found.extend(_manifests(lab)))
    _try(found, "table", lambda: found.extend(_table(lab)))
    trials = stored.StoredTrials(lab.store, lab.ledger)
    _try(found, "trials", lambda: found.extend(findings.blocking_finding("trials", said) for said in trials.check()))
    found += [*_pytest_guard(lab), *_executed(lab), *prompts.check(lab.control / "prompts")]
    # What a loop would be refused for hangs on both: they have to be whole before it can be looked for.
    if not any(finding.check in ("config", "ledger") for finding in found):
        found += _refusals(lab, {finding.message for finding in found})
        found += _frozen(lab)
    return found


def _lost(lab: Lab) -> list[Finding]:
    said = fixes.lost_lines(lab)
    return [findings.advisory_finding("ledger", said)] if said else []


def _manifests(lab: Lab) -> list[Finding]:
    way = "`autolab doctor --fix` brings the recorded one back"
    return [
        findings.blocking_finding("manifest", f"{path.relative_to(lab.root)}: {why}; {way}")
        for path, why in fixes.manifests(lab)
    ]


def _table(lab: Lab) -> list[Finding]:
    table, way = lab.config().files.table, "`autolab doctor --fix` writes it again from the iteration's record"
    return [
        findings.blocking_finding("table", f"{table}: line {number}: has not the {len(COLUMNS)} cells of a row; {way}")
        for number in fixes.short_rows(lab)
    ]


def _refusals(lab: Lab, said: set[str]) -> list[Finding]:
    """What `autolab loop` would be refused for, but for what was `said` already."""
    config = preflight.relative(lab, lab.config())
    told = preflight.refusals(preflight.Conditions(lab, config, note=False))
    return [findings.blocking_finding(name, line) for name, line in told if line not in said]


def _pytest_guard(lab: Lab) -> list[Finding]:
    say = "missing or changed, so that pytest would run what trials and candidates wrote"
    way = "any command that works on the lab, such as `autolab doctor --fix`, writes it again"
    return [
        findings.blocking_finding("pytest", f"{path}: {say}; {way}", path) for path in pytest_guard.missing(lab.root)
    ]


def _executed(lab: Lab) -> list[Finding]:
    """Files of trials that programs run by themselves: collected by a version that stored every name as it was."""
    found: list[Finding] = []
    for trials in sorted((lab.root / "experiments").glob("*/runs/*/trials")):
        for folder, folders, files in os.walk(trials):
            at = os.path.relpath(folder, lab.root)
            executed = [name for name in (*folders, *files) if executed_names.runs_by_itself(name)]
            folders[:] = [name for name in folders if name not in executed]
            for name in executed:
                path = f"{at}/{name}"
                message = f"{path}: left by a trial, and programs run it by themselves; move it out of the lab"
                found.append(findings.blocking_finding("executed", message, path))
                if len(found) == EXECUTED_NAMED:
                    return found
    return found


def _broken_documents(lab: Lab) -> list[Path]:
    """Documents of iterations that are not of their form, or not what the ledger recorded."""
    broken = [path for path, _ in fixes.manifests(lab)]
    for pattern, kind in CHECKED.items():
        for path in sorted((lab.root / "experiments").glob(f"*/{pattern}")):
            try:
                kind.load(path)
            except RecordError:
                broken.append(path)
    return list(dict.fromkeys(broken))


def _try(found: list[Finding], check: str, action: object, way: str = "") -> None:
    """Add what `action` raises as a finding, with the way out where its message names none."""
    try:
        action()  # type: ignore[operator]
    except AutolabError as error:
        found.append(findings.blocking_finding(check, f"{error}; {way}" if way else str(error)))
    except OSError as error:
        found.append(findings.blocking_finding(check, f"{error.filename or check}: {error.strerror or error}"))


def _frozen(lab: Lab) -> list[Finding]:
    """Frozen files in the checkout that differ from the lab's branch: experiments use what is committed."""
    committed = [path for path in lab.config().files.frozen if lab.git.has_path("HEAD", path)]
    files = [path for path in committed if path in lab.git.dirty([path])]
    say = "differs from the commit; experiments use the committed one"
    return [findings.advisory_finding("frozen", f"{path}: {say}", path) for path in files]


def examine_machine(start: Path, fix: bool) -> list[Finding]:
    """The machine, then the lab at `start` if there is one; with `fix`, fixed under the lock."""
    found = _machine()
    if find_root(start.resolve()) is None:
        return [*found, findings.advisory_finding("lab", f"{start}: no lab here; `autolab init DIR` makes one")]
    if fix:
        found += _fix(start)
    lab = Lab.find(start)
    judged = verify_lab(lab)
    found += [*judged, *_missing(lab)]
    if any(finding.check in ("config", "python", "packages") for finding in judged):
        return found
    for name in interpreter.holds_packaged_data(Path(lab.python(lab.config()))):
        message = f"the trials' environment has {name}, which carries copies of public data sets: use one without it"
        found.append(findings.advisory_finding("data", message))
    return found


def _machine() -> list[Finding]:
    found = []
    version = sys.version_info[:2]
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        found.append(
            findings.blocking_finding("python", f"Python {platform.python_version()}: 3.11 to 3.13 are supported")
        )
    if shutil.which("git") is None:
        found.append(findings.blocking_finding("git", "git was not found on PATH; install it"))
    return [*found, *_containment()]


def _containment() -> list[Finding]:
    """Each layer of the best level that can be had, by a probe that did harm without it."""
    found, missing = [], []
    for level in ("full", "partial"):
        try:
            layers = [*probe.probe(level), *probe.probe_limits(level)]
        except LabError as error:
            missing.append(f"{level} cannot be had: {error}")
            continue
        found += [
            (findings.advisory_finding if layer.holds else findings.blocking_finding)(
                "containment", f"{level}: {layer.name}: {layer.message}"
            )
            for layer in layers
        ]
        break
    else:
        missing.append("programs can only run with your rights (--containment none)")
    way = f"; {containment.way_to_full()}" if missing else ""
    return [findings.advisory_finding("containment", f"{said}{way}") for said in missing] + found


def check_models(config: Config, folder: Path) -> list[Finding]:
    """Whether the configured researcher and reviewer can think here; `folder` holds the lab's prompts."""
    found: list[Finding] = []
    for role, who in (("researcher", config.researcher), ("reviewer", config.reviewer)):
        if who is not None:
            found += _model_findings(role, who, folder)
    return found


def _model_findings(role: str, who: ResearcherConfig, folder: Path) -> list[Finding]:
    try:
        load_researcher(who)
        if who.name != "llm":
            return [findings.advisory_finding("llm", f"{role} {who.name}: asks no model service of its own")]
        path = folder / prompts.CONTRACTS["llm"]
        if not path.exists():
            return [findings.blocking_finding("llm", f"{path}: missing; copy it from a new lab")]
        contract = prompts.contract(decode(path.read_bytes()), RequestKind.DECIDE_REPEAT)
        looked = list(checkup.look(who, contract))
    except AutolabError as error:
        return [findings.blocking_finding("llm", f"{role}: {error}")]
    return [
        (findings.advisory_finding if one.holds else findings.blocking_finding)("llm", f"{role} {one.finding}")
        for one in looked
    ]


def _fix(start: Path) -> list[Finding]:
    """Fix a broken ledger first (without it there is no lock to hold), then everything that hangs on it."""
    found: list[Finding] = []
    root = find_root(start.resolve())
    assert root is not None
    common = common_dir(root)
    root = common.parent if common.name == ".git" else root
    store = common / "autolab"
    if not store.exists():
        raise LabError(f"{root}: no record to fix; `autolab init` makes a clone a lab")
    lab = Lab(root)
    found += [findings.advisory_finding("fixed", said) for said in fixes.straighten(store, lab.control)]
    with lab.own("autolab doctor --fix", take=True):
        lost = _lines_of(lab.ledger)
        try:
            lab.ledger.open(repair=True)
        except LedgerError as error:
            found += _rebuilt(error, lab.ledger.rebuild(_lab_id(lab.ledger), root))
        if not fixes.has_transition(lab.ledger):
            found.append(findings.advisory_finding("fixed", fixes.begin_anew(lab, lost)))
        found += [findings.advisory_finding("fixed", said) for said in fixes.fix(lab)]
        lab.take_up(fix=True)
        found += [findings.advisory_finding("fixed", said) for said in stored.StoredTrials(lab.store, lab.ledger).fix()]
        lab.git.repair_worktrees()
        newest = _newest_logs(lab)
        for path in _broken_documents(lab):
            said = fixes.restore(lab, lab.git, path, newest)
            found.append(findings.advisory_finding("fixed", f"{path.relative_to(lab.root)}: {said}"))
        for name in (*_restore(lab), *_show_requests(lab), *_progress(lab)):
            found.append(findings.advisory_finding("fixed", f"{name}: brought back from the record"))
        found += [findings.advisory_finding("fixed", said) for said in fixes.fix_table(lab)]
        document.write_documents(
            lab, lab.load()[1], lambda line: found.append(findings.advisory_finding("documents", line))
        )
    return found


def _rebuilt(error: LedgerError, made: Rebuilt) -> list[Finding]:
    """What a chain made anew has cost, a finding for each line that is not in it."""
    found = [findings.advisory_finding("fixed", f"{error}; the chain was made anew, the old file is {made.copy}")]
    for line in made.left_out:
        say = (
            findings.blocking_finding if line.event == "trial" else findings.advisory_finding
        )  # a result has to be measured again
        found.append(say("ledger", f"{line}: left out of the new chain, kept in {made.kept}"))
    return found


def _lines_of(ledger: Ledger) -> int:
    """How many lines the ledger had, by its head; 0 where that is not known."""
    try:
        return ledger.load_head().n
    except (LedgerError, OSError):
        return 0


def _lab_id(ledger: Ledger) -> str:
    """The lab's id, without which trials under way would not be known again: from the head, else from the chain."""
    try:
        return ledger.load_head().lab_id
    except LedgerError:
        lines = ledger.lines() if ledger.path.exists() else iter(())
        said = [line.data.get("lab_id") for line in lines if line.event in ("init", "forked")]
        return str(said[-1]) if said and said[-1] else sha256_of(str(ledger.path))[:8]


def _newest_logs(lab: Lab) -> dict[str, str]:
    """Iteration -> the newest commit of refs/autolab/log that holds its files."""
    newest: dict[str, str] = {}
    if lab.git.resolve(LOG):
        for sha, subject in lab.git.log_entries(LOG):
            newest.setdefault(subject.partition(" ")[0], sha)
    return newest


def _restore(lab: Lab) -> list[str]:
    return [name for sha in _newest_logs(lab).values() for name in lab.git.restore_missing(sha, lab.root)]


def _show_requests(lab: Lab) -> list[str]:
    """Prompts and replies that are missing in `.autolab`, copied from the store again."""
    views: dict[Path, Path] = {}
    for line in lab.ledger.lines():
        if line.event == "answered":
            reply = lab.store / line.data["reply"]
            logs, name = lab.logs(reply.parts[-3]), reply.parts[-2]
            views[logs / f"{name}.reply.json"] = views[lab.control / "agent_result.json"] = reply
            views[logs / f"{name}.prompt.md"] = reply.with_name("prompt.md")
    missing = [view for view, source in views.items() if source.exists() and not view.exists()]
    for view in missing:
        write_whole(view, views[view].read_bytes())
    return [str(view.relative_to(lab.root)) for view in missing]


def _progress(lab: Lab) -> list[str]:
    """The figure of progress, drawn again where it is missing."""
    config = lab.config()
    if (lab.root / config.docs.figures / "progress.png").exists():
        return []
    return progress_figure.show_progress(lab, config, lab.load()[1])


def _missing(lab: Lab) -> list[Finding]:
    gone = [name for name in _newest_logs(lab) if not lab.iteration(name).folder.exists()]
    return [
        findings.advisory_finding("experiments", f"experiments/{name}: missing; `autolab doctor --fix` brings it back")
        for name in gone
    ]

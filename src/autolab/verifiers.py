"""Named checks of what a researcher did: which files it changed, what its answers say, whether results are sane.

Every check gives findings as values and never raises for what a candidate did. Programs are the `ladder`'s.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from autolab.experiment import measured
from autolab.git import Change
from autolab.records.experiment import Design, Finding, Hypothesis, Manifest, MaxPairs, Trial
from autolab.records.lab import Config
from autolab.records.outcomes import Outcome
from autolab.records.replies import DocsOutput


def blocking(check: str, message: str, file: str | None = None) -> Finding:
    return Finding(check=check, severity="blocking", message=message, file=file)


def advisory(check: str, message: str, file: str | None = None) -> Finding:
    return Finding(check=check, severity="advisory", message=message, file=file)


# who may change which file


@dataclass(frozen=True)
class Protected:
    """A path or pattern that a candidate may not change, its class and the way out."""

    pattern: str
    kind: str
    way_out: str


APPEND_ONLY = "*_journal.md"
_PERSON = "put the change back; only the person edits it"
_FROZEN = "put the change back; META_MODE=1 in the newest entry of human_journal.md unlocks it"
_ENGINE = "put the change back; the engine writes it in the lab's own checkout"
_CONTROL = "put the change back; it belongs to the lab, not to a candidate"
_PAPER = "put the change back; give the text in the answer of update_docs"


def protected(config: Config, *, unlocked: bool = False) -> list[Protected]:
    """What a candidate may not change, the strictest class first; `unlocked` opens FROZEN only."""
    files, evaluate = config.files, config.evaluate
    rules = [Protected(path, "control plane", _CONTROL) for path in (".autolab", "experiments", "5_worktrees")]
    rules += [Protected(path, "HUMAN", _PERSON) for path in files.human]
    if evaluate is not None:
        data = (evaluate.eval, evaluate.holdout)
        rules += [Protected(path, "evaluation data", _CONTROL) for path in data if path is not None]
    if not unlocked:
        frozen = (*files.frozen, *((evaluate.script,) if evaluate is not None else ()))
        rules += [Protected(path, "FROZEN", _FROZEN) for path in frozen]
    for path in files.global_:
        rules += [Protected(path, "GLOBAL", _ENGINE), Protected(_closed_parts(path), "GLOBAL", _ENGINE)]
    rules += [Protected(path, "paper target", _PAPER) for path in (*config.docs.paper_targets, config.docs.figures)]
    return rules


def path_policy(
    changes: Iterable[Change],
    config: Config,
    *,
    unlocked: bool = False,
    kept: Callable[[str], bool] | None = None,
) -> list[Finding]:
    """Blocking findings for every changed path that is not the candidate's to change.

    `kept(path)` says whether the old bytes of an APPEND-ONLY file are a suffix of its new ones; without
    it every change of such a file blocks. Names are compared without case and in one Unicode form, since
    `Eval.py` is `eval.py` on some file systems.
    """
    rules = protected(config, unlocked=unlocked)
    frozen = {_fold(path) for path in config.files.frozen} if unlocked else set()
    found = []
    for change in changes:
        problem = _unsafe(change) or _owned(change.path, rules) or _not_appended(change, kept, frozen)
        if problem is not None:
            found.append(blocking("paths", f"{_shown(change.path)}: {problem}", change.path))
    return found


def meta_mode(human_journal: str) -> bool:
    """True if the newest entry (from the first `## ` heading to the next) holds the exact line `META_MODE=1`."""
    inside = False
    for line in human_journal.removeprefix("\ufeff").split("\n"):
        if line.startswith("## "):
            if inside:
                return False
            inside = True
        elif inside and line.removesuffix("\r") == "META_MODE=1":
            return True
    return False


def _unsafe(change: Change) -> str | None:
    parts = change.path.replace("\\", "/").split("/")
    if change.path.startswith(("/", "\\")) or ".." in parts or re.match(r"^[A-Za-z]:", change.path):
        return "path leaves the lab; use a relative path without .."
    if any(_fold(part).startswith(".git") and part != ".gitkeep" for part in parts):
        return f"git's own file; {_CONTROL}"
    if change.new_mode == "120000":
        return "symbolic link; commit the file itself"
    if change.new_mode == "160000":
        return "submodule; commit the files themselves"
    return None


def _owned(path: str, rules: Sequence[Protected]) -> str | None:
    folded = _fold(path)
    for rule in rules:
        pattern = _fold(rule.pattern)
        if _covers(pattern, folded):
            alike = "" if _covers(rule.pattern.strip("/"), path) else f" (the same name as {rule.pattern} without case)"
            return f"{rule.kind}{alike}; {rule.way_out}"
        if pattern.startswith(folded + "/"):
            return f"takes the place of the folder of {rule.pattern} ({rule.kind}); {rule.way_out}"
    return None


def _not_appended(change: Change, kept: Callable[[str], bool] | None, frozen: Collection[str]) -> str | None:
    folded = _fold(change.path)
    if change.status == "A" or folded in frozen or not fnmatchcase(PurePosixPath(folded).name, APPEND_ONLY):
        return None
    if change.status != "D" and kept is not None and kept(change.path):
        return None
    return "APPEND-ONLY; put the old text back and add new entries above it"


def _covers(pattern: str, path: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(path, pattern) or any(fnmatchcase(str(up), pattern) for up in PurePosixPath(path).parents)
    return path == pattern or path.startswith(pattern + "/")


def _closed_parts(path: str) -> str:
    """The pattern of a journal's closed parts: `FINDINGS.md` -> `FINDINGS.[0-9]*.md`."""
    pure = PurePosixPath(path)
    return str(pure.with_name(f"{pure.stem}.[0-9]*{pure.suffix}"))


def _fold(path: str) -> str:
    folded = unicodedata.normalize("NFKC", str(PurePosixPath(path.strip("/")))).casefold()
    return unicodedata.normalize("NFKC", folded)


def _shown(path: str) -> str:
    return path if path.isprintable() else ascii(path)


# what an answer says


def design_checks(
    design: Design,
    hypothesis: Hypothesis,
    config: Config,
    exists: Callable[[str], bool],
    trials_spent: int = 0,
) -> list[Finding]:
    """Findings on `design.yaml`. `exists(path)` asks the base commit."""
    found = []
    for role, arms in (("baseline", design.baselines), ("variant", design.variants)):
        if not arms:
            found.append(blocking("design", f"{role}s: none; name at least one {role}", "design.yaml"))
    files = _entry_files(design)
    if files and not any(exists(path) for path in files):
        found.append(blocking("design", f"entrypoint: {' or '.join(files)} is not in the base commit", "design.yaml"))
    return found + _metric_findings(design, hypothesis, config) + _trial_budget(design, config, trials_spent)


def _entry_files(design: Design) -> tuple[str, ...]:
    """The files of which one must exist; empty where the command names no file of the lab."""
    entry = design.entrypoint
    if entry.module is not None:
        return _module_files(entry.module)
    try:
        words = shlex.split(entry.command or "")
    except ValueError:
        return (entry.command or "",)
    if "-m" in words[1:-1]:
        return _module_files(words[words.index("-m", 1) + 1])
    scripts = [word for word in words[1:] if word.endswith((".py", ".sh"))]
    if words and words[0].startswith("./"):
        scripts.insert(0, words[0])
    return (scripts[0].removeprefix("./"),) if scripts else ()


def _module_files(module: str) -> tuple[str, ...]:
    path = module.replace(".", "/")
    return (f"{path}.py", f"{path}/__init__.py", f"{path}/__main__.py")


def _metric_findings(design: Design, hypothesis: Hypothesis, config: Config) -> list[Finding]:
    known = {config.metric.primary, *config.metric.report}
    names = ", ".join(sorted(known))
    report = blocking if config.evaluate is not None else advisory
    found = []
    if hypothesis.metric != design.metrics.primary:
        message = f"metrics.primary: {design.metrics.primary} is not the hypothesis's metric, {hypothesis.metric}"
        found.append(blocking("design", message, "design.yaml"))
    for field, metric in [("metrics.primary", design.metrics.primary)] + [
        (f"criteria.{index}.metric", criterion.metric) for index, criterion in enumerate(design.criteria)
    ]:
        if metric not in known:
            found.append(report("design", f"{field}: {metric} is not measured here; known: {names}", "design.yaml"))
    for metric in design.metrics.secondary:
        if metric not in known:
            message = f"metrics.secondary: {metric} is not among those that config.yaml names ({names})"
            found.append(advisory("design", message, "design.yaml"))
    return found


def _trial_budget(design: Design, config: Config, spent: int) -> list[Finding]:
    if config.budget.trials is None:
        return []
    seeds, rule = design.reproducibility.seeds, design.test or config.test
    pairs = seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)
    needed = pairs * (len(design.baselines) + len(design.variants))
    left = config.budget.trials - spent
    if needed <= left:
        return []
    message = f"reproducibility.seeds: up to {needed} trials, and {left} are left of budget.trials in config.yaml"
    may_stop_early = isinstance(seeds, MaxPairs) and rule.rule != "fixed"
    return [(advisory if may_stop_early and left > 0 else blocking)("budget", message, "design.yaml")]


_SHARES = {"accuracy", "acc", "f1", "precision", "recall", "auc", "auroc", "iou", "top1", "top5"}
_POSITIVE = {"loss", "nll", "mse", "rmse", "mae", "perplexity", "bpb"}


def results_sanity(manifest: Manifest, design: Design) -> list[Finding]:
    """Findings on a run's trials: baseline and seeds present, paired and different; values in their natural range."""
    arms = {arm.name: _prefix(manifest.trials, arm.name) for arm in (*design.baselines, *design.variants)}
    found = [
        blocking("results", f"baseline {arm.name}: no completed trial, so nothing is compared")
        for arm in design.baselines
        if not arms[arm.name]
    ]
    found += [finding for name, trials in arms.items() for finding in _seed_findings(name, trials, manifest, design)]
    by_index: dict[int, set[int]] = {}
    for trial in (trial for trials in arms.values() for trial in trials):
        by_index.setdefault(trial.index, set()).add(trial.seed)
    for index in sorted(index for index, seeds in by_index.items() if len(seeds) > 1):
        found.append(blocking("results", f"pair {index}: the arms ran with different seeds, so they are not paired"))
    return found + [finding for trials in arms.values() for finding in _range_findings(trials, manifest, design)]


def _prefix(trials: Iterable[Trial], arm: str) -> list[Trial]:
    """The arm's longest unbroken row of completed trials, from index 0."""
    done = {trial.index: trial for trial in trials if trial.arm == arm and trial.outcome is Outcome.COMPLETED}
    length = next(index for index in range(len(done) + 1) if index not in done)
    return [done[index] for index in range(length)]


def _seed_findings(name: str, trials: Sequence[Trial], manifest: Manifest, design: Design) -> list[Finding]:
    declared, seeds = design.reproducibility.seeds, [trial.seed for trial in trials]
    found = []
    if isinstance(declared, tuple) and manifest.status == "completed" and seeds != list(declared):
        missing = [str(seed) for seed in declared if seed not in seeds]
        what = f"declared seeds without a completed trial: {', '.join(missing)}" if missing else "seeds out of order"
        found.append(blocking("results", f"arm {name}: {what}"))
    if len(set(seeds)) != len(seeds):
        found.append(blocking("results", f"arm {name}: a seed is counted twice"))
    if len(trials) < 2:
        return found
    hashes = {trial.predictions_sha256 for trial in trials}
    scores = {tuple(sorted(measured(trial, manifest.self_reported).items())) for trial in trials}
    if len(hashes) == 1 and None not in hashes:
        message = (
            f"arm {name}: deterministic: {len(trials)} seeds gave the same predictions, so seeds replicate nothing"
        )
        found.append(advisory("results", message))
    elif len(scores) == 1:
        message = f"arm {name}: {len(trials)} seeds gave the same scores to the last digit; is the seed used?"
        found.append(advisory("results", message))
    return found


def _range_findings(trials: Sequence[Trial], manifest: Manifest, design: Design) -> list[Finding]:
    primary, found = design.metrics.primary, []
    for trial in trials:
        values = measured(trial, manifest.self_reported)
        if primary not in values:
            found.append(blocking("results", f"trial {trial.trial}: completed without the primary metric {primary}"))
        for metric, value in sorted(values.items()):
            words = set(metric.lower().split("_"))
            if words & _SHARES and not 0 <= value <= 1:
                found.append(advisory("results", f"trial {trial.trial}: {metric} = {value:g} lies outside 0 to 1"))
            elif words & _POSITIVE and value < 0:
                found.append(advisory("results", f"trial {trial.trial}: {metric} = {value:g} is below 0"))
    return found


def docs_answer(docs: DocsOutput, targets: Collection[str]) -> list[Finding]:
    """Findings on an answer of update_docs, before anything is written: targets known, text or a rationale there."""
    found = [
        blocking(
            "docs", f"{_shown(update.path)}: not a paper target; known: {', '.join(targets) or 'none'}", update.path
        )
        for update in docs.paper
        if update.path not in targets
    ]
    found += [
        blocking("docs", f"{update.path}: the text is empty", update.path)
        for update in docs.paper
        if not update.text.strip()
    ]
    if targets and not docs.paper and not (docs.no_changes or "").strip():
        found.append(blocking("docs", "update a paper target or give no_changes, the reason why none needs a change"))
    return found

"""Whether a design can be run as it stands: entry files, metric, budget of trials."""

from __future__ import annotations

from collections.abc import Callable

from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Design, Finding, Hypothesis, MaxPairs
from autolab.lab.trial_python import command_words
from autolab.stats.rules import FIRST
from autolab.verifiers.findings import advisory_finding, blocking_finding

FILE = "design.yaml"


def design_checks(
    design: Design,
    hypothesis: Hypothesis,
    config: Config,
    exists: Callable[[str], bool],
    trials_spent: int = 0,
) -> list[Finding]:
    """Findings on `design.yaml`. `exists(path)` asks the base commit."""
    findings = []
    for role, arms in (("baseline", design.baselines), ("variant", design.variants)):
        if not arms:
            findings.append(blocking_finding("design", f"{role}s: none; name at least one {role}", FILE))
    files = _entry_files(design)
    if files and not any(exists(path) for path in files):
        message = f"entrypoint: {' or '.join(files)} is not in the base commit"
        findings.append(blocking_finding("design", message, FILE))
    return findings + _metric_findings(design, hypothesis, config) + _trial_budget(design, config, trials_spent)


def _entry_files(design: Design) -> tuple[str, ...]:
    """The files of which one must exist; empty if the command names no file of the lab."""
    entry = design.entrypoint
    if entry.module is not None:
        return _module_files(entry.module)
    command = entry.command or ""
    try:
        words = command_words(command)
    except ValueError:
        return (command,)
    if "-m" in words[1:-1]:
        return _module_files(words[words.index("-m", 1) + 1])
    if words and words[0].startswith("./"):
        return (words[0].removeprefix("./"),)
    for word in words[1:]:
        if word.endswith((".py", ".sh")):
            return (word.removeprefix("./"),)
    return ()


def _module_files(module: str) -> tuple[str, ...]:
    path = module.replace(".", "/")
    return (f"{path}.py", f"{path}/__init__.py", f"{path}/__main__.py")


def _metric_findings(design: Design, hypothesis: Hypothesis, config: Config) -> list[Finding]:
    measured = {config.metric.primary, *config.metric.report}
    names = ", ".join(sorted(measured))
    # Without an evaluator a training may report metrics that the configuration does not name.
    report = blocking_finding if config.evaluate is not None else advisory_finding
    findings = []
    if hypothesis.metric != design.metrics.primary:
        message = f"metrics.primary: {design.metrics.primary} is not the hypothesis's metric, {hypothesis.metric}"
        findings.append(blocking_finding("design", message, FILE))
    fields = {"metrics.primary": design.metrics.primary}
    for index, criterion in enumerate(design.criteria):
        fields[f"criteria.{index}.metric"] = criterion.metric
    for field, metric in fields.items():
        if metric not in measured:
            findings.append(report("design", f"{field}: {metric} is not measured here; known: {names}", FILE))
    for metric in design.metrics.secondary:
        if metric not in measured:
            message = f"metrics.secondary: {metric} is not among those that config.yaml names ({names})"
            findings.append(advisory_finding("design", message, FILE))
    return findings


def _trial_budget(design: Design, config: Config, spent: int) -> list[Finding]:
    """A finding if the budget may not last: advisory if the rule may decide before the budget is spent."""
    if config.budget.trials is None:
        return []
    seeds, rule = design.reproducibility.seeds, design.test or config.test
    pairs = seeds.max_pairs if isinstance(seeds, MaxPairs) else len(seeds)
    arms = len(design.baselines) + len(design.variants)
    needed, left = pairs * arms, config.budget.trials - spent
    if needed <= left:
        return []
    message = f"reproducibility.seeds: up to {needed} trials, and {left} are left of budget.trials in config.yaml"
    may_stop_early = isinstance(seeds, MaxPairs) and rule.rule != "fixed" and FIRST * arms <= left
    report = advisory_finding if may_stop_early else blocking_finding
    return [report("budget", message, FILE)]

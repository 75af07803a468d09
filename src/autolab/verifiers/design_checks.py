"""Whether a design can be run as it stands: entry files, metric, budget of trials."""

from __future__ import annotations

from collections.abc import Callable

from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Design, Finding, Hypothesis, MaxPairs
from autolab.lab.trial_python import command_words
from autolab.stats.rules import FIRST
from autolab.verifiers.findings import advisory_finding, blocking_finding

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
            found.append(blocking_finding("design", f"{role}s: none; name at least one {role}", "design.yaml"))
    files = _entry_files(design)
    if files and not any(exists(path) for path in files):
        found.append(
            blocking_finding("design", f"entrypoint: {' or '.join(files)} is not in the base commit", "design.yaml")
        )
    return found + _metric_findings(design, hypothesis, config) + _trial_budget(design, config, trials_spent)


def _entry_files(design: Design) -> tuple[str, ...]:
    """The files of which one must exist; empty where the command names no file of the lab."""
    entry = design.entrypoint
    if entry.module is not None:
        return _module_files(entry.module)
    try:
        words = command_words(entry.command or "")
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
    report = blocking_finding if config.evaluate is not None else advisory_finding
    found = []
    if hypothesis.metric != design.metrics.primary:
        message = f"metrics.primary: {design.metrics.primary} is not the hypothesis's metric, {hypothesis.metric}"
        found.append(blocking_finding("design", message, "design.yaml"))
    for field, metric in [("metrics.primary", design.metrics.primary)] + [
        (f"criteria.{index}.metric", criterion.metric) for index, criterion in enumerate(design.criteria)
    ]:
        if metric not in known:
            found.append(report("design", f"{field}: {metric} is not measured here; known: {names}", "design.yaml"))
    for metric in design.metrics.secondary:
        if metric not in known:
            message = f"metrics.secondary: {metric} is not among those that config.yaml names ({names})"
            found.append(advisory_finding("design", message, "design.yaml"))
    return found


def _trial_budget(design: Design, config: Config, spent: int) -> list[Finding]:
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
    return [(advisory_finding if may_stop_early else blocking_finding)("budget", message, "design.yaml")]

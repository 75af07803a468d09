"""Whether a design can be run as it stands: entry files, metric, budget of trials."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence

from autolab.lab.schemas.config import Config
from autolab.lab.schemas.experiment import Design, Finding, Hypothesis, MaxPairs
from autolab.lab.trial_python import command_folder, command_words, shell_line
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
        return _module_files(entry.module, ["src"])
    command = entry.command or ""
    try:
        words = command_words(command)
    except ValueError:
        # No command line: reported as a file that does not exist.
        return (command,)
    # A shell's line names what the shell looks for.
    if shell_line(words):
        return ()
    folder = command_folder(words)
    # Not the first word, which is the program itself.
    if "-m" in words[1:-1]:
        # `python -m torch.distributed.run train.py` runs the script.
        scripts = [posixpath.normpath(posixpath.join(folder, word)) for word in words if word.endswith(".py")]
        folders = [folder, *(posixpath.join(folder, place) for place in _import_folders(words))]
        return (*_module_files(words[words.index("-m", 1) + 1], folders), *scripts)
    if words and words[0].startswith("./"):
        return (words[0].removeprefix("./"),)
    # The first script is the program; a later one may be an argument that it writes.
    for word in words[1:]:
        if word.endswith((".py", ".sh")):
            return (posixpath.normpath(posixpath.join(folder, word)),)
    return ()


def _import_folders(words: Sequence[str]) -> list[str]:
    """Where a module may lie besides the top: `src`, and the folders of PYTHONPATH in the command."""
    folders = ["src"]
    for word in words:
        if word.startswith("PYTHONPATH="):
            folders += filter(None, word.removeprefix("PYTHONPATH=").split(":"))
    return folders


def _module_files(module: str, folders: Sequence[str]) -> tuple[str, ...]:
    path = module.replace(".", "/")
    # A namespace package has no __init__.py, and runs by its __main__.py.
    files = [f"{path}.py", f"{path}/__init__.py", f"{path}/__main__.py"]
    below = [posixpath.normpath(posixpath.join(folder, file)) for folder in folders for file in files]
    return (*files, *below)


def _metric_findings(design: Design, hypothesis: Hypothesis, config: Config) -> list[Finding]:
    measured = {config.metric.primary, *config.metric.report}
    names = ", ".join(sorted(measured))
    # Without an evaluator a training may report metrics that the configuration does not name.
    report = blocking_finding if config.evaluate is not None else advisory_finding
    primary = design.metrics.primary
    findings = []
    # The verdict is on the design's metric: it must be the one that the hypothesis predicted.
    if hypothesis.metric != primary:
        message = f"metrics.primary: {primary} is not the hypothesis's metric, {hypothesis.metric}"
        findings.append(blocking_finding("design", message, FILE))
    fields = {"metrics.primary": primary}
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
    seeds, rule = design.reproducibility.seeds, design.test or config.test.stopping_rule
    arms = len(design.baselines) + len(design.variants)
    trials_left = config.budget.trials - spent
    # Seeds that the design names are all run, so the rule cannot decide before the last of them.
    pairs, may_stop_early = 0, False
    if isinstance(seeds, MaxPairs):
        pairs = seeds.max_pairs
        may_stop_early = rule.rule != "fixed" and FIRST * arms <= trials_left
    else:
        pairs = len(seeds)
    if pairs * arms <= trials_left:
        return []
    needed = f"up to {pairs * arms} trials"
    message = f"reproducibility.seeds: {needed}, and {trials_left} are left of budget.trials in config.yaml"
    report = advisory_finding if may_stop_early else blocking_finding
    return [report("budget", message, FILE)]

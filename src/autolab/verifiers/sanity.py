"""Whether what a run's trials measured can mean what its comparisons say. Findings are values; nothing is raised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from autolab.lab.schemas.experiment import Calibration, Design, Finding, Manifest, MaxPairs, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.stats.finite import LIMIT, is_finite
from autolab.stats.metric_names import is_loss, is_share
from autolab.stats.scores import Scale, measured
from autolab.verifiers import suspicion

ODD_TIME = 10.0
"""Times the calibrated seconds above which, and part of them below which, a trial's duration is pointed out."""


def results_sanity(manifest: Manifest, design: Design, calibration: Calibration | None = None) -> list[Finding]:
    """Findings on a run's trials, one line each. Blocking: what makes its comparisons mean nothing.

    Baseline and seeds present, paired and different; values finite and in their natural range; durations like those of
    the `calibration`, which must be of this protocol.
    """
    arms = {name: _prefix(manifest.trials, name) for name in _arms(manifest, design)}
    findings = list(_protocol_findings(manifest, calibration))
    findings += _baseline_findings(manifest, design, arms)
    for name, trials in arms.items():
        findings += _seed_findings(name, trials, manifest, design)
    findings += _pairing_findings(arms)
    for trials in arms.values():
        findings += _range_findings(trials, manifest, design)
    if calibration is not None:
        for name, trials in arms.items():
            findings += _time_findings(name, trials, calibration)
    for suspicious in suspicion.find(manifest, design, calibration):
        findings.append(_advisory(f"suspicious: {suspicious.message}"))
    return findings


def _arms(manifest: Manifest, design: Design) -> list[str]:
    """The arms that ran."""
    # A confirmation leaves out some of the design's arms. A manifest may list none.
    names = [arm.name for arm in manifest.arms]
    if not names:
        names = [arm.name for arm in (*design.baselines, *design.variants)]
    return names


def _prefix(trials: Iterable[Trial], arm: str) -> list[Trial]:
    """The arm's completed trials from index 0 up to the first gap."""
    completed = {}
    for trial in trials:
        if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED:
            completed[trial.index] = trial
    # The rule reads no trial behind a gap, so nothing is claimed of one.
    prefix: list[Trial] = []
    while len(prefix) in completed:
        prefix.append(completed[len(prefix)])
    return prefix


def _protocol_findings(manifest: Manifest, calibration: Calibration | None) -> Iterator[Finding]:
    if calibration is not None and manifest.protocol not in (None, calibration.protocol):
        calibrated, protocol = calibration.protocol[:12], str(manifest.protocol)[:12]
        way_out = "evaluator, data, metric or environment changed; run `autolab calibrate`, then measure again"
        yield _blocking(f"protocol {protocol}: the calibration is of protocol {calibrated}: {way_out}")


def _baseline_findings(manifest: Manifest, design: Design, arms: Mapping[str, Sequence[Trial]]) -> Iterator[Finding]:
    baselines = design.baselines
    # A confirmation compares with the first baseline alone.
    if manifest.kind is RunKind.CONFIRM:
        baselines = baselines[:1]
    for baseline in baselines:
        if not arms.get(baseline.name):
            yield _blocking(f"baseline {baseline.name}: no completed trial, so nothing is compared")


def _seed_findings(name: str, trials: Sequence[Trial], manifest: Manifest, design: Design) -> Iterator[Finding]:
    """Whether an arm ran with each declared seed, once, and whether the seed changes anything."""
    declared, seeds = _declared(manifest, design), [trial.seed for trial in trials]
    # A run that failed says so itself: that some of its seeds are missing is no news.
    if declared is not None and manifest.status == "completed" and seeds != list(declared):
        missing = [str(seed) for seed in declared if seed not in seeds]
        problem = "seeds out of order"
        if missing:
            problem = f"declared seeds without a completed trial: {', '.join(missing)}"
        yield _blocking(f"arm {name}: {problem}")
    if len(set(seeds)) != len(seeds):
        yield _blocking(f"arm {name}: a seed is counted twice")
    if len(trials) < 2:
        return
    first, other_trials = trials[0], trials[1:]
    first_score = measured(first, manifest.self_reported)
    if first.predictions_sha256 and all(trial.predictions_sha256 == first.predictions_sha256 for trial in other_trials):
        same = f"{len(trials)} seeds gave the same predictions, so seeds replicate nothing"
        yield _advisory(f"arm {name}: deterministic: {same}")
    # Other predictions can have equal scores by chance, on few rows; so this is a question.
    elif all(measured(trial, manifest.self_reported) == first_score for trial in other_trials):
        yield _advisory(f"arm {name}: {len(trials)} seeds gave the same scores to the last digit; is the seed used?")


def _declared(manifest: Manifest, design: Design) -> tuple[int, ...] | None:
    """The seeds that the design names for this run; None if the lab draws them, or if they change nothing."""
    seeds = design.reproducibility.seeds
    if isinstance(seeds, MaxPairs) or manifest.kind is RunKind.CONFIRM:
        return None
    # A deterministic run ends after two seeds, whatever the design declares.
    if any(comparison.reason == "deterministic" for comparison in manifest.comparisons):
        return None
    return seeds


def _pairing_findings(arms: Mapping[str, Sequence[Trial]]) -> Iterator[Finding]:
    # The paired difference rests on one seed for both: it cancels the noise that they share.
    seeds: dict[int, set[int]] = {}
    for trials in arms.values():
        for trial in trials:
            seeds.setdefault(trial.index, set()).add(trial.seed)
    for index, seeds_of_pair in sorted(seeds.items()):
        if len(seeds_of_pair) > 1:
            yield _blocking(f"pair {index}: the arms ran with different seeds, so they are not paired")


def _range_findings(trials: Sequence[Trial], manifest: Manifest, design: Design) -> Iterator[Finding]:
    primary = design.metrics.primary
    scale = None
    # The bound is one of the metric that the run compared.
    if manifest.metric == primary and manifest.direction:
        scale = Scale.of(manifest)
    # A training may print its accuracy in percent.
    highest_share = 100 if manifest.self_reported else 1
    for trial in trials:
        values = dict(measured(trial, manifest.self_reported))
        if scale is not None and scale.cut(trial):
            # It counts as the bound; its other metrics have to be sound all the same.
            values.pop(primary, None)
        elif primary not in values:
            yield _blocking(f"trial {trial.trial}: completed without the primary metric {primary}")
        for metric, value in sorted(values.items()):
            label = f"trial {trial.trial}: {metric} = {value:g}"
            if not is_finite(value):
                yield _blocking(f"{label} is not a finite number below {LIMIT:g}")
            elif is_share(metric) and not 0 <= value <= highest_share:
                yield _advisory(f"{label} lies outside 0 to {highest_share}")
            elif is_loss(metric) and value < 0:
                yield _advisory(f"{label} is below 0")


def _time_findings(name: str, trials: Sequence[Trial], calibration: Calibration) -> Iterator[Finding]:
    """A line for an arm's first odd trial, which says how many more there are."""
    usual = calibration.seconds
    odd = [trial for trial in trials if not usual / ODD_TIME <= trial.seconds <= usual * ODD_TIME]
    if odd:
        first, more = odd[0], ""
        if len(odd) > 1:
            more = f" (and {len(odd) - 1} more trials of the arm)"
        duration = f"took {first.seconds:.3g} s, and {usual:.3g} s in the calibration{more}"
        yield _advisory(f"arm {name}: trial {first.trial} {duration}: does it train as it should?")


def _blocking(message: str) -> Finding:
    return Finding(check="results", severity="blocking", message=message)


def _advisory(message: str) -> Finding:
    return Finding(check="results", severity="advisory", message=message)

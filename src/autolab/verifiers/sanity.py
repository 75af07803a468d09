"""Whether what a run's trials measured can mean what its comparisons say. Findings are values; nothing is raised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from autolab.lab.schemas.experiment import Calibration, Comparison, Design, Finding, Manifest, MaxPairs, Trial
from autolab.lab.schemas.outcomes import RunKind, TrialOutcome
from autolab.stats.metric_names import is_loss, is_share
from autolab.stats.rules import LIMIT
from autolab.stats.scores import Scale, measured
from autolab.verifiers import suspicion

ODD_TIME = 10.0
"""Times the calibrated seconds above which, and part of them below which, a trial's duration is pointed out."""


def results_sanity(manifest: Manifest, design: Design, calibration: Calibration | None = None) -> list[Finding]:
    """Findings on a run's trials, one line each. Blocking: what makes its comparisons mean nothing.

    Baseline and seeds present, paired and different; what is compared an unbroken row of pairs from the first seed on;
    values finite and in their natural range; durations like those of the `calibration`, which must be of this protocol.
    """
    arms = {name: _prefix(manifest.trials, name) for name in _arms(manifest, design)}
    found = list(_protocol_findings(manifest, calibration))
    baselines = design.baselines[:1] if manifest.kind is RunKind.CONFIRM else design.baselines
    found += [
        _blocking(f"baseline {arm.name}: no completed trial, so nothing is compared")
        for arm in baselines
        if not arms.get(arm.name)
    ]
    found += [finding for name, trials in arms.items() for finding in _seed_findings(name, trials, manifest, design)]
    by_index: dict[int, set[int]] = {}
    for trial in (trial for trials in arms.values() for trial in trials):
        by_index.setdefault(trial.index, set()).add(trial.seed)
    for index in sorted(index for index, seeds in by_index.items() if len(seeds) > 1):
        found.append(_blocking(f"pair {index}: the arms ran with different seeds, so they are not paired"))
    found += [finding for one in manifest.comparisons for finding in _pair_findings(one, arms, manifest, design)]
    found += [finding for trials in arms.values() for finding in _range_findings(trials, manifest, design)]
    if calibration is not None:
        found += [finding for name, trials in arms.items() for finding in _time_findings(name, trials, calibration)]
    return found + [_advisory(f"suspicious: {odd.message}") for odd in suspicion.find(manifest, design, calibration)]


def _arms(manifest: Manifest, design: Design) -> list[str]:
    """The arms that ran: a confirmation leaves out some of the design's."""
    return [arm.name for arm in manifest.arms] or [arm.name for arm in (*design.baselines, *design.variants)]


def _declared(manifest: Manifest, design: Design) -> tuple[int, ...] | None:
    """The seeds that the design names for this run; None where the lab draws them, or where they change nothing."""
    seeds = design.reproducibility.seeds
    if isinstance(seeds, MaxPairs) or manifest.kind is RunKind.CONFIRM:
        return None
    return None if any(one.reason == "deterministic" for one in manifest.comparisons) else seeds


def _protocol_findings(manifest: Manifest, calibration: Calibration | None) -> Iterator[Finding]:
    if calibration is not None and manifest.protocol not in (None, calibration.protocol):
        was, now = calibration.protocol[:12], str(manifest.protocol)[:12]
        way_out = "evaluator, data, metric or environment changed; run `autolab calibrate`, then measure again"
        yield _blocking(f"protocol {now}: the calibration is of protocol {was}: {way_out}")


def _prefix(trials: Iterable[Trial], arm: str) -> list[Trial]:
    """The arm's longest unbroken row of completed trials, from index 0."""
    done = {trial.index: trial for trial in trials if trial.arm == arm and trial.outcome is TrialOutcome.COMPLETED}
    length = next(index for index in range(len(done) + 1) if index not in done)
    return [done[index] for index in range(length)]


def _seed_findings(name: str, trials: Sequence[Trial], manifest: Manifest, design: Design) -> list[Finding]:
    declared, seeds = _declared(manifest, design), [trial.seed for trial in trials]
    found = []
    if declared is not None and manifest.status == "completed" and seeds != list(declared):
        missing = [str(seed) for seed in declared if seed not in seeds]
        what = f"declared seeds without a completed trial: {', '.join(missing)}" if missing else "seeds out of order"
        found.append(_blocking(f"arm {name}: {what}"))
    if len(set(seeds)) != len(seeds):
        found.append(_blocking(f"arm {name}: a seed is counted twice"))
    if len(trials) < 2:
        return found
    hashes = {trial.predictions_sha256 for trial in trials}
    scores = {tuple(sorted(measured(trial, manifest.self_reported).items())) for trial in trials}
    if len(hashes) == 1 and None not in hashes:
        message = (
            f"arm {name}: deterministic: {len(trials)} seeds gave the same predictions, so seeds replicate nothing"
        )
        found.append(_advisory(message))
    elif len(scores) == 1:
        message = f"arm {name}: {len(trials)} seeds gave the same scores to the last digit; is the seed used?"
        found.append(_advisory(message))
    return found


def _pair_findings(
    compared: Comparison, arms: Mapping[str, Sequence[Trial]], manifest: Manifest, design: Design
) -> Iterator[Finding]:
    """A comparison counts a baseline's and a variant's trials from the first seed on, without a gap."""
    baselines = {arm.name for arm in design.baselines}
    if compared.baseline not in baselines:
        known = ", ".join(sorted(baselines)) or "none"
        yield _blocking(f"arm {compared.arm}: compared with {compared.baseline}, which is no baseline; known: {known}")
    pairs = compared.difference.n if compared.pairs is None else compared.pairs
    for name in (compared.baseline, compared.arm):
        there = len(arms.get(name, ()))
        if there < pairs:
            message = f"{pairs} pairs are counted, and its completed trials without a gap are {there}"
            yield _blocking(f"arm {name}: {message}")
    declared = _declared(manifest, design)
    if declared is not None and pairs != len(declared):
        message = f"{pairs} pairs are counted, and the design declares {len(declared)} seeds"
        yield _blocking(f"arm {compared.arm}: {message}")


def _range_findings(trials: Sequence[Trial], manifest: Manifest, design: Design) -> list[Finding]:
    primary, found = design.metrics.primary, []
    for trial in trials:
        values = measured(trial, manifest.self_reported)
        if manifest.metric == primary and manifest.direction and Scale.of(manifest).cut(trial):
            # It counts as the bound; what it measured besides is no less usable.
            values = {metric: value for metric, value in values.items() if metric != primary}
        elif primary not in values:
            found.append(_blocking(f"trial {trial.trial}: completed without the primary metric {primary}"))
        for metric, value in sorted(values.items()):
            if not abs(value) < LIMIT:
                message = f"{metric} = {value:g} is not a finite number below {LIMIT:g}"
                found.append(_blocking(f"trial {trial.trial}: {message}"))
            elif is_share(metric) and not 0 <= value <= 1:
                found.append(_advisory(f"trial {trial.trial}: {metric} = {value:g} lies outside 0 to 1"))
            elif is_loss(metric) and value < 0:
                found.append(_advisory(f"trial {trial.trial}: {metric} = {value:g} is below 0"))
    return found


def _time_findings(name: str, trials: Sequence[Trial], calibration: Calibration) -> Iterator[Finding]:
    """A line for an arm's first odd trial, which says how many more there are."""
    usual = calibration.seconds
    odd = [trial for trial in trials if not usual / ODD_TIME <= trial.seconds <= usual * ODD_TIME]
    if odd:
        first, more = odd[0], f" (and {len(odd) - 1} more trials of the arm)" if len(odd) > 1 else ""
        took = f"took {first.seconds:.3g} s, and {usual:.3g} s in the calibration{more}"
        yield _advisory(f"arm {name}: trial {first.trial} {took}: does it train as it should?")


def _blocking(message: str) -> Finding:
    return Finding(check="results", severity="blocking", message=message)


def _advisory(message: str) -> Finding:
    return Finding(check="results", severity="advisory", message=message)

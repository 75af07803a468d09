"""Commands that measure: calibrate, eval, reproduce, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from autolab.cli import flags
from autolab.cli.flags import Switch, option
from autolab.cli.session import print_aside, print_result, watched
from autolab.compare.versions import settings_of
from autolab.errors import ExitCode, LabError, UsageError
from autolab.lab.git import Git, find_root
from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Metric
from autolab.lab.schemas.experiment import Manifest
from autolab.loop import manual_evaluation
from autolab.loop.manual_evaluation import EvaluationRequest, MeasuredVersion
from autolab.loop.opening import base_of
from autolab.loop.preflight import in_force
from autolab.loop.replay import find_iteration, replay_iteration, replay_text, replay_value
from autolab.reports.rounding import duration, ends95, mean_of, mean_with_interval
from autolab.trials import calibration
from autolab.trials.reproduce import find_run, reproduce_run, reproduction_text

MOST_SEEDS = 400
"""More trainings of one version are a mistake of the hand."""


def calibrate(*, dir: flags.LabFolder = Path("."), json: flags.Json = False, plain: flags.Plain = False) -> int:
    """Measure the noise and the cost of the baseline, and whether a seed repeats its result.

    A loop calibrates by itself when it has to. It says which gains can be found. If the budget could not resolve the
    smallest difference worth having even with the least noise that is likely, the calibration refuses.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab calibrate"):
        config = lab.config()
        with watched(lab, config, plain, json) as (view, stop):
            config = in_force(lab, config, view)
            _, campaign = lab.load()
            base, _ = base_of(lab, config, campaign, view)
            result = calibration.calibrate(lab, config, base, view, stop)
    if result is None:
        print("paused; `autolab calibrate` goes on from here")
        return ExitCode.DONE
    print_result(result.value(), calibration.calibration_text(result, config, lab.load()[1].trials), json)
    if result.refused:
        raise LabError(f"calibration refuses: {result.refused}")
    return ExitCode.DONE


def evaluate(
    revision: Positional[Annotated[str | None, option("[REVISION]")]] = None,
    /,
    *,
    seeds: Annotated[int, option("N")] = 1,
    set: Annotated[tuple[str, ...], option("KEY=VALUE ...")] = (),
    description: Annotated[str, option("TEXT")] = "",
    dir: flags.LabFolder = Path("."),
    json: flags.Json = False,
    plain: flags.Plain = False,
) -> int:
    """Measure your checkout, uncommitted changes included, or a revision with the lab's evaluation.

    The number and a row in results.tsv (gear manual), nothing else: no claim, and the loop goes on as if it had not
    been. Trials that were measured before are not run again.

    Args:
        revision: A commit, branch or tag, in place of the checkout.
        seeds: Trainings, each with a seed of its own; from 2 on there is an interval.
        set: Settings for the training, such as lr=0.003.
        description: A note for the row.
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"--seeds: {seeds} is not between 1 and {MOST_SEEDS}")
    request = EvaluationRequest(revision, seeds, settings_of(set), description)
    lab = Lab.find(dir)
    with lab.hold("autolab eval"):
        config = lab.config()
        with watched(lab, config, plain, json) as (view, stop):
            config = in_force(lab, config, view)
            checkout = Git(find_root(dir.resolve()) or lab.root)
            result = manual_evaluation.evaluate(lab, checkout, config, request, view, stop)
    if result is None:
        print_aside("paused; the same command goes on from here")
        return ExitCode.DONE
    if not result.metrics:
        row = f"its row is in {result.table}" if result.waits is None else f"its row waits: {result.waits}"
        raise LabError(f"eval: {result.manifest.run_id}: {result.manifest.reason}; {row}")
    print_result(evaluation_value(result), evaluation_text(result, config.metric), json)
    return ExitCode.DONE


def reproduce(
    run: Positional[Annotated[str, option("RUN")]],
    /,
    *,
    trial: Annotated[tuple[str, ...], option("TRIAL ...")] = (),
    dir: flags.LabFolder = Path("."),
    json: flags.Json = False,
    plain: flags.Plain = False,
) -> int:
    """Run the trials of a run again from its manifest, and compare: identical, within the noise, or different.

    Args:
        run: ITERATION/RUN, such as h2/run_0001; a unique part is enough.
        trial: Only these trials, such as baseline-s0.
    """
    lab = Lab.find(dir)
    with lab.hold(f"autolab reproduce {run}"):
        path = find_run(lab, run)
        manifest = Manifest.load(path, str(path.relative_to(lab.root)))
        config = lab.config()
        with watched(lab, config, plain, json) as (view, stop):
            config = in_force(lab, config, view)
            result = reproduce_run(lab, config, manifest, trial, view, stop)
    if result is None:
        print("paused; the same command goes on from here")
        return ExitCode.DONE
    print_result(result.value(), reproduction_text(result), json)
    return ExitCode.ERROR if result.standing == "different" else ExitCode.DONE


def replay(
    iteration: Positional[Annotated[str, option("ITERATION")]],
    /,
    *,
    rerun: Switch = False,
    into: Annotated[Path | None, option("DIR")] = None,
    dir: flags.LabFolder = Path("."),
    json: flags.Json = False,
    plain: flags.Plain = False,
) -> int:
    """Repeat a finished iteration from its recorded replies, without a researcher, and compare its decisions.

    Args:
        iteration: Its id, a unique part of it such as h2, or its number.
        rerun: Run its trials again too; without it, finished trials are taken from the record.
        into: Keep the lab of the replay in this new folder.
    """
    lab = Lab.find(dir)
    config = lab.config()
    with lab.hold(f"autolab replay {iteration}"):
        record = find_iteration(lab, iteration)
        with watched(lab, config, plain, json) as (view, stop):
            result = replay_iteration(lab, config, record, view, stop, rerun=rerun, into=into)
    print_result(replay_value(result), replay_text(result), json)
    return ExitCode.DONE if result.same else ExitCode.ERROR


def evaluation_text(result: MeasuredVersion, metric: Metric) -> list[str]:
    """What a user reads of an evaluation, the number first."""
    primary = result.metrics[metric.primary]
    seeds = "1 seed" if primary.n == 1 else f"{primary.n} seeds"
    cost = duration(result.new_seconds) if result.new_seconds else "measured before"
    lines = [f"{metric.primary} {mean_with_interval(primary)}, {seeds}, {cost}"]
    others = [f"{name} {mean_of(arm)}" for name, arm in result.metrics.items() if name in metric.report]
    if others:
        lines.append(", ".join(others))
    run = f"{result.manifest.iteration_id}/{result.manifest.run_id}"
    commit = (result.manifest.git.candidate_commit or "")[:12]
    lines.append(f"{result.label} (commit {commit})")
    if result.waits is None:
        lines.append(f"row: {result.table}, gear manual, {run}")
    else:
        lines.append(f"row: waits, as {result.waits}; {run}")
    if result.reused:
        lines.append(f"note: {result.reused} of {primary.n} trainings were measured before, and not run again")
    if primary.n == 1:
        lines.append("note: one training shows no spread; --seeds 2 or more gives an interval")
    return lines


def evaluation_value(result: MeasuredVersion) -> dict[str, object]:
    """The same as one JSON object."""
    manifest = result.manifest
    metrics: dict[str, object] = {}
    for name, arm in result.metrics.items():
        low, high = ends95(arm)
        metrics[name] = {"mean": arm.mean, "std": arm.std, "n": arm.n, "ci_low": low, "ci_high": high}
    return {
        "metric": manifest.metric,
        "metrics": metrics,
        "settings": dict(manifest.arms[0].settings),
        "description": manifest.description,
        "commit": manifest.git.candidate_commit,
        "run": f"{manifest.iteration_id}/{manifest.run_id}",
        "seconds": round(result.new_seconds, 3),
        "reused": result.reused,
        "self_reported": manifest.self_reported,
        "containment": manifest.containment,
        "table": result.table,
        "row_waits": result.waits,
    }

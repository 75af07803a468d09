"""Commands that measure: calibrate, reproduce, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from autolab.cli import flags
from autolab.cli.flags import Switch, option
from autolab.cli.session import print_result, watched
from autolab.errors import ExitCode, LabError
from autolab.lab.lab import Lab
from autolab.lab.schemas.experiment import Manifest
from autolab.loop.opening import base_of
from autolab.loop.preflight import in_force
from autolab.loop.replay import find_iteration, replay_iteration, replay_text, replay_value
from autolab.trials import calibration
from autolab.trials.reproduce import find_run, reproduce_run, reproduction_text


def calibrate(*, dir: flags.LabFolder = Path("."), json: flags.Json = False, plain: flags.Plain = False) -> int:
    """Measure the noise and the cost of the baseline, and whether a seed repeats its result.

    A loop calibrates by itself when it has to. If the budget cannot resolve the smallest difference worth having, the
    calibration refuses.
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
    print_result(result.value(), calibration.calibration_text(result, config.train), json)
    if result.refused:
        raise LabError(f"calibration refuses: {result.refused}")
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

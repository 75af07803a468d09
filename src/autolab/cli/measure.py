"""Commands that measure: calibrate, reproduce, replay."""

from __future__ import annotations

from pathlib import Path

from tyro.conf import Positional

from autolab.cli.session import print_aside, to_json, watched
from autolab.errors import LabError
from autolab.lab.lab import Lab
from autolab.lab.schemas.experiment import Manifest
from autolab.loop.opening import base_of
from autolab.loop.preflight import in_force
from autolab.loop.replay import find_iteration, replay_iteration, replay_text, replay_value
from autolab.trials import calibration
from autolab.trials.reproduce import find_run, reproduce_run, reproduction_text


def calibrate(*, dir: Path = Path("."), json: bool = False, plain: bool = False) -> int:
    """Measure the baseline's noise, price and determinism; refuse what the budget cannot resolve.

    Args:
        dir: A folder in the lab.
        json: One JSON object.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    with lab.hold("autolab calibrate"):
        config = lab.config()
        with watched(lab, config, plain, print_aside if json else None) as (view, stop):
            config = in_force(lab, config, view)
            base, _ = base_of(lab, config, lab.load()[1], view)
            found = calibration.calibrate(lab, config, base, view, stop)
    if found is None:
        print("paused; `autolab calibrate` goes on from here")
        return 0
    print(to_json(found.value()) if json else "\n".join(calibration.calibration_text(found)))
    if found.refused:
        raise LabError(f"calibration refuses: {found.refused}")
    return 0


def reproduce(
    run: Positional[str],
    /,
    *,
    trial: tuple[str, ...] = (),
    dir: Path = Path("."),
    json: bool = False,
    plain: bool = False,
) -> int:
    """Run a run's trials again, from its manifest alone in fresh exports: identical, within the noise, or different.

    Args:
        run: <iteration>/<run>, the iteration shortened or left out where that is unique.
        trial: Only these trials.
        dir: A folder in the lab.
        json: One JSON object.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    with lab.hold(f"autolab reproduce {run}"):
        path = find_run(lab, run)
        manifest, config = Manifest.load(path, str(path.relative_to(lab.root))), lab.config()
        with watched(lab, config, plain, print_aside if json else None) as (view, stop):
            config = in_force(lab, config, view)
            found = reproduce_run(lab, config, manifest, trial, view, stop)
    if found is None:
        print("paused; the same command goes on from here")
        return 0
    print(to_json(found.value()) if json else "\n".join(reproduction_text(found)))
    return 1 if found.standing == "different" else 0


def replay(
    iteration: Positional[str],
    /,
    *,
    rerun: bool = False,
    into: Path | None = None,
    dir: Path = Path("."),
    json: bool = False,
    plain: bool = False,
) -> int:
    """Go through a finished iteration again from its recorded replies, asking nobody: the same decisions?

    Args:
        iteration: Its id, a unique part of it, or its number.
        rerun: Run its trials again, too; without it finished ones are taken from the lab's store.
        into: Keep the lab that the replay works in, at this new folder.
        dir: A folder in the lab.
        json: One JSON object.
        plain: Lines only, on a terminal too.
    """
    lab = Lab.find(dir)
    config = lab.config()
    with lab.hold(f"autolab replay {iteration}"):
        named = find_iteration(lab, iteration)
        with watched(lab, config, plain, print_aside if json else None) as (view, stop):
            found = replay_iteration(lab, config, named, view, stop, rerun=rerun, into=into)
    print(to_json(replay_value(found)) if json else "\n".join(replay_text(found)))
    return 0 if found.same else 1

"""What trials could read of the labels, checked before anything runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from autolab.lab.lab import Lab
from autolab.lab.schemas.config import Config
from autolab.sandbox.box import SYSTEM
from autolab.trials import interpreter, leaks
from autolab.trials.inputs import TrialInputs, hidden_from_trials, set_up

# what the trials could read


def launched(lab: Lab, config: Config, base: str, candidate: str, exports: Path | None = None) -> TrialInputs:
    """`set_up` for trials that are about to run. LabError, too, where they could read a copy of the labels.

    At level `none` the labels lie open where they are, and nothing is looked for."""
    setup = set_up(lab, config, base, candidate, exports)
    if setup.evaluator is None or setup.containment == "none":
        return setup
    places = _shared_places(lab, config, setup.python, setup.reads)
    if setup.data is not None:
        places.append(leaks.SearchedPlace(str(setup.data), "the training data", f"take it out of {config.data}"))
    for name, folder in setup.code.items():
        way = f"take it out of commit {setup.commits[name][:12]}"
        places.append(leaks.SearchedPlace(str(folder), f"the code of the {name}", way))
    leaks.refuse_copies(_labels(config, setup), places, setup.covers, lab.store)
    return setup


def copied_labels(config: Config, setup: TrialInputs) -> list[leaks.Copy]:
    """Copies of the labels that the candidate's commit holds and the base's does not, by their paths in it."""
    if setup.evaluator is None:
        return []
    found = {}
    for name, folder in setup.code.items():
        copies = leaks.copies(_labels(config, setup), [str(folder)], ())
        found[name] = {os.path.relpath(one.path, os.path.realpath(folder)): one.equals for one in copies}
    own = found["candidate"].items() - found["base"].items()
    return [leaks.Copy(path, equals) for path, equals in sorted(own)]


def look_for_leaks(lab: Lab, config: Config, *, note: bool) -> None:
    """As `launched`, before anything is exported: the labels as they lie in the checkout.

    With `note` what the walk saw is kept in the store, so that the next one is quick."""
    python, evaluate = lab.python(config), config.evaluate
    refuse_reads(lab, config)
    places = interpreter.places(Path(python), lab.root)
    if evaluate is None or config.containment == "none":
        return
    labels = {}
    for split in (evaluate.eval, evaluate.holdout):
        for name in _LABELLED[evaluate.altered_suffix]:
            if split is not None and (lab.root / split / name).is_file():
                labels[f"{split}/{name}"] = lab.root / split / name
    shared = _shared_places(lab, config, python, places.reads)
    leaks.refuse_copies(labels, shared, places.covers, lab.store, keep=note)


def refuse_reads(lab: Lab, config: Config) -> None:
    """LabError for a path in `reads` behind which labels, evaluator or record lie; nothing at level `none`."""
    if config.containment != "none":
        reads = {"train.reads": config.train.reads}
        if config.predict is not None:
            reads["predict.reads"] = config.predict.reads
        leaks.refuse_reads(lab.root, lab.store, reads, hidden_from_trials(config) if config.evaluate else [])


_LABELLED = {False: ("labels.npy",), True: ("labels.npy", "inputs.npy")}
"""Files of a split that no trial may find; a sequence's inputs are its labels, one place further on."""


def _labels(config: Config, setup: TrialInputs) -> dict[str, Path]:
    """What no trial may find a copy of: name in the lab -> path."""
    assert config.evaluate is not None
    splits = {config.evaluate.eval: setup.labels}
    if setup.holdout is not None and config.evaluate.holdout is not None:
        splits[config.evaluate.holdout] = setup.holdout[1]
    names = _LABELLED[config.evaluate.altered_suffix]
    return {f"{split}/{name}": original.with_name(name) for split, original in splits.items() for name in names}


def _shared_places(
    lab: Lab, config: Config, python: str, interpreter_reads: Sequence[str]
) -> list[leaks.SearchedPlace]:
    """What the trials read of this machine."""
    found = []
    for key, command in (("train", config.train), ("predict", config.predict)):
        for path in command.reads if command is not None else ():
            found.append(leaks.SearchedPlace(path, f"{key}.reads", f"take {path} off {key}.reads in {Config.FILE}"))
    way = f"take it away, or name an environment without it as python in {Config.FILE}"
    found += [leaks.SearchedPlace(path, f"the environment of {python}", way) for path in interpreter_reads]
    found += [leaks.SearchedPlace(path, f"{path} of the system", "take it away") for path in SYSTEM]
    return found
